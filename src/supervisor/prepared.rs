//! A sandbox that is made before its dyno is asked for, for the release that ran last: a start is then a message and an
//! `exec`. It is used only if it is exactly what would be made now.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::event::PollFlags;
use rustix::fs::{CWD, Mode, OFlags, RenameFlags};

use super::build;
use super::folder::SCRATCH;
use crate::kernel::cgroup::{Group, GroupLimits, GroupParent};
use crate::kernel::fail_point;
use crate::kernel::tree::remove_tree;
use crate::kernel::wait;
use crate::sandbox::Launched;
use crate::sandbox::plan::{MountStep, SandboxPlan};
use crate::sandbox::restrict::Restrictions;
use crate::wire::control::{self, DynoSpec, FromInit};

/// How long a sandbox may take to get ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Prepared {
    /// The dyno's lock, of which init has a copy.
    pub lock: OwnedFd,
    /// The sandbox, whose init has said that it is ready.
    pub sandbox: Launched,
    /// The control group that init is in.
    pub group: Option<Group>,
    /// The folder in which it was made.
    folder: PathBuf,
    basis: Basis,
    /// Told by the kernel when a mount of the host changes.
    mounts: OwnedFd,
}

/// What a sandbox is made from.
#[derive(Debug, PartialEq, Eq)]
struct Basis {
    plan: SandboxPlan,
    app_folder: PathBuf,
    restrictions: Restrictions,
    groups: Option<GroupParent>,
    limits: GroupLimits,
    /// Device and inode of everything that is mounted from the host: what a path names may be another folder by now.
    sources: Vec<Option<(u64, u64)>>,
}

impl Basis {
    fn of(spec: &DynoSpec, scratch: &Path) -> Result<Self> {
        let plan = build::plan(spec, &build::stack(spec), scratch)?;
        let source = |step: &MountStep| match step {
            MountStep::Bind { source, .. } | MountStep::Live { source, .. } => Some(source.clone()),
            MountStep::Overlay { lower, .. } => Some(lower.clone()),
            _ => None,
        };
        // What lies in its own folder is its own, whatever the folder is called.
        let sources = plan.steps.iter().filter_map(source);
        let sources = sources.filter(|source| !source.starts_with(scratch));
        let identity = |source: PathBuf| {
            let metadata = fs::metadata(source).ok()?;
            Some((metadata.dev(), metadata.ino()))
        };
        Ok(Self {
            sources: sources.map(identity).collect(),
            plan,
            app_folder: build::app_folder(spec),
            restrictions: build::restrictions(spec),
            groups: spec.groups.clone(),
            limits: spec.group_limits,
        })
    }
}

impl Prepared {
    /// Makes the sandbox of a dyno of which `spec` says what is known already, and waits until it is ready. The dyno's
    /// folder must be there, with this lock.
    ///
    /// # Errors
    /// When it cannot be made; nothing but the folder is left then.
    pub fn make(spec: &DynoSpec, lock: OwnedFd) -> Result<Self> {
        let made = Self::try_make(spec, lock);
        if made.is_err() {
            let _ = remove_tree(&spec.folder.join(SCRATCH));
        }
        made
    }

    fn try_make(spec: &DynoSpec, lock: OwnedFd) -> Result<Self> {
        // Before anything is looked at: what changes from here on is noticed.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let mounts = rustix::fs::open("/proc/self/mountinfo", flags, Mode::empty())?;
        let basis = Basis::of(spec, &spec.folder.join(SCRATCH))?;
        let (sandbox, group) = build::build(spec, &build::stack(spec), &lock)?;
        let prepared = Self {
            lock,
            sandbox,
            group,
            folder: spec.folder.clone(),
            basis,
            mounts,
        };
        match prepared.becomes_ready() {
            Ok(FromInit::Ready) => Ok(prepared),
            said => {
                prepared.end();
                bail!("the sandbox is not ready: {said:?}")
            }
        }
    }

    fn becomes_ready(&self) -> io::Result<FromInit> {
        let deadline = Some(Instant::now() + PATIENCE);
        wait::until(&self.sandbox.control, PollFlags::IN, deadline)?
            .ok_or(io::ErrorKind::TimedOut)?;
        let said = control::receive(&self.sandbox.control)?;
        Ok(said.ok_or(io::ErrorKind::UnexpectedEof)?.0)
    }

    /// The sandbox for the dyno of this spec, with its files in the dyno's folder, if it is what would be made now. Else
    /// nothing is left of it. The caller has the lock of the dyno's folder.
    pub fn begin(self, spec: &DynoSpec) -> Option<Self> {
        if !self.fits(spec) || self.move_to(&spec.folder).is_err() {
            self.dissolve();
            return None;
        }
        Some(self)
    }

    fn fits(&self, spec: &DynoSpec) -> bool {
        let is_quiet = |fd: &OwnedFd, flags| {
            let now = Some(Instant::now());
            matches!(wait::until(fd.as_fd(), flags, now), Ok(None))
        };
        is_quiet(&self.mounts, PollFlags::PRI)
            && is_quiet(&self.sandbox.pidfd, PollFlags::IN)
            && Basis::of(spec, &self.folder.join(SCRATCH)).is_ok_and(|basis| basis == self.basis)
    }

    /// Moves its files into the dyno's folder, as which its own folder goes on: whoever asks for the lock of that folder finds
    /// it taken at all times.
    fn move_to(&self, folder: &Path) -> Result<()> {
        rustix::fs::renameat_with(CWD, &self.folder, CWD, folder, RenameFlags::EXCHANGE)?;
        fail_point::reach("supervisor.moved");
        let _ = remove_tree(&self.folder);
        Ok(())
    }

    /// Ends the sandbox; its folder is left.
    fn end(mut self) {
        self.sandbox.kill();
        let _ = wait::until(
            &self.sandbox.pidfd,
            PollFlags::IN,
            Some(Instant::now() + PATIENCE),
        );
        let _ = self.sandbox.end();
        if let Some(group) = &self.group {
            let _ = group.remove();
        }
    }

    /// Ends the sandbox, since no dyno has asked for it, and removes its folder.
    pub fn dissolve(self) {
        let (folder, groups) = (self.folder.clone(), self.basis.groups.clone());
        self.end();
        let _ = remove_tree(&folder);
        // The server that would have removed the group of all dynos is gone.
        groups.iter().for_each(GroupParent::remove_if_empty);
    }
}
