//! What the parent does for a new sandbox before its child may go on, and the message with which it tells.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::Pid;

use super::pieces::{detach, make_folder, new_file_system};
use crate::kernel::sys::mount::{Attributes, add_attributes, map_ids};
use crate::kernel::sys::process::{Namespaces, Side, clone_process, close_all_but, exit_now};
use crate::kernel::unix_socket;
use crate::sandbox::Launched;
use crate::sandbox::plan::{HostIds, INNER_ID, LiveOwnership, MountStep, Ownership, SandboxPlan};
use crate::sandbox::restrict;

/// The parent's message that the id maps are written.
const GO: &[u8] = b"go";

/// The parent's message that the id maps are written, with a ready overlay as a descriptor.
const GO_WHOLE: &[u8] = b"go, whole";

/// The parent's second message: the child is in a control group of its own.
const GROUPED: &[u8] = b"grouped";

/// The other second message: it is in none.
const UNGROUPED: &[u8] = b"no group";

/// The parent's part: id maps, the id-mapped lower tree, and the message to go on.
pub(super) fn release(
    plan: &SandboxPlan,
    launched: &Launched,
    enter: impl FnOnce(Pid) -> bool,
) -> Result<()> {
    let process = format!("/proc/{}", launched.pid.as_raw_nonzero());
    if !plan.owner.privileged {
        fs::write(format!("{process}/setgroups"), "deny").context("cannot deny setgroups")?;
    }
    for (file, outer) in [("uid_map", plan.owner.uid), ("gid_map", plan.owner.gid)] {
        fs::write(
            format!("{process}/{file}"),
            format!("{INNER_ID} {outer} 1\n"),
        )
        .with_context(|| format!("cannot write {file} for host id {outer}"))?;
    }
    restrict::end_first(&process);
    let (mut mapped, mut whole) = (Vec::new(), false);
    for step in &plan.steps {
        if let MountStep::Live {
            source,
            ownership: LiveOwnership::MappedFromRoot,
            ..
        } = step
        {
            mapped.push(map_from_root(source, plan.owner)?);
        } else if let MountStep::Overlay {
            lower,
            scratch,
            ownership,
            ..
        } = step
            && plan.owner.privileged
        {
            let tree = match detach(lower, false) {
                // Root of a container may not be allowed to mount here, while the dyno's own namespace is.
                Err(_) if *ownership == Ownership::Same => continue,
                tree => tree?,
            };
            if *ownership == Ownership::IdMapped {
                let user_namespace = rustix::fs::open(
                    format!("{process}/ns/user"),
                    OFlags::RDONLY | OFlags::CLOEXEC,
                    Mode::empty(),
                )?;
                map_ids(&tree, user_namespace.as_fd())
                    .with_context(|| format!("cannot map the ids of `{}`", lower.display()))?;
            }
            match whole_overlay(&tree, scratch) {
                Ok(overlay) => {
                    whole = true;
                    mapped.push(overlay);
                }
                Err(_) => {
                    renew_work(scratch, plan.owner)
                        .context("cannot make the overlay's folder anew")?;
                    if *ownership == Ownership::IdMapped {
                        mapped.push(tree);
                    }
                }
            }
        }
    }
    let fds: Vec<BorrowedFd<'_>> = mapped.iter().map(AsFd::as_fd).collect();
    let word = if whole { GO_WHOLE } else { GO };
    unix_socket::send(&launched.control, word, &fds)
        .context("the sandbox ended before it was set up")?;
    let word = match enter(launched.pid) {
        true => GROUPED,
        false => UNGROUPED,
    };
    // If the child has ended, its last message says why.
    let _ = unix_socket::send(&launched.control, word, &[]);
    Ok(())
}

