//! A dyno without namespaces: a copy of its slug in a folder of its own, and processes that are tracked.
//!
//! For hosts that allow no namespaces; `docs/isolation.md` says what such a dyno promises. As with namespaces, the
//! command can gain no privilege: no capability, `no_new_privs`. It runs as the server's user, or, if that is root and
//! has other ids, as another user.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use rustix::fs::{Gid, Mode, Uid};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::restrict::{self, Gap, Restriction};
use super::tracked::Tracker;
use super::{Launched, SandboxProcesses};
use crate::error::EXIT_DYNO_FAILED;
use crate::kernel::sys::process::{
    Namespaces, Side, clone_process, close_all_but, exit_now, leave_session_keyring,
};
use crate::kernel::sys::signal::{Signal, ignore};
use crate::panics::{self, caught, caught_or};
use crate::slug::{TreeOwner, copy_tree};

/// The app's folder in the dyno's folder: HOME and the working directory.
const APP: &str = "app";

/// The dyno's folder for temporary files: TMPDIR.
const TEMPORARY: &str = "tmp";

/// Signals that init must ignore, as the kernel does for a PID 1.
const IGNORED: [i32; 12] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGPIPE,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGIO,
];

/// The folder and user of a dyno without namespaces.
#[derive(Debug, Clone, Copy)]
pub struct Confinement<'a> {
    /// Where the files of the app's folder come from.
    pub app: AppFolder<'a>,
    /// The dyno's own folder, which does not exist yet; all that the dyno owns is in it.
    pub folder: &'a Path,
    /// Host uid and gid of the dyno, if they are not the caller's; only for root.
    pub owner: Option<(u32, u32)>,
}

/// Where the files of the app's folder come from.
#[derive(Debug, Clone, Copy)]
pub enum AppFolder<'a> {
    /// A copy of this unpacked slug.
    Copy(&'a Path),
    /// This folder of the user itself, without a copy.
    Live(&'a Path),
}

/// The copy of the slug in the dyno's own folder.
pub fn app_folder(folder: &Path) -> PathBuf {
    folder.join(APP)
}

/// The folder for temporary files in the dyno's own folder.
pub fn temporary_folder(folder: &Path) -> PathBuf {
    folder.join(TEMPORARY)
}

/// Starts `inside` as the init of a dyno in `confinement`, whose processes `tracker` finds.
///
/// Returns as soon as the child no longer needs the parent; the child copies the slug. `inside` gets the result of the
/// set-up, must report it over its end of the pair, and returns init's exit status. Of the caller's descriptors the
/// child keeps only 0 to 2 and `keep`. It must exit when the other end of the pair is closed.
///
/// # Errors
/// When no process can be made.
pub fn launch(
    confinement: &Confinement<'_>,
    tracker: &Tracker,
    keep: &[BorrowedFd<'_>],
    inside: impl FnOnce(Result<Vec<Gap>>, OwnedFd) -> u8,
) -> Result<Launched> {
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .context("cannot make a control socket")?;
    // So that processes that outlive init become children of this one.
    Tracker::become_subreaper().context("cannot become a subreaper")?;
    match clone_process(Namespaces::NONE).map_err(|error| anyhow!("no process: {error}"))? {
        Side::Child => {
            let kept: Vec<_> = keep.iter().copied().chain([theirs.as_fd()]).collect();
            close_all_but(&kept);
            // Closed already: dropping it would close another descriptor that has got its number.
            std::mem::forget(ours);
            // A panic must not unwind beyond here, into copies of the parent's callers.
            let outcome = caught_or(|| set_up(confinement));
            exit_now(caught(|| inside(outcome, theirs)).unwrap_or(EXIT_DYNO_FAILED))
        }
        Side::Parent { pid, pidfd } => {
            let processes = SandboxProcesses::Tracked(tracker.clone());
            Ok(Launched::new(pid, pidfd, ours, processes))
        }
    }
}

/// The child's part.
fn set_up(confinement: &Confinement<'_>) -> Result<Vec<Gap>> {
    for number in IGNORED {
        Signal::new(number).into_iter().for_each(ignore);
    }
    Tracker::become_subreaper().context("cannot become a subreaper")?;
    panics::point("init set-up");
    make_folders(confinement)?;
    restrict::end_first("/proc/self");
    become_user(confinement.owner)?;
    let app = match confinement.app {
        AppFolder::Copy(_) => app_folder(confinement.folder),
        AppFolder::Live(folder) => folder.to_owned(),
    };
    rustix::process::chdir(&app).with_context(|| {
        let uid = rustix::process::geteuid().as_raw();
        format!("user {uid} cannot go to `{}`", app.display())
    })?;
    // Not in a folder that may be removed.
    rustix::process::chdir("/")?;
    let without_walls = |restriction| Gap::new(restriction, "quotas are those of a user namespace");
    Ok([Restriction::Namespaces, Restriction::Watches]
        .map(without_walls)
        .into())
}

/// Makes the dyno's folders.
fn make_folders(confinement: &Confinement<'_>) -> Result<()> {
    let owner = confinement.owner.map(|(uid, gid)| TreeOwner { uid, gid });
    let make = |folder: &Path| -> std::io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(folder)?;
        owner.map_or(Ok(()), |owner| {
            chown(folder, Some(owner.uid), Some(owner.gid))
        })
    };
    let parent = confinement.folder.parent().context("a dyno in no folder")?;
    if owner.is_some() {
        // Other users can only pass through: what else is in there is private by its own mode.
        fs::set_permissions(parent, fs::Permissions::from_mode(0o711))
            .with_context(|| format!("cannot open `{}` for the dyno", parent.display()))?;
    }
    make(confinement.folder)
        .and_then(|()| make(&temporary_folder(confinement.folder)))
        .context("cannot make the dyno's folders")?;
    match confinement.app {
        AppFolder::Copy(slug) => {
            copy_tree(slug, &app_folder(confinement.folder), owner).context("cannot copy the slug")
        }
        AppFolder::Live(_) => Ok(()),
    }
}

/// Becomes the dyno's user, without any privilege or a way to gain one.
fn become_user(owner: Option<(u32, u32)>) -> Result<()> {
    // It takes a capability to empty the bounding set; without capabilities the set does not matter.
    let _ = super::launch::empty_bounding_set();
    if let Some((uid, gid)) = owner {
        let (gid, uid) = (Gid::from_raw(gid), Uid::from_raw(uid));
        rustix::thread::set_thread_groups(&[]).context("cannot drop supplementary groups")?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)
            .with_context(|| format!("cannot become group {gid}"))?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)
            .with_context(|| format!("cannot become user {uid}"))?;
    }
    // The session keyring of the user who started the server may hold passwords and tickets.
    leave_session_keyring();
    super::launch::give_up_capabilities().context("cannot give up privilege")?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    Ok(())
}
