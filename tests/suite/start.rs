//! `dyno start`: a Procfile in the foreground, in a folder that is live, as long as its command holds it.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, lchown};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{self, DEADLINE, Host, Running, eventually, is_root, lacks, leave_out, write};
use crate::terminal::{CTRL_C, Terminal};

/// A command that runs until it is ended, and then leaves with this status.
fn until_term(status: u32) -> String {
    format!("trap 'exit {status}' TERM; echo ready; while :; do sleep 1000 & wait $!; done")
}

/// A command that writes its number into a file, and then runs until it is ended.
const TELLS_ITS_PID: &str = "sh -c 'echo $$ >> pids.$DYNO; echo ready; exec sleep 1000'";

/// A user that a root server's dynos without walls can be.
const SOMEBODY: u32 = 59_123;

/// A folder with these files.
fn project(host: &Host, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = host.folder_of(name, files);
    given_away(host, &folder);
    folder
}

/// No dyno is root; without walls, root's folders cannot be made to look like another's.
pub fn given_away(host: &Host, folder: &Path) {
    if host.in_folders() && is_root() {
        chown(folder, SOMEBODY);
    }
}

fn chown(folder: &Path, id: u32) {
    lchown(folder, Some(id), Some(id)).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        lchown(entry.unwrap().path(), Some(id), Some(id)).unwrap();
    }
}

/// The first of some ports that nobody has: two of each process type, of three at most. They are this process's as long as
/// it lives, whichever user runs the same tests beside it.
fn first_port() -> u16 {
    /// Between 10,000 and the ports that servers give away; each takes two of each hundred.
    const SLOTS: u16 = 33 * 50;
    static HELD: Mutex<Vec<UnixDatagram>> = Mutex::new(Vec::new());
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() * 41 % u32::from(SLOTS)).unwrap();
    eventually("free ports", || {
        let slot = (own + NEXT.fetch_add(1, Ordering::Relaxed) % SLOTS) % SLOTS;
        let first = 10_000 + slot / 50 * 300 + slot % 50 * 2;
        let name = format!("dyno-suite-ports-{first}");
        let held = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).ok()?;
        let free = |offset| TcpListener::bind((Ipv4Addr::UNSPECIFIED, first + offset)).is_ok();
        [0, 1, 100, 101, 200, 201].into_iter().all(free).then(|| {
            HELD.lock().unwrap().push(held);
            first
        })
    })
}

/// `dyno start ARGS`, from ports of its own on.
fn start<'a>(host: &'a Host, folder: &Path, args: &[&str]) -> Running<'a> {
    let port = first_port().to_string();
    host.dyno(folder, &[&["start", "-p", &port], args].concat())
        .start()
}

/// Ends it as Ctrl-C does.
#[track_caller]
fn ends_well(running: Running<'_>) {
    running.signal(Signal::INT);
    running.finish().succeeds();
}

/// The name of the app that a folder means.
fn meant(host: &Host, folder: &Path) -> Option<String> {
    let target = format!("/links?path={}", folder.display());
    let (_, body) = host.request("GET", &target, &json!(null));
    let link: Value = serde_json::from_str(&body).unwrap();
    Some(link["app"]["name"].as_str()?.to_owned())
}

/// Nothing is left of what ran in `folder`.
#[track_caller]
fn is_gone(host: &Host, folder: &Path) {
    host.wait_until_clean();
    assert_eq!(meant(host, folder), None);
    eventually("no log is left", || {
        host.log_lines().is_empty().then_some(())
    });
}

/// The numbers that a process has written down, one for each time it was started.
fn pids(folder: &Path, dyno: &str) -> Vec<String> {
    let text = fs::read_to_string(folder.join(format!("pids.{dyno}"))).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}

#[test]
fn the_folder_is_live_in_both_directions() {
    let host = Host::new();
    let worker = "worker: pwd; while ! grep -s new message; do sleep 0.01; done; \
                  echo inside > made; echo over; exec sleep 1000\n";
    let folder = project(&host, "shop", &[("Procfile", worker), ("message", "old\n")]);
    let running = start(&host, &folder, &[]);
    running.wait_for_output("worker.1 | ");
    write(&folder.join("message"), "new\n");
    running.wait_for_output("worker.1 | over");
    assert_eq!(fs::read_to_string(folder.join("made")).unwrap(), "inside\n");
    // It is the owner's, whichever user the dyno is to the host.
    let owner = |name: &str| fs::metadata(folder.join(name)).unwrap().uid();
    assert_eq!(owner("made"), owner("Procfile"));
    // A program that was installed there finds itself where it was installed.
    let path = folder.join("message").display().to_string();
    host.run(&folder, &["-q", &format!("cat {path}; touch '{path}.too'")])
        .finish()
        .succeeds()
        .prints("new\n");
    assert!(folder.join("message.too").exists());
    ends_well(running);
    is_gone(&host, &folder);
}

