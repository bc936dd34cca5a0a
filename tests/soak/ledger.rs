//! Whether everything is accounted for: every run has its dyno, every dyno its end, every line its place.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use crate::history::{History, Part};
use crate::job::{Job, Way};
use crate::log::{Log, Story};

/// Why a dyno was lost: its supervisor is gone, or PID 1 has left without a word.
const LOST: &str = "Error R99 (Platform error) -> The dyno was lost: ";
const CHANGE: &str = "State changed from ";
const EXITED: &str = "Process exited with status ";

/// The exit code of a command line whose dyno failed.
const FAILED: i32 = 125;

/// A command line that has ended.
#[derive(Debug)]
pub struct Ran {
    pub job: Job,
    /// When it was started, and when it ended.
    pub time: (Duration, Duration),
    /// None if a signal ended it.
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

/// A dyno as the store has it.
#[derive(Debug)]
struct Dyno {
    id: String,
    name: String,
    job: Option<usize>,
    state: String,
    status: Option<u8>,
    signal: Option<u8>,
    reason: Option<String>,
    ended: bool,
}

impl Dyno {
    fn new(value: &Value) -> Self {
        let text = |field: &str| value[field].as_str().map(str::to_owned);
        let number = |field: &str| value[field].as_u64().map(|number| number as u8);
        Self {
            id: text("id").unwrap(),
            name: text("name").unwrap(),
            job: Job::of_command(value["command"].as_str().unwrap()),
            state: text("state").unwrap(),
            status: number("exit_status"),
            signal: number("exit_signal"),
            reason: text("end_reason"),
            ended: !value["ended_at"].is_null(),
        }
    }

    fn is_lost(&self) -> bool {
        self.reason.as_deref() == Some("lost")
    }

    /// What a command line that was attached to it exits with; None if its command's end is not known.
    fn code(&self) -> Option<i32> {
        match (self.status, self.signal) {
            (Some(status), _) => Some(status.into()),
            (None, Some(signal)) => Some(128 + i32::from(signal)),
            (None, None) => None,
        }
    }
}

/// See the [module](self).
pub struct Ledger<'a> {
    pub seed: u64,
    pub history: &'a History,
    pub log: Log,
    /// How many lines of servers about dynos may be missing.
    pub unlogged: usize,
    /// What is wrong.
    pub wrong: Vec<String>,
}

