//! Finds the toolchains that an app's dynos had before a deploy and do not have after it.

use std::path::{Path, PathBuf};

use super::Toolchains;
use crate::model::dyno::env::DEFAULT_PATH;
use crate::sandbox::stack::is_shown;

/// How many programs of a folder are looked at at most.
const MAX_LOOKED_AT: usize = 1_000;

/// A folder or program that dynos lose.
#[derive(Debug, PartialEq, Eq)]
pub enum Loss {
    /// A folder that is not replaced by another one with its programs.
    Folder(PathBuf),
    /// A program that the Procfile names, missing in the folder that replaces its folder.
    Program(String, PathBuf),
}

/// What `now` lacks of `before`, for commands that name `programs`. Not counted: folders that the host itself does not
/// have any more, and older versions that a newer one replaces.
pub fn lost(before: &Toolchains, now: &Toolchains, programs: &[&str]) -> Vec<Loss> {
    let folders = |of: &Toolchains| -> Vec<PathBuf> {
        // Without a slash at the end.
        let folders = of
            .path
            .iter()
            .map(|folder| Path::new(folder).components().collect());
        folders.collect()
    };
    let (before, now) = (folders(before), folders(now));
    let added: Vec<_> = now
        .iter()
        .filter(|folder| !before.contains(folder))
        .collect();
    let is_elsewhere = |program: &str| {
        let standard = DEFAULT_PATH.split(':').map(Path::new);
        let mut folders = standard.chain(now.iter().map(PathBuf::as_path));
        folders.any(|folder| folder.join(program).is_file())
    };
    let mut all = Vec::new();
    for folder in before.iter().filter(|folder| !now.contains(folder)) {
        let there = programs_in(folder);
        // Earlier versions recorded for `git push` what git adds to its hooks' PATH.
        if there.is_empty() || (is_shown(folder) && folder.ends_with("git-core")) {
            continue;
        }
        let replaces = |other: &&PathBuf| there.iter().any(|program| other.join(program).is_file());
        if !added.iter().any(replaces) {
            all.push(Loss::Folder(folder.clone()));
            continue;
        }
        let named = programs
            .iter()
            .filter(|program| folder.join(program).is_file());
        let missing = named.filter(|program| !is_elsewhere(program));
        all.extend(missing.map(|program| Loss::Program((*program).to_owned(), folder.clone())));
    }
    all
}

fn programs_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries
        .take(MAX_LOOKED_AT)
        .filter(|entry| entry.path().is_file());
    files.map(|entry| entry.file_name().into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_is_no_loss_and_a_folder_without_a_successor_is() {
        let home = tempfile::tempdir().unwrap();
        let at = |path: &str| home.path().join(path);
        for program in [
            "nvm/v18/node",
            "nvm/v18/old",
            "nvm/v20/node",
            "tools/hello",
            "gone/x",
        ] {
            std::fs::create_dir_all(at(program).parent().unwrap()).unwrap();
            std::fs::write(at(program), "").unwrap();
        }
        std::fs::remove_dir_all(at("gone")).unwrap();
        let of = |folders: &[&str]| Toolchains {
            path: folders
                .iter()
                .map(|it| format!("{}/{it}", home.path().display()))
                .collect(),
            ..Toolchains::default()
        };
        let lost = |before: &[&str], now: &[&str]| lost(&of(before), &of(now), &["old", "ls"]);
        let program = Loss::Program("old".to_owned(), at("nvm/v18"));
        assert_eq!(lost(&["nvm/v18"], &["nvm/v20"]), [program]);
        assert_eq!(lost(&["nvm/v20"], &["nvm/v18"]), []);
        assert_eq!(lost(&["tools/"], &["tools"]), []);
        assert_eq!(lost(&["tools"], &["nvm/v20"]), [Loss::Folder(at("tools"))]);
        assert_eq!(lost(&["gone"], &[]), []);
    }
}
