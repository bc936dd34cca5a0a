//! What ssh refuses to read in a dyno unless it is the dyno's.
//!
//! OpenSSH demands that a file which its configuration includes belongs to root or to the user. In a dyno's user
//! namespace the host's root is nobody, so `ssh`, `scp` and `git` over ssh would not start wherever a distribution includes a
//! file, as Fedora, RHEL, and Debian and Ubuntu with a new systemd do. Copies of the dyno's own cover those files.
//! `ssh_config` itself is not checked.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::host_files::matches;
use super::{Stack, is_shown};

/// The system's configuration; what it includes is relative to its folder.
const CONFIG: &str = "/etc/ssh/ssh_config";

/// How deep files include others, as OpenSSH has it.
const MAX_DEPTH: usize = 16;

/// More files than any host includes.
const MAX_FILES: usize = 64;

/// The files that ssh's configuration includes, by their paths inside, with their contents.
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
    let mut rest = rest.strip_prefix('=').unwrap_or(rest);
    let mut paths = Vec::new();
    loop {
        rest = rest.trim_start();
        let word = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next().unwrap_or_default(),
            None => rest.split_whitespace().next().unwrap_or_default(),
        };
        if word.is_empty() || word.starts_with('#') {
            return paths;
        }
        let quotes = if rest.starts_with('"') { 2 } else { 0 };
        rest = rest.get(word.len() + quotes..).unwrap_or_default();
        // The dyno's own home is another matter.
        if !word.starts_with('~') {
            paths.push(Path::new("/etc/ssh").join(word));
        }
    }
}

/// The files that a pattern means, sorted. Only its last part may have wildcards.
fn expand(stack: &Stack, pattern: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (pattern.parent(), pattern.file_name()) else {
        return Vec::new();
    };
    let wild = |name: &OsStr| name.as_encoded_bytes().iter().any(|b| b"*?".contains(b));
    if !wild(name) {
        return vec![pattern.to_owned()];
    }
    let entries = fs::read_dir(stack.at(folder)).into_iter().flatten();
    let names = entries.flatten().map(|entry| entry.file_name());
    let meant = names.filter(|entry| matches(name, entry));
    let mut paths: Vec<_> = meant.map(|entry| folder.join(entry)).collect();
    paths.sort();
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
            ("Include \"/x", &["/x"]),
        ] {
            let wanted: Vec<_> = paths.iter().map(PathBuf::from).collect();
            assert_eq!(includes(line), wanted, "{line}");
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
