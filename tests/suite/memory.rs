//! What becomes of a dyno that has more memory than its size allows, and of those beside it. These hold with control
//! groups of either version and without any, with walls and in folders.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::harness::{Host, eventually, lacks_walls, leave_out, make_removable};
use crate::ps::detached;

/// Sizes as Heroku's, with a quarter of the memory, which takes a quarter of the time to fill.
const SIZES: &str = "1X memory=128MiB; Standard-2X memory=256MiB";

fn host() -> Host {
    Host::with(&[("DYNO_MEASURE_INTERVAL", "0.1s"), ("DYNO_SIZES", SIZES)])
}

/// A command that has this much memory until it is ended: `tail` keeps a line that does not end.
fn hoard(megabytes: u32) -> String {
    format!("(head -c {megabytes}M /dev/zero; sleep 1000) | tail >/dev/null")
}

fn log(host: &Host, app: &Path) -> String {
    host.dyno(app, &["logs", "-n", "1000"])
        .finish()
        .succeeds()
        .text()
}

#[test]
fn more_memory_than_the_quota_is_logged_and_the_dyno_goes_on() {
    let host = host();
    let app = host.plain_app();
    let name = detached(&host, &app, &[&hoard(150)]);
    let small = detached(&host, &app, &["sleep 1000"]);
    let exceeded = eventually("R14", || {
        let log = log(&host, &app);
        let line = log
            .lines()
            .position(|line| line.contains("Error R14 (Memory quota exceeded)"))?;
        Some(
            log.lines()
                .take(line + 1)
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        )
    });
    let [.., memory, _] = &exceeded[..] else {
        panic!("{exceeded:?}");
    };
    let of_dyno = format!("heroku[{name}]: Process running mem=");
    let (_, memory) = memory
        .split_once(&of_dyno)
        .unwrap_or_else(|| panic!("{memory}"));
    let (mib, percent) = memory.trim_end_matches("%)").split_once("M(").unwrap();
    let (mib, percent): (f64, f64) = (mib.parse().unwrap(), percent.parse().unwrap());
    assert!((128.0..384.0).contains(&mib), "{memory}");
    // Of a number that is rounded to whole MiB.
    assert!((percent - mib / 1.28).abs() < 0.8, "{memory}");
    let ps = host.dyno(&app, &["ps"]).finish().succeeds().text();
    assert_eq!(ps.matches(": up ").count(), 2, "{ps}");
    assert!(!log(&host, &app).contains(&format!("heroku[{small}]: Process running")));
    host.dyno(&app, &["ps:stop", &name]).finish().succeeds();
}

#[test]
fn vastly_more_memory_than_the_quota_ends_the_dyno_and_no_other() {
    let host = host();
    let app = host.plain_app();
    let small = detached(&host, &app, &["sleep 1000"]);
    host.run(&app, &[&hoard(450)])
        .finish()
        .exits(137)
        .mentions("The dyno had more memory than its size allows, 384 MB (R15)");
    let log = eventually("the end in the log", || {
        let log = log(&host, &app);
        log.contains("from up to complete").then_some(log)
    });
    let lines: Vec<_> = log
        .lines()
        .filter_map(|line| line.split_once("heroku[run.2]: "))
        .collect();
    let said: Vec<_> = lines.iter().map(|(_, said)| *said).collect();
    let from = said
        .iter()
        .position(|said| said.starts_with("Error R15"))
        .unwrap();
    assert!(
        said[from - 1].starts_with("Process running mem="),
        "{said:?}"
    );
    assert_eq!(
        said[from..],
        [
            "Error R15 (Memory quota vastly exceeded)",
            "Stopping process with SIGKILL",
            "Process exited with status 137",
            "State changed from up to complete",
        ]
    );
    let ps = host.dyno(&app, &["ps"]).finish().succeeds().text();
    assert!(
        ps.contains(&format!("{small} ")) || ps.contains(&small),
        "{ps}"
    );
    host.run(&app, &["-q", "true"]).finish().succeeds();
}

