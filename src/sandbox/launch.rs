//! Performs a [`SandboxPlan`]: namespaces, the root tree, and no privilege left.
//!
//! [`launch`] runs in the supervisor, which has one thread. Its child goes through these phases, whose
//! order is what makes them possible:
//!
//! 1. wait until the parent has written the id maps;
//! 2. as the launcher's user, which may read private folders: open everything that comes from the host, as detached
//!    mounts with their final flags;
//! 3. become the dyno's user, make an empty root, and unmount the host's;
//! 4. put the pieces in place, by paths that can only mean the new root;
//! 5. set quotas, and give up every capability for good.
//!
//! The new mount API (Linux 5.2, `mount_setattr` 5.12) allows it: with classic bind mounts, phase 4
//! would need the host's tree, and absolute symlinks in the stack would resolve to the host.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount,
    fsopen, mount_change, mount_remount, move_mount, open_tree, unmount,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::network;
use super::plan::{
    HostIds, INNER_ID, LiveOwnership, MountAccess, MountStep, Ownership, SandboxPlan,
};
use super::reasons::{self, Facts};
use super::renew::SandboxNamespaces;
use super::restrict::{self, Gap, quotas};
use super::{Launched, SandboxProcesses};
use crate::error::EXIT_DYNO_FAILED;
use crate::kernel::random;
use crate::kernel::sys::mount::{Attributes, add_attributes, map_ids};
use crate::kernel::sys::process::{
    Namespaces, Side, clone_process, close_all_but, exit_now, leave_session_keyring,
};
use crate::kernel::unix_socket;
use crate::panics::{self, caught, caught_or};

/// Where layers and file contents are kept until they are in place; removed before the dyno runs.
const STAGING: &str = "/.dyno";

/// The most terminals of a dyno: its command's, those of 64 commands inside, and as many of a program that opens some
/// itself, as tmux. All dynos together have the host's `kernel.pty.max`, usually 3,072 of 4,096.
const MOST_TERMINALS: &str = "128";

/// The parent's message that the id maps are written.
const GO: &[u8] = b"go";

/// The parent's message that the id maps are written, with a ready overlay as a descriptor.
const GO_WHOLE: &[u8] = b"go, whole";

const NAMESPACES: Namespaces = Namespaces::USER
    .and(Namespaces::MOUNT)
    .and(Namespaces::PID)
    .and(Namespaces::IPC)
    .and(Namespaces::UTS)
    .and(Namespaces::CGROUP);

