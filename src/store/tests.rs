//! Every verb, on a real file; and what must hold whatever the order of the verbs.

mod apps;
mod builds;
mod dynos;
mod file;
mod folders;
mod formation;
mod releases;
mod sessions;
mod usage;
mod whatever_the_order;

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::model::app::{App, AppName, Folder};
use crate::model::config_var::{Config, ConfigChange};
use crate::model::dyno::{Attach, Dyno, DynoEnd, DynoState, Exit, MostDynos, Spent};
use crate::model::release::{Release, ReleaseStatus, Toolchains, Version};
use crate::model::settings::Settings;
use crate::model::size::Size;

const USER: &str = "ada@example.org";

impl Store {
    /// All releases of an app, the newest first.
    fn releases(&self, app_id: &str) -> Result<Vec<Release>> {
        let all = Version(0)..=Version(u32::MAX);
        let (releases, more) = self.release_page(app_id, all, true, 10_000)?;
        assert!(!more);
        Ok(releases)
    }
}

/// A store in a folder of its own, and a clock that moves when it is looked at.
struct Host {
    store: Store,
    folder: TempDir,
    seconds: i64,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.db")).unwrap();
        Self {
            store,
            folder,
            seconds: 0,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("state.db")
    }

    fn now(&mut self) -> Timestamp {
        self.seconds += 1;
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(self.seconds)
    }

    fn create(&mut self, name: &str) -> Result<App> {
        let now = self.now();
        self.store
            .create_app(&WantedName::Exactly(AppName::parse(name)?), USER, None, now)
    }

    /// A slug that has arrived; its digest is made of `content`.
    fn slug(&mut self, app: &str, content: u8, types: &[(&str, &str)]) -> String {
        let new = NewSlug {
            process_types: types.iter().copied().collect(),
            ..NewSlug::default()
        };
        let now = self.now();
        let slug = self.store.create_slug(app, &new, now).unwrap();
        self.store
            .slug_uploaded(&slug.id, &digest(content), 1000, now)
            .unwrap();
        slug.id
    }

    fn deploy(&mut self, app: &str, content: u8) -> Release {
        let slug_id = self.slug(app, content, &[("web", "./web"), ("worker", "./work")]);
        let now = self.now();
        let new = NewRelease {
            slug_id,
            ..NewRelease::default()
        };
        self.store.create_release(app, &new, USER, now).unwrap()
    }

    fn config(&mut self, app: &str, change: &[(&str, Option<&str>)]) -> Option<Release> {
        let change: ConfigChange = change
            .iter()
            .map(|(name, value)| ((*name).into(), value.map(Into::into)))
            .collect();
        let now = self.now();
        self.store.change_config(app, &change, USER, now).unwrap().1
    }

    fn run(&mut self, app: &str, size: &str) -> Result<Dyno> {
        let new = NewDyno {
            id: None,
            process_type: "run".into(),
            command: "bash".into(),
            size: Size::of_heroku(size).unwrap(),
            attach: Attach::Pipes,
            limits: MostDynos::of(&Settings::default()),
        };
        let now = self.now();
        self.store.create_dyno(app, &new, now)
    }

    fn end(&mut self, dyno: &str) -> Dyno {
        self.end_keeping(dyno, 1000)
    }

    fn end_keeping(&mut self, dyno: &str, keep: u32) -> Dyno {
        let ended = DynoEnd {
            at: self.now(),
            exit: Exit::Status(0),
            reason: None,
            message: None,
            spent: Spent::default(),
        };
        self.store
            .end_dyno(dyno, DynoState::Complete, &ended, keep)
            .unwrap()
    }
}

fn digest(content: u8) -> String {
    format!("{content:02x}").repeat(32)
}

fn folder(path: &str, inode: u64) -> Folder {
    Folder {
        path: path.into(),
        device: u64::MAX,
        inode,
    }
}
