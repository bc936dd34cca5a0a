//! The log on disk: much output, much at once, a full disk, and what is kept. What the lines of a life are is
//! tested with the runs that have it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::harness::{Host, eventually, lacks_walls};
use crate::small_disk::{can_fill_a_disk, on_a_small_disk};

/// The files of the one app's log.
fn segments(host: &Host) -> Vec<PathBuf> {
    let folders = fs::read_dir(host.state().join("logs"))
        .into_iter()
        .flatten();
    let mut files: Vec<_> = folders
        .flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files
}

fn size(host: &Host) -> u64 {
    let sizes = segments(host).into_iter();
    // One may be dropped under our hands.
    sizes
        .filter_map(|file| Some(fs::metadata(file).ok()?.len()))
        .sum()
}

fn detached(host: &Host, app: &std::path::Path, command: &str) {
    host.dyno(app, &["run:detached", "-q", command])
        .finish()
        .succeeds();
}

#[test]
fn no_line_of_many_dynos_at_once_is_lost_torn_or_out_of_order() {
    const LINES: usize = 100_000;
    const DYNOS: usize = 4;
    let host = Host::with(&[("DYNO_LOG_LIMIT", "64")]);
    let app = host.plain_app();
    for _ in 0..DYNOS {
        detached(&host, &app, &format!("seq {LINES}"));
    }
    for n in 1..=DYNOS {
        host.wait_for_log(&format!(
            "heroku[run.{n}]: State changed from up to complete"
        ));
    }
    let mut next: BTreeMap<String, usize> = BTreeMap::new();
    for line in host.log_lines() {
        let (who, text) = line.split_once("]: ").expect("a whole line");
        if who.starts_with("app[run.") {
            let next = next.entry(who.to_owned()).or_insert(1);
            assert_eq!(text, next.to_string(), "{who}");
            *next += 1;
        }
    }
    let all: Vec<_> = next.into_values().collect();
    assert_eq!(all, [LINES + 1; DYNOS]);
    assert!(segments(&host).len() > 4);
}

#[test]
fn output_that_never_ends_fills_neither_disk_nor_memory_and_lets_itself_be_stopped() {
    const LIMIT: u64 = 1 << 20;
    let host = Host::with(&[("DYNO_LOG_LIMIT", "1"), ("DYNO_STOP_GRACE", "5")]);
    let app = host.plain_app();
    for command in ["yes", "cat /dev/zero", "cat /dev/urandom"] {
        detached(&host, &app, command);
        let supervisor = host.wait_for_supervisor();
        let mut newest = 0;
        // Twenty times the whole log is dropped.
        for _ in 0..20 {
            let before = newest;
            newest = eventually("a newer segment", || {
                // One segment may be made while we add up, after an older one was counted that goes for it.
                let size = size(&host);
                assert!(size <= LIMIT + LIMIT / 4, "{command}: {size} bytes");
                let name = segments(&host).pop()?.file_stem()?.to_str()?.to_owned();
                name.parse::<u64>()
                    .ok()
                    .filter(|newest| *newest > before + 16)
            });
        }
        let status = fs::read_to_string(format!("/proc/{}/status", supervisor.pid)).unwrap();
        let most = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .unwrap();
        let most: u64 = most.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert!(most < 20 * 1024, "{command}: {most} kB");
        host.dyno(&app, &["ps:stop", "run"]).finish().succeeds();
        host.wait_until_clean();
    }
    let lines = host.log_lines();
    let dropped = |line: &&String| {
        line.starts_with("heroku[logplex]: Error L10 (output buffer overflow): ")
            && line.contains(" messages dropped since 20")
    };
    assert!(
        lines.iter().any(|line| dropped(&line)),
        "{:?}",
        lines.last()
    );
    assert_eq!(
        lines.last().unwrap(),
        "heroku[run.3]: State changed from up to complete"
    );
}

#[test]
fn after_much_output_a_supervisor_is_small_again() {
    let host = Host::new();
    let app = host.plain_app();
    detached(&host, &app, "seq 200000; exec sleep 1000");
    host.wait_for_log("app[run.1]: 200000");
    let supervisor = host.wait_for_supervisor();
    // The pages that nobody shares; a build for tests has more of them.
    eventually("less than 512 kB of its own", || {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", supervisor.pid)).ok()?;
        let own = rollup.lines().find(|line| line.starts_with("Pss_Anon:"))?;
        let own: u64 = own.split_whitespace().nth(1)?.parse().ok()?;
        (own < 512).then_some(())
    });
}

