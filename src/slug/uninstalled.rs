//! What an app's folder says it needs, and does not have: nothing installs it here.
//!
//! Other platforms run a package manager when they build. Here the host is the stack, so what is missing is noticed when a
//! dyno starts, unless a deploy says so. Only files at the root are looked at, and only for whether they are there.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// How much of a manifest is read, in bytes.
const MOST: u64 = 1 << 20;

/// How many entries of the root are looked at.
const GLANCE: usize = 1000;

/// A kind of app that a package manager is for.
struct Kind {
    /// What says what it needs; the first one that is there is named.
    manifests: &'static [&'static str],
    /// One of these is there once it is installed in the folder.
    installed: &'static [&'static str],
    /// What installs it there.
    with: &'static str,
}

/// A folder with this in it is a virtual environment of Python.
const OF_PYTHON: &str = "pyvenv.cfg";

/// Stands for any program in the root or in `bin`.
const PROGRAM: &str = "*";

const KINDS: &[Kind] = &[
    Kind {
        manifests: &[
            "requirements.txt",
            "Pipfile",
            "poetry.lock",
            "uv.lock",
            "pyproject.toml",
        ],
        installed: &[OF_PYTHON],
        with: "`python3 -m venv .venv` and its pip",
    },
    Kind {
        manifests: &["package.json"],
        installed: &["node_modules", ".pnp.cjs"],
        with: "`npm ci`",
    },
    Kind {
        manifests: &["Gemfile"],
        installed: &["vendor/bundle"],
        with: "`bundle config set --local path vendor/bundle` and `bundle install`",
    },
    Kind {
        manifests: &["composer.json"],
        installed: &["vendor/autoload.php"],
        with: "`composer install`",
    },
    Kind {
        manifests: &["go.mod"],
        installed: &[PROGRAM],
        with: "`go build -o bin/ ./...`",
    },
    Kind {
        manifests: &["Cargo.toml"],
        installed: &[PROGRAM, "target/release"],
        with: "`cargo build --release`",
    },
    Kind {
        manifests: &["mix.exs"],
        installed: &["_build", "deps"],
        with: "`mix deps.get` and `mix release`",
    },
    Kind {
        manifests: &["pom.xml"],
        installed: &["target"],
        with: "`mvn package`",
    },
    Kind {
        manifests: &["build.gradle", "build.gradle.kts"],
        installed: &["build"],
        with: "`gradle build`",
    },
    Kind {
        manifests: &["build.sbt", "project.clj"],
        installed: &["target"],
        with: "its build tool",
    },
];

/// A line for each kind of dependencies that the folder `root` names and does not hold.
pub fn uninstalled(root: &Path) -> Vec<String> {
    let missing = KINDS.iter().filter_map(|kind| {
        let mut manifests = kind.manifests.iter();
        let manifest = manifests.find(|name| needs_something(root, name))?;
        let has = |what: &str| match what {
            OF_PYTHON => has_environment(root),
            PROGRAM => has_program(root) || has_program(&root.join("bin")),
            path => fs::exists(root.join(path)).unwrap_or(true),
        };
        (!kind.installed.iter().any(|what| has(what))).then(|| {
            let with = kind.with;
            format!(
                "`{manifest}`: nothing is installed or built here; what it needs must be on the host, or in what is deployed ({with})"
            )
        })
    });
    missing.collect()
}

/// Whether a manifest is there and names anything.
fn needs_something(root: &Path, name: &str) -> bool {
    let Some(text) = read(&root.join(name)) else {
        return false;
    };
    let mut lines = text.lines().map(str::trim);
    match name {
        "package.json" => {
            serde_json::from_str::<serde_json::Value>(text.trim_start_matches('\u{feff}'))
                .is_ok_and(|package| {
                    let needed = package["dependencies"].as_object();
                    needed.is_some_and(|needed| !needed.is_empty())
                })
        }
        "requirements.txt" => lines.any(|line| !line.is_empty() && !line.starts_with('#')),
        "pyproject.toml" => lines.any(|line| {
            let key = line.split('=').next().unwrap_or_default().trim();
            key == "dependencies" && !line.replace(' ', "").ends_with("=[]")
        }),
        _ => true,
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

fn has_environment(root: &Path) -> bool {
    let entries = fs::read_dir(root).into_iter().flatten().take(GLANCE);
    let mut paths = entries.flatten().map(|entry| entry.path());
    paths.any(|path| path.join(OF_PYTHON).is_file())
}

fn has_program(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().take(GLANCE);
    entries.flatten().any(|entry| {
        let metadata = entry.metadata();
        metadata.is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn what_is_needed_and_not_there_is_named() {
        for (manifest, text, named) in [
            ("requirements.txt", "flask\n", true),
            ("requirements.txt", "# none\n\n", false),
            (
                "pyproject.toml",
                "[project]\ndependencies = [\"a\"]\n",
                true,
            ),
            ("pyproject.toml", "[project]\ndependencies = []\n", false),
            ("pyproject.toml", "[tool.black]\n", false),
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
            ("package.json", "no json", false),
            ("Gemfile", "gem 'puma'\n", true),
            ("composer.json", "{}", true),
            ("go.mod", "module x\n", true),
            ("Cargo.toml", "", true),
            ("README.md", "", false),
        ] {
            let root = tempfile::tempdir().unwrap();
            fs::write(root.path().join(manifest), text).unwrap();
            let told = uninstalled(root.path());
            assert_eq!(told.len(), usize::from(named), "{manifest}: {told:?}");
            let about = format!("`{manifest}`: nothing is installed");
            assert!(told.iter().all(|line| line.starts_with(&about)), "{told:?}");
        }
    }

    #[test]
    fn what_is_installed_in_the_folder_is_no_news() {
        for (manifest, there) in [
            ("requirements.txt", "env/pyvenv.cfg"),
            ("Gemfile", "vendor/bundle/ruby"),
            ("go.mod", "bin/server"),
            ("go.mod", "server"),
            ("Cargo.toml", "target/release/x"),
        ] {
            let root = tempfile::tempdir().unwrap();
            fs::write(root.path().join(manifest), "x").unwrap();
            let there = root.path().join(there);
            fs::create_dir_all(there.parent().unwrap()).unwrap();
            fs::write(&there, "").unwrap();
            fs::set_permissions(&there, Permissions::from_mode(0o755)).unwrap();
            assert_eq!(uninstalled(root.path()), [""; 0], "{manifest}");
        }
    }
}
