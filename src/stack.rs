//! The root tree under a dyno: the stack's system folders, toolchains, and the files we generate.
//!
//! The stack is the host's own `/usr`, `/etc` and so on by default, so that a command that works on
//! the host works in a dyno. Homes, the state folder and everything else of the host are not there.
//! Only the supervisor asks; the answer is a list of sandbox steps, made by reading the stack's folders.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use crate::dyno::env::PROMPT;
use crate::sandbox::plan::{Access, INNER_ID, LiveOwnership, Ownership, Step};

/// Top-level folders that make up a system: what is there is taken, what is not is not missed.
/// `lib*` beyond these are found by name.
const SYSTEM_FOLDERS: &[&str] = &["usr", "bin", "sbin", "etc", "opt", "nix", "gnu"];

/// Devices that any program may expect.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// Memory that `/dev/shm`, `/run` and the like may take, in megabytes each.
const MEMORY_FOLDER_MB: u32 = 64;

/// The tree of programs under a dyno.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// Its root on the host; `/` for the host's own.
    pub root: PathBuf,
}

/// What one dyno adds to the stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynoTree<'a> {
    /// What is at `/app`.
    pub app: AppTree<'a>,
    /// What the dyno may write to; see [`make_scratch`].
    pub scratch: &'a Path,
    /// The host name inside.
    pub hostname: &'a str,
    /// Folders that must not be seen even where they lie below a system folder: state and homes.
    pub hidden: &'a [PathBuf],
    /// Folders of the host mounted read-only at the same path.
    pub toolchains: &'a [PathBuf],
}

/// Where the files of `/app` come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppTree<'a> {
    /// An unpacked slug, read-only below an overlay of the dyno's own.
    Slug {
        /// Its tree.
        tree: &'a Path,
        /// Who owns the files of it.
        ownership: Ownership,
    },
    /// A folder of the user's itself. It is seen under its own path, too: programs that were installed into it, as into a
    /// virtual environment, have that path in them.
    Live {
        /// Its canonical path.
        folder: &'a Path,
        /// Who owns the files of it.
        ownership: LiveOwnership,
    },
}

/// Makes a dyno's scratch folder, all of it belonging to `owner` (host uid and gid) if that is somebody else.
/// It must belong to the dyno's user itself: the overlay is mounted by that user.
pub fn make_scratch(folder: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    let make = |folder: &Path, mode: u32| {
        fs::create_dir(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(mode))?;
        owner.map_or(Ok(()), |(uid, gid)| {
            std::os::unix::fs::chown(folder, Some(uid), Some(gid))
        })
    };
    make(folder, 0o700)?;
    for (name, mode) in [
        ("upper", 0o755),
        ("work", 0o755),
        ("tmp", 0o1777),
        ("var-tmp", 0o1777),
    ] {
        make(&folder.join(name), mode)?;
    }
    Ok(())
}

impl Stack {
    /// The host itself.
    pub fn host() -> Self {
        Self {
            root: PathBuf::from("/"),
        }
    }

