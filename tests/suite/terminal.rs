//! A terminal with a person at it: the real command line on a real PTY, what it draws read by a terminal emulator.

use std::fs::File;
use std::io::{PipeWriter, Read, Write};
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, Signal, getpid, pidfd_getfd, pidfd_open};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};
use vt100::{Parser, Screen};

use super::harness::{DEADLINE, Host, Process, STARTING, Watched};

/// Ctrl-C, as a key.
pub const CTRL_C: &str = "\x03";
/// Ctrl-D, as a key.
pub const CTRL_D: &str = "\x04";
/// Ctrl-Z, as a key.
pub const CTRL_Z: &str = "\x1a";
/// The up arrow, as a key.
pub const UP: &str = "\x1b[A";
/// The left arrow, as a key.
pub const LEFT: &str = "\x1b[D";

/// What is seen of a terminal.
struct View {
    parser: Parser,
    /// All bytes that came, for what a screen does not show.
    bytes: Vec<u8>,
    ended: bool,
    code: Option<u32>,
}

/// See the [module](self).
pub struct Terminal<'a> {
    host: &'a Host,
    master: Option<Arc<File>>,
    view: Watched<View>,
    /// The reader ends when this does.
    stop: Option<PipeWriter>,
    reader: Option<JoinHandle<()>>,
    /// The command line's process.
    pub process: Process,
    /// The terminal's settings before it.
    pub before: Termios,
    /// How long anything may take that is waited for.
    patience: Duration,
}

impl<'a> Terminal<'a> {
    /// `dyno ARGS` in `folder` on a terminal of 80 by 24.
    pub fn open(host: &'a Host, folder: &Path, args: &[&str]) -> Self {
        let program = host.program();
        let mut words = vec![program.to_str().unwrap()];
        words.extend(args);
        Self::start(host, folder, &words)
    }

    /// `dyno run ARGS`, the same way.
    pub fn run(host: &'a Host, folder: &Path, args: &[&str]) -> Self {
        Self::open(host, folder, &[&["run"], args].concat())
    }

