//! `dyno __sandbox DIR COMMAND`: a shell command in a dyno's sandbox with DIR as its slug, without server and
//! supervisor. Hidden; for measuring and debugging the sandbox alone.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::model::dyno::env::DEFAULT_PATH;
use crate::sandbox::init;
use crate::sandbox::init::MAIN;
use crate::sandbox::launch::launch;
use crate::sandbox::plan::{HostIds, Ownership, SandboxPlan};
use crate::sandbox::restrict::Restrictions;
use crate::sandbox::stack::{AppTree, DynoTree, Stack, make_scratch};
use crate::sandbox::{InitContext, SandboxProcesses};
use crate::wire::command_streams::CommandStreams;
use crate::wire::control::{self, FromInit, ToInit};

/// Runs the command and returns its exit code.
pub fn run(args: &[OsString]) -> Result<u8> {
    let [slug, command] = args else {
        bail!("usage: __sandbox DIR COMMAND")
    };
    let (slug, command) = (PathBuf::from(slug), command.to_string_lossy().into_owned());
    let slug = slug
        .canonicalize()
        .with_context(|| format!("no folder `{}`", slug.display()))?;
    let folder = tempfile::tempdir()?;
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    // The dyno cannot change root's own files: it sees them as another user's.
    let owner = match uid.is_root() {
        true => HostIds {
            uid: 65534,
            gid: 65534,
            privileged: true,
        },
        false => HostIds {
            uid: uid.as_raw(),
            gid: gid.as_raw(),
            privileged: false,
        },
    };
    let scratch = folder.path().join("scratch");
    make_scratch(&scratch, owner.privileged.then_some((owner.uid, owner.gid)))?;
    let stack = Stack::host();
    let tree = DynoTree {
        app: AppTree::Slug {
            tree: &slug,
            path: None,
            ownership: Ownership::Same,
        },
        scratch: &scratch,
        hostname: "sandbox",
        hidden: &[],
        toolchains: &[],
        groups: None,
        shared_memory: 64,
        temporary: None,
    };
    let plan = SandboxPlan {
        owner,
        hostname: "sandbox".to_owned(),
        network: None,
        steps: stack.steps(&tree)?,
    };
    let context = InitContext {
        folder: "/app".into(),
        processes: SandboxProcesses::Namespace,
        restrictions: Restrictions::default(),
    };
    let inside = |set_up, control| init::run(set_up, control, &context);
    let launched = launch(&plan, &[], |_| false, inside)?;
    loop {
        match control::receive::<FromInit>(&launched.control)? {
            Some((FromInit::Ready, _)) => {
                let env = [("HOME", "/app"), ("PATH", DEFAULT_PATH)];
                let exec = ToInit::Exec {
                    id: MAIN,
                    program: stack.shell().to_owned(),
                    args: vec!["-c".to_owned(), command.clone()],
                    env: env.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec(),
                    streams: CommandStreams::Inherited,
                    settings: None,
                    open_files: None,
                };
                control::send(&launched.control, &exec, &[])?;
            }
            Some((
                FromInit::Started { .. }
                | FromInit::Stopped { .. }
                | FromInit::Socket { .. }
                | FromInit::Sockets { .. },
                _,
            )) => {}
            Some((FromInit::Exited { status, .. }, _)) => return Ok(status.code()),
            Some((
                FromInit::SetUpFailed { message }
                | FromInit::Broken { message }
                | FromInit::ExecFailed { message, .. },
                _,
            )) => {
                bail!("{message}")
            }
            None => bail!("the sandbox ended without a word"),
        }
    }
}
