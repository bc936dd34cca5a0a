//! Quotas of a dyno's user namespace: how many of some of the kernel's things its processes may have together.
//!
//! Each thing counts for the user that made the user namespace, too, the server's: without quotas one dyno could take
//! all that the user, so each other dyno, may have.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::{Gap, Restriction};

/// The kernel's quotas of the calling process's user namespace.
const QUOTAS: &str = "/proc/sys/user";

/// The host's own limits on watches, for each user.
const OF_THE_HOST: &str = "/proc/sys/fs/inotify";

/// A dyno gets a quarter of the host's limit, but as much as this if the host has it.
const INSTANCES_AT_LEAST: u64 = 16;

/// As much as this of files and folders that are watched, if the host has it: what hosts gave to all before Linux 5.11 went by their memory.
const WATCHES_AT_LEAST: u64 = 8_192;

/// What a dyno's processes may make none of. Without a user namespace of its own, and without privilege in the dyno's, no
/// process can make namespaces of the other kinds either. Their quotas are left alone, since each takes a start some 20 µs
/// (measured).
const USER_NAMESPACES: &str = "max_user_namespaces";

/// Sets the quotas of the calling process's user namespace, which takes CAP_SYS_RESOURCE in it. What exists already stays.
pub fn set() -> Vec<Gap> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let [quotas, host] =
        [QUOTAS, OF_THE_HOST].map(|folder| openat(CWD, folder, flags, Mode::empty()));
    let quotas = match quotas {
        Ok(quotas) => quotas,
        Err(error) => {
            let restrictions = [Restriction::Namespaces, Restriction::Watches];
            return restrictions.map(|it| Gap::new(it, error)).into();
        }
    };
    let share = |name: &str, least: u64| {
        let limit = host.as_ref().ok().and_then(|host| read(host, name));
        share_of(limit.unwrap_or(u64::MAX), least)
    };
    let quotas_of = [
        (USER_NAMESPACES, 0, Restriction::Namespaces),
        (
            "max_inotify_instances",
            share("max_user_instances", INSTANCES_AT_LEAST),
            Restriction::Watches,
        ),
        (
            "max_inotify_watches",
            share("max_user_watches", WATCHES_AT_LEAST),
            Restriction::Watches,
        ),
    ];
    let mut gaps: Vec<Gap> = Vec::new();
    for (name, quota, restriction) in quotas_of {
        // A kernel without the quota has no such thing in a user namespace.
        if let Err(error) = write(&quotas, name, quota)
            && error != Errno::NOENT
            && gaps.iter().all(|gap| gap.restriction != restriction)
        {
            gaps.push(Gap::new(restriction, io::Error::from(error)));
        }
    }
    gaps
}

/// A dyno's share of what the host allows each user.
fn share_of(limit: u64, least: u64) -> u64 {
    // The kernel's quotas are of this size at most.
    let most = i32::MAX as u64;
    (limit / 4).max(least).min(limit).min(most)
}

fn open(folder: &OwnedFd, name: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    openat(folder.as_fd(), name, flags | OFlags::CLOEXEC, Mode::empty())
}

fn read(folder: &OwnedFd, name: &str) -> Option<u64> {
    let mut text = [0u8; 24];
    let file = open(folder, name, OFlags::RDONLY).ok()?;
    let length = rustix::io::read(&file, &mut text).ok()?;
    std::str::from_utf8(&text[..length])
        .ok()?
        .trim_end()
        .parse()
        .ok()
}

fn write(folder: &OwnedFd, name: &str, quota: u64) -> rustix::io::Result<()> {
    let file = open(folder, name, OFlags::WRONLY)?;
    rustix::io::write(&file, quota.to_string().as_bytes()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dyno_has_a_quarter_of_the_watches_but_enough_to_work_with() {
        for (limit, least, share) in [
            (128, 16, 32),
            (1024, 16, 256),
            (40, 16, 16),
            (8, 16, 8),
            (0, 16, 0),
            (192_536, 8_192, 48_134),
            (u64::MAX, 16, i32::MAX as u64),
        ] {
            assert_eq!(share_of(limit, least), share, "{limit}");
        }
    }
}
