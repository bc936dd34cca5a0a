//! `git push dyno main`, with the git of this host.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use crate::harness::{
    DEADLINE, Host, STARTING, eventually, eventually_within, lacks, leave_out, write,
};

/// A git checkout of a user of a host.
pub struct Checkout<'a> {
    pub host: &'a Host,
    pub folder: PathBuf,
}

/// What git did and said.
pub struct Done {
    what: String,
    output: Output,
}

impl Done {
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// What it said after `remote: `, as the other side meant it.
    pub fn remote(&self) -> String {
        let said = self.said();
        let lines = said
            .lines()
            .filter_map(|line| line.strip_prefix("remote: "));
        let lines: Vec<_> = lines.map(str::trim_end).collect();
        lines.join("\n")
    }

    #[track_caller]
    pub fn succeeds(self) -> Self {
        assert!(
            self.output.status.success(),
            "{}: {}",
            self.what,
            self.said()
        );
        self
    }

    #[track_caller]
    pub fn fails_with(self, words: &str) -> Self {
        let said = self.said();
        assert!(!self.output.status.success(), "{}: {said}", self.what);
        assert!(said.contains(words), "{words:?} was expected:\n{said}");
        self
    }

    #[track_caller]
    pub fn mentions(self, words: &str) -> Self {
        let said = self.said();
        assert!(said.contains(words), "{words:?} was expected:\n{said}");
        self
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout)
            .trim()
            .to_owned()
    }
}

impl<'a> Checkout<'a> {
    /// A folder that git knows nothing of yet, with a gitconfig that all checkouts share.
    pub fn new(host: &'a Host, name: &str) -> Self {
        write(
            &host.path().join("home/.gitconfig"),
            "[user]\n\tname = Ada\n\temail = ada@example.org\n[init]\n\tdefaultBranch = main\n\
             [protocol \"file\"]\n\tallow = always\n",
        );
        let folder = host.path().join("apps").join(name);
        fs::create_dir(&folder).unwrap();
        let checkout = Self { host, folder };
        checkout.git(&["init", "--quiet"]).succeeds();
        checkout
    }

    /// One of an app of the same name, with its first commit.
    pub fn of_app(host: &'a Host, name: &str) -> Self {
        let checkout = Self::new(host, name);
        checkout.write("Procfile", "worker: sleep 1000\n");
        checkout.commit("The first one");
        host.dyno(&checkout.folder, &["create", "-a", name])
            .finish()
            .succeeds();
        host.dyno(&checkout.folder, &["git:remote"])
            .finish()
            .succeeds();
        checkout
    }

    pub fn clone(&self, name: &str) -> Self {
        let folder = self.host.path().join("apps").join(name);
        let (from, to) = (self.folder.to_str().unwrap(), folder.to_str().unwrap());
        self.git(&["clone", "--quiet", from, to]).succeeds();
        let clone = Self {
            host: self.host,
            folder,
        };
        let url = self.git(&["remote", "get-url", "dyno"]).succeeds().text();
        clone.git(&["remote", "add", "dyno", &url]).succeeds();
        clone
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut git = Command::new("git");
        git.args(args)
            .current_dir(&self.folder)
            .env_clear()
            .envs(self.host.env())
            .stdin(Stdio::null());
        git
    }

    pub fn git(&self, args: &[&str]) -> Done {
        self.git_with(args, &[])
    }

    pub fn git_with(&self, args: &[&str], env: &[(&str, &str)]) -> Done {
        let mut command = self.command(args);
        command.envs(env.iter().copied());
        finish(start(&mut command), args.join(" "))
    }

    pub fn push(&self) -> Done {
        self.git(&["push", "dyno", "main"])
    }

    pub fn start_push(&self) -> Child {
        start(&mut self.command(&["push", "dyno", "main"]))
    }

    pub fn write(&self, path: &str, text: &str) {
        write(&self.folder.join(path), text);
    }

