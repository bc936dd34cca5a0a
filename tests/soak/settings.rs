//! Config vars that are set and unset while everything is killed: what was acknowledged is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::Value;

use crate::possible::Possible;
use crate::random::Random;
use crate::scene::Scene;

const NAMES: u64 = 6;

/// An app whose config vars change, and what is known of them.
pub struct Settings<'a> {
    scene: Scene<'a>,
    app: PathBuf,
    vars: BTreeMap<String, Possible<Option<String>>>,
    /// The releases that were acknowledged.
    versions: BTreeSet<u64>,
    changes: u64,
}

impl<'a> Settings<'a> {
    pub fn new(scene: Scene<'a>) -> Self {
        let app = Scene::app(scene.host, "configured", &[("Procfile", "worker: x\n")]);
        let names = (0..NAMES).map(|n| (format!("V{n}"), Possible::new(None)));
        Self {
            scene,
            app,
            vars: names.collect(),
            versions: BTreeSet::new(),
            changes: 0,
        }
    }

    /// Until it is told to stop; returns how many changes were acknowledged.
    pub fn change(&mut self, mut random: Random) -> usize {
        while self.scene.goes_on(&mut random, 300) {
            self.changes += 1;
            let name = format!("V{}", random.below(NAMES));
            let value = (random.below(4) > 0).then(|| self.changes.to_string());
            let var = self.vars.get_mut(&name).unwrap();
            var.tried(value.clone());
            let done = match &value {
                Some(value) => {
                    let set = format!("{name}={value}");
                    self.scene.does(&self.app, &["config:set", &set])
                }
                None => self.scene.does(&self.app, &["config:unset", &name]),
            };
            if let Some(done) = done {
                var.acknowledged();
                self.is_new(&done.errors());
            }
            if random.below(4) == 0 {
                self.check();
            }
        }
        self.versions.len()
    }

    /// A number that a change was given is no other's.
    fn is_new(&mut self, said: &str) {
        let version = said.rsplit("done, v").next().unwrap_or_default().trim();
        let Ok(version) = version.parse() else {
            panic!("no version: {said}");
        };
        // To unset what is not set is no change, and says the release that there is.
        let new = self.versions.insert(version);
        let last = self.versions.last() == Some(&version);
        assert!(new || last, "v{version} was given twice");
    }

    /// All is there, as far as a server answers.
    pub fn check(&self) {
        let Some(listed) = self.scene.does(&self.app, &["config", "--json"]) else {
            return;
        };
        let config: Value = serde_json::from_str(&listed.text()).unwrap();
        for (name, var) in &self.vars {
            let there = config[name].as_str().map(str::to_owned);
            assert!(var.allows(&there), "{name} is {there:?}, not {var:?}");
        }
        if let Some(releases) = self.scene.releases(&self.app) {
            let last = self.versions.last().copied().unwrap_or(0);
            assert!(releases.len() as u64 >= last, "v{last} is gone");
        }
    }
}
