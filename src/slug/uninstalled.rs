//! Dependencies that an app's folder names and does not hold: dyno does not install any.
//!
//! Other platforms run a package manager in a build. Here the host is the stack, so that without a warning at deploy, a
//! missing dependency would be noticed only when a dyno starts. The manifests at the root and in the folders that the
//! Procfile's commands `cd` to are read; for everything else only its path counts. Called by packing.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use toml::de::{DeTable, DeValue};

/// How much of a manifest is read, in bytes.
const MOST: u64 = 1 << 20;

/// The most folders that are looked at beside the root.
const MOST_FOLDERS: usize = 10;

/// A kind of app, by its package manager.
struct AppKind {
    /// The files that name its dependencies; the first that exists is named in the warning.
    manifests: &'static [&'static str],
    /// One of these exists once the dependencies are installed in the folder.
    installed: &'static [&'static str],
    /// The command that installs them there.
    with: &'static str,
}

/// Stands for a virtual environment of Python, or packages that pip has put anywhere.
const OF_PYTHON: &str = "pyvenv.cfg";

/// Stands for any program in the root or in `bin`.
const PROGRAM: &str = "*";

const KINDS: &[AppKind] = &[
    AppKind {
        manifests: &[
            "requirements.txt",
            "Pipfile",
            "poetry.lock",
            "uv.lock",
            "pyproject.toml",
            "setup.py",
            "setup.cfg",
            "requirements/",
        ],
        installed: &[OF_PYTHON],
        with: "`python3 -m venv .venv` and its pip",
    },
    AppKind {
        manifests: &["package.json"],
        installed: &["node_modules", ".pnp.cjs"],
        with: "`npm ci`",
    },
    AppKind {
        manifests: &["Gemfile", "gems.rb"],
        installed: &["vendor/bundle"],
        with: "`bundle config set --local path vendor/bundle` and `bundle install`",
    },
    AppKind {
        manifests: &["composer.json"],
        installed: &["vendor/autoload.php"],
        with: "`composer install`",
    },
    AppKind {
        manifests: &["go.mod"],
        installed: &[PROGRAM],
        with: "`go build -o bin/ ./...`",
    },
    AppKind {
        manifests: &["Cargo.toml"],
        installed: &[PROGRAM, "target/release"],
        with: "`cargo build --release`",
    },
    AppKind {
        manifests: &["mix.exs"],
        installed: &["_build", "deps"],
        with: "`mix deps.get` and `mix release`",
    },
    AppKind {
        manifests: &["pom.xml"],
        installed: &["target"],
        with: "`mvn package`",
    },
    AppKind {
        manifests: &["build.gradle", "build.gradle.kts"],
        installed: &["build"],
        with: "`gradle build`",
    },
    AppKind {
        manifests: &["build.sbt", "project.clj"],
        installed: &["target"],
        with: "its build tool",
    },
];

/// A warning for each kind of dependencies that the folder `root` names and the slug, with these `paths`, does not hold.
pub(super) fn uninstalled<'a>(root: &Path, paths: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let mut paths: Vec<&str> = paths.filter_map(|path| str::from_utf8(path).ok()).collect();
    paths.sort_unstable();
    let mut folders = vec![String::new()];
    folders.extend(entered(&read(&root.join("Procfile")).unwrap_or_default()));
    folders.dedup();
    folders.truncate(1 + MOST_FOLDERS);
    let missing = folders.iter().flat_map(|below| {
        KINDS
            .iter()
            .filter_map(|kind| lacking(root, below, &paths, kind))
    });
    missing.collect()
}

/// The folders that the commands of a Procfile `cd` to, each with a slash at its end.
fn entered(procfile: &str) -> BTreeSet<String> {
    let words: Vec<_> = procfile.split_whitespace().collect();
    let folders = words.windows(2).filter(|pair| pair[0] == "cd");
    let folders = folders.map(|pair| {
        let folder = pair[1].trim_end_matches(['&', ';', '/']);
        folder.strip_prefix("./").unwrap_or(folder)
    });
    let inside = folders.filter(|it| !it.is_empty() && !it.starts_with(['/', '.', '$', '~', '-']));
    inside.map(|folder| format!("{folder}/")).collect()
}

