//! What a hostile dyno tries beside its walls: each test is one attempt, named for the rule that it does not break. Real
//! programs that need the same means in a harmless way are at the end.

use std::fs;
use std::path::PathBuf;

use crate::harness::{Host, free_port, is_root, lacks, lacks_walls, leave_out};
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
                "cd /proc/sys/user; cat max_user_namespaces; \
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
    // At a limit of 0 a handler to which dumps are piped would be started.
    host.run(
        &app,
        &[
            "-q",
            "ulimit -c; ulimit -Hc; ulimit -c 0; ulimit -c unlimited 2>/dev/null; \
             grep -h 'core file size' /proc/self/limits | tr -s ' '; sh -c 'kill -QUIT $$'; ls",
        ],
    )
    .finish()
    .prints("0\n0\nMax core file size 1 1 bytes \nProcfile\n");
}

#[test]
fn descriptors_under_way_in_a_dyno_keep_nobody_from_attaching_to_another() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let app = attacker(
        &host,
        "
import os, resource, socket, sys
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
null, pairs, sent = os.open('/dev/null', os.O_RDONLY), [], 0
# Root passes on as many as it likes.
while sent < 2 * most and len(pairs) < most // 2 - 20:
    pairs.append(socket.socketpair())
    pairs[-1][0].setblocking(False)
    try:
        while True:
            socket.send_fds(pairs[-1][0], [b'x'], [null] * 253)
            sent += 253
    except BlockingIOError: pass
    except OSError: break
print('sent', sent > 600, flush=True)
sys.stdin.read()
",
    );
    let run = host.run(&app, &["-q", "exec python3 try.py"]);
    let run = run.open_input().start();
    run.wait_for_output("sent True\n");
    host.run(&app, &["-q", "echo other"])
        .finish()
        .succeeds()
        .prints("other\n");
    host.dyno(&app, &["run:inside", "-q", "run.1", "echo inside"])
        .finish()
        .succeeds()
        .prints("inside\n");
    run.finish_input().succeeds();
}

#[test]
fn what_the_kernel_counts_for_the_server_s_user_is_shared_among_dynos() {
    let host = Host::new();
    let app = host.plain_app();
    let limits = "grep -hE 'pending signals|msgqueue|locked|open files' /proc/self/limits";
    let limit = |text: &str, name: &str| -> Option<u64> {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line[26..].split_whitespace().nth(1).unwrap().parse().ok()
    };
    let own = fs::read_to_string("/proc/self/limits").unwrap();
    let text = host.run(&app, &["-q", limits]).finish().text();
    for (name, parts) in [
        ("Max pending signals", 4),
        ("Max msgqueue size", 4),
        ("Max locked memory", 4),
        ("Max open files", 2),
    ] {
        let expected = limit(&own, name).map(|limit| limit / parts);
        assert_eq!(limit(&text, name), expected, "{name}: {text}");
    }
}

/// Python that tries system calls, `call(number, ...)`, and prints how each was answered: `done`, or the name of the errno.
const CALLS: &str = "
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *words):
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in words]
    done = libc.syscall(ctypes.c_long(number), *words) != -1
    return 'done' if done else errno.errorcode[ctypes.get_errno()]
room = ctypes.create_string_buffer(4096)
";

