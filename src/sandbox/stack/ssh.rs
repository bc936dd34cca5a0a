//! Copies of ssh's configuration files that belong to the dyno.
//!
//! OpenSSH demands that a file which its configuration includes belongs to root or to the user. In a dyno's user
//! namespace the host's root is `nobody`, so `ssh`, `scp` and `git` over ssh would not start wherever a distribution
//! includes a file, as Fedora, RHEL, and Debian and Ubuntu with a new systemd do. So copies that belong to the dyno
//! cover those files. `ssh_config` itself is not checked.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Stack, is_shown};
use crate::kernel::sys::pattern::is_meant;

/// The system's configuration; relative includes are below its folder.
pub(super) const CONFIG: &str = "/etc/ssh/ssh_config";

/// How deep includes may be nested, as in OpenSSH.
const MAX_DEPTH: usize = 16;

/// The most included files: more than any host has.
const MAX_FILES: usize = 64;

/// The most paths that one pattern is compared with.
const MAX_LOOKED_AT: usize = 1_024;

/// The files that ssh's configuration includes: path inside, and contents.
pub(super) fn included(stack: &Stack) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    if let Some(text) = stack.read(Path::new(CONFIG)) {
        collect(stack, &text, MAX_DEPTH, &mut found);
    }
    found
}

fn collect(stack: &Stack, text: &str, depth: usize, found: &mut Vec<(PathBuf, String)>) {
    for pattern in text.lines().flat_map(includes) {
        for path in expand(stack, &pattern) {
            let target = stack.inside(&path);
            let known = found.iter().any(|(known, _)| *known == target);
            if known || !is_shown(&target) || found.len() >= MAX_FILES {
                continue;
            }
            let Some(text) = stack.read(&path) else {
                continue;
            };
            found.push((target, text.clone()));
            if depth > 1 {
                collect(stack, &text, depth - 1, found);
            }
        }
    }
}

/// The paths that a line includes, as patterns.
fn includes(line: &str) -> Vec<PathBuf> {
    let line = line.trim();
    let end = line.find(|letter: char| letter.is_whitespace() || letter == '=' || letter == '"');
    let (keyword, rest) = line.split_at(end.unwrap_or(line.len()));
    if !keyword.eq_ignore_ascii_case("include") {
        return Vec::new();
    }
    let rest = rest.trim_start();
    let words = words(rest.strip_prefix('=').unwrap_or(rest)).unwrap_or_default();
    // Paths in the user's home are not the system's.
    let paths = words.iter().filter(|word| !word.starts_with('~'));
    paths.map(|word| Path::new("/etc/ssh").join(word)).collect()
}

/// The words of a line, up to a comment, as OpenSSH splits them: with quotes of both kinds, and a backslash before a
/// quote, a backslash or a space. None if a quote is not closed, which ssh refuses.
fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut letters) = (Vec::new(), line.chars().peekable());
    loop {
        while letters
            .next_if(|letter| letter.is_ascii_whitespace())
            .is_some()
        {}
        if letters.peek().is_none_or(|letter| *letter == '#') {
            return Some(words);
        }
        let (mut word, mut quote) = (String::new(), None);
        loop {
            match (letters.next(), quote) {
                (None, Some(_)) => return None,
                (None, None) => break,
                (Some('\\'), _) => {
                    let is_meant = |next: &char| {
                        matches!(next, '"' | '\'' | '\\') || (*next == ' ' && quote.is_none())
                    };
                    word.push(letters.next_if(is_meant).unwrap_or('\\'));
                }
                (Some(' ' | '\t'), None) => break,
                (Some(letter @ ('"' | '\'')), None) => quote = Some(letter),
                (Some(letter), Some(open)) if letter == open => quote = None,
                (Some(letter), _) => word.push(letter),
            }
        }
        words.push(word);
    }
}