#[test]
fn the_dynos_of_a_root_server_are_the_folders_owner_and_never_root() {
    if !is_root() {
        return eprintln_skip("it takes root");
    }
    let host = Host::new();
    // Nobody else sleeps for so long.
    let nap = format!("100000.{}", std::process::id());
    let line_of_sleep = format!("sleep\0{nap}\0").into_bytes();
    let procfile = format!("worker: touch made; exec sleep {nap}\n");
    let folder = host.folder_of("shop", &[("Procfile", &procfile)]);
    chown(&folder, SOMEBODY);
    let running = start(&host, &folder, &[]);
    let made = eventually("a file", || fs::metadata(folder.join("made")).ok());
    assert_eq!((made.uid(), made.gid()), (SOMEBODY, SOMEBODY));
    let sleeper = eventually("its process", || {
        let is_it = |pid: &i32| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == line_of_sleep)
        };
        harness::pids().find(is_it)
    });
    assert_eq!(
        fs::metadata(format!("/proc/{sleeper}")).unwrap().uid(),
        SOMEBODY
    );
    ends_well(running);
    chown(&folder, 0);
    if host.in_folders() {
        start(&host, &folder, &[])
            .finish()
            .fails_with(1, "belongs to root", "chown");
        return;
    }
    // Behind walls, root's files can be shown as the dyno's.
    fs::remove_file(folder.join("made")).unwrap();
    let running = start(&host, &folder, &[]);
    let made = eventually("a file", || fs::metadata(folder.join("made")).ok());
    assert_eq!((made.uid(), made.gid()), (0, 0));
    for process in host.inhabitants() {
        let status =
            fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap_or_default();
        assert!(!status.contains("\nUid:\t0\t"), "{status}");
    }
    ends_well(running);
}

fn eprintln_skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

#[test]
fn variables_reach_every_process_and_are_stored_nowhere() {
    let host = Host::new();
    let secret = "hUntEr2-of-this-test";
    let dot_env = format!("# mine\nexport SECRET=\"{secret}\"\nWHO='you # two'\n");
    let procfile = "worker: echo \"$SECRET $WHO\" > seen; echo ready; exec sleep 1000\n";
    let folder = project(&host, "shop", &[("Procfile", procfile), (".env", &dot_env)]);
    let running = start(&host, &folder, &[]);
    running.wait_for_output("worker.1 | ready");
    let seen = fs::read_to_string(folder.join("seen")).unwrap();
    assert_eq!(seen, format!("{secret} you # two\n"));
    let command = format!(
        "test $SECRET = $(printf %s {} | tr a-z A-Z) || test ${{#SECRET}} = {}",
        "x",
        secret.len()
    );
    host.run(&folder, &["-q", &command]).finish().succeeds();
    host.run(&folder, &["-q", "-e", "WHO=me", "echo $WHO"])
        .finish()
        .prints("me\n");
    host.dyno(&folder, &["config"])
        .finish()
        .succeeds()
        .holds("a variable of .env", |text| !text.contains("SECRET"));
    let stored = || {
        let mut found = Vec::new();
        look_for(&host.state(), secret.as_bytes(), &mut found);
        found
    };
    assert_eq!(stored(), [] as [PathBuf; 0]);
    // What a later config var says counts more: the user has just typed it.
    host.dyno(&folder, &["config:set", "WHO=them"])
        .finish()
        .succeeds();
    eventually("another start", || {
        fs::read_to_string(folder.join("seen"))
            .is_ok_and(|seen| seen == format!("{secret} them\n"))
            .then_some(())
    });
    assert_eq!(stored(), [] as [PathBuf; 0]);
    ends_well(running);
    write(&folder.join("other"), "SECRET=other\n");
    let running = start(&host, &folder, &["-e", "other"]);
    running.wait_for_output("worker.1 | ready");
    assert_eq!(fs::read_to_string(folder.join("seen")).unwrap(), "other \n");
    ends_well(running);
}

