//! Landlock: rules that a process takes upon itself and all that it starts, for good. They take no privilege, but `no_new_privs`.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The same numbers on every architecture, as for all calls since Linux 5.1.
const SYS_LANDLOCK_CREATE_RULESET: libc::c_long = 444;
const SYS_LANDLOCK_ADD_RULE: libc::c_long = 445;
const SYS_LANDLOCK_RESTRICT_SELF: libc::c_long = 446;

/// `LANDLOCK_CREATE_RULESET_VERSION` of <linux/landlock.h>, and so on.
const VERSION: libc::c_uint = 1;
const RULE_NET_PORT: libc::c_int = 2;
const ACCESS_NET_BIND_TCP: u64 = 1;
const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;
const SCOPE_SIGNAL: u64 = 2;

/// The version of Landlock that the kernel has: 4 (Linux 6.7) can restrict ports, 6 (Linux 6.12) signals and sockets.
///
/// # Errors
/// ENOSYS where it has none, EOPNOTSUPP where it is switched off.
pub fn landlock_version() -> io::Result<u32> {
    let nothing = std::ptr::null::<RulesetAttr>();
    // SAFETY: with this flag the call takes no memory of ours.
    let result = unsafe { libc::syscall(SYS_LANDLOCK_CREATE_RULESET, nothing, 0usize, VERSION) };
    outcome(result).map(|version| version.try_into().unwrap_or(0))
}

/// `struct landlock_ruleset_attr`, as of version 6. Older kernels take it if what they do not know is 0.
#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

/// `struct landlock_net_port_attr`.
#[repr(C)]
struct PortAttr {
    allowed_access: u64,
    port: u64,
}

/// Rules of Landlock that are not in force yet.
#[derive(Debug)]
pub struct Ruleset(OwnedFd);

impl Ruleset {
    /// Rules by which no TCP port may be bound, if `ports`, and no process and abstract Unix socket of whom is not under the
    /// same rules can be reached, if `others`.
    ///
    /// # Errors
    /// The kernel's version of Landlock does not know them.
    pub fn new(ports: bool, others: bool) -> io::Result<Self> {
        let when = |wanted: bool, flags: u64| if wanted { flags } else { 0 };
        let attr = RulesetAttr {
            handled_access_fs: 0,
            handled_access_net: when(ports, ACCESS_NET_BIND_TCP),
            scoped: when(others, SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL),
        };
        let size = size_of::<RulesetAttr>();
        // SAFETY: the kernel reads `size` bytes of `attr`, which lives until the call returns.
        let result =
            unsafe { libc::syscall(SYS_LANDLOCK_CREATE_RULESET, &raw const attr, size, 0u32) };
        let number = outcome(result)? as libc::c_int;
        // SAFETY: the call succeeded, so this is an open descriptor that nothing else owns; it is close-on-exec by definition.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(number) }))
    }

    /// Lets this port be bound; 0: any that is free, if the kernel chooses it.
    ///
    /// # Errors
    /// The rules are not about ports.
    pub fn allow_port(&self, port: u16) -> io::Result<()> {
        let attr = PortAttr {
            allowed_access: ACCESS_NET_BIND_TCP,
            port: port.into(),
        };
        let fd = self.0.as_raw_fd();
        // SAFETY: the descriptor is borrowed for the call, and the kernel reads a `PortAttr`.
        let result = unsafe {
            libc::syscall(
                SYS_LANDLOCK_ADD_RULE,
                fd,
                RULE_NET_PORT,
                &raw const attr,
                0u32,
            )
        };
        outcome(result).map(drop)
    }

    /// Puts the rules in force for this process, which has one thread.
    ///
    /// # Errors
    /// `no_new_privs` is not set.
    pub fn put_in_force(self) -> io::Result<()> {
        let fd = self.0.as_raw_fd();
        // SAFETY: the descriptor is borrowed for the call, which takes no memory of ours.
        let result = unsafe { libc::syscall(SYS_LANDLOCK_RESTRICT_SELF, fd, 0u32) };
        outcome(result).map(drop)
    }
}

fn outcome(result: libc::c_long) -> io::Result<libc::c_long> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}
