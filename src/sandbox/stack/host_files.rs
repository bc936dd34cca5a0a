//! Generated files of a dyno that depend on the host: users, host name, names and name servers, and what ssh reads.
//! They cover the stack's files, and are renewed when the host's change.

use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::{Stack, is_shown, ssh};
use crate::model::dyno::env::PROMPT;
use crate::sandbox::network::NAMES_AT;
use crate::sandbox::plan::{INNER_ID, MAX_CONTENTS, MountStep};

/// What a dyno gets in place of a file of the host, whose path comes second; the name is the dyno's own. None where the
/// file stays as it is.
type Copied = fn(&Stack, &Path, hostname: &str) -> Option<String>;

/// The files of the host that a dyno has copies of, beside those that ssh includes. What is listed here is both copied and
/// watched.
const COPIED: [(&str, Copied); 6] = [
    ("/etc/passwd", |stack, _, _| {
        let shell = stack.shell().display();
        Some(format!(
            "root:x:0:0:root:/root:/bin/sh\n\
             dyno:x:{INNER_ID}:{INNER_ID}:dyno:/app:{shell}\n\
             nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
        ))
    }),
    ("/etc/group", |_, _, _| {
        Some(format!(
            "root:x:0:\ntty:x:5:\ndyno:x:{INNER_ID}:\nnogroup:x:65534:\n"
        ))
    }),
    ("/etc/hostname", |_, _, hostname| {
        Some(format!("{hostname}\n"))
    }),
    // Debian's file would override the environment's prompt.
    ("/etc/bash.bashrc", |_, _, _| {
        Some(format!("[ -z \"$PS1\" ] || PS1='{PROMPT}'\n"))
    }),
    // A longer file stays as it is: the names in it matter more than the dyno's own.
    ("/etc/hosts", |stack, path, hostname| {
        stack.read(path).map(|text| hosts(&text, hostname))
    }),
    // Name servers: often a link into `/run`, which is private in a dyno. If it is no link, it is in a folder that the dyno
    // sees.
    ("/etc/resolv.conf", |stack, path, _| {
        if stack.names {
            return stack.read(path).map(|text| own_names(&text));
        }
        let is_link = stack.at(path).is_symlink();
        is_link.then(|| stack.read(path)).flatten()
    }),
];

/// How many symlinks are followed in one path, as in the kernel.
const MAX_LINKS: usize = 40;

impl Stack {
    /// The steps that put the files in place. `/etc` is read-only, so only files that the stack has are covered.
    pub fn host_files(&self, hostname: &str) -> Vec<MountStep> {
        let copies = COPIED.iter().filter_map(|(path, copied)| {
            let path = Path::new(path);
            let is_there = self.at(path).is_file();
            let contents = is_there.then(|| copied(self, path, hostname)).flatten()?;
            Some((self.inside(path), contents))
        });
        copies
            .chain(ssh::included(self))
            .map(|(target, contents)| MountStep::File { target, contents })
            .collect()
    }

    /// The files of the host to watch for changes, with the folders and links on their paths.
    pub fn watched(&self) -> Vec<PathBuf> {
        let mut watched = Vec::new();
        let copied = COPIED.iter().map(|(path, _)| *path);
        let fixed = copied.chain([ssh::CONFIG]).map(PathBuf::from);
        let included = ssh::included(self).into_iter().map(|(path, _)| path);
        for path in fixed.chain(included) {
            let file = resolve(&path, |on_the_way| {
                // A link is watched by its own name, too, since its target may have another.
                let paths = on_the_way.parent().into_iter().chain([on_the_way]);
                watched.extend(paths.map(|path| self.at(path)));
                self.link(on_the_way)
            });
            watched.push(self.at(&file));
        }
        watched.sort();
        watched.dedup();
        watched
    }

