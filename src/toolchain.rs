//! Toolchains under a home (pyenv, nvm, rbenv, cargo…): which of them a deploy records with its release.
//!
//! A dyno sees no home. But what the *deploying user's* `PATH` names there is part of what makes the app run on
//! this host, and so it is recorded and mounted read-only at the same path, with the variables that
//! tell the toolchain where it is (`HOME` is `/app` inside). What the server's own shell happened to
//! have plays no part. Called by deploys in the CLI; looks at folders, changes nothing.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use crate::release::{MAX_TOOLCHAIN_FOLDERS, Toolchains};

/// What a well-known folder of a home brings with it.
struct Known {
    /// The folder's name in the home.
    name: &'static str,
    /// What is mounted, relative to the home; empty for the folder as a whole. Never more than needed:
    /// `.cargo` as a whole would show credentials.
    folders: &'static [&'static str],
    /// Variables, and the folder in the home that each names.
    env: &'static [(&'static str, &'static str)],
}

const KNOWN: &[Known] = &[
    Known {
        name: ".pyenv",
        folders: &[],
        env: &[("PYENV_ROOT", ".pyenv")],
    },
    Known {
        name: ".rbenv",
        folders: &[],
        env: &[("RBENV_ROOT", ".rbenv")],
    },
    Known {
        name: ".nodenv",
        folders: &[],
        env: &[("NODENV_ROOT", ".nodenv")],
    },
    Known {
        name: ".goenv",
        folders: &[],
        env: &[("GOENV_ROOT", ".goenv")],
    },
    Known {
        name: ".jenv",
        folders: &[],
        env: &[("JENV_ROOT", ".jenv")],
    },
    Known {
        name: ".plenv",
        folders: &[],
        env: &[("PLENV_ROOT", ".plenv")],
    },
    Known {
        name: ".phpenv",
        folders: &[],
        env: &[("PHPENV_ROOT", ".phpenv")],
    },
    Known {
        name: ".nvm",
        folders: &[],
        env: &[("NVM_DIR", ".nvm")],
    },
    Known {
        name: ".rvm",
        folders: &[],
        env: &[("rvm_path", ".rvm")],
    },
    Known {
        name: ".asdf",
        folders: &[],
        env: &[("ASDF_DIR", ".asdf"), ("ASDF_DATA_DIR", ".asdf")],
    },
    Known {
        name: ".volta",
        folders: &[],
        env: &[("VOLTA_HOME", ".volta")],
    },
    Known {
        name: ".sdkman",
        folders: &[],
        env: &[("SDKMAN_DIR", ".sdkman")],
    },
    Known {
        name: ".dotnet",
        folders: &[],
        env: &[("DOTNET_ROOT", ".dotnet")],
    },
    Known {
        name: ".deno",
        folders: &[],
        env: &[],
    },
    Known {
        name: ".bun",
        folders: &[],
        env: &[],
    },
    Known {
        name: ".cargo",
        folders: &[".cargo/bin", ".rustup"],
        env: &[("RUSTUP_HOME", ".rustup")],
    },
    Known {
        name: ".local",
        folders: &[
            ".local/bin",
            ".local/lib",
            ".local/pipx",
            ".local/share/mise",
            ".local/share/pipx",
            ".local/share/uv",
            ".local/share/fnm",
        ],
        env: &[("MISE_DATA_DIR", ".local/share/mise")],
    },
];

/// The toolchains that the search path `path` names under `home`. What is beyond the bound on their number, which is
/// more than anybody has, is left out.
pub fn find(path: &str, home: &Path) -> Toolchains {
    let mut found = Toolchains::default();
    for entry in std::env::split_paths(path) {
        let Some(inside) = inside(home, &entry) else {
            continue;
        };
        let Some(text) = entry.to_str() else { continue };
        let full = found.path.len() == MAX_TOOLCHAIN_FOLDERS;
        if full || found.path.iter().any(|known| known == text) || !entry.is_dir() {
            continue;
        }
        let (folders, env) = needs(home, &inside);
        for folder in folders {
            let known = found.folders.iter().any(|known| folder.starts_with(known));
            if !known && folder.is_dir() && found.folders.len() < MAX_TOOLCHAIN_FOLDERS {
                found.folders.extend(folder.to_str().map(str::to_owned));
            }
        }
        for (name, folder) in env {
            if folder.is_dir() {
                found.env.extend(
                    folder
                        .to_str()
                        .map(|folder| (name.to_owned(), folder.to_owned())),
                );
            }
        }
        found.path.push(text.to_owned());
    }
    found
}

