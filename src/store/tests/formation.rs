//! What is wanted of each process type.

use super::*;
use crate::model::formation::{Entry, ScaleRefusal, parse_scale, words};

fn limits(dynos: u32) -> MostDynos {
    MostDynos {
        dynos,
        ..MostDynos::of(&Settings::default())
    }
}

impl Host {
    fn scale(&mut self, app: &str, typed: &[&str], limit: u32) -> Result<(String, String)> {
        let now = self.now();
        let updates = parse_scale(typed)?;
        let (before, after) = self.store.scale(app, &updates, limits(limit), now)?;
        assert_eq!(self.store.formation(app)?, after);
        Ok((shown(&before), shown(&after)))
    }
}

fn shown(entries: &[Entry]) -> String {
    words(entries.iter().map(|entry| &entry.wanted))
}

#[test]
fn a_formation_is_scaled_and_stays_so() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    host.deploy(&app.id, 1);
    let (before, after) = host
        .scale(&app.id, &["web=2", "worker+1:Standard-2X"], 10)
        .unwrap();
    assert_eq!(before, "web=1:1X worker=0:1X");
    assert_eq!(after, "web=2:1X worker=1:Standard-2X");
    let mut again = Store::open(&host.path()).unwrap();
    assert_eq!(shown(&again.formation(&app.id).unwrap()), after);
    host.deploy(&app.id, 2);
    assert_eq!(shown(&again.formation(&app.id).unwrap()), after);
    // By its id, as the API has it, too; and only what changes has changed.
    let entries = again.formation(&app.id).unwrap();
    let mut update = parse_scale(&["web-1"]).unwrap();
    update[0].which.clone_from(&entries[0].id);
    let now = host.now();
    let (before, after) = again.scale(&app.id, &update, limits(10), now).unwrap();
    assert_eq!(before, entries);
    assert_eq!(shown(&after), "web=1:1X worker=1:Standard-2X");
    assert_eq!(after[0].updated_at, now);
    assert_eq!(after[0].created_at, entries[0].created_at);
    assert_eq!(after[1], entries[1]);
}

#[test]
fn all_of_it_happens_or_nothing() {
    let mut host = Host::new();
    let app = host.create("shop").unwrap();
    let refusal = |result: Result<(String, String)>| match result {
        Err(StoreError::Formation(app, refusal)) => {
            assert_eq!(app.as_str(), "shop");
            refusal
        }
        other => panic!("{other:?}"),
    };
    let none = refusal(host.scale(&app.id, &["web=1"], 10));
    assert!(matches!(none, ScaleRefusal::NoType { types, .. } if types.is_empty()));
    host.deploy(&app.id, 1);
    let unknown = host.scale(&app.id, &["web=5", "job=1"], 10);
    assert_eq!(
        unknown.as_ref().unwrap_err().kind(),
        StoreErrorKind::NotFound
    );
    let types = vec!["web".to_owned(), "worker".to_owned()];
    let named = "job".to_owned();
    assert_eq!(refusal(unknown), ScaleRefusal::NoType { named, types });
    let many = host.scale(&app.id, &["web=5", "worker=6"], 10);
    assert_eq!(many.as_ref().unwrap_err().kind(), StoreErrorKind::Refused);
    let (wanted, limit) = (11, 10);
    assert_eq!(refusal(many), ScaleRefusal::TooMany { wanted, limit });
    let formation = host.store.formation(&app.id).unwrap();
    assert_eq!(shown(&formation), "web=1:1X worker=0:1X");
    assert!(matches!(
        host.scale("nobody", &["web=1"], 10),
        Err(StoreError::NoApp(_))
    ));
}
