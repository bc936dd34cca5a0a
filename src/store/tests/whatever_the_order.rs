//! Verbs in any order, beside a model in memory of what must come of them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

#[derive(Debug, Clone)]
enum Verb {
    Create(usize),
    Destroy(usize),
    Deploy(usize, u8),
    Set(usize, char, u8),
    Unset(usize, char),
    Rollback(usize, Index),
    Run(usize),
    End(Index, u32),
}

const NAMES: [&str; 3] = ["aaa", "bbb", "ccc"];

fn verb() -> impl Strategy<Value = Verb> {
    let app = 0..NAMES.len();
    let var = prop::sample::select(vec!['A', 'B', 'C']);
    prop_oneof![
        2 => app.clone().prop_map(Verb::Create),
        1 => app.clone().prop_map(Verb::Destroy),
        4 => (app.clone(), 0u8..4).prop_map(|(app, content)| Verb::Deploy(app, content)),
        4 => (app.clone(), var.clone(), 0u8..3).prop_map(|(app, var, value)| Verb::Set(app, var, value)),
        2 => (app.clone(), var).prop_map(|(app, var)| Verb::Unset(app, var)),
        4 => (app.clone(), any::<Index>()).prop_map(|(app, which)| Verb::Rollback(app, which)),
        5 => app.clone().prop_map(Verb::Run),
        4 => (any::<Index>(), 0u32..3).prop_map(|(which, keep)| Verb::End(which, keep)),
    ]
}

/// What an app must be: slug and config of each release, the first being v1; the last run number.
#[derive(Default)]
struct Model {
    id: String,
    releases: Vec<(Option<String>, Config)>,
    last_run: u32,
}

#[derive(Default)]
struct World {
    apps: BTreeMap<usize, Model>,
    alive: Vec<(usize, String)>,
}

impl World {
    /// Does the verb to the store and to the model, and compares what it returns.
    fn perform(&mut self, host: &mut Host, verb: &Verb) -> std::result::Result<(), TestCaseError> {
        match *verb {
            Verb::Create(app) => {
                let created = host.create(NAMES[app]);
                prop_assert_eq!(created.is_err(), self.apps.contains_key(&app));
                if let Ok(created) = created {
                    let releases = vec![(None, Config::new())];
                    self.apps.insert(
                        app,
                        Model {
                            id: created.id,
                            releases,
                            last_run: 0,
                        },
                    );
                }
            }
            Verb::Destroy(app) => {
                if let Some(model) = self.apps.remove(&app) {
                    host.store.destroy_app(&model.id).unwrap();
                    self.alive.retain(|(owner, _)| *owner != app);
                }
            }
            Verb::Deploy(app, content) => {
                if let Some(model) = self.apps.get_mut(&app) {
                    let release = host.deploy(&model.id, content);
                    let config = model.releases.last().unwrap().1.clone();
                    model.releases.push((release.digest, config));
                }
            }
            Verb::Set(app, var, value) => self.change(host, app, var, Some(value.to_string()))?,
            Verb::Unset(app, var) => self.change(host, app, var, None)?,
            Verb::Rollback(app, which) => {
                if let Some(model) = self.apps.get_mut(&app) {
                    let index = which.index(model.releases.len());
                    let now = host.now();
                    let version = (index + 1).to_string();
                    let done = host.store.rollback(&model.id, &version, None, USER, now);
                    let old = model.releases[index].clone();
                    let possible = index + 1 < model.releases.len() && old.0.is_some();
                    prop_assert_eq!(done.is_ok(), possible);
                    if possible {
                        model.releases.push(old);
                    }
                }
            }
            Verb::Run(app) => {
                if let Some(model) = self.apps.get_mut(&app) {
                    let run = host.run(&model.id, "1X");
                    let deployed = model.releases.last().unwrap().0.is_some();
                    let alive = self.alive.iter().filter(|(owner, _)| *owner == app).count();
                    prop_assert_eq!(run.is_ok(), deployed && alive < 50);
                    if let Ok(dyno) = run {
                        model.last_run += 1;
                        prop_assert_eq!(dyno.name.number, model.last_run);
                        prop_assert_eq!(dyno.release_version.0 as usize, model.releases.len());
                        self.alive.push((app, dyno.id));
                    }
                }
            }
            Verb::End(which, keep) => {
                if !self.alive.is_empty() {
                    let (_, id) = self.alive.remove(which.index(self.alive.len()));
                    host.end_keeping(&id, keep);
                }
            }
        }
        Ok(())
    }

    fn change(
        &mut self,
        host: &mut Host,
        app: usize,
        var: char,
        value: Option<String>,
    ) -> std::result::Result<(), TestCaseError> {
        let Some(model) = self.apps.get_mut(&app) else {
            return Ok(());
        };
        let (slug, mut config) = model.releases.last().unwrap().clone();
        let before = config.clone();
        match &value {
            Some(value) => config.insert(var.to_string(), value.clone()),
            None => config.remove(&var.to_string()),
        };
        let release = host.config(&model.id, &[(&var.to_string(), value.as_deref())]);
        prop_assert_eq!(release.is_some(), config != before);
        if release.is_some() {
            model.releases.push((slug, config));
        }
        Ok(())
    }

    /// Compares all that the store says with the model.
    fn compare(&self, host: &Host) -> std::result::Result<(), TestCaseError> {
        prop_assert_eq!(host.store.apps().unwrap().len(), self.apps.len());
        for model in self.apps.values() {
            let releases = host.store.releases(&model.id).unwrap();
            let versions: Vec<_> = releases
                .iter()
                .rev()
                .map(|release| release.version.0)
                .collect();
            prop_assert_eq!(
                versions,
                (1..=model.releases.len() as u32).collect::<Vec<_>>()
            );
            for (release, (digest, config)) in releases.iter().rev().zip(&model.releases) {
                prop_assert_eq!(&release.digest, digest);
                prop_assert_eq!(&host.store.release_config(&release.id).unwrap(), config);
            }
            prop_assert_eq!(releases.iter().filter(|release| release.current).count(), 1);
            prop_assert!(releases[0].current);
            prop_assert_eq!(
                &host.store.config(&model.id).unwrap(),
                &model.releases.last().unwrap().1
            );
        }
        let alive: Vec<_> = host
            .store
            .live_dynos(None)
            .unwrap()
            .into_iter()
            .map(|dyno| dyno.id)
            .collect();
        let expected: Vec<_> = self.alive.iter().map(|(_, id)| id.clone()).collect();
        prop_assert_eq!(alive, expected);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn versions_have_no_gaps_numbers_grow_and_rollbacks_restore(
        verbs in prop::collection::vec(verb(), 1..60)
    ) {
        let mut host = Host::new();
        // What is tested here is not the disk.
        host.store.connection.pragma_update(None, "synchronous", "OFF").unwrap();
        let mut world = World::default();
        for verb in &verbs {
            world.perform(&mut host, verb)?;
        }
        world.compare(&host)?;
    }
}
