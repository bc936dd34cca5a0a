//! The root tree of a dyno: the stack's system folders, toolchains, and generated files.
//!
//! The stack is the host's own `/usr`, `/etc` and so on, so that a command that works on the host works in a dyno. Home
//! folders, the state folder and everything else of the host are not there. The result is a list of sandbox steps, made
//! by reading the stack's folders. Called by the supervisor.
//!
//! `stack/host_files.rs` makes the files that cover the stack's, `stack/ssh.rs` those of them that ssh reads;
//! `stack/var.rs` is `/var`.

mod host_files;
mod ssh;
mod var;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use crate::kernel::cgroup::GroupParent;
use crate::kernel::executable;
use crate::sandbox::plan::{LiveOwnership, MountAccess, MountStep, Ownership};

/// Top-level folders that make up a system; each is optional. `lib*` beyond these are found by name.
const SYSTEM_FOLDERS: &[&str] = &["usr", "bin", "sbin", "etc", "opt", "nix", "gnu"];

/// Where Nix's daemon listens, below a folder that a dyno sees. Hidden: the daemon would accept builds from a dyno.
const NIX_DAEMON: &str = "/nix/var/nix/daemon-socket";

/// Devices that any program may expect.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// Files of `/proc` that are about the whole host and that any process may read: what its disks do, which keys the server's
/// user has, which files its programs have locked. Nothing is in them in a dyno. (What `interrupts` and `softirqs` say,
/// `stat` says too, which programs need; the others that containers hide are readable for root of the host alone.)
const OF_THE_HOST: &[&str] = &["diskstats", "keys", "locks"];

/// Where control groups are mounted on every host.
const GROUPS: &str = "/sys/fs/cgroup";

/// Where a build finds what an earlier one has installed.
const LAYER: &str = "/build/layer";

/// Where a dyno finds this program.
const OWN_PROGRAM: &str = "/run/dyno";

/// Memory that `/run` and the like may take, in megabytes each.
const MEMORY_FOLDER_MB: u32 = 64;

/// The system folders that dynos run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// Its root on the host; `/` for the host's own.
    pub root: PathBuf,
    /// Whether the dyno asks for names at a place in its own network, [`NAMES_AT`](super::network::NAMES_AT).
    pub names: bool,
}

/// What a dyno's root tree has beside the stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynoTree<'a> {
    /// What is at `/app`.
    pub app: AppTree<'a>,
    /// The folder for what the dyno writes; see [`make_scratch`].
    pub scratch: &'a Path,
    /// The host name inside.
    pub hostname: &'a str,
    /// Folders that are hidden even below a system folder: state folder and home folders.
    pub hidden: &'a [PathBuf],
    /// Folders of the host mounted read-only at the same path.
    pub toolchains: &'a [PathBuf],
    /// Where the dyno's control group is, if it has one.
    pub groups: Option<&'a GroupParent>,
    /// How many megabytes `/dev/shm` may hold.
    pub shared_memory: u32,
    /// How many megabytes `/tmp` may hold, in memory; None: it is in `scratch`.
    pub temporary: Option<u32>,
}

/// Where the files of `/app` come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppTree<'a> {
    /// An unpacked slug, read-only below an overlay of the dyno's own.
    Slug {
        /// Its tree.
        tree: &'a Path,
        /// A second path beside `/app`: the path of the folder it was packed from, if files in it contain that path.
        path: Option<&'a Path>,
        /// How its files are owned.
        ownership: Ownership,
    },
    /// Folders of the host themselves, without copies.
    Live {
        /// Each folder, and its path inside.
        places: &'a [(PathBuf, PathBuf)],
        /// What an earlier build has installed, read-only in a place of its own.
        layer: Option<&'a Path>,
        /// How their files are owned.
        ownership: LiveOwnership,
    },
}