#[test]
fn a_value_of_several_lines_is_read_and_so_is_what_config_s_writes() {
    let host = Host::new();
    let key = "-----BEGIN X-----\nabc== it's\n\n#no comment\n-----END X-----";
    let dot_env = format!("KEY=\"{key}\" # c\r\nNEXT=1\nTICKS=`a\n'\"`\n");
    let procfile = "worker: printf '%s|%s|%s' \"$KEY\" \"$NEXT\" \"$TICKS\" > seen; echo ready; exec sleep 1000\n";
    let folder = project(&host, "shop", &[("Procfile", procfile), (".env", &dot_env)]);
    let seen = || fs::read_to_string(folder.join("seen")).unwrap();
    let running = start(&host, &folder, &[]);
    running.wait_for_output("worker.1 | ready");
    assert_eq!(seen(), format!("{key}|1|a\n'\""));
    ends_well(running);

    host.dyno(&folder, &["create", "-a", "other"])
        .finish()
        .succeeds();
    let pair = format!("KEY={key}");
    let pairs = ["config:set", "-a", "other", &pair, "NEXT=a b", "TICKS=\\`"];
    host.dyno(&folder, &pairs).finish().succeeds();
    let written = host
        .dyno(&folder, &["config", "-s", "-a", "other"])
        .finish()
        .text();
    write(&folder.join("written"), &written);
    let running = start(&host, &folder, &["-e", "written"]);
    running.wait_for_output("worker.1 | ready");
    assert_eq!(seen(), format!("{key}|a b|\\`"));
    ends_well(running);
}

#[test]
fn a_process_that_reads_its_input_waits_and_does_not_end() {
    let host = Host::new();
    // One that is at its end would have `cat` end with 0 before its time is over.
    let procfile = "css: timeout 0.5 cat; echo status $?; exec sleep 1000\n";
    let folder = project(&host, "shop", &[("Procfile", procfile)]);
    for args in [&[][..], &["--slug"]] {
        let running = start(&host, &folder, args);
        running.wait_for_output("| status 124\n");
        ends_well(running);
    }
    // With a terminal it is the same: that is not the processes'.
    let terminal = Terminal::open(&host, &folder, &["start", "-p", &first_port().to_string()]);
    terminal.wait_for_text("status 124");
    terminal.type_keys(CTRL_C);
    terminal.exits(0);
}

/// Files below `folder` with these bytes in them.
fn look_for(folder: &Path, bytes: &[u8], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        if metadata.is_dir() {
            look_for(&path, bytes, found);
        } else if metadata.is_file() {
            let text = fs::read(&path).unwrap_or_default();
            if text.windows(bytes.len()).any(|window| window == bytes) {
                found.push(path);
            }
        }
    }
}

#[test]
fn each_process_type_has_a_hundred_ports_in_the_order_of_the_procfile() {
    let host = Host::new();
    let procfile = "web: echo p=$PORT; exec sleep 1000\nrelease: echo never > released\nclock: echo p=$PORT; exec sleep 1000\n";
    let folder = project(&host, "shop", &[("Procfile", procfile)]);
    let first = first_port();
    write(&folder.join(".env"), &format!("PORT={first}\n"));
    let running = host.dyno(&folder, &["start", "-m", "all=1,web=2"]).start();
    for line in [
        format!("web.1   | p={first}\n"),
        format!("web.2   | p={}\n", first + 1),
        format!("clock.1 | p={}\n", first + 200),
    ] {
        running.wait_for_output(&line);
    }
    host.dyno(&folder, &["ps:scale", "clock=2"])
        .finish()
        .succeeds();
    running.wait_for_output(&format!("clock.2 | p={}\n", first + 201));
    assert!(!folder.join("released").exists());
    ends_well(running);
}

#[test]
fn a_port_that_somebody_has_is_one_error() {
    let host = Host::new();
    let folder = project(
        &host,
        "shop",
        &[("Procfile", "worker: true\nweb: sleep 1000\n")],
    );
    let first = first_port();
    let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, first + 100)).unwrap();
    // A user who may look into its process is told which it is.
    let refused = format!(
        "port {}, for `web.1`, cannot be used: process {} (",
        first + 100,
        std::process::id()
    );
    host.dyno(&folder, &["start", "-p", &first.to_string()])
        .finish()
        .fails_with(1, &refused, "dyno start -p");
    // Nor where browsers look first, nor what was given to a process that does not listen yet.
    let second = first_port();
    let given = format!("{}-{}", second + 100, second + 101);
    let other = Host::with(&[("DYNO_PORTS", &given), ("DYNO_IDLE_LINGER", "60")]);
    let plain = other.plain_app();
    for _ in 0..2 {
        other
            .dyno(&plain, &["run:detached", "sleep 1000"])
            .finish()
            .succeeds();
    }
    let mut taken = vec![second];
    let third = first_port();
    let _listens = match TcpListener::bind((Ipv6Addr::LOCALHOST, third + 100)) {
        Ok(listens) => {
            taken.push(third);
            Some(listens)
        }
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => None,
        Err(error) => panic!("{error}"),
    };
    for first in taken {
        host.dyno(&folder, &["start", "-p", &first.to_string()])
            .finish()
            .fails_with(1, "cannot be used: ", "dyno start -p");
    }
    is_gone(&host, &folder);
}