    pub fn commit(&self, message: &str) {
        self.git(&["add", "--all"]).succeeds();
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message])
            .succeeds();
    }

    pub fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"]).succeeds().text()
    }

    /// Where the app's branch is.
    pub fn deployed(&self) -> String {
        let main = self
            .git(&["ls-remote", "dyno", "refs/heads/main"])
            .succeeds();
        main.text().chars().take(40).collect()
    }

    pub fn descriptions(&self) -> Vec<String> {
        let json = self.host.dyno(&self.folder, &["releases", "--json"]);
        let releases: Value = serde_json::from_str(&json.finish().succeeds().text()).unwrap();
        let releases = releases.as_array().unwrap().iter();
        releases
            .map(|it| it["description"].as_str().unwrap().to_owned())
            .collect()
    }

    /// What is in the slug that runs.
    pub fn files(&self) -> String {
        self.host
            .run(&self.folder, &["-q", "find . -type f -o -type l | sort"])
            .finish()
            .succeeds()
            .text()
    }

    /// Its slug, held so that no build of the same files can come to its end.
    pub fn hold(&self) -> File {
        let slugs = self.host.state().join("slugs");
        let mut tarballs: Vec<_> = fs::read_dir(slugs)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|it| it == "tgz"))
            .collect();
        assert_eq!(tarballs.len(), 1);
        let slug = File::open(tarballs.pop().unwrap()).unwrap();
        flock(&slug, FlockOperation::LockExclusive).unwrap();
        slug
    }

    /// Waits until so many builds cannot come to their end.
    pub fn wait_until_held(&self) {
        eventually("a build that packs", || {
            let mut logs = fs::read_dir(self.host.state().join("builds")).ok()?;
            logs.any(|log| {
                let text = fs::read_to_string(log.unwrap().path()).unwrap_or_default();
                text.ends_with("-----> Compressing...\n")
            })
            .then_some(())
        });
    }
}

