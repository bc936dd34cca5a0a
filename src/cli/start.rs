//! `dyno start`: runs this folder's Procfile in the foreground, in a short-lived app of its own.
//!
//! Threads: one holds the app's connection (`start/hold.rs`), one reads the app's log and shows it (`start/screen.rs`),
//! one packs and releases the folder if a copy is wanted, and this one waits for signals and for events of the
//! processes in the log (`start/watch.rs`). So Ctrl-C works even if the output blocks, or a large slug is being packed.
//! All that this command knows of the processes comes from the log, which continues across restarts of the server.

mod hold;
mod quantities;
mod screen;
mod variables;
mod watch;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use crossbeam_channel::{Receiver, Sender};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::address;
use super::context::{Context, app_path, current_folder, folder};
use super::deploy::procfile::{process_types, without_release_phase};
use super::deploy::release::{Purpose, from_folder};
use super::deploy::toolchains::{left_out, own_toolchains};
use super::logs::follow;
use super::notices::tell_isolation;
use super::target::Target;
use crate::api::app::App;
use crate::api::dyno::Stopping;
use crate::api::formation::{Formation, ScaleFormation};
use crate::api::logs::LogQuery;
use crate::api::session::{CreateSession, Live, Session, StopSession, fixed_port};
use crate::cli::client::Client;
use crate::cli::client::patience::END;
use crate::error::{UserError, shown, tell, tell_part};
use crate::kernel::sys::signal::unless_ignored;
use crate::model::formation::{Update, parse_amount};
use crate::model::log_line;
use crate::model::release::ProcessTypes;
use crate::slug::{Elsewhere, procfile_elsewhere};
use screen::{Form, Screen, told};
use watch::{Change, Failure, Watch};

/// A second signal within this time counts as the first one, which came twice.
const SAME_SIGNAL: Duration = Duration::from_millis(300);

/// With `--exit-on-crash`: a process that fails within this time after another has ended counts as failed, since their
/// order is chance.
const TOGETHER: Duration = Duration::from_secs(1);

/// How long to wait for the last lines of the log once no process runs any more.
const LAST_LINES: Duration = Duration::from_secs(3);

const EXAMPLES: &str = "\
$ dyno start                      one of each process type, Ctrl-C ends them
$ dyno start web                  only web
$ dyno start -m all=1,worker=2    two workers

In another terminal, in this folder: `dyno ps`, `dyno ps:restart web.1`, `dyno run bash`, `dyno logs`.";

/// Run this folder's Procfile here, to work on it
///
/// The processes run in dynos of a short-lived app, with the folder itself at /app: changes are seen at once. As long as it
/// runs, the folder means that app; afterwards what it meant before. Variables are read from `.env`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Start {
    /// How many of each process type: `web=1,worker=2`; `all` are those not named
    #[arg(short = 'm', long, value_name = "TYPE=N,…")]
    formation: Option<String>,
    /// Only these process types
    #[arg(value_name = "PROCESS")]
    processes: Vec<String>,
    /// Read variables from this file instead of .env; may be repeated
    #[arg(short, long, value_name = "FILE", value_delimiter = ',')]
    env: Vec<PathBuf>,
    /// The first port; each process type has a hundred [default: PORT of .env, or 5000]
    #[arg(short, long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Run a copy of the folder, packed as `dyno deploy` does
    #[arg(long)]
    slug: bool,
    /// When one process ends, end all, and exit with its status
    #[arg(long)]
    exit_on_crash: bool,
}

/// An event of another thread for the main thread.
enum Event {
    Signal(i32, Instant),
    /// The copy was released, or could not be.
    Released(Result<()>),
    /// A process has crashed.
    Crashed(Failure),
    /// The log has ended, or cannot be shown.
    LogEnded(Result<()>),
    /// The app was destroyed, or cannot be held any more.
    HoldEnded(Result<()>),
}

