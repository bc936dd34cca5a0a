//! A dyno without walls: a copy of its slug in a folder of its own, and processes that are kept track of.
//!
//! For hosts that give no namespaces. What it promises and what not is in `docs/isolation.md`. The command can gain no
//! privilege, as behind walls: no capability, `no_new_privs`. It runs as the server's user, or, if that is root and
//! has other ids to give, as another.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use rustix::fs::{Gid, Mode, Uid};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::tracked::Tracker;
use super::{Everybody, Launched};
use crate::error::EXIT_DYNO_FAILED;
use crate::fault::{self, caught, caught_or};
use crate::kernel::sys::process::{
    Namespaces, Side, clone_process, close_all_but, exit_now, leave_session_keyring,
};
use crate::kernel::sys::signal::{Signal, ignore};
use crate::slug::{Owner, copy_tree};

/// The app's folder in the dyno's: HOME and the working directory.
const APP: &str = "app";

/// The dyno's folder for temporary files: TMPDIR.
const TEMPORARY: &str = "tmp";

/// Signals that an init which is no PID 1 has to ignore like one.
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

/// Where a dyno lives.
#[derive(Debug, Clone, Copy)]
pub struct Lodging<'a> {
    /// What the app's folder is made of.
    pub app: App<'a>,
    /// The dyno's own folder, which does not exist yet; everything of the dyno's is in it.
    pub folder: &'a Path,
    /// Host uid and gid of the dyno, if they are not the caller's. Takes root.
    pub owner: Option<(u32, u32)>,
}

/// What the app's folder is made of.
#[derive(Debug, Clone, Copy)]
pub enum App<'a> {
    /// A copy of this unpacked slug.
    Copy(&'a Path),
    /// This folder of the user's itself.
    Live(&'a Path),
}

/// The app's folder of a dyno that lives in `folder`, unless it is a live one.
pub fn app_folder(folder: &Path) -> PathBuf {
    folder.join(APP)
}

/// The folder for temporary files of a dyno that lives in `folder`.
pub fn temporary_folder(folder: &Path) -> PathBuf {
    folder.join(TEMPORARY)
}

/// Starts `inside` as the init of a dyno in `lodging`, whose processes `tracker` knows.
///
/// Returns as soon as the child can go on alone: it copies the slug by itself. `inside` is given the outcome of the
/// set-up and must tell it over its end of the pair; what it returns is init's exit status. Of the caller's
/// descriptors it has only 0 to 2 and `keep`. It is to leave when the other end of the pair is closed.
///
/// # Errors
/// When there can be no process.
pub fn launch(
    lodging: &Lodging<'_>,
    tracker: &Tracker,
    keep: &[BorrowedFd<'_>],
    inside: impl FnOnce(Result<()>, OwnedFd) -> u8,
) -> Result<Launched> {
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .context("cannot make a control socket")?;
    // So that whoever outlives init comes to us.
    Tracker::become_subreaper().context("cannot become a subreaper")?;
    match clone_process(Namespaces::NONE).map_err(|error| anyhow!("no process: {error}"))? {
        Side::Child => {
            let kept: Vec<_> = keep.iter().copied().chain([theirs.as_fd()]).collect();
            close_all_but(&kept);
            // Closed already: dropping it would close whatever has that number by then.
            std::mem::forget(ours);
            // As behind walls: nothing may unwind beyond here.
            let outcome = caught_or(|| set_up(lodging));
            exit_now(caught(|| inside(outcome, theirs)).unwrap_or(EXIT_DYNO_FAILED))
        }
        Side::Parent { pid, pidfd } => {
            let everybody = Everybody::Tracked(tracker.clone());
            Ok(Launched::new(pid, pidfd, ours, everybody))
        }
    }
}

/// The child's part.
fn set_up(lodging: &Lodging<'_>) -> Result<()> {
    for number in IGNORED {
        Signal::new(number).into_iter().for_each(ignore);
    }
    Tracker::become_subreaper().context("cannot become a subreaper")?;
    fault::point("init set-up");
    furnish(lodging)?;
    settle_down(lodging.owner)?;
    let app = match lodging.app {
        App::Copy(_) => app_folder(lodging.folder),
        App::Live(folder) => folder.to_owned(),
    };
    rustix::process::chdir(&app).with_context(|| {
        let uid = rustix::process::geteuid().as_raw();
        format!("user {uid} cannot go to `{}`", app.display())
    })?;
    // Not a folder that somebody may want to remove.
    rustix::process::chdir("/")?;
    Ok(())
}

/// Makes the dyno's folders.
fn furnish(lodging: &Lodging<'_>) -> Result<()> {
    let owner = lodging.owner.map(|(uid, gid)| Owner { uid, gid });
    let make = |folder: &Path| -> std::io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(folder)?;
        owner.map_or(Ok(()), |owner| {
            chown(folder, Some(owner.uid), Some(owner.gid))
        })
    };
    let parent = lodging.folder.parent().context("a dyno in no folder")?;
    if owner.is_some() {
        // The way to it, no more: what else is in there is private by its own mode.
        fs::set_permissions(parent, fs::Permissions::from_mode(0o711))
            .with_context(|| format!("cannot open `{}` for the dyno", parent.display()))?;
    }
    make(lodging.folder)
        .and_then(|()| make(&temporary_folder(lodging.folder)))
        .context("cannot make the dyno's folders")?;
    match lodging.app {
        App::Copy(slug) => {
            copy_tree(slug, &app_folder(lodging.folder), owner).context("cannot copy the slug")
        }
        App::Live(_) => Ok(()),
    }
}

/// Becomes the dyno's user, without privilege or a way to gain any.
fn settle_down(owner: Option<(u32, u32)>) -> Result<()> {
    // Only who has the capability for it can give this up, and who has not gains nothing from it.
    let _ = super::launch::empty_bounding_set();
    if let Some((uid, gid)) = owner {
        let (gid, uid) = (Gid::from_raw(gid), Uid::from_raw(uid));
        rustix::thread::set_thread_groups(&[]).context("cannot drop supplementary groups")?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)
            .with_context(|| format!("cannot become group {gid}"))?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)
            .with_context(|| format!("cannot become user {uid}"))?;
    }
    // Keys of whoever started the server, passwords and tickets among them, are not the dyno's.
    leave_session_keyring();
    super::launch::give_up_capabilities().context("cannot give up privilege")?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    Ok(())
}
