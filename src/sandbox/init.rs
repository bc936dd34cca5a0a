//! PID 1 of a dyno: starts the command, passes signals on, reaps, and reports how the command ended.
//!
//! It is a fork of the supervisor behind the sandbox's walls, without any capability, and it alone talks to the
//! supervisor. It exits when the command has ended, and the kernel then kills all other processes of the dyno. It also
//! exits when the supervisor is gone. Beside the dyno's own command (number 0) it starts others while that runs, for
//! `dyno run:inside`.
//!
//! Without a PID namespace it is not number 1, and kills the other processes itself.

mod doors;
mod stopped;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal, WaitOptions};

use crate::kernel::fail_point;
use crate::kernel::open_files;
use crate::kernel::sys::process::{Namespaces, Side, clone_process, exec, exit_now};
use crate::kernel::sys::signal::reset_all;
use crate::model::dyno::env::command_of;
use crate::model::dyno::{Exit, TerminalSettings};
use crate::panics::{self, caught};
use crate::pty;
use crate::sandbox::InitContext;
use crate::sandbox::restrict::Gap;
use crate::sandbox::unexecutable;
use crate::wire::command_streams::CommandStreams;
use crate::wire::control::{self, FromInit, Shortage, ToInit};

use self::doors::Doors;
use self::stopped::StopWatch;

/// The size of the command's pipes, in bytes. With less, bulk data waits for wake-ups; with more, it has left the
/// processor's cache before it is read (measured: 64 KiB takes half as long again, 1 MiB a fifth longer). If the kernel
/// refuses (the user has many pipes already), its default size stays.
const PIPE_SIZE: usize = 256 * 1024;

/// The number of the dyno's own command.
pub const MAIN: u32 = 0;

/// A command that runs. It leads a session, so its pid names its process group too.
struct Command {
    id: u32,
    pid: Pid,
    text: Option<ShellText>,
    /// Whether its streams are a terminal.
    on_terminal: bool,
}

type Commands = Vec<Command>;

/// Runs as PID 1 until the dyno's command has ended; the result is init's own exit status. A dyno runs whatever its gaps.
pub fn run(set_up: Result<Vec<Gap>>, control: OwnedFd, context: &InitContext) -> u8 {
    let outcome = set_up.map_err(|error| FromInit::SetUpFailed {
        message: format!("{error:#}"),
    });
    let last = outcome.and_then(|_gaps| {
        let served = caught(|| serve(control.as_fd(), context));
        served.unwrap_or_else(|message| Err(FromInit::Broken { message }))
    });
    if let Err(last_words) = &last {
        let _ = control::send(&control, last_words, &[]);
    }
    let ended = context.processes.end();
    u8::from(last.is_err() || ended.is_err())
}

