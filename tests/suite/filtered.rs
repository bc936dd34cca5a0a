//! In a container that filters system calls, as docker does by default: what is refused is done without, or said to be
//! refused. The filter is one of our own, around the commands of a test alone.

use std::process::Command;
use std::thread;

use crate::harness::Host;

/// How a filter answers one system call.
#[derive(Debug, Clone, Copy)]
enum Rule {
    /// Always with this errno.
    Refuse(libc::c_long, i32),
    /// With this errno where the first argument has one of these bits.
    RefuseFlags(libc::c_long, u32, i32),
}

/// All kinds of namespaces, as docker's profile has them.
const NAMESPACES: u32 = 0x7e02_0000;

const CLONE_PIDFD: u32 = 0x1000;

/// What docker's default profile refuses of all that dyno calls, without CAP_SYS_ADMIN.
const DOCKER: &[Rule] = &[
    Rule::Refuse(libc::SYS_clone3, libc::ENOSYS),
    Rule::RefuseFlags(libc::SYS_clone, NAMESPACES, libc::EPERM),
    Rule::Refuse(libc::SYS_unshare, libc::EPERM),
    Rule::Refuse(libc::SYS_setns, libc::EPERM),
    Rule::Refuse(libc::SYS_mount, libc::EPERM),
    Rule::Refuse(libc::SYS_umount2, libc::EPERM),
    Rule::Refuse(libc::SYS_pivot_root, libc::EPERM),
    Rule::Refuse(libc::SYS_fsopen, libc::EPERM),
    Rule::Refuse(libc::SYS_fsmount, libc::EPERM),
    Rule::Refuse(libc::SYS_open_tree, libc::EPERM),
    Rule::Refuse(libc::SYS_move_mount, libc::EPERM),
    Rule::Refuse(libc::SYS_mount_setattr, libc::EPERM),
    Rule::Refuse(libc::SYS_keyctl, libc::EPERM),
    Rule::Refuse(libc::SYS_add_key, libc::EPERM),
    Rule::Refuse(libc::SYS_bpf, libc::EPERM),
];