/// Makes a dyno's scratch folder, which belongs to `owner` (host uid and gid), or else to the caller. It must belong to
/// the dyno's user, which mounts the overlay.
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
    /// The stack of the host itself.
    pub fn host() -> Self {
        Self {
            root: PathBuf::from("/"),
            names: false,
        }
    }

    /// The shell that runs commands: the stack's bash, or else its sh.
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
    pub fn steps(&self, dyno: &DynoTree<'_>) -> io::Result<Vec<MountStep>> {
        let mut steps = Vec::with_capacity(40);
        self.system_folders(&mut steps)?;
        writable_folders(&mut steps, dyno.scratch, dyno.temporary);
        steps.extend(self.var());
        devices(&mut steps, dyno.shared_memory);
        steps.push(MountStep::Processes {
            target: "/proc".into(),
        });
        steps.extend(OF_THE_HOST.iter().filter_map(|name| {
            let target = Path::new("/proc").join(name);
            // A kernel may be built without it.
            target.exists().then(|| MountStep::Bind {
                source: "/dev/null".into(),
                target,
                access: MountAccess::Device,
            })
        }));
        own_group(&mut steps, dyno.groups);
        steps.extend(own_program());
        steps.extend(self.host_files(dyno.hostname));
        let daemon = self.at(Path::new(NIX_DAEMON));
        let daemon = daemon.is_dir().then(|| PathBuf::from(NIX_DAEMON));
        hide(&mut steps, dyno.hidden);
        hide(&mut steps, daemon.as_slice());
        let app_path = dyno.app_path();
        let (of_app, others): (Vec<_>, Vec<_>) = dyno
            .toolchains
            .iter()
            .partition(|folder| app_path.is_some_and(|app| folder.starts_with(app)));
        steps.extend(others.into_iter().map(|folder| toolchain(folder)));
        // A toolchain may contain the state folder, which it must not show.
        let shown = dyno.hidden.iter().filter(|hidden| {
            let mut toolchains = dyno.toolchains.iter();
            toolchains.any(|toolchain| hidden.starts_with(toolchain))
        });
        steps.extend(shown.map(|folder| covered(folder)));
        match dyno.app {
            AppTree::Slug {
                tree, ownership, ..
            } => steps.push(MountStep::Overlay {
                lower: tree.to_owned(),
                scratch: dyno.scratch.to_owned(),
                target: "/app".into(),
                ownership,
            }),
            AppTree::Live {
                places,
                layer,
                ownership,
            } => {
                for (source, target) in places.iter().cloned() {
                    steps.push(MountStep::Live {
                        source,
                        target,
                        ownership,
                    });
                }
                steps.extend(layer.map(|layer| MountStep::Bind {
                    source: layer.to_owned(),
                    target: LAYER.into(),
                    access: MountAccess::ReadOnly,
                }));
            }
        }
        if let (AppTree::Slug { tree, .. }, Some(path)) = (dyno.app, app_path) {
            steps.push(MountStep::Again {
                of: "/app".into(),
                target: path.to_owned(),
            });
            // A toolchain folder inside the app's folder is taken from the slug if it is in it, else from the host.
            let left_out = of_app.into_iter().filter(|folder| {
                let inside = folder.strip_prefix(path).unwrap_or(folder);
                !tree.join(inside).exists()
            });
            steps.extend(left_out.map(|folder| toolchain(folder)));
        }
        Ok(steps)
    }

    fn system_folders(&self, steps: &mut Vec<MountStep>) -> io::Result<()> {
        let mut names: Vec<PathBuf> = fs::read_dir(&self.root)?
            .filter_map(|entry| Some(PathBuf::from(entry.ok()?.file_name())))
            .filter(|name| is_system_folder(name))
            .collect();
        names.sort();
        for name in names {
            let (source, target) = (self.root.join(&name), Path::new("/").join(&name));
            let kind = fs::symlink_metadata(&source)?.file_type();
            if kind.is_symlink() {
                steps.push(MountStep::Symlink {
                    target,
                    to: fs::read_link(&source)?,
                });
            } else if kind.is_dir() {
                steps.push(MountStep::Bind {
                    source,
                    target,
                    access: MountAccess::ReadOnly,
                });
            }
        }
        Ok(())
    }
}

