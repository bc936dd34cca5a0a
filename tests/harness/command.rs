//! Commands of a host's, between pipes and under a deadline.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{ChildStdin, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::host::Host;
use super::outcome::{Outcome, describe};
use super::process::{Process, signals_are_ignored};
use super::wait::Watched;
use super::{DEADLINE, STARTING};

#[derive(Debug)]
enum Input {
    Nothing,
    Bytes(Vec<u8>),
    Open,
    Given,
}

/// A command of a host's that is about to be started.
#[derive(Debug)]
pub struct Command<'a> {
    host: &'a Host,
    what: String,
    command: std::process::Command,
    input: Input,
    output: bool,
    errors: bool,
    patience: Duration,
}

impl<'a> Command<'a> {
    /// `program ARGS` in `folder`, with the environment of `host` alone.
    pub(super) fn new<S: AsRef<OsStr>>(
        host: &'a Host,
        program: &Path,
        folder: &Path,
        args: &[S],
    ) -> Self {
        let mut command = match signals_are_ignored() {
            false => std::process::Command::new(program),
            true => {
                let mut command = std::process::Command::new("/usr/bin/env");
                command.arg("--default-signal=HUP,INT,QUIT").arg(program);
                command
            }
        };
        command.args(args).current_dir(folder).env_clear();
        command.envs(host.env());
        let words: Vec<_> = args
            .iter()
            .map(|arg| arg.as_ref().to_string_lossy().into_owned())
            .collect();
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        Self {
            host,
            what: format!("{name} {}", words.join(" ")),
            patience: DEADLINE,
            command,
            input: Input::Nothing,
            output: true,
            errors: true,
        }
    }

    /// It may take longer than others, or is to take less.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// With another variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// With these bytes on standard input, then its end.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Input::Bytes(bytes.into());
        self
    }

    /// With a standard input that stays open until [`Running::close_input`].
    pub fn open_input(mut self) -> Self {
        self.input = Input::Open;
        self
    }

    /// With this standard input.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.command.stdin(stdin);
        self.input = Input::Given;
        self
    }

    /// With this standard output; the outcome has none.
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.command.stdout(stdout);
        self.output = false;
        self
    }

    /// With this standard error; the outcome has none.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.command.stderr(stderr);
        self.errors = false;
        self
    }

    /// Starts it.
    pub fn start(mut self) -> Running<'a> {
        match &self.input {
            Input::Nothing => drop(self.command.stdin(Stdio::null())),
            Input::Bytes(_) | Input::Open => drop(self.command.stdin(Stdio::piped())),
            Input::Given => {}
        }
        if self.output {
            self.command.stdout(Stdio::piped());
        }
        if self.errors {
            self.command.stderr(Stdio::piped());
        }
        let spawned = {
            let _starting = STARTING.read().unwrap();
            self.command.spawn()
        };
        let mut child =
            spawned.unwrap_or_else(|error| panic!("cannot start {}: {error}", self.what));
        // It keeps the descriptors that it was given.
        drop(self.command);
        let process = Process::find(child.id().try_into().unwrap()).unwrap();
        let mut input = child.stdin.take();
        if let Input::Bytes(bytes) = self.input {
            let mut input = input.take().unwrap();
            // A command need not read all that it could.
            thread::spawn(move || drop(input.write_all(&bytes)));
        }
        let seen = Watched::new(Seen {
            open: usize::from(self.output) + usize::from(self.errors),
            ..Seen::default()
        });
        if let Some(stdout) = child.stdout.take() {
            read_into(&seen, stdout, |seen| &mut seen.stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            read_into(&seen, stderr, |seen| &mut seen.stderr);
        }
        let ended = seen.clone();
        thread::spawn(move || {
            let status = child.wait().unwrap();
            ended.change(|seen| seen.status = Some(status));
        });
        Running {
            host: self.host,
            what: self.what,
            process,
            seen,
            input,
            patience: self.patience,
            deadline: Instant::now() + self.patience,
        }
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn finish(self) -> Outcome<'a> {
        self.start().finish()
    }
}

fn read_into(
    seen: &Watched<Seen>,
    mut from: impl Read + Send + 'static,
    which: fn(&mut Seen) -> &mut Vec<u8>,
) {
    let seen = seen.clone();
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            seen.change(|seen| which(seen).extend_from_slice(&buffer[..count]));
        }
        seen.change(|seen| seen.open -= 1);
    });
}

#[derive(Debug, Default)]
struct Seen {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    open: usize,
    status: Option<ExitStatus>,
}

/// A command that runs.
#[derive(Debug)]
pub struct Running<'a> {
    host: &'a Host,
    what: String,
    pub process: Process,
    seen: Watched<Seen>,
    input: Option<ChildStdin>,
    patience: Duration,
    deadline: Instant,
}

impl<'a> Running<'a> {
    /// Waits until its standard output so far contains `text`.
    #[track_caller]
    pub fn wait_for_output(&self, text: &str) {
        self.wait_for(text, |seen| &seen.stdout);
    }

    /// Waits until its standard error so far contains `text`.
    #[track_caller]
    pub fn wait_for_errors(&self, text: &str) {
        self.wait_for(text, |seen| &seen.stderr);
    }

    #[track_caller]
    fn wait_for(&self, text: &str, which: fn(&Seen) -> &Vec<u8>) {
        let found = self.seen.wait(self.deadline, |seen| {
            let there = which(seen)
                .windows(text.len())
                .any(|window| window == text.as_bytes());
            (there || seen.open == 0).then_some(there)
        });
        if found != Some(true) {
            self.process.signal(Signal::KILL);
            panic!("never seen: `{text}`\n{}", self.describe());
        }
    }

    /// Types.
    pub fn write(&mut self, text: &str) {
        let input = self.input.as_mut().expect("an open input");
        input.write_all(text.as_bytes()).unwrap();
    }

    /// Ends its standard input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Ends its standard input and waits for its end.
    #[track_caller]
    pub fn finish_input(mut self) -> Outcome<'a> {
        self.close_input();
        self.finish()
    }

    /// Waits for its end, and for the end of what it printed.
    #[track_caller]
    pub fn finish(self) -> Outcome<'a> {
        let outcome = self.seen.wait(self.deadline, |seen| {
            let status = seen.status.filter(|_| seen.open == 0)?;
            Some((status, seen.stdout.clone(), seen.stderr.clone()))
        });
        let Some((status, stdout, stderr)) = outcome else {
            self.process.signal(Signal::KILL);
            let patience = self.patience;
            panic!("not finished within {patience:?}:\n{}", self.describe());
        };
        Outcome {
            host: self.host,
            what: self.what,
            status,
            stdout,
            stderr,
        }
    }

    fn describe(&self) -> String {
        let (mut stdout, mut stderr, mut status) = (Vec::new(), Vec::new(), None);
        self.seen.change(|seen| {
            stdout.clone_from(&seen.stdout);
            stderr.clone_from(&seen.stderr);
            status = seen.status;
        });
        describe(self.host, &self.what, status, &stdout, &stderr)
    }
}