/// Has the calling thread, and all that it starts, filtered.
fn filter(rules: &[Rule]) {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUALS: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const HAS: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
    const ANSWER: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    /// Where `struct seccomp_data` has the call's number, and the lower half of its first argument.
    const NUMBER: u32 = 0;
    const FIRST: u32 = 16;
    let line = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = Vec::new();
    for rule in rules {
        program.push(line(LOAD, 0, 0, NUMBER));
        let errno = match *rule {
            Rule::Refuse(number, errno) => {
                program.push(line(EQUALS, 0, 1, number as u32));
                errno
            }
            Rule::RefuseFlags(number, flags, errno) => {
                program.push(line(EQUALS, 0, 3, number as u32));
                program.push(line(LOAD, 0, 0, FIRST));
                program.push(line(HAS, 0, 1, flags));
                errno
            }
        };
        program.push(line(ANSWER, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32));
    }
    program.push(line(ANSWER, 0, 0, libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog {
        len: program.len().try_into().unwrap(),
        filter: program.as_mut_ptr(),
    };
    rustix::thread::set_no_new_privs(true).unwrap();
    #[expect(unsafe_code, reason = "there is no safe way to install a filter")]
    // SAFETY: the program and its lines live until the call returns, and the kernel checks them.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// Runs `test` on a thread of its own behind a filter with these rules.
fn behind(rules: &'static [Rule], test: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(move || {
        filter(rules);
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// What is promised everywhere: exact statuses, pipes, a detached job, nothing left.
fn commands_run(host: &Host) {
    let app = host.plain_app();
    host.run(&app, &["exit 3"]).finish().exits(3);
    host.run(&app, &["kill -9 $$"]).finish().exits(137);
    host.run(&app, &["sleep 1000 & tr a-z A-Z"])
        .input("pipe\n")
        .finish()
        .prints("PIPE\n");
    host.dyno(&app, &["run:detached", "-q", "exit 4"])
        .finish()
        .succeeds();
    host.wait_for_log("heroku[run.4]: Process exited with status 4");
    host.wait_until_clean();
}

fn doctor(host: &Host) -> String {
    host.dyno(&host.path(), &["doctor"]).finish().text()
}

/// Whether dynos have namespaces here without any filter.
fn namespaces_are_to_be_had() -> bool {
    let host = Host::with(&[("DYNO_ISOLATION", "auto")]);
    doctor(&host).contains("isolation:   namespaces\n")
}

#[test]
fn with_dockers_default_filter_dynos_run_and_doctor_says_what_is_refused() {
    behind(DOCKER, || {
        let host = Host::new();
        commands_run(&host);
        let said = doctor(&host);
        assert!(said.contains("isolation:   tempdir\n"), "{said}");
        assert!(
            said.contains("`clone3` is refused, and so is `clone` with new namespaces"),
            "{said}"
        );
        assert!(!said.contains("built without"), "{said}");
    });
}

#[test]
fn without_clone3_alone_dynos_have_namespaces_by_clone() {
    if !namespaces_are_to_be_had() {
        return eprintln!("left out: this host gives no namespaces");
    }
    behind(&[Rule::Refuse(libc::SYS_clone3, libc::ENOSYS)], || {
        let host = Host::with(&[("DYNO_ISOLATION", "namespaces")]);
        commands_run(&host);
    });
}

#[test]
fn where_neither_clone3_nor_clone_gives_a_pidfd_fork_does() {
    const RULES: &[Rule] = &[
        Rule::Refuse(libc::SYS_clone3, libc::ENOSYS),
        Rule::RefuseFlags(libc::SYS_clone, NAMESPACES | CLONE_PIDFD, libc::EPERM),
    ];
    behind(RULES, || commands_run(&Host::new()));
}

#[test]
fn without_close_range_descriptors_are_closed_one_by_one() {
    behind(&[Rule::Refuse(libc::SYS_close_range, libc::ENOSYS)], || {
        let host = Host::new();
        commands_run(&host);
        let app = host.path().join("apps/plain");
        let open = "for fd in /proc/self/fd/*; do readlink $fd; done | grep -c socket";
        host.run(&app, &[open]).finish().prints("0\n");
    });
}

#[test]
fn a_kernel_without_mount_setattr_is_told_from_a_filter_that_refuses_it() {
    if !namespaces_are_to_be_had() {
        return eprintln!("left out: this host gives no namespaces");
    }
    behind(
        &[Rule::Refuse(libc::SYS_mount_setattr, libc::ENOSYS)],
        || {
            let host = Host::with(&[("DYNO_ISOLATION", "auto")]);
            let said = doctor(&host);
            assert!(said.contains("isolation:   tempdir\n"), "{said}");
            assert!(
                said.contains("a filter of system calls (seccomp) is around dyno"),
                "{said}"
            );
        },
    );
}

#[test]
fn no_keys_can_be_left_where_keyctl_is_refused_and_that_is_no_reason_not_to_run() {
    behind(&[Rule::Refuse(libc::SYS_keyctl, libc::EPERM)], || {
        commands_run(&Host::new());
    });
}

#[test]
fn without_pidfds_dynos_in_folders_end_whole_by_number() {
    const RULES: &[Rule] = &[
        Rule::Refuse(libc::SYS_pidfd_open, libc::EPERM),
        Rule::Refuse(libc::SYS_pidfd_send_signal, libc::ENOSYS),
    ];
    let host = Host::with(&[("DYNO_ISOLATION", "tempdir"), ("DYNO_IDLE_LINGER", "60")]);
    let app = host.folder("plain");
    // Ours holds processes by pidfds, and is not filtered; the server is.
    thread::scope(|scope| {
        let filtered = scope.spawn(|| {
            filter(RULES);
            let mut deploy = Command::new(host.program());
            let deploy = deploy.arg("deploy").current_dir(&app).env_clear();
            let deployed = deploy.envs(host.env()).output().unwrap();
            assert!(deployed.status.success(), "{deployed:?}");
        });
        filtered.join().unwrap();
    });
    host.run(&app, &["setsid sleep 1000 & (sleep 1000 &) ; exit 3"])
        .finish()
        .exits(3);
    host.dyno(
        &app,
        &["run:detached", "-q", "setsid sleep 1000 & sleep 1000"],
    )
    .finish()
    .succeeds();
    host.wait_for_log("heroku[run.2]: State changed from starting to up");
    host.dyno(&app, &["ps:stop", "run.2"]).finish().succeeds();
    host.wait_until_clean();
}
