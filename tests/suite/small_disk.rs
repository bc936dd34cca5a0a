//! A state folder on a disk that can be filled.

use std::path::Path;
use std::process::Command;

use crate::harness::{Host, STARTING, binary, is_root, lacks, leave_out};

/// Only root can make a disk that is full: a small one, in a mount namespace of the script's own. The suite runs as root,
/// too, before a change lands.
pub fn can_fill_a_disk() -> bool {
    if !is_root() {
        leave_out("tests of a full disk: only root can mount a small one");
        return false;
    }
    !lacks("unshare")
}

/// Runs `script` in `app` with a state folder of 6 MB; `$0` is the binary. What it printed, on both streams.
pub fn on_a_small_disk(host: &Host, app: &Path, script: &str) -> (String, String) {
    let mount = r#"mount -t tmpfs -o size=6m,mode=0700 small "$DYNO_HOME" || exit 99"#;
    let output = {
        let _starting = STARTING.read().unwrap();
        Command::new("unshare")
            .args(["-m", "timeout", "60", "bash", "-c"])
            .arg(format!("{mount}\n{script}"))
            .arg(binary())
            .current_dir(app)
            .env_clear()
            .envs(host.env())
            .output()
            .unwrap()
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (printed, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success(),
        "{}\n{printed}\n{errors}",
        output.status
    );
    (printed, errors)
}
