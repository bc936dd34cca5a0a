//! What supervisors tell of dynos, and what is found of those whose supervisor was killed: it is written down here.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use jiff::Timestamp;

use super::Dynos;
use super::lost;
use crate::error::tell;
use crate::kernel::fail_point;
use crate::kernel::tree::remove_tree;
use crate::model::dyno::{DynoEnd, ExitRecord};
use crate::server::dynos::lost::LoggedDyno;
use crate::server::dynos::supervisors::{DynoNews, LostDyno};
use crate::server::records::Records;
use crate::store::{Store, StoreError, StoreErrorKind};
use crate::supervisor::SCRATCH;
use crate::wire::reactor::{Reactor, Token};

/// How much of what went wrong is remembered, in characters.
const LONGEST_MESSAGE: usize = 1_000;

/// How long after a disk that was too full it is tried again.
const RETRY: Duration = Duration::from_secs(1);

impl Dynos {
    /// Takes what a supervisor has said, and writes it down.
    pub fn hear(&mut self, token: Token, store: &mut Store, reactor: &mut Reactor) -> HeardOfDynos {
        let mut heard = HeardOfDynos::default();
        let news = match token == self.retry_token {
            true => {
                heard.uncleared = std::mem::take(&mut self.uncleared);
                std::mem::take(&mut self.unwritten)
            }
            false => self.supervisors.hear(token, reactor),
        };
        for news in news {
            match news {
                DynoNews::Gone(remains) => heard.gone.push(remains),
                other => {
                    if let DynoNews::State { dyno, .. } = &other {
                        heard.changed.push(dyno.clone());
                    }
                    heard
                        .ended
                        .extend(self.note_now_or_later(other, store, reactor));
                }
            }
        }
        heard
    }

    /// Writes down what a supervisor has said. What cannot be written now, because the disk is full, is tried again; and the next server
    /// finds it in the dyno's folder. Returns the dyno's id if it has ended by it.
    pub(super) fn note_now_or_later(
        &mut self,
        news: DynoNews,
        store: &mut Store,
        reactor: &mut Reactor,
    ) -> Option<String> {
        match &news {
            DynoNews::State { dyno, listener, .. } => {
                match listener {
                    Some(listener) => {
                        self.listeners.insert(dyno.clone(), *listener);
                        if listener.apart {
                            self.open_door(dyno);
                        }
                    }
                    None => drop(self.listeners.remove(dyno)),
                };
            }
            DynoNews::Ended { dyno, .. } => {
                self.listeners.remove(dyno);
                self.doors.remove(dyno);
            }
            DynoNews::Gone(_) => {}
        }
        match (self.note(&news, store), news) {
            (Ok(()), DynoNews::Ended { dyno, .. }) => {
                fail_point::reach("dyno.end_noted");
                self.clear(&dyno, reactor);
                Some(dyno)
            }
            (Ok(()), _) => None,
            (Err(error), news) => {
                tell!("cannot note the state of a dyno: {error}");
                self.unwritten.push(news);
                reactor.set_deadline(self.retry_token, Instant::now() + RETRY);
                None
            }
        }
    }

    fn note(&mut self, news: &DynoNews, store: &mut Store) -> Result<(), StoreError> {
        let (dyno, record) = match news {
            DynoNews::State {
                dyno, state, at, ..
            } => return store.update_dyno(dyno, *state, *at),
            DynoNews::Ended { dyno, record } => (dyno, record),
            // Its cleanup comes first.
            DynoNews::Gone(_) => return Ok(()),
        };
        let at = record
            .at_us
            .and_then(|at| Timestamp::from_microsecond(at).ok());
        let ended = DynoEnd {
            at: at.unwrap_or_else(Timestamp::now),
            exit: record.exit,
            reason: record.reason.as_str().map(str::to_owned),
            message: record.message.as_deref().map(cut),
            spent: record.spent,
        };
        match store.end_dyno(dyno, record.state, &ended, self.settings.kept_dynos) {
            Ok(_) => {}
            // Its app was destroyed meanwhile.
            Err(error) if error.kind() == StoreErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.trees.remove(dyno);
        Ok(())
    }

    /// The folder of an ended dyno goes: a few small files, if what the dyno wrote is gone already. Where that is not so,
    /// as another process keeps making files in it, a worker tries again and again.
    fn clear(&mut self, id: &str, reactor: &mut Reactor) {
        let folder = self.supervisors.folder_of(id);
        if folder.join(SCRATCH).exists() {
            return self.clear_later(folder, reactor);
        }
        let cleared = fail_point::attempt("dyno.clearing").and_then(|()| remove_tree(&folder));
        if let Err(error) = cleared {
            tell!(
                "cannot remove `{}`: {error}; it is tried again every second",
                folder.display()
            );
            self.clear_later(folder, reactor);
        }
    }

    /// Has the folder of an ended dyno removed in a while.
    pub fn clear_later(&mut self, folder: PathBuf, reactor: &mut Reactor) {
        self.uncleared.push(folder);
        reactor.set_deadline(self.retry_token, Instant::now() + RETRY);
    }

    /// The work that is left of a dyno whose supervisor was killed.
    pub fn cleanup(&self, remains: LostDyno, records: &Records) -> Cleanup {
        let row = records.store.dyno_of_id(&remains.dyno).ok();
        Cleanup {
            folder: self.supervisors.folder_of(&remains.dyno),
            known: row.and_then(|row| LoggedDyno::new(&row, records)),
            remains,
        }
    }

    /// Writes down the end that a cleanup has found. Returns the dyno's id if it has ended by it.
    pub fn cleaned_up(
        &mut self,
        cleanup: Cleanup,
        record: ExitRecord,
        store: &mut Store,
        reactor: &mut Reactor,
    ) -> Option<String> {
        let dyno = cleanup.remains.dyno.clone();
        self.note_now_or_later(DynoNews::Ended { dyno, record }, store, reactor)
    }

    /// Comes back soon to a cleanup for which no worker has time now, or which cannot be done now.
    pub fn put_off(&mut self, dyno: String, reactor: &mut Reactor) {
        self.supervisors.unsettle(dyno, reactor);
    }
}

/// As much of a message as is kept.
fn cut(message: &str) -> String {
    crate::error::shown(message.as_bytes(), LONGEST_MESSAGE)
}

/// What came of [`Dynos::hear`].
#[derive(Debug, Default)]
pub struct HeardOfDynos {
    /// The ids of dynos that have ended.
    pub ended: Vec<String>,
    /// The ids of dynos that have said what they are now.
    pub changed: Vec<String>,
    /// Folders of ended dynos that are to be removed.
    pub uncleared: Vec<PathBuf>,
    /// Dynos that are over, and whose supervisors did not tell how: each needs a cleanup.
    pub gone: Vec<LostDyno>,
}

/// The work that is left of a dyno whose supervisor was killed.
#[derive(Debug)]
pub struct Cleanup {
    remains: LostDyno,
    folder: PathBuf,
    known: Option<LoggedDyno>,
}

impl Cleanup {
    /// The id of the dyno.
    pub fn dyno(&self) -> &str {
        &self.remains.dyno
    }

    /// Removes what the dyno wrote and tells its log, if need be; the result is how it ended. May take its time.
    ///
    /// # Errors
    /// When it is to be [put off](Dynos::put_off).
    pub fn perform(&self) -> io::Result<ExitRecord> {
        lost::settle(&self.folder, self.known.as_ref())
    }
}
