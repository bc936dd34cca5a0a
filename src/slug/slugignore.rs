//! `.slugignore`: which files of an app's directory stay out of its slug.
//!
//! The patterns are gitignore's, read from the one file at the root, with Heroku's difference: there is no `!` negation
//! (facts, section 9). A line that begins with `!` is skipped with a warning, since its author expects a file that will
//! be missing. Whatever the patterns say, nothing named `.git` is packed, at any depth: history is no part of an app,
//! and the `.git` file of a submodule points at what is not there. The `.slugignore` itself is packed like any other
//! file.
//!
//! A `.env` belongs to its author's machine and may have secrets, unless it is part of the app's source. The
//! `.gitignore` decides: a `.env` that git ignores is not packed either.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::Context as _;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::{AtFlags, statat};

use super::messages::{failed, shown};
use super::patterns;
use crate::error::UserError;
use crate::kernel::beneath;

const NAME: &str = ".slugignore";

/// A byte order mark in UTF-8.
const BOM: &[u8] = "\u{feff}".as_bytes();

const DOT_ENV: &str = ".env";

/// The largest `.slugignore`, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// The ignore patterns of one app's directory.
#[derive(Debug)]
pub struct SlugIgnore {
    patterns: Gitignore,
    without_dot_env: bool,
    /// Warnings for the file's author, one line each.
    pub warnings: Vec<String>,
}

impl SlugIgnore {
    /// Reads the `.slugignore` in the directory `root`; without one nothing but `.git` is ignored.
    ///
    /// # Errors
    /// It cannot be read, is too large, or is not UTF-8.
    pub fn read(root: BorrowedFd<'_>) -> anyhow::Result<Self> {
        let text = read(root, NAME).map_err(|error| match beneath::leads_out(&error) {
            true => UserError::new(format!("`{NAME}` leads out of the folder"))
                .hint("put the file itself there")
                .into(),
            false if error.kind() == std::io::ErrorKind::InvalidInput => {
                UserError::new(format!("cannot read `{NAME}`: {error}"))
                    .hint("it is a text file of patterns, one a line")
                    .into()
            }
            false => failed(format_args!("read `{NAME}`"), error),
        })?;
        let mut rules = Self::parse(&text.unwrap_or_default())?;
        if statat(root, DOT_ENV, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            let gitignore = read(root, ".gitignore").ok().flatten();
            rules.look_at_dot_env(&gitignore.unwrap_or_default());
        }
        Ok(rules)
    }

    /// Ignores a `.env` if `gitignore` does, with a warning.
    fn look_at_dot_env(&mut self, gitignore: &[u8]) {
        if self.ignores(DOT_ENV.as_bytes(), false) {
            return;
        }
        let mut builder = GitignoreBuilder::new("");
        for line in String::from_utf8_lossy(gitignore).lines() {
            // A pattern that is not understood here is skipped: the file is git's.
            let _ = builder.add_line(None, &patterns::spelled_out(line).unwrap_or_default());
        }
        self.without_dot_env = builder
            .build()
            .is_ok_and(|patterns| patterns.matched(DOT_ENV, false).is_ignore());
        self.warnings.push(match self.without_dot_env {
            true => format!(
                "`{DOT_ENV}` stays out of the slug, as of git; `dyno config:set` sets variables"
            ),
            false => {
                format!("`{DOT_ENV}` is in the slug; a line `/{DOT_ENV}` in `{NAME}` keeps it out")
            }
        });
    }

