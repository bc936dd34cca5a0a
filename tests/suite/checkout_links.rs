//! A checkout may be a stranger's. What is read of it by name, outside of all dynos, is a file of its own: a symlink out of
//! it would show a file of the user's to the stranger's processes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::harness::{Host, write};
use super::start::given_away;

/// What no process of the checkout may see.
const SECRET: &str = "SECRET=canary\nweb: echo canary\n";

/// A host with a file of the user's, and a checkout.
fn checkout(files: &[(&str, &str)]) -> (Host, std::path::PathBuf) {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    write(&host.path().join("home/other/env"), SECRET);
    let folder = host.folder_of("repo", files);
    (host, folder)
}

/// `dyno start`, until its process has said this.
fn start_until(host: &Host, folder: &Path, args: &[&str], said: &str) {
    given_away(host, folder);
    let start = host.dyno(folder, &[&["start"], args].concat()).start();
    host.wait_for_log(&format!("app[job.1]: {said}"));
    start.signal(rustix::process::Signal::INT);
    start.finish();
}

#[test]
fn a_dot_env_that_leads_out_is_not_read() {
    let procfile = [("Procfile", "job: env; sleep 1000\n")];
    let (host, folder) = checkout(&procfile);
    symlink("../../home/other/env", folder.join(".env")).unwrap();
    let start = host.dyno(&folder, &["start"]).finish();
    start.fails_with(
        1,
        "`.env` leads out of the folder `",
        "`-e PATH` names a file that is elsewhere by its own path",
    );
    assert!(!host.log_lines().iter().any(|line| line.contains("canary")));
    // Whoever means that file names it; a link within the folder is one of its files.
    let secret = host.path().join("home/other/vars");
    write(&secret, "SEEN=canary\n");
    start_until(
        &host,
        &folder,
        &["-e", secret.to_str().unwrap()],
        "SEEN=canary",
    );
    fs::remove_file(folder.join(".env")).unwrap();
    write(&folder.join("config/env"), "INSIDE=seen\n");
    symlink("config/env", folder.join(".env")).unwrap();
    start_until(&host, &folder, &[], "INSIDE=seen");
}

#[test]
fn a_procfile_that_leads_out_is_not_read() {
    let (host, folder) = checkout(&[(".profile", "echo seen")]);
    let link = folder.join("Procfile");
    for target in ["../../home/other/env", "/etc/passwd"] {
        let _ = fs::remove_file(&link);
        symlink(target, &link).unwrap();
        for (command, status) in [
            (&["start"][..], 1),
            (&["deploy", "-a", "shop"], 1),
            (&["run", "true"], 125),
        ] {
            let out = host.dyno(&folder, command).finish();
            out.fails_with(
                status,
                "/Procfile` leads out of that folder",
                "put the file itself there",
            )
            .does_not_mention("canary");
        }
    }
    fs::remove_file(&link).unwrap();
    write(
        &folder.join("config/Procfile"),
        "job: echo hello; sleep 1000\n",
    );
    symlink("config/Procfile", &link).unwrap();
    start_until(&host, &folder, &[], "hello");
}

#[test]
fn a_slugignore_that_leads_out_is_not_read() {
    let (host, folder) = checkout(&[("Procfile", "job: true\n")]);
    symlink("../../home/other/env", folder.join(".slugignore")).unwrap();
    host.dyno(&folder, &["deploy"]).finish().fails_with(
        1,
        "`.slugignore` leads out of the folder",
        "put the file itself there",
    );
}

fn make_fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

#[test]
fn what_is_no_regular_file_is_an_error_and_no_wait() {
    for name in ["Procfile", ".slugignore", ".env"] {
        let (host, folder) = checkout(&[("a", "a")]);
        if name != "Procfile" {
            write(&folder.join("Procfile"), "job: true\n");
        }
        make_fifo(&folder.join(name));
        let command = match name {
            ".env" => &["start"][..],
            _ => &["deploy"],
        };
        let out = host.dyno(&folder, command).finish();
        match name {
            // A folder whose Procfile is none has no Procfile.
            "Procfile" => out.fails_with(1, "there is no Procfile", "web: "),
            ".env" => out.fails_with(1, "it is no regular file", "-e takes a file"),
            _ => out.fails_with(1, "it is no regular file", "a text file of patterns"),
        };
    }
    // An endless one, by a link that names it outright.
    let (host, folder) = checkout(&[("Procfile", "job: true\n")]);
    host.dyno(&folder, &["start", "-e", "/dev/zero"])
        .finish()
        .fails_with(1, "it is no regular file", "-e takes a file");
}
