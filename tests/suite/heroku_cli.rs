//! Heroku's own command line, unmodified, as its users have it in their fingers: every command that makes sense here, what
//! it prints and how it ends.
//!
//! `.ci/heroku-cli` installs it; `DYNO_TEST_HEROKU` says where it is, if not in `target/heroku-cli`. Where there is none
//! these tests say that they are left out, but fail where `CI` is set.

mod apps;
mod config;
mod logs;
mod ps;
mod releases;
mod run;
mod run_terminal;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::api_tcp::{Remote, address_of_its_own};
use crate::harness::{Host, Outcome, STARTING, leave_out, root, write};
use crate::terminal::Terminal;

/// How long one command may take: node alone needs seconds on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The folder with the program; None if it is not there, which was said then.
fn installed() -> Option<PathBuf> {
    let folder = std::env::var_os("DYNO_TEST_HEROKU")
        .map_or_else(|| root().join("target/heroku-cli"), PathBuf::from);
    let bin = folder.join("node_modules/.bin");
    if bin.join("heroku").exists() {
        return Some(bin);
    }
    let why = format!(
        "tests of heroku_cli: Heroku's command line is not in `{}`; `.ci/heroku-cli` installs it",
        folder.display()
    );
    let in_ci = std::env::var_os("CI").is_some_and(|ci| !ci.is_empty());
    assert!(!in_ci, "{why}");
    leave_out(&why);
    None
}

/// A host that Heroku's command line is set up for by `dyno heroku:env`, and it.
struct Heroku {
    host: Host,
    program: PathBuf,
}

impl Heroku {
    /// None where it is not installed.
    fn new() -> Option<Self> {
        Self::with(&[])
    }

    /// On a host with further settings.
    fn with(settings: &[(&str, &str)]) -> Option<Self> {
        let bin = installed()?;
        let mut host = Host::with(settings);
        host.set("DYNO_LISTEN", address_of_its_own());
        // A user who has never seen Heroku's terms is told once, and now and then a newer version is looked for.
        write(&host.path().join("home/.cache/heroku/terms-of-service"), "");
        host.set("HEROKU_DISABLE_AUTOUPDATE", "1");
        let mut path = OsString::from(&bin);
        if let Some(others) = std::env::var_os("PATH") {
            path.push(":");
            path.push(others);
        }
        host.set("PATH", path);
        let lines = host.dyno(&host.path(), &["heroku:env"]).finish();
        let lines = lines.succeeds().text();
        for (name, value) in exported(&lines) {
            host.set(&name, value);
        }
        let program = bin.join("heroku");
        Some(Self { host, program })
    }

    /// An app made of this Procfile in a folder of its name, deployed. Of its dynos only `web` runs, if there is one.
    fn app(&self, name: &str, procfile: &str) -> PathBuf {
        let folder = self.host.folder_of(name, &[("Procfile", procfile)]);
        self.host.dyno(&folder, &["deploy"]).finish().succeeds();
        folder
    }

    /// A command that is about to be started, in a folder that means no app.
    fn command(&self, args: &[&str]) -> crate::harness::Command<'_> {
        self.command_in(&self.host.path(), args)
    }

    fn command_in(&self, folder: &Path, args: &[&str]) -> crate::harness::Command<'_> {
        let command = self.host.program_of(&self.program, folder, args);
        command.patience(PATIENCE)
    }

    /// `heroku ARGS`, to its end.
    #[track_caller]
    fn run(&self, args: &[&str]) -> Outcome<'_> {
        self.command(args).finish()
    }

    /// `heroku ARGS`, on a terminal.
    fn terminal(&self, args: &[&str]) -> Terminal<'_> {
        let program = self.program.to_str().unwrap();
        Terminal::start(&self.host, &self.host.path(), &[&[program], args].concat())
            .patience(PATIENCE)
    }

    /// `git ARGS` in a folder, with the same environment; what it prints.
    #[track_caller]
    fn git(&self, folder: &Path, args: &[&str]) -> String {
        let git = self.host.program_of(Path::new("git"), folder, args);
        git.finish().succeeds().text()
    }

    /// The app's resource, as the Unix socket has it.
    fn app_info(&self, app: &str) -> Value {
        let (status, body) = self
            .host
            .request("GET", &format!("/apps/{app}"), &Value::Null);
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Where the API is.
    fn address(&self) -> String {
        let host = &self.host.env()[std::ffi::OsStr::new("HEROKU_HOST")];
        let host = host.to_str().unwrap();
        host.strip_prefix("https://").unwrap().to_owned()
    }
}

/// What lines for a shell export, as a shell takes them.
fn exported(lines: &str) -> BTreeMap<String, String> {
    let _starting = STARTING.read().unwrap();
    let output = Command::new("env")
        .args(["-i", "sh", "-c"])
        .arg(format!("{lines}\nenv -0"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .filter(|(name, _)| lines.contains(&format!("export {name}=")))
        .collect()
}

/// Lines with runs of blanks as one, and without those at their ends: tables, read by people.
fn squeezed(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|line| !line.is_empty() && !line.starts_with('─'))
        .collect()
}

/// The text of a warning or an error, which is set in lines of eighty characters behind a mark.
fn told(text: &str) -> String {
    let words = text.split_whitespace().filter(|word| *word != "›");
    words.collect::<Vec<_>>().join(" ")
}

/// A line with `TIME` in place of what looks like `2026/11/27 13:18:47 +0000 (~ 5s ago)`.
fn without_time(line: &str) -> String {
    let is_date = |at: usize| {
        let date = line.as_bytes().get(at..at + 10);
        date.is_some_and(|date| {
            let shape = date
                .iter()
                .map(|it| if it.is_ascii_digit() { b'9' } else { *it });
            shape.eq(*b"9999/99/99")
        })
    };
    let end = line.find(" ago)").map(|end| end + " ago)".len());
    match ((0..line.len()).find(|at| is_date(*at)), end) {
        (Some(begin), Some(end)) => format!("{}TIME{}", &line[..begin], &line[end..]),
        _ => line.to_owned(),
    }
}

#[test]
fn a_token_that_is_not_good_is_named() {
    let Some(mut heroku) = Heroku::new() else {
        return;
    };
    heroku.host.set("HEROKU_API_KEY", "dyno_wrong");
    let outcome = heroku.run(&["apps"]);
    outcome.exits(1).prints("");
    let said = told(&outcome.errors());
    assert!(
        said.contains("The token provided to HEROKU_API_KEY is invalid."),
        "{said}"
    );
}

#[test]
fn nobody_else_is_asked_whether_a_bill_is_due() {
    // So few that none comes back meanwhile.
    let Some(heroku) = Heroku::with(&[("DYNO_RATE_LIMIT", "10")]) else {
        return;
    };
    let token = &heroku.host.env()[std::ffi::OsStr::new("HEROKU_API_KEY")];
    let remote = Remote {
        address: heroku.address().parse().unwrap(),
        token: token.to_str().unwrap().to_owned(),
    };
    let left = || {
        let told = remote.ask("GET /account/rate-limits", &Value::Null);
        told.json()["remaining"].as_u64().unwrap()
    };
    assert_eq!(left(), 9);
    heroku.run(&["apps"]).succeeds();
    // The apps, the account, and the same account where Heroku's bills would be.
    assert_eq!(left(), 9 - 3 - 1);
}
