//! `mount_setattr(2)`: flags and id mappings of whole mount trees (Linux 5.12).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// The same number on every architecture, as for all calls since Linux 5.1.
const SYS_MOUNT_SETATTR: libc::c_long = 442;

/// Mount attributes, as the kernel's `MOUNT_ATTR_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes(u64);

impl Attributes {
    /// Nothing on the mount can be written.
    pub const READ_ONLY: Self = Self(0x1);
    /// Set-user-ID and file capabilities are ignored.
    pub const NO_SUID: Self = Self(0x2);
    /// Device nodes cannot be opened.
    pub const NO_DEVICES: Self = Self(0x4);
    /// Programs cannot be executed.
    pub const NO_EXEC: Self = Self(0x8);
    const ID_MAPPED: Self = Self(0x0010_0000);

    /// The attributes of both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// `struct mount_attr` of <linux/mount.h>, the first published size.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Adds `attributes` to the mount that `mount` is the root of, and to all mounts below it when
/// `recursive`. Attributes are only ever added: clearing one that a user namespace's owner did not set
/// is refused by the kernel.
pub fn add_attributes(mount: impl AsFd, attributes: Attributes, recursive: bool) -> io::Result<()> {
    let attr = MountAttr {
        attr_set: attributes.0,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    set(mount.as_fd(), attr, recursive)
}

/// Maps the owners of files on the detached mount `mount` by the mapping of the user namespace
/// `user_namespace` (Linux 5.12; as an overlay's lower layer 5.19). Needs privilege over the file
/// system, which an ordinary user does not have.
pub fn map_ids(mount: impl AsFd, user_namespace: BorrowedFd<'_>) -> io::Result<()> {
    let attr = MountAttr {
        attr_set: Attributes::ID_MAPPED.0,
        attr_clr: 0,
        propagation: 0,
        userns_fd: user_namespace.as_raw_fd() as u64,
    };
    set(mount.as_fd(), attr, true)
}

fn set(mount: BorrowedFd<'_>, attr: MountAttr, recursive: bool) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let empty: &CStr = c"";
    // SAFETY: the descriptor is borrowed for the call, the path is a NUL-terminated string, and the
    // kernel reads exactly `size_of::<MountAttr>()` bytes of `attr`.
    let result = unsafe {
        libc::syscall(
            SYS_MOUNT_SETATTR,
            mount.as_raw_fd(),
            empty.as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