/// The loop: until the command has ended or the supervisor is gone.
fn serve(control: BorrowedFd<'_>, context: &InitContext) -> Result<(), FromInit> {
    let mut commands = Commands::new();
    let broken = |error: anyhow::Error| FromInit::Broken {
        message: format!("{error:#}"),
    };
    let child_ended = prepare(control).map_err(broken)?;
    // After the supervisor was told that all is ready, since commands have to wait for their client anyway.
    let _gaps = context.restrictions.take();
    panics::point("init ready");
    fail_point::reach("init.ready");
    let (mut watch, mut bus_error) = (StopWatch::default(), false);
    let mut doors = Doors::default();
    loop {
        let on_terminal = commands.iter().filter(|command| command.on_terminal);
        let on_terminal: Vec<_> = on_terminal.map(|it| (it.id, it.pid)).collect();
        let pause = watch.pause(&on_terminal, Instant::now());
        let mut sources = vec![
            PollFd::from_borrowed_fd(control, PollFlags::IN),
            PollFd::new(&child_ended, PollFlags::IN),
        ];
        let all = doors.all().iter();
        sources.extend(all.map(|door| PollFd::new(door, PollFlags::IN)));
        let pause = pause.and_then(|pause| Timespec::try_from(pause).ok());
        match rustix::event::poll(&mut sources, pause.as_ref()) {
            Err(Errno::INTR) => continue,
            other => other.map_err(|error| broken(error.into()))?,
        };
        for id in watch.look(&on_terminal, Instant::now()) {
            let _ = control::send(control, &FromInit::Stopped { id }, &[]);
        }
        let (supervisor_spoke, child_ended_now) = (
            !sources[0].revents().is_empty(),
            !sources[1].revents().is_empty(),
        );
        let spoke = |place: &usize| !sources[2 + place].revents().is_empty();
        let knocked: Vec<usize> = (0..sources.len() - 2).filter(spoke).collect();
        drop(sources);
        if !knocked.is_empty() {
            doors.answer(&knocked);
        }
        if child_ended_now {
            drain(&child_ended);
            panics::point("init reap");
            let reaped = reap(&mut commands);
            let ended = reaped.ended;
            if !ended.is_empty() {
                fail_point::reach("init.reaped");
            }
            bus_error |= reaped.bus_error;
            for id in reaped.stopped {
                let _ = control::send(control, &FromInit::Stopped { id }, &[]);
            }
            // Once the dyno's own command has ended, nothing else matters.
            let over = ended.iter().any(|(command, _)| command.id == MAIN);
            for (Command { id, text, .. }, status) in ended {
                let cause = text.and_then(|text| text.cause(status, &context.folder));
                let shared_memory = shortage(bus_error);
                let exited = FromInit::Exited {
                    id,
                    status,
                    cause,
                    shared_memory,
                };
                let _ = control::send(control, &exited, &[]);
                fail_point::reach("init.told");
            }
            if over {
                return Ok(());
            }
        }
        if supervisor_spoke {
            match control::receive::<ToInit>(control) {
                Ok(None) => return Ok(()),
                Ok(Some((
                    ToInit::Exec {
                        id,
                        program,
                        args,
                        env,
                        streams,
                        settings,
                        open_files,
                    },
                    _,
                ))) => {
                    let streams = (streams, settings.as_ref());
                    let said = match start(&program, &args, &env, streams, context, open_files) {
                        Ok(started) => {
                            let text = ShellText::of(&args, &env);
                            let pid = started.pid;
                            let on_terminal = matches!(streams.0, CommandStreams::Terminal(_));
                            commands.push(Command {
                                id,
                                pid,
                                text,
                                on_terminal,
                            });
                            fail_point::reach("init.forked");
                            let fds: Vec<_> = started.ours.iter().map(AsFd::as_fd).collect();
                            control::send(control, &FromInit::Started { id }, &fds)
                        }
                        Err(error) => {
                            let message = format!("{error:#}");
                            let failed = FromInit::ExecFailed { id, message };
                            if id == MAIN {
                                return Err(failed);
                            }
                            control::send(control, &failed, &[])
                        }
                    };
                    said.map_err(|error| broken(error.into()))?;
                    panics::point("init started");
                    // From here on this process only waits.
                    crate::kernel::sys::memory::rest();
                }
                Ok(Some((ToInit::Signal { signal }, _))) => {
                    let _ = context.processes.signal(signal);
                    if [Signal::HUP, Signal::TERM]
                        .map(Signal::as_raw)
                        .contains(&signal)
                    {
                        let _ = context.processes.signal(Signal::CONT.as_raw());
                    }
                }
                Ok(Some((ToInit::OpenDoor, fds))) => fds.into_iter().for_each(|it| doors.open(it)),
                Ok(Some((ToInit::FindSocket { inode }, _))) => {
                    let ours = context.processes.has_socket(inode);
                    let _ = control::send(control, &FromInit::Socket { inode, ours }, &[]);
                }
                Ok(Some((ToInit::FindSockets { mut inodes }, _))) => {
                    inodes.retain(|inode| context.processes.has_socket(*inode));
                    let _ = control::send(control, &FromInit::Sockets { ours: inodes }, &[]);
                }
                Ok(Some((ToInit::HangUp { id }, _))) => {
                    signal_command(&commands, id, Signal::HUP);
                    signal_command(&commands, id, Signal::CONT);
                }
                Ok(Some((ToInit::Interrupt { id }, _))) => {
                    signal_command(&commands, id, Signal::INT);
                }
                Ok(Some((ToInit::Continue { id }, _))) => {
                    watch.goes_on(id);
                    signal_command(&commands, id, Signal::CONT);
                }
                Ok(Some((ToInit::WatchForStop { id }, _))) => {
                    watch.typed(id, Instant::now());
                }
                Err(error) => return Err(broken(error.into())),
            }
        }
    }
}

/// What is remembered of a command, to explain why it could not be executed.
struct ShellText {
    command: String,
    path: Option<String>,
}

impl ShellText {
    fn of(args: &[String], env: &[(String, String)]) -> Option<Self> {
        let (command, has_profile) = command_of(args)?;
        let mut env = env.iter();
        let path = env
            .find(|(name, _)| name == "PATH")
            .filter(|_| !has_profile);
        Some(Self {
            command: command.to_owned(),
            path: path.map(|(_, path)| path.clone()),
        })
    }