#[test]
fn a_port_of_the_servers_own_is_told_by_name() {
    let first = first_port();
    let host = Host::with(&[("DYNO_RENDEZVOUS", &format!("127.0.0.1:{first}"))]);
    let folder = project(&host, "shop", &[("Procfile", "web: sleep 1000\n")]);
    let refused =
        format!("port {first}, for `web.1`, cannot be used: the rendezvous of this server has it");
    host.dyno(&folder, &["start", "-p", &first.to_string()])
        .finish()
        .fails_with(1, &refused, "dyno start -p");
}

#[test]
fn where_nobody_asked_for_a_port_the_next_one_that_is_free_will_do() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let folder = project(
        &host,
        "shop",
        &[("Procfile", "web: exec python3 -m http.server $PORT\n")],
    );
    // It may be another process's already.
    let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 5000));
    let running = host.dyno(&folder, &["start"]).start();
    running.wait_for_errors(" instead of 5000 (`-p` says another)\n");
    running.wait_for_errors("port 5000, for `web.1`, cannot be used: ");
    running.wait_for_output("web.1  | listening on port 5");
    running.signal(Signal::INT);
    running.finish().succeeds().holds("another port", |text| {
        !text.contains("listening on port 5000\n")
    });
}

#[test]
fn on_a_terminal_it_is_coloured_and_aligned_and_ctrl_c_ends_everything() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let folder = host.folder("web");
    let worker = "worker: printf '\\033[1;31mred\\033[0m \\033[2J\\n'; exec sleep 1000\n";
    let procfile = fs::read_to_string(folder.join("Procfile")).unwrap();
    write(&folder.join("Procfile"), &(procfile + worker));
    given_away(&host, &folder);
    let first = first_port();
    let terminal = Terminal::open(&host, &folder, &["start", "-p", &first.to_string()]);
    terminal.wait_for_text(&format!("web.1    | listening on port {first}"));
    terminal.wait_for_text("worker.1 | red \\x1b[2J");
    assert_eq!(get(first, "/dyno").as_deref(), Some("web.1\n"));
    assert_eq!(meant(&host, &folder).as_deref(), Some("web-start"));
    terminal.type_keys(CTRL_C);
    terminal.exits(0);
    terminal.is_restored();
    let drawn = String::from_utf8(terminal.bytes()).unwrap();
    for text in [
        " web.1    | \x1b[0m",
        "\x1b[36m",
        "\x1b[33m",
        "\x1b[0m\x1b[1;31mred\x1b[0m \\x1b[2J",
    ] {
        assert!(drawn.contains(text), "{text:?} in {drawn:?}");
    }
    for line in [
        "system   | sending SIGTERM to all processes",
        "web.1    | stopped",
        "worker.1 | stopped",
    ] {
        terminal.wait_for_text(line);
    }
    is_gone(&host, &folder);
}

#[test]
fn without_colours_there_are_none_and_into_a_pipe_everything_is_as_it_was() {
    let mut host = Host::new();
    let procfile = "worker: printf '\\033[31mred\\033[0m\\tx\\n'; exec sleep 1000\n";
    let folder = project(&host, "shop", &[("Procfile", procfile)]);
    let running = start(&host, &folder, &[]);
    running.wait_for_output(" worker.1 | \x1b[31mred");
    running.signal(Signal::TERM);
    let outcome = running.finish();
    outcome.succeeds();
    let text = outcome.text();
    assert!(
        text.contains(" worker.1 | \x1b[31mred\x1b[0m\tx\n"),
        "{text:?}"
    );
    assert_eq!(text.matches('\x1b').count(), 2, "{text:?}");
    host.set("NO_COLOR", "1");
    let terminal = Terminal::open(&host, &folder, &["start", "-p", &first_port().to_string()]);
    terminal.wait_for_text("worker.1 | red");
    terminal.type_keys(CTRL_C);
    terminal.exits(0);
    let drawn = terminal.bytes();
    assert!(
        !drawn.contains(&0x1b),
        "{:?}",
        String::from_utf8_lossy(&drawn)
    );
}

