//! The end of a dyno whose supervisor did not get to tell of it: what it wrote goes, and its app's log says that it
//! was lost.
//!
//! Called by the server when it notices; what is slow about it is apart, for a worker. It may be killed itself in the
//! middle, and its successor begins again: so what the log says already is not said twice.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::host::Host;
use crate::dyno::{Dyno, DynoState, EndReason, ExitRecord};
use crate::log_file::{self, LogWriter};
use crate::log_line::{self, Source};
use crate::supervisor;

/// How much of the log's end is looked through for what was said last of a dyno, in bytes. Between a dyno's last line
/// and its exit record are microseconds, so what is further back was another server's to see to.
const TAIL: usize = 1024 * 1024;

/// What the log is told of such a dyno, beside its new state.
const WHY: &str = "Error R99 (Platform error) -> The dyno was lost: its supervisor is gone";

/// The first words of a line that tells of a new state.
const CHANGE: &str = "State changed from ";

/// Who a dyno is to its app's log.
#[derive(Debug)]
pub struct Known {
    name: String,
    /// Its state before it was lost.
    state: DynoState,
    logs: PathBuf,
    limits: log_file::Limits,
}

impl Known {
    /// What is needed of a dyno; nothing of one that has ended already, as the store knows.
    pub fn new(dyno: &Dyno, host: &Host) -> Option<Self> {
        dyno.ended.is_none().then(|| Self {
            name: dyno.name.to_string(),
            state: dyno.state,
            logs: host.log_folder(&dyno.app_id),
            limits: host.log_limits(),
        })
    }
}

/// How a dyno ended in whose folder nobody lives any more. What it wrote goes; and if it was lost, the log says so.
pub fn settle(folder: &Path, known: Option<&Known>) -> ExitRecord {
    supervisor::end_strays(folder);
    // Before anything is written: it may be what filled the disk.
    let _ = crate::slug::remove_tree(&folder.join(supervisor::SCRATCH));
    let record = supervisor::read_record(folder).unwrap_or_else(|_| supervisor::lost_record());
    if record.reason == EndReason::Lost
        && let Some(known) = known
        && let Err(error) = tell(known)
    {
        eprintln!("cannot log the end of {}: {error}", known.name);
    }
    record
}

/// Writes the lines that are missing at the end of a lost dyno's story.
fn tell(known: &Known) -> std::io::Result<()> {
    let state = match last_state(known)? {
        Some(DynoState::Complete | DynoState::Crashed) => return Ok(()),
        // The store need not have heard of it.
        Some(newer) => newer,
        None => known.state,
    };
    let (mut lines, now) = (Vec::new(), Timestamp::now());
    let crashed = format!("{CHANGE}{state} to {}", DynoState::Crashed);
    for text in [WHY, &crashed] {
        log_line::append(
            &mut lines,
            now,
            Source::Heroku,
            &known.name,
            text.as_bytes(),
        );
    }
    LogWriter::open(&known.logs, known.limits)?.append(&lines)
}

/// The state that the log told last, if that is not long ago.
fn last_state(known: &Known) -> std::io::Result<Option<DynoState>> {
    let (mut state, mut seen) = (None, 0);
    log_file::last_lines(&known.logs, 1, |line| {
        seen += line.len();
        state = new_state(line, &known.name);
        state.is_some() || seen > TAIL
    })?;
    Ok(state)
}

/// The state that a line tells of a dyno. Not of what a command has printed: that is of another source.
fn new_state(line: &[u8], name: &str) -> Option<DynoState> {
    let line = log_line::parse(line)?;
    let platform = line.source == Source::Heroku && line.process == name.as_bytes();
    let text = str::from_utf8(line.text).ok().filter(|_| platform)?;
    let (_, new) = text.strip_prefix(CHANGE)?.split_once(" to ")?;
    DynoState::parse(new)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::dyno::Exit;

    fn known(logs: &Path, state: DynoState) -> Known {
        Known {
            name: "run.1".to_owned(),
            state,
            logs: logs.to_owned(),
            limits: log_file::Limits::default(),
        }
    }

    fn lines(logs: &Path) -> Vec<String> {
        let log = fs::read_to_string(logs.join("00000001.log")).unwrap_or_default();
        let lines = log
            .lines()
            .map(|line| line.split_once(' ').unwrap().1.to_owned());
        lines.collect()
    }

    /// What a log that has these lines is told of a lost dyno that the store thinks is in `state`.
    fn told(before: &[(Source, &str, &str)], state: DynoState) -> Vec<String> {
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
        let limits = log_file::Limits::default();
        LogWriter::open(logs.path(), limits)
            .unwrap()
            .append(&log)
            .unwrap();
        // As often as it is tried.
        for _ in 0..2 {
            let record = settle(folder.path(), Some(&known(logs.path(), state)));
            assert_eq!(record, supervisor::lost_record());
        }
        lines(logs.path()).split_off(before.len())
    }

    fn lost(from: &str) -> [String; 2] {
        [
            format!("heroku[run.1]: {WHY}"),
            format!("heroku[run.1]: State changed from {from} to crashed"),
        ]
    }

    #[test]
    fn the_log_is_told_once_and_from_which_state() {
        use DynoState::{Starting, Up};
        let platform = |text| (Source::Heroku, "run.1", text);
        let up = platform("State changed from starting to up");
        assert_eq!(told(&[], Starting), lost("starting"));
        assert_eq!(told(&[], Up), lost("up"));
        assert_eq!(told(&[up], Starting), lost("up"));
        for last in [
            "State changed from up to complete",
            "State changed from up to crashed",
        ] {
            assert_eq!(told(&[up, platform(last)], Up), [""; 0]);
            for other in [
                (Source::Heroku, "run.11", last),
                (Source::App, "run.1", last),
            ] {
                assert_eq!(told(&[up, other], Up), lost("up"), "{other:?}");
            }
        }
    }

    #[test]
    fn what_the_supervisor_has_recorded_is_the_end() {
        let (folder, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let record = ExitRecord {
            state: DynoState::Complete,
            exit: Exit::Status(3),
            reason: EndReason::Exited,
            message: None,
            at_us: Some(1),
        };
        let scratch = folder.path().join(supervisor::SCRATCH);
        fs::create_dir_all(scratch.join("upper")).unwrap();
        fs::write(
            folder.path().join("exit.json"),
            serde_json::to_vec(&record).unwrap(),
        )
        .unwrap();
        let known = known(logs.path(), DynoState::Up);
        assert_eq!(settle(folder.path(), Some(&known)), record);
        assert!(!scratch.exists() && lines(logs.path()).is_empty());
    }
}