/// Mounts an overlay with full semantics: a folder of the slug can be renamed, and hard links stay one file. That takes
/// attributes that only root of the initial user namespace may use, so the parent mounts it and restricts what the dyno
/// may do. Older kernels (6.1) refuse a detached mount as a layer.
fn whole_overlay(lower: &OwnedFd, scratch: &Path) -> Result<OwnedFd> {
    let everyone = fs::read_to_string("/proc/self/uid_map")?;
    if !everyone.split_whitespace().eq(["0", "0", "4294967295"]) {
        bail!("not in the initial user namespace");
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let scratch = rustix::fs::open(scratch, flags, Mode::empty())?;
    // By descriptor number, so that no character of a real path can be taken for syntax.
    let [lower, scratch] = [lower, &scratch].map(|folder| {
        let number = std::os::fd::AsRawFd::as_raw_fd(folder);
        format!("/proc/self/fd/{number}")
    });
    let (upper, work) = (format!("{scratch}/upper"), format!("{scratch}/work"));
    let options = [
        ("lowerdir", OsStr::new(&lower)),
        ("upperdir", OsStr::new(&upper)),
        ("workdir", OsStr::new(&work)),
        ("redirect_dir", OsStr::new("on")),
        ("index", OsStr::new("on")),
        ("volatile", OsStr::new("")),
    ];
    let mount = new_file_system("overlay", &options, MountAttrFlags::empty())?;
    // If the upper layer's file system lacks a feature, the kernel mounts read-only, without an error.
    let state = rustix::fs::fstatvfs(&mount)?;
    if state.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        bail!("it would be read-only");
    }
    Ok(mount)
}

/// Makes an overlay's work folder anew: a failed try leaves marks in it that would make the next overlay read-only.
fn renew_work(scratch: &Path, owner: HostIds) -> Result<()> {
    let work = scratch.join("work");
    crate::kernel::tree::remove_tree(&work)?;
    make_folder(&work, 0o755)?;
    Ok(std::os::unix::fs::chown(
        &work,
        Some(owner.uid),
        Some(owner.gid),
    )?)
}

/// A mount of root's folder that shows root's files as the dyno's. What the dyno may do is restricted here, since the
/// parent makes the mount.
fn map_from_root(folder: &Path, owner: HostIds) -> Result<OwnedFd> {
    let tree = detach(folder, false)?;
    let restricted = Attributes::NO_SUID.and(Attributes::NO_DEVICES);
    add_attributes(&tree, restricted, false)
        .with_context(|| format!("cannot restrict the mount of `{}`", folder.display()))?;
    let ids = ids_of_root_as(owner).context("cannot make a user namespace for a mount")?;
    map_ids(&tree, ids.as_fd())
        .with_context(|| format!("cannot map the ids of `{}`", folder.display()))?;
    Ok(tree)
}

/// A user namespace that no process uses, in which root's ids are mapped to the dyno's host ids.
fn ids_of_root_as(owner: HostIds) -> Result<OwnedFd> {
    // A namespace needs a process to make it; this one waits until it is killed, or the other end of the pair is closed.
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    match clone_process(Namespaces::USER)? {
        Side::Child => {
            close_all_but(&[theirs.as_fd()]);
            std::mem::forget(ours);
            let _ = rustix::io::read(&theirs, &mut [0u8; 1]);
            exit_now(0)
        }
        Side::Parent { pid, .. } => {
            drop(theirs);
            let process = format!("/proc/{}", pid.as_raw_nonzero());
            let map = |file: &str, outer: u32| {
                fs::write(format!("{process}/{file}"), format!("0 {outer} 1\n"))
                    .with_context(|| format!("cannot write {file} for host id {outer}"))
            };
            let namespace = map("uid_map", owner.uid)
                .and_then(|()| map("gid_map", owner.gid))
                .and_then(|()| {
                    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                    let path = format!("{process}/ns/user");
                    Ok(rustix::fs::open(path, flags, Mode::empty())?)
                });
            drop(ours);
            rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())?;
            namespace
        }
    }
}

/// Waits for the parent's message; returns its descriptors, and whether the overlay is among them.
pub(super) fn await_release(control: BorrowedFd<'_>) -> Result<(Vec<OwnedFd>, bool)> {
    let (word, fds) = hear(control)?;
    match &word[..] {
        GO => Ok((fds, false)),
        GO_WHOLE => Ok((fds, true)),
        _ => bail!("the supervisor is gone"),
    }
}

/// Waits for the parent's second message: whether this process is in a control group of its own. To move it there takes the kernel
/// some 10 ms in version 1 (measured), in which the root is built.
pub(super) fn await_group(control: BorrowedFd<'_>) -> Result<bool> {
    match &hear(control)?.0[..] {
        GROUPED => Ok(true),
        UNGROUPED => Ok(false),
        _ => bail!("the supervisor is gone"),
    }
}

fn hear(control: BorrowedFd<'_>) -> Result<(Vec<u8>, Vec<OwnedFd>)> {
    let (mut word, mut fds) = ([0u8; 2 * GO_WHOLE.len()], Vec::new());
    let length = unix_socket::receive(control, &mut word, &mut fds)
        .context("cannot hear from the supervisor")?;
    Ok((word[..length].to_vec(), fds))
}