#[test]
fn one_that_dies_is_started_again_and_the_others_go_on() {
    let host = Host::new();
    let procfile = format!(
        "web: {TELLS_ITS_PID}\nworker: sh -c 'echo $$ >> pids.$DYNO; test -e mended || exit 7; echo mended; exec sleep 1000'\n"
    );
    let folder = project(&host, "shop", &[("Procfile", &procfile)]);
    let running = start(&host, &folder, &[]);
    running.wait_for_output("worker.1 | exited with status 7; starting it again\n");
    // The first time at once, then soon: the user is at it.
    eventually("three tries", || {
        (pids(&folder, "worker.1").len() >= 3).then_some(())
    });
    write(&folder.join("mended"), "");
    running.wait_for_output("worker.1 | mended");
    assert_eq!(pids(&folder, "web.1").len(), 1);
    // It came back: nothing has failed in the end.
    ends_well(running);
}

#[test]
fn a_pid_file_of_an_earlier_dyno_names_nobody() {
    let host = Host::new();
    // As Rails and others do at their start; nothing removes the file in the end.
    let server = "test -e pid && kill -0 $(cat pid) 2>/dev/null && echo already running && exit 1\n\
                  echo $$ > pid\necho ready\nexec sleep 1000\n";
    let files = [
        ("Procfile", "worker: sh server.sh\n"),
        ("server.sh", server),
    ];
    let folder = project(&host, "shop", &files);
    let copy = host.folder_of("copy", &files);
    let mut numbers = Vec::new();
    for _ in 0..2 {
        let running = start(&host, &folder, &[]);
        running.wait_for_output("worker.1 | ready\n");
        numbers.push(fs::read_to_string(folder.join("pid")).unwrap());
        if host.in_folders() {
            leave_out("a number that another dyno has: without walls it is the host's");
        } else {
            // A deploy beside it packs the file.
            fs::copy(folder.join("pid"), copy.join("pid")).unwrap();
            host.run(&copy, &["-q", "timeout 0.2 sh server.sh"])
                .finish()
                .exits(124)
                .prints("ready\n");
        }
        ends_well(running);
    }
    assert_ne!(numbers[0], numbers[1]);
}

#[test]
fn what_is_down_in_the_end_is_the_exit_status() {
    let host = Host::new();
    let procfile = format!("web: {}\nworker: exit 7\n", until_term(0));
    let folder = project(&host, "shop", &[("Procfile", &procfile)]);
    let running = start(&host, &folder, &[]);
    running.wait_for_output("web.1    | ready");
    // From the second time on it is down for a while.
    host.wait_for_log_lines("heroku[worker.1]: State changed from up to crashed", 2);
    running.signal(Signal::INT);
    running
        .finish()
        .exits(7)
        .mentions("error: `worker.1` exited with status 7\n");
    is_gone(&host, &folder);
    // So is one that does not end as it is asked to.
    write(
        &folder.join("Procfile"),
        &format!("worker: {}\n", until_term(9)),
    );
    let running = start(&host, &folder, &[]);
    running.wait_for_output("worker.1 | ready");
    running.signal(Signal::TERM);
    running
        .finish()
        .exits(9)
        .mentions("error: `worker.1` exited with status 9\n");
}

#[test]
fn with_exit_on_crash_one_that_ends_ends_all() {
    let host = Host::new();
    for (status, said) in [
        (3, "error: `worker.1` exited with status 3\n"),
        (0, "worker.1 exited with status 0\n"),
    ] {
        let procfile = format!(
            "web: {}\nworker: test -e go || exec sleep 1000; exit {status}\n",
            until_term(0)
        );
        let folder = project(
            &host,
            &format!("shop-{status}"),
            &[("Procfile", &procfile), ("go", "")],
        );
        let running = start(&host, &folder, &["--exit-on-crash"]);
        running.finish().exits(status).mentions(said);
        is_gone(&host, &folder);
    }
    // Of two that end together, the one that failed is the status, whichever the log has first.
    for n in 0..5 {
        let procfile = "clock: exit 0\nweb: exit 5\nworker: echo x >> runs; exit 0\n";
        let folder = project(&host, &format!("both-{n}"), &[("Procfile", procfile)]);
        start(&host, &folder, &["--exit-on-crash"])
            .finish()
            .exits(5)
            .mentions("error: `web.1` exited with status 5\n");
        // Nothing ran twice.
        let runs = fs::read_to_string(folder.join("runs")).unwrap_or_default();
        assert!(matches!(&*runs, "" | "x\n"), "{runs}");
    }
}

