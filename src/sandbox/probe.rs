//! Tries out whether this host allows a sandbox, and if not, which step fails.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::io::Errno;

use super::Launched;
use super::launch::launch;
use super::plan::{HostIds, MountAccess, MountStep, NetworkPlan, Ownership, SandboxPlan};
use super::reasons::{self, Facts};
use super::restrict::{self, Gap, Restriction, Restrictions};
use super::tempdir::{self, Confinement};
use super::tracked::Tracker;
use crate::kernel::unix_socket;
use crate::model::dyno::Isolation;

/// Host ids for a trial by root: those of `nobody`.
const NOBODY: u32 = 65_534;

/// The longest message of a trial's init, in bytes.
const MAX_WORDS: usize = 4096;

/// One thing that a sandbox needs of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Namespaces, with an id map.
    UserNamespaces,
    /// Mounts that are made detached, given flags and then attached (Linux 5.12).
    Mounts,
    /// A `/proc` of its own.
    Processes,
    /// A network of its own.
    Network,
    /// An overlay of a tree of the dyno's user.
    Overlay,
    /// An overlay of a tree whose owners are mapped (Linux 5.19); root only.
    IdMapping,
}

impl Need {
    /// Whether the trial needs files that belong to the dyno's user.
    fn has_files(self) -> bool {
        matches!(self, Self::Overlay | Self::IdMapping)
    }
}

/// Builds a small sandbox with all that a dyno needs, its overlay in `within`, and removes it; takes a few milliseconds.
///
/// # Errors
/// The step that failed, and why.
pub fn run(within: &Path, ownership: Ownership) -> Result<()> {
    let overlay = match ownership {
        Ownership::Same => Need::Overlay,
        Ownership::IdMapped => Need::IdMapping,
    };
    meets(within, &[Need::Mounts, Need::Processes, overlay])
}

/// Builds a small sandbox with only these needs, and removes it.
///
/// # Errors
/// The step that failed, and why.
pub fn meets(within: &Path, needs: &[Need]) -> Result<()> {
    let owner = trial_owner();
    let folder = trial_folder(within)?;
    for name in ["lower", "scratch", "scratch/upper", "scratch/work"] {
        let made = folder.path().join(name);
        fs::create_dir(&made)?;
        if owner.privileged && needs.iter().any(|need| need.has_files()) {
            std::os::unix::fs::chown(&made, Some(owner.uid), Some(owner.gid))
                .context("this root cannot give files away: it is that of a container")?;
        }
    }
    let plan = SandboxPlan {
        owner,
        hostname: "probe".to_owned(),
        network: needs.contains(&Need::Network).then(NetworkPlan::default),
        steps: needs
            .iter()
            .flat_map(|need| steps(*need, folder.path()))
            .collect(),
    };
    finish(launch(&plan, &[], |_| false, say)?, &folder)
}

/// The owner of a trial's files.
fn trial_owner() -> HostIds {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    match uid.is_root() {
        true => HostIds {
            uid: NOBODY,
            gid: NOBODY,
            privileged: true,
        },
        false => HostIds {
            uid: uid.as_raw(),
            gid: gid.as_raw(),
            privileged: false,
        },
    }
}

/// Tries out a dyno without namespaces, in a folder, as the user with these host ids (the caller's own if None).
///
/// # Errors
/// The step that failed, and why.
pub fn run_in_a_folder(within: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    let folder = trial_folder(within)?;
    finish(launch_in_a_folder(folder.path(), owner, say)?, &folder)
}

/// Starts a trial without namespaces in a folder of its own below `folder`.
fn launch_in_a_folder(
    folder: &Path,
    owner: Option<(u32, u32)>,
    inside: impl FnOnce(Result<Vec<Gap>>, OwnedFd) -> u8,
) -> Result<Launched> {
    let slug = folder.join("slug");
    fs::create_dir(&slug)?;
    let confinement = Confinement {
        app: tempdir::AppFolder::Copy(&slug),
        folder: &folder.join("scratch"),
        owner,
    };
    // The trial starts no processes to track.
    let tracker = Tracker::new("probe", NOBODY);
    tempdir::launch(&confinement, &tracker, &[], inside)
}

/// What a dyno on this host lacks of what [`restrict`] takes from others, as far as PID 1 finds out. With namespaces, or in
/// a folder as the user with these host ids (the caller's own if None).
///
/// # Errors
/// When there can be no such dyno.
pub fn gaps(within: &Path, isolation: Isolation, owner: Option<(u32, u32)>) -> Result<Vec<Gap>> {
    let folder = trial_folder(within)?;
    let changeable = restrict::can_be_taken_back();
    let tell = |set_up, control| tell_gaps(set_up, control, changeable);
    let launched = match isolation {
        Isolation::Namespaces => {
            let plan = SandboxPlan {
                owner: trial_owner(),
                hostname: "probe".to_owned(),
                network: None,
                steps: steps(Need::Processes, folder.path()),
            };
            launch(&plan, &[], |_| false, tell)?
        }
        Isolation::Tempdir => launch_in_a_folder(folder.path(), owner, tell)?,
    };
    let said = hear(launched);
    let removed = crate::kernel::tree::remove_tree(folder.path());
    let gaps = serde_json::from_slice(&said).context("the trial ended without a word")?;
    removed?;
    Ok(gaps)
}