    /// The patterns of this text.
    ///
    /// # Errors
    /// It is too large, or not UTF-8.
    pub fn parse(text: &[u8]) -> anyhow::Result<Self> {
        if text.len() as u64 > MAX_BYTES {
            return Err(
                UserError::new(format!("`{NAME}` is larger than {MAX_BYTES} bytes"))
                    .hint("name folders rather than each file")
                    .into(),
            );
        }
        let text = std::str::from_utf8(text).ok();
        // UTF-16 without a byte order mark can be valid UTF-8, with NULs between the letters.
        let text = text.filter(|text| !text.contains('\0'));
        let text = text.ok_or_else(|| UserError::new(format!("`{NAME}` is not UTF-8")))?;
        let mut builder = GitignoreBuilder::new("");
        let mut warnings = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let said = || shown(line.as_bytes());
            if line.starts_with('!') {
                let line = said();
                warnings.push(format!(
                    "{NAME} line {number}, `{line}`, does nothing: a slug has no `!` negation"
                ));
                continue;
            }
            let added = patterns::spelled_out(line).and_then(|spelled_out| {
                let added = builder.add_line(None, &spelled_out);
                added.map(drop).map_err(|error| error.to_string())
            });
            // As in git.
            if let Err(why) = added {
                let (line, why) = (said(), shown(why.as_bytes()));
                warnings.push(format!(
                    "{NAME} line {number}, `{line}`, matches nothing: {why}"
                ));
            }
        }
        let patterns = builder
            .build()
            .with_context(|| format!("cannot use `{NAME}`"))?;
        Ok(Self {
            patterns,
            without_dot_env: false,
            warnings,
        })
    }

    /// Whether the entry at `path`, relative to the root, is ignored. The caller has asked for its parents before.
    pub fn ignores(&self, path: &[u8], is_directory: bool) -> bool {
        let name = path.rsplit(|&byte| byte == b'/').next();
        name == Some(b".git")
            || (self.without_dot_env && path == DOT_ENV.as_bytes())
            || self
                .patterns
                .matched(Path::new(OsStr::from_bytes(path)), is_directory)
                .is_ignore()
    }
}

