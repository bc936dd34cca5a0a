//! What the inside of a dyno looks like, as data.
//!
//! A [`SandboxPlan`] is made by pure code, checked as a whole by [`SandboxPlan::validate`], and only then performed,
//! in order, by `launch`. Paths of the host are `source`s, paths inside the dyno are `target`s.

use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use crate::model::network::OwnNetwork;

/// The uid and gid of the user `dyno` inside every dyno.
pub const INNER_ID: u32 = 1000;

/// The most steps of a plan: no stack needs as many, so more is a mistake.
const MAX_STEPS: usize = 512;

/// The longest file content a plan may carry, in bytes.
pub const MAX_CONTENTS: usize = 512 * 1024;

/// What the inside of a dyno looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxPlan {
    /// The host ids that the dyno runs as.
    pub owner: HostIds,
    /// The UTS host name.
    pub hostname: String,
    /// The network of its own; None: it has the host's.
    pub network: Option<NetworkPlan>,
    /// How the root tree is built, in order.
    pub steps: Vec<MountStep>,
}

/// What a network of the dyno's own has inside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkPlan {
    /// Where services of the host are reached, each at its address.
    pub reach: Vec<SocketAddr>,
    /// Whether names are asked for in it.
    pub names: bool,
}

impl From<&OwnNetwork> for NetworkPlan {
    fn from(network: &OwnNetwork) -> Self {
        Self {
            reach: network.reach.clone(),
            names: network.outbound.is_some(),
        }
    }
}

/// The host ids that [`INNER_ID`] is mapped to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostIds {
    /// Host uid.
    pub uid: u32,
    /// Host gid.
    pub gid: u32,
    /// The launcher is root: it may map foreign ids and drop supplementary groups. An ordinary user may
    /// map only itself, and the kernel then forbids `setgroups`.
    pub privileged: bool,
}

/// What a bind mount allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountAccess {
    /// Read-only, no set-user-ID, no devices; for whole trees of the host.
    ReadOnly,
    /// Writable by the dyno's owner, no set-user-ID, no devices.
    Writable,
    /// A device node that may be opened.
    Device,
}

/// One step in building the root tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountStep {
    /// An empty folder of the dyno's user, with these permission bits.
    Folder { target: PathBuf, mode: u32 },
    /// A symbolic link.
    Symlink { target: PathBuf, to: PathBuf },
    /// A read-only file with these contents: new, or over a file of the stack.
    File { target: PathBuf, contents: String },
    /// A tree or file of the host, bind-mounted.
    Bind {
        source: PathBuf,
        target: PathBuf,
        access: MountAccess,
    },
    /// An empty memory file system of at most `megabytes`, and as many files as that has pages.
    Memory {
        target: PathBuf,
        mode: u32,
        megabytes: u32,
    },
    /// The processes of the dyno's PID namespace.
    Processes { target: PathBuf },
    /// Terminals of the dyno's own.
    Terminals { target: PathBuf },
    /// The dyno's own control group, read-only, if it has one: of these controllers in version 1, of none in version 2. Left out
    /// where the kernel does not allow it.
    Group {
        target: PathBuf,
        controllers: Vec<&'static str>,
    },
    /// A copy-on-write view of `lower`. `scratch` holds the folders `upper` and `work`, owned by
    /// the dyno's owner.
    Overlay {
        lower: PathBuf,
        scratch: PathBuf,
        target: PathBuf,
        ownership: Ownership,
    },
    /// The mount at `of`, at a second path inside.
    Again { of: PathBuf, target: PathBuf },
    /// A folder of the host's user itself, writable, not a copy.
    Live {
        source: PathBuf,
        target: PathBuf,
        ownership: LiveOwnership,
    },
}

/// How the files of a live folder are made to belong to the dyno's user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveOwnership {
    /// They already belong to [`HostIds::uid`].
    Same,
    /// They belong to root on disk, as which no dyno runs: the mount shows them as the dyno's, and new files belong to
    /// root on disk. Other mounts below the folder are not shown (Linux 5.12, root).
    MappedFromRoot,
}

/// How the files of an overlay's lower tree are made to belong to the dyno's user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// They already belong to [`HostIds::uid`].
    Same,
    /// They belong to [`INNER_ID`] on disk and are mapped by the dyno's user namespace (Linux 5.19, root).
    IdMapped,
}

/// Why a plan is not valid, by a bug or an unexpected file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPlan(pub String);

impl std::fmt::Display for BadPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "bad sandbox plan: {}", self.0)
    }
}

impl std::error::Error for BadPlan {}

impl MountStep {
    /// The path inside the dyno that the step makes.
    pub fn target(&self) -> &Path {
        match self {
            Self::Folder { target, .. }
            | Self::Symlink { target, .. }
            | Self::File { target, .. }
            | Self::Bind { target, .. }
            | Self::Memory { target, .. }
            | Self::Processes { target }
            | Self::Terminals { target }
            | Self::Group { target, .. }
            | Self::Overlay { target, .. }
            | Self::Again { target, .. }
            | Self::Live { target, .. } => target,
        }
    }
}

