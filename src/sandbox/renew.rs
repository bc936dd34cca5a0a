//! Puts files that cover the stack's in their places anew, in a sandbox that lives.
//!
//! What a dyno knows of the host by such a file, its names and its name servers, changes with the host. And when the host
//! replaces a file that one covers, as `useradd` does with `/etc/passwd`, the kernel takes the cover off.
//!
//! A child of the supervisor enters the sandbox's namespaces by descriptors taken before PID 1 became private. Inside
//! it has the privilege of the namespace's maker, and outside none: what a hostile dyno makes of a path that it works on
//! can only be of the dyno's own.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::mount::{MountAttrFlags, UnmountFlags, unmount};
use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::launch::{attach, cover, new_file_system};
use super::plan::{INNER_ID, Owner, Step};
use crate::fault::caught_or;
use crate::kernel::sys::process::{Namespaces, Side, clone_process, close_all_but, exit_now};

/// A folder of the inside that is empty, and can be covered for a moment.
const STAGING: &str = "/var/log";

/// The way into a sandbox.
#[derive(Debug)]
pub struct Doors {
    user: OwnedFd,
    mounts: OwnedFd,
    owner: Owner,
    /// Where files are, as of the last time.
    covered: Vec<PathBuf>,
}

impl Doors {
    /// Those of the process `pid`, which must not be private yet. `steps` are what its sandbox is made by.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn of(pid: Pid, owner: Owner, steps: &[Step]) -> Result<Self> {
        let open = |name: &str| {
            let path = format!("/proc/{}/ns/{name}", pid.as_raw_nonzero());
            rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        };
        let files = steps
            .iter()
            .filter(|step| matches!(step, Step::File { .. }));
        Ok(Self {
            user: open("user")?,
            mounts: open("mnt")?,
            owner,
            covered: files.map(|step| step.target().to_owned()).collect(),
        })
    }

    /// Puts `files` in their places, and takes away those that were put before. Waits for it, which takes about a
    /// millisecond; a moment long a reader may find what is below a cover.
    ///
    /// # Errors
    /// When one of them could not be put there; the others are.
    pub fn renew(&mut self, files: &[Step]) -> Result<()> {
        let Side::Parent { pid, .. } = clone_process(Namespaces::NONE)? else {
            close_all_but(&[self.user.as_fd(), self.mounts.as_fd()]);
            let outcome = caught_or(|| self.go_in_and_renew(files));
            exit_now(u8::from(outcome.is_err()))
        };
        self.covered = files.iter().map(|step| step.target().to_owned()).collect();
        let waited = rustix::io::retry_on_intr(|| waitpid(Some(pid), WaitOptions::empty()))?;
        match waited.and_then(|(_, status)| status.exit_status()) {
            Some(0) => Ok(()),
            _ => bail!("cannot renew the files that cover the host's"),
        }
    }

    fn go_in_and_renew(&self, files: &[Step]) -> Result<()> {
        move_into_link_name_space(self.user.as_fd(), Some(LinkNameSpaceType::User))?;
        if self.owner.privileged {
            rustix::thread::set_thread_groups(&[])?;
        }
        let (gid, uid) = (Gid::from_raw(INNER_ID), Uid::from_raw(INNER_ID));
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        move_into_link_name_space(self.mounts.as_fd(), Some(LinkNameSpaceType::Mount))?;
        rustix::process::umask(Mode::from_raw_mode(0o022));
        // Their namesakes in the folders of the stack may have been replaced, and are not covered any more.
        for target in &self.covered {
            let _ = unmount(target, UnmountFlags::DETACH);
        }
        let options = [("mode", OsStr::new("0755")), ("size", OsStr::new("4m"))];
        let staging = new_file_system("tmpfs", &options, MountAttrFlags::empty())?;
        attach(&staging, Path::new(STAGING), true)?;
        let mut outcome = Ok(());
        for step in files {
            let Step::File { target, contents } = step else {
                continue;
            };
            let aside = Path::new(STAGING).join("file");
            let _ = fs::remove_file(&aside);
            if let Err(error) = cover(&aside, target, contents) {
                outcome = Err(error).with_context(|| format!("`{}`", target.display()));
            }
        }
        unmount(STAGING, UnmountFlags::DETACH)?;
        outcome
    }
}