/// The beginning of a file in the app's directory, up to one byte more than is allowed. None if there is no such file.
fn read(root: BorrowedFd<'_>, name: &str) -> std::io::Result<Option<Vec<u8>>> {
    let mut text = beneath::read(root, name, MAX_BYTES)?;
    // Editors on Windows write a byte order mark; it is no part of the first pattern, as in git.
    if let Some(text) = text.as_mut().filter(|text| text.starts_with(BOM)) {
        text.drain(..BOM.len());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    fn parse(text: &str) -> SlugIgnore {
        SlugIgnore::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn patterns_match_as_in_a_gitignore() {
        let rules = parse("# docs\n\n*.log\r\n/tmp\nspec/\n**/cache/*.bin\n\\#odd\n/a/b\n");
        for (path, is_directory) in [
            ("x.log", false),
            ("deep/down/x.log", false),
            ("tmp", true),
            ("spec", true),
            ("lib/spec", true),
            ("x/cache/1.bin", false),
            ("#odd", false),
            ("a/b", false),
        ] {
            assert!(
                rules.ignores(path.as_bytes(), is_directory),
                "{path} should be ignored"
            );
        }
        for (path, is_directory) in [
            ("# docs", false),
            ("x.logs", false),
            ("lib/tmp", true),
            ("spec", false),
            ("x/a/b", false),
            (".slugignore", false),
        ] {
            assert!(
                !rules.ignores(path.as_bytes(), is_directory),
                "{path} should be packed"
            );
        }
    }

    #[test]
    fn classes_of_characters_are_those_that_git_knows() {
        let rules = parse("[[:upper:]]*.bak\n/x[![:digit:]_]\n\\[[:space:]]\n");
        for path in ["OLD.bak", "deep/A.bak", "xy"] {
            assert!(rules.ignores(path.as_bytes(), false), "{path}");
        }
        for path in ["old.bak", "x1", "x_"] {
            assert!(!rules.ignores(path.as_bytes(), false), "{path}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_pattern() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        file(".slugignore", "\u{feff}keys/\r\n*.log\n");
        file(".gitignore", "\u{feff}.env\n");
        file(".env", "A=1");
        let root = std::fs::File::open(folder.path()).unwrap();
        let rules = SlugIgnore::read(root.as_fd()).unwrap();
        assert!(rules.ignores(b"keys", true) && rules.ignores(b"a.log", false));
        assert!(rules.ignores(b".env", false));
    }

    #[test]
    fn git_folders_never_get_in() {
        let rules = parse("");
        assert!(rules.ignores(b".git", true));
        assert!(rules.ignores(b"vendor/lib/.git", false));
        assert!(!rules.ignores(b".gitignore", false));
        assert!(!rules.ignores(b"a.git", true));
    }

    #[test]
    fn a_dot_env_stays_out_of_the_slug_if_it_stays_out_of_git_and_is_spoken_of() {
        for (gitignore, slugignore, out, said) in [
            ("", "", false, Some("`.env` is in the slug")),
            ("*.log\n!.env\n", "", false, Some("`.env` is in the slug")),
            (".env\n", "", true, Some("`.env` stays out of the slug")),
            (
                "/node_modules\n.env*\n",
                "",
                true,
                Some("`.env` stays out of the slug"),
            ),
            (".env\n!.env\n", "", false, Some("`.env` is in the slug")),
            // Patterns that are not valid here are passed over: the file is git's.
            ("[\n.envrc\n", "", false, Some("`.env` is in the slug")),
            ("", "/.env\n", true, None),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let file = |name, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
            file(".env", "SECRET=1");
            file(".gitignore", gitignore);
            file(".slugignore", slugignore);
            let root = std::fs::File::open(folder.path()).unwrap();
            let rules = SlugIgnore::read(root.as_fd()).unwrap();
            assert_eq!(rules.ignores(b".env", false), out, "{gitignore:?}");
            assert!(!rules.ignores(b"lib/.env", false) || !slugignore.is_empty());
            let warning = rules.warnings.first().map(String::as_str);
            assert_eq!(warning.is_some(), said.is_some(), "{warning:?}");
            assert!(
                warning
                    .unwrap_or_default()
                    .starts_with(said.unwrap_or_default())
            );
        }
        let nothing = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(nothing.path()).unwrap();
        assert!(SlugIgnore::read(root.as_fd()).unwrap().warnings.is_empty());
    }

    #[test]
    fn negation_is_passed_over_and_said() {
        let rules = parse("*.txt\n!keep.txt\n\\!really\n");
        assert!(rules.ignores(b"keep.txt", false));
        assert!(rules.ignores(b"!really", false));
        assert_eq!(
            rules.warnings,
            [".slugignore line 2, `!keep.txt`, does nothing: a slug has no `!` negation"]
        );
    }

    #[test]
    fn names_that_are_not_utf8_are_matched() {
        assert!(parse("*.log").ignores(b"\xff\xfe.log", false));
    }

    #[test]
    fn a_pattern_that_matches_nothing_is_named_with_its_line() {
        let rules = parse("ok\n[[:large:]]\nalso\n");
        assert_eq!(
            rules.warnings,
            [".slugignore line 2, `[[:large:]]`, matches nothing: there is no `[:large:]`"]
        );
        assert!(rules.ignores(b"ok", false) && rules.ignores(b"also", false));
    }

    #[test]
    fn a_warning_is_one_line_that_moves_no_cursor() {
        let long = "x".repeat(5000);
        for line in [
            "!a\u{1b}[2J",
            "[[:\u{1b}:]]",
            &format!("!{long}"),
            &format!("[[:{long}:]]"),
        ] {
            let warnings = parse(line).warnings;
            let [warning] = &warnings[..] else {
                panic!("{warnings:?}");
            };
            assert!(!warning.contains(char::is_control), "{warning:?}");
            assert!(warning.len() < 600, "{warning}");
        }
    }

    #[test]
    fn braces_and_unfinished_classes_are_letters_as_in_git() {
        let rules = parse("{OLD,old}.bak\n{a,b\n[[:upper]].x\n");
        assert_eq!(rules.warnings, [""; 0]);
        for (path, expected) in [
            ("{OLD,old}.bak", true),
            ("old.bak", false),
            ("{a,b", true),
            ("u].x", true),
            ("U.x", false),
        ] {
            assert_eq!(rules.ignores(path.as_bytes(), false), expected, "{path}");
        }
    }

    #[test]
    fn what_is_no_utf8_is_refused() {
        for text in [&b"a\xff\n"[..], b"*\0.\0l\0o\0g\0\n\0"] {
            let error = SlugIgnore::parse(text).unwrap_err();
            assert_eq!(error.to_string(), "`.slugignore` is not UTF-8");
        }
    }
}