impl Start {
    /// Runs until a signal, or, with `--exit-on-crash`, until a process ends. Returns 0 if no process failed, else the
    /// status of the one that did.
    ///
    /// # Errors
    /// When the app cannot be started, or with the status of the process that failed.
    pub fn perform(self, mut context: Context) -> Result<u8> {
        let root = current_folder()?;
        let types = procfile(&root)?;
        let formation = quantities::quantities(&types, self.formation.as_deref(), &self.processes)?;
        let (env, port) = variables::read(&root, &self.env, self.port)?;
        let port_may_move = port.is_none();
        let (sender, events) = crossbeam_channel::unbounded();
        pass_signals_on(sender.clone())?;
        let found = own_toolchains(Some(&root));
        for warning in left_out(&found, &types) {
            tell!("warning: {warning}");
        }
        let mut request = CreateSession {
            id: None,
            folder: folder(&root)?,
            env,
            port: port.unwrap_or(variables::FIRST_PORT),
            port_may_move,
            stopping: false,
            once: self.exit_on_crash,
            order: types.iter().map(|(name, _)| name.to_owned()).collect(),
            formation,
            live: (!self.slug).then(|| Live {
                process_types: without_release_phase(&types),
                toolchains: found.toolchains,
            }),
        };
        let (hold, session) = hold::begin(&mut context, &request)?;
        tell_isolation(&context);
        if let Some(why) = &session.moved {
            let (port, first) = (session.port, request.port);
            tell!("{why}: the first port is {port} instead of {first} (`-p` says another)");
            request.port = port;
        }
        if request.formation.get("web").is_some_and(|count| *count > 0) {
            address::tell_of(&context, &session.app);
        }
        request.id = Some(session.id.clone());
        let running = Running::begin(context, session, &request, &self, sender.clone())?;
        spawn("hold", sender.clone(), {
            let (mut context, mut request) = (of_app(&running.session)?, request.clone());
            let stopping = Arc::clone(&running.stopping);
            move || Event::HoldEnded(hold::keep(hold, &mut context, &mut request, &stopping))
        })?;
        if self.slug {
            let (mut context, app) = (of_app(&running.session)?, running.session.app.clone());
            spawn("release", sender, move || {
                Event::Released(release(&mut context, &app, &root, &request.formation))
            })?;
        }
        running.until_end(&events)
    }
}

/// The beginning of the error for a folder without a Procfile.
const NONE: &str = "no Procfile";

/// The process types of the folder.
fn procfile(root: &Path) -> Result<ProcessTypes> {
    let types = process_types(root)?;
    if types.len() > 0 {
        return Ok(types);
    }
    let what = match root.join("Procfile").exists() {
        true => "the Procfile has no process types",
        false => NONE,
    };
    let error = UserError::new(format!("{what} in `{}`", root.display()));
    let elsewhere = procfile_elsewhere(root).filter(|_| what == NONE);
    Err(error
        .hint(match elsewhere {
            Some(Elsewhere::Named(name)) => {
                let name = shown(name.as_bytes(), 60);
                format!("there is a `{name}`: rename it, the name is `Procfile`")
            }
            Some(Elsewhere::Below(folder)) => {
                let folder = shown(folder.as_os_str().as_encoded_bytes(), 200);
                format!("there is one in `{folder}`: -C goes there")
            }
            None => {
                "a line of it is like `web: ./server -p $PORT`; -C goes to another folder".into()
            }
        })
        .into())
}

/// A context for another thread, for requests about the app.
fn of_app(session: &Session) -> Result<Context> {
    Context::new(Target {
        tls_ca: None,
        app: Some(session.app.id.clone()),
        directory: Vec::new(),
    })
}

fn spawn(
    name: &str,
    sender: Sender<Event>,
    work: impl FnOnce() -> Event + Send + 'static,
) -> io::Result<()> {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(move || drop(sender.send(work()))).map(drop)
}

/// Deploys the folder to the app and scales it.
fn release(
    context: &mut Context,
    app: &App,
    root: &Path,
    formation: &BTreeMap<String, u32>,
) -> Result<()> {
    from_folder(context, &app.name, root, Purpose::Start)?;
    let update = |(which, quantity): (&String, &u32)| {
        Ok(Update {
            which: which.clone(),
            amount: Some(parse_amount(&quantity.to_string())?),
            size: None,
        })
    };
    let request = ScaleFormation {
        updates: formation.iter().map(update).collect::<Result<_>>()?,
    };
    let target = app_path(&app.id, "/formation");
    let _: Vec<Formation> = context.client()?.patch(&target, &request)?;
    Ok(())
}