/// The files that match a pattern, sorted. Each part of the path may have wildcards.
fn expand(stack: &Stack, pattern: &Path) -> Vec<PathBuf> {
    let is_wild = |name: &OsStr| name.as_encoded_bytes().iter().any(|b| b"*?[\\".contains(b));
    let mut paths = vec![PathBuf::new()];
    for part in pattern.components().map(|part| part.as_os_str()) {
        if !is_wild(part) {
            paths.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let below = |folder: &PathBuf| {
            let entries = fs::read_dir(stack.at(folder)).into_iter().flatten();
            let names = entries.flatten().map(|entry| entry.file_name());
            let meant = names.filter(|name| is_meant(part, name));
            meant.map(|name| folder.join(name)).collect::<Vec<_>>()
        };
        paths = paths.iter().flat_map(below).take(MAX_LOOKED_AT).collect();
        paths.sort();
    }
    paths
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_line_includes_what_openssh_reads_in_it() {
        for (line, paths) in [
            (
                "Include /etc/ssh/ssh_config.d/*.conf",
                &["/etc/ssh/ssh_config.d/*.conf"][..],
            ),
            (
                "  include=ssh_config.d/* \"a b\" # c",
                &["/etc/ssh/ssh_config.d/*", "/etc/ssh/a b"],
            ),
            ("INCLUDE ~/.ssh/more /x", &["/x"]),
            ("Include", &[]),
            ("#Include /x", &[]),
            ("Includes /x", &[]),
            // Quotes that are left open are an error to ssh.
            ("Include \"/x", &[]),
            (
                "Include '/x y' \"it's\" a'b c'd",
                &["/x y", "/etc/ssh/it's", "/etc/ssh/ab cd"],
            ),
            (
                r"Include /a\ b 10\-c \'d 'e\ f'",
                &["/a b", r"/etc/ssh/10\-c", "/etc/ssh/'d", r"/etc/ssh/e\ f"],
            ),
            ("Include a#b #c", &["/etc/ssh/a#b"]),
        ] {
            let wanted: Vec<_> = paths.iter().map(PathBuf::from).collect();
            assert_eq!(includes(line), wanted, "{line}");
        }
    }

    #[test]
    fn each_part_of_a_pattern_is_a_globs() {
        let root = tempfile::tempdir().unwrap();
        for file in [
            "x.d/10-a.conf",
            "x.d/b.conf",
            "y.d/10-a.conf",
            "x.d/.h.conf",
            "f[1]",
        ] {
            let path = root.path().join("etc/ssh").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let stack = Stack {
            root: root.path().to_owned(),
            names: false,
        };
        for (pattern, files) in [
            ("x.d/[0-9]*.conf", &["x.d/10-a.conf"][..]),
            ("x.d/[[:alpha:]]*.conf", &["x.d/b.conf"]),
            ("x.d/[!0-9]*", &["x.d/b.conf"]),
            ("?.d/10-a.conf", &["x.d/10-a.conf", "y.d/10-a.conf"]),
            (r"x.d/10\-a.conf", &["x.d/10-a.conf"]),
            (r"f\[1\]", &["f[1]"]),
            ("*.d/b.conf", &["x.d/b.conf", "y.d/b.conf"]),
            ("x.d/{b,c}.conf", &["x.d/{b,c}.conf"]),
        ] {
            let base = Path::new("/etc/ssh");
            let wanted: Vec<_> = files.iter().map(|file| base.join(file)).collect();
            assert_eq!(expand(&stack, &base.join(pattern)), wanted, "{pattern}");
        }
    }

    #[test]
    fn included_files_are_found_where_their_links_lead() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for folder in ["etc/ssh/ssh_config.d", "usr/share/policies", "home/a"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        fs::write(
            at("etc/ssh/ssh_config"),
            "Include ssh_config.d/*.conf\nHost *\n",
        )
        .unwrap();
        fs::write(
            at("etc/ssh/ssh_config.d/10-a.conf"),
            "Host x\n  Include /etc/policy\n",
        )
        .unwrap();
        symlink("../usr/share/policies/openssh.txt", at("etc/policy")).unwrap();
        fs::write(
            at("usr/share/policies/openssh.txt"),
            "Include /etc/policy\nCiphers x\n",
        )
        .unwrap();
        // What a dyno does not see, ssh does not find there.
        symlink(
            "../../../home/a/own.conf",
            at("etc/ssh/ssh_config.d/20-b.conf"),
        )
        .unwrap();
        fs::write(at("home/a/own.conf"), "Host y\n").unwrap();
        fs::write(at("etc/ssh/ssh_config.d/README"), "no\n").unwrap();
        let stack = Stack {
            root: root.path().to_owned(),
            names: false,
        };
        let found: Vec<_> = included(&stack).into_iter().map(|(path, _)| path).collect();
        assert_eq!(
            found,
            [
                "/etc/ssh/ssh_config.d/10-a.conf",
                "/usr/share/policies/openssh.txt"
            ]
            .map(PathBuf::from)
        );
    }
}
