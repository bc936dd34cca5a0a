//! Processes: clone into namespaces, exec, descriptors that survive it, and an exit without destructors.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use rustix::process::Pid;

const SYS_CLONE3: libc::c_long = 435;

/// The new namespaces that a process is started in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespaces(u64);

impl Namespaces {
    /// No new namespace: a plain fork.
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
    /// Network interfaces, addresses and routes.
    pub const NETWORK: Self = Self(libc::CLONE_NEWNET as u64);
    /// The view of the cgroup tree.
    pub const CGROUP: Self = Self(libc::CLONE_NEWCGROUP as u64);

    /// The namespaces of both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Which side of a [`clone_process`] this is.
#[derive(Debug)]
pub enum Side {
    /// The new process.
    Child,
    /// The caller, with the child's pid and pidfd.
    Parent {
        /// The child's pid in the caller's PID namespace; valid for `/proc/PID` until the child is reaped.
        pid: Pid,
        /// The child's pidfd: readable when it has ended.
        pidfd: OwnedFd,
    },
}

/// Forks into new namespaces.
///
/// Only for a process with a single thread, which is checked: the child of a process with more may use nothing that
/// allocates or locks, which no caller here could promise.
///
/// Where a container's filter of system calls refuses `clone3`, `clone` is tried, and then `fork`.
///
/// # Errors
/// [`CloneRefusal`] says which call was refused last, and whether `clone3` was there at all.
pub fn clone_process(namespaces: Namespaces) -> Result<Side, CloneRefusal> {
    if !has_one_thread().map_err(CloneRefusal::of_ours)? {
        let why = io::Error::other("only a process with one thread may be cloned");
        return Err(CloneRefusal::of_ours(why));
    }
    let mut refused = None;
    for call in [Call::Clone3, Call::Clone, Call::Fork] {
        if call == Call::Fork && namespaces != Namespaces::NONE {
            break;
        }
        match call.perform(namespaces) {
            Ok(side) => return Ok(side),
            Err(error) => {
                let clone3_filtered = match refused {
                    None => error.raw_os_error() == Some(libc::ENOSYS),
                    Some(CloneRefusal {
                        clone3_filtered, ..
                    }) => clone3_filtered,
                };
                let may_be_filtered = is_filtered(&error);
                refused = Some(CloneRefusal {
                    error,
                    clone3_filtered,
                });
                if !may_be_filtered {
                    break;
                }
            }
        }
    }
    Err(refused.unwrap_or_else(|| CloneRefusal::of_ours(io::Error::other("no call was tried"))))
}

fn has_one_thread() -> io::Result<bool> {
    // Two links of its own (`.` and its name) and one for each thread's folder; not every kernel in user space counts them.
    let tasks = std::path::Path::new("/proc/self/task");
    Ok(tasks.metadata()?.nlink() == 3 || tasks.read_dir()?.count() == 1)
}

/// Why no process could be made.
#[derive(Debug)]
pub struct CloneRefusal {
    /// The error of the last call that was tried.
    pub error: io::Error,
    /// `clone3` failed as if it did not exist. All kernels that dyno supports have it (Linux 5.3), so a filter of
    /// system calls answered.
    pub clone3_filtered: bool,
}

impl CloneRefusal {
    fn of_ours(error: io::Error) -> Self {
        Self {
            error,
            clone3_filtered: false,
        }
    }
}

impl std::fmt::Display for CloneRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for CloneRefusal {}

/// Whether a filter of system calls may be behind this: Docker's answers `clone3` with ENOSYS, so that a C library
/// takes `clone`, and others refuse with EPERM or EACCES what they do not know.
fn is_filtered(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOSYS | libc::EPERM | libc::EACCES)
    )
}

/// The ways to make a process, the newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    /// Linux 5.3.
    Clone3,
    /// With a pidfd, Linux 5.2.
    Clone,
    /// `fork`, and the child's pidfd by `pidfd_open` (Linux 5.3): safe, since the child keeps its pid until it is reaped.
    Fork,
}

