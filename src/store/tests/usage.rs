//! Dyno time.

use std::time::Duration;

use super::*;
use crate::model::dyno::Usage;

/// `shop run 1X: 2 (1 alive) 5 s` for each line.
fn lines(usage: &[Usage]) -> Vec<String> {
    usage
        .iter()
        .map(|line| {
            let Usage {
                app_name,
                process_type,
                size,
                dynos,
                alive,
                time,
                ..
            } = line;
            let destroyed = if line.destroyed { " (destroyed)" } else { "" };
            format!("{app_name}{destroyed} {process_type} {size}: {dynos} ({alive} alive) {time:?}")
        })
        .collect()
}

#[test]
fn what_dynos_took_is_summed_as_far_as_it_is_known() {
    let mut host = Host::new();
    let shop = host.create("shop").unwrap();
    host.deploy(&shop.id, 1);
    let of = |host: &Host| host.store.usage(Timestamp::UNIX_EPOCH).unwrap()[0].spent;
    for (spent, sum) in [
        (Spent::default(), Spent::default()),
        (
            Spent {
                peak_memory: Some(5),
                cpu_micros: Some(10),
                bytes_read: None,
                bytes_written: Some(u64::from(u32::MAX)),
            },
            Spent {
                peak_memory: Some(5),
                cpu_micros: Some(10),
                bytes_read: None,
                bytes_written: Some(u64::from(u32::MAX)),
            },
        ),
        (
            Spent {
                peak_memory: Some(3),
                cpu_micros: Some(7),
                bytes_read: Some(0),
                bytes_written: None,
            },
            Spent {
                peak_memory: Some(5),
                cpu_micros: Some(17),
                bytes_read: Some(0),
                bytes_written: Some(u64::from(u32::MAX)),
            },
        ),
    ] {
        let dyno = host.run(&shop.id, "1X").unwrap();
        let end = DynoEnd {
            at: host.now(),
            exit: Exit::Status(0),
            reason: None,
            message: None,
            spent,
        };
        let ended = host.store.end_dyno(&dyno.id, DynoState::Complete, &end, 10);
        assert_eq!(ended.unwrap().ended.unwrap().spent, spent);
        assert_eq!(of(&host), sum);
    }
    // What is alive has taken nothing yet, as far as the store knows.
    host.run(&shop.id, "1X").unwrap();
    assert_eq!(of(&host).cpu_micros, Some(17));
}

#[test]
fn time_is_summed_and_outlives_dynos_and_apps() {
    // The clock moves by a second at each look.
    let mut host = Host::new();
    assert_eq!(host.store.usage(Timestamp::UNIX_EPOCH).unwrap(), []);
    let shop = host.create("shop").unwrap();
    let other = host.create("other").unwrap();
    host.deploy(&shop.id, 1);
    host.deploy(&other.id, 1);
    for _ in 0..3 {
        let dyno = host.run(&shop.id, "1X").unwrap();
        host.end_keeping(&dyno.id, 1);
        // Only the first end counts.
        host.end_keeping(&dyno.id, 1);
    }
    let large = host.run(&shop.id, "PX").unwrap();
    host.end_keeping(&large.id, 1);
    let alive = host.run(&shop.id, "1X").unwrap();
    let short = host.run(&other.id, "1X").unwrap();
    host.end(&short.id);
    let now = alive.created_at + SignedDuration::from_secs(10);
    assert_eq!(
        lines(&host.store.usage(now).unwrap()),
        [
            "other run 1X: 1 (0 alive) 1s",
            "shop run 1X: 4 (1 alive) 13s",
            "shop run PX: 1 (0 alive) 1s",
        ]
    );
    // A clock that was put back takes no time away.
    let usage = host.store.usage(Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(usage[1].time, Duration::from_secs(3));

    host.end(&alive.id);
    host.store.destroy_app(&shop.id).unwrap();
    let again = host.create("shop").unwrap();
    host.deploy(&again.id, 1);
    host.run(&again.id, "1X").unwrap();
    let usage = host.store.usage(Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(
        lines(&usage)[1..],
        [
            "shop run 1X: 1 (1 alive) 0ns",
            "shop (destroyed) run 1X: 4 (0 alive) 6s",
            "shop (destroyed) run PX: 1 (0 alive) 1s",
        ]
    );
}

#[test]
fn the_time_of_an_older_state_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let mut connection = Connection::open(&path).unwrap();
    Migrations::from_slice(&MIGRATIONS[..1])
        .to_latest(&mut connection)
        .unwrap();
    connection
        .execute_batch(
            "INSERT INTO apps VALUES ('a', 'shop', 0, 0);
             INSERT INTO releases VALUES
                 ('r', 'a', 1, 'succeeded', '', '', NULL, '{}', '{}', 0, 0);
             INSERT INTO dynos VALUES
                 ('1', 'a', 'r', 'run', 1, 'bash', '1X', 'pipes', 'complete', 0, 0,
                  5000000, 0, NULL, NULL),
                 ('2', 'a', 'r', 'run', 2, 'bash', '1X', 'pipes', 'complete', 3000000, 0,
                  2000000, 0, NULL, NULL),
                 ('3', 'a', 'r', 'run', 3, 'bash', '1X', 'pipes', 'up', 1000000, 0,
                  NULL, NULL, NULL, NULL);",
        )
        .unwrap();
    drop(connection);
    let store = Store::open(&path).unwrap();
    let now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(8);
    assert_eq!(
        lines(&store.usage(now).unwrap()),
        ["shop run 1X: 3 (1 alive) 12s"]
    );
}
