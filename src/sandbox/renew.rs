//! Replaces the files that cover the stack's in a running sandbox.
//!
//! A dyno has copies of files of the host, such as its names and name servers, which change while the dyno runs. And
//! when the host replaces a covered file, as `useradd` does with `/etc/passwd`, the kernel removes the bind mount that
//! covers it.
//!
//! A child of the supervisor enters the sandbox's namespaces by descriptors taken before PID 1 became private. Inside,
//! it has the privilege of the namespace's maker, and outside none: a hostile dyno that changes a path meanwhile can
//! only redirect it within the dyno.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::launch::{Cover, attach, memory_file_system};
use super::plan::{HostIds, INNER_ID, MountStep};
use crate::kernel::beneath;
use crate::kernel::sys::process::{Namespaces, Side, clone_process, close_all_but, exit_now};
use crate::panics::caught_or;

/// An empty folder inside that can be mounted over for a moment.
const STAGING: &str = "/var/log";

/// The namespaces of a running sandbox, and which of its files are covered.
#[derive(Debug)]
pub struct SandboxNamespaces {
    user: OwnedFd,
    mounts: OwnedFd,
    owner: HostIds,
    /// The paths of the files that cover others at present.
    covered: Vec<PathBuf>,
}

impl SandboxNamespaces {
    /// Opens the namespaces of the process `pid`, which must still be dumpable. `steps` are those of its sandbox's plan.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn of(pid: Pid, owner: HostIds, steps: &[MountStep]) -> Result<Self> {
        let open = |name: &str| {
            let path = format!("/proc/{}/ns/{name}", pid.as_raw_nonzero());
            rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        };
        let files = steps
            .iter()
            .filter(|step| matches!(step, MountStep::File { .. }));
        Ok(Self {
            user: open("user")?,
            mounts: open("mnt")?,
            owner,
            covered: files.map(|step| step.target().to_owned()).collect(),
        })
    }

    /// Has `files` cover the stack's in place of those that did before. What is covered as it is to be stays, since a reader
    /// may see the covered file in the moment between its old cover and its new one.
    ///
    /// # Errors
    /// When one of them could not be mounted; the others are.
    pub fn renew(&mut self, files: &[MountStep]) -> Result<()> {
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

    fn go_in_and_renew(&self, files: &[MountStep]) -> Result<()> {
        move_into_link_name_space(self.user.as_fd(), Some(LinkNameSpaceType::User))?;
        if self.owner.privileged {
            rustix::thread::set_thread_groups(&[])?;
        }
        let (gid, uid) = (Gid::from_raw(INNER_ID), Uid::from_raw(INNER_ID));
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        move_into_link_name_space(self.mounts.as_fd(), Some(LinkNameSpaceType::Mount))?;
        rustix::process::umask(Mode::from_raw_mode(0o022));
        let is_left = |path: &&PathBuf| files.iter().all(|step| step.target() != path.as_path());
        for target in self.covered.iter().filter(is_left) {
            uncover(target);
        }
        let staging = memory_file_system(0o755, 4)?;
        attach(&staging, Path::new(STAGING), true)?;
        let mut outcome = Ok(());
        for step in files {
            let MountStep::File { target, contents } = step else {
                continue;
            };
            if reads_as(target, contents) {
                continue;
            }
            let covered =
                Cover::made(Path::new(STAGING).join("file"), contents).and_then(|cover| {
                    uncover(target);
                    cover.put(target)
                });
            if let Err(error) = covered {
                outcome = Err(error).with_context(|| format!("`{}`", target.display()));
            }
        }
        unmount(STAGING, UnmountFlags::DETACH)?;
        outcome
    }
}

/// Takes the cover off a file. One that the host has replaced is not covered any more.
fn uncover(target: &Path) {
    let _ = unmount(target, UnmountFlags::DETACH);
}

/// Whether a dyno that reads the file finds `contents`.
fn reads_as(target: &Path, contents: &str) -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(root) = rustix::fs::open("/", flags, Mode::empty()) else {
        return false;
    };
    let below = target.strip_prefix("/").unwrap_or(target);
    let read = beneath::read(root, below, contents.len() as u64);
    read.is_ok_and(|read| read.is_some_and(|read| read == contents.as_bytes()))
}
