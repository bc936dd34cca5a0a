//! Toolchains (pyenv, nvm, rbenv, cargo, Linuxbrew…): which of them a deploy records with its release.
//!
//! A dyno sees the system's folders and no home folder. But the app may need programs in the `PATH` of the *user who
//! deploys*, so these folders are recorded and mounted read-only at their paths, with the variables that tell the
//! toolchain where it is (`HOME` is `/app` inside). The `PATH` of the server's own shell does not matter. Folders that
//! dynos cannot see are left out, with a warning. Called by deploys in the CLI; looks at folders, changes nothing.
//!
//! This file follows the search path; `toolchain/known.rs` knows the managers of toolchains, `toolchain/python.rs` Python's
//! folders, `toolchain/lost.rs` what a release has no more of what the one before had.

mod deploying_user;
mod found;
mod known;
mod lost;
mod python;

pub use deploying_user::DeployingUser;
pub use found::{BrokenLink, BrokenLinkKind, FoundToolchains, LeftOut};
pub use lost::{Loss, lost};

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::model::dyno::env::DEFAULT_PATH;
use crate::model::release::{MAX_TOOLCHAIN_FOLDERS, Toolchains};
use crate::sandbox::stack::is_shown;

use self::known::{KNOWN, is_of_programs, with_neighbours};

/// Folders of the search path that every system has, beside those of [`DEFAULT_PATH`], for administrators and games.
const NOT_FOR_APPS: &[&str] = &[
    "/usr/local/sbin",
    "/usr/sbin",
    "/sbin",
    "/usr/local/games",
    "/usr/games",
];

/// Folders that no dyno can see, and why.
const NEVER: &[(&str, &str)] = &[
    ("/snap", "snaps are started by a program with privilege"),
    (
        "/var/lib/flatpak",
        "flatpaks are started by a service of the desktop",
    ),
    ("/proc", "a dyno has one of its own"),
    ("/sys", "a dyno has none"),
    ("/dev", "a dyno has one of its own"),
    ("/run", "a dyno has one of its own"),
    ("/app", "the app is there"),
];

/// How many entries of a folder are looked at for links that lead elsewhere.
const MAX_LINKS: usize = 4_096;

/// How many folders of an app are searched for a virtual environment.
const MAX_LOOKED_AT: usize = 1_000;

/// The toolchains in the search path of a `person`, for an app in the folder `app`, if there is one. Folders beyond the
/// bound on their number are left out.
pub fn find(person: &DeployingUser, app: Option<&Path>) -> FoundToolchains {
    let home = person.home.as_path();
    let mut finder = Finder {
        home: Some(home)
            .filter(|home| is_plain(home) && *home != Path::new("/"))
            .map(Path::to_owned),
        real_home: home.canonicalize().ok(),
        app: app.map(Path::to_owned),
        found: FoundToolchains::default(),
    };
    for entry in std::env::split_paths(&person.path) {
        // Without a slash at the end.
        let entry: PathBuf = entry.components().collect();
        match (entry.to_str().is_some(), is_plain(&entry)) {
            (false, _) => finder.leave_out(&entry, "its name is not UTF-8", false),
            (true, true) => finder.take(&entry),
            (true, false) => finder.take_relative(&entry),
        }
    }
    let environments = app.map(environments).unwrap_or_default();
    for folder in &environments {
        finder.follow_links(&folder.join("bin"));
        for library in python::libraries(folder) {
            finder.look_at_packages(&library, BrokenLinkKind::Package);
        }
    }
    if let Some(base) = person.python.as_deref().filter(|base| is_plain(base)) {
        finder.take_packages(base);
    }
    let toolchains = &mut finder.found.toolchains;
    let within_app = |folder: &String| app.is_some_and(|app| Path::new(folder).starts_with(app));
    if !environments.is_empty() || toolchains.path.iter().any(within_app) {
        toolchains.app = app.and_then(Path::to_str).map(str::to_owned);
    }
    finder.found
}

