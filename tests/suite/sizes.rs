//! Sizes of a host's own, and what sizes are beside memory: what a dyno may write, and what it has taken in the end.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Host, eventually, leave_out, own_router};
use crate::ps::detached;

fn configure(host: &Host, text: &str) {
    fs::write(host.state().join("config.toml"), text).unwrap();
}

fn ps(host: &Host, app: &Path, dyno: &str) -> Value {
    let (status, body) = host.request(
        "GET",
        &format!("/apps/{}/dynos/{dyno}", name(app)),
        &json!({}),
    );
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn name(app: &Path) -> String {
    app.file_name().unwrap().to_string_lossy().into_owned()
}

#[test]
fn a_size_of_the_host_s_own_is_known_wherever_one_is_named() {
    let host = Host::with(&[("DYNO_ROUTER", &own_router())]);
    configure(
        &host,
        "[sizes.small]\nmemory = \"128MiB\"\nprocesses = 40\n\n[sizes.standard-1x]\nmemory = \"1GiB\"\n",
    );
    let app = host.folder_of("shop", &[("Procfile", "worker: sleep 1000\n")]);
    host.dyno(&app, &["deploy"]).finish().succeeds();
    // As many processes as its size allows, however the name is written.
    let crowd = "for n in $(seq 100); do sleep 100 & done";
    if !host.in_folders() || crate::harness::is_root() {
        host.run(&app, &["-s", "SMALL", crowd])
            .finish()
            .mentions("Resource temporarily unavailable");
    }
    let (status, body) = host.request(
        "POST",
        "/apps/shop/dynos",
        &json!({"command": "sleep 100", "size": "small"}),
    );
    assert_eq!(status, 201, "{body}");
    let made: Value = serde_json::from_str(&body).unwrap();
    let dyno = made["name"].as_str().unwrap();
    assert_eq!(ps(&host, &app, dyno)["size"], "small");

    let (status, sizes) = host.request("GET", "/dyno-sizes", &json!({}));
    let sizes: Vec<Value> = serde_json::from_str(&sizes).unwrap();
    let memory = |name: &str| {
        let found: Vec<_> = sizes.iter().filter(|size| size["name"] == name).collect();
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        found[0]["memory"].as_f64().unwrap()
    };
    assert_eq!(
        (status, memory("small"), memory("Standard-1X")),
        (200, 0.125, 1.0)
    );
    let (status, one) = host.request("GET", "/dyno-sizes/SMALL", &json!({}));
    assert_eq!(status, 200, "{one}");

    for words in [
        &["ps:scale", "worker=0:SMALL"][..],
        &["ps:type", "worker=Small"],
        &["ps:type", "small"],
    ] {
        host.dyno(&app, words).finish().succeeds();
        let formation = host.dyno(&app, &["ps:scale"]).finish().succeeds().text();
        assert!(formation.contains("worker=0:small"), "{formation}");
        host.dyno(&app, &["ps:type", "1x"]).finish().succeeds();
    }
    let (status, body) = host.request(
        "PATCH",
        "/apps/shop/formation",
        &json!({"updates": [{"type": "worker", "dyno_size": serde_json::from_str::<Value>(&one).unwrap()}]}),
    );
    assert!(status == 200 && body.contains("\"small\""), "{body}");

    for words in [
        &["run", "-s", "tiny", "true"][..],
        &["ps:type", "tiny"],
        &["ps:scale", "worker=0:tiny"],
    ] {
        let code = if words[0] == "run" { 125 } else { 1 };
        host.dyno(&app, words)
            .finish()
            .fails_with(code, "no such size as `tiny`", "small");
    }
}

#[test]
fn nothing_is_deployed_for_a_size_that_there_is_not() {
    let host = Host::new();
    let folder = host.folder("plain");
    host.run(&folder, &["-s", "tiny", "true"])
        .finish()
        .fails_with(125, "no such size as `tiny`", "the sizes are 1X");
    let apps = host
        .dyno(&host.path(), &["apps"])
        .finish()
        .succeeds()
        .text();
    assert!(!apps.contains("plain"), "{apps}");
}

#[test]
fn a_table_of_sizes_without_sense_starts_no_server() {
    let host = Host::new();
    for (text, error, hint) in [
        (
            "[sizes.small]\nmemory = \"1MiB\"\n",
            "line 1: `memory = 1MiB` of the size `small` is not valid",
            "from 16MiB",
        ),
        (
            "[sizes.small]\ncpu = 1\n",
            "line 1: the size `small` has no `memory`",
            "memory = ",
        ),
        (
            "[sizes.small]\nmemory = 99\ncolour = 1\n",
            "line 1: a size has no `colour`",
            "`processes`",
        ),
        (
            "[sizes.\"a b\"]\nmemory = 99\n",
            "line 1: no size can be named `a b`",
            "letters",
        ),
        (
            "[sizes]\nsmall = 1\n",
            "line 2: the size `small` is no table",
            "[sizes.small]",
        ),
    ] {
        configure(&host, text);
        host.dyno(&host.path(), &["apps"])
            .finish()
            .fails_with(1, error, hint);
    }
    assert!(host.server().is_none());
    configure(&host, "[sizes.small]\nmemory = 99\nlimit = 1.5\n");
    let shown = host
        .dyno(&host.path(), &["settings"])
        .finish()
        .succeeds()
        .text();
    assert!(shown.contains("small memory=99MiB limit=1.5"), "{shown}");
}

#[test]
fn shared_memory_and_tmp_hold_what_the_size_says() {
    let host = Host::with(&[(
        "DYNO_SIZES",
        "small memory=128MiB; odd memory=128MiB shm=2MiB tmp=3MiB",
    )]);
    if host.in_folders() {
        leave_out("a test of /dev/shm and /tmp: without walls they are the host's");
        return;
    }
    let app = host.plain_app();
    let held = "stat -f -c '%S %b' /dev/shm /tmp | while read s b; do echo $((s * b >> 20)); done";
    let held = |host: &Host, size: &str| -> Vec<u64> {
        let text = host.run(&app, &["-q", "-s", size, held]).finish();
        let text = text.succeeds().text();
        text.lines().map(|line| line.parse().unwrap()).collect()
    };
    // Of Heroku's sizes and of new ones as much as their memory.
    assert_eq!(held(&host, "1X")[0], 512);
    assert_eq!(held(&host, "2X")[0], 1024);
    assert_eq!(held(&host, "small")[0], 128);
    assert_eq!(held(&host, "odd"), [2, 3]);
    let fill = "head -c 10M /dev/zero > /tmp/a; stat -c %s /tmp/a; head -c 10M /dev/zero > /var/tmp/a && echo done";
    host.run(&app, &["-q", "-s", "odd", fill])
        .finish()
        .prints("3145728\ndone\n")
        .mentions("No space left on device");
    let fill = "head -c 10M /dev/zero > /tmp/a && stat -c %s /tmp/a";
    host.run(&app, &["-q", fill]).finish().prints("10485760\n");

    // What a size says goes before the settings for all.
    let other = Host::with(&[
        ("DYNO_SHM_SIZE", "5MiB"),
        ("DYNO_TMP_SIZE", "6MiB"),
        ("DYNO_SIZES", "odd memory=128MiB tmp=3MiB"),
    ]);
    let app = other.plain_app();
    let text = "stat -f -c '%S %b' /dev/shm /tmp | while read s b; do echo $((s * b >> 20)); done";
    other.run(&app, &["-q", text]).finish().prints("5\n6\n");
    other
        .run(&app, &["-q", "-s", "odd", text])
        .finish()
        .prints("5\n3\n");
}

#[test]
fn the_limit_of_memory_is_the_size_s_own() {
    let host = Host::with(&[
        ("DYNO_MEASURE_INTERVAL", "0.1s"),
        ("DYNO_SIZES", "small memory=100MiB limit=1.5"),
    ]);
    let app = host.plain_app();
    host.run(&app, &["-s", "small", "head -c 400M /dev/zero | tail"])
        .finish()
        .exits(137)
        .mentions("The dyno had more memory than its size allows, 150 MB (R15)");
}

/// The dyno as `ps --all --json` has it, once it has ended.
fn ended(host: &Host, app: &Path, name: &str) -> Value {
    eventually("the end of a dyno", || {
        let all = host.dyno(app, &["ps", "--all", "--json"]).finish();
        let all: Vec<Value> = serde_json::from_str(&all.succeeds().text()).unwrap();
        let found = all.into_iter().find(|dyno| dyno["name"] == name)?;
        (!found["ended_at"].is_null()).then_some(found)
    })
}

/// A command that has 60 MB for a while and takes some time of the processors.
const TAKES: &str = "(head -c 60M /dev/zero; sleep 3) | tail > /dev/null; n=0; \
                     while [ $n -lt 300000 ]; do n=$((n + 1)); done; head -c 8M /dev/zero > big; sync big";

#[test]
fn what_a_dyno_took_is_told_in_the_end_with_or_without_a_server() {
    let host = Host::new();
    let app = host.plain_app();
    let name = detached(&host, &app, &[TAKES]);
    let alive = host
        .dyno(&app, &["ps", "--json"])
        .finish()
        .succeeds()
        .text();
    let alive: Vec<Value> = serde_json::from_str(&alive).unwrap();
    // While it lives, only its group tells.
    let has_group = !host.control_groups().is_empty();
    assert_eq!(alive[0]["cpu_seconds"].is_number(), has_group, "{alive:?}");
    host.kill_server();
    eventually("the end without a server", || {
        host.inits().is_empty().then_some(())
    });
    let first = ended(&host, &app, &name);
    let name = detached(&host, &app, &[TAKES]);
    let second = ended(&host, &app, &name);
    for dyno in [&first, &second] {
        let peak = dyno["peak_memory"]
            .as_u64()
            .unwrap_or_else(|| panic!("{dyno}"));
        assert!((60 << 20..400 << 20).contains(&peak), "{dyno}");
        let cpu = dyno["cpu_seconds"]
            .as_f64()
            .unwrap_or_else(|| panic!("{dyno}"));
        assert!((0.05..60.0).contains(&cpu), "{dyno}");
        if Path::new("/proc/self/io").exists() {
            assert!(dyno["bytes_written"].is_u64(), "{dyno}");
        }
    }
    let usage = host
        .dyno(&app, &["usage", "--json"])
        .finish()
        .succeeds()
        .text();
    let usage: Vec<Value> = serde_json::from_str(&usage).unwrap();
    let of = |value: &Value| value["cpu_seconds"].as_f64().unwrap();
    assert!(
        (of(&usage[0]) - of(&first) - of(&second)).abs() < 0.001,
        "{usage:?}"
    );
    let peaks = [&first, &second].map(|dyno| dyno["peak_memory"].as_u64());
    assert_eq!(
        usage[0]["peak_memory"].as_u64(),
        peaks.into_iter().max().unwrap()
    );
    let told = host.dyno(&app, &["usage"]).finish().succeeds().text();
    assert!(
        told.contains(" of CPU, ") && told.contains(" MB of memory at most"),
        "{told}"
    );
}

#[test]
fn more_on_disk_than_the_size_allows_ends_the_dyno_and_no_other() {
    let host = Host::with(&[("DYNO_SIZES", "small memory=256MiB disk=32MiB")]);
    // What the slug has is not what the dyno writes.
    let app = host.folder_of("shop", &[("Procfile", "worker: sleep 1000\n")]);
    fs::write(app.join("big"), vec![7u8; 20 << 20]).unwrap();
    host.dyno(&app, &["deploy"]).finish().succeeds();
    let other = detached(
        &host,
        &app,
        &["-s", "small", "head -c 20M /dev/zero > a; sleep 1000"],
    );
    let free = detached(&host, &app, &["head -c 80M /dev/zero > a; sleep 1000"]);
    for place in ["a", "$TMPDIR/a"] {
        let fill = format!(
            "TMPDIR=${{TMPDIR:-/tmp}}; mkdir -p b/c; head -c 60M /dev/zero > {place}; sleep 1000"
        );
        let ended = host.run(&app, &["-s", "small", &fill]).finish();
        ended
            .exits(137)
            .mentions(" MB of files on disk, and its size allows 32 MB");
    }
    let log = host.dyno(&app, &["logs", "-n", "1000"]).finish().text();
    let said: Vec<_> = log
        .lines()
        .filter_map(|line| line.split_once("heroku[run.3]: "))
        .map(|(_, said)| said)
        .collect();
    let from = said
        .iter()
        .position(|line| line.contains("and its size allows 32 MB"))
        .unwrap_or_else(|| panic!("{log}"));
    assert_eq!(
        said[from + 1..][..2],
        [
            "Stopping process with SIGKILL",
            "Process exited with status 137"
        ],
        "{log}"
    );
    let ps = host.dyno(&app, &["ps", "--all"]).finish().succeeds().text();
    for name in [other, free] {
        let line = ps.lines().find(|line| line.contains(&name));
        assert!(line.is_some_and(|line| line.contains(": up ")), "{ps}");
    }
    assert!(
        ps.contains("had more on disk than its size allows, SIGKILL"),
        "{ps}"
    );
}

#[test]
fn what_is_removed_again_does_not_count() {
    let host = Host::with(&[("DYNO_DISK_SIZE", "32MiB")]);
    let app = host.plain_app();
    let again =
        "for n in 1 2 3 4 5 6 7 8; do head -c 20M /dev/zero > a; sleep 0.5; rm a; done; echo done";
    host.run(&app, &["-q", again])
        .finish()
        .succeeds()
        .prints("done\n");
}
