//! Performs what [`Life`](crate::model::dyno::life::Life) decides, action by action, to the exit record and the end.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Supervisor;
use super::folder::{SCRATCH, TRACKED, write_record};
use super::leftovers;
use crate::error::tell;
use crate::kernel::fail_point;
use crate::kernel::tree::remove_tree;
use crate::model::dyno::life::{Action, Event};
use crate::model::dyno::{DynoState, ExitRecord, Spent};
use crate::model::log_line::{self, LogSource};
use crate::panics;
use crate::sandbox::Launched;
use crate::wire::command_streams::CommandStreams;
use crate::wire::control::{FromSupervisor, ToInit};
use crate::wire::frame::{AttachRefusal, CommandEnd, Frame, Up};

/// How long a dyno is up before its supervisor gives back the memory that only a start and an end need.
const REST: Duration = Duration::from_secs(1);

impl Supervisor {
    pub(super) fn perform(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Log(story) => {
                let (mut line, text) = (Vec::new(), story.to_string());
                let (now, name) = (Timestamp::now(), &self.spec.name);
                log_line::append(&mut line, now, LogSource::Heroku, name, text.as_bytes());
                let _ = self.log.append(&line);
            }
            Action::Report(state) => {
                (self.state, self.since) = (state, Timestamp::now());
                match state {
                    // A dyno that ends at once would have to read it in again.
                    DynoState::Up => {
                        let rest = Instant::now() + REST;
                        self.reactor.set_deadline(self.rest_token, rest);
                    }
                    _ => self.reactor.cancel_deadline(self.rest_token),
                }
                self.report(&self.snapshot());
                if state == DynoState::Up {
                    panics::point("supervisor up");
                }
            }
            Action::StartCommand => {
                let exec = self.exec(
                    &self.spec.shell_command,
                    self.spec.env.clone(),
                    self.spec.streams,
                    self.spec.terminal.settings.clone(),
                );
                let sent = self.tell_init(&exec);
                // If init has ended, its last message or its end will be handled.
                let left = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
                let refused = sent.err().filter(|error| !left.contains(&error.kind()));
                return refused.map(|error| Event::StartFailed {
                    message: error.to_string(),
                });
            }
            Action::HandOver => {
                let fds: Vec<BorrowedFd<'_>> =
                    self.streams.iter().map(|(_, fd)| fd.as_fd()).collect();
                let up = Frame::Up(Up {
                    terminal: self.has_terminal(),
                    one_output: self.spec.streams == CommandStreams::Merged,
                    job_control: self.stops.are_told(),
                    idle_timeout: self.spec.rules.idle_timeout.as_secs_f64(),
                });
                let told = self.session.as_mut()?.tell(&up, &fds);
                fail_point::reach("supervisor.handed_over");
                // The client's copy is now the only one, so that closing it is the end of input.
                self.close_input();
                return told.is_err().then(|| {
                    self.end_session();
                    Event::ClientGone
                });
            }
            Action::TakeOutput => {
                // No process will write to a standard input that no client has got.
                self.close_input();
                let streams = std::mem::take(&mut self.streams)
                    .into_iter()
                    .map(|(_, fd)| fd);
                let drained = self.output.take(streams, &mut self.reactor);
                return drained.then_some(Event::Drained);
            }
            Action::SignalAll(signal) => {
                let _ = self.tell_init(&ToInit::Signal {
                    signal: signal.number(),
                });
            }
            Action::KillAll => {
                if let Some(sandbox) = &self.sandbox {
                    sandbox.kill();
                }
            }
            Action::TellExit(exit, why) => self.tell_client(&Frame::Exit(CommandEnd { exit, why })),
            Action::TellError(message) => {
                let hint = Some(
                    "`dyno doctor` says what this host offers, and how to get more".to_owned(),
                );
                self.tell_client(&Frame::Error(AttachRefusal {
                    hint,
                    ..AttachRefusal::new(message)
                }));
            }
            Action::CloseIdle => {
                let refusal = AttachRefusal::idle(self.spec.rules.idle_timeout.as_secs_f64());
                self.tell_client(&Frame::Error(refusal));
                self.end_session();
            }
            Action::SetDeadline(timer, at) => {
                let token = self.timer_tokens.iter().find(|(known, _)| *known == timer);
                match (token, at) {
                    (Some((_, token)), Some(at)) => {
                        self.reactor.set_deadline(*token, self.began + at);
                    }
                    (Some((_, token)), None) => self.reactor.cancel_deadline(*token),
                    (None, _) => {}
                }
            }
            Action::AwaitPort => self.port.watch(&mut self.reactor),
            Action::Record(record) => self.write_down(&record),
            Action::Finish(record) => self.finish(&record),
        }
        None
    }

    /// Writes the exit record, with the time, once; retried if the disk was full.
    fn write_down(&mut self, record: &ExitRecord) {
        if self.recorded.is_none() {
            let record = ExitRecord {
                at_us: Some(Timestamp::now().as_microsecond()),
                spent: self.spent(),
                ..record.clone()
            };
            let written = fail_point::attempt("supervisor.recording")
                .map_err(Into::into)
                .and_then(|()| write_record(&self.spec.folder, &record));
            match written {
                Ok(()) => {
                    fail_point::reach("supervisor.recorded");
                    self.recorded = Some(record);
                }
                Err(error) => tell!(
                    "{}: cannot write the exit record: {error:#}",
                    self.spec.name
                ),
            }
        }
    }

    /// What the dyno has taken until now.
    fn spent(&self) -> Spent {
        let init = self.sandbox.as_ref().map(|sandbox| sandbox.pid);
        self.memory.spent(init)
    }

    /// Writes the exit record once more, with what the dyno took when all its processes have ended.
    fn write_down_what_it_took(&mut self) {
        let spent = self.spent();
        if let Some(record) = &mut self.recorded
            && record.spent != spent
        {
            record.spent = spent.or(record.spent);
            // On a full disk the one that is there will do.
            let _ = write_record(&self.spec.folder, record);
        }
    }

    /// Ends the dyno: writes the record first, so that it is kept whatever happens next, and then removes the dyno's
    /// files. The server removes the folder with the record.
    pub(super) fn finish(&mut self, record: &ExitRecord) {
        self.finished = true;
        self.write_down(record);
        self.end_session();
        self.inside.end();
        if let Some(mut sandbox) = self.sandbox.take() {
            end(&mut sandbox, &self.spec.name);
        }
        self.write_down_what_it_took();
        self.memory.end(&self.spec, self.servers.is_empty());
        self.way_out = None;
        let _ = leftovers::disconnect(&self.spec.folder);
        let _ = fs::remove_file(self.spec.folder.join(TRACKED));
        let _ = remove_tree(&self.spec.folder.join(SCRATCH));
        fail_point::reach("supervisor.removed");
        // The dyno's own files may have filled the disk.
        self.write_down(record);
        let _ = self.log.append(&[]);
        if self.log.lost() > 0 {
            tell!(
                "{}: {} messages could not be logged",
                self.spec.name,
                self.log.lost()
            );
        }
        let record = self.recorded.take().unwrap_or_else(|| record.clone());
        let dyno = self.spec.id.clone();
        self.report(&FromSupervisor::Ended { dyno, record });
        fail_point::reach("supervisor.told");
    }
}

/// Ends all processes of the sandbox; prints an error if one is left.
pub(super) fn end(sandbox: &mut Launched, name: &str) {
    if let Err(error) = sandbox.end() {
        tell!("{name}: {error}");
    }
}