#[test]
fn one_is_restarted_alone_from_another_terminal_and_keeps_its_port() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let folder = host.folder("web");
    write(
        &folder.join("Procfile"),
        &format!("web: exec python3 web.py\nworker: {TELLS_ITS_PID}\n"),
    );
    given_away(&host, &folder);
    let first = first_port();
    let running = host
        .dyno(&folder, &["start", "-p", &first.to_string()])
        .start();
    running.wait_for_output(&format!("web.1    | listening on port {first}"));
    eventually("the worker", || {
        (pids(&folder, "worker.1").len() == 1).then_some(())
    });
    write(
        &folder.join("web.py"),
        &fs::read_to_string(folder.join("web.py"))
            .unwrap()
            .replace("\"hello\\n\"", "\"changed\\n\""),
    );
    host.dyno(&folder, &["ps:restart", "web.1"])
        .finish()
        .succeeds();
    eventually("the change", || {
        (get(first, "/").as_deref() == Some("changed\n")).then_some(())
    });
    assert_eq!(pids(&folder, "worker.1").len(), 1);
    eventually("both", || {
        let listed = host.dyno(&folder, &["ps"]).finish();
        let text = listed.succeeds().text();
        (text.contains("web.1: up") && text.contains("worker.1: up")).then_some(())
    });
    host.dyno(&folder, &["logs"])
        .finish()
        .succeeds()
        .holds("its log", |text| text.contains("app[web.1]: listening"));
    ends_well(running);
}

#[test]
fn the_folder_means_the_app_that_it_meant_before() {
    let host = Host::new();
    let folder = host.app("plain");
    write(&folder.join("Procfile"), "nothing: sleep 1000\n");
    given_away(&host, &folder);
    assert_eq!(meant(&host, &folder).as_deref(), Some("plain"));
    let running = start(&host, &folder, &[]);
    running.wait_for_output("nothing.1 | starting");
    assert_eq!(meant(&host, &folder).as_deref(), Some("plain-start"));
    host.dyno(&folder, &["ps"])
        .finish()
        .succeeds()
        .holds("nothing.1", |text| text.contains("nothing.1: "));
    start(&host, &folder, &[])
        .finish()
        .fails_with(1, "runs in", "Ctrl-C");
    host.dyno(&folder, &["deploy"])
        .finish()
        .fails_with(1, "runs in its folder itself", "-a NAME");
    host.dyno(&folder, &["deploy", "-a", "plain", "--no-wait", "."])
        .finish()
        .succeeds();
    ends_well(running);
    assert_eq!(meant(&host, &folder).as_deref(), Some("plain"));
    host.wait_until_clean();
}

#[test]
fn nothing_outlives_a_command_that_is_killed() {
    let host = Host::new();
    let stubborn = "trap '' TERM; echo ready; while :; do sleep 1000; done";
    let folder = project(
        &host,
        "shop",
        &[(
            "Procfile",
            &format!("web: sleep 1000\nworker: {stubborn}\n"),
        )],
    );
    let running = start(&host, &folder, &[]);
    running.wait_for_output("worker.1 | ready");
    let beside = host.run(&folder, &["-q", "sleep 1000"]).start();
    host.wait_for_log("heroku[run.1]: State changed from starting to up");
    running.signal(Signal::KILL);
    is_gone(&host, &folder);
    beside.finish().is_ended();
    // A command that starts at once again waits for that.
    let running = start(&host, &folder, &[]);
    running.wait_for_output("worker.1 | ready");
    running.signal(Signal::KILL);
    // It has its connection until it is gone.
    running.process.wait_for_end();
    let again = start(&host, &folder, &[]);
    again.wait_for_output("worker.1 | ready");
    again.signal(Signal::KILL);
    is_gone(&host, &folder);
}

#[test]
fn it_goes_on_when_its_server_is_killed() {
    let host = Host::new();
    let procfile = format!("web: {TELLS_ITS_PID}\nworker: echo secret=$SECRET; exec sleep 1000\n");
    let folder = project(
        &host,
        "shop",
        &[("Procfile", &procfile), (".env", "SECRET=42\n")],
    );
    let running = start(&host, &folder, &[]);
    running.wait_for_output("worker.1 | secret=42");
    eventually("web", || (pids(&folder, "web.1").len() == 1).then_some(()));
    host.kill_server();
    // What only the command knows, the next server knows again.
    host.dyno(&folder, &["ps:restart", "worker.1"])
        .finish()
        .succeeds();
    let text = "worker.1 | secret=42";
    let deadline = Instant::now() + DEADLINE;
    while host
        .log_lines()
        .iter()
        .filter(|line| line.ends_with("app[worker.1]: secret=42") || line.ends_with("secret=42"))
        .count()
        < 2
    {
        assert!(Instant::now() < deadline, "{}", host.log_lines().join("\n"));
    }
    assert_eq!(pids(&folder, "web.1").len(), 1, "web.1 was restarted");
    running.signal(Signal::INT);
    let outcome = running.finish();
    outcome.succeeds();
    assert_eq!(
        outcome.text().matches(text).count(),
        2,
        "{}",
        outcome.text()
    );
    is_gone(&host, &folder);
}

