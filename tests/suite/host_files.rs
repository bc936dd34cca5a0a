//! What a dyno knows of its host by files: names, name servers, users, ssh's configuration, data of programs; and what
//! becomes of it when the host changes.
//!
//! A server of its own host: it is started in a mount namespace in which `/etc`, `/var/lib` and `/run` can be changed and the
//! machine's are not. Only root can make one; other users run the tests that need none.

use std::path::Path;

use crate::harness::{Host, eventually, is_root, lacks, leave_out};

/// A host whose files are its own, after the shell commands `change`. None where that is not possible: without root, and
/// without walls, where a dyno has the host's files themselves.
fn changed(change: &str) -> Option<Host> {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "600")]);
    if !is_root() || host.in_folders() {
        leave_out(
            "tests of a host that changes: only root can have one, and only behind walls is it copied",
        );
        return None;
    }
    if lacks("unshare") || lacks("nsenter") {
        return None;
    }
    let script = format!(
        "mkdir layers && mount -t tmpfs layers layers && mkdir layers/upper layers/work
         mount -t overlay -o lowerdir=/etc,upperdir=layers/upper,workdir=layers/work etc /etc
         mount -t tmpfs lib /var/lib
         mkdir -p layers/run && mount --rbind /run layers/run && mount -t tmpfs run /run
         {change}
         exec '{}' apps",
        host.program().display()
    );
    let words = ["-m", "--propagation", "private", "sh", "-ec", &script];
    host.program_of(Path::new("/usr/bin/unshare"), &host.path(), &words)
        .finish()
        .succeeds();
    Some(host)
}

/// Changes it once more.
fn change(host: &Host, change: &str) {
    let server = host.server().expect("a server").pid.to_string();
    let words = ["-t", &server, "-m", "sh", "-ec", change];
    host.program_of(Path::new("/usr/bin/nsenter"), &host.path(), &words)
        .finish()
        .succeeds();
}

#[test]
fn names_of_the_host_are_known_in_a_dyno_and_its_own_too() {
    let hosts = "127.0.0.1 localhost\\n192.0.2.7 db.test\\n";
    let Some(host) = changed(&format!("printf '{hosts}' > /etc/hosts")) else {
        return;
    };
    let app = host.plain_app();
    let look = "getent hosts db.test; getent ahostsv4 $(hostname) | head -1 | cut -d' ' -f1; \
                getent hosts 127.0.0.1 | tr -s ' '";
    host.run(&app, &["-q", look])
        .finish()
        .succeeds()
        .prints("192.0.2.7       db.test\n127.0.0.1\n127.0.0.1 localhost\n");
}

#[test]
fn a_dyno_that_lives_follows_the_hosts_names_name_servers_and_users() {
    let Some(host) = changed(
        "mkdir /run/net; echo nameserver 192.0.2.1 > /run/net/resolv.conf
         ln -sfn ../run/net/resolv.conf /etc/resolv.conf",
    ) else {
        return;
    };
    let app = host.plain_app();
    let running = host
        .run(
            &app,
            &["-q", "echo up; while read -r line; do eval \"$line\"; done"],
        )
        .open_input()
        .start();
    running.wait_for_output("up");
    let inside = |command: &str| {
        host.dyno(&app, &["run:inside", "-q", "run.1", command])
            .finish()
            .text()
    };
    let becomes = |command: &str, wanted: &str| {
        eventually(&format!("`{command}` says {wanted}"), || {
            (inside(command) == wanted).then_some(())
        });
    };
    assert_eq!(inside("cat /etc/resolv.conf"), "nameserver 192.0.2.1\n");
    // By a rename, as network managers do; then by another file altogether.
    change(
        &host,
        "echo nameserver 192.0.2.2 > /run/net/new; mv /run/net/new /run/net/resolv.conf",
    );
    becomes("cat /etc/resolv.conf", "nameserver 192.0.2.2\n");
    change(
        &host,
        "echo nameserver 192.0.2.3 > /run/net/stub.conf
         ln -sfn ../run/net/stub.conf /etc/new; mv -T /etc/new /etc/resolv.conf",
    );
    becomes("cat /etc/resolv.conf", "nameserver 192.0.2.3\n");
    // The folder is made anew, as when its service starts again.
    change(
        &host,
        "rm -r /run/net; mkdir /run/net; echo nameserver 192.0.2.4 > /run/net/stub.conf",
    );
    becomes("cat /etc/resolv.conf", "nameserver 192.0.2.4\n");
    // In place, and by a rename, which takes the cover off: the dyno's own name stays. What is as it was is not covered
    // anew, which a reader might see.
    let others = "cut -d' ' -f5 /proc/self/mountinfo | grep ^/etc/ | grep -v hosts";
    let before = inside(others);
    assert!(
        before.contains("/etc/passwd\n/etc/group\n/etc/hostname\n"),
        "{before}"
    );
    change(&host, "echo 192.0.2.7 one.test >> /etc/hosts");
    becomes("getent hosts one.test", "192.0.2.7       one.test\n");
    assert_eq!(inside(others), before);
    assert!(inside("tail -1 /proc/self/mountinfo").contains(" /etc/hosts "));
    change(
        &host,
        "echo 192.0.2.8 two.test > /etc/new; mv /etc/new /etc/hosts",
    );
    becomes("getent hosts two.test", "192.0.2.8       two.test\n");
    assert_eq!(
        inside("getent hosts $(hostname) > /dev/null && echo own"),
        "own\n"
    );
    change(
        &host,
        "printf 'ada:x:1000:1000::/home/ada:/bin/sh\\n' > /etc/new; mv /etc/new /etc/passwd",
    );
    becomes("whoami", "dyno\n");
    // Nothing is left where the files were made.
    assert_eq!(inside("ls -A /var/log; ls -A /run/net | grep -v conf$"), "");
    running.finish_input().succeeds();
}

