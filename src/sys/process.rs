//! Making processes: clone into namespaces, exec, and ending without ceremony.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use rustix::process::Pid;

const SYS_CLONE3: libc::c_long = 435;

/// Namespaces a process is born into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespaces(u64);

impl Namespaces {
    /// None: a plain fork.
    pub const NONE: Self = Self(0);
    /// User ids and capabilities.
    pub const USER: Self = Self(libc::CLONE_NEWUSER as u64);
    /// The mount tree.
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS as u64);
    /// Process ids; the new process is number 1.
    pub const PID: Self = Self(libc::CLONE_NEWPID as u64);
    /// System V IPC and POSIX message queues.
    pub const IPC: Self = Self(libc::CLONE_NEWIPC as u64);
    /// Host name.
    pub const UTS: Self = Self(libc::CLONE_NEWUTS as u64);
    /// The view of the cgroup tree.
    pub const CGROUP: Self = Self(libc::CLONE_NEWCGROUP as u64);

    /// Both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Which side of a [`clone_process`] this is.
#[derive(Debug)]
pub enum Side {
    /// The new process.
    Child,
    /// The caller, with the child's number and a descriptor that names it without a race.
    Parent {
        /// The child's number in the caller's namespace; good for `/proc/PID` until it is reaped.
        pid: Pid,
        /// The child's pidfd: readable when it has ended.
        pidfd: OwnedFd,
    },
}

/// Forks into new namespaces.
///
/// Only for a process with a single thread: the child of one with more may use nothing that allocates
/// or locks, which no caller here could promise. So that is checked, and an error.
pub fn clone_process(namespaces: Namespaces) -> io::Result<Side> {
    // Two links of its own (`.` and its name) and one for each thread's folder.
    if std::fs::metadata("/proc/self/task")?.nlink() != 3 {
        return Err(io::Error::other(
            "only a process with one thread may be cloned",
        ));
    }
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is plain data, for which all zeroes means "nothing asked for".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces.0 | libc::CLONE_PIDFD as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: no CLONE_VM, so the child has a copy of this memory and stack, as after fork(2); the
    // process has one thread (checked above), so no lock can be held by a thread that the child lacks.
    let pid = unsafe { libc::syscall(SYS_CLONE3, &raw const args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        pid => {
            let pid = Pid::from_raw(pid as i32).ok_or_else(|| io::Error::other("clone3: pid 0"))?;
            // SAFETY: clone3 succeeded with CLONE_PIDFD, so `pidfd` is an open descriptor that
            // nobody else owns. It is close-on-exec by definition.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Side::Parent { pid, pidfd })
        }
    }
}

/// Becomes another program; returns only if that failed.
///
/// `path` is not searched for. Descriptors without close-on-exec stay open.
pub fn exec(path: &CString, argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings
            .iter()
            .map(|s| s.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both vectors end with a null pointer, and they and the strings they point to live until
    // the call returns or this program is gone.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Closes every descriptor from 3 on but those in `keep`. For the child of a [`clone_process`]: it owns
/// copies of all that the parent had open, and must not keep a peer from seeing the parent's end.
pub fn close_all_but(keep: &[BorrowedFd<'_>]) {
    let mut keep: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd() as u32).collect();
    keep.sort_unstable();
    let mut first = 3;
    for kept in keep.into_iter().chain([u32::MAX]) {
        if first < kept {
            // SAFETY: the caller is a fresh child that goes on with nothing but `keep`: whatever else
            // owned a descriptor is a copy of the parent's state, never dropped here (see `exit_now`).
            unsafe { libc::close_range(first, kept - 1, 0) };
        }
        first = kept.saturating_add(1);
    }
}

/// Leaves the session keyring that was inherited for an empty one. A kernel without keyrings has nothing to leave.
pub fn leave_session_keyring() {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: with this operation and a null name the call takes no memory of ours.
    unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    };
}

/// Ends this process at once: no destructors, no exit handlers. For a child of [`clone_process`],
/// whose copies of the parent's state must not be flushed or unwound a second time.
pub fn exit_now(code: u8) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code.into()) }
}