#[test]
fn calls_that_only_root_needs_are_refused() {
    if lacks("python3") || other_numbers() {
        return;
    }
    let tries = "
for name, number, *words in [
    # Each of these is allowed to any process of a host.
    ('add_key', 248, b'user', b'a', b'b', 1, -3),
    ('keyctl', 250, 0, -4, 1),
    ('request_key', 249, b'user', b'none', 0, -3),
    ('kcmp', 312, os.getpid(), os.getpid(), 1, 0, 0),
    ('name_to_handle_at', 303, -100, b'/app', room, room, 0),
    ('modify_ldt', 154, 0, room, 64),
    ('adjtimex', 159, room),
    ('clock_adjtime', 305, 0, room),
    ('move_pages', 279, 0, 0, 0, 0, 0, 0),
    ('process_madvise', 440, -1, room, 0, 0, 0),
    ('pidfd_getfd', 438, -1, 0, 0),
    ('ustat', 136, 0, room),
    # These are not, but a fault in the kernel may be behind them.
    ('mount', 165, b'none', b'/tmp', b'tmpfs', 0, 0),
    ('fsopen', 430, b'tmpfs', 0),
    ('open_tree', 428, -100, b'/', 1),
    ('setns', 308, -1, 0),
    ('bpf', 321, 0, room, 128),
    ('userfaultfd', 323, 1),
    ('perf_event_open', 298, room, 0, -1, -1, 0),
    ('fanotify_init', 300, 0, 0),
    ('syslog', 103, 10, 0, 0),
    ('open_by_handle_at', 304, -1, room, 0),
]:
    answer = call(number, *words)
    if answer != 'EPERM': print(name, answer)
for name, number, *words in [
    ('clone3', 435, room, 88),
    ('io_uring_setup', 425, 1, room),
    ('io_setup', 206, 1, room),
    ('memfd_secret', 447, 0),
    ('statmount', 457, room, room, 4096, 0),
    ('listmount', 458, room, room, 8, 0),
    ('one that is not known', 600),
]:
    answer = call(number, *words)
    if answer != 'ENOSYS': print(name, answer)
print('end')";
    assert_eq!(python(&format!("{CALLS}{tries}")), "end\n");
}

#[test]
fn namespaces_are_refused_whichever_call_asks_for_them() {
    if lacks("python3") || other_numbers() {
        return;
    }
    let tries = "
for flag in [0x10000000, 0x20000, 0x20000000, 0x40000000, 0x8000000, 0x4000000, 0x2000000]:
    print(call(272, flag), call(56, flag | 17, 0, 0, 0, 0), end=' ')
print(call(272, 0x80), call(272, 0x400))";
    let refused = "EPERM EPERM ".repeat(7);
    let text = python(&format!("{CALLS}{tries}"));
    assert_eq!(text, format!("{refused}EPERM done\n"));
}

#[test]
fn sockets_are_those_of_the_internet_and_of_this_host() {
    if lacks("python3") {
        return;
    }
    let text = python(
        "
import errno, socket
def tried(family, kind, protocol=0):
    try: socket.socket(family, kind, protocol).close()
    except OSError as error: return errno.errorcode[error.errno]
    return 'done'
print(tried(1, 1), tried(2, 1), tried(2, 2), tried(10, 1), tried(16, 3, 0))
# Events of devices, the audit log; packets, the kernel's ciphers, a hypervisor, Bluetooth.
print({tried(*it) for it in [(16, 3, 15), (16, 3, 9), (17, 3), (38, 5), (40, 1), (31, 3), (0, 1)]})
",
    );
    assert_eq!(text, "done done done done done\n{'EAFNOSUPPORT'}\n");
}

#[test]
fn pid_1_cannot_be_changed() {
    if lacks("python3") || lacks_walls() || other_numbers() {
        return;
    }
    let tries = "
limits = (ctypes.c_ulong * 2)(0, 0)
print(call(302, 1, 7, limits, 0), call(302, 1, 7, 0, room), call(302, 0, 4, limits, 0))
mask = (ctypes.c_ulong * 1)(1)
print(call(203, 1, 8, mask), call(144, 1, 3, room), call(142, 1, room), call(314, 1, room, 0))
print(call(141, 0, 1, 19), call(141, 2, 0, 19), call(251, 1, 1, 3 << 13), call(251, 3, 0, 3 << 13))";
    assert_eq!(
        python(&format!("{CALLS}{tries}")),
        "EPERM done done\nEPERM EPERM EPERM EPERM\nEPERM EPERM EPERM EPERM\n"
    );
}

#[test]
fn nothing_can_be_typed_into_a_terminal() {
    if lacks("python3") || other_numbers() {
        return;
    }
    // The kernel looks at the lower half of the request alone.
    let tries = "
print(call(16, 0, 0x5412, b'x'), call(16, 0, 0x5412 | 1 << 32, b'x'), call(16, 0, 0x541c, b'x'), call(16, 0, 0x5423, room), call(16, 0, 0x5401, room))";
    assert_eq!(
        python(&format!("{CALLS}{tries}")),
        "EPERM EPERM EPERM EPERM ENOTTY\n"
    );
}

