//! How a supervisor begins: it makes itself independent of the server that started it, waits for a dyno's spec on its
//! standard output, and says why if there is to be no dyno.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags};

use super::Supervisor;
use super::folder::write_record;
use super::prepared::Prepared;
use super::session::ClientSession;
use crate::kernel::fail_point;
use crate::kernel::open_files;
use crate::kernel::sys::signal::{Signal, ignore};
use crate::kernel::wait;
use crate::model::dyno::life::start_failed;
use crate::panics::{self, caught_or};
use crate::sandbox::restrict;
use crate::wire::control::{self, DynoSpec, ToSupervisor};
use crate::wire::frame::{AttachRefusal, Frame};

/// The process title of a supervisor that has no dyno yet.
pub const WAITING: &str = "dyno: waits for a dyno";

/// The largest spec, in bytes: more than the bounds of its parts together.
const MAX_SPEC: u64 = 4 * 1024 * 1024;

/// The soft limit on a supervisor's descriptors: all that it may have. It needs some for itself, two for each command inside, some for
/// servers, two for each connection to what the dyno reaches, one for each name that it asks for; but by this limit the kernel also says
/// whether it may pass one on while processes of its user have many under way.
const OPEN_FILES: u64 = u64::MAX;

/// `dyno __supervise`: standard output is a SEQPACKET socket to the server, on which the spec comes first. Returns when
/// the dyno is over.
pub fn run() -> Result<()> {
    // A session of its own, so that signals of the server's terminal do not reach it.
    let _ = rustix::process::setsid();
    crate::kernel::sys::title::set(WAITING);
    rustix::process::chdir("/")?;
    open_files::set_soft_limit(OPEN_FILES)?;
    // A file size limit is to be an error, like a full disk, instead of a signal.
    ignore(Signal::XFSZ);
    let server = take_standard_output().context("not started by a server")?;
    restrict::prepare();
    let mut prepared = None;
    // Held as long as the dyno lives.
    let mut claims = Vec::new();
    let (spec, lock) = loop {
        match control::receive(&server)? {
            Some((ToSupervisor::Begin, fds)) => break take_spec(fds, &mut claims)?,
            Some((ToSupervisor::Prepare, fds)) => {
                let (spec, lock) = take_spec(fds, &mut claims)?;
                fail_point::works_for(&spec.id);
                // Without it the dyno's sandbox is made when it begins, and its client is told what is wrong.
                prepared = caught_or(|| Prepared::make(&spec, lock)).ok();
            }
            // The server has ended, and sent no dyno.
            _ => {
                if let Some(prepared) = prepared {
                    prepared.dissolve();
                }
                return Ok(());
            }
        }
    };
    crate::kernel::sys::title::set(&format!("dyno: {} of {}", spec.name, spec.app));
    fail_point::works_for(&spec.id);
    fail_point::reach("supervisor.begun");
    let prepared = prepared.and_then(|prepared: Prepared| prepared.begin(&spec));
    let folder = spec.folder.clone();
    let patience = spec.rules.attached.then_some(spec.rules.attach_timeout);
    let clients = server.try_clone()?;
    let began = caught_or(|| {
        panics::point("supervisor begin");
        Supervisor::new(spec, lock, server, prepared)
    });
    // Without a log and a socket, the failure is told in the exit record, which the server logs, and to the client.
    let supervisor = began.inspect_err(|error| {
        let message = format!("{error:#}");
        let _ = write_record(&folder, &start_failed(message.clone()));
        if let Some(patience) = patience {
            refuse_client(&clients, message, patience);
        }
    })?;
    drop(clients);
    supervisor.run();
    Ok(())
}

/// Waits for the dyno's client and tells it why there is no dyno.
fn refuse_client(server: &OwnedFd, message: String, patience: Duration) {
    let deadline = Instant::now() + patience;
    loop {
        let Ok(Some(_)) = wait::until(server, PollFlags::IN, Some(deadline)) else {
            return;
        };
        match control::receive::<ToSupervisor>(server) {
            Ok(Some((ToSupervisor::Attach { .. }, fds))) => {
                for mut session in fds.into_iter().flat_map(ClientSession::begin) {
                    let _ = session.tell(&Frame::Error(AttachRefusal::new(message.clone())), &[]);
                }
                return;
            }
            Ok(Some((ToSupervisor::Stop { .. }, _))) | Ok(None) | Err(_) => return,
            Ok(Some(_)) => {}
        }
    }
}

/// Takes the socket to the server off descriptor 1, where a program of the dyno could find it.
fn take_standard_output() -> Result<OwnedFd> {
    let server = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(server)
}

/// Reads the spec from the server's file in memory, with the lock of its folder; the other descriptors that came along are claims.
fn take_spec(fds: Vec<OwnedFd>, claims: &mut Vec<OwnedFd>) -> Result<(DynoSpec, OwnedFd)> {
    let mut fds = fds.into_iter();
    let (Some(spec), Some(lock)) = (fds.next(), fds.next()) else {
        bail!("no spec came along, or no lock");
    };
    let (mut file, mut json) = (File::from(spec), Vec::new());
    file.rewind()?;
    file.take(MAX_SPEC).read_to_end(&mut json)?;
    claims.extend(fds);
    let spec = serde_json::from_slice(&json).context("cannot read the dyno's spec")?;
    Ok((spec, lock))
}
