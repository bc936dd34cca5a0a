//! Apps that are deployed and pushed anew while everything is killed: what was acknowledged is what runs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Command, Host, write};
use crate::possible::Possible;
use crate::random::Random;
use crate::scene::Scene;

/// Says which one of them all a release is.
const FILE: &str = "n";

/// How an app's files get to the server.
pub enum Way {
    Deploy,
    /// By git; with what the branch of the server may be.
    Push(Possible<String>),
}

/// An app that is released again and again.
pub struct Deploys<'a> {
    scene: Scene<'a>,
    app: PathBuf,
    way: Way,
    /// What the file says in the current release.
    content: Possible<u64>,
    count: u64,
}

impl<'a> Deploys<'a> {
    /// One that is deployed from its folder.
    pub fn deployed(scene: Scene<'a>) -> Self {
        let files = [("Procfile", "worker: x\n"), (FILE, "0")];
        Self::new(
            scene,
            Scene::app(scene.host, "deployed", &files),
            Way::Deploy,
        )
    }

    /// One that is pushed by git.
    pub fn pushed(scene: Scene<'a>) -> Self {
        let host = scene.host;
        let config =
            "[user]\n\tname = Ada\n\temail = ada@example.org\n[init]\n\tdefaultBranch = main\n";
        write(&host.path().join("home/.gitconfig"), config);
        let app = host.folder_of("pushed", &[("Procfile", "worker: x\n"), (FILE, "0")]);
        git(host, &app, &["init", "--quiet"]).finish().succeeds();
        host.dyno(&app, &["create", "pushed"]).finish().succeeds();
        host.dyno(&app, &["git:remote"]).finish().succeeds();
        let commit = commit(host, &app);
        git(host, &app, &["push", "--quiet", "dyno", "main"])
            .finish()
            .succeeds();
        Self::new(scene, app, Way::Push(Possible::new(commit)))
    }

    fn new(scene: Scene<'a>, app: PathBuf, way: Way) -> Self {
        Self {
            scene,
            app,
            way,
            content: Possible::new(0),
            count: 0,
        }
    }

    /// Until it is told to stop; returns how many were acknowledged.
    pub fn change(&mut self, mut random: Random) -> usize {
        let mut acknowledged = 0;
        while self.scene.goes_on(&mut random, 600) {
            self.count += 1;
            fs::write(self.app.join(FILE), self.count.to_string()).unwrap();
            self.content.tried(self.count);
            let done = match &mut self.way {
                Way::Deploy => {
                    let deploy = self.scene.host.dyno(&self.app, &["deploy", "--no-web"]);
                    self.scene.uploads("deploy", deploy).is_some()
                }
                Way::Push(branch) => {
                    branch.tried(commit(self.scene.host, &self.app));
                    let push = git(self.scene.host, &self.app, &["push", "dyno", "main"]);
                    self.scene.uploads("push", push).is_some()
                }
            };
            if done {
                acknowledged += 1;
                self.content.acknowledged();
                if let Way::Push(branch) = &mut self.way {
                    branch.acknowledged();
                }
            }
            if random.below(3) == 0 {
                self.check();
            }
        }
        acknowledged
    }

    /// The current release, and the server's branch, are what they should be, as far as a server answers.
    pub fn check(&self) {
        let cat = self.scene.runs(&self.app, &["run", "-q", "cat n"]);
        if let Some(content) = cat.and_then(|cat| cat.text().trim().parse().ok()) {
            let allowed = &self.content;
            assert!(allowed.allows(&content), "{content}, not {allowed:?}");
        }
        self.scene.releases(&self.app);
        if let Way::Push(branch) = &self.way {
            let refs = git(
                self.scene.host,
                &self.app,
                &["ls-remote", "dyno", "refs/heads/main"],
            );
            let refs = refs.finish().succeeds().text();
            let head = refs.chars().take(40).collect();
            assert!(branch.allows(&head), "the branch is {refs}, not {branch:?}");
        }
    }
}

fn git<'a>(host: &'a Host, folder: &Path, arguments: &[&str]) -> Command<'a> {
    host.program_of(Path::new("git"), folder, arguments)
}

/// The id of a new commit of all files.
fn commit(host: &Host, folder: &Path) -> String {
    git(host, folder, &["add", "--all"]).finish().succeeds();
    git(host, folder, &["commit", "--quiet", "-m", "Another one"])
        .finish()
        .succeeds();
    let head = git(host, folder, &["rev-parse", "HEAD"]).finish();
    head.succeeds().text().trim().to_owned()
}