    /// The shell that runs commands: the stack's bash, else its sh.
    pub fn shell(&self) -> &'static Path {
        let there = |path: &&str| self.root.join(path.trim_start_matches('/')).exists();
        Path::new(
            ["/bin/bash", "/usr/bin/bash"]
                .into_iter()
                .find(there)
                .unwrap_or("/bin/sh"),
        )
    }

    /// The steps that build the dyno's root.
    ///
    /// # Errors
    /// The stack's root cannot be read.
    pub fn steps(&self, dyno: &DynoTree<'_>) -> io::Result<Vec<Step>> {
        let mut steps = Vec::with_capacity(40);
        self.system_folders(&mut steps)?;
        writable_folders(&mut steps, dyno.scratch);
        devices(&mut steps);
        steps.push(Step::Processes {
            target: "/proc".into(),
        });
        self.generated_files(&mut steps, dyno.hostname);
        hide(&mut steps, dyno.hidden);
        for folder in dyno.toolchains {
            steps.push(Step::Bind {
                source: folder.clone(),
                target: folder.clone(),
                access: Access::ReadOnly,
            });
        }
        // A toolchain may lie above the state, and would show it.
        let shown = dyno.hidden.iter().filter(|hidden| {
            let mut toolchains = dyno.toolchains.iter();
            toolchains.any(|toolchain| hidden.starts_with(toolchain))
        });
        steps.extend(shown.map(|folder| covered(folder)));
        match dyno.app {
            AppTree::Slug { tree, ownership } => steps.push(Step::Overlay {
                lower: tree.to_owned(),
                scratch: dyno.scratch.to_owned(),
                target: "/app".into(),
                ownership,
            }),
            AppTree::Live { folder, ownership } => {
                // Below `/app` it would be a mount in the user's own folder.
                let own = Some(folder).filter(|folder| !folder.starts_with("/app"));
                for target in own.into_iter().chain([Path::new("/app")]) {
                    steps.push(Step::Live {
                        source: folder.to_owned(),
                        target: target.to_owned(),
                        ownership,
                    });
                }
            }
        }
        Ok(steps)
    }

    fn system_folders(&self, steps: &mut Vec<Step>) -> io::Result<()> {
        let mut names: Vec<PathBuf> = fs::read_dir(&self.root)?
            .filter_map(|entry| Some(PathBuf::from(entry.ok()?.file_name())))
            .filter(|name| {
                name.to_str()
                    .is_some_and(|n| SYSTEM_FOLDERS.contains(&n) || n.starts_with("lib"))
            })
            .collect();
        names.sort();
        for name in names {
            let (source, target) = (self.root.join(&name), Path::new("/").join(&name));
            let kind = fs::symlink_metadata(&source)?.file_type();
            if kind.is_symlink() {
                steps.push(Step::Symlink {
                    target,
                    to: fs::read_link(&source)?,
                });
            } else if kind.is_dir() {
                steps.push(Step::Bind {
                    source,
                    target,
                    access: Access::ReadOnly,
                });
            }
        }
        Ok(())
    }

    /// Files that tell the inside's truth over the stack's. `/etc` is read-only by now, so only
    /// those that the stack has can be covered; the others are not looked for there either.
    fn generated_files(&self, steps: &mut Vec<Step>, hostname: &str) {
        let shell = self.shell().display();
        let contents = [
            (
                "etc/passwd",
                format!(
                    "root:x:0:0:root:/root:/bin/sh\n\
                     dyno:x:{INNER_ID}:{INNER_ID}:dyno:/app:{shell}\n\
                     nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
                ),
            ),
            (
                "etc/group",
                format!("root:x:0:\ntty:x:5:\ndyno:x:{INNER_ID}:\nnogroup:x:65534:\n"),
            ),
            ("etc/hostname", format!("{hostname}\n")),
            (
                "etc/hosts",
                format!("127.0.0.1 localhost {hostname}\n::1 localhost ip6-localhost\n"),
            ),
            // Debian's sets a prompt of its own over the environment's.
            (
                "etc/bash.bashrc",
                format!("[ -z \"$PS1\" ] || PS1='{PROMPT}'\n"),
            ),
        ];
        for (path, contents) in contents {
            if self.root.join(path).is_file() {
                steps.push(Step::File {
                    target: Path::new("/").join(path),
                    contents,
                });
            }
        }
        // Often a link into /run, which is private here.
        let resolver = Path::new("/etc/resolv.conf");
        if let (Ok(to), Ok(contents)) = (
            fs::read_link(self.root.join("etc/resolv.conf")),
            fs::read_to_string(resolver),
        ) {
            steps.push(Step::File {
                target: resolve_link(resolver, &to),
                contents,
            });
        }
    }
}

/// Covers each of `folders` that a bound folder would show: read-only is not enough, since a
/// socket there could still be connected to.
fn hide(steps: &mut Vec<Step>, folders: &[PathBuf]) {
    for folder in folders {
        let shown = steps.iter().any(|step| match step {
            // The dyno's own /tmp shows nothing of the host's.
            Step::Bind {
                target,
                access: Access::ReadOnly,
                ..
            } => folder.starts_with(target) && folder != target,
            _ => false,
        });
        if shown {
            steps.push(covered(folder));
        }
    }
}

/// An empty folder in the place of one that must not be seen.
fn covered(folder: &Path) -> Step {
    Step::Memory {
        target: folder.to_owned(),
        mode: 0o755,
        megabytes: 1,
    }
}

/// Where the link `link` leads, as text: both inside the dyno, which is not there yet.
fn resolve_link(link: &Path, to: &Path) -> PathBuf {
    let mut resolved = PathBuf::new();
    for component in link
        .parent()
        .unwrap_or(Path::new("/"))
        .join(to)
        .components()
    {
        match component {
            Component::ParentDir => {
                resolved.pop();
            }
            Component::CurDir => {}
            other => resolved.push(other),
        }
    }
    resolved
}