#[test]
fn calls_of_other_processors_end_the_process() {
    if lacks("python3") || other_numbers() {
        return;
    }
    let host = Host::new();
    // `mov eax, 20; int 0x80; ret` is getpid of i386; with x32's bit it is getpid of that.
    let tries = "
import mmap
if sys.argv[1] == 'i386':
    code = mmap.mmap(-1, 4096, prot=7)
    code.write(bytes([0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3]))
    ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
else: call(39 | 1 << 30)
print('survived')";
    let app = attacker(&host, &format!("{CALLS}{tries}"));
    for set in ["i386", "x32"] {
        let command = format!("exec python3 try.py {set}");
        // SIGSYS.
        host.run(&app, &["-q", &command]).finish().exits(128 + 31);
    }
}

/// Whether the kernel has no Landlock of this version.
fn lacks_landlock(version: libc::c_long) -> bool {
    #[expect(unsafe_code, reason = "there is no safe way to ask for the version")]
    // SAFETY: with this flag landlock_create_ruleset(2) takes no memory of ours.
    let has = unsafe { libc::syscall(444, std::ptr::null::<u8>(), 0usize, 1u32) };
    if has < version {
        leave_out(&format!(
            "tests that need Landlock {version}: this kernel has {has}"
        ));
    }
    has < version
}

/// Binds the port of its argument, the dyno's own, and a free one, and prints how each was answered. Exits with 3 if only the
/// first was refused.
const BINDS: &str = "
import errno, os, socket, sys
def bound(port):
    one = socket.socket()
    for shared in (socket.SO_REUSEADDR, socket.SO_REUSEPORT): one.setsockopt(socket.SOL_SOCKET, shared, 1)
    try: one.bind(('127.0.0.1', port))
    except OSError as error: return errno.errorcode[error.errno]
    one.listen()
    return 'bound'
answers = [bound(int(port)) for port in (sys.argv[1], os.environ['PORT'], 0)]
print(*answers)
sys.exit(3 if answers == ['EACCES', 'bound', 'bound'] else 0)
";

#[test]
fn where_strangers_are_expected_a_dyno_listens_on_its_own_port_alone() {
    if lacks("python3") || lacks_landlock(4) {
        return;
    }
    // A port on which somebody listens, who shares it, as another app's dyno may.
    let shared = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    rustix::net::sockopt::set_socket_reuseport(&shared, true).unwrap();
    let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
    rustix::net::bind(&shared, &any).unwrap();
    rustix::net::listen(&shared, 1).unwrap();
    let shared = std::net::TcpListener::from(shared);
    let taken = shared.local_addr().unwrap().port().to_string();
    let host = Host::with(&[("DYNO_BIND", "port")]);
    let app = attacker(&host, BINDS);
    let command = format!("python3 try.py {taken}");
    host.run(&app, &["-q", &command])
        .finish()
        .exits(3)
        .prints("EACCES bound bound\n");
    let detached = ["run:detached", "-q", "--wait", &command];
    host.dyno(&app, &detached).finish().exits(3);
    // Whose person says which port it is means it.
    let port = free_port();
    let own = format!("PORT={port}");
    host.run(&app, &["-q", "-e", &own, &command])
        .finish()
        .prints("EACCES bound bound\n");
    // Elsewhere test suites start servers, where they please.
    let host = Host::new();
    let app = attacker(&host, BINDS);
    host.run(&app, &["-q", &format!("python3 try.py {port}")])
        .finish()
        .succeeds()
        .prints("bound bound bound\n");
}

#[test]
fn abstract_sockets_of_others_cannot_be_reached_and_those_of_the_dyno_can() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};

    if lacks("python3") || lacks_landlock(6) {
        return;
    }
    let name = format!("of-the-host-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let host = Host::new();
    let app = attacker(
        &host,
        "
import errno, socket, sys
def reached(name):
    try: socket.socket(socket.AF_UNIX).connect('\\0' + name)
    except OSError as error: return errno.errorcode[error.errno]
    return 'reached'
own = 'own-' + sys.argv[1]
if sys.argv[2:]: sys.exit(print(reached(own)))
one = socket.socket(socket.AF_UNIX)
one.bind('\\0' + own)
one.listen()
print(reached(sys.argv[1]), reached(own), flush=True)
sys.stdin.read()
",
    );
    let run = host.run(&app, &["-q", &format!("exec python3 try.py {name}")]);
    let run = run.open_input().start();
    run.wait_for_output("EPERM reached\n");
    // A command inside is of the same dyno; another dyno is not.
    let again = format!("python3 try.py {name} again");
    host.dyno(&app, &["run:inside", "-q", "run.1", &again])
        .finish()
        .prints("reached\n");
    host.run(&app, &["-q", &again]).finish().prints("EPERM\n");
    run.finish_input().succeeds();
}