/// `entry` relative to `home`, if it is a folder below it and both are plain absolute paths.
fn inside(home: &Path, entry: &Path) -> Option<PathBuf> {
    let plain = |path: &Path| {
        path.is_absolute() && !path.components().any(|part| part == Component::ParentDir)
    };
    let inside = entry.strip_prefix(home).ok()?;
    let below = plain(home) && plain(entry) && home != Path::new("/");
    (below && inside.components().next().is_some()).then(|| inside.to_owned())
}

fn needs(home: &Path, inside: &Path) -> (Vec<PathBuf>, BTreeMap<&'static str, PathBuf>) {
    let first = inside.components().next().map(|part| part.as_os_str());
    if let Some(known) = KNOWN
        .iter()
        .find(|known| first == Some(known.name.as_ref()))
    {
        let folders = match known.folders {
            [] => vec![home.join(known.name)],
            folders => folders.iter().map(|folder| home.join(folder)).collect(),
        };
        return (
            folders,
            known
                .env
                .iter()
                .map(|(name, at)| (*name, home.join(at)))
                .collect(),
        );
    }
    // A `bin` folder's programs mostly need what lies beside it; but never the home itself.
    let folder = match inside.parent() {
        Some(parent) if inside.ends_with("bin") && parent != Path::new("") => parent,
        _ => inside,
    };
    (vec![home.join(folder)], BTreeMap::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(folders: &[&str]) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        for folder in folders {
            std::fs::create_dir_all(home.path().join(folder)).unwrap();
        }
        home
    }

    fn found(home: &Path, entries: &[&str]) -> Toolchains {
        let entries: Vec<_> = entries.iter().map(|entry| home.join(entry)).collect();
        let path = std::env::join_paths(entries)
            .unwrap()
            .into_string()
            .unwrap();
        find(&format!("/usr/bin:{path}:/bin"), home)
    }

    fn relative(home: &Path, paths: &[String]) -> Vec<String> {
        let relative = |path: &String| {
            Path::new(path)
                .strip_prefix(home)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        paths.iter().map(relative).collect()
    }

    #[test]
    fn what_the_path_names_under_the_home_is_taken_and_nothing_else() {
        let home = home(&[
            ".pyenv/shims",
            ".pyenv/bin",
            ".ssh",
            "bin",
            "venvs/a/bin",
            ".nvm",
        ]);
        let entries = [
            ".pyenv/shims",
            ".pyenv/bin",
            "bin",
            "venvs/a/bin",
            "gone/bin",
        ];
        let toolchains = found(home.path(), &entries);
        assert_eq!(relative(home.path(), &toolchains.path), &entries[..4]);
        assert_eq!(
            relative(home.path(), &toolchains.folders),
            [".pyenv", "bin", "venvs/a"]
        );
        let root = home.path().join(".pyenv").to_str().unwrap().to_owned();
        assert_eq!(
            toolchains.env,
            BTreeMap::from([("PYENV_ROOT".to_owned(), root)])
        );
    }

    #[test]
    fn credentials_beside_cargo_stay_out() {
        let home = home(&[".cargo/bin", ".cargo/registry", ".rustup"]);
        let toolchains = found(home.path(), &[".cargo/bin"]);
        assert_eq!(
            relative(home.path(), &toolchains.folders),
            [".cargo/bin", ".rustup"]
        );
    }

    #[test]
    fn neither_the_home_itself_nor_a_way_out_of_it_is_taken() {
        let home = home(&["a"]);
        assert!(found(home.path(), &["", "a/../../etc"]).is_empty());
        assert!(find("/usr/bin:relative:", home.path()).is_empty());
        assert!(find("/usr/bin", Path::new("/")).is_empty());
    }
}