/// Passes the signals that end the command on as events. A signal that was ignored from the start, as by `nohup`, stays
/// ignored.
fn pass_signals_on(sender: Sender<Event>) -> io::Result<()> {
    let mut signals = Signals::new(unless_ignored([SIGINT, SIGTERM, SIGHUP]))?;
    let pass_on = move || {
        for signal in signals.forever() {
            if sender.send(Event::Signal(signal, Instant::now())).is_err() {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(pass_on)
        .map(drop)
}

/// The state of the running app in the main thread.
struct Running {
    context: Context,
    session: Session,
    screen: Screen,
    watch: Arc<Mutex<Watch>>,
    /// Whether the app is to end, for the thread that holds it.
    stopping: Arc<AtomicBool>,
    /// Whether the folder is being packed and released, and standard error has the beginning of the progress line.
    releasing: bool,
    /// Whether the log has ended.
    log_ended: bool,
    exit_on_crash: bool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Running {
    /// Starts the thread that reads and shows the log.
    fn begin(
        context: Context,
        session: Session,
        request: &CreateSession,
        start: &Start,
        sender: Sender<Event>,
    ) -> Result<Self> {
        let names: Vec<String> = request
            .order
            .iter()
            .flat_map(|name| {
                let quantity = request.formation.get(name).copied().unwrap_or(0);
                (1..=quantity).map(move |number| format!("{name}.{number}"))
            })
            .collect();
        let watch = Arc::new(Mutex::new(Watch::default()));
        let screen = |form| Screen::new(form, names.clone(), TimeZone::system());
        let log = Log {
            screen: screen(Form::of(rustix::stdio::stdout())),
            watch: Arc::clone(&watch),
            sender: sender.clone(),
            order: request.order.clone(),
            port: request.port,
            again: !start.exit_on_crash,
        };
        let (mut log_context, app) = (of_app(&session)?, session.app.clone());
        spawn("log", sender, move || {
            Event::LogEnded(log.read(&mut log_context, &app.id, &app.name))
        })?;
        Ok(Self {
            context,
            session,
            screen: screen(Form::Plain),
            watch,
            stopping: Arc::default(),
            releasing: start.slug,
            log_ended: false,
            exit_on_crash: start.exit_on_crash,
        })
    }

    /// Waits for an event that ends the app, and ends it.
    fn until_end(mut self, events: &Receiver<Event>) -> Result<u8> {
        let (mut crashed, mut asked_at) = (None, None);
        let mut until = None;
        let outcome = loop {
            let event = match until {
                None => events.recv().context("no event can come any more")?,
                Some(until) => match events.recv_deadline(until) {
                    Ok(event) => event,
                    Err(_) => break Ok(()),
                },
            };
            match event {
                Event::Signal(_, at) => {
                    asked_at = Some(at);
                    break Ok(());
                }
                // The app ends with this command's connection.
                Event::Released(released) => {
                    released?;
                    self.releasing = false;
                }
                Event::Crashed(failure) if self.exit_on_crash => {
                    self.tell(&format!("{} {}", failure.name, failure.how()));
                    let has_failed = failure.code() != 0;
                    crashed = Some(failure);
                    if has_failed {
                        break Ok(());
                    }
                    until.get_or_insert_with(|| Instant::now() + TOGETHER);
                }
                Event::Crashed(_) => {}
                // The app was destroyed by another command, so there is nothing more to do.
                Event::HoldEnded(Ok(())) => {
                    let message = format!("the app `{}` was destroyed", self.session.app.name);
                    let hint = "another command did so while `dyno start` ran: start it again";
                    return Err(UserError::new(message).hint(hint).into());
                }
                Event::HoldEnded(Err(error)) => return Err(error),
                Event::LogEnded(ended) => {
                    self.log_ended = true;
                    break ended;
                }
            }
        };
        self.end(events, asked_at.unwrap_or_else(Instant::now))?;
        outcome?;
        let failure = locked(&self.watch).failure().cloned();
        match crashed.filter(|it| it.code() != 0).or(failure) {
            Some(failure) => {
                let message = format!("`{}` {}", failure.name, failure.how());
                Err(UserError::new(message).exit_code(failure.code()).into())
            }
            _ => Ok(0),
        }
    }

    /// Ends the app, as asked at `asked_at`. Returns when processes, app and log have ended.
    fn end(&mut self, events: &Receiver<Event>, asked_at: Instant) -> Result<()> {
        locked(&self.watch).stop();
        self.stopping.store(true, Ordering::Relaxed);
        if self.releasing {
            tell!("");
        }
        self.tell("sending SIGTERM to all processes");
        self.stop(false)?;
        let mut killed = false;
        let (mut gone, mut log_ended) = (false, self.log_ended);
        while !gone {
            match events.recv().context("no event can come any more")? {
                Event::Signal(SIGINT | SIGTERM, at) if !killed && at - asked_at > SAME_SIGNAL => {
                    killed = true;
                    locked(&self.watch).kill();
                    self.tell("sending SIGKILL to all processes");
                    self.stop(true)?;
                }
                Event::Signal(..) | Event::Crashed(_) | Event::Released(_) => {}
                Event::LogEnded(_) => log_ended = true,
                // An app that cannot be held any more has been given up, and ends, too.
                Event::HoldEnded(_) => gone = true,
            }
        }
        let until = Instant::now() + LAST_LINES;
        while !log_ended {
            match events.recv_deadline(until) {
                Ok(event) => log_ended = matches!(event, Event::LogEnded(_)),
                // The output cannot be written.
                Err(_) => break,
            }
        }
        Ok(())
    }

    fn stop(&mut self, kill: bool) -> Result<()> {
        let target = format!("/sessions/{}/actions/stop", self.session.id);
        // If the app is gone already, nothing is to be done.
        let _: Option<Stopping> = self.ask(|client| client.post(&target, &StopSession { kill }))?;
        Ok(())
    }

    /// Sends a request, across restarts of the server. None if the server answers that the resource is gone.
    fn ask<T>(&mut self, question: impl Fn(&mut Client) -> Result<T>) -> Result<Option<T>> {
        let mut tries = END.tries();
        self.context
            .again(&mut tries, |client| match question(client) {
                Err(error) if error.is::<UserError>() => Ok(None),
                answer => answer.map(Some),
            })
    }

    /// Prints a line of this command itself, beside the log.
    fn tell(&self, text: &str) {
        tell_part!("{}", self.screen.own(Timestamp::now(), text));
    }
}

/// The state of the thread that reads the log.
struct Log {
    screen: Screen,
    watch: Arc<Mutex<Watch>>,
    sender: Sender<Event>,
    order: Vec<String>,
    port: u16,
    again: bool,
}

impl Log {
    /// Shows the log until the app is destroyed.
    fn read(mut self, context: &mut Context, app_id: &str, app: &str) -> Result<()> {
        let query = LogQuery {
            lines: Some(u32::MAX),
            tail: true,
            ..LogQuery::default()
        };
        let mut out = Vec::new();
        follow::read_of(context, app_id, app, query, &mut |lines| {
            out.clear();
            for line in lines.split_inclusive(|byte| *byte == b'\n') {
                self.take(line, &mut out);
            }
            screen::write(&out)
        })
    }

    fn take(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Some(line) = log_line::parse(line) else {
            return;
        };
        let seen = locked(&self.watch).see(&line);
        if let Some((name, Change::Crashed(status))) = &seen {
            let failure = Failure {
                name: name.clone(),
                status: *status,
            };
            let _ = self.sender.send(Event::Crashed(failure));
        }
        let change = seen.as_ref().map(|(_, change)| change);
        let said = told(&line, change, self.port_of(line.process), self.again);
        if line.source == log_line::LogSource::App || said.is_some() {
            self.screen.put(&line, said.as_deref(), out);
        }
    }

    /// The port of a process, if it is fixed.
    fn port_of(&self, process: &[u8]) -> Option<u16> {
        let name: crate::model::dyno::DynoName = str::from_utf8(process).ok()?.parse().ok()?;
        fixed_port(self.port, &self.order, &name)
    }
}