#[test]
fn signals_reach_the_dyno_s_processes_and_no_others() {
    if lacks_landlock(6) {
        return;
    }
    let host = Host::new();
    let app = host.plain_app();
    let own = std::process::id();
    let text = format!(
        "kill -0 {own} 2>/dev/null && echo reached; echo $$ >pid; echo ready; exec sleep 1000"
    );
    let run = host.run(&app, &["-q", &text]).start();
    run.wait_for_output("ready\n");
    let inside = [
        "run:inside",
        "-q",
        "run.1",
        "kill -0 $(cat pid) && kill $(cat pid)",
    ];
    host.dyno(&app, &inside).finish();
    run.finish().exits(143).prints("ready\n");
}

/// Whether system calls have other numbers here than these tests know.
fn other_numbers() -> bool {
    let other = !cfg!(target_arch = "x86_64");
    if other {
        leave_out("system calls by number: the tests know those of x86-64 alone");
    }
    other
}

#[test]
fn programs_that_are_harmless_find_what_they_need() {
    if lacks("python3") || lacks("git") || lacks("cc") {
        return;
    }
    let host = Host::new();
    let app = host.plain_app();
    for (command, output) in [
        (
            "echo 'int main(void) { return 7; }' >a.c && cc a.c -o a && ./a; echo $?",
            "7\n",
        ),
        (
            "git init -q g && cd g && git -c user.name=a -c user.email=b commit -q --allow-empty -m x && git log --oneline | wc -l",
            "1\n",
        ),
        (
            "python3 -c 'import multiprocessing as m; print(m.Pool(4).map(abs, [-1, -2]))'",
            "[1, 2]\n",
        ),
        (
            "python3 -c 'import threading; t = threading.Thread(target=print, args=[3]); t.start(); t.join()'",
            "3\n",
        ),
        (
            "python3 -c 'import socket; s = socket.create_server((\"127.0.0.1\", 0)); \
             socket.create_connection(s.getsockname()); print(len(socket.if_nameindex()) > 0)'",
            "True\n",
        ),
        (
            "sleep 100 & kill -STOP $!; kill -CONT $!; kill $!; wait $!; echo $?",
            "143\n",
        ),
        (
            "ulimit -c 0; ulimit -n 64; ulimit -n; nice -n 5 nice",
            "64\n5\n",
        ),
    ] {
        host.run(&app, &["-q", command]).finish().prints(output);
    }
}

#[test]
fn files_of_proc_that_tell_of_the_whole_host_say_nothing() {
    if lacks("python3") || lacks_walls() {
        return;
    }
    let told = python(
        "
import os
for name in ('diskstats', 'keys', 'locks', 'kcore', 'timer_list', 'sched_debug', 'latency_stats', 'slabinfo'):
    try:
        with open('/proc/' + name, 'rb') as file:
            print(name, len(file.read(100)))
    except OSError:
        pass
print(os.path.exists('/proc/cpuinfo') and os.path.exists('/proc/self/status'))
",
    );
    let lines: Vec<_> = told.lines().collect();
    let (last, files) = lines.split_last().unwrap();
    // A kernel that has none has nothing to tell.
    assert!(files.iter().all(|line| line.ends_with(" 0")), "{told}");
    assert!(files.contains(&"locks 0"), "{told}");
    assert_eq!(*last, "True");
}

#[test]
fn debuggers_work() {
    if lacks("strace") || lacks("gdb") {
        return;
    }
    let host = Host::new();
    let app = host.plain_app();
    host.run(
        &app,
        &[
            "-q",
            "strace -f -e trace=exit_group -o traced sh -c '/bin/true; exit 4'; echo $?; grep -c 'exit_group' traced; \
             gdb -batch -ex 'break exit' -ex run -ex continue --args /bin/true 2>&1 | grep -o 'exited normally'",
        ],
    )
    .finish()
    .prints("4\n2\nexited normally\n");
}
