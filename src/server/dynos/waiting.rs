//! The supervisor that waits for the next dyno, and the sandbox that it makes ahead.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use rustix::fs::MemfdFlags;
use rustix::net::{AddressFamily, SocketFlags};

use crate::kernel::executable;
use crate::kernel::fail_point;
use crate::kernel::sys::title;
use crate::kernel::unix_socket::SocketType;
use crate::panics;
use crate::slug::Lease;
use crate::supervisor::{self, Claim};
use crate::wire::control::{self, DynoSpec, ToSupervisor};

/// A supervisor that has no dyno yet.
#[derive(Debug)]
pub(super) struct Waiting {
    child: Child,
    socket: OwnedFd,
    /// The dyno for which it has made a sandbox, or is just making it.
    next: Option<NextDyno>,
}

/// A dyno that may begin next: it has no row yet.
#[derive(Debug)]
pub(super) struct NextDyno {
    /// Its id.
    pub id: String,
    /// The id of its release.
    pub release: String,
    /// Its host uid and gid.
    pub owner: (u32, u32),
    /// The claim to its uid.
    pub claim: Option<OwnedFd>,
    /// The tree that it runs on.
    pub _tree: Lease,
}

impl Waiting {
    /// Starts a supervisor that waits for a spec. It leaves by itself if none comes before we do.
    pub fn spawn() -> Result<Self> {
        let (socket, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        fail_point::attempt("dyno.spawning")?;
        // The running program itself, even when its file was replaced meanwhile.
        let child = Command::new(executable::PATH)
            .arg0(title::with_room(supervisor::WAITING))
            .arg("__supervise")
            .env_clear()
            .envs(panics::inherited())
            .envs(fail_point::inherited())
            .stdin(Stdio::null())
            .stdout(Stdio::from(theirs))
            .spawn()
            .context("cannot start a supervisor")?;
        fail_point::reach("dyno.spawned");
        Ok(Self {
            child,
            socket,
            next: None,
        })
    }

    /// Has it make the sandbox of a dyno that may begin next, of which `spec` says what is known already.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn prepare(&mut self, spec: &DynoSpec, lock: &Claim, next: NextDyno) -> Result<()> {
        self.tell(&ToSupervisor::Prepare, spec, lock, next.claim.as_slice())?;
        self.next = Some(next);
        Ok(())
    }

    /// The dyno for which it has made a sandbox, if it is there still.
    pub fn next(&mut self) -> Option<&mut NextDyno> {
        let lives = matches!(self.child.try_wait(), Ok(None));
        self.next.as_mut().filter(|_| lives)
    }

    /// The host uid and gid of the dyno for which it has made a sandbox.
    pub fn owner(&self) -> Option<(u32, u32)> {
        self.next.as_ref().map(|next| next.owner)
    }

    /// Whether it can take the dyno of this id, since it has made a sandbox for that or for none.
    pub fn can_take(&self, id: &str) -> bool {
        self.next.as_ref().is_none_or(|next| next.id == id)
    }

    /// Gives it its dyno, with the lock of the dyno's folder.
    ///
    /// # Errors
    /// When it has ended. It is reaped then.
    pub fn give(
        mut self,
        spec: &DynoSpec,
        lock: &Claim,
        claims: &[OwnedFd],
    ) -> Result<(Child, OwnedFd)> {
        let given = self.tell(&ToSupervisor::Begin, spec, lock, claims);
        given.inspect_err(|_| drop(self.child.wait()))?;
        Ok((self.child, self.socket))
    }

    /// Has it leave. The process is still to be reaped.
    pub fn dismiss(self) -> Child {
        self.child
    }

    fn tell(
        &self,
        message: &ToSupervisor,
        spec: &DynoSpec,
        lock: &Claim,
        claims: &[OwnedFd],
    ) -> Result<()> {
        let spec = in_memory(spec).context("no memory for the dyno's spec")?;
        let claims = claims.iter().map(AsFd::as_fd);
        let fds: Vec<_> = [spec.as_fd(), lock.as_fd()]
            .into_iter()
            .chain(claims)
            .collect();
        control::send(&self.socket, message, &fds).context("cannot pass the spec on")
    }
}

/// The spec in a file that is nowhere but in memory. Neither a pipe nor a socket would do: how much they take before
/// a process reads is bounded, per user too, and far below the largest spec.
fn in_memory(spec: &DynoSpec) -> io::Result<File> {
    // From Linux 6.3 on a host may demand that it is not to be executed; before, that is not known (EINVAL).
    let create = |flags| rustix::fs::memfd_create("dyno-spec", MemfdFlags::CLOEXEC | flags);
    let memory = create(MemfdFlags::NOEXEC_SEAL).or_else(|_| create(MemfdFlags::empty()))?;
    let mut file = File::from(memory);
    file.write_all(&serde_json::to_vec(spec)?)?;
    Ok(file)
}
