//! What is left of a dyno that has ended: its folder goes, if need be when what keeps it from that has gone.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::harness::{AtEnd, Host, STARTING, eventually, is_root, leave_out};

fn succeeds(program: &str, args: &[&str], path: &Path) -> bool {
    let _starting = STARTING.read().unwrap();
    let status = Command::new(program).args(args).arg(path).status();
    status.is_ok_and(|status| status.success())
}

#[test]
fn a_folder_that_cannot_be_removed_is_tried_again_by_the_same_server() {
    if !is_root() {
        return leave_out("only root can put into a folder what cannot be removed");
    }
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let app = host.plain_app();
    host.dyno(&app, &["run:detached", "sleep 1000"])
        .finish()
        .succeeds();
    host.wait_for_log("heroku[run.1]: State changed from starting to up");
    let server = host.server().unwrap();
    let mut dynos = fs::read_dir(host.state().join("dynos")).unwrap();
    let folder = dynos.next().unwrap().unwrap().path();
    // A mount point is as little to be removed as a folder in which another process makes files again and again.
    let stuck = folder.join("scratch/tmp/stuck");
    fs::create_dir(&stuck).unwrap();
    if !succeeds("mount", &["-t", "tmpfs", "-o", "size=64k", "stuck"], &stuck) {
        return leave_out("this host lets root mount nothing");
    }
    {
        let _free = AtEnd(|| assert!(succeeds("umount", &["-l"], &stuck)));
        host.dyno(&app, &["ps:stop", "run.1"]).finish().succeeds();
        eventually("an end that is written down", || {
            let ps = host.dyno(&app, &["ps"]).finish().succeeds().text();
            (!ps.contains("run.1")).then_some(())
        });
        assert!(stuck.exists());
    }
    host.wait_until_clean();
    assert_eq!(host.server().unwrap().pid, server.pid);
}