#[test]
fn lines_go_when_they_are_too_old_and_the_log_says_so() {
    let host = Host::with(&[("DYNO_LOG_AGE", "1s"), ("DYNO_IDLE_LINGER", "60")]);
    let app = host.plain_app();
    detached(&host, &app, "echo here I am");
    eventually("the word of what was dropped", || {
        let lines = host.log_lines();
        let said = lines.first()?.starts_with("heroku[logplex]: Error L10 ");
        said.then(|| assert!(!lines.iter().any(|line| line.contains("here I am"))))
    });
    // And in the end there is nothing, and nothing more to be said of it.
    eventually("an empty log", || (size(&host) == 0).then_some(()));
}

#[test]
fn a_full_disk_loses_lines_and_says_how_many_and_the_dyno_goes_on() {
    if !can_fill_a_disk() {
        return;
    }
    let host = Host::new();
    let app = host.folder("plain");
    // The dyno's folder for temporary files is where the script can put a word for it.
    let command = r#"echo before
        cd ${TMPDIR:-/tmp}
        until [ -e full ]; do sleep 0.01; done
        seq 200000; echo >told
        until [ -e free ]; do sleep 0.01; done
        echo after; exit 3"#;
    let script = r#"
        set -u
        log() { cat "$DYNO_HOME"/logs/*/*.log 2>/dev/null; }
        until_log() { until log | grep -q "$1"; do sleep 0.01; done; }
        "$0" run:detached -q "$COMMAND" >/dev/null || exit 98
        until_log ': before$'
        tmp=$(echo "$DYNO_HOME"/dynos/*/scratch/tmp)
        touch "$tmp/told"
        dd if=/dev/zero of="$DYNO_HOME/filler" bs=1k status=none 2>/dev/null
        mv "$tmp/told" "$tmp/full"
        until [ -e "$tmp/told" ]; do sleep 0.01; done
        rm "$DYNO_HOME/filler"
        mv "$tmp/full" "$tmp/free"
        "$0" ps:wait run.1
        echo "status $?"
        log | grep -c 'app\[run.1\]: [0-9]*$'
        log | sed -n 's/.*app\[log-shuttle\]: Error L13: \([0-9]*\) messages lost since 20.*/\1/p'
        log | tail -n 3 | cut -d ' ' -f 2-
    "#;
    let script = format!("export COMMAND='{command}'\n{script}");
    let (printed, errors) = on_a_small_disk(&host, &app, &script);
    let lines: Vec<_> = printed.lines().collect();
    let [status, written, lost, end @ ..] = &lines[..] else {
        panic!("{printed}\n{errors}");
    };
    assert_eq!(*status, "status 3", "{printed}\n{errors}");
    let (written, lost): (usize, usize) = (written.parse().unwrap(), lost.parse().unwrap());
    // A line that was torn counts as lost, and may look like one.
    assert!((200_000..=200_001).contains(&(written + lost)), "{printed}");
    assert!(lost > 100_000, "{printed}");
    assert_eq!(
        *end,
        [
            "app[run.1]: after",
            "heroku[run.1]: Process exited with status 3",
            "heroku[run.1]: State changed from up to complete",
        ]
    );
}

#[test]
fn a_dyno_that_fills_the_disk_itself_leaves_word_of_what_was_lost() {
    if lacks_walls() {
        return;
    }
    if !can_fill_a_disk() {
        return;
    }
    let host = Host::new();
    let app = host.folder("plain");
    let script = r#"
        set -u
        log() { cat "$DYNO_HOME"/logs/*/*.log 2>/dev/null; }
        "$0" run:detached -q 'head -c 20000000 /dev/zero >/tmp/x 2>&1; seq 200000' >/dev/null || exit 98
        "$0" ps:wait run.1
        log | sed -n 's/.*\(Error L13\): [0-9]* messages lost since 2.*/\1/p' | uniq
        "$0" run -q 'echo fine' || exit 97
    "#;
    let (printed, errors) = on_a_small_disk(&host, &app, script);
    assert_eq!(printed, "Error L13\nfine\n", "{errors}");
}
