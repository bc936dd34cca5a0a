//! What became of a command, and what a test says of it.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::Signal;

use super::host::Host;

pub(super) fn describe(
    host: &Host,
    what: &str,
    status: Option<ExitStatus>,
    stdout: &[u8],
    stderr: &[u8],
) -> String {
    let text = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        text.chars().take(4000).collect::<String>()
    };
    let status = status.map_or("runs".to_owned(), |status| status.to_string());
    format!(
        "{what}: {status}\n--- stdout\n{}\n--- stderr\n{}\n--- log\n{}\n--- server.log\n{}",
        text(stdout),
        text(stderr),
        host.log_lines().join("\n"),
        host.server_log()
    )
}

/// What became of a command.
#[derive(Debug)]
pub struct Outcome<'a> {
    pub(super) host: &'a Host,
    pub(super) what: String,
    pub(super) status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Outcome<'_> {
    fn describe(&self) -> String {
        describe(
            self.host,
            &self.what,
            Some(self.status),
            &self.stdout,
            &self.stderr,
        )
    }

    /// The status it ended with, unless a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// It ended with status 0.
    #[track_caller]
    pub fn succeeds(&self) -> &Self {
        self.exits(0)
    }

    /// It ended with this status.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        assert!(
            self.status.code() == Some(code),
            "status {code} was expected\n{}",
            self.describe()
        );
        self
    }

    /// Its command was told to end, by SIGTERM or, at once afterwards, by SIGKILL.
    #[track_caller]
    pub fn is_ended(&self) -> &Self {
        if !matches!(self.status.code(), Some(137 | 143)) {
            self.wrong("SIGTERM or SIGKILL was expected to have ended it");
        }
        self
    }

    /// A signal ended it.
    #[track_caller]
    pub fn dies_of(&self, signal: Signal) -> &Self {
        assert!(
            self.status.signal() == Some(signal.as_raw()),
            "{signal:?} was expected\n{}",
            self.describe()
        );
        self
    }

    /// Its standard output is exactly this.
    #[track_caller]
    pub fn prints(&self, text: &str) -> &Self {
        let printed = self.host.at_home(&String::from_utf8_lossy(&self.stdout));
        assert!(printed == text, "expected {text:?}\n{}", self.describe());
        self
    }

    /// Its standard error is exactly this.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        let said = String::from_utf8_lossy(&self.stderr);
        assert!(said == text, "expected {text:?}\n{}", self.describe());
        self
    }

    /// Its standard error contains this.
    #[track_caller]
    pub fn mentions(&self, text: &str) -> &Self {
        let said = String::from_utf8_lossy(&self.stderr);
        assert!(
            said.contains(text),
            "expected {text:?}\n{}",
            self.describe()
        );
        self
    }

    /// Its standard error does not contain this.
    #[track_caller]
    pub fn does_not_mention(&self, text: &str) -> &Self {
        let said = String::from_utf8_lossy(&self.stderr);
        assert!(
            !said.contains(text),
            "not expected: {text:?}\n{}",
            self.describe()
        );
        self
    }

    /// It failed in the one shape: `error:` with these words, then `hint:` with those, each on a line.
    #[track_caller]
    pub fn fails_with(&self, code: i32, error: &str, hint: &str) -> &Self {
        self.exits(code);
        let said = String::from_utf8_lossy(&self.stderr);
        let line = |prefix: &str| said.lines().filter(|line| line.starts_with(prefix)).count();
        let has = |prefix: &str, words: &str| {
            said.lines()
                .any(|line| line.starts_with(prefix) && line.contains(words))
        };
        assert!(
            line("error: ") == 1 && has("error: ", error),
            "one line `error: …{error}…` was expected\n{}",
            self.describe()
        );
        assert!(
            line("hint: ") == 1 && has("hint: ", hint),
            "one line `hint: …{hint}…` was expected\n{}",
            self.describe()
        );
        self
    }

    /// Its standard output.
    #[track_caller]
    pub fn text(&self) -> String {
        let text = String::from_utf8(self.stdout.clone());
        let text = text.unwrap_or_else(|_| panic!("not UTF-8\n{}", self.describe()));
        self.host.at_home(&text)
    }

    /// Its standard error.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Fails with everything there is to know about it.
    #[track_caller]
    pub fn wrong(&self, why: &str) -> ! {
        panic!("{why}\n{}", self.describe())
    }

    /// What it printed, looked at.
    #[track_caller]
    pub fn holds(&self, what: &str, look: impl FnOnce(&str) -> bool) -> &Self {
        if !look(&self.text()) {
            self.wrong(what);
        }
        self
    }
}