    /// Any program, the same way.
    pub fn start(host: &'a Host, folder: &Path, words: &[&str]) -> Self {
        let mut command = CommandBuilder::new(words[0]);
        command.args(&words[1..]);
        command.env_clear();
        for (name, value) in host.env() {
            command.env(name, value);
        }
        command.cwd(folder);
        let size = PtySize {
            rows: 24,
            cols: 80,
            ..PtySize::default()
        };
        // Its descriptors can be inherited for a moment.
        let starting = STARTING.write().unwrap();
        let pair = native_pty_system().openpty(size).unwrap();
        let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        // The crate's own writer types a line feed and Ctrl-D when it is dropped, and its reader cannot be stopped.
        let master = pidfd_getfd(
            own,
            pair.master.as_raw_fd().unwrap(),
            PidfdGetfdFlags::empty(),
        )
        .unwrap();
        let before = tcgetattr(&master).unwrap();
        let mut child = pair.slave.spawn_command(command).unwrap();
        drop(pair);
        drop(starting);

        let process = Process::find(child.process_id().unwrap().try_into().unwrap()).unwrap();
        let master = Arc::new(File::from(master));
        let view = Watched::new(View {
            parser: Parser::new(cells(24), cells(80), 0),
            bytes: Vec::new(),
            ended: false,
            code: None,
        });
        let (stopped, stop) = std::io::pipe().unwrap();
        let (seen, screen) = (view.clone(), Arc::clone(&master));
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let mut fds = [
                    PollFd::new(&*screen, PollFlags::IN),
                    PollFd::new(&stopped, PollFlags::IN),
                ];
                let polled = poll(&mut fds, None);
                if polled.is_ok() && !fds[1].revents().is_empty() {
                    break;
                }
                match (&*screen).read(&mut buffer) {
                    Ok(count @ 1..) => seen.change(|view| {
                        view.parser.process(&buffer[..count]);
                        view.bytes.extend_from_slice(&buffer[..count]);
                    }),
                    // EIO: nobody has the terminal any more.
                    _ => break,
                }
            }
            seen.change(|view| view.ended = true);
        });
        let ended = view.clone();
        thread::spawn(move || {
            let status = child.wait().unwrap();
            ended.change(|view| view.code = Some(status.exit_code()));
        });
        Self {
            host,
            master: Some(master),
            view,
            stop: Some(stop),
            reader: Some(reader),
            process,
            before,
            patience: DEADLINE,
        }
    }

    /// Everything may take longer than with others.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Types, byte for byte.
    pub fn type_keys(&self, keys: &str) {
        let mut master = &**self.master.as_ref().expect("an open terminal");
        master.write_all(keys.as_bytes()).unwrap();
    }

    /// Gives the window another size.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        self.view.change(|view| {
            view.parser
                .screen_mut()
                .set_size(cells(rows), cells(columns))
        });
        tcsetwinsize(self.master.as_ref().expect("an open terminal"), size).unwrap();
    }

    /// Waits until the screen looks so.
    #[track_caller]
    pub fn wait_for(&self, what: &str, mut look: impl FnMut(&Screen) -> bool) {
        let deadline = Instant::now() + self.patience;
        let found = self.view.wait(deadline, |view| {
            let there = look(view.parser.screen());
            (there || view.ended).then_some(there)
        });
        if found != Some(true) {
            panic!("never on the screen: {what}\n{}", self.describe());
        }
    }

    /// Waits until this text is on the screen.
    #[track_caller]
    pub fn wait_for_text(&self, text: &str) {
        self.wait_for(text, |screen| screen.contents().contains(text));
    }

    /// Waits until a line of the screen is exactly this.
    #[track_caller]
    pub fn wait_for_line(&self, line: &str) {
        self.wait_for(line, |screen| {
            screen
                .contents()
                .lines()
                .any(|found| found.trim_end() == line)
        });
    }

    /// Waits for a fresh prompt: `~ $` and nothing after it, as the last thing on the screen.
    #[track_caller]
    pub fn wait_for_prompt(&self) {
        self.wait_for("the prompt `~ $`", |screen| {
            screen
                .contents()
                .lines()
                .rfind(|line| !line.trim().is_empty())
                .is_some_and(|line| line.trim_end() == "~ $")
        });
    }

    /// What is on the screen.
    pub fn screen(&self) -> String {
        self.view.change(|view| view.parser.screen().contents())
    }

    /// Everything that was drawn so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.view.change(|view| view.bytes.clone())
    }

    /// Waits until more bytes than this were drawn.
    #[track_caller]
    pub fn wait_for_more_than(&self, count: usize) {
        let deadline = Instant::now() + self.patience;
        let found = self
            .view
            .wait(deadline, |view| (view.bytes.len() > count).then_some(()));
        if found.is_none() {
            panic!("nothing more is drawn\n{}", self.describe());
        }
    }

    /// The settings of the terminal now.
    pub fn settings(&self) -> Termios {
        tcgetattr(self.master.as_ref().expect("an open terminal")).unwrap()
    }

    /// Fails unless the terminal's settings are what they were before the command.
    #[track_caller]
    pub fn is_restored(&self) {
        let (before, after) = (
            format!("{:?}", self.before),
            format!("{:?}", self.settings()),
        );
        assert_eq!(
            before,
            after,
            "the terminal's settings\n{}",
            self.describe()
        );
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for the end of the command, which must have this exit code. portable-pty has 1 for any signal.
    #[track_caller]
    pub fn exits(&self, code: u32) {
        let deadline = Instant::now() + self.patience;
        // What it drew last has been seen by then, too.
        let ended = self
            .view
            .wait(deadline, |view| view.code.filter(|_| view.ended));
        let ended = ended.unwrap_or_else(|| panic!("it did not end\n{}", self.describe()));
        assert!(
            ended == code,
            "exit code {code} was expected\n{}",
            self.describe()
        );
    }

    /// Closes the window: the terminal is gone, nothing was typed.
    pub fn close(&mut self) {
        self.stop = None;
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.master = None;
    }

    fn describe(&self) -> String {
        self.view.change(|view| {
            let screen = view.parser.screen().contents();
            format!(
                "--- screen (command: {:?})\n{screen}\n--- log\n{}\n--- server.log\n{}",
                view.code,
                self.host.log_lines().join("\n"),
                self.host.server_log()
            )
        })
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        self.process.signal(Signal::KILL);
        self.close();
    }
}

fn cells(count: u16) -> NonZero<u16> {
    NonZero::new(count).expect("a window with room")
}