/// Starts `inside` as PID 1 of a new sandbox built from `plan`.
///
/// Returns as soon as the child no longer needs the parent. `inside` gets the result of the set-up, must report it over
/// its end of the pair, and returns PID 1's exit status. Of the caller's descriptors the child keeps only 0 to 2 and
/// `keep`. The sandbox is killed when the calling process ends.
///
/// # Errors
/// The plan is invalid, or the kernel refuses the namespaces (the message says which step).
pub fn launch(
    plan: &SandboxPlan,
    keep: &[BorrowedFd<'_>],
    inside: impl FnOnce(Result<Vec<Gap>>, OwnedFd) -> u8,
) -> Result<Launched> {
    plan.validate()?;
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .context("cannot make a control socket")?;
    let network = match &plan.network {
        Some(_) => Some(unix_socket::pair().context("cannot make a socket")?),
        None => None,
    };
    let cloned = clone_process(NAMESPACES).map_err(|refusal| {
        let facts = Facts::gather(Path::new("/"));
        anyhow!(reasons::why(&refusal, &facts))
    });
    match cloned? {
        Side::Child => {
            let (ours_too, network) = network.unzip();
            let kept = keep.iter().copied().chain([theirs.as_fd()]);
            let kept: Vec<_> = kept.chain(network.as_ref().map(AsFd::as_fd)).collect();
            close_all_but(&kept);
            // Closed already: dropping it would close another descriptor that has got its number.
            std::mem::forget((ours, ours_too));
            // A panic must not unwind beyond here: the callers are copies of the parent's, and must not run twice.
            let outcome = caught_or(|| set_up(plan, theirs.as_fd(), network));
            exit_now(caught(|| inside(outcome, theirs)).unwrap_or(EXIT_DYNO_FAILED))
        }
        Side::Parent { pid, pidfd } => {
            drop(theirs);
            let mut launched = Launched::new(pid, pidfd, ours, SandboxProcesses::Namespace);
            launched.network = network.map(|(ours, _)| ours);
            launched.namespaces = SandboxNamespaces::of(pid, plan.owner, &plan.steps).ok();
            if let Err(error) = release(plan, &launched) {
                launched.kill();
                let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
                return Err(error);
            }
            Ok(launched)
        }
    }
}

/// The parent's part: id maps, the id-mapped lower tree, and the message to go on.
fn release(plan: &SandboxPlan, launched: &Launched) -> Result<()> {
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
    let (mut mapped, mut word) = (Vec::new(), GO);
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
                    word = GO_WHOLE;
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
    unix_socket::send(&launched.control, word, &fds)
        .context("the sandbox ended before it was set up")?;
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

/// The child's part, phases 1 to 5.
fn set_up(
    plan: &SandboxPlan,
    control: BorrowedFd<'_>,
    network: Option<OwnedFd>,
) -> Result<Vec<Gap>> {
    let (mapped, whole) = await_release(control)?;
    let mut mapped = mapped.into_iter();
    panics::point("init set-up");

    mount_change(
        "/",
        MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
    )
    .context("cannot make mounts private")?;
    let mut pieces = Vec::with_capacity(plan.steps.len());
    for step in &plan.steps {
        pieces.push(take_hold(step, &mut mapped, whole)?);
    }

    become_owner(plan)?;
    rustix::system::sethostname(plan.hostname.as_bytes()).context("cannot set the host name")?;
    if let (Some(network), Some(supervisor)) = (&plan.network, network) {
        network::enter(network, supervisor.as_fd())?;
    }
    let root = new_root()?;

    rustix::fs::mkdir(STAGING, Mode::from_raw_mode(0o700))
        .context("cannot make the staging folder")?;
    for (step, piece) in plan.steps.iter().zip(pieces) {
        perform(step, piece)
            .with_context(|| format!("cannot set up `{}` in the dyno", step.target().display()))?;
    }
    fs::remove_dir_all(STAGING).context("cannot remove the staging folder")?;
    make_read_only(root).context("cannot make the root read-only")?;
    spread_process_numbers();

    let gaps = quotas::set();
    give_up_privilege().context("cannot give up privilege")?;
    Ok(gaps)
}

/// Waits for the parent's message; returns its descriptors, and whether the overlay is among them.
fn await_release(control: BorrowedFd<'_>) -> Result<(Vec<OwnedFd>, bool)> {
    let (mut word, mut fds) = ([0u8; 2 * GO_WHOLE.len()], Vec::new());
    let length = unix_socket::receive(control, &mut word, &mut fds)
        .context("cannot hear from the supervisor")?;
    match &word[..length] {
        GO => Ok((fds, false)),
        GO_WHOLE => Ok((fds, true)),
        _ => bail!("the supervisor is gone"),
    }
}

/// What a step needs from the host, opened while the host's root is still reachable.
enum Piece {
    /// Nothing.
    Nothing,
    /// A detached mount.
    Mount { mount: OwnedFd, folder: bool },
    /// The layers of an overlay.
    Layers { lower: OwnedFd, scratch: OwnedFd },
}

fn take_hold(
    step: &MountStep,
    mapped: &mut impl Iterator<Item = OwnedFd>,
    whole: bool,
) -> Result<Piece> {
    match step {
        MountStep::Overlay { .. } if whole => Ok(Piece::Mount {
            mount: mapped.next().context("the overlay is missing")?,
            folder: true,
        }),
        MountStep::Bind { source, access, .. } => {
            let mount = detach(source, true)?;
            let attributes = match access {
                MountAccess::ReadOnly => Attributes::READ_ONLY
                    .and(Attributes::NO_SUID)
                    .and(Attributes::NO_DEVICES),
                MountAccess::Writable => Attributes::NO_SUID.and(Attributes::NO_DEVICES),
                // One can write to a device all the same, but not change its times, which are the host's.
                MountAccess::Device => Attributes::READ_ONLY
                    .and(Attributes::NO_SUID)
                    .and(Attributes::NO_EXEC),
            };
            add_attributes(&mount, attributes, true)
                .with_context(|| format!("cannot restrict the mount of `{}`", source.display()))?;
            let folder = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&mount)?.st_mode)
                == rustix::fs::FileType::Directory;
            Ok(Piece::Mount { mount, folder })
        }
        MountStep::Live {
            source, ownership, ..
        } => {
            let mount = match ownership {
                LiveOwnership::MappedFromRoot => mapped.next().context("a live tree is missing")?,
                LiveOwnership::Same => {
                    let mount = detach(source, true)?;
                    let attributes = Attributes::NO_SUID.and(Attributes::NO_DEVICES);
                    add_attributes(&mount, attributes, true).with_context(|| {
                        format!("cannot restrict the mount of `{}`", source.display())
                    })?;
                    mount
                }
            };
            Ok(Piece::Mount {
                mount,
                folder: true,
            })
        }
        // The kernel lets a user namespace mount proc only while another proc is fully visible, so this comes before
        // the host's root is unmounted.
        MountStep::Processes { .. } => {
            let mount = new_file_system("proc", &[], MountAttrFlags::MOUNT_ATTR_NOEXEC)
                .with_context(|| {
                    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
                    match &reasons::covered_parts(&mounts)[..] {
                        [] => "cannot mount /proc".to_owned(),
                        covered => format!(
                            "cannot mount /proc, as parts of the one here are covered ({})",
                            covered.join(", ")
                        ),
                    }
                })?;
            Ok(Piece::Mount {
                mount,
                folder: true,
            })
        }
        MountStep::Overlay {
            lower,
            scratch,
            ownership,
            ..
        } => {
            let lower = match ownership {
                Ownership::Same => detach(lower, false)?,
                Ownership::IdMapped => mapped.next().context("an id-mapped tree is missing")?,
            };
            Ok(Piece::Layers {
                lower,
                scratch: detach(scratch, false)?,
            })
        }
        MountStep::Folder { .. }
        | MountStep::Symlink { .. }
        | MountStep::Again { .. }
        | MountStep::File { .. }
        | MountStep::Memory { .. }
        | MountStep::Terminals { .. } => Ok(Piece::Nothing),
    }
}