/// The virtual environments in an app's folder, which contain its path.
fn environments(app: &Path) -> Vec<PathBuf> {
    let is_one =
        |folder: &Path| folder.join("pyvenv.cfg").is_file() || folder.join("conda-meta").is_dir();
    let (mut folders, mut next, mut found) = (vec![app.to_owned()], 0, Vec::new());
    // Breadth first: near folders come first.
    while let Some(folder) = folders.get(next) {
        let mut below: Vec<_> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .take(MAX_LOOKED_AT)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter(|entry| entry.file_name() != ".git" && entry.file_name() != "node_modules")
            .map(|entry| entry.path())
            .collect();
        below.truncate(MAX_LOOKED_AT.saturating_sub(folders.len()));
        let (environments, others): (Vec<_>, Vec<_>) = below.into_iter().partition(|it| is_one(it));
        found.extend(environments);
        folders.extend(others);
        next += 1;
    }
    found.sort();
    found
}

/// A folder that programs need, and its variables, each with the folder that it names.
type Need = (PathBuf, Vec<(&'static str, PathBuf)>);

/// Folders without variables.
fn alone(folders: Vec<PathBuf>) -> Vec<Need> {
    let needs = folders.into_iter().map(|folder| (folder, Vec::new()));
    needs.collect()
}

struct Finder {
    home: Option<PathBuf>,
    real_home: Option<PathBuf>,
    app: Option<PathBuf>,
    found: FoundToolchains,
}

impl Finder {
    fn leave_out(&mut self, folder: &Path, why: &'static str, usual: bool) {
        self.found.left_out.push(LeftOut {
            folder: folder.to_owned(),
            why,
            usual,
        });
    }

    /// Takes a relative entry of the path as a folder of the app; an empty entry is ignored.
    fn take_relative(&mut self, entry: &Path) {
        if entry.components().any(|part| part == Component::ParentDir) {
            return self.leave_out(entry, "it leads up and out of a folder", false);
        }
        let gone = |app: &PathBuf| !app.join(entry).is_dir();
        if entry.as_os_str().is_empty() || self.app.as_ref().is_some_and(gone) {
            return;
        }
        let inside: PathBuf = Path::new("/app").join(entry).components().collect();
        self.add_path(&inside);
    }

    /// Takes Python packages of the user's own, which Python would look for in `HOME`, which differs in a dyno.
    fn take_packages(&mut self, base: &Path) {
        let libraries = python::libraries(base);
        let Some(text) = base.to_str().filter(|_| !libraries.is_empty()) else {
            return;
        };
        if !is_shown(base) && !self.is_of_app(base) {
            if let Some((why, usual)) = self.why_not(&base.join("lib"), false) {
                return self.leave_out(base, why, usual);
            }
            self.add(alone(libraries.clone()));
        }
        let env = &mut self.found.toolchains.env;
        env.insert("PYTHONUSERBASE".to_owned(), text.to_owned());
        for library in libraries {
            self.look_at_packages(&library, BrokenLinkKind::UserPackage);
        }
    }

    fn look_at_packages(&mut self, library: &Path, kind: BrokenLinkKind) {
        for (name, target) in python::editable(library) {
            if target.is_dir() && !self.is_seen(&target) {
                self.found
                    .broken_links
                    .push(BrokenLink { kind, name, target });
            }
        }
    }

    /// Whether dynos see the file at `target`, as far as is known by now.
    fn is_seen(&self, target: &Path) -> bool {
        let seen = |folder: &String| {
            let real = Path::new(folder).canonicalize();
            target.starts_with(folder) || real.is_ok_and(|real| target.starts_with(real))
        };
        let folders = &self.found.toolchains.folders;
        is_shown(target) || self.is_of_app(target) || folders.iter().any(seen)
    }

    fn take(&mut self, entry: &Path) {
        let standard = DEFAULT_PATH.split(':').chain(NOT_FOR_APPS.iter().copied());
        let is_standard = |path: &Path| standard.clone().any(|known| Path::new(known) == path);
        let Some(real) = entry.canonicalize().ok().filter(|real| real.is_dir()) else {
            return;
        };
        if is_standard(entry) || is_standard(&real) {
            return;
        }
        if self.is_of_app(entry) || self.is_of_app(&real) {
            // The slug's version of the folder goes before its present state.
            self.add_path(if self.is_of_app(entry) { entry } else { &real });
            let needs = self.needs(&real);
            return self.add(
                needs
                    .into_iter()
                    .filter(|(folder, _)| self.is_below_app(folder))
                    .collect(),
            );
        }
        if is_shown(entry) {
            return self.add_path(entry);
        }
        if is_shown(&real) {
            return self.add_path(&real);
        }
        // The entry's own path is recorded rather than its target, since a link may be changed later; but the target
        // must be visible, too.
        let needs = self.needs(entry);
        let whole = needs.iter().any(|(folder, _)| {
            entry.starts_with(folder) && self.is_no_link(folder) && {
                folder
                    .canonicalize()
                    .is_ok_and(|folder| real.starts_with(folder))
            }
        });
        let (entry, needs) = match whole {
            true => (entry, needs),
            false => (real.as_path(), self.needs(&real)),
        };
        match self.why_not(entry, false) {
            Some((why, usual)) => self.leave_out(entry, why, usual),
            None => {
                self.add_path(entry);
                self.add(needs);
                self.add_variables(entry);
                self.follow_links(entry);
            }
        }
    }

    /// Whether `folder` is reached without a symlink, other than the home folder itself.
    fn is_no_link(&self, folder: &Path) -> bool {
        let real = match (self.inside_home(folder), &self.real_home) {
            (Some((_, inside)), Some(home)) => home.join(inside),
            _ => folder.to_owned(),
        };
        folder.canonicalize().is_ok_and(|folder| folder == real)
    }

    fn is_of_app(&self, path: &Path) -> bool {
        self.app.as_ref().is_some_and(|app| path.starts_with(app))
    }

    fn is_below_app(&self, path: &Path) -> bool {
        self.app
            .as_ref()
            .is_some_and(|app| path.starts_with(app) && path != app)
    }

    /// Why a folder outside of the system cannot be mounted, and whether many users have it in their path. The target
    /// of a link (`linked`) may be in any user's home.
    fn why_not(&self, entry: &Path, linked: bool) -> Option<(&'static str, bool)> {
        if let Some((_, why)) = NEVER.iter().find(|(never, _)| entry.starts_with(never)) {
            let usual = entry.starts_with("/snap") || entry.starts_with("/var/lib/flatpak");
            return Some((why, usual));
        }
        if self.inside_home(entry).is_some() {
            return None;
        }
        let mut parts = entry.components().skip(1).map(|part| part.as_os_str());
        let (first, second) = (parts.next()?, parts.next());
        // Folders of Windows in WSL.
        if first == "mnt" && second.is_some_and(|name| name.len() == 1) {
            return Some(("it is of another system", true));
        }
        if entry.starts_with("/home/linuxbrew/.linuxbrew") {
            return None;
        }
        if !linked && (first == "root" || first == "home") {
            return Some(("it is in a home that is not yours", true));
        }
        let holds_home = self
            .home
            .as_ref()
            .is_some_and(|home| home.starts_with(entry));
        (second.is_none() || holds_home).then_some(("too much lies below it", false))
    }

    /// The home folder that contains `path`, and `path` relative to it.
    fn inside_home(&self, path: &Path) -> Option<(PathBuf, PathBuf)> {
        [&self.home, &self.real_home]
            .into_iter()
            .flatten()
            .find_map(|home| {
                let inside = path.strip_prefix(home).ok()?;
                let below = inside.components().next().is_some();
                below.then(|| (home.clone(), inside.to_owned()))
            })
    }

    /// The folders that programs in `entry` need, each with its variables.
    fn needs(&self, entry: &Path) -> Vec<Need> {
        let Some((home, inside)) = self.inside_home(entry) else {
            return alone(with_neighbours(entry, 2));
        };
        let first = inside.components().next().map(|part| part.as_os_str());
        let known = KNOWN
            .iter()
            .find(|known| first == Some(known.name.as_ref()));
        let mut needs = Vec::new();
        if let Some(known) = known {
            let env: Vec<_> = known
                .env
                .iter()
                .map(|(name, at)| (*name, home.join(at)))
                .collect();
            let folders = match known.folders {
                [] => vec![home.join(known.name)],
                folders => folders.iter().map(|folder| home.join(folder)).collect(),
            };
            needs.extend(folders.into_iter().map(|folder| (folder, env.clone())));
        }
        // If only some folders of an installation are taken, the entry may be another one.
        if !needs.iter().any(|(folder, _)| entry.starts_with(folder)) {
            let deep = home.components().count();
            needs.extend(alone(with_neighbours(entry, deep)));
        }
        needs
    }

    fn add_path(&mut self, entry: &Path) {
        let path = &mut self.found.toolchains.path;
        let Some(text) = entry.to_str().filter(|text| !text.contains(':')) else {
            return;
        };
        if path.len() < MAX_TOOLCHAIN_FOLDERS && !path.iter().any(|known| known == text) {
            path.push(text.to_owned());
        }
    }

    fn add(&mut self, needs: Vec<Need>) {
        let left_out = &mut self.found.left_out;
        let Toolchains { folders, env, .. } = &mut self.found.toolchains;
        for (folder, variables) in needs {
            let known = folders.iter().any(|known| folder.starts_with(known));
            if !known && folder.exists() {
                match folders.len() < MAX_TOOLCHAIN_FOLDERS {
                    true => folders.extend(folder.to_str().map(str::to_owned)),
                    false => left_out.push(LeftOut {
                        folder: folder.clone(),
                        why: "a release has 64 folders of toolchains at most",
                        usual: false,
                    }),
                }
            }
            for (name, folder) in variables.into_iter().filter(|(_, folder)| folder.is_dir()) {
                env.extend(
                    folder
                        .to_str()
                        .map(|text| (name.to_owned(), text.to_owned())),
                );
            }
        }
    }

    /// Adds variables for packages of the user's own, which programs would look for in `HOME`, which differs in a dyno.
    fn add_variables(&mut self, entry: &Path) {
        let Some((_, inside)) = self.inside_home(entry) else {
            return;
        };
        // `gem install --user-install`: the folder above `bin` holds the gems.
        let of_gems = inside.starts_with(".gem") || inside.starts_with(".local/share/gem");
        if of_gems && let Some(gems) = entry.parent().and_then(Path::to_str) {
            // A colon at the end adds Ruby's own places.
            let env = &mut self.found.toolchains.env;
            env.insert("GEM_PATH".to_owned(), format!("{gems}:"));
        }
    }

    /// Adds the toolchains that programs in `folder` are links to, as a virtual environment's `python` is.
    fn follow_links(&mut self, folder: &Path) {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let links = entries
            .take(MAX_LINKS)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
        for link in links {
            let Ok(target) = link.path().canonicalize() else {
                continue;
            };
            if self.is_seen(&target) {
                continue;
            }
            // Only folders of programs.
            let programs = target.parent().filter(|folder| is_of_programs(folder));
            match programs.filter(|programs| self.why_not(programs, true).is_none()) {
                Some(programs) => {
                    let needs = self.needs(programs);
                    self.add(needs);
                }
                None => self.found.broken_links.push(BrokenLink {
                    kind: BrokenLinkKind::Program,
                    name: link.file_name().to_string_lossy().into_owned(),
                    target,
                }),
            }
        }
    }
}

/// Whether `path` is absolute and without `..`.
fn is_plain(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|part| part == Component::ParentDir)
}

#[cfg(test)]
mod tests;
