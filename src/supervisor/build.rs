//! Builds a dyno's sandbox, with namespaces or in a folder of its own.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::process::Pid;

use super::folder::{SCRATCH, TRACKED};
use super::memory;
use crate::kernel::cgroup::Group;
use crate::kernel::fail_point;
use crate::model::dyno::Isolation;
use crate::sandbox::init;
use crate::sandbox::plan::{HostIds, LiveOwnership, NetworkPlan, Ownership, SandboxPlan};
use crate::sandbox::restrict::Restrictions;
use crate::sandbox::stack::{AppTree, DynoTree, Stack, make_scratch};
use crate::sandbox::tempdir::{self, AppFolder, Confinement};
use crate::sandbox::tracked::Tracker;
use crate::sandbox::{InitContext, Launched, SandboxProcesses, launch};
use crate::wire::control::{DynoSpec, LiveTree};

/// Makes the dyno's folders and its sandbox, whose init is in the dyno's control group, if it has one; init reports when the
/// inside is ready. Init keeps `lock` as long as it lives.
///
/// # Errors
/// When the host does not allow it.
pub(super) fn build(
    spec: &DynoSpec,
    stack: &Stack,
    lock: &OwnedFd,
) -> Result<(Launched, Option<Group>)> {
    let mut group = None;
    let mut enter = |init| {
        group = memory::enter_group(spec, init);
        group.is_some()
    };
    let launched = match spec.isolation {
        Isolation::Namespaces => behind_walls(spec, stack, lock, enter),
        Isolation::Tempdir => in_a_folder(spec, lock).inspect(|launched| {
            enter(launched.pid);
        }),
    };
    match launched {
        Ok(launched) => Ok((launched, group)),
        Err(error) => {
            if let Some(group) = group {
                let _ = group.remove();
            }
            Err(error)
        }
    }
}

/// The app's folder, as a path inside.
pub(super) fn app_folder(spec: &DynoSpec) -> PathBuf {
    match spec.isolation {
        Isolation::Namespaces => "/app".into(),
        Isolation::Tempdir if spec.live.is_some() => spec.tree.clone(),
        Isolation::Tempdir => tempdir::app_folder(&spec.folder.join(SCRATCH)),
    }
}

/// What init keeps open of all that the supervisor has open.
fn kept(lock: &OwnedFd) -> Vec<BorrowedFd<'_>> {
    [lock.as_fd()]
        .into_iter()
        .chain(fail_point::kept())
        .collect()
}

fn behind_walls(
    spec: &DynoSpec,
    stack: &Stack,
    lock: &OwnedFd,
    enter: impl FnOnce(Pid) -> bool,
) -> Result<Launched> {
    let scratch = spec.folder.join(SCRATCH);
    make_scratch(&scratch, spec.privileged.then_some(spec.owner))
        .context("cannot make the dyno's folders")?;
    let plan = plan(spec, stack, &scratch)?;
    let context = InitContext {
        folder: app_folder(spec),
        processes: SandboxProcesses::Namespace,
        restrictions: restrictions(spec),
    };
    launch::launch(&plan, &kept(lock), enter, |set_up, control| {
        init::run(set_up, control, &context)
    })
}

/// What is under the dyno.
pub(super) fn stack(spec: &DynoSpec) -> Stack {
    Stack {
        names: (spec.network.as_ref()).is_some_and(|it| it.outbound.is_some()),
        ..Stack::host()
    }
}

/// What the inside of the dyno is to look like. What it writes goes into `scratch`.
///
/// # Errors
/// When the stack cannot be read.
pub(super) fn plan(spec: &DynoSpec, stack: &Stack, scratch: &Path) -> Result<SandboxPlan> {
    let (uid, gid) = spec.owner;
    let tree = DynoTree {
        app: match &spec.live {
            Some(LiveTree {
                of_root,
                places,
                layer,
                ..
            }) => AppTree::Live {
                places,
                layer: layer.as_deref(),
                ownership: match *of_root && spec.privileged {
                    true => LiveOwnership::MappedFromRoot,
                    false => LiveOwnership::Same,
                },
            },
            None => AppTree::Slug {
                tree: &spec.tree,
                path: spec.app_path.as_deref(),
                ownership: match spec.id_mapped {
                    true => Ownership::IdMapped,
                    false => Ownership::Same,
                },
            },
        },
        scratch,
        hostname: &spec.id,
        hidden: &spec.hidden,
        toolchains: &spec.toolchains,
        groups: spec.groups.as_ref(),
        shared_memory: spec.shared_memory,
        temporary: spec.temporary,
    };
    Ok(SandboxPlan {
        owner: HostIds {
            uid,
            gid,
            privileged: spec.privileged,
        },
        hostname: spec.id.clone(),
        network: spec.network.as_ref().map(NetworkPlan::from),
        steps: stack.steps(&tree).context("cannot read the stack")?,
    })
}

pub(super) fn restrictions(spec: &DynoSpec) -> Restrictions {
    Restrictions {
        processes: spec.processes,
        port: spec.only_port,
    }
}

fn in_a_folder(spec: &DynoSpec, lock: &OwnedFd) -> Result<Launched> {
    let tracker = Tracker::new(&spec.id, spec.owner.0);
    File::create(spec.folder.join(TRACKED)).context("cannot make the dyno's folders")?;
    let scratch = spec.folder.join(SCRATCH);
    let own = rustix::process::geteuid().as_raw();
    let confinement = Confinement {
        app: match spec.live {
            Some(_) => AppFolder::Live(&spec.tree),
            None => AppFolder::Copy(&spec.tree),
        },
        folder: &scratch,
        owner: (spec.owner.0 != own).then_some(spec.owner),
    };
    let context = InitContext {
        folder: app_folder(spec),
        processes: SandboxProcesses::Tracked(tracker.clone()),
        restrictions: restrictions(spec),
    };
    tempdir::launch(&confinement, &tracker, &kept(lock), |set_up, control| {
        init::run(set_up, control, &context)
    })
}
