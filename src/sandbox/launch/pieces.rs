//! The steps of a plan: what each needs of the host is taken hold of, and put in place once the root is the dyno's.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
    open_tree, unmount,
};

use crate::kernel::sys::mount::{Attributes, add_attributes};
use crate::sandbox::plan::{LiveOwnership, MountAccess, MountStep, Ownership};
use crate::sandbox::reasons;

/// Where layers and file contents are kept until they are in place; removed before the dyno runs.
pub(super) const STAGING: &str = "/.dyno";

/// The most terminals of a dyno: its command's, those of 64 commands inside, and as many of a program that opens some
/// itself, as tmux. All dynos together have the host's `kernel.pty.max`, usually 3,072 of 4,096.
const MOST_TERMINALS: &str = "128";

/// What a step needs from the host, opened while the host's root is still reachable.
pub(super) enum Piece {
    /// Nothing.
    Nothing,
    /// A detached mount.
    Mount { mount: OwnedFd, folder: bool },
    /// The layers of an overlay.
    Layers { lower: OwnedFd, scratch: OwnedFd },
}

pub(super) fn take_hold(
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
        | MountStep::Group { .. }
        | MountStep::Terminals { .. } => Ok(Piece::Nothing),
    }
}

/// A private, detached copy of the mount at `source`.
pub(super) fn detach(source: &Path, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    open_tree(CWD, source, flags).with_context(|| format!("cannot open `{}`", source.display()))
}

/// An empty memory file system. A file costs about a kilobyte of the kernel's memory however empty it is, which no size
/// bounds; so there may be as many as pages.
pub(in crate::sandbox) fn memory_file_system(mode: u32, megabytes: u32) -> Result<OwnedFd> {
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

pub(super) fn perform(step: &MountStep, piece: Piece) -> Result<()> {
    match (step, piece) {
        (MountStep::Folder { target, mode }, _) => make_folder(target, *mode),
        (MountStep::Symlink { target, to }, _) => {
            make_parents(target)?;
            Ok(std::os::unix::fs::symlink(to, target)?)
        }
        (MountStep::Again { of, target }, _) => attach(&detach(of, false)?, target, true),
        (MountStep::File { target, contents }, _) => {
            Cover::made(Path::new(STAGING).join("file"), contents)?.put(target)
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
        (
            MountStep::Group {
                target,
                controllers,
            },
            _,
        ) => match own_group(controllers) {
            Ok(mount) => attach(&mount, target, true),
            // A program that looks for it is then told nothing, as where there are no groups.
            Err(_) => Ok(()),
        },
        (MountStep::Overlay { target, .. }, Piece::Layers { lower, scratch }) => {
            overlay(&lower, &scratch, target)
        }
        _ => bail!("no piece was taken for this step"),
    }
}

/// The control group of this process, as the whole tree.
fn own_group(controllers: &[&str]) -> Result<OwnedFd> {
    let kind = match controllers {
        [] => "cgroup2",
        _ => "cgroup",
    };
    let options: Vec<_> = controllers
        .iter()
        .map(|controller| (*controller, OsStr::new("")))
        .collect();
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    new_file_system(kind, &options, attributes)
}

/// A file that is to cover another: a mount, since that one may be on a read-only mount.
#[derive(Debug)]
pub(in crate::sandbox) struct Cover {
    mount: OwnedFd,
    /// Where it was made. The kernel puts nothing in place that is deleted already.
    aside: PathBuf,
}

impl Cover {
    /// Makes a file with the `contents`, at the path `aside` until it is put in its place.
    pub(in crate::sandbox) fn made(aside: PathBuf, contents: &str) -> Result<Self> {
        fs::write(&aside, contents)?;
        let mount = detach(&aside, false)?;
        let attributes = Attributes::READ_ONLY.and(Attributes::NO_SUID);
        add_attributes(&mount, attributes, false)?;
        Ok(Self { mount, aside })
    }

    /// Puts it at `target`.
    pub(in crate::sandbox) fn put(self, target: &Path) -> Result<()> {
        let put = attach(&self.mount, target, false);
        fs::remove_file(&self.aside)?;
        put
    }
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
pub(in crate::sandbox) fn attach(mount: &OwnedFd, target: &Path, folder: bool) -> Result<()> {
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

pub(super) fn make_folder(target: &Path, mode: u32) -> Result<()> {
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
