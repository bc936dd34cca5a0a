//! Tries a sandbox out: whether this host offers one, and if not, what stands in the way.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::launch::launch;
use super::plan::{Access, Owner, Ownership, Plan, Step};
use crate::unix_socket;

/// Host ids for a trial by root: nobody's.
const NOBODY: u32 = 65_534;

/// Builds a small sandbox with its overlay in `within` and takes it down again; a few milliseconds.
///
/// # Errors
/// The step that failed, and why.
pub fn run(within: &Path, ownership: Ownership) -> Result<()> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let owner = match uid.is_root() {
        true => Owner {
            uid: NOBODY,
            gid: NOBODY,
            privileged: true,
        },
        false => Owner {
            uid: uid.as_raw(),
            gid: gid.as_raw(),
            privileged: false,
        },
    };
    let folder = tempfile::Builder::new()
        .prefix("probe-")
        .tempdir_in(within)
        .with_context(|| format!("cannot write to `{}`", within.display()))?;
    for name in ["lower", "scratch", "scratch/upper", "scratch/work"] {
        let made = folder.path().join(name);
        fs::create_dir(&made)?;
        if owner.privileged {
            std::os::unix::fs::chown(&made, Some(owner.uid), Some(owner.gid))
                .context("this root cannot give files away: it is that of a container")?;
        }
    }
    let plan = Plan {
        owner,
        hostname: "probe".to_owned(),
        steps: vec![
            Step::Bind {
                source: "/usr".into(),
                target: "/usr".into(),
                access: Access::ReadOnly,
            },
            Step::Memory {
                target: "/dev".into(),
                mode: 0o755,
                megabytes: 1,
            },
            Step::Bind {
                source: "/dev/null".into(),
                target: "/dev/null".into(),
                access: Access::Device,
            },
            Step::Terminals {
                target: "/dev/pts".into(),
            },
            Step::Processes {
                target: "/proc".into(),
            },
            Step::Overlay {
                lower: folder.path().join("lower"),
                scratch: folder.path().join("scratch"),
                target: "/app".into(),
                ownership,
            },
        ],
    };
    let launched = launch(&plan, &[], say)?;
    let (mut words, mut length) = ([0u8; 4096], 0);
    if let Ok(count) = unix_socket::receive(&launched.control, &mut words, &mut Vec::new()) {
        length = count;
    }
    let _ = rustix::process::waitpid(Some(launched.pid), rustix::process::WaitOptions::empty());
    let removed = crate::slug::remove_tree(folder.path());
    match &words[..length] {
        b"ok" => Ok(removed?),
        b"" => bail!("the sandbox ended without a word"),
        why => bail!("{}", String::from_utf8_lossy(why)),
    }
}

/// The trial's PID 1: tells how it went, and leaves.
fn say(set_up: Result<()>, control: OwnedFd) -> u8 {
    let words = set_up.map_or_else(|error| format!("{error:#}"), |()| "ok".to_owned());
    let words = &words.as_bytes()[..words.len().min(4096)];
    u8::from(unix_socket::send(&control, words, &[]).is_err())
}
