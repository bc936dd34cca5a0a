//! What this host has that can forbid a sandbox: its container, filter, limits, security module, kernel and disk.

use std::fs;
use std::path::Path;

/// The file system type of an overlay (statfs(2)).
const OVERLAYFS: u64 = 0x794c_7630;

/// The file system type of a memory file system.
const TMPFS: u64 = 0x0102_1994;

/// The namespaces that a dyno needs: the file in `/proc/self/ns` and the kernel's build option of each.
const KINDS: &[(&str, &str)] = &[
    ("user", "CONFIG_USER_NS"),
    ("mnt", "CONFIG_NAMESPACES"),
    ("pid", "CONFIG_PID_NS"),
    ("ipc", "CONFIG_IPC_NS"),
    ("uts", "CONFIG_UTS_NS"),
    ("cgroup", "CONFIG_CGROUPS"),
];

/// What this host has that can forbid a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The kind of container that this process is in: `docker`, `podman`, `lxc`.
    pub container: Option<String>,
    /// The root is a chroot.
    pub chroot: bool,
    /// This process has a filter of system calls (seccomp).
    pub filtered: bool,
    /// This process has CAP_SYS_ADMIN.
    pub privileged: bool,
    /// The build option of a namespace that the kernel lacks.
    pub built_without: Option<&'static str>,
    /// The limits on namespaces that are 0, by their sysctl names.
    pub zeros: Vec<String>,
    /// `user.max_user_namespaces`.
    pub limit: Option<u64>,
    /// `kernel.unprivileged_userns_clone` is 0 (Debian's, and Arch's hardened kernel).
    pub only_root: bool,
    /// `kernel.apparmor_restrict_unprivileged_userns` is 1 (Ubuntu 23.10 and newer).
    pub apparmor: bool,
    /// The state folder is on an overlay, which cannot hold another overlay's upper layer.
    pub state_on_overlay: bool,
    /// The state folder is on a memory file system.
    pub state_on_tmpfs: bool,
    /// The kernel's major and minor version.
    pub kernel: (u32, u32),
}

impl Facts {
    /// Looks at this host, with the state folder at `state`.
    pub fn gather(state: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let is = |path: &str, value: &str| text(path).trim() == value;
        let kinds = KINDS.iter().map(|(kind, _)| kind);
        let limits = kinds.map(|kind| format!("max_{kind}_namespaces"));
        let zero = |limit: &String| is(&format!("/proc/sys/user/{limit}"), "0");
        let status = text("/proc/self/status");
        let file_system = rustix::fs::statfs(state).map(|disk| disk.f_type as u64);
        Self {
            container: container(),
            chroot: is_chroot(&text("/proc/self/mountinfo")),
            filtered: field(&status, "Seccomp:") == Some("2"),
            privileged: has_admin(&status),
            built_without: KINDS
                .iter()
                .find(|(kind, _)| !Path::new("/proc/self/ns").join(kind).exists())
                .map(|(_, option)| *option),
            zeros: limits
                .filter(zero)
                .map(|limit| format!("user.{limit}"))
                .collect(),
            limit: text("/proc/sys/user/max_user_namespaces")
                .trim()
                .parse()
                .ok(),
            only_root: is("/proc/sys/kernel/unprivileged_userns_clone", "0"),
            apparmor: is(
                "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
                "1",
            ),
            state_on_overlay: file_system == Ok(OVERLAYFS),
            state_on_tmpfs: file_system == Ok(TMPFS),
            kernel: kernel(),
        }
    }

    /// `in this container (docker)`, or `on this host`.
    pub(super) fn place(&self) -> String {
        match &self.container {
            Some(kind) => format!("in this container ({kind})"),
            None => "on this host".to_owned(),
        }
    }
}

fn container() -> Option<String> {
    let there = |path: &str| Path::new(path).exists();
    if there("/.dockerenv") {
        return Some("docker".to_owned());
    }
    if there("/run/.containerenv") {
        return Some("podman".to_owned());
    }
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        return Some("kubernetes".to_owned());
    }
    let first = fs::read("/proc/1/environ").unwrap_or_default();
    let of_first = first
        .split(|byte| *byte == 0)
        .find_map(|variable| variable.strip_prefix(b"container="));
    let of_first = of_first.map(|kind| String::from_utf8_lossy(kind).into_owned());
    of_first
        .or_else(|| fs::read_to_string("/run/systemd/container").ok())
        .map(|kind| kind.trim().to_owned())
        .filter(|kind| !kind.is_empty() && kind.len() < 32)
}

/// Whether the root is no mount point, by `mountinfo`.
fn is_chroot(mountinfo: &str) -> bool {
    !mountinfo.is_empty() && !mount_points(mountinfo).any(|point| point == "/")
}

/// The mounts over parts of `/proc`: with these, the kernel refuses a user namespace its own `/proc`.
pub fn covered_parts(mountinfo: &str) -> Vec<&str> {
    mount_points(mountinfo)
        .filter(|point| point.starts_with("/proc/"))
        // A mount on an empty folder, which hides nothing.
        .filter(|point| *point != "/proc/sys/fs/binfmt_misc")
        .collect()
}

fn mount_points(mountinfo: &str) -> impl Iterator<Item = &str> {
    mountinfo.lines().filter_map(|line| line.split(' ').nth(4))
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
}

fn has_admin(status: &str) -> bool {
    const ADMIN: u64 = 1 << 21;
    let effective = field(status, "CapEff:").and_then(|mask| u64::from_str_radix(mask, 16).ok());
    effective.is_some_and(|mask| mask & ADMIN != 0)
}

/// The major and minor version of the kernel that runs.
pub fn kernel() -> (u32, u32) {
    version(&rustix::system::uname().release().to_string_lossy())
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(u32::MAX);
    (next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_shows_is_read() {
        let mounts = "22 1 0:21 / / rw - ext4 /dev/vda rw\n\
             23 22 0:22 / /proc rw - proc proc rw\n\
             24 23 0:23 / /proc/sys/fs/binfmt_misc rw - autofs none rw\n\
             25 23 0:24 / /proc/kcore rw - tmpfs tmpfs rw\n";
        assert!(!is_chroot(mounts));
        assert!(is_chroot("23 22 0:22 / /proc rw - proc proc rw\n"));
        assert!(!is_chroot(""));
        assert_eq!(covered_parts(mounts), ["/proc/kcore"]);
        assert_eq!(version("5.10.0-28-cloud-amd64"), (5, 10));
        assert_eq!(version("6.18.44-fc"), (6, 18));
        assert_eq!(version("odd"), (u32::MAX, u32::MAX));
        assert!(has_admin("CapEff:\t000001ffffffffff\n"));
        assert!(!has_admin("CapEff:\t00000000a80425fb\n"));
        assert!(!has_admin(""));
    }
}