impl DynoTree<'_> {
    /// The slug's second path beside `/app`, if it is possible: in a read-only folder, the mount point must exist.
    fn app_path(&self) -> Option<&Path> {
        let AppTree::Slug { path, .. } = self.app else {
            return None;
        };
        let path =
            path.filter(|path| !path.starts_with("/app") && !Path::new("/app").starts_with(path))?;
        let read_only = is_shown(path)
            || self
                .toolchains
                .iter()
                .any(|it| path.starts_with(it) && path != it);
        let own = ["/proc", "/dev", "/run"]
            .iter()
            .any(|own| path.starts_with(own));
        let there = !read_only || path.is_dir();
        (there && !own && path.parent().is_some()).then_some(path)
    }
}

/// The step that mounts a toolchain at its path.
fn toolchain(folder: &Path) -> MountStep {
    MountStep::Bind {
        source: folder.to_owned(),
        target: folder.to_owned(),
        access: MountAccess::ReadOnly,
    }
}

/// Whether the top-level folder `name` is one that a dyno sees.
fn is_system_folder(name: &Path) -> bool {
    name.to_str()
        .is_some_and(|name| SYSTEM_FOLDERS.contains(&name) || name.starts_with("lib"))
}

/// Whether a dyno sees the host's `path` as part of a system folder.
pub fn is_shown(path: &Path) -> bool {
    let mut parts = path.components();
    parts.next() == Some(Component::RootDir)
        && matches!(parts.next(), Some(Component::Normal(name)) if is_system_folder(Path::new(name)))
}

impl Stack {
    /// Whether a new dyno has a file at `path`, apart from toolchains and `/app`.
    pub fn has(&self, path: &Path) -> bool {
        path.starts_with("/proc")
            || path.starts_with("/dev")
            || ((is_shown(path) || var::is_shown(path)) && self.at(path).exists())
    }
}

/// Covers each of `folders` that a bound folder would show: read-only is not enough, since a process could still
/// connect to a socket there.
fn hide(steps: &mut Vec<MountStep>, folders: &[PathBuf]) {
    for folder in folders {
        let shown = steps.iter().any(|step| match step {
            // A dyno's /tmp is its own.
            MountStep::Bind {
                target,
                access: MountAccess::ReadOnly,
                ..
            } => folder.starts_with(target) && folder != target,
            _ => false,
        });
        if shown {
            steps.push(covered(folder));
        }
    }
}

/// The step that covers a hidden folder by an empty one.
fn covered(folder: &Path) -> MountStep {
    MountStep::Memory {
        target: folder.to_owned(),
        mode: 0o755,
        megabytes: 1,
    }
}

/// This program, where a dyno finds it: what an app that is a site of files is served by. None if its file is gone.
fn own_program() -> Option<MountStep> {
    let source = executable::program().ok()?;
    source.is_file().then(|| MountStep::Bind {
        source,
        target: OWN_PROGRAM.into(),
        access: MountAccess::ReadOnly,
    })
}

/// The dyno's own group where programs look for what they may take: a JVM, node, Go.
fn own_group(steps: &mut Vec<MountStep>, groups: Option<&GroupParent>) {
    for controllers in groups.iter().flat_map(|groups| groups.trees()) {
        // As systemd names them: `cpu,cpuacct`, and links beside it.
        let name = controllers.join(",");
        let target = match controllers[..] {
            [] => GROUPS.into(),
            _ => Path::new(GROUPS).join(&name),
        };
        let links = controllers.iter().filter(|_| controllers.len() > 1);
        steps.extend(links.map(|controller| MountStep::Symlink {
            target: Path::new(GROUPS).join(controller),
            to: name.clone().into(),
        }));
        steps.push(MountStep::Group {
            target,
            controllers,
        });
    }
}

fn writable_folders(steps: &mut Vec<MountStep>, scratch: &Path, temporary: Option<u32>) {
    let on_disk = |name: &str, target: &str| MountStep::Bind {
        source: scratch.join(name),
        target: target.into(),
        access: MountAccess::Writable,
    };
    steps.push(match temporary {
        Some(megabytes) => MountStep::Memory {
            target: "/tmp".into(),
            mode: 0o1777,
            megabytes,
        },
        None => on_disk("tmp", "/tmp"),
    });
    steps.push(on_disk("var-tmp", "/var/tmp"));
    steps.push(MountStep::Memory {
        target: "/run".into(),
        mode: 0o755,
        megabytes: MEMORY_FOLDER_MB,
    });
    steps.push(MountStep::Symlink {
        target: "/var/run".into(),
        to: "/run".into(),
    });
    steps.push(MountStep::Folder {
        target: "/run/lock".into(),
        mode: 0o1777,
    });
    steps.push(MountStep::Symlink {
        target: "/var/lock".into(),
        to: "/run/lock".into(),
    });
}