/// A private, detached copy of the mount at `source`.
fn detach(source: &Path, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    open_tree(CWD, source, flags).with_context(|| format!("cannot open `{}`", source.display()))
}

/// From here on every file the set-up makes belongs to the dyno's user.
fn become_owner(plan: &SandboxPlan) -> Result<()> {
    if plan.owner.privileged {
        rustix::thread::set_thread_groups(&[]).context("cannot drop supplementary groups")?;
    }
    let (gid, uid) = (Gid::from_raw(INNER_ID), Uid::from_raw(INNER_ID));
    rustix::thread::set_thread_res_gid(gid, gid, gid).context("cannot become the dyno's group")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).context("cannot become the dyno's user")?;
    // The session keyring of the user who started the server may hold passwords and tickets.
    leave_session_keyring();
    // Changing ids clears the parent-death signal, so it can only be set now; a supervisor that died
    // before is seen as the end of the control socket.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("cannot tie the sandbox to its supervisor")?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("cannot make PID 1 private")?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    Ok(())
}

/// Makes an empty memory file system the root and unmounts the host's. Returns the root mount.
fn new_root() -> Result<OwnedFd> {
    let root = memory_file_system(0o755, 4).context("cannot make the root tree")?;
    // Over the host's root itself, the only folder that certainly exists.
    move_mount(&root, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .context("cannot attach the root tree")?;
    rustix::process::fchdir(&root)?;
    // With both names the same, the old root ends up on top of the new one and can be taken off there.
    match rustix::process::pivot_root(".", ".") {
        Ok(()) => {
            unmount(".", UnmountFlags::DETACH).context("cannot let go of the host's root")?;
        }
        // The kernel's initial memory file system cannot be moved away. It stays below the new root, where no path
        // leads: unmounting what covers it would take a capability.
        Err(Errno::INVAL) => rustix::process::chroot(".").context("cannot change root")?,
        Err(error) => return Err(error).context("cannot change root"),
    }
    rustix::process::chdir("/")?;
    Ok(root)
}

/// Makes the root tree read-only. On Linux before 5.12 by a remount, which this namespace may do with its own mount.
fn make_read_only(root: OwnedFd) -> io::Result<()> {
    match add_attributes(&root, Attributes::READ_ONLY, false) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            let same = MountFlags::NOSUID | MountFlags::NODEV;
            Ok(mount_remount(
                "/",
                same | MountFlags::RDONLY | MountFlags::BIND,
                "",
            )?)
        }
        other => other,
    }
}

