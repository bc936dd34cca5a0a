//! What a hostile dyno tries beside its walls: each test is one attempt, named for the rule that it does not break. Real
//! programs that need the same means in a harmless way are at the end.

use std::fs;
use std::path::PathBuf;

use crate::harness::{Host, is_root, lacks, lacks_walls, leave_out};
use crate::terminal::Terminal;

/// An app whose `try.py` is this program.
fn attacker(host: &Host, program: &str) -> PathBuf {
    let files = [("Procfile", "job: true\n"), ("try.py", program)];
    host.folder_of("attacker", &files)
}

/// The output of a Python program in a fresh dyno.
fn python(program: &str) -> String {
    let host = Host::new();
    let app = attacker(&host, program);
    host.run(&app, &["-q", "exec python3 try.py"])
        .finish()
        .text()
}

/// Forks until that fails, and prints how many there are; they live until the program ends.
const FORK_BOMB: &str = "
import os, sys
mine, ready = os.pipe()
count = 0
try:
    while count < 5000:
        if os.fork() == 0:
            os.close(ready)
            os.read(mine, 1)
            os._exit(0)
        count += 1
except BlockingIOError as error:
    print('forked', count, flush=True)
sys.stdin.read()
";

#[test]
fn a_dyno_has_as_many_processes_as_its_size_allows() {
    if lacks("python3") || cannot_count_processes() {
        return;
    }
    let host = Host::with(&[OWN_IDS]);
    let app = attacker(&host, FORK_BOMB);
    for (size, most, name) in [("1X", 256, "run.1"), ("2x", 512, "run.3")] {
        let bomb = host.run(&app, &["-q", "-s", size, "exec python3 try.py"]);
        let bomb = bomb.open_input().start();
        // The program itself is one.
        bomb.wait_for_output(&format!("forked {}\n", most - 1));
        // Other dynos have theirs.
        host.run(&app, &["-q", "true; true"]).finish().succeeds();
        // One can still look into this one.
        host.dyno(&app, &["run:inside", "-q", name, "echo looked; exit 3"])
            .finish()
            .exits(3)
            .prints("looked\n");
        bomb.finish_input().succeeds();
    }
    host.wait_until_clean();
}

#[test]
fn threads_count_as_processes() {
    if lacks("python3") || cannot_count_processes() {
        return;
    }
    let host = Host::with(&[("DYNO_UID_BASE", "1600100000")]);
    let app = attacker(
        &host,
        "
import threading
wait, count = threading.Event(), 0
try:
    while count < 5000:
        threading.Thread(target=wait.wait, daemon=True).start()
        count += 1
except RuntimeError:
    print(count)
",
    );
    let count = host.run(&app, &["-q", "python3 try.py"]).finish().text();
    let count: u32 = count.trim().parse().unwrap();
    // Beside the program itself and the shell that started it.
    assert!((250..256).contains(&count), "{count}");
}

/// In folders the kernel counts all processes of a uid, so also those of dynos of other tests' servers that have the same.
const OWN_IDS: (&str, &str) = ("DYNO_UID_BASE", "1600000000");

/// Whether the kernel cannot count a dyno's processes alone: those of an ordinary user in folders are the user's.
fn cannot_count_processes() -> bool {
    !is_root() && lacks_walls()
}

#[test]
fn a_dyno_goes_before_the_server_when_memory_runs_out() {
    let host = Host::new();
    let app = host.plain_app();
    let adjusted = |pid: i32| -> i32 {
        let text = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
        text.trim().parse().unwrap()
    };
    let usual = adjusted(std::process::id().try_into().unwrap());
    let run = host.run(
        &app,
        &[
            "-q",
            "cat /proc/self/oom_score_adj; echo 0 2>/dev/null >/proc/self/oom_score_adj || echo kept; \
             cat /proc/self/oom_score_adj; exec cat",
        ],
    );
    let run = run.open_input().start();
    // No process of the dyno can change its mind, if the server may forbid that.
    match may_fix_the_order() {
        true => run.wait_for_output("800\nkept\n800\n"),
        false => run.wait_for_output("800\n"),
    }
    assert_eq!(adjusted(host.server().unwrap().pid), usual);
    for supervisor in host.supervisors() {
        assert_eq!(adjusted(supervisor.pid), usual);
    }
    run.finish_input().succeeds();
    // A command inside is no other.
    let run = host.run(&app, &["-q", "echo up; exec cat"]);
    let run = run.open_input().start();
    run.wait_for_output("up");
    let inside = ["run:inside", "-q", "run.2", "cat /proc/self/oom_score_adj"];
    host.dyno(&app, &inside).finish().succeeds().prints("800\n");
    run.finish_input().succeeds();
}