    /// The path on the host of a path inside.
    pub(super) fn at(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// `path` inside a dyno, with the symlinks resolved that are in folders that the dyno sees.
    pub(super) fn inside(&self, path: &Path) -> PathBuf {
        resolve(path, |path| self.shown_link(path))
    }

    /// Where the symlink at `path` leads, if it is in a folder that the dyno sees; None if there is none.
    pub(super) fn shown_link(&self, path: &Path) -> Option<PathBuf> {
        is_shown(path).then(|| self.link(path)).flatten()
    }

    fn link(&self, path: &Path) -> Option<PathBuf> {
        fs::read_link(self.at(path)).ok()
    }

    /// The text of a file of the stack; None if there is none or it is too long.
    pub(super) fn read(&self, path: &Path) -> Option<String> {
        let path = self.at(path);
        let fits = fs::metadata(&path)
            .is_ok_and(|it| it.is_file() && it.len() <= (MAX_CONTENTS / 2) as u64);
        let text = fits.then(|| fs::read(&path).ok())??;
        // Bytes that are no UTF-8 become longer.
        Some(String::from_utf8_lossy(&text).into_owned()).filter(|it| it.len() <= MAX_CONTENTS / 2)
    }
}

/// Resolves the symlinks of `path`. `link` is called with each path on the way, and says where the symlink there leads, if one
/// is there that is to be followed.
pub(super) fn resolve(path: &Path, mut link: impl FnMut(&Path) -> Option<PathBuf>) -> PathBuf {
    let parts = |path: &Path| -> Vec<OsString> {
        let parts = path.components().rev();
        parts.map(|part| part.as_os_str().to_owned()).collect()
    };
    let (mut pending, mut done, mut links) = (parts(path), PathBuf::from("/"), 0);
    while let Some(part) = pending.pop() {
        match Path::new(&part).components().next() {
            Some(Component::ParentDir) => {
                done.pop();
            }
            Some(Component::Normal(name)) => {
                let next = done.join(name);
                match link(&next).filter(|_| links < MAX_LINKS) {
                    Some(to) => {
                        links += 1;
                        if to.is_absolute() {
                            done = PathBuf::from("/");
                        }
                        pending.extend(parts(&to));
                    }
                    _ => done = next,
                }
            }
            _ => {}
        }
    }
    done
}

/// The host's `/etc/resolv.conf` with one name server, the place in the dyno's own network.
fn own_names(of_host: &str) -> String {
    let kept = of_host.lines().filter(|line| {
        let word = line.split_whitespace().next();
        // A trust in answers is one in the host's own way to its servers.
        word.is_some_and(|word| word == "search" || word == "domain" || word == "options")
    });
    let kept: String = kept.map(|line| format!("{line}\n")).collect();
    format!("nameserver {}\n{kept}", NAMES_AT.ip())
}

/// The host's `/etc/hosts` with the dyno's own name. Its lines for `localhost` stay: one more would be a second address
/// to programs that listen on all of them.
fn hosts(of_host: &str, hostname: &str) -> String {
    let knows_localhost = of_host.lines().any(|line| {
        let names = line.split('#').next().unwrap_or_default();
        names
            .split_whitespace()
            .skip(1)
            .any(|name| name == "localhost")
    });
    let mut text = String::with_capacity(of_host.len() + 100);
    if !knows_localhost {
        text.push_str("127.0.0.1 localhost\n::1 localhost ip6-localhost\n");
    }
    text.push_str(of_host);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    // Last, so that a lookup of 127.0.0.1 still gives `localhost`.
    text.push_str(&format!("127.0.0.1 {hostname}\n"));
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn stack(folders: &[&str]) -> (tempfile::TempDir, Stack) {
        let root = tempfile::tempdir().unwrap();
        for folder in folders {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let stack = Stack {
            root: root.path().to_owned(),
            names: false,
        };
        (root, stack)
    }

    fn contents(stack: &Stack, path: &str) -> Option<String> {
        let files = stack.host_files("box").into_iter();
        files
            .filter_map(|step| match step {
                MountStep::File { target, contents } if target == Path::new(path) => Some(contents),
                _ => None,
            })
            .next()
    }

    #[test]
    fn a_network_of_its_own_has_one_name_server_and_what_else_the_host_says() {
        let of_host = "# made by a program\nnameserver 127.0.0.53\n nameserver 10.0.0.1\n\
                       search example.org\noptions edns0 trust-ad\n";
        assert_eq!(
            own_names(of_host),
            "nameserver 127.0.0.53\nsearch example.org\noptions edns0 trust-ad\n"
        );
    }

    #[test]
    fn a_link_is_followed_as_far_as_a_dyno_can() {
        let (root, stack) = stack(&["etc/resolvconf", "run/a", "run/b", "usr/share"]);
        for (link, to) in [
            ("etc/stub", "../run/systemd/resolve/stub-resolv.conf"),
            ("etc/absolute", "/run/connman/resolv.conf"),
            ("etc/beside", "resolv.real"),
            ("etc/resolvconf/run", "/run/a"),
            ("etc/open", "resolvconf/run/resolv.conf"),
            ("run/a/resolv.conf", "../b/resolv.conf"),
            ("etc/round", "round"),
        ] {
            symlink(to, root.path().join(link)).unwrap();
        }
        for (path, inside) in [
            ("/etc/stub", "/run/systemd/resolve/stub-resolv.conf"),
            ("/etc/absolute", "/run/connman/resolv.conf"),
            ("/etc/beside", "/etc/resolv.real"),
            // What /run/a/resolv.conf leads to is for the host to know.
            ("/etc/open", "/run/a/resolv.conf"),
            ("/etc/none", "/etc/none"),
            ("/etc/../../etc/none", "/etc/none"),
            ("/etc/round", "/etc/round"),
        ] {
            assert_eq!(stack.inside(Path::new(path)), Path::new(inside), "{path}");
        }
    }

    #[test]
    fn names_of_the_host_and_of_the_dyno_are_known() {
        let text = hosts("127.0.0.1 localhost\n10.0.0.7 db.internal # ours", "box");
        assert_eq!(
            text,
            "127.0.0.1 localhost\n10.0.0.7 db.internal # ours\n127.0.0.1 box\n"
        );
        let text = hosts("10.0.0.7 db # localhost\n", "box");
        assert!(
            text.starts_with("127.0.0.1 localhost\n::1 localhost"),
            "{text}"
        );
        assert!(text.ends_with("10.0.0.7 db # localhost\n127.0.0.1 box\n"));
    }

    #[test]
    fn a_list_of_names_that_is_too_long_is_left_alone() {
        let (root, stack) = stack(&["etc"]);
        let hosts = root.path().join("etc/hosts");
        fs::write(&hosts, "10.0.0.7 db\n").unwrap();
        assert!(contents(&stack, "/etc/hosts").is_some());
        fs::write(&hosts, "0.0.0.0 ads.example\n".repeat(100_000)).unwrap();
        assert_eq!(contents(&stack, "/etc/hosts"), None);
    }

    #[test]
    fn name_servers_behind_a_link_are_copied_and_watched() {
        let (root, stack) = stack(&["etc", "run/net"]);
        symlink(
            "../run/net/resolv.conf",
            root.path().join("etc/resolv.conf"),
        )
        .unwrap();
        // A link to nothing yet: its folder is watched all the same.
        assert_eq!(contents(&stack, "/run/net/resolv.conf"), None);
        fs::write(root.path().join("run/net/resolv.conf"), "nameserver ::1\n").unwrap();
        let text = contents(&stack, "/run/net/resolv.conf");
        assert_eq!(text.as_deref(), Some("nameserver ::1\n"));
        let watched = stack.watched();
        for path in [
            "etc",
            "etc/resolv.conf",
            "run",
            "run/net",
            "run/net/resolv.conf",
            "etc/hosts",
        ] {
            assert!(
                watched.contains(&root.path().join(path)),
                "{path}: {watched:?}"
            );
        }
    }
}
