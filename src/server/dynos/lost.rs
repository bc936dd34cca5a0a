//! The end of a dyno whose supervisor did not get to tell of it: what it wrote goes, and its app's log says that it
//! was lost.
//!
//! Called by the server when it notices; what is slow about it is apart, for a worker. It may be killed itself in the
//! middle, and its successor begins again: so what the log says already is not said twice.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::error::tell;
use crate::kernel::{fail_point, open_files};
use crate::log_file::{self, LogWriter};
use crate::model::dyno::{Dyno, DynoState, EndReason, ExitRecord};
use crate::model::log_limits::LogLimits;
use crate::model::log_line::{self, LogSource, Story};
use crate::server::records::Records;
use crate::supervisor;

/// How much of the log's end is looked through for what was said last of a dyno, in bytes. What is further back was
/// another server's to see to.
const TAIL: usize = 1024 * 1024;

/// Who a dyno is to its app's log.
#[derive(Debug)]
pub struct LoggedDyno {
    name: String,
    /// Its state before it was lost.
    state: DynoState,
    logs: PathBuf,
    limits: LogLimits,
}

impl LoggedDyno {
    /// What is needed of a dyno; nothing of one that has ended already, as the store knows.
    pub fn new(dyno: &Dyno, records: &Records) -> Option<Self> {
        dyno.ended.is_none().then(|| Self {
            name: dyno.name.to_string(),
            state: dyno.state,
            logs: records.log_folder(&dyno.app_id),
            limits: records.log_limits(),
        })
    }
}

/// How a dyno ended whose processes have all ended. What it wrote goes, and the log is told what it does not know.
///
/// # Errors
/// When that cannot be done now, for want of descriptors or memory. It is to be tried again: else what is left of the dyno
/// would be forgotten, or how it ended.
pub fn settle(folder: &Path, known: Option<&LoggedDyno>) -> io::Result<ExitRecord> {
    fail_point::attempt("dyno.settling")?;
    supervisor::end_leftovers(folder)?;
    // Before anything is written: it may be what filled the disk.
    let _ = crate::kernel::tree::remove_tree(&folder.join(supervisor::SCRATCH));
    let record = supervisor::read_record(folder)?.unwrap_or_else(supervisor::lost_record);
    if let Some(known) = known
        && let Err(error) = tell(known, &record)
    {
        if open_files::are_exhausted(&error) {
            return Err(error);
        }
        tell!("cannot log the end of {}: {error}", known.name);
    }
    fail_point::reach("dyno.end_told");
    Ok(record)
}

/// Writes the lines that are missing at the end of a dyno's story.
fn tell(known: &LoggedDyno, record: &ExitRecord) -> io::Result<()> {
    let told = Told::of(known)?;
    let mut stories = Vec::new();
    // Another dyno may have its name by now: which line of the log is about which of them cannot be told.
    let retired = known.state == DynoState::Down;
    match (record.reason, &record.message) {
        (EndReason::Lost, why) if !(told.ended || retired && told.lost) => {
            stories.push(Story::Lost(why.clone().unwrap_or_default()));
        }
        (EndReason::StartFailed, Some(why)) if !told.ended => {
            stories.push(Story::LaunchFailed(why.clone()));
        }
        _ => {}
    }
    // A crash of the formation's that had begun to be told, too.
    let has_crashed = record.state == DynoState::Crashed && record.reason.is_crash();
    let has_exited = record.state == DynoState::Complete || (has_crashed && !told.ended);
    if has_exited && !told.exited && !retired {
        stories.push(Story::Exited(record.exit.code()));
    }
    if !told.ended && !retired {
        // A command that has ended was up; its dyno was until the log says so.
        let before = match told.state.unwrap_or(known.state) {
            DynoState::Complete => DynoState::Up,
            state => state,
        };
        stories.push(Story::state_changed(before, record.state));
    }
    if stories.is_empty() {
        return Ok(());
    }
    let (mut lines, now) = (Vec::new(), Timestamp::now());
    for story in stories {
        let (name, text) = (&known.name, story.to_string());
        log_line::append(&mut lines, now, LogSource::Heroku, name, text.as_bytes());
    }
    LogWriter::open(&known.logs, known.limits)?.append(&lines)
}

/// What the log says of a dyno already, near its end.
#[derive(Debug, Default)]
struct Told {
    /// That its command has ended.
    exited: bool,
    /// That it has ended.
    ended: bool,
    /// That it was lost, without a state after it.
    lost: bool,
    /// What it was before it ended; newer than what the store knows.
    state: Option<DynoState>,
}

impl Told {
    fn of(known: &LoggedDyno) -> io::Result<Self> {
        let (mut told, mut seen) = (Self::default(), 0);
        // Of a start that failed, a supervisor tells the log before it tells the server; of a command's end after it,
        // since the last lines follow the last output.
        told.ended = known.state == DynoState::Crashed;
        log_file::last_lines(&known.logs, 1, |line| {
            seen += line.len();
            told.take(line, &known.name);
            told.state.is_some() || seen > TAIL
        })?;
        Ok(told)
    }