/// Whether this process, and so the server, has CAP_SYS_RESOURCE on the host.
fn may_fix_the_order() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mut lines = status.lines();
    let effective = lines.find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    let on_the_host = fs::read_to_string("/proc/self/uid_map").unwrap();
    let on_the_host = on_the_host.split_whitespace().eq(["0", "0", "4294967295"]);
    on_the_host && u64::from_str_radix(effective.trim(), 16).unwrap() & (1 << 24) != 0
}

#[test]
fn no_namespace_can_be_made_in_a_dyno() {
    if lacks_walls() {
        return;
    }
    let host = Host::new();
    let app = host.plain_app();
    let text = host
        .run(
            &app,
            &[
                "-q",
                "for kind in U Ur m n i p u C T UrmC; do unshare -$kind true 2>/dev/null && echo made $kind; done; echo end",
            ],
        )
        .finish()
        .text();
    assert_eq!(text, "end\n");
}

#[test]
fn the_quotas_of_a_dyno_cannot_be_raised_in_it() {
    if lacks_walls() {
        return;
    }
    let host = Host::new();
    let app = host.plain_app();
    let outcome = host
        .run(
            &app,
            &[
                "-q",
                "cd /proc/sys/user; cat max_*_namespaces | sort -u; \
                 for quota in *; do echo 1000 2>/dev/null >$quota && echo raised $quota; done; echo end",
            ],
        )
        .finish();
    outcome.prints("0\nend\n");
}

#[test]
fn one_dyno_cannot_take_all_file_watches_of_the_server_s_user() {
    if lacks("python3") || lacks_walls() {
        return;
    }
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    if limit < 64 {
        return leave_out(
            "file watches of dynos: this host has few (fs.inotify.max_user_instances)",
        );
    }
    let host = Host::new();
    let app = attacker(
        &host,
        "
import ctypes, os, sys
libc, count = ctypes.CDLL(None, use_errno=True), 0
while count < int(sys.argv[1]) and libc.inotify_init1(0) >= 0: count += 1
print('took', count, os.strerror(ctypes.get_errno()), flush=True)
sys.stdin.read()
",
    );
    let taken = host.run(&app, &["-q", "exec python3 try.py 100000"]);
    let taken = taken.open_input().start();
    taken.wait_for_output(&format!("took {} Too many open files\n", limit / 4));
    // Another dyno does not notice.
    host.run(&app, &["-q", "echo | python3 try.py 1"])
        .finish()
        .succeeds()
        .prints("took 1 Success\n");
    taken.finish_input().succeeds();
}

#[test]
fn one_dyno_cannot_take_all_terminals_of_the_host() {
    if lacks("python3") || lacks_walls() {
        return;
    }
    let host = Host::new();
    let app = attacker(
        &host,
        "
import os, sys
taken = []
try:
    while len(taken) < 1000: taken.append(os.open('/dev/ptmx', os.O_RDWR | os.O_NOCTTY))
except OSError as error: print('took', len(taken), error.strerror, flush=True)
sys.stdin.read()
",
    );
    let taken = host.run(&app, &["-q", "exec python3 try.py"]);
    let taken = taken.open_input().start();
    taken.wait_for_output("took 128 No space left on device\n");
    let other = Terminal::run(&host, &app, &["-q", "tty"]);
    other.wait_for_text("/dev/pts/0");
    other.exits(0);
    taken.finish_input().succeeds();
}

#[test]
fn empty_files_do_not_fill_the_kernel_s_memory() {
    if lacks("python3") || lacks_walls() {
        return;
    }
    let text = python(
        "
import os
for line in open('/proc/mounts'):
    _, place, kind, options = line.split(' ')[:4]
    if kind != 'tmpfs': continue
    disk = os.statvfs(place)
    files, pages = disk.f_files, disk.f_blocks * disk.f_frsize // 4096
    if not 0 < files <= pages: print('unbounded', place, files, pages)
count = 0
try:
    while count < 100000:
        open('/dev/%d' % count, 'w').close()
        count += 1
except OSError as error: print(error.strerror, count < 256)
",
    );
    assert_eq!(text, "No space left on device True\n");
}

#[test]
fn a_crash_writes_no_core_and_wakes_no_handler_of_the_host() {
    let host = Host::new();
    let app = host.plain_app();
    // A limit of 0 would still start a handler to which dumps are piped.
    host.run(
        &app,
        &[
            "-q",
            "grep -h 'core file size' /proc/self/limits | tr -s ' '; ulimit -c; ulimit -Hc; \
             ulimit -c unlimited 2>/dev/null && echo raised; sh -c 'kill -QUIT $$'; ls",
        ],
    )
    .finish()
    .prints("Max core file size 1 1 bytes \n0\n0\nProcfile\n");
}