#[test]
fn what_nobody_claims_after_a_crash_of_both_ends_with_the_next_server() {
    let host = Host::new();
    let folder = project(
        &host,
        "shop",
        &[("Procfile", "worker: echo ready; exec sleep 1000\n")],
    );
    let running = start(&host, &folder, &[]);
    running.wait_for_output("worker.1 | ready");
    let server = host.server().unwrap();
    running.signal(Signal::STOP);
    server.signal(Signal::KILL);
    server.wait_for_end();
    running.signal(Signal::KILL);
    running.process.wait_for_end();
    host.dyno(&folder, &["apps"]).finish().succeeds();
    is_gone(&host, &folder);
}

#[test]
fn a_stubborn_one_is_killed_after_its_grace_and_that_is_a_failure() {
    let host = Host::with(&[("DYNO_STOP_GRACE", "1")]);
    let folder = project(
        &host,
        "shop",
        &[(
            "Procfile",
            "worker: trap '' TERM; echo ready; while :; do sleep 1000; done\n",
        )],
    );
    let running = start(&host, &folder, &[]);
    running.wait_for_output("worker.1 | ready");
    running.signal(Signal::INT);
    running
        .finish()
        .exits(137)
        .mentions("error: `worker.1` ended by signal 9\n");
    is_gone(&host, &folder);
}

#[test]
fn a_second_ctrl_c_kills_at_once_and_is_no_failure() {
    let host = Host::with(&[("DYNO_STOP_GRACE", "1000")]);
    let folder = project(
        &host,
        "shop",
        &[(
            "Procfile",
            "worker: trap 'echo no' TERM; echo ready; while :; do sleep 1000 & wait $!; done\n",
        )],
    );
    let terminal = Terminal::open(&host, &folder, &["start", "-p", &first_port().to_string()]);
    terminal.wait_for_text("worker.1 | ready");
    terminal.type_keys(CTRL_C);
    terminal.wait_for_text("worker.1 | no");
    // The same signal by another way is none.
    terminal.type_keys(CTRL_C);
    let deadline = Instant::now() + DEADLINE;
    while !terminal.screen().contains("sending SIGKILL") && Instant::now() < deadline {
        terminal.type_keys(CTRL_C);
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    }
    terminal.exits(0);
    is_gone(&host, &folder);
}

#[test]
fn a_forgotten_shell_holds_nobody_up() {
    let host = Host::with(&[("DYNO_STOP_GRACE", "1000")]);
    let procfile = format!("worker: {}\n", until_term(0));
    let folder = project(&host, "shop", &[("Procfile", &procfile)]);
    let running = start(&host, &folder, &[]);
    running.wait_for_output("worker.1 | ready");
    let shell = Terminal::run(&host, &folder, &["bash"]);
    shell.wait_for_prompt();
    ends_well(running);
    shell.exits(137);
    shell.is_restored();
    is_gone(&host, &folder);
}

#[test]
fn closing_the_window_ends_everything_and_so_does_a_reader_that_leaves() {
    let host = Host::new();
    let folder = project(
        &host,
        "shop",
        &[(
            "Procfile",
            "worker: echo ready; while sleep 0.05; do echo tick; done\n",
        )],
    );
    let mut terminal = Terminal::open(&host, &folder, &["start", "-p", &first_port().to_string()]);
    terminal.wait_for_text("worker.1 | ready");
    terminal.close();
    terminal.process.wait_for_end();
    is_gone(&host, &folder);
    let (reader, writer) = std::io::pipe().unwrap();
    let port = first_port().to_string();
    let running = host
        .dyno(&folder, &["start", "-p", &port])
        .stdout(writer)
        .start();
    let mut some = [0; 1];
    (&reader).read_exact(&mut some).unwrap();
    drop(reader);
    running.finish().succeeds();
    is_gone(&host, &folder);
}

#[test]
fn a_clean_slug_runs_on_wish() {
    let host = Host::new();
    let procfile = "release: exit 1\nworker: cat message; echo x > made; exec sleep 1000\n";
    let folder = project(
        &host,
        "shop",
        &[("Procfile", procfile), ("message", "old\n")],
    );
    let running = start(&host, &folder, &["--slug"]);
    running.wait_for_output("worker.1 | old");
    write(&folder.join("message"), "new\n");
    host.run(&folder, &["-q", "cat message"])
        .finish()
        .succeeds()
        .prints("old\n");
    assert!(!folder.join("made").exists());
    ends_well(running);
    is_gone(&host, &folder);
}