impl Call {
    fn perform(self, namespaces: Namespaces) -> io::Result<Side> {
        let mut pidfd: libc::c_int = -1;
        let flags = namespaces.0 | libc::CLONE_PIDFD as u64;
        // SAFETY, for all three: no CLONE_VM, so the child has a copy of this memory and stack, as after fork(2); the
        // process has one thread (checked by the caller), so no lock can be held by a thread that the child lacks.
        let pid = match self {
            Self::Clone3 => {
                // SAFETY: clone_args is plain data, for which all zeroes means "nothing asked for".
                let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
                args.flags = flags;
                args.pidfd = (&raw mut pidfd) as u64;
                args.exit_signal = libc::SIGCHLD as u64;
                let size = size_of::<libc::clone_args>();
                // SAFETY: as above; the kernel reads `size` bytes of `args` and writes one int to `pidfd`.
                unsafe { libc::syscall(SYS_CLONE3, &raw const args, size) }
            }
            Self::Clone => {
                let flags = (flags | libc::SIGCHLD as u64) as libc::c_ulong;
                let (stack, unused) = (0 as libc::c_ulong, 0 as libc::c_ulong);
                #[cfg(target_arch = "s390x")]
                let (flags, stack) = (stack, flags);
                // SAFETY: as above, with no stack of its own, as for fork(2); CLONE_PIDFD has the kernel write one int where
                // the parent's number would go.
                unsafe {
                    libc::syscall(
                        libc::SYS_clone,
                        flags,
                        stack,
                        &raw mut pidfd,
                        unused,
                        unused,
                    )
                }
            }
            // SAFETY: as above.
            Self::Fork => libc::c_long::from(unsafe { libc::fork() }),
        };
        match pid {
            -1 => Err(io::Error::last_os_error()),
            0 => Ok(Side::Child),
            pid => {
                let pid = Pid::from_raw(pid as i32).ok_or_else(|| io::Error::other("pid 0"))?;
                let pidfd = match self {
                    // SAFETY: the call succeeded with CLONE_PIDFD, so `pidfd` is an open descriptor that nothing else
                    // owns. It is close-on-exec by definition.
                    Self::Clone3 | Self::Clone => unsafe { OwnedFd::from_raw_fd(pidfd) },
                    Self::Fork => name_child(pid)?,
                };
                Ok(Side::Parent { pid, pidfd })
            }
        }
    }
}

/// The pidfd of a child that was forked. If there is none, the child, which could not be waited for, is killed.
fn name_child(pid: Pid) -> io::Result<OwnedFd> {
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).map_err(|error| {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
        error.into()
    })
}

/// Executes another program in this process; returns only if that failed.
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
            if unsafe { libc::close_range(first, kept - 1, 0) } != 0 {
                close_one_by_one(first, kept - 1);
            }
        }
        first = kept.saturating_add(1);
    }
}

/// Closes the descriptors from `first` to `last` one by one, where `close_range` (Linux 5.9) is refused.
fn close_one_by_one(first: u32, last: u32) {
    let open: Vec<u32> = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for number in open
        .into_iter()
        .filter(|number| (first..=last).contains(number))
    {
        // SAFETY: as for the whole range. One of them was that of the folder, which is closed already and only gives an error.
        unsafe { libc::close(number as libc::c_int) };
    }
}

/// The `count` descriptors from 3 on that a service manager has passed to this process (sd_listen_fds(3)). Numbers that
/// are not open are left out. To be called once, before this process has opened any descriptor.
pub fn take_passed_fds(count: usize) -> Vec<OwnedFd> {
    let last = 3 + i32::try_from(count).unwrap_or(0).min(1024);
    let is_open = |fd: &i32| {
        // SAFETY: F_GETFD takes no memory, whatever the number.
        unsafe { libc::fcntl(*fd, libc::F_GETFD) != -1 }
    };
    let open = (3..last).filter(is_open);
    // SAFETY: they are open, and were handed to this process as its own: nothing else here knows of them.
    open.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}

/// Replaces the inherited session keyring of this process by an empty one. Does nothing on a kernel without keyrings.
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

/// Moves this process into new namespaces. A new network has a loopback interface that is off, and nothing else; a new view of
/// the cgroup tree begins with the groups that the process is in.
///
/// # Errors
/// When the kernel has none of a kind, the caller lacks CAP_SYS_ADMIN, or a filter refuses it.
pub fn enter_namespaces(namespaces: Namespaces) -> io::Result<()> {
    // SAFETY: it takes no memory; sockets that are open stay in the namespace that they were made in.
    match unsafe { libc::unshare(namespaces.0 as libc::c_int) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Ends this process at once: no destructors, no exit handlers. For a child of [`clone_process`],
/// whose copies of the parent's state must not be flushed or unwound a second time.
pub fn exit_now(code: u8) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code.into()) }
}