/// The init of a trial for [`gaps`]: sends them, and exits.
fn tell_gaps(set_up: Result<Vec<Gap>>, control: OwnedFd, changeable: bool) -> u8 {
    let told = set_up.and_then(|mut gaps| {
        gaps.extend(restrict::order_gap(changeable));
        let all = Restrictions {
            port: Some(1024),
            ..Restrictions::default()
        };
        gaps.extend(all.take());
        if rustix::process::getpid().is_init() {
            // A PID namespace holds signals back, too.
            gaps.retain(|gap| gap.restriction != Restriction::Signals);
        }
        if gaps.iter().all(|gap| gap.restriction != Restriction::Calls) {
            // The filter refuses them, too.
            gaps.retain(|gap| gap.restriction != Restriction::Namespaces);
        }
        let words = serde_json::to_vec(&gaps)?;
        Ok(unix_socket::send(&control, &words, &[])?)
    });
    u8::from(told.is_err())
}

fn trial_folder(within: &Path) -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("probe-")
        .tempdir_in(within)
        .with_context(|| format!("cannot write to `{}`", within.display()))
}

fn steps(need: Need, folder: &Path) -> Vec<MountStep> {
    let overlay = |ownership| {
        vec![MountStep::Overlay {
            lower: folder.join("lower"),
            scratch: folder.join("scratch"),
            target: "/app".into(),
            ownership,
        }]
    };
    match need {
        Need::UserNamespaces | Need::Network => Vec::new(),
        Need::Mounts => vec![
            MountStep::Bind {
                source: system_folder().unwrap_or(folder).to_owned(),
                target: "/usr".into(),
                access: MountAccess::ReadOnly,
            },
            MountStep::Memory {
                target: "/dev".into(),
                mode: 0o755,
                megabytes: 1,
            },
            MountStep::Bind {
                source: "/dev/null".into(),
                target: "/dev/null".into(),
                access: MountAccess::Device,
            },
            MountStep::Terminals {
                target: "/dev/pts".into(),
            },
        ],
        Need::Processes => vec![MountStep::Processes {
            target: "/proc".into(),
        }],
        Need::Overlay => overlay(Ownership::Same),
        Need::IdMapping => overlay(Ownership::IdMapped),
    }
}

/// A system folder of the host on the root's file system; some images lack some of them.
fn system_folder() -> Option<&'static Path> {
    let mut folders = ["/usr", "/bin", "/etc"].into_iter().map(Path::new);
    folders.find(|folder| folder.is_dir())
}

/// Receives the message of the trial's init, and waits for its end.
fn hear(launched: Launched) -> Vec<u8> {
    let mut words = vec![0u8; MAX_WORDS];
    let heard = unix_socket::receive(&launched.control, &mut words, &mut Vec::new());
    let _ = rustix::process::waitpid(Some(launched.pid), rustix::process::WaitOptions::empty());
    words.truncate(heard.unwrap_or(0));
    words
}

/// Receives the message of the trial's init and cleans up.
fn finish(launched: Launched, folder: &tempfile::TempDir) -> Result<()> {
    let words = hear(launched);
    let removed = crate::kernel::tree::remove_tree(folder.path());
    match &words[..] {
        b"ok" => Ok(removed?),
        b"" => bail!("the sandbox ended without a word"),
        said => {
            let said = String::from_utf8_lossy(said);
            let (errno, words) = said.split_once(' ').unwrap_or(("", &said));
            let facts = Facts::gather(folder.path().parent().unwrap_or(Path::new("/")));
            let errno = errno.parse().unwrap_or(0);
            bail!("{}", reasons::why_step(words, errno, &facts))
        }
    }
}

/// The errno in an error's chain, or 0.
fn errno(error: &anyhow::Error) -> i32 {
    let mut causes = error.chain();
    let number = causes.find_map(|cause| {
        let errno = cause
            .downcast_ref::<Errno>()
            .map(|errno| errno.raw_os_error());
        errno.or_else(|| cause.downcast_ref::<std::io::Error>()?.raw_os_error())
    });
    number.unwrap_or(0)
}

/// The trial's init: sends the errno and the message of what failed, and exits.
fn say(set_up: Result<Vec<Gap>>, control: OwnedFd) -> u8 {
    let words = set_up.map_or_else(
        |error| format!("{} {error:#}", errno(&error)),
        |_gaps| "ok".to_owned(),
    );
    let words = &words.as_bytes()[..words.len().min(MAX_WORDS)];
    u8::from(unix_socket::send(&control, words, &[]).is_err())
}