fn writable_folders(steps: &mut Vec<Step>, scratch: &Path) {
    for (name, target) in [("tmp", "/tmp"), ("var-tmp", "/var/tmp")] {
        steps.push(Step::Bind {
            source: scratch.join(name),
            target: target.into(),
            access: Access::Writable,
        });
    }
    for target in ["/var/lib", "/var/log", "/var/cache"] {
        steps.push(Step::Folder {
            target: target.into(),
            mode: 0o755,
        });
    }
    steps.push(Step::Memory {
        target: "/run".into(),
        mode: 0o755,
        megabytes: MEMORY_FOLDER_MB,
    });
    steps.push(Step::Symlink {
        target: "/var/run".into(),
        to: "/run".into(),
    });
}

fn devices(steps: &mut Vec<Step>) {
    steps.push(Step::Memory {
        target: "/dev".into(),
        mode: 0o755,
        megabytes: 1,
    });
    for device in DEVICES {
        let path = Path::new("/dev").join(device);
        steps.push(Step::Bind {
            source: path.clone(),
            target: path,
            access: Access::Device,
        });
    }
    steps.push(Step::Terminals {
        target: "/dev/pts".into(),
    });
    steps.push(Step::Memory {
        target: "/dev/shm".into(),
        mode: 0o1777,
        megabytes: MEMORY_FOLDER_MB,
    });
    for (target, to) in [
        ("/dev/ptmx", "pts/ptmx"),
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        steps.push(Step::Symlink {
            target: target.into(),
            to: to.into(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_resolved_inside() {
        let link = Path::new("/etc/resolv.conf");
        let resolved = |to: &str| resolve_link(link, Path::new(to));
        assert_eq!(
            resolved("../run/systemd/resolve/stub-resolv.conf"),
            Path::new("/run/systemd/resolve/stub-resolv.conf")
        );
        assert_eq!(resolved("/run/x"), Path::new("/run/x"));
        assert_eq!(resolved("resolv.real"), Path::new("/etc/resolv.real"));
    }

    #[test]
    fn a_live_folder_is_at_app_and_where_it_is_outside() {
        let root = tempfile::tempdir().unwrap();
        let stack = Stack {
            root: root.path().to_owned(),
        };
        let targets = |folder: &str| -> Vec<PathBuf> {
            let steps = stack.steps(&DynoTree {
                app: AppTree::Live {
                    folder: Path::new(folder),
                    ownership: LiveOwnership::Same,
                },
                scratch: Path::new("/state/dynos/1/scratch"),
                hostname: "1",
                hidden: &[],
                toolchains: &[],
            });
            let steps = steps.unwrap();
            let live = steps.iter().filter(|it| matches!(it, Step::Live { .. }));
            live.map(|step| step.target().to_owned()).collect()
        };
        assert_eq!(
            targets("/home/a/shop"),
            [Path::new("/home/a/shop"), Path::new("/app")]
        );
        for inside in ["/app", "/app/shop"] {
            assert_eq!(targets(inside), [Path::new("/app")]);
        }
    }

    #[test]
    fn state_and_homes_below_a_system_folder_are_covered() {
        let bind = |path: &str| Step::Bind {
            source: path.into(),
            target: path.into(),
            access: Access::ReadOnly,
        };
        let mut steps = vec![bind("/usr"), bind("/opt")];
        writable_folders(&mut steps, Path::new("/state/dynos/1/scratch"));
        let before = steps.len();
        let hidden = ["/opt/dyno", "/var/lib/dyno", "/opt", "/tmp/dyno"].map(PathBuf::from);
        hide(&mut steps, &hidden);
        let covered: Vec<_> = steps[before..].iter().map(Step::target).collect();
        assert_eq!(covered, [Path::new("/opt/dyno")]);
    }

    #[test]
    fn homes_and_the_rest_of_the_host_are_not_there() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["usr", "etc", "home", "root", "srv", "lib64", "work", "mnt"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        std::os::unix::fs::symlink("usr/bin", root.path().join("bin")).unwrap();
        let stack = Stack {
            root: root.path().to_owned(),
        };
        let mut steps = Vec::new();
        stack.system_folders(&mut steps).unwrap();
        let targets: Vec<_> = steps.iter().map(|step| step.target().to_owned()).collect();
        assert_eq!(
            targets,
            ["/bin", "/etc", "/lib64", "/usr"].map(PathBuf::from)
        );
        assert!(matches!(&steps[0], Step::Symlink { to, .. } if to == Path::new("usr/bin")));
    }
}