    /// What is wrong with a program that the command names, if that explains its exit.
    fn cause(&self, exit: Exit, folder: &Path) -> Option<String> {
        let Exit::Status(status) = exit else {
            return None;
        };
        let run = unexecutable::ExecutedCommand {
            command: &self.command,
            path: self.path.as_deref(),
            folder,
        };
        unexecutable::cause(run, status, unexecutable::look)
    }
}

/// Signals the process group of one command, if that runs still.
fn signal_command(commands: &Commands, id: u32, signal: Signal) {
    // It has not been reaped, so no other process can have its pid.
    if let Some(command) = commands.iter().find(|command| command.id == id) {
        let _ = rustix::process::kill_process_group(command.pid, signal);
    }
}

/// Closes all of the supervisor's descriptors but the control socket and the dyno's lock. The returned stream is
/// readable when a child has ended.
fn prepare(control: BorrowedFd<'_>) -> Result<UnixStream> {
    let (reader, writer) = UnixStream::pair()?;
    reader.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGCHLD, writer)?;
    crate::kernel::sys::title::set("dyno: init");
    control::send(control, &FromInit::Ready, &[]).context("the supervisor is gone")?;
    Ok(reader)
}

fn drain(stream: &UnixStream) {
    let mut buffer = [0u8; 64];
    while let Ok(64) = rustix::io::read(stream, &mut buffer) {}
}

/// What [`reap`] found.
#[derive(Default)]
struct Reaped {
    /// Commands that have ended, and how.
    ended: Vec<(Command, Exit)>,
    /// The numbers of commands that have stopped.
    stopped: Vec<u32>,
    /// Whether a child, or an orphan that PID 1 adopted, died of SIGBUS.
    bus_error: bool,
}

/// Reaps every child that has ended.
fn reap(commands: &mut Commands) -> Reaped {
    let mut reaped = Reaped::default();
    let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
    while let Ok(Some((pid, status))) = rustix::process::wait(options) {
        if status.stopped() {
            let command = commands.iter().find(|command| command.pid == pid);
            reaped.stopped.extend(command.map(|command| command.id));
            continue;
        }
        let exit = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Status(code as u8),
            (None, Some(signal)) => Exit::Signal(signal as u8),
            (None, None) => continue,
        };
        reaped.bus_error |= exit.code() == BUS_ERROR;
        if let Some(index) = commands.iter().position(|command| command.pid == pid) {
            reaped.ended.push((commands.swap_remove(index), exit));
        }
    }
    reaped
}

/// The exit code of a process that died of SIGBUS, and of a shell whose last command did.
const BUS_ERROR: u8 = 128 + 7;

/// Whether shared memory was too small, as far as can be known: a program that writes to it when it is full dies of
/// SIGBUS, and its parent often exits with that status.
fn shortage(bus_error: bool) -> Option<Shortage> {
    let full = rustix::fs::statvfs("/dev/shm").is_ok_and(|it| it.f_blocks > 0 && it.f_bavail == 0);
    match (bus_error, full) {
        (true, _) => Some(Shortage::BusError),
        (false, true) => Some(Shortage::Full),
        (false, false) => None,
    }
}

struct Started {
    pid: Pid,
    /// The ends for the client: the master, or stdin, stdout and stderr.
    ours: Vec<OwnedFd>,
}

/// The descriptors that become 0, 1 and 2 of the command.
enum Theirs {
    Terminal(OwnedFd),
    Three([OwnedFd; 3]),
    Unchanged,
}

fn start(
    program: &Path,
    args: &[String],
    env: &[(String, String)],
    streams: (CommandStreams, Option<&TerminalSettings>),
    context: &InitContext,
    open_files: Option<u64>,
) -> Result<Started> {
    let text = |s: &str| CString::new(s).context("NUL in the command or its environment");
    let path = text(&program.to_string_lossy())?;
    let argv = std::iter::once(program.to_string_lossy().as_ref())
        .chain(args.iter().map(String::as_str))
        .map(text)
        .collect::<Result<Vec<_>>>()?;
    let env = env
        .iter()
        .map(|(name, value)| text(&format!("{name}={value}")))
        .collect::<Result<Vec<_>>>()?;
    let (ours, theirs) = open(streams).context("cannot make the command's streams")?;
    // Closed by a successful exec; else it carries the error.
    let (outcome, report) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    match clone_process(Namespaces::NONE).context("cannot start a process")? {
        Side::Child => {
            drop(outcome);
            // A panic must not unwind beyond here, into the code of PID 1.
            let error = caught(|| match enter(&theirs, context, open_files) {
                Ok(()) => exec(&path, &argv, &env),
                Err(error) => error,
            });
            let errno = error
                .ok()
                .and_then(|error| error.raw_os_error())
                .unwrap_or(0);
            let _ = rustix::io::write(&report, &errno.to_ne_bytes());
            exit_now(127)
        }
        Side::Parent { pid, .. } => {
            drop((report, theirs));
            let mut errno = [0u8; 4];
            match rustix::io::retry_on_intr(|| rustix::io::read(&outcome, &mut errno[..])) {
                Ok(0) => Ok(Started { pid, ours }),
                Ok(_) if errno == [0; 4] => {
                    let program = program.display();
                    Err(anyhow::anyhow!(
                        "a panic in the process that was to become `{program}`"
                    ))
                }
                Ok(_) => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))
                    .with_context(|| cannot_execute(program)),
                Err(error) => Err(error).context("cannot tell whether the command started"),
            }
        }
    }
}