/// An empty memory file system. A file costs about a kilobyte of the kernel's memory however empty it is, which no size
/// bounds; so there may be as many as pages.
pub(super) fn memory_file_system(mode: u32, megabytes: u32) -> Result<OwnedFd> {
    let mode = format!("{mode:o}");
    let (size, files) = (
        format!("{megabytes}m"),
        (u64::from(megabytes) * 256).to_string(),
    );
    let options = [
        ("mode", OsStr::new(&mode)),
        ("size", OsStr::new(&size)),
        ("nr_inodes", OsStr::new(&files)),
    ];
    new_file_system("tmpfs", &options, MountAttrFlags::empty())
}

pub(super) fn new_file_system(
    kind: &str,
    options: &[(&str, &OsStr)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    // The name that `mount` and `df` show inside.
    fsconfig_set_string(context.as_fd(), "source", kind)?;
    for (key, value) in options {
        if value.is_empty() {
            fsconfig_set_flag(context.as_fd(), *key)?;
        } else {
            fsconfig_set_string(context.as_fd(), *key, *value)
                .with_context(|| format!("{kind} does not take {key}"))?;
        }
    }
    fsconfig_create(context.as_fd())?;
    let attributes =
        attributes | MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        attributes,
    )?)
}

fn perform(step: &MountStep, piece: Piece) -> Result<()> {
    match (step, piece) {
        (MountStep::Folder { target, mode }, _) => make_folder(target, *mode),
        (MountStep::Symlink { target, to }, _) => {
            make_parents(target)?;
            Ok(std::os::unix::fs::symlink(to, target)?)
        }
        (MountStep::Again { of, target }, _) => attach(&detach(of, false)?, target, true),
        (MountStep::File { target, contents }, _) => {
            cover(&Path::new(STAGING).join("file"), target, contents)
        }
        (
            MountStep::Bind { target, .. }
            | MountStep::Processes { target }
            | MountStep::Live { target, .. }
            | MountStep::Overlay { target, .. },
            Piece::Mount { mount, folder },
        ) => attach(&mount, target, folder),
        (
            MountStep::Memory {
                target,
                mode,
                megabytes,
            },
            _,
        ) => attach(&memory_file_system(*mode, *megabytes)?, target, true),
        (MountStep::Terminals { target }, _) => {
            let options = [
                ("ptmxmode", OsStr::new("0666")),
                ("mode", OsStr::new("0620")),
                ("max", OsStr::new(MOST_TERMINALS)),
            ];
            // MOUNT_ATTR_NODEV would make every terminal unusable.
            let context = fsopen("devpts", FsOpenFlags::FSOPEN_CLOEXEC)?;
            for (key, value) in options {
                fsconfig_set_string(context.as_fd(), key, value)?;
            }
            fsconfig_create(context.as_fd())?;
            let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
            let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
            attach(&mount, target, true)
        }
        (MountStep::Overlay { target, .. }, Piece::Layers { lower, scratch }) => {
            overlay(&lower, &scratch, target)
        }
        _ => bail!("no piece was taken for this step"),
    }
}

/// Puts a file at `target`: written to `aside` and bind-mounted, since the file that it covers may be on a read-only mount.
pub(super) fn cover(aside: &Path, target: &Path, contents: &str) -> Result<()> {
    fs::write(aside, contents)?;
    let mount = detach(aside, false)?;
    let attributes = Attributes::READ_ONLY.and(Attributes::NO_SUID);
    add_attributes(&mount, attributes, false)?;
    attach(&mount, target, false)?;
    Ok(fs::remove_file(aside)?)
}

