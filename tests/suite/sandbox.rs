//! What a command finds around it in a dyno behind walls, and what it cannot reach.

use std::fs;

use crate::harness::{Host, is_root, lacks, lacks_walls};

/// The output of `command` in a fresh dyno of a plain app.
fn inside(command: &str) -> String {
    let host = Host::new();
    let app = host.plain_app();
    host.run(&app, &["-q", command]).finish().succeeds().text()
}

#[test]
fn the_environment_is_herokus() {
    let host = Host::new();
    let app = host.plain_app();
    let outcome = host
        .run(&app, &["-q", "--deploy", "env"])
        .env("SECRET_OF_THE_SHELL", "x")
        // Folders of programs elsewhere would be in the dyno's path, too; the deploy is what records them.
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .finish();
    let text = outcome.succeeds().text();
    let of = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(&format!("{name}=")))
    };
    assert_eq!(of("HOME"), Some("/app"));
    assert_eq!(of("PWD"), Some("/app"));
    assert_eq!(of("DYNO"), Some("run.1"));
    assert_eq!(of("PATH"), Some("/usr/local/bin:/usr/bin:/bin"));
    let port: u16 = of("PORT").unwrap().parse().unwrap();
    assert!(port >= 10_000, "{port}");
    for name in ["SECRET_OF_THE_SHELL", "DYNO_HOME", "DYNO_IDLE_LINGER"] {
        assert_eq!(of(name), None);
    }
}

#[test]
fn the_user_is_dyno_without_any_privilege() {
    if lacks_walls() {
        return;
    }
    let text = inside("whoami; id; id -u; grep -E '^(Cap|NoNewPrivs|Groups)' /proc/self/status");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("dyno"));
    assert_eq!(
        lines.next(),
        Some("uid=1000(dyno) gid=1000(dyno) groups=1000(dyno)")
    );
    assert_eq!(lines.next(), Some("1000"));
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        let value = value.trim();
        match name {
            "NoNewPrivs" => assert_eq!(value, "1"),
            "Groups" if is_root() => assert_eq!(value, ""),
            // An ordinary user cannot drop the group it has by birth.
            "Groups" => {}
            _ => assert_eq!(u64::from_str_radix(value, 16), Ok(0), "{line}"),
        }
    }
}

#[test]
fn each_dyno_of_a_root_server_has_a_host_uid_of_its_own() {
    if lacks_walls() {
        return;
    }
    if !is_root() {
        // The dynos of an ordinary user's server are that user.
        let owner = rustix::process::geteuid().as_raw();
        let text = inside("cat /proc/self/uid_map");
        let map: Vec<_> = text.split_whitespace().collect();
        assert_eq!(map[..2], ["1000", &owner.to_string()], "{text}");
        return;
    }
    let host = Host::new();
    let app = host.plain_app();
    let mut uids = Vec::new();
    for _ in 0..2 {
        let running = host
            .run(&app, &["-q", "echo up; exec cat"])
            .open_input()
            .start();
        running.wait_for_output("up");
        uids.push(running);
    }
    let inhabitants = host.inhabitants();
    let owner = |pid: i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        uids.and_then(|uids| uids.split_whitespace().next()?.parse::<u32>().ok())
    };
    let owners: std::collections::BTreeSet<_> = inhabitants
        .iter()
        .filter_map(|process| owner(process.pid))
        .collect();
    assert_eq!(owners.len(), 2, "{owners:?}");
    assert!(owners.iter().all(|&uid| uid >= 100_000), "{owners:?}");
    for running in uids {
        running.finish_input().succeeds();
    }
    host.wait_until_clean();
}

#[test]
fn homes_and_the_state_are_not_there() {
    if lacks_walls() {
        return;
    }
    let host = Host::new();
    let app = host.plain_app();
    let state = host.path();
    let command = format!(
        "ls -A /root /home /srv 2>&1; ls -d '{}' 2>&1; ls -A /tmp /run/lock /var/tmp; \
         ls -A /run | grep -vx -e lock -e dyno; true",
        state.display()
    );
    let text = host.run(&app, &["-q", &command]).finish().text();
    for line in text.lines().filter(|line| !line.is_empty()) {
        assert!(
            line.contains("No such file") || line.starts_with('/') && line.ends_with(':'),
            "{text}"
        );
    }
    assert!(text.matches("No such file").count() >= 3, "{text}");
}

#[test]
fn the_hosts_secrets_cannot_be_read() {
    let text = inside(
        "cat /etc/shadow 2>&1; cat /proc/1/environ 2>&1; ls -la /proc/1/root 2>&1; \
         ls /proc/1/fd 2>&1; cat /proc/1/maps 2>&1; dmesg 2>&1 >/dev/null; echo end",
    );
    assert_eq!(text.lines().last(), Some("end"));
    for refused in [
        "/etc/shadow",
        "/proc/1/environ",
        "/proc/1/root",
        "/proc/1/fd",
    ] {
        assert!(
            text.lines()
                .any(|line| line.contains(refused) && line.contains("ermission denied")),
            "{refused} was not refused:\n{text}"
        );
    }
    assert!(!text.contains("DYNO_HOME"), "{text}");
    assert!(!text.contains("root:"), "{text}");
}