fn cannot_execute(program: &Path) -> String {
    let program = program.display();
    match program.to_string().as_str() {
        // The shell where there is no bash.
        "/bin/sh" => "cannot execute `/bin/sh` (commands take a shell: bash or sh)".to_owned(),
        program => format!("cannot execute `{program}`"),
    }
}

fn open(
    (streams, settings): (CommandStreams, Option<&TerminalSettings>),
) -> Result<(Vec<OwnedFd>, Theirs)> {
    let pipe = |size: Option<usize>| -> Result<(OwnedFd, OwnedFd)> {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        if let Some(size) = size {
            let _ = rustix::pipe::fcntl_setpipe_size(&reader, size);
        }
        Ok((reader, writer))
    };
    match streams {
        CommandStreams::Terminal(size) => {
            let pair = pty::open(size)?;
            // Settings that the terminal refuses do not matter.
            let _ = settings.map(|settings| pty::set(&pair.slave, settings));
            Ok((vec![pair.master], Theirs::Terminal(pair.slave)))
        }
        CommandStreams::Pipes => {
            let (stdin, our_stdin) = pipe(Some(PIPE_SIZE))?;
            let (our_stdout, stdout) = pipe(Some(PIPE_SIZE))?;
            let (our_stderr, stderr) = pipe(None)?;
            Ok((
                vec![our_stdin, our_stdout, our_stderr],
                Theirs::Three([stdin, stdout, stderr]),
            ))
        }
        CommandStreams::Merged => {
            let (stdin, our_stdin) = pipe(Some(PIPE_SIZE))?;
            let (ours, stdout) = pipe(Some(PIPE_SIZE))?;
            let stderr = rustix::io::fcntl_dupfd_cloexec(&stdout, 0)?;
            Ok((
                vec![our_stdin, ours],
                Theirs::Three([stdin, stdout, stderr]),
            ))
        }
        CommandStreams::Output | CommandStreams::OutputAndOpenInput => {
            let stdin = match streams {
                CommandStreams::OutputAndOpenInput => {
                    let (stdin, open) = pipe(None)?;
                    // Never closed: this process lives as long as the command.
                    let _ = open.into_raw_fd();
                    stdin
                }
                _ => {
                    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                    rustix::fs::open("/dev/null", flags, Mode::empty())?
                }
            };
            let (ours, stdout) = pipe(Some(PIPE_SIZE))?;
            let stderr = rustix::io::fcntl_dupfd_cloexec(&stdout, 0)?;
            Ok((vec![ours], Theirs::Three([stdin, stdout, stderr])))
        }
        CommandStreams::Inherited => Ok((Vec::new(), Theirs::Unchanged)),
    }
}

/// Prepares the command's process for exec: a session and terminal of its own, its streams, its folder, its limits, and
/// default signal handling.
fn enter(theirs: &Theirs, context: &InitContext, open_files: Option<u64>) -> io::Result<()> {
    panics::point("init enter");
    let set = |[stdin, stdout, stderr]: [&OwnedFd; 3]| -> io::Result<()> {
        rustix::stdio::dup2_stdin(stdin)?;
        rustix::stdio::dup2_stdout(stdout)?;
        Ok(rustix::stdio::dup2_stderr(stderr)?)
    };
    match theirs {
        Theirs::Terminal(slave) => {
            rustix::process::setsid()?;
            rustix::process::ioctl_tiocsctty(slave)?;
            set([slave; 3])?;
        }
        Theirs::Three([stdin, stdout, stderr]) => {
            rustix::process::setsid()?;
            set([stdin, stdout, stderr])?;
        }
        Theirs::Unchanged => {}
    }
    rustix::process::chdir(&context.folder)?;
    context.restrictions.limit()?;
    // Last, since it may be lower than the number of open descriptors.
    if let Some(limit) = open_files {
        open_files::set_soft_limit(limit)?;
    }
    reset_all();
    Ok(())
}