    /// Takes in one line more, from the last one backwards. What a command has printed is of another source.
    fn take(&mut self, line: &[u8], name: &str) {
        let platform = |line: &log_line::Line<'_>| {
            line.source == LogSource::Heroku && line.process == name.as_bytes()
        };
        let Some(line) = log_line::parse(line).filter(platform) else {
            return;
        };
        match Story::parse(str::from_utf8(line.text).unwrap_or_default()) {
            Story::Exited(_) => self.exited = true,
            Story::Lost(_) => self.lost = true,
            Story::StateChanged { to, .. } => match to {
                DynoState::Complete | DynoState::Crashed => self.ended = true,
                state => self.state = Some(state),
            },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::model::dyno::{Exit, Spent};

    fn known(logs: &Path, state: DynoState) -> LoggedDyno {
        LoggedDyno {
            name: "run.1".to_owned(),
            state,
            logs: logs.to_owned(),
            limits: LogLimits::default(),
        }
    }

    fn lines(logs: &Path) -> Vec<String> {
        let log = fs::read_to_string(logs.join("00000001.log")).unwrap_or_default();
        let lines = log
            .lines()
            .map(|line| line.split_once(' ').unwrap().1.to_owned());
        lines.collect()
    }

    type Said<'a> = (LogSource, &'a str, &'a str);

    /// What a log that has these lines is told of a dyno that the store thinks is in `state`.
    fn told(before: &[Said<'_>], state: DynoState, record: Option<&ExitRecord>) -> Vec<String> {
        let (folder, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut log = Vec::new();
        for (source, process, text) in before {
            log_line::append(
                &mut log,
                Timestamp::now(),
                *source,
                process,
                text.as_bytes(),
            );
        }
        let known = known(logs.path(), state);
        let mut writer = LogWriter::open(logs.path(), known.limits).unwrap();
        writer.append(&log).unwrap();
        let scratch = folder.path().join(supervisor::SCRATCH);
        fs::create_dir_all(scratch.join("upper")).unwrap();
        if let Some(record) = record {
            let json = serde_json::to_vec(record).unwrap();
            fs::write(folder.path().join("exit.json"), json).unwrap();
        }
        // As often as it is tried.
        for _ in 0..2 {
            let end = settle(folder.path(), Some(&known)).unwrap();
            assert_eq!(end, record.cloned().unwrap_or_else(supervisor::lost_record));
        }
        assert!(!scratch.exists());
        lines(logs.path()).split_off(before.len())
    }

    fn platform(text: &str) -> Said<'_> {
        (LogSource::Heroku, "run.1", text)
    }

    const UP: Said<'_> = (
        LogSource::Heroku,
        "run.1",
        "State changed from starting to up",
    );

    fn lost(from: &str) -> [String; 2] {
        [
            "heroku[run.1]: Error R99 (Platform error) -> The dyno was lost: its supervisor is gone"
                .to_owned(),
            format!("heroku[run.1]: State changed from {from} to crashed"),
        ]
    }

    #[test]
    fn the_log_is_told_once_and_from_which_state() {
        use DynoState::{Starting, Up};
        assert_eq!(told(&[], Starting, None), lost("starting"));
        assert_eq!(told(&[], Up, None), lost("up"));
        assert_eq!(told(&[UP], Starting, None), lost("up"));
        for last in [
            "State changed from up to complete",
            "State changed from up to crashed",
        ] {
            assert_eq!(told(&[UP, platform(last)], Up, None), [""; 0]);
            assert_eq!(told(&[], DynoState::Crashed, None), [""; 0]);
            for other in [
                (LogSource::Heroku, "run.11", last),
                (LogSource::App, "run.1", last),
            ] {
                assert_eq!(told(&[UP, other], Up, None), lost("up"), "{other:?}");
            }
        }
    }

    #[test]
    fn of_the_formation_a_crash_is_told_whole_and_of_a_retired_one_only_that_it_was_lost() {
        use DynoState::{Crashed, Down, Starting, Up};
        let record = ExitRecord {
            state: Crashed,
            exit: Exit::Status(3),
            reason: EndReason::Exited,
            message: None,
            at_us: Some(1),
            spent: Spent::default(),
        };
        let exited = platform("Process exited with status 3");
        let crashed = platform("State changed from up to crashed");
        let lines = [exited, crashed].map(|(_, _, text)| format!("heroku[run.1]: {text}"));
        assert_eq!(told(&[UP], Up, Some(&record)), lines);
        assert_eq!(told(&[UP, exited], Up, Some(&record)), lines[1..]);
        assert_eq!(told(&[UP, exited, crashed], Up, Some(&record)), [""; 0]);
        // Of the one before it the log has an end, too.
        let again = platform("State changed from crashed to starting");
        assert_eq!(
            told(&[UP, crashed, again], Starting, None),
            lost("starting")
        );

        let restarting = platform("State changed from up to starting");
        assert_eq!(told(&[UP, restarting, UP], Down, None), lost("up")[..1]);
        let record = ExitRecord {
            state: Down,
            reason: EndReason::Restarted,
            ..record
        };
        assert_eq!(told(&[UP, restarting], Down, Some(&record)), [""; 0]);
    }

    #[test]
    fn what_the_supervisor_has_recorded_is_the_end_and_told_as_far_as_it_was_not() {
        let record = ExitRecord {
            state: DynoState::Complete,
            exit: Exit::Signal(9),
            reason: EndReason::Exited,
            message: None,
            at_us: Some(1),
            spent: Spent::default(),
        };
        let exited = platform("Process exited with status 137");
        let complete = platform("State changed from up to complete");
        let lines = [exited, complete].map(|(_, _, text)| format!("heroku[run.1]: {text}"));
        // The server may know already that the command has ended.
        for known in [DynoState::Up, DynoState::Complete] {
            let told = |before: &[Said<'_>]| told(before, known, Some(&record));
            assert_eq!(told(&[]), lines);
            assert_eq!(told(&[UP]), lines);
            assert_eq!(told(&[UP, exited]), lines[1..]);
            // A dyno that is cycled says so first.
            assert_eq!(told(&[UP, complete]), lines[..1]);
            assert_eq!(told(&[UP, exited, complete]), [""; 0]);
            assert_eq!(told(&[UP, complete, exited]), [""; 0]);
        }
    }
}