#[test]
fn only_the_dynos_own_folders_can_be_written() {
    if lacks_walls() {
        return;
    }
    let text = inside(
        "for folder in / /usr /usr/bin /etc /var /proc /proc/sys /opt /app /tmp /var/tmp /dev/shm; do \
         [ -d $folder ] || continue; \
         if (: > $folder/probe) 2>/dev/null; then echo $folder yes; else echo $folder no; fi; done",
    );
    for line in text.lines() {
        let (folder, writable) = line.split_once(' ').unwrap();
        let own = ["/app", "/tmp", "/var/tmp", "/dev/shm"].contains(&folder);
        assert_eq!(writable == "yes", own, "{line}\n{text}");
    }
    for folder in ["/app", "/tmp", "/var/tmp", "/usr", "/etc"] {
        assert!(text.contains(&format!("{folder} ")), "{text}");
    }
}

#[test]
fn mounts_cannot_be_changed() {
    if lacks_walls() {
        return;
    }
    let text = inside(
        "for try in 'mount -o remount,rw /usr' 'mount -o remount,rw,bind /usr' 'mount -t tmpfs none /tmp' \
         'umount /etc/passwd' 'umount -l /app' 'mount -t proc none /proc' 'mknod /app/null c 1 3' \
         'chroot / true'; do \
         if $try >/dev/null 2>&1; then echo \"$try: done\"; else echo \"$try: refused\"; fi; done; \
         (: > /usr/probe) 2>/dev/null && echo written; \
         unshare -Ur sh -c 'mount -o remount,rw,bind /usr && : > /usr/probe' >/dev/null 2>&1 && echo escaped; \
         cat /etc/passwd | head -1",
    );
    assert_eq!(text.matches(": refused").count(), 8, "{text}");
    assert!(
        !text.contains("done") && !text.contains("written"),
        "{text}"
    );
    assert!(!text.contains("escaped"), "{text}");
    assert!(text.ends_with("root:x:0:0:root:/root:/bin/sh\n"), "{text}");
}

#[test]
fn setuid_programs_gain_nothing() {
    if lacks_walls() {
        return;
    }
    // su and friends are there, and are of no use.
    let text = inside(
        "program=$(find /usr/bin /bin -perm -4000 -type f 2>/dev/null | head -1); echo \"found $program\"; \
         cp /usr/bin/id /app/id; chmod u+s,g+s /app/id; /app/id -u; /app/id -ru; \
         su -c 'id -u' </dev/null 2>/dev/null || echo refused",
    );
    assert!(text.ends_with("1000\n1000\nrefused\n"), "{text}");
}

#[test]
fn only_the_dynos_own_processes_are_seen() {
    if lacks("ps") {
        return;
    }
    let host = Host::new();
    let app = host.plain_app();
    let mut other = host
        .run(&app, &["-q", "echo up; exec cat"])
        .open_input()
        .start();
    other.wait_for_output("up");
    let text = host
        .run(
            &app,
            &["-q", "ps -eo pid,args --no-headers; ls -d /proc/[0-9]*"],
        )
        .finish()
        .succeeds()
        .text();
    let processes = text
        .lines()
        .filter(|line| !line.starts_with("/proc"))
        .count();
    assert!(processes <= 3, "{text}");
    assert!(!text.contains("cat"), "{text}");
    other.close_input();
    other.finish().succeeds();
}

#[test]
fn other_dynos_and_the_host_cannot_be_signalled() {
    let host = Host::new();
    let app = host.plain_app();
    let mut other = host
        .run(&app, &["-q", "echo up; exec cat"])
        .open_input()
        .start();
    other.wait_for_output("up");
    let mut pids: Vec<_> = host.inhabitants().iter().map(|one| one.pid).collect();
    pids.push(std::process::id().try_into().unwrap());
    let text: String = pids
        .iter()
        .map(|pid| format!("kill -0 {pid} 2>/dev/null && echo reached {pid}; "))
        .collect();
    // Host pids mean nothing inside, unless they are small enough to be a process there.
    let command = format!("{text} true");
    if pids.iter().all(|&pid| pid > 100) {
        host.run(&app, &["-q", &command])
            .finish()
            .succeeds()
            .prints("");
    }
    other.close_input();
    other.finish().succeeds();
}

#[test]
fn deleted_files_are_deleted_nowhere_else() {
    let host = Host::new();
    let app = host.app("many-types");
    let mut other = host
        .run(
            &app,
            &["-q", "echo up; read line; ls Procfile bin/say; cat"],
        )
        .open_input()
        .start();
    other.wait_for_output("up");
    host.run(
        &app,
        &[
            "-q",
            "rm -r Procfile bin && touch new && ls && rm new && ls -A",
        ],
    )
    .finish()
    .succeeds()
    .prints("new\n");
    // Neither in the source, nor in a dyno that runs, nor in the next.
    assert!(app.join("Procfile").is_file() && app.join("bin/say").is_file());
    assert!(!app.join("new").exists());
    other.write("go\n");
    other.close_input();
    other.finish().succeeds().prints("up\nProcfile\nbin/say\n");
    host.run(&app, &["-q", "ls Procfile bin/say; ls new 2>/dev/null"])
        .finish()
        .exits(2)
        .prints("Procfile\nbin/say\n");
    host.wait_until_clean();
}