/// The warning about one kind in the folder `below` the root, if there is one.
fn lacking(root: &Path, below: &str, paths: &[&str], kind: &AppKind) -> Option<String> {
    let folder = root.join(below);
    // The paths in `place`, relative to it.
    let within = |place: &str| {
        let place = format!("{below}{place}");
        let from = paths.partition_point(|path| *path < &*place);
        paths[from..]
            .iter()
            .map_while(move |path| path.strip_prefix(&place))
    };
    let is_there = |path: &str| paths.binary_search(&&*format!("{below}{path}")).is_ok();
    let mut manifests = kind
        .manifests
        .iter()
        .flat_map(|name| match name.ends_with('/') {
            true => within(name).map(|file| format!("{name}{file}")).collect(),
            false => vec![(*name).to_owned()],
        });
    let manifest = manifests.find(|name| is_there(name) && needs_something(&folder, name))?;
    let is_program = |path: &str| {
        let metadata = folder.join(path).symlink_metadata();
        metadata.is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    let has = |what: &str| match what {
        OF_PYTHON => within("").any(|path| {
            let mut parts = path.split('/');
            parts.any(|part| part.ends_with(".dist-info"))
                || path
                    .split_once('/')
                    .is_some_and(|(_, rest)| rest == OF_PYTHON)
        }),
        PROGRAM => within("").any(|path| {
            let name = path.strip_prefix("bin/").unwrap_or(path);
            !name.contains('/') && is_program(path)
        }),
        // A path that begins with a dot is the package manager's own.
        path => {
            is_there(path) && !folder.join(path).is_dir()
                || within(&format!("{path}/")).any(|path| !path.starts_with('.'))
        }
    };
    (!kind.installed.iter().any(|what| has(what))).then(|| {
        let with = kind.with;
        format!(
            "`{below}{manifest}`: nothing is installed or built here; what it needs must be on the host, or in what is deployed ({with})"
        )
    })
}

/// Whether a manifest exists and names any dependency.
fn needs_something(root: &Path, name: &str) -> bool {
    let Some(text) = read(&root.join(name)) else {
        return false;
    };
    let text = text.trim_start_matches('\u{feff}');
    match name {
        "package.json" => serde_json::from_str::<serde_json::Value>(text).is_ok_and(|package| {
            let names = |what: &str| {
                let needed = package[what].as_object();
                needed.is_some_and(|needed| !needed.is_empty())
            };
            // Programs that are started so usually come with the dependencies.
            names("dependencies")
                || (names("devDependencies") && package["scripts"]["start"].is_string())
        }),
        "pyproject.toml" => DeTable::parse(text).is_ok_and(|project| {
            let project = project.get_ref();
            let listed = value(project, &["project", "dependencies"]);
            let poetry = value(project, &["tool", "poetry", "dependencies"]);
            matches!(listed, Some(DeValue::Array(listed)) if !listed.is_empty())
                || matches!(poetry, Some(DeValue::Table(poetry))
                    if poetry.keys().any(|name| name.get_ref() != "python"))
        }),
        "setup.py" | "setup.cfg" => text.contains("install_requires"),
        _ if name.ends_with(".txt") => {
            let mut lines = text.lines().map(str::trim);
            lines.any(|line| !line.is_empty() && !line.starts_with('#'))
        }
        _ => !name.starts_with("requirements/"),
    }
}

/// The value of a TOML table under a path of keys.
fn value<'t, 'i>(table: &'t DeTable<'i>, keys: &[&str]) -> Option<&'t DeValue<'i>> {
    let (first, rest) = keys.split_first()?;
    let found = table.get(*first)?.get_ref();
    match (found, rest) {
        (_, []) => Some(found),
        (DeValue::Table(table), _) => value(table, rest),
        _ => None,
    }
}

fn read(path: &Path) -> Option<String> {
    // A symlink might lead anywhere, and opening a pipe would wait for a writer.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = File::options().read(true).custom_flags(flags).open(path);
    let file = file.ok().filter(|file| {
        let metadata = file.metadata();
        metadata.is_ok_and(|metadata| metadata.is_file())
    })?;
    let mut text = Vec::new();
    file.take(MOST).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    /// What is said of a folder with these files.
    fn told(files: &[(&str, &str)]) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        }
        let mut paths = BTreeSet::new();
        for (name, _) in files {
            paths.extend(Path::new(name).ancestors().filter_map(Path::to_str));
        }
        let paths = paths.iter().filter(|path| !path.is_empty());
        uninstalled(root.path(), paths.map(|path| path.as_bytes()))
    }

    #[test]
    fn what_is_needed_and_not_there_is_named() {
        for (manifest, text, named) in [
            ("requirements.txt", "flask\n", true),
            ("requirements.txt", "# none\n\n", false),
            ("requirements/prod.txt", "flask\n", true),
            ("requirements/README", "flask\n", false),
            ("setup.py", "setup(install_requires=['flask'])", true),
            ("setup.py", "setup()", false),
            (
                "pyproject.toml",
                "[project]\ndependencies = [\n\"a\",\n]\n",
                true,
            ),
            ("pyproject.toml", "[project]\ndependencies = []\n", false),
            ("pyproject.toml", "[tool.black]\n", false),
            (
                "pyproject.toml",
                "[tool.poetry.dependencies]\npython = \"3\"\na = \"1\"\n",
                true,
            ),
            (
                "pyproject.toml",
                "[tool.poetry.dependencies]\npython = \"3\"\n",
                false,
            ),
            (
                "package.json",
                "{\"dependencies\": {\"express\": \"5\"}}",
                true,
            ),
            (
                "package.json",
                "{\"devDependencies\": {\"x\": \"5\"}}",
                false,
            ),
            (
                "package.json",
                "{\"devDependencies\": {\"x\": \"5\"}, \"scripts\": {\"start\": \"x\"}}",
                true,
            ),
            ("package.json", "no json", false),
            ("Gemfile", "gem 'puma'\n", true),
            ("gems.rb", "gem 'puma'\n", true),
            ("composer.json", "{}", true),
            ("go.mod", "module x\n", true),
            ("Cargo.toml", "", true),
            ("README.md", "", false),
        ] {
            let told = told(&[(manifest, text)]);
            assert_eq!(told.len(), usize::from(named), "{manifest}: {told:?}");
            let about = format!("`{manifest}`: nothing is installed");
            assert!(told.iter().all(|line| line.starts_with(&about)), "{told:?}");
        }
    }

    #[test]
    fn what_is_installed_in_the_slug_is_no_news() {
        let npm = "{\"dependencies\": {\"express\": \"5\"}}";
        for (manifest, text, there, named) in [
            ("requirements.txt", "x", "env/pyvenv.cfg", false),
            (
                "requirements.txt",
                "x",
                "vendor/x-1.0.dist-info/METADATA",
                false,
            ),
            ("requirements.txt", "x", "lib/x.py", true),
            ("package.json", npm, "node_modules/express/index.js", false),
            ("package.json", npm, "node_modules/.package-lock.json", true),
            ("package.json", npm, ".pnp.cjs", false),
            ("Gemfile", "x", "vendor/bundle/ruby", false),
            ("go.mod", "x", "bin/server", false),
            ("go.mod", "x", "server", false),
            ("Cargo.toml", "x", "target/release/x", false),
        ] {
            let told = told(&[(manifest, text), (there, "#!")]);
            assert_eq!(
                told.len(),
                usize::from(named),
                "{manifest}, {there}: {told:?}"
            );
        }
    }

    #[test]
    fn a_folder_that_a_command_goes_to_has_its_own() {
        let procfile = ("Procfile", "web: cd ./api && ./serve\n");
        let manifest = ("api/requirements.txt", "flask");
        let named = told(&[procfile, manifest]);
        assert!(
            named[0].starts_with("`api/requirements.txt`: "),
            "{named:?}"
        );
        let installed = ("api/.venv/pyvenv.cfg", "");
        assert_eq!(told(&[procfile, manifest, installed]), [""; 0]);
        assert_eq!(told(&[("Procfile", "web: ./serve\n"), manifest]), [""; 0]);
    }
}