/// Layers are given to overlayfs by fixed paths, so that no character of a real path (`,`, `:`, `\`)
/// can be taken for syntax. The overlay holds its layers itself: afterwards they are out of reach.
fn overlay(lower: &OwnedFd, scratch: &OwnedFd, target: &Path) -> Result<()> {
    let [at_lower, at_scratch] = ["lower", "scratch"].map(|name| Path::new(STAGING).join(name));
    attach(lower, &at_lower, true)?;
    attach(scratch, &at_scratch, true)?;
    let (upper, work) = (at_scratch.join("upper"), at_scratch.join("work"));
    let options = [
        ("lowerdir", at_lower.as_os_str()),
        ("upperdir", upper.as_os_str()),
        ("workdir", work.as_os_str()),
        // A user namespace may not use the trusted.* attributes.
        ("userxattr", OsStr::new("")),
        // The upper layer is deleted with the dyno, so it need not be synced.
        ("volatile", OsStr::new("")),
    ];
    let mount = new_file_system("overlay", &options, MountAttrFlags::empty())
        .context("cannot mount an overlay (its file system must support one)")?;
    attach(&mount, target, true)?;
    unmount(&at_lower, UnmountFlags::DETACH)?;
    unmount(&at_scratch, UnmountFlags::DETACH)?;
    Ok(())
}

/// Attaches a detached mount, and makes the folder or file that it covers if that is missing.
pub(super) fn attach(mount: &OwnedFd, target: &Path, folder: bool) -> Result<()> {
    if folder {
        make_folder(target, 0o755)?;
    } else if !target.try_exists()? {
        make_parents(target)?;
        fs::File::create_new(target)?;
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    Ok(move_mount(mount, "", CWD, target, flags)?)
}

fn make_parents(target: &Path) -> Result<()> {
    target
        .parent()
        .map_or(Ok(()), |parent| make_folder(parent, 0o755))
}

fn make_folder(target: &Path, mode: u32) -> Result<()> {
    if target.is_dir() {
        return Ok(());
    }
    make_parents(target)?;
    fs::create_dir(target)?;
    // Not by mkdir's mode, which the umask would reduce.
    Ok(fs::set_permissions(
        target,
        fs::Permissions::from_mode(mode),
    )?)
}

/// Has the pids of the dyno's processes begin at a random number. Else every dyno's command would have one small pid,
/// and a PID file left behind by an earlier dyno would name a live process. Best effort: a kernel without
/// `CONFIG_CHECKPOINT_RESTORE` has no such file, and counts from 2.
fn spread_process_numbers() {
    let spread = || -> Option<()> {
        let most: u32 = fs::read_to_string("/proc/sys/kernel/pid_max")
            .ok()?
            .trim_end()
            .parse()
            .ok()?;
        let last = last_number(u32::from_ne_bytes(random::bytes().ok()?), most)?;
        fs::write("/proc/sys/kernel/ns_last_pid", last.to_string()).ok()
    };
    let _ = spread();
}

/// The pid before the command's: below `most`, and above the first 300, which the kernel does not reuse.
fn last_number(random: u32, most: u32) -> Option<u32> {
    const KEPT: u32 = 300;
    let count = most.checked_sub(KEPT + 1).filter(|count| *count > 0)?;
    Some(KEPT + random % count)
}

/// Takes all capabilities from this process and all that it will start, with no way to gain one.
fn give_up_privilege() -> rustix::io::Result<()> {
    empty_bounding_set()?;
    give_up_capabilities()
}

/// Empties the bounding set: no program that is executed from now on gains a capability.
///
/// # Errors
/// When the caller lacks the capability for this.
pub(super) fn empty_bounding_set() -> rustix::io::Result<()> {
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        // The kernel says EINVAL for the first number that it does not know.
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Err(Errno::INVAL) => break,
            other => other?,
        }
    }
    Ok(())
}

/// Drops all capabilities of the caller, and sets `no_new_privs`.
pub(super) fn give_up_capabilities() -> rustix::io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::last_number;

    #[test]
    fn a_number_is_one_that_the_kernel_gives() {
        for most in [32_768, 4_194_304] {
            for random in [0, 1, most, u32::MAX] {
                let last = last_number(random, most).unwrap();
                assert!((300..most - 1).contains(&last), "{last} of {most}");
            }
        }
        // A host may have fewer than the kernel keeps.
        for most in [0, 300, 301] {
            assert_eq!(last_number(7, most), None);
        }
    }
}