#[test]
fn what_a_dyno_writes_ends_with_it() {
    if lacks_walls() {
        return;
    }
    let host = Host::new();
    let app = host.plain_app();
    let write = "echo x > /app/x; echo x > /tmp/x; echo x > /var/tmp/x; echo x > Procfile";
    host.run(&app, &["-q", write]).finish().succeeds();
    host.run(&app, &["-q", "cat Procfile; ls /tmp /var/tmp /app"])
        .finish()
        .succeeds()
        .prints("nothing: true\n/app:\nProcfile\n\n/tmp:\n\n/var/tmp:\n");
    host.wait_until_clean();
}

#[test]
fn the_app_is_the_users_own_in_the_dyno() {
    if lacks_walls() {
        return;
    }
    let host = Host::new();
    let app = host.app("many-types");
    host.run(
        &app,
        &[
            "-q",
            "stat -c %U:%G /app Procfile bin bin/say; echo more >> Procfile; mv bin binaries; \
             mkdir -p deep/er; ln -s Procfile link; chmod 600 Procfile; tail -1 link; stat -c %a Procfile",
        ],
    )
    .finish()
    .succeeds()
    .says("")
    .prints("dyno:dyno\ndyno:dyno\ndyno:dyno\ndyno:dyno\nmore\n600\n");
}

#[test]
fn the_network_is_the_hosts() {
    if lacks("python3") {
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let text = inside(&format!(
        "python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {port})); \
         socket.getaddrinfo(\"localhost\", 80); print(\"connected\")'; \
         hostname > /dev/null && cat /etc/hosts | head -1 | cut -d\" \" -f1-2"
    ));
    assert_eq!(text, "connected\n127.0.0.1 localhost\n");
}

#[test]
fn devices_are_the_harmless_ones() {
    if lacks_walls() {
        return;
    }
    let text = inside(
        "for file in /dev/*; do [ -b $file ] && echo $file; [ -c $file ] && printf '%s ' $file; done; echo; \
         head -c 4 /dev/zero | od -An -tx1 | tr -d ' '; echo lost > /dev/null; head -c1 /dev/urandom | wc -c; \
         echo out > /dev/stdout; echo err > /dev/stderr; cat /dev/fd/0 < /dev/null; test -d /dev/pts && echo pts",
    );
    assert_eq!(
        text,
        "/dev/full /dev/null /dev/ptmx /dev/random /dev/tty /dev/urandom /dev/zero \n00000000\n1\nout\npts\n"
    );
}

#[test]
fn orphans_are_reaped() {
    let text = inside(
        "for n in 1 2 3 4 5; do (sh -c 'true &' ); done; \
         until [ \"$(ps -eo stat --no-headers | grep -c Z)\" = 0 ]; do :; done; echo none left",
    );
    assert_eq!(text, "none left\n");
}

#[test]
fn without_id_mapping_a_root_server_still_keeps_its_dynos_from_being_root() {
    if lacks_walls() {
        return;
    }
    let host = Host::with(&[("DYNO_ID_MAPPING", "off")]);
    let app = host.plain_app();
    let command = "id -un; touch new && rm Procfile && ls -A; cat /etc/shadow 2>/dev/null | wc -l";
    host.run(&app, &["-q", command])
        .finish()
        .succeeds()
        .prints("dyno\nnew\n0\n");
    host.run(&app, &["-q", "ls"])
        .finish()
        .succeeds()
        .prints("Procfile\n");
}

#[test]
fn a_folder_of_the_slug_can_be_renamed_where_the_kernel_lets_it_be() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    let app = host.folder_of(
        "moves",
        &[
            ("Procfile", "a: true\n"),
            ("src/api/f", "one\n"),
            ("g", "two\n"),
        ],
    );
    host.dyno(&app, &["deploy", "--no-web"]).finish().succeeds();
    let look = "python3 -c 'import os
try: os.rename(\"src/api\", \"parked\"); print(\"renamed\", open(\"parked/f\").read(), end=\"\")
except OSError as error: print(error.errno)'
ln g h; [ g -ef h ] && echo same; mv src elsewhere; ls -R elsewhere parked 2> /dev/null | grep -c ^f$";
    // An ordinary user's overlay may keep no redirects and no index, and older kernels make none for root of a layer that
    // is attached nowhere: EXDEV, as between disks, and two files.
    let kernel = rustix::system::uname();
    let mut numbers = kernel
        .release()
        .to_str()
        .unwrap()
        .split('.')
        .map_while(|number| number.parse::<u32>().ok());
    let kernel = (numbers.next().unwrap(), numbers.next().unwrap_or(0));
    let printed = match (is_root() && kernel >= (6, 15)) || host.in_folders() {
        true => "renamed one\nsame\n1\n",
        false => "18\n1\n",
    };
    host.run(&app, &["-q", look]).finish().prints(printed);
}
