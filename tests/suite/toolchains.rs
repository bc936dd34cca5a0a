//! What a deploy records of the deploying user's `PATH`, what dynos get of it, and what is said of the rest.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::harness::{Host, eventually, lacks, leave_out, write};

const SYSTEM: &str = "/usr/local/bin:/usr/bin:/bin";

/// A program that says `text`.
fn program(path: &Path, text: &str) {
    script(path, &format!("#!/bin/sh\necho {text}\n"));
}

fn script(path: &Path, text: &str) {
    write(path, text);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn folders_to(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
}

/// A host whose `PATH` begins with the folders `path` below it.
fn host_with_path(path: &[&str]) -> Host {
    let mut host = Host::new();
    if host.in_folders() {
        // Dynos of a root server are others, and are to find what its user has.
        fs::set_permissions(host.path().join("home"), fs::Permissions::from_mode(0o755)).unwrap();
    }
    set_path(&mut host, path);
    host
}

fn set_path(host: &mut Host, path: &[&str]) {
    let folders = path.iter().map(|folder| host.path().join(folder));
    let folders: Vec<PathBuf> = folders.chain(std::env::split_paths(SYSTEM)).collect();
    host.set("PATH", std::env::join_paths(folders).unwrap());
}

#[test]
fn a_folder_of_the_path_is_found_through_links() {
    let host = host_with_path(&[
        "run/multishells/1/bin",
        "home/.local/bin",
        "home/.local/state/m/2/bin",
    ]);
    let home = host.path().join("home");
    for (tool, version) in [("one", "v1"), ("two", "v2"), ("three", "v3")] {
        let at = format!(".local/share/fnm/versions/{version}/bin/{tool}");
        program(&home.join(at), tool);
    }
    let versions = home.join(".local/share/fnm/versions");
    for (link, to) in [
        (host.path().join("run/multishells/1"), versions.join("v1")),
        (home.join(".local/state/m/2"), versions.join("v2")),
        // One program of another toolchain's.
        (home.join(".local/bin/three"), versions.join("v3/bin/three")),
    ] {
        folders_to(&link);
        symlink(to, link).unwrap();
    }
    let app = host.plain_app();
    host.run(&app, &["-q", "one; two; three"])
        .finish()
        .succeeds()
        .prints("one\ntwo\nthree\n");
}

#[test]
fn a_folder_of_the_path_outside_of_the_home_is_there_too() {
    let host = host_with_path(&["srv/tools/bin"]);
    let tools = host.path().join("srv/tools");
    script(
        &tools.join("bin/hello"),
        "#!/bin/sh\ncat \"$(dirname \"$0\")/../share/hello\"\n",
    );
    write(&tools.join("share/hello"), "hello\n");
    let app = host.plain_app();
    host.run(&app, &["-q", "hello"])
        .finish()
        .succeeds()
        .prints("hello\n");
}

#[test]
fn what_dynos_will_not_have_of_the_path_is_told() {
    let mut host = Host::new();
    let app = host.folder("plain");
    host.set("PATH", format!("/dev/shm:{SYSTEM}"));
    host.dyno(&app, &["deploy", "--no-web"])
        .finish()
        .succeeds()
        .mentions(
            "warning: dynos do not have `/dev/shm` of your PATH: a dyno has one of its own\n",
        );
    // What many have in their PATH and no process type needs is not worth a line.
    host.set("PATH", format!("/root:{SYSTEM}"));
    host.dyno(&app, &["deploy", "--no-web"])
        .finish()
        .succeeds()
        .does_not_mention("warning");
}

#[test]
fn a_deploy_from_a_shell_without_the_toolchains_says_so() {
    let mut host = host_with_path(&["home/tools/bin"]);
    let tools = host.path().join("home/tools/bin");
    program(&tools.join("hello"), "hello");
    let app = host.plain_app();
    let words = format!(
        "warning: dynos of v2 had `{}` in their PATH",
        tools.display()
    );
    host.dyno(&app, &["deploy", "--no-web"])
        .finish()
        .succeeds()
        .does_not_mention("warning");
    set_path(&mut host, &[]);
    host.dyno(&app, &["deploy", "--no-web"])
        .finish()
        .succeeds()
        .mentions(&words.replace("v2", "v3"));
    // Once: the next release has what the last one had.
    host.dyno(&app, &["deploy", "--no-web"])
        .finish()
        .succeeds()
        .does_not_mention("warning");
}

#[test]
fn packages_of_the_users_own_are_found() {
    let host = host_with_path(&["home/.local/bin", "home/.local/share/gem/ruby/3/bin"]);
    let home = host.path().join("home");
    write(&home.join(".local/lib/python3.9/site-packages/a.py"), "");
    program(&home.join(".local/bin/a"), "a");
    program(&home.join(".local/share/gem/ruby/3/bin/b"), "b");
    let app = host.plain_app();
    let (local, gems) = (home.join(".local"), home.join(".local/share/gem/ruby/3"));
    host.run(&app, &["-q", "echo $PYTHONUSERBASE; echo $GEM_PATH; a; b"])
        .finish()
        .succeeds()
        .prints(&format!("{}\n{}:\na\nb\n", local.display(), gems.display()));
}

#[test]
fn a_virtual_environment_in_the_folder_works_by_its_path_and_activated() {
    let mut host = host_with_path(&[]);
    let home = host.path().join("home");
    // Its interpreter is in a toolchain that no PATH names.
    script(
        &home.join(".pyenv/versions/3/bin/python"),
        "#!/bin/sh\nshift; echo ran by python\n",
    );
    for (name, activated) in [("by-path", false), ("activated", true)] {
        let app = host.folder_of(name, &[("Procfile", "nothing: true\n")]);
        let environment = app.join(".venv");
        write(&environment.join("pyvenv.cfg"), "home = elsewhere\n");
        script(
            &environment.join("bin/tool"),
            &format!("#!{}/bin/python\n", environment.display()),
        );
        let python = home.join(".pyenv/versions/3/bin/python");
        symlink(python, environment.join("bin/python")).unwrap();
        let command = match activated {
            false => ".venv/bin/tool",
            true => {
                set_path(&mut host, &["apps/activated/.venv/bin"]);
                "tool"
            }
        };
        host.dyno(&app, &["deploy", "--no-web"]).finish().succeeds();
        if !host.in_folders() {
            // The slug's, and not what the folder has become since.
            fs::remove_dir_all(&environment).unwrap();
        }
        host.run(&app, &["-q", command])
            .finish()
            .succeeds()
            .prints("ran by python\n");
    }
}

/// Waits until a line of the log begins so: a command's end may be told before its dyno's log is written.
fn explained(host: &Host, beginning: &str) {
    eventually(beginning, || {
        let lines = host.log_lines();
        lines
            .iter()
            .any(|line| line.starts_with(beginning))
            .then_some(())
    });
}

#[test]
fn shared_memory_holds_what_the_setting_says_and_its_end_is_explained() {
    if lacks("python3") {
        return;
    }
    let fill = "head -c 104857600 /dev/zero > /dev/shm/a && stat -c %s /dev/shm/a";
    let host = Host::new();
    if host.in_folders() {
        leave_out("a test of shared memory: without walls it is the host's");
        return;
    }
    let app = host.plain_app();
    host.run(&app, &["-q", fill])
        .finish()
        .succeeds()
        .prints("104857600\n");
    let host = Host::with(&[("DYNO_SHM_SIZE", "2MiB")]);
    let app = host.plain_app();
    let python = "exec python3 -c 'import mmap, os
f = os.open(\"/dev/shm/a\", os.O_RDWR | os.O_CREAT); os.ftruncate(f, 4 << 20)
m = mmap.mmap(f, 4 << 20); m[:] = bytes(4 << 20)'";
    host.run(&app, &["-q", python]).finish().exits(135);
    explained(
        &host,
        "heroku[run.1]: Status 135 is SIGBUS, as when shared memory is full: /dev/shm holds 2 MB here",
    );
    // Where it was a child, and its parent went on.
    let child = python.trim_start_matches("exec ");
    host.run(&app, &["-q", &format!("{child}; echo")])
        .finish()
        .succeeds();
    explained(
        &host,
        "heroku[run.2]: Shared memory is full, and a process that writes more to it dies of SIGBUS: /dev/shm holds 2 MB",
    );
    // Where it was left behind, and what it had taken is free again.
    let command = format!(
        "pid=$( ({child} > /dev/null & echo $!) ); while test -d /proc/$pid; do rm -f /dev/shm/a; done"
    );
    host.run(&app, &["-q", &command]).finish().succeeds();
    explained(
        &host,
        "heroku[run.3]: A process has died of SIGBUS, as when shared memory is full",
    );
}

#[test]
fn what_lies_beside_a_bin_of_the_path_is_no_ones_to_read_but_an_installations() {
    let host = host_with_path(&["home/.fly/bin", "home/.docker/bin", "home/venvs/a/bin"]);
    if host.in_folders() {
        leave_out("a test of what dynos see: without walls they see the host");
        return;
    }
    let home = host.path().join("home");
    for (tool, secret) in [
        (".fly/bin/fly", ".fly/config.yml"),
        (".docker/bin/docker", ".docker/config.json"),
        ("venvs/a/bin/a", "venvs/a/.env"),
    ] {
        program(&home.join(tool), tool);
        write(&home.join(secret), "token\n");
    }
    write(&home.join("venvs/a/pyvenv.cfg"), "home = /usr/bin\n");
    write(&home.join("venvs/a/lib/x"), "library\n");
    let app = host.plain_app();
    let command = format!(
        "fly; docker; a; cd {}; cat venvs/a/lib/x venvs/a/pyvenv.cfg; \
         cat .fly/config.yml .docker/config.json venvs/a/.env 2>/dev/null; ls -A .fly venvs/a",
        home.display()
    );
    host.run(&app, &["-q", &command])
        .finish()
        .succeeds()
        .prints(
            ".fly/bin/fly\n.docker/bin/docker\nvenvs/a/bin/a\nlibrary\nhome = /usr/bin\n\
             .fly:\nbin\n\nvenvs/a:\nbin\nlib\npyvenv.cfg\n",
        );
}

#[test]
fn packages_of_pythons_user_site_need_no_entry_of_the_path() {
    let mut host = host_with_path(&[]);
    let home = host.path().join("home");
    for base in [".local", "own"] {
        let library = home.join(base).join("lib/python3.9/site-packages/a.py");
        write(&library, base);
    }
    let app = host.folder("plain");
    let command = "cat $PYTHONUSERBASE/lib/python3.9/site-packages/a.py";
    host.dyno(&app, &["deploy", "--no-web"]).finish().succeeds();
    host.run(&app, &["-q", command]).finish().prints(".local");
    host.set("PYTHONUSERBASE", home.join("own"));
    host.dyno(&app, &["deploy", "--no-web"]).finish().succeeds();
    host.run(&app, &["-q", command]).finish().prints("own");
    host.set("PYTHONNOUSERSITE", "1");
    host.dyno(&app, &["deploy", "--no-web"]).finish().succeeds();
    host.run(&app, &["-q", "echo ${PYTHONUSERBASE-none}"])
        .finish()
        .prints("none\n");
}

#[test]
fn an_update_or_another_spelling_of_the_path_is_no_loss() {
    use std::os::unix::ffi::OsStringExt;
    let mut host = host_with_path(&["home/.nvm/v18/bin"]);
    let home = host.path().join("home");
    for tool in [".nvm/v18/bin/node", ".nvm/v20/bin/node", ".local/bin/x"] {
        program(&home.join(tool), tool);
    }
    let app = host.plain_app();
    let mut odd = b"/srv/\xff:".to_vec();
    odd.extend(home.join(".local/bin").into_os_string().into_vec());
    odd.extend(format!(":{SYSTEM}").bytes());
    let with_slash = format!("{}/.local/bin/:{SYSTEM}", home.display());
    let paths = [
        format!("{}/.nvm/v20/bin:{with_slash}", home.display()).into(),
        format!(
            "{}/.nvm/v20/bin:{}/.local/bin:{SYSTEM}",
            home.display(),
            home.display()
        )
        .into(),
    ];
    for path in paths {
        host.set("PATH", std::ffi::OsString::clone(&path));
        host.dyno(&app, &["deploy", "--no-web"])
            .finish()
            .succeeds()
            .does_not_mention("warning");
    }
    // One entry that is no text costs the others nothing, and is told.
    host.set("PATH", std::ffi::OsString::from_vec(odd));
    host.dyno(&app, &["deploy", "--no-web"])
        .finish()
        .succeeds()
        .mentions("of your PATH: its name is not UTF-8\n");
    host.run(&app, &["-q", "x"])
        .finish()
        .prints(".local/bin/x\n");
}

#[test]
fn what_the_path_names_in_the_app_or_leads_nowhere_is_there_or_told() {
    let mut host = host_with_path(&["home/.local/bin"]);
    let home = host.path().join("home");
    let app = host.folder_of("shop", &[("Procfile", "job: devtool\n")]);
    program(&app.join("node_modules/.bin/tool"), "a tool of the app");
    program(&home.join("dev/tool/run.sh"), "devtool");
    fs::create_dir_all(home.join(".local/bin")).unwrap();
    symlink(
        home.join("dev/tool/run.sh"),
        home.join(".local/bin/devtool"),
    )
    .unwrap();
    let path = format!("node_modules/.bin:{}/.local/bin:{SYSTEM}", home.display());
    host.set("PATH", path);
    let words = format!(
        "warning: dynos do not have the program `devtool`: it leads to `{}`",
        home.join("dev/tool/run.sh")
            .canonicalize()
            .unwrap()
            .display()
    );
    host.dyno(&app, &["deploy", "--no-web"])
        .finish()
        .succeeds()
        .mentions(&words);
    host.run(&app, &["-q", "tool"])
        .finish()
        .prints("a tool of the app\n");
}
