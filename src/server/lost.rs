//! The end of a dyno whose supervisor did not get to tell of it: what it wrote goes, and its app's log says that it
//! was lost.
//!
//! Called by the server when it notices; what is slow about it is apart, for a worker. It may be killed itself in the
//! middle, and its successor begins again: so what the log says already is not said twice.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::dyno::{Dyno, DynoState, EndReason, ExitRecord};
use crate::log_file::{self, LogWriter};
use crate::log_line::{self, Source};
use crate::supervisor;

/// How much of the log's end is looked through for what was said last of a dyno, in bytes. Between a dyno's last line
/// and its exit record are microseconds, so what is further back was another server's to see to.
const TAIL: u64 = 1024 * 1024;

/// What the log is told of such a dyno, beside its new state.
const WHY: &str = "Error R99 (Platform error) -> The dyno was lost: its supervisor is gone";

/// Who a dyno is to its app's log.
#[derive(Debug)]
pub struct Known {
    /// `run.1`.
    pub name: String,
    /// Its state before it was lost.
    pub state: DynoState,
    /// The folder of the app's log.
    pub logs: PathBuf,
}

impl Known {
    /// What is needed of a dyno that has not ended in the store.
    pub fn new(dyno: &Dyno, logs: PathBuf) -> Option<Self> {
        dyno.ended.is_none().then(|| Self {
            name: dyno.name.to_string(),
            state: dyno.state,
            logs,
        })
    }
}

/// The last lines of logs, each read once.
#[derive(Debug, Default)]
pub struct Tails(HashMap<PathBuf, Vec<u8>>);

impl Tails {
    fn of(&mut self, logs: &Path) -> &[u8] {
        self.0
            .entry(logs.to_owned())
            .or_insert_with(|| tail(&logs.join(log_file::CURRENT)).unwrap_or_default())
    }
}

/// How a dyno ended that nobody lives in any more. What it wrote goes; and if it was lost, its log says so.
///
/// `record` is what was heard of its end, if that was heard; `known` is nobody if the store does not know it, or knows
/// its end.
pub fn settle(
    folder: &Path,
    record: Option<ExitRecord>,
    known: Option<&Known>,
    tails: &mut Tails,
) -> ExitRecord {
    // First of all: it may be what filled the disk.
    let _ = crate::slug::remove_tree(&folder.join(supervisor::SCRATCH));
    let record = record.or_else(|| supervisor::read_record(folder).ok());
    let record = record.unwrap_or_else(supervisor::lost_record);
    if record.reason == EndReason::Lost
        && let Some(known) = known
    {
        let said = last_words(tails.of(&known.logs), known);
        let told = LogWriter::open(&known.logs).and_then(|mut log| log.append(&said));
        if let Err(error) = told {
            eprintln!("cannot log the end of {}: {error}", known.name);
        }
    }
    record
}

/// The lines that are missing at the end of a lost dyno's story, if `log` ends as it does.
fn last_words(log: &[u8], known: &Known) -> Vec<u8> {
    let Known { name, state, .. } = known;
    let (mut state, mut over) = (*state, false);
    let marker = format!("heroku[{name}]: State changed from ");
    for line in log.split(|&byte| byte == b'\n') {
        // After the time: what a command prints is no such line.
        let text = line.splitn(2, |&byte| byte == b' ').nth(1);
        let Some(change) = text.and_then(|text| text.strip_prefix(marker.as_bytes())) else {
            continue;
        };
        let change = String::from_utf8_lossy(change);
        match change
            .split_once(" to ")
            .and_then(|(_, to)| DynoState::parse(to))
        {
            Some(DynoState::Complete | DynoState::Crashed) => over = true,
            Some(new) => state = new,
            None => {}
        }
    }
    let mut lines = Vec::new();
    if !over {
        let now = Timestamp::now();
        let crashed = format!("State changed from {state} to {}", DynoState::Crashed);
        for text in [WHY, &crashed] {
            log_line::append(&mut lines, now, Source::Heroku, name, text.as_bytes());
        }
    }
    lines
}

fn tail(log: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(log)?;
    let start = file.metadata()?.len().saturating_sub(TAIL);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(2 * TAIL).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dyno::Exit;

    fn log(lines: &[&str]) -> Vec<u8> {
        let time = "2026-11-23T01:49:12.888054+00:00";
        let lines = lines.iter().map(|line| format!("{time} {line}\n"));
        lines.collect::<String>().into_bytes()
    }

    fn said(log: &[u8], state: DynoState) -> Vec<String> {
        let known = Known {
            name: "run.1".to_owned(),
            state,
            logs: PathBuf::new(),
        };
        let lines = String::from_utf8(last_words(log, &known)).unwrap();
        let lines = lines
            .lines()
            .map(|line| line.split_once(' ').unwrap().1.to_owned());
        lines.collect()
    }

    fn lost(from: &str) -> Vec<String> {
        vec![
            format!("heroku[run.1]: {WHY}"),
            format!("heroku[run.1]: State changed from {from} to crashed"),
        ]
    }

    #[test]
    fn the_log_is_told_once_and_from_which_state() {
        let up = "heroku[run.1]: State changed from starting to up";
        assert_eq!(said(&[], DynoState::Starting), lost("starting"));
        assert_eq!(said(&[], DynoState::Up), lost("up"));
        // The store may not have heard of it.
        assert_eq!(said(&log(&[up]), DynoState::Starting), lost("up"));
        for last in [
            "heroku[run.1]: State changed from up to complete",
            "heroku[run.1]: State changed from up to crashed",
        ] {
            assert_eq!(said(&log(&[up, last]), DynoState::Up), [""; 0], "{last}");
        }
        for other in [
            "heroku[run.11]: State changed from up to complete",
            "app[run.1]: heroku[run.1]: State changed from up to complete",
        ] {
            assert_eq!(
                said(&log(&[up, other]), DynoState::Up),
                lost("up"),
                "{other}"
            );
        }
    }

    #[test]
    fn what_was_recorded_or_heard_is_the_end() {
        let (folder, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let known = Known {
            name: "run.1".to_owned(),
            state: DynoState::Up,
            logs: logs.path().to_owned(),
        };
        let complete = ExitRecord {
            state: DynoState::Complete,
            exit: Exit::Status(3),
            reason: EndReason::Exited,
            message: None,
            at_us: None,
        };
        std::fs::create_dir_all(folder.path().join(supervisor::SCRATCH).join("upper")).unwrap();
        let settled = |heard| settle(folder.path(), heard, Some(&known), &mut Tails::default());
        assert_eq!(settled(Some(complete.clone())), complete);
        assert!(!folder.path().join(supervisor::SCRATCH).exists());
        let log = logs.path().join(log_file::CURRENT);
        assert!(!log.exists());
        for _ in 0..2 {
            assert_eq!(settled(None), supervisor::lost_record());
        }
        assert_eq!(std::fs::read_to_string(&log).unwrap().lines().count(), 2);
    }
}