impl SandboxPlan {
    /// Checks the plan as a whole; `launch` performs only plans that pass.
    pub fn validate(&self) -> Result<(), BadPlan> {
        let bad = |why: String| Err(BadPlan(why));
        if self.steps.len() > MAX_STEPS {
            return bad(format!("{} steps, at most {MAX_STEPS}", self.steps.len()));
        }
        if self.owner.uid == 0 || self.owner.gid == 0 {
            return bad("the dyno's owner must not be root".to_owned());
        }
        let letters = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        if self.hostname.is_empty()
            || self.hostname.len() > 64
            || !self.hostname.bytes().all(letters)
        {
            return bad(format!("host name `{}`", self.hostname));
        }
        for step in &self.steps {
            if !is_plain_absolute(step.target()) {
                return bad(format!("target `{}`", step.target().display()));
            }
            match step {
                MountStep::Again { of, .. } if !is_plain_absolute(of) => {
                    return bad(format!("`{}` again", of.display()));
                }
                MountStep::Bind { source, .. } if !source.is_absolute() => {
                    return bad(format!("source `{}`", source.display()));
                }
                MountStep::Live {
                    source, ownership, ..
                } => {
                    if !source.is_absolute() {
                        return bad(format!("live folder `{}`", source.display()));
                    }
                    if *ownership == LiveOwnership::MappedFromRoot && !self.owner.privileged {
                        return bad("only root can map the ids of a mount".to_owned());
                    }
                }
                MountStep::Overlay {
                    lower,
                    scratch,
                    ownership,
                    ..
                } => {
                    if !lower.is_absolute() || !scratch.is_absolute() {
                        return bad(format!("overlay of `{}`", lower.display()));
                    }
                    if *ownership == Ownership::IdMapped && !self.owner.privileged {
                        return bad("only root can map the ids of a mount".to_owned());
                    }
                }
                MountStep::File { contents, .. } if contents.len() > MAX_CONTENTS => {
                    return bad(format!("`{}` is over 512 KiB", step.target().display()));
                }
                MountStep::Folder { mode, .. } | MountStep::Memory { mode, .. }
                    if mode & !0o1777 != 0 =>
                {
                    return bad(format!("mode {mode:o} of `{}`", step.target().display()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether `path` is like `/a/b`, not `/`, `a`, `/a/../b` or `/a/./b`.
fn is_plain_absolute(path: &Path) -> bool {
    let mut components = path.components();
    components.next() == Some(Component::RootDir)
        && components.clone().next().is_some()
        && components.all(|c| matches!(c, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(steps: Vec<MountStep>) -> SandboxPlan {
        let owner = HostIds {
            uid: 1001,
            gid: 1001,
            privileged: false,
        };
        SandboxPlan {
            owner,
            hostname: "run-1".to_owned(),
            network: None,
            steps,
        }
    }

    #[test]
    fn refuses_targets_that_lead_elsewhere() {
        for target in ["/", "usr", "/usr/../etc", ""] {
            let steps = vec![MountStep::Folder {
                target: target.into(),
                mode: 0o755,
            }];
            assert!(plan(steps).validate().is_err(), "{target}");
        }
        let steps = vec![MountStep::Folder {
            target: "/usr/lib".into(),
            mode: 0o755,
        }];
        assert_eq!(plan(steps).validate(), Ok(()));
    }

    #[test]
    fn refuses_root_as_owner() {
        let mut plan = plan(vec![]);
        plan.owner.uid = 0;
        assert!(plan.validate().is_err());
    }

    #[test]
    fn refuses_id_mapping_without_privilege() {
        let overlay = MountStep::Overlay {
            lower: "/slugs/a".into(),
            scratch: "/dynos/1".into(),
            target: "/app".into(),
            ownership: Ownership::IdMapped,
        };
        let mut plan = plan(vec![overlay]);
        assert!(plan.validate().is_err());
        plan.owner.privileged = true;
        assert_eq!(plan.validate(), Ok(()));
    }

    #[test]
    fn a_live_folder_is_mapped_by_root_alone() {
        let live = |source: &str, ownership| {
            let source = source.into();
            plan(vec![MountStep::Live {
                source,
                target: "/app".into(),
                ownership,
            }])
        };
        assert_eq!(live("/home/a/shop", LiveOwnership::Same).validate(), Ok(()));
        assert!(live("shop", LiveOwnership::Same).validate().is_err());
        let mut mapped = live("/root/shop", LiveOwnership::MappedFromRoot);
        assert!(mapped.validate().is_err());
        mapped.owner.privileged = true;
        assert_eq!(mapped.validate(), Ok(()));
    }

    #[test]
    fn refuses_set_user_id_modes_and_odd_host_names() {
        assert!(
            plan(vec![MountStep::Folder {
                target: "/a".into(),
                mode: 0o4755
            }])
            .validate()
            .is_err()
        );
        let mut named = plan(vec![]);
        named.hostname = "a b".to_owned();
        assert!(named.validate().is_err());
    }
}