#[test]
fn ssh_starts_where_its_configuration_includes_files() {
    if lacks("ssh") {
        return;
    }
    let Some(host) = changed(
        "mkdir -p /etc/ssh/ssh_config.d /etc/policy
         printf 'Include /etc/ssh/ssh_config.d/*.conf\\n' > /etc/ssh/ssh_config
         printf 'Include /etc/policy/link\\nHost named\\n HostName a.test\\n' > /etc/ssh/ssh_config.d/a.conf
         printf 'Host other\\n HostName b.test\\n' > /etc/policy/file; ln -s file /etc/policy/link",
    ) else {
        return;
    };
    let app = host.plain_app();
    host.run(
        &app,
        &[
            "-q",
            "ssh -G named | grep '^hostname'; ssh -G other | grep '^hostname'",
        ],
    )
    .finish()
    .succeeds()
    .prints("hostname a.test\nhostname b.test\n");
}

#[test]
fn ssh_starts_whatever_patterns_and_quotes_its_configuration_includes_files_by() {
    if lacks("ssh") {
        return;
    }
    let Some(host) = changed(
        r#"mkdir -p /etc/ssh/x.d /etc/ssh/y.d
           printf '%s\n' 'Include /etc/ssh/x.d/[0-9]*.conf' 'Include /etc/ssh/*/z.conf' "Include '/etc/ssh/a b'" \
             'Include /etc/ssh/x.d/b\-c.conf' > /etc/ssh/ssh_config
           for file in x.d/1 y.d/z x.d/b-c; do printf 'Host %s\n HostName found.test\n' "$file" > "/etc/ssh/$file.conf"; done
           printf 'Host quoted\n HostName found.test\n' > '/etc/ssh/a b'"#,
    ) else {
        return;
    };
    let app = host.plain_app();
    let look =
        "for host in x.d/1 y.d/z x.d/b-c quoted; do ssh -G \"$host\" | grep '^hostname'; done";
    host.run(&app, &["-q", look])
        .finish()
        .succeeds()
        .prints(&"hostname found.test\n".repeat(4));
}

#[test]
fn certificates_are_in_a_dyno_wherever_etc_leads_to_them() {
    let Some(host) = changed(
        "rm -rf /etc/ssl; mkdir -p /etc/ssl /etc/pki/own /var/lib/ca-certificates/pem /var/lib/own/trust
         echo one > /var/lib/ca-certificates/pem/a; ln -s ../../var/lib/ca-certificates/pem /etc/ssl/certs
         echo two > /var/lib/own/trust/a; ln -s /var/lib/own/trust /etc/pki/own/certs; echo secret > /var/lib/own/key",
    ) else {
        return;
    };
    let app = host.plain_app();
    let look = "cat /etc/ssl/certs/a /etc/pki/own/certs/a; ls /var/lib/own";
    host.run(&app, &["-q", look])
        .finish()
        .succeeds()
        .prints("one\ntwo\ntrust\n");
}

#[test]
fn data_of_programs_is_in_a_dyno_and_that_of_services_is_not() {
    let Some(host) = changed(
        "for folder in gems texmf mysql docker php/sessions; do mkdir -p /var/lib/$folder; done
         echo here > /var/lib/gems/a; echo secret > /var/lib/mysql/a
         chmod 1733 /var/lib/php/sessions; echo secret > /var/lib/php/sessions/sess_of_the_host",
    ) else {
        return;
    };
    let app = host.plain_app();
    let look = "cat /var/lib/gems/a; ls /var/lib; touch /var/lib/gems/b 2> /dev/null || echo read-only
                ls -A /var/lib/php/sessions; echo mine > /var/lib/php/sessions/sess_1; cat /var/lib/php/sessions/*";
    host.run(&app, &["-q", look])
        .finish()
        .succeeds()
        .prints("here\ngems\nphp\ntexmf\nread-only\nmine\n");
}

#[test]
fn the_time_zone_is_utc_unless_a_config_var_says_another() {
    let host = Host::new();
    let app = host.plain_app();
    host.run(&app, &["-q", "echo $TZ; date +%Z"])
        .finish()
        .succeeds()
        .prints("UTC\nUTC\n");
    host.run(&app, &["-q", "-e", "TZ=XYZ-3", "date +%Z%z"])
        .finish()
        .succeeds()
        .prints("XYZ+0300\n");
    host.dyno(&app, &["config:set", "TZ=ABC+2"])
        .finish()
        .succeeds();
    host.run(&app, &["-q", "date +%Z%z"])
        .finish()
        .succeeds()
        .prints("ABC-0200\n");
}