impl Ledger<'_> {
    /// Goes through it all.
    pub fn check(&mut self, runs: &[Ran], dynos: &[Value]) {
        let dynos: Vec<_> = dynos.iter().map(Dyno::new).collect();
        self.numbers(&dynos);
        let mut of_jobs: BTreeMap<usize, Vec<&Dyno>> = BTreeMap::new();
        for dyno in &dynos {
            match dyno.job {
                Some(job) => of_jobs.entry(job).or_default().push(dyno),
                None => self.wrong.push(format!("{} is nobody's", dyno.name)),
            }
        }
        let mut lost_spares = 0;
        for ran in runs {
            match of_jobs.remove(&ran.job.number).unwrap_or_default()[..] {
                [] => self.without_dyno(ran),
                [dyno] => {
                    lost_spares += u64::from(self.unexplained_loss(ran, dyno));
                    self.end(ran, dyno);
                    self.client(ran, dyno);
                    self.story(ran, dyno);
                }
                _ => self.complain(ran, None, "has several dynos"),
            }
        }
        if lost_spares > self.history.count_of(Part::Spare) {
            self.wrong
                .push(format!("{lost_spares} dynos were lost for no reason"));
        }
        for job in of_jobs.keys() {
            self.wrong
                .push(format!("job-{job} was never run and has a dyno"));
        }
        let writers = self.history.kills();
        if self.log.torn.len() as u64 > writers {
            let (count, first) = (self.log.torn.len(), &self.log.torn[0]);
            self.wrong
                .push(format!("{count} lines of the log are none: {first:?}"));
        }
    }

    fn complain(&mut self, ran: &Ran, dyno: Option<&Dyno>, what: &str) {
        let job = ran.job.marker();
        let mut text = format!("{job} {what}\n  {}\n", ran.job.command());
        text += &format!(
            "  exit code {:?}, {} bytes printed, stderr {:?}\n",
            ran.code,
            ran.stdout.len(),
            ran.stderr
        );
        text += &self.history.text(Some(job.trim_end_matches(';')));
        if let Some(dyno) = dyno {
            text += &format!("\n  {dyno:?}\n{}", self.history.text(Some(&dyno.id)));
            if let Some(story) = self.log.dynos.get(&dyno.name) {
                let output = story.output.len();
                text += &format!("\n  {:#?}, {output} lines of output", story.platform);
            }
        }
        self.wrong.push(text);
    }

    /// No number is used twice, or left out, and later dynos have higher ones.
    fn numbers(&mut self, dynos: &[Dyno]) {
        let names: Vec<_> = dynos.iter().map(|dyno| dyno.name.clone()).collect();
        let expected: Vec<_> = (1..=dynos.len()).map(|n| format!("run.{n}")).collect();
        if names != expected {
            self.wrong
                .push(format!("the numbers are not in order: {names:?}"));
        }
        let logged = self.log.dynos.keys();
        let logged: BTreeSet<_> = logged.filter(|name| name.starts_with("run.")).collect();
        let known: BTreeSet<_> = expected.iter().collect();
        if !logged.is_subset(&known) {
            self.wrong
                .push(format!("the log has dynos that are none: {logged:?}"));
        }
    }

    fn server_ended(&self, ran: &Ran) -> bool {
        self.history.server_was_ended(ran.time)
    }

    /// Whether a server was ended while it ran, or something failed there.
    fn server_trouble(&self, ran: &Ran) -> bool {
        self.history.server_had_trouble(ran.time)
    }

    fn client_killed(&self, ran: &Ran) -> bool {
        self.history.client_was_killed(ran.job.number)
    }

    fn without_dyno(&mut self, ran: &Ran) {
        let refused = self.server_trouble(ran) && ran.code == Some(FAILED);
        if !refused && !self.client_killed(ran) {
            self.complain(ran, None, "has no dyno");
        }
    }

    /// Whether a dyno was lost without anybody having killed its supervisor as such. A server that is killed
    /// between row and supervisor explains it, and so does a killed spare.
    fn unexplained_loss(&self, ran: &Ran, dyno: &Dyno) -> bool {
        let killed = self.history.disturbed(&dyno.id);
        dyno.is_lost() && !killed.contains(&Part::Supervisor) && !self.server_ended(ran)
    }

    /// The store has the end of the dyno, and the right one.
    fn end(&mut self, ran: &Ran, dyno: &Dyno) {
        if !dyno.ended {
            return self.complain(ran, Some(dyno), "has not ended");
        }
        let killed = self.history.disturbed(&dyno.id);
        let reason = ran.job.end_reason();
        let expected =
            (dyno.status, dyno.signal) == ran.job.end() && dyno.reason.as_deref() == reason;
        let by_init = killed.contains(&Part::Init)
            && ((dyno.signal == Some(9) && dyno.reason.is_none())
                || dyno.reason.as_deref() == Some("R99"));
        // Something could not be done for it.
        let failed = (killed.contains(&Part::Call) || self.server_trouble(ran))
            && dyno.reason.as_deref() == Some("R99");
        // Nobody was there to attach to it, or not any more.
        let alone = ran.job.way != Way::Detached
            && (self.client_killed(ran) || (ran.code == Some(FAILED) && self.server_trouble(ran)));
        let fine = expected || by_init || failed || dyno.is_lost() || alone;
        let state = if dyno.is_lost() || dyno.reason.as_deref() == Some("R99") {
            "crashed"
        } else {
            "complete"
        };
        if !fine || dyno.state != state {
            self.complain(ran, Some(dyno), "has ended otherwise than it should");
        }
    }

    /// What the command line said agrees with the store.
    fn client(&mut self, ran: &Ran, dyno: &Dyno) {
        if ran.code.is_none() {
            if !self.client_killed(ran) {
                self.complain(ran, Some(dyno), "was ended by a signal");
            }
            return;
        }
        let killed = self.history.disturbed(&dyno.id);
        let explained = dyno.is_lost()
            || !killed.is_empty()
            || dyno.reason.as_deref() == Some("R99")
            || self.server_trouble(ran);
        if ran.code == Some(FAILED) {
            if !explained || !ran.stderr.contains("error: ") {
                self.complain(ran, Some(dyno), "failed");
            }
            return;
        }
        if !ran.stderr.contains(&format!("up, {}", dyno.name)) {
            self.complain(ran, Some(dyno), "was told another name");
        }
        if ran.job.way == Way::Detached {
            if ran.code != Some(0) {
                self.complain(ran, Some(dyno), "was not started, and did not say why");
            }
            return;
        }
        if ran.code != dyno.code() {
            self.complain(ran, Some(dyno), "exited otherwise than its dyno");
        }
        let output = ran.job.output(self.seed);
        let whole = killed.is_empty();
        if (whole && ran.stdout != output) || !output.starts_with(&ran.stdout) {
            self.complain(ran, Some(dyno), "did not print what it should");
        }
    }

    /// The log has the dyno's start and end once, and its output without a hole.
    fn story(&mut self, ran: &Ran, dyno: &Dyno) {
        let failed = self.history.disturbed(&dyno.id).contains(&Part::Call);
        if failed || self.history.server_starved(ran.time) {
            // What could not be written is counted in the log, not told; what a server could not write, in its own.
            return;
        }
        let nothing = Story::default();
        let story = self.log.dynos.get(&dyno.name).unwrap_or(&nothing);
        let mut wrong = Vec::new();
        let starts = self.log.starts.get(&ran.job.number).copied().unwrap_or(0);
        if starts > 1 || (starts == 0 && !self.server_trouble(ran)) {
            wrong.push(format!("its start is told {starts} times"));
        }
        let changes = story.after(CHANGE);
        let to = |state: &str| {
            let to = format!(" to {state}");
            changes
                .iter()
                .filter(|change| change.ends_with(&to))
                .count()
        };
        if to("complete") + to("crashed") != 1 || to(&dyno.state) != 1 || to("up") > 1 {
            wrong.push(format!("its states are {changes:?}"));
        }
        let exits = story.after(EXITED);
        let expected: Vec<_> = match dyno.state.as_str() {
            "complete" => dyno
                .code()
                .map(|code| code.to_string())
                .into_iter()
                .collect(),
            _ => Vec::new(),
        };
        if exits != expected {
            wrong.push(format!("it exited {exits:?}, not {expected:?}"));
        }
        if story.after(LOST).len() != usize::from(dyno.is_lost()) {
            wrong.push("whether it was lost is not told".to_owned());
        }
        if let Some(hole) = self.hole(ran, dyno, story) {
            wrong.push(hole);
        }
        if !wrong.is_empty() && self.unlogged > 0 {
            self.unlogged -= 1;
        } else if !wrong.is_empty() {
            self.complain(
                ran,
                Some(dyno),
                &format!("has a wrong log: {}", wrong.join("; ")),
            );
        }
    }

    /// What is wrong with the numbered lines in the log. Of an attached dyno there are some only if its client left.
    fn hole(&self, ran: &Ran, dyno: &Dyno, story: &Story) -> Option<String> {
        let prefix = format!("{} ", ran.job.marker());
        let mut lines = story.output.iter().map(String::as_str).peekable();
        let mut next = 1;
        if ran.job.way != Way::Detached {
            if self.client_killed(ran) {
                // The client has got the first ones, and perhaps the beginning of one.
                let from = lines
                    .by_ref()
                    .find_map(|line| line.strip_prefix(&prefix)?.parse().ok());
                next = from.map_or(1, |from: u64| from + 1);
            } else if let Some(line) = lines.peek() {
                return Some(format!("output of an attached dyno: {line:?}"));
            }
        }
        // Whoever is ended while it prints leaves what its buffer held of a line: 4,096 bytes end anywhere.
        let killed = self.history.disturbed(&dyno.id);
        let torn = !killed.is_empty() || dyno.signal.is_some();
        while let Some(line) = lines.next() {
            let expected = format!("{prefix}{next}");
            let is_torn = torn && lines.peek().is_none() && expected.starts_with(line);
            if line != expected && !is_torn && line.starts_with(&prefix) {
                return Some(format!("{line:?} instead of {expected:?}"));
            }
            next += u64::from(line == expected);
        }
        // One that could not be started prints nothing.
        let whole = ran.job.way == Way::Detached
            && killed.is_empty()
            && dyno.reason.as_deref() != Some("R99");
        (whole && !dyno.is_lost() && next != ran.job.lines() + 1)
            .then(|| format!("{} lines of output, not {}", next - 1, ran.job.lines()))
    }
}
