//! Ports and host uids that are given to dynos: no two dynos have one, of whichever server of a user's, and no dyno can take
//! them from others.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use super::harness::{Host, eventually, is_root, lacks, leave_out};

/// The host uids of the processes in a host's dynos.
fn uids(host: &Host) -> BTreeSet<u32> {
    let processes = host.inhabitants().into_iter();
    let folders = processes.map(|it| fs::metadata(format!("/proc/{}", it.pid)));
    folders.flatten().map(|folder| folder.uid()).collect()
}

#[test]
fn dynos_of_two_servers_of_roots_have_host_uids_of_their_own() {
    if !is_root() {
        return leave_out("an ordinary user's dynos are that user");
    }
    let hosts = [(); 2].map(|()| Host::with(&[("DYNO_IDLE_LINGER", "60")]));
    let mut all = Vec::new();
    for host in &hosts {
        let app = host.plain_app();
        for number in 1..=2 {
            host.dyno(&app, &["run:detached", "sleep 1000"])
                .finish()
                .succeeds();
            host.wait_for_log(&format!(
                "heroku[run.{number}]: State changed from starting to up"
            ));
        }
        all.push(eventually("two dynos with uids of their own", || {
            Some(uids(host)).filter(|uids| uids.len() == 2)
        }));
        // A server that takes them up holds no claim; the supervisors do.
        host.kill_server();
    }
    assert!(all[0].is_disjoint(&all[1]), "{all:?}");
}

#[test]
fn a_dyno_takes_no_port_by_a_name() {
    if lacks("python3") {
        return;
    }
    let names = "import socket, time\n\
                 kept = []\n\
                 for port in (23470, 23471):\n\
                 \x20   s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
                 \x20   try: s.bind('\\0dyno-port-%d' % port)\n\
                 \x20   except OSError: pass\n\
                 \x20   kept.append(s)\n\
                 print('bound', flush=True)\n\
                 time.sleep(1000)\n";
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60"), ("DYNO_PORTS", "23470-23471")]);
    let app = host.folder_of("evil", &[("Procfile", "job: true\n"), ("names.py", names)]);
    host.dyno(&app, &["deploy", "--no-web"]).finish().succeeds();
    host.dyno(&app, &["run:detached", "python3 names.py"])
        .finish()
        .succeeds();
    host.wait_for_log("app[run.1]: bound");
    host.run(&app, &["echo hello"]).finish().prints("hello\n");
}