fn devices(steps: &mut Vec<MountStep>, shared_memory: u32) {
    steps.push(MountStep::Memory {
        target: "/dev".into(),
        mode: 0o755,
        megabytes: 1,
    });
    for device in DEVICES {
        let path = Path::new("/dev").join(device);
        steps.push(MountStep::Bind {
            source: path.clone(),
            target: path,
            access: MountAccess::Device,
        });
    }
    steps.push(MountStep::Terminals {
        target: "/dev/pts".into(),
    });
    steps.push(MountStep::Memory {
        target: "/dev/shm".into(),
        mode: 0o1777,
        megabytes: shared_memory,
    });
    for (target, to) in [
        ("/dev/ptmx", "pts/ptmx"),
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        steps.push(MountStep::Symlink {
            target: target.into(),
            to: to.into(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_at_its_old_path_if_it_needs_to_be() {
        let root = tempfile::tempdir().unwrap();
        let tree = root.path().join("tree");
        fs::create_dir_all(tree.join("venv/bin")).unwrap();
        let stack = Stack {
            root: root.path().to_owned(),
            names: false,
        };
        let toolchains = ["/home/a/shop/venv", "/home/a/shop/left-out", "/home/a/bin"];
        let toolchains = toolchains.map(PathBuf::from);
        let targets = |path: Option<&str>| -> Vec<PathBuf> {
            let steps = stack.steps(&DynoTree {
                app: AppTree::Slug {
                    tree: &tree,
                    path: path.map(Path::new),
                    ownership: Ownership::Same,
                },
                scratch: Path::new("/state/dynos/1/scratch"),
                hostname: "1",
                hidden: &[],
                toolchains: &toolchains,
                groups: None,
                shared_memory: 64,
                temporary: None,
            });
            let steps = steps.unwrap().into_iter();
            let targets = steps.map(|step| step.target().to_owned());
            let ours = |target: &PathBuf| target.starts_with("/home") || target.starts_with("/app");
            targets.filter(ours).collect()
        };
        assert_eq!(
            targets(Some("/home/a/shop")),
            [
                "/home/a/bin",
                "/app",
                "/home/a/shop",
                "/home/a/shop/left-out"
            ]
            .map(PathBuf::from)
        );
        let without = [
            "/home/a/shop/venv",
            "/home/a/shop/left-out",
            "/home/a/bin",
            "/app",
        ];
        for path in [
            None,
            Some("/app/shop"),
            Some("/"),
            Some("/usr/no-such-folder"),
        ] {
            assert_eq!(targets(path), without.map(PathBuf::from), "{path:?}");
        }
    }

    #[test]
    fn state_and_homes_below_a_system_folder_are_covered() {
        let bind = |path: &str| MountStep::Bind {
            source: path.into(),
            target: path.into(),
            access: MountAccess::ReadOnly,
        };
        let mut steps = vec![bind("/usr"), bind("/opt")];
        writable_folders(&mut steps, Path::new("/state/dynos/1/scratch"), None);
        let before = steps.len();
        let hidden = ["/opt/dyno", "/var/lib/dyno", "/opt", "/tmp/dyno"].map(PathBuf::from);
        hide(&mut steps, &hidden);
        let covered: Vec<_> = steps[before..].iter().map(MountStep::target).collect();
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
            names: false,
        };
        let mut steps = Vec::new();
        stack.system_folders(&mut steps).unwrap();
        let targets: Vec<_> = steps.iter().map(|step| step.target().to_owned()).collect();
        assert_eq!(
            targets,
            ["/bin", "/etc", "/lib64", "/usr"].map(PathBuf::from)
        );
        assert!(matches!(&steps[0], MountStep::Symlink { to, .. } if to == Path::new("usr/bin")));
    }
}