#[test]
fn ctrl_c_does_not_wait_for_a_slug_that_is_being_packed() {
    let host = Host::new();
    let folder = project(&host, "shop", &[("Procfile", "worker: sleep 1000\n")]);
    // Nothing on the disk, and seconds of work to pack.
    let large = fs::File::create(folder.join("large")).unwrap();
    large.set_len(3 << 30).unwrap();
    let running = start(&host, &folder, &["--slug"]);
    running.wait_for_errors("Deploying to ");
    running.signal(Signal::INT);
    let outcome = running.finish();
    outcome.succeeds();
    assert!(
        !outcome.errors().contains("done, v"),
        "{}",
        outcome.errors()
    );
    is_gone(&host, &folder);
}

#[test]
fn what_cannot_be_started_is_one_error_and_leaves_no_app() {
    let host = Host::new();
    let empty = project(&host, "empty", &[("README", "")]);
    host.dyno(&empty, &["start", "-a", "shop"])
        .finish()
        .fails_with(2, "-a has no meaning", "an app of its own; `-C DIR`");
    host.dyno(&empty, &["start"])
        .finish()
        .fails_with(1, "no Procfile in", "web: ./server");
    let folder = project(
        &host,
        "shop",
        &[
            ("Procfile", "web: true\n"),
            (".env", "A=1\nmy secret\n"),
            ("good", "A=1\n"),
        ],
    );
    let refused = |args: &[&str], code, error: &str, hint: &str| {
        let words = [&["start"], args].concat();
        host.dyno(&folder, &words)
            .finish()
            .fails_with(code, error, hint)
            .does_not_mention("secret");
    };
    refused(&[], 1, "`.env` is not valid in line 2", "NAME=value");
    refused(&["-e", "nowhere"], 1, "cannot read `nowhere`", "NAME=value");
    refused(
        &["-e", "good", "-m", "clock=1"],
        1,
        "has no `clock`",
        "it has `web`",
    );
    refused(
        &["-e", "good", "clock"],
        1,
        "has no `clock`",
        "it has `web`",
    );
    refused(
        &["-e", "good", "-m", "web=0"],
        1,
        "nothing to start",
        "-m all=1",
    );
    refused(&["-e", "good", "-m", "web=101"], 1, "0 to 100", "all=1");
    refused(&["-p", "0"], 2, "invalid value '0'", "--help");
    host.dyno(
        &empty,
        &[
            "start",
            "-C",
            &folder.display().to_string(),
            "-e",
            "good",
            "-m",
            "web=100",
            "-p",
            "65500",
        ],
    )
    .finish()
    .fails_with(1, "no port for `web.37`", "-p 6000");
    host.dyno(&folder, &["apps"])
        .finish()
        .succeeds()
        .says("")
        .holds("no app", |text| !text.contains("start"));
}

#[test]
fn requests_for_a_short_lived_app_have_bounds() {
    let host = Host::new();
    let folder = project(&host, "shop", &[("Procfile", "web: true\n")]);
    let inode = fs::metadata(&folder).unwrap().ino();
    let path = folder.display().to_string();
    let usual = json!({
        "folder": {"path": path, "device": 1, "inode": inode},
        "port": 5000, "order": ["web"], "formation": {"web": 0}, "env": {},
    });
    for (field, value, words) in [
        ("port", json!(0), "`port`"),
        ("port", json!(65_536), "`port`"),
        ("order", json!(["a b"]), "`order`"),
        ("order", json!(vec!["web"; 129]), "`order`"),
        ("formation", json!({"web": 101}), "`formation`"),
        ("formation", json!({"release": 1}), "`formation`"),
        ("env", json!({"1A": "x"}), "1A"),
        ("env", json!({"A": "x".repeat(64 * 1024)}), "variables"),
        (
            "folder",
            json!({"path": "relative", "device": 1, "inode": 1}),
            "no path of a folder",
        ),
        (
            "folder",
            json!({"path": format!("{path}/../shop"), "device": 1, "inode": 1}),
            "canonical",
        ),
        (
            "folder",
            json!({"path": "/", "device": 1, "inode": 1}),
            "state folder",
        ),
        ("id", json!("nobody"), "ended while it was away"),
    ] {
        let mut body = usual.clone();
        body[field] = value;
        let (status, answer) = host.request("POST", "/sessions", &body);
        assert!(
            (400..500).contains(&status) && answer.contains(words),
            "{field}: {status} {answer}"
        );
    }
    let (status, _) = host.request("POST", "/sessions/nobody/actions/stop", &json!({}));
    assert_eq!(status, 404);
}
