//! Performs a [`SandboxPlan`]: namespaces, the root tree, and no privilege left.
//!
//! [`launch`] runs in the supervisor, which has one thread. Its child goes through these phases, whose
//! order is what makes them possible:
//!
//! 1. wait until the parent has written the id maps;
//! 2. as the launcher's user, which may read private folders: open everything that comes from the host, as detached
//!    mounts with their final flags;
//! 3. become the dyno's user, make an empty root, and unmount the host's;
//! 4. put the pieces in place, by paths that can only mean the new root; last the dyno's control group, into which the parent has
//!    put it meanwhile;
//! 5. set quotas, and give up every capability for good.
//!
//! The new mount API (Linux 5.2, `mount_setattr` 5.12) allows it: with classic bind mounts, phase 4
//! would need the host's tree, and absolute symlinks in the stack would resolve to the host.

mod pieces;
mod release;

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use rustix::fs::{CWD, Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags, mount_change, mount_remount,
    move_mount, unmount,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{DumpableBehavior, Pid, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};

pub(super) use self::pieces::{Cover, attach, memory_file_system};
use self::pieces::{Piece, STAGING, perform, take_hold};
use self::release::{await_group, await_release, release};
use super::network;
use super::plan::{INNER_ID, MountStep, SandboxPlan};
use super::reasons::{self, Facts};
use super::renew::SandboxNamespaces;
use super::restrict::{Gap, quotas};
use super::{Launched, SandboxProcesses};
use crate::error::EXIT_DYNO_FAILED;
use crate::kernel::random;
use crate::kernel::sys::mount::{Attributes, add_attributes};
use crate::kernel::sys::process::{
    Namespaces, Side, clone_process, close_all_but, enter_namespaces, exit_now,
    leave_session_keyring,
};
use crate::kernel::unix_socket;
use crate::panics::{self, caught, caught_or};

const NAMESPACES: Namespaces = Namespaces::USER
    .and(Namespaces::MOUNT)
    .and(Namespaces::PID)
    .and(Namespaces::IPC)
    .and(Namespaces::UTS)
    .and(Namespaces::CGROUP);

/// Starts `inside` as PID 1 of a new sandbox built from `plan`.
///
/// Returns as soon as the child no longer needs the parent. `enter` puts the child into a control group and says whether
/// it is in one now; it has started nothing yet. `inside` gets the result of the set-up, must report it over
/// its end of the pair, and returns PID 1's exit status. Of the caller's descriptors the child keeps only 0 to 2 and
/// `keep`. The sandbox is killed when the calling process ends.
///
/// # Errors
/// The plan is invalid, or the kernel refuses the namespaces (the message says which step).
pub fn launch(
    plan: &SandboxPlan,
    keep: &[BorrowedFd<'_>],
    enter: impl FnOnce(Pid) -> bool,
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
            if let Err(error) = release(plan, &launched, enter) {
                launched.kill();
                let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
                return Err(error);
            }
            Ok(launched)
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
    let (of_group, others): (Vec<_>, Vec<_>) = (plan.steps.iter().zip(pieces))
        .partition(|(step, _)| matches!(step, MountStep::Group { .. }));
    let put = |steps: Vec<(&MountStep, Piece)>| {
        steps.into_iter().try_for_each(|(step, piece)| {
            perform(step, piece)
                .with_context(|| format!("cannot set up `{}` in the dyno", step.target().display()))
        })
    };
    put(others)?;
    fs::remove_dir_all(STAGING).context("cannot remove the staging folder")?;
    if await_group(control)? {
        // From here on its group is what the tree of groups begins with.
        enter_namespaces(Namespaces::CGROUP).context("cannot make the view of control groups")?;
        put(of_group)?;
    }
    make_read_only(root).context("cannot make the root read-only")?;
    spread_process_numbers();

    let gaps = quotas::set();
    give_up_privilege().context("cannot give up privilege")?;
    Ok(gaps)
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