#[test]
fn a_larger_size_may_have_more() {
    let host = host();
    let app = host.plain_app();
    let full = "(head -c 175M /dev/zero; echo full >&2; sleep 1000) | tail >/dev/null";
    let large = detached(&host, &app, &["-s", "standard-2x", full]);
    host.wait_for_log(&format!("app[{large}]: full"));
    // It is looked at as often as another one, of which that was said several times since.
    let small = detached(&host, &app, &[&hoard(150)]);
    eventually("R14 of the small one", || {
        let log = log(&host, &app);
        let said = log
            .lines()
            .filter(|line| line.ends_with("Error R14 (Memory quota exceeded)"));
        (said
            .filter(|line| line.contains(&format!("heroku[{small}]")))
            .count()
            >= 5)
            .then_some(())
    });
    assert!(!log(&host, &app).contains(&format!("heroku[{large}]: Process running")));
    for name in [&large, &small] {
        host.dyno(&app, &["ps:stop", name]).finish().succeeds();
    }
}

#[test]
fn no_control_group_outlives_its_dyno_whoever_is_killed() {
    let host = host();
    let app = host.plain_app();
    host.run(&app, &["-q", "true"]).finish().succeeds();
    for killed in [false, true] {
        let name = detached(&host, &app, &["sleep 1000"]);
        let supervisor = host.supervisors().into_iter().next().unwrap();
        let groups = host.control_groups();
        if killed {
            host.kill_server();
            supervisor.signal(Signal::KILL);
            supervisor.wait_for_end();
            host.dyno(&app, &["ps"]).finish().succeeds();
        } else {
            host.dyno(&app, &["ps:stop", &name]).finish().succeeds();
        }
        eventually("groups that are gone", || {
            let left: Vec<_> = groups.iter().filter(|group| group.exists()).collect();
            left.is_empty().then_some(())
        });
    }
}

#[test]
fn a_control_group_whose_dyno_and_state_are_gone_goes_with_the_next_server() {
    let host = host();
    let app = host.plain_app();
    detached(&host, &app, &["sleep 1000"]);
    let groups = host.control_groups();
    let supervisor = host.supervisors().into_iter().next().unwrap();
    host.kill_server();
    supervisor.signal(Signal::KILL);
    supervisor.wait_for_end();
    // As after the folder of the state was removed: no server knows of the dyno.
    let dynos = host.state().join("dynos");
    make_removable(&dynos);
    fs::remove_dir_all(dynos).unwrap();
    let other = self::host();
    other.plain_app();
    eventually("groups that are gone", || {
        // In a folder its processes may still be ending when that server looks.
        other.kill_server();
        other
            .run(&other.path(), &["-a", "plain", "-q", "true"])
            .finish()
            .succeeds();
        let left: Vec<_> = groups.iter().filter(|group| group.exists()).collect();
        left.is_empty().then_some(())
    });
}

#[test]
fn a_dyno_sees_the_limits_of_its_own_group_and_nothing_of_others() {
    if lacks_walls() {
        return;
    }
    let host = host();
    let app = host.plain_app();
    let name = detached(&host, &app, &["sleep 1000"]);
    detached(&host, &app, &["sleep 1000"]);
    let inside = |command: &str| {
        let run = host.dyno(&app, &["run:inside", &name, "--", command]);
        run.finish().succeeds().text()
    };
    let groups = host.control_groups();
    if groups.is_empty() {
        assert_eq!(inside("ls -d /sys 2>&1 | wc -l; ls -d /sys || true"), "1\n");
        return leave_out("what a dyno sees of its control group: this host gives none");
    }
    let (limit, path) = match groups[0].join("memory.max").exists() {
        true => ("memory.max", "/sys/fs/cgroup"),
        false => ("memory.limit_in_bytes", "/sys/fs/cgroup/memory"),
    };
    let memory = |group: &&PathBuf| group.join(limit).exists();
    let expected = fs::read_to_string(groups.iter().find(memory).unwrap().join(limit));
    assert_eq!(inside(&format!("cat {path}/{limit}")), expected.unwrap());
    // Its own group is what the tree begins with, no other is in it, and nothing in it can be changed.
    let own = inside("grep -E 'memory|^0::' /proc/self/cgroup");
    assert!(own.lines().any(|line| line.ends_with(":/")), "{own}");
    assert!(!own.contains("dyno"), "{own}");
    assert_eq!(inside(&format!("find {path} -mindepth 1 -type d")), "");
    let processes = inside(&format!("grep -c . {path}/cgroup.procs"));
    assert!(processes.trim().parse::<u32>().unwrap() < 10, "{processes}");
    for change in [
        format!("mkdir {path}/more"),
        format!("echo 4000000000 > {path}/{limit}"),
        format!("echo 0 > {path}/cgroup.procs"),
    ] {
        let said = inside(&format!("({change}) 2>&1 || true"));
        assert!(said.contains("Read-only file system"), "{change}: {said}");
    }
}