pub fn start(command: &mut Command) -> Child {
    let _starting = STARTING.read().unwrap();
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

pub fn finish(child: Child, what: String) -> Done {
    finish_within(DEADLINE, child, what)
}

pub fn finish_within(patience: Duration, child: Child, what: String) -> Done {
    let finishing = thread::spawn(move || child.wait_with_output().unwrap());
    eventually_within(patience, &format!("git {what} to end"), || {
        finishing.is_finished().then_some(())
    });
    Done {
        what,
        output: finishing.join().unwrap(),
    }
}

#[test]
fn a_push_deploys_and_whoever_pushes_sees_it_come_up() {
    if lacks("git") {
        return;
    }
    let host = Host::new();
    let checkout = Checkout::new(&host, "shop");
    checkout.write("Procfile", "worker: sleep 1000\nrelease: echo migrates\n");
    checkout.write(".slugignore", "*.md\n");
    checkout.write(".gitattributes", "docs export-ignore\n");
    checkout.write("docs", "");
    checkout.write("README.md", "");
    checkout.commit("Adds a cart");
    host.dyno(&checkout.folder, &["git:remote"])
        .finish()
        .fails_with(1, "which app?", "-a NAME");
    host.dyno(&checkout.folder, &["create", "-a", "shop"])
        .finish()
        .succeeds();
    let url = host.state().join("git/shop.git");
    for _ in 0..2 {
        host.dyno(&checkout.folder, &["git:remote"])
            .finish()
            .succeeds()
            .prints(&format!("set git remote dyno to {}\n", url.display()));
    }
    let done = checkout.push().succeeds();
    let remote = done.remote();
    let (before, after) = remote.split_once("deployed to dyno").unwrap();
    assert!(
        before.starts_with(
            "Compressing source files... done.\nBuilding source:\n\n\
             -----> Building on the host's own stack\n\
             -----> Deleting 1 files matching .slugignore patterns.\n-----> Discovering process types\n       \
             Procfile declares types -> worker, release\n\n\
             -----> Compressing...\n       Done: 1K\n-----> Launching...\n \
             !     Release command declared: this new release will not be available until the command succeeds.\n       \
             Released v2\n       http://shop.localhost"
        ),
        "{remote}"
    );
    assert!(
        after.starts_with("\n\nVerifying deploy... done.\nRunning release command...\n"),
        "{remote}"
    );
    assert!(
        after.contains("Running release command...\n\nmigrates\nWaiting"),
        "{remote}"
    );
    assert!(after.ends_with("Waiting for release.... done."), "{remote}");
    assert!(done.said().contains("* [new branch]      main -> main"));
    let head = checkout.head();
    assert_eq!(checkout.descriptions()[0], format!("Deploy {}", &head[..8]));
    assert_eq!(
        checkout.files(),
        "./.gitattributes\n./.slugignore\n./Procfile\n./docs\n"
    );
    let (_, release) = host.request("GET", "/apps/shop/releases/v2", &Value::Null);
    let release: Value = serde_json::from_str(&release).unwrap();
    let slug = format!(
        "/apps/shop/slugs/{}",
        release["slug"]["id"].as_str().unwrap()
    );
    let (_, slug) = host.request("GET", &slug, &Value::Null);
    let slug: Value = serde_json::from_str(&slug).unwrap();
    assert_eq!(
        (slug["commit"].as_str(), slug["commit_description"].as_str()),
        (Some(&*head), Some("Adds a cart"))
    );
    checkout.push().succeeds().mentions("Everything up-to-date");
    // What was pushed can be fetched again.
    let clone = checkout.clone("clone");
    clone.git(&["fetch", "--quiet", "dyno"]).succeeds();
    assert_eq!(clone.git(&["rev-parse", "dyno/main"]).text(), head);
    let left = |folder: &str| fs::read_dir(host.state().join(folder)).unwrap().count();
    eventually("the source to be removed", || {
        (left("sources") == 0).then_some(())
    });
}

#[test]
fn a_push_whose_build_fails_is_rejected_and_one_whose_release_phase_fails_is_not() {
    if lacks("git") {
        return;
    }
    let host = Host::new();
    let checkout = Checkout::of_app(&host, "shop");
    checkout.push().succeeds();
    let first = checkout.head();
    checkout.write("Procfile", "worker true\n");
    checkout.commit("Forgets the colon");
    let done = checkout
        .push()
        .fails_with("! [remote rejected] main -> main (the build failed)");
    let remote = done.remote();
    assert!(
        remote.contains(" !     bad Procfile line 1, `worker true`"),
        "{remote}"
    );
    assert!(
        remote.ends_with("Verifying deploy...\n\n!\tPush rejected to shop.\n"),
        "{remote}"
    );
    assert_eq!(checkout.deployed(), first);
    fs::rename(
        checkout.folder.join("Procfile"),
        checkout.folder.join("procfile"),
    )
    .unwrap();
    checkout.commit("Has it under another name");
    checkout
        .push()
        .fails_with("there is no Procfile at the root of the source");
    checkout.write(
        "Procfile",
        "worker: sleep 1000\nrelease: echo broken; false\n",
    );
    checkout.commit("Breaks the release phase");
    let remote = checkout.push().succeeds().remote();
    assert!(remote.contains("\nbroken\n"), "{remote}");
    assert!(
        remote.contains(
            "Waiting for release.... failed.\n !     the release command of v3 of `shop` failed"
        ),
        "{remote}"
    );
    assert_eq!(checkout.deployed(), checkout.head());
    checkout.write("Procfile", "worker: sleep 1000\n");
    checkout.commit("Mends it");
    checkout.push().succeeds();
    assert_eq!(checkout.descriptions().len(), 4);
}

#[test]
fn a_push_of_a_procfile_that_names_nothing_ends_no_dyno() {
    if lacks("git") {
        return;
    }
    let host = Host::new();
    let checkout = Checkout::of_app(&host, "emptied");
    checkout.push().succeeds();
    host.dyno(&checkout.folder, &["ps:scale", "worker=1"])
        .finish()
        .succeeds();
    for procfile in ["", "# worker: sleep 1000\n", "release: true\n"] {
        checkout.write("Procfile", procfile);
        checkout.commit("Names nothing");
        checkout
            .push()
            .fails_with("the Procfile has no process types");
    }
    host.dyno(&checkout.folder, &["ps:scale", "worker=0"])
        .finish()
        .succeeds();
    checkout.push().succeeds();
}

#[test]
fn only_main_and_master_are_deployed() {
    if lacks("git") {
        return;
    }
    let host = Host::new();
    let checkout = Checkout::of_app(&host, "shop");
    checkout
        .git(&["push", "dyno", "main:feature"])
        .succeeds()
        .mentions("remote: Pushed to non-main branch, skipping build.");
    checkout.git(&["tag", "v1"]).succeeds();
    checkout.git(&["push", "dyno", "v1"]).succeeds();
    assert_eq!(checkout.descriptions().len(), 1);
    checkout
        .git(&["push", "dyno", "main", "main:master"])
        .fails_with("push either main or master");
    checkout
        .git(&["push", "dyno", "main:refs/notes/x"])
        .fails_with("`refs/notes/x` is neither a branch nor a tag");
    checkout.git(&["push", "dyno", "main:master"]).succeeds();
    checkout.git(&["push", "dyno", ":feature"]).succeeds();
    checkout
        .git(&["push", "dyno", ":master"])
        .fails_with("it is what is deployed");
    let head = fs::read_to_string(host.state().join("git/shop.git/HEAD")).unwrap();
    assert_eq!(head, "ref: refs/heads/master\n");
    // History may be changed, if the user insists.
    checkout.push().succeeds();
    checkout
        .git(&["commit", "--quiet", "--amend", "-m", "Otherwise"])
        .succeeds();
    checkout.push().fails_with("non-fast-forward");
    checkout
        .git(&["push", "--force", "dyno", "main"])
        .succeeds();
    assert_eq!(checkout.deployed(), checkout.head());
}

#[test]
fn a_push_waits_for_another_and_goes_on_from_where_that_has_come() {
    if lacks("git") {
        return;
    }
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let checkout = Checkout::of_app(&host, "shop");
    checkout.push().succeeds();
    let clone = checkout.clone("clone");
    let held = checkout.hold();
    checkout.commit("One");
    let first = checkout.start_push();
    checkout.wait_until_held();
    clone.commit("Another");
    let mut second = clone.command(&["push", "dyno", "main"]);
    let mut second = start(&mut second);
    let waits = thread::spawn(move || {
        let mut said = Vec::new();
        let mut stderr = second.stderr.take().unwrap();
        let mut piece = [0; 1024];
        while let Ok(count @ 1..) = stderr.read(&mut piece) {
            said.extend_from_slice(&piece[..count]);
            if said
                .windows(27)
                .any(|it| it == b"Waiting for another push to")
            {
                break;
            }
        }
        second.stderr = Some(stderr);
        second
    });
    eventually("the second push to wait", || {
        waits.is_finished().then_some(())
    });
    let second = waits.join().unwrap();
    drop(held);
    finish(first, "push".into()).succeeds();
    finish(second, "push".into()).fails_with("another push came first: fetch first");
    assert_eq!(checkout.deployed(), checkout.head());
    clone
        .git(&["pull", "--quiet", "--rebase", "dyno", "main"])
        .succeeds();
    clone.push().succeeds();
    assert_eq!(clone.deployed(), clone.head());
    assert_eq!(checkout.descriptions().len(), 4);
}

#[test]
fn a_push_in_the_middle_of_which_the_server_is_killed_fails_and_the_next_one_works() {
    if lacks("git") {
        return;
    }
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let checkout = Checkout::of_app(&host, "shop");
    checkout.push().succeeds();
    let before = checkout.head();
    let held = checkout.hold();
    checkout.commit("One");
    let pushing = checkout.start_push();
    checkout.wait_until_held();
    host.kill_server();
    drop(held);
    finish(pushing, "push".into())
        .fails_with("(the build failed)")
        .mentions("the server was stopped in the middle of it");
    assert_eq!(checkout.deployed(), before);
    checkout.push().succeeds();
    assert_eq!(checkout.deployed(), checkout.head());
    assert_eq!(checkout.descriptions().len(), 3);
}

#[test]
fn a_push_whose_git_is_killed_goes_on_and_the_branch_says_so() {
    if lacks("git") {
        return;
    }
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    let checkout = Checkout::of_app(&host, "shop");
    checkout.push().succeeds();
    let held = checkout.hold();
    checkout.commit("One");
    let mut pushing = checkout.start_push();
    checkout.wait_until_held();
    pushing.kill().unwrap();
    pushing.wait().unwrap();
    drop(held);
    eventually("the branch to move", || {
        (checkout.deployed() == checkout.head()).then_some(())
    });
    assert_eq!(checkout.descriptions().len(), 3);
    checkout.push().succeeds().mentions("Everything up-to-date");
}

#[test]
fn what_is_in_the_environment_of_whoever_pushes_means_their_repositories() {
    if lacks("git") {
        return;
    }
    let host = Host::new();
    let checkout = Checkout::of_app(&host, "shop");
    let other = Checkout::new(&host, "other");
    let other_git = other.folder.join(".git");
    let other_git = other_git.to_str().unwrap();
    let own_git = checkout.folder.join(".git");
    let done = checkout.git_with(
        &[
            "-c",
            "core.hooksPath=/nonexistent",
            "-c",
            "receive.denyNonFastForwards=true",
            "push",
            "dyno",
            "main",
        ],
        &[
            ("GIT_DIR", own_git.to_str().unwrap()),
            ("GIT_WORK_TREE", checkout.folder.to_str().unwrap()),
            ("GIT_INDEX_FILE", "/nonexistent/index"),
            (
                "GIT_OBJECT_DIRECTORY",
                own_git.join("objects").to_str().unwrap(),
            ),
            ("GIT_ALTERNATE_OBJECT_DIRECTORIES", other_git),
            ("GIT_CEILING_DIRECTORIES", "/"),
            ("GIT_EDITOR", "false"),
            ("GIT_PAGER", "false"),
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_KEY_0", "core.hooksPath"),
            ("GIT_CONFIG_VALUE_0", "/nonexistent"),
        ],
    );
    done.succeeds().mentions("Released v2");
    assert_eq!(checkout.files(), "./Procfile\n");
}

#[test]
fn a_repository_that_is_hostile_gets_nowhere() {
    if lacks("git") {
        return;
    }
    let host = Host::with(&[("DYNO_SLUG_LIMIT", "1")]);
    let checkout = Checkout::of_app(&host, "shop");
    // A file that leads out of the source is not read; links are what they are.
    fs::remove_file(checkout.folder.join("Procfile")).unwrap();
    symlink("/etc/passwd", checkout.folder.join("Procfile")).unwrap();
    checkout.commit("Looks around");
    checkout
        .push()
        .fails_with("bad source: `Procfile` leads out of it");
    fs::remove_file(checkout.folder.join("Procfile")).unwrap();
    checkout.write("lib/Procfile", "worker: sleep 1000\n");
    symlink("lib/Procfile", checkout.folder.join("Procfile")).unwrap();
    symlink("/etc", checkout.folder.join("etc")).unwrap();
    checkout.commit("Has links");
    checkout.push().succeeds();
    assert_eq!(checkout.files(), "./Procfile\n./etc\n./lib/Procfile\n");
    // A tree with a `.git` in it, as no git makes one.
    let blob = checkout.git(&["rev-parse", "HEAD:lib/Procfile"]).text();
    let bad = checkout.folder.join("tree");
    let mut tree = File::create(&bad).unwrap();
    tree.write_all(b"40000 .git\0").unwrap();
    let sub = checkout.git(&["rev-parse", "HEAD:lib"]).text();
    tree.write_all(&hex(&sub)).unwrap();
    tree.write_all(b"100644 Procfile\0").unwrap();
    tree.write_all(&hex(&blob)).unwrap();
    drop(tree);
    let tree = checkout
        .git(&["hash-object", "-w", "-t", "tree", "--literally", "tree"])
        .succeeds()
        .text();
    fs::remove_file(bad).unwrap();
    let commit = checkout
        .git(&["commit-tree", &tree, "-p", "HEAD", "-m", "Takes over"])
        .succeeds()
        .text();
    let before = checkout.deployed();
    checkout
        .git(&["push", "dyno", &format!("{commit}:refs/heads/main")])
        .fails_with("hasDotgit");
    // More than may come.
    let mut noise = vec![0; 3_000_000];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut noise))
        .unwrap();
    fs::write(checkout.folder.join("noise"), noise).unwrap();
    checkout.commit("Is big");
    checkout.push().fails_with("exceeds maximum allowed size");
    assert_eq!(checkout.deployed(), before);
    let left = fs::read_dir(host.state().join("git")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

/// Billions of files in a few objects: each tree names the one below it thirty-two times.
#[test]
fn a_tree_that_names_one_again_and_again_is_rejected_before_it_is_packed() {
    if lacks("git") {
        return;
    }
    let host = Host::new();
    let checkout = Checkout::of_app(&host, "shop");
    let mut below = format!(
        "100644 blob {}\t",
        checkout.git(&["rev-parse", "HEAD:Procfile"]).text()
    );
    for _ in 0..7 {
        let entries: String = (0..32).map(|at| format!("{below}e{at:02}\n")).collect();
        let mut mktree = checkout.command(&["mktree"]);
        let mut mktree = start(mktree.stdin(Stdio::piped()));
        let mut stdin = mktree.stdin.take().unwrap();
        stdin.write_all(entries.as_bytes()).unwrap();
        drop(stdin);
        let tree = finish(mktree, "mktree".to_owned()).succeeds().text();
        below = format!("040000 tree {tree}\t");
    }
    let tree = &below["040000 tree ".len()..].trim_end();
    let commit = checkout
        .git(&["commit-tree", tree, "-p", "HEAD", "-m", "A bomb"])
        .succeeds()
        .text();
    checkout
        .git(&["push", "dyno", &format!("{commit}:refs/heads/main")])
        .fails_with("the commit has more than 1000000 files");
    checkout.push().succeeds();
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

#[test]
fn submodules_are_fetched_or_the_push_is_rejected() {
    if lacks("git") {
        return;
    }
    let host = Host::new();
    let library = Checkout::new(&host, "library");
    library.write("code", "text\n");
    library.write("deep/more", "text\n");
    library.commit("Has code");
    let checkout = Checkout::of_app(&host, "shop");
    checkout.write(".slugignore", "lib/deep\n");
    let url = format!("file://{}", library.folder.display());
    checkout
        .git(&["submodule", "--quiet", "add", &url, "lib"])
        .succeeds();
    checkout.commit("Uses a library");
    // What was committed counts, not what the library has become since.
    library.write("code", "other\n");
    library.commit("Has other code");
    checkout
        .push()
        .succeeds()
        .mentions("remote: Fetching submodules...");
    assert_eq!(
        checkout.files(),
        "./.gitmodules\n./.slugignore\n./Procfile\n./lib/code\n"
    );
    host.run(&checkout.folder, &["-q", "cat lib/code"])
        .finish()
        .prints("text\n");
    // Another user's repository may not make git read the disk of this host.
    let gitconfig = host.path().join("home/.gitconfig");
    let trusting = fs::read_to_string(&gitconfig).unwrap();
    fs::write(&gitconfig, trusting.replace("always", "user")).unwrap();
    checkout.commit("Once more");
    checkout.push().fails_with("transport 'file' not allowed");
    fs::write(&gitconfig, trusting).unwrap();
    fs::rename(&library.folder, host.path().join("apps/elsewhere")).unwrap();
    checkout.commit("Again");
    checkout
        .push()
        .fails_with("the submodules of the commit cannot be fetched");
    let left = fs::read_dir(host.state().join("git")).unwrap();
    assert_eq!(left.count(), 2);
}

#[test]
fn a_file_that_a_commit_changes_gets_another_time_and_all_others_keep_theirs() {
    if lacks("git") {
        return;
    }
    let host = Host::new();
    let checkout = Checkout::of_app(&host, "shop");
    checkout.write("kept", "k");
    checkout.write("changed", "a");
    checkout.commit("Two files");
    let slugs = || {
        let names = fs::read_dir(host.state().join("slugs")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".tgz")).count()
    };
    let times = || {
        let run = host.run(&checkout.folder, &["-q", "stat -c %Y kept changed"]);
        let text = run.finish().succeeds().text();
        let times = text.lines().map(|line| line.parse::<u64>().unwrap());
        let times: [u64; 2] = times.collect::<Vec<_>>().try_into().unwrap();
        times
    };
    checkout.push().succeeds();
    let committed = checkout.git(&["log", "-1", "--format=%ct"]).text();
    let first = times();
    assert_eq!(
        first.map(|time| time.to_string()),
        [&*committed, &*committed]
    );
    assert_eq!(slugs(), 1);
    // Within the second, and with an older time: what a visitor has is never newer than what there is.
    checkout.write("changed", "b");
    checkout.git(&["add", "--all"]).succeeds();
    let env = [("GIT_COMMITTER_DATE", "1500000000 +0000")];
    checkout
        .git_with(&["commit", "--quiet", "-m", "Changes one"], &env)
        .succeeds();
    checkout.push().succeeds();
    assert_eq!(times(), [first[0], first[1] + 1]);
    assert_eq!(slugs(), 2);
    checkout.commit("Changes nothing");
    checkout.push().succeeds();
    assert_eq!(times(), [first[0], first[1] + 1]);
    assert_eq!(slugs(), 2);
}

#[test]
fn what_is_deployed_is_the_commit_even_if_a_folder_is_all_there_is_in_it() {
    if lacks("git") {
        return;
    }
    let host = Host::new();
    let checkout = Checkout::new(&host, "single");
    checkout.write("backend/Procfile", "worker: sleep 1000\n");
    checkout.commit("One folder");
    host.dyno(&checkout.folder, &["create", "-a", "single"])
        .finish()
        .succeeds();
    host.dyno(&checkout.folder, &["git:remote"])
        .finish()
        .succeeds();
    checkout
        .push()
        .fails_with("(the build failed)")
        .mentions("there is no Procfile at the root of the source")
        .mentions("`git subtree push --prefix backend dyno main`");
    fs::remove_dir_all(checkout.folder.join("backend")).unwrap();
    checkout.write("procfile", "worker: sleep 1000\n");
    checkout.commit("Lower case");
    checkout
        .push()
        .fails_with("there is a `procfile`: rename it");
}

#[test]
fn a_tag_that_is_pushed_to_a_branch_deploys_its_commit() {
    if lacks("git") {
        return;
    }
    for (args, branch) in [
        (&["tag", "-a", "v1", "-m", "v1"][..], "main"),
        (&["tag", "v1"], "master"),
    ] {
        let host = Host::new();
        let checkout = Checkout::of_app(&host, "shop");
        checkout.git(args).succeeds();
        let target = format!("v1:{branch}");
        checkout
            .git(&["push", "dyno", &target])
            .succeeds()
            .mentions("deployed to dyno");
        let of = |name: &str| checkout.git(&["ls-remote", "dyno", name]).text();
        assert!(of(&format!("refs/heads/{branch}")).starts_with(&checkout.head()));
        assert_eq!(of("refs/tags/*"), "");
        // Once there is the branch, git knows itself what is meant.
        checkout.commit("Another");
        checkout.git(&["tag", "-a", "v2", "-m", "v2"]).succeeds();
        checkout
            .git(&["push", "dyno", &format!("v2:{branch}")])
            .succeeds()
            .mentions("deployed to dyno");
        assert!(of(&format!("refs/heads/{branch}")).starts_with(&checkout.head()));
        checkout.git(&["push", "dyno", "v1", "v2"]).succeeds();
        assert!(of("refs/tags/v1").contains("refs/tags/v1"));
    }
}

#[test]
fn a_repository_within_that_is_no_submodule_is_told_of() {
    if lacks("git") {
        return;
    }
    let host = Host::new();
    let checkout = Checkout::of_app(&host, "shop");
    let lib = checkout.folder.join("vendor/a lib");
    fs::create_dir_all(&lib).unwrap();
    let inside = Checkout {
        host: &host,
        folder: lib,
    };
    inside.git(&["init", "--quiet"]).succeeds();
    inside.write("lib.py", "");
    inside.commit("A library");
    checkout.commit("Adds it");
    checkout.push().succeeds().mentions(
        "`vendor/a lib` is a repository of its own, of which the commit has the number alone",
    );
}

#[test]
fn a_push_says_what_nothing_has_installed_and_whose_dynos_end() {
    if lacks("git") {
        return;
    }
    let host = Host::new();
    let checkout = Checkout::of_app(&host, "shop");
    checkout.push().succeeds();
    host.dyno(&checkout.folder, &["ps:scale", "worker=2"])
        .finish()
        .succeeds();
    host.dyno(&checkout.folder, &["builder", "none"])
        .finish()
        .succeeds();
    checkout.write("requirements.txt", "flask\n");
    checkout.write("Procfile", "jobs: sleep 1000\n");
    std::os::unix::fs::symlink("../lib", checkout.folder.join("lib")).unwrap();
    checkout.commit("Needs something");
    checkout
        .push()
        .succeeds()
        .mentions(" !     `requirements.txt`: nothing is installed or built here")
        .mentions(" !     `lib` is a symlink out of the folder")
        .mentions(" !     this release has no `worker`: its 2 dynos end");
    checkout.git(&["revert", "--no-edit", "HEAD"]).succeeds();
    checkout
        .push()
        .succeeds()
        .mentions("`worker` is back, with 2 dynos as it was scaled before");
}

#[test]
fn a_checkout_of_another_user_is_told_to_be_that() {
    if lacks("git") {
        return;
    }
    let host = Host::new();
    let checkout = Checkout::of_app(&host, "shop");
    // What makes git believe so, without another user.
    let env = ("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1");
    let known = checkout.git_with(&["status"], &[env]);
    if !known.said().contains("dubious ownership") {
        leave_out("this git cannot be made to see another owner");
        return;
    }
    host.dyno(&checkout.folder, &["git:remote"])
        .env(env.0, env.1)
        .finish()
        .fails_with(
            1,
            "git does not take this folder: detected dubious ownership in repository at",
            "it belongs to another user; if you trust what is configured in it: `git config --global --add safe.directory",
        );
}

#[test]
fn a_repository_ends_with_its_app() {
    if lacks("git") {
        return;
    }
    let host = Host::new();
    let checkout = Checkout::of_app(&host, "shop");
    checkout.push().succeeds();
    let destroy = || {
        host.dyno(&checkout.folder, &["apps:destroy", "--confirm", "shop"])
            .finish()
            .succeeds();
    };
    destroy();
    let repository = host.state().join("git/shop.git");
    assert!(!repository.exists());
    checkout
        .push()
        .fails_with("does not appear to be a git repository");
    host.dyno(&checkout.folder, &["create", "-a", "shop"])
        .finish()
        .succeeds();
    host.dyno(&checkout.folder, &["git:remote", "-r", "again"])
        .finish()
        .succeeds();
    checkout
        .git(&["push", "again", "main"])
        .succeeds()
        .mentions("Released v2");
    // One whose app is gone is not taken for another's.
    fs::write(repository.join("dyno-app"), "gone\n").unwrap();
    checkout.commit("More");
    checkout
        .git(&["push", "again", "main"])
        .fails_with("no app named `gone`");
    host.dyno(&checkout.folder, &["git:remote"])
        .finish()
        .succeeds();
    checkout.push().succeeds();
}

#[test]
fn hooks_find_the_program_after_it_has_moved() {
    if lacks("git") {
        return;
    }
    let host = Host::new();
    let programs = host.path().join("programs");
    fs::create_dir(&programs).unwrap();
    let (old, new) = (programs.join("old"), programs.join("new"));
    copy_program(&host.program(), &old);
    host.set_program(&old);
    let checkout = Checkout::of_app(&host, "shop");
    checkout.push().succeeds();
    fs::rename(&old, &new).unwrap();
    host.set_program(&new);
    checkout.commit("More");
    checkout
        .push()
        .fails_with("dyno is not there any more: install it, and run any command of it");
    // The next server knows where it is.
    eventually("the server to leave", || {
        host.server().is_none().then_some(())
    });
    host.dyno(&checkout.folder, &["apps"]).finish().succeeds();
    checkout.push().succeeds();
}

/// By a process of its own, so that nobody who is being started has it open for writing.
fn copy_program(from: &Path, to: &Path) {
    let _starting = STARTING.read().unwrap();
    let copied = Command::new("cp").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

#[test]
fn git_remote_says_what_is_missing() {
    if lacks("git") {
        return;
    }
    let host = Host::new();
    let folder = host.plain_app();
    host.dyno(&folder, &["git:remote"]).finish().fails_with(
        1,
        "this folder is no git checkout",
        "`git init` makes it one",
    );
    host.dyno(&folder, &["git:remote"])
        .env("PATH", "/nonexistent")
        .finish()
        .fails_with(1, "cannot run git", "install git 2.29 or newer");
    let checkout = Checkout::new(&host, "shop");
    host.dyno(
        &checkout.folder,
        &["git:remote", "-a", "plain", "-r", "no good"],
    )
    .finish()
    .fails_with(
        1,
        "git did not take the remote `no good`",
        "-r takes another name",
    );
    host.dyno(&checkout.folder, &["git:remote", "-a", "none"])
        .finish()
        .fails_with(1, "no app named `none`", "`dyno apps` lists yours");
    host.dyno(&checkout.folder, &["git:remote", "-a", "plain", "--https"])
        .finish()
        .fails_with(
            1,
            "the server does not listen over TCP",
            "`dyno heroku:env`",
        );
    let pushing = host.dyno(&checkout.folder, &["__git-hook", "update"]);
    pushing.finish().fails_with(
        1,
        "this is for the hooks of git repositories",
        "`dyno git:remote`",
    );
}

#[test]
fn what_git_adds_to_the_path_of_its_hooks_is_no_toolchain() {
    if lacks("git") {
        return;
    }
    let host = Host::new();
    let checkout = Checkout::of_app(&host, "shop");
    checkout.push().succeeds();
    let release = host
        .dyno(&checkout.folder, &["releases:info", "--json"])
        .finish()
        .text();
    assert!(!release.contains("git-core"), "{release}");
    host.dyno(&checkout.folder, &["deploy"])
        .finish()
        .succeeds()
        .does_not_mention("in their PATH");
}
