//! The folders that belong to a program: well-known ones in a home folder, and those beside the `bin` of an installation.
//!
//! Never more than that. Many programs keep their configuration and the user's tokens in the folder above their `bin`
//! (`~/.fly`, `~/.pulumi`, `~/.docker`), so from unknown folders only the usual names of an installation are taken.

use std::path::{Component, Path, PathBuf};

use crate::sandbox::stack::is_shown;

/// A well-known folder of a home.
pub(super) struct Known {
    /// The folder's name in the home.
    pub(super) name: &'static str,
    /// The folders to mount, relative to the home; empty for the folder as a whole. No more than needed: `.cargo`,
    /// `.rye` and `.cabal` as a whole would show credentials.
    pub(super) folders: &'static [&'static str],
    /// Variables, and the folder in the home that each names.
    pub(super) env: &'static [(&'static str, &'static str)],
}

/// The well-known folders.
pub(super) const KNOWN: &[Known] = &[
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
            ".local/share/uv/python",
            ".local/share/uv/tools",
            ".local/share/fnm",
        ],
        env: &[("MISE_DATA_DIR", ".local/share/mise")],
    },
    Known {
        name: ".rye",
        folders: &[
            ".rye/shims",
            ".rye/py",
            ".rye/self",
            ".rye/tools",
            ".rye/uv",
        ],
        env: &[("RYE_HOME", ".rye")],
    },
    Known {
        name: ".cabal",
        folders: &[".cabal/bin"],
        env: &[],
    },
    Known {
        name: ".crenv",
        folders: &[],
        env: &[("CRENV_ROOT", ".crenv")],
    },
    Known {
        name: ".swiftenv",
        folders: &[],
        env: &[("SWIFTENV_ROOT", ".swiftenv")],
    },
    Known {
        name: ".scalaenv",
        folders: &[],
        env: &[("SCALAENV_ROOT", ".scalaenv")],
    },
    Known {
        name: ".luaenv",
        folders: &[],
        env: &[("LUAENV_ROOT", ".luaenv")],
    },
    Known {
        name: ".ghcup",
        folders: &[],
        env: &[],
    },
    Known {
        name: ".krew",
        folders: &[],
        env: &[("KREW_ROOT", ".krew")],
    },
    Known {
        name: ".elan",
        folders: &[],
        env: &[("ELAN_HOME", ".elan")],
    },
    Known {
        name: ".proto",
        folders: &[],
        env: &[("PROTO_HOME", ".proto")],
    },
    Known {
        name: ".phpbrew",
        folders: &[],
        env: &[("PHPBREW_ROOT", ".phpbrew")],
    },
    Known {
        name: ".pixi",
        folders: &[".pixi/bin", ".pixi/envs"],
        env: &[],
    },
];

/// Folders that an installation has beside `bin`.
const BESIDE: &[&str] = &[
    "bin", "sbin", "libexec", "shims", "lib", "lib32", "lib64", "libs", "jars", "include", "share",
    "man",
];

/// More folders and files of special installations, each with the file by which the kind is recognised.
const KITS: &[(&str, &[&str])] = &[
    ("pyvenv.cfg", &["pyvenv.cfg"]),
    (
        "conda-meta",
        &[
            "conda-meta",
            "condabin",
            "envs",
            "etc",
            "pkgs",
            "plugins",
            "ssl",
            "x86_64-conda-linux-gnu",
        ],
    ),
    // Go.
    ("src/runtime", &["VERSION", "go.env", "pkg", "src"]),
    // Java, of today and of old.
    ("lib/modules", &["conf", "jmods", "legal", "release"]),
    ("jre/lib", &["jre", "release"]),
    ("boot/", &["boot", "conf/logging"]),
    // Homebrew.
    ("Cellar", &["Cellar", "etc", "opt"]),
    // Ruby's gems.
    (
        "specifications",
        &[
            "build_info",
            "extensions",
            "gems",
            "plugins",
            "specifications",
        ],
    ),
    ("lib/googlecloudsdk", &[".install", "VERSION", "platform"]),
    ("packages/flutter", &["packages", "version"]),
];

/// The folders that programs in `entry` need: `entry` itself, and for a `bin` folder those beside it, unless the folder
/// above has at most `deep` components, as a home has.
pub(super) fn with_neighbours(entry: &Path, deep: usize) -> Vec<PathBuf> {
    if let Some(modules) = node_modules(entry) {
        return vec![modules];
    }
    let Some(prefix) = entry
        .parent()
        .filter(|prefix| is_of_programs(entry) && prefix.components().count() > deep.max(2))
    else {
        return vec![entry.to_owned()];
    };
    // Composer's packages.
    if prefix.join("autoload.php").is_file() && prefix.join("composer").is_dir() {
        return vec![prefix.to_owned()];
    }
    let kits = KITS.iter().filter(|(mark, _)| prefix.join(mark).exists());
    let names = kits.flat_map(|(_, names)| names.iter()).chain(BESIDE);
    let beside = names
        .map(|name| prefix.join(name))
        .filter(|path| path != entry && is_there(path));
    std::iter::once(entry.to_owned()).chain(beside).collect()
}

/// The outermost `node_modules` in a path, since packages in it need each other.
fn node_modules(entry: &Path) -> Option<PathBuf> {
    let parts: Vec<_> = entry.components().collect();
    let is_one = |part: &Component<'_>| part.as_os_str() == "node_modules";
    let at = parts.iter().position(is_one)?;
    Some(parts[..=at].iter().collect())
}

/// Whether a folder has programs, by its name.
pub(super) fn is_of_programs(folder: &Path) -> bool {
    ["bin", "sbin", "libexec", "shims"]
        .iter()
        .any(|name| folder.ends_with(name))
}

/// Whether a folder or file exists, itself or as a link to a sibling or into the system.
fn is_there(path: &Path) -> bool {
    let Ok(real) = path.canonicalize() else {
        return false;
    };
    let beside = path.parent().and_then(|parent| parent.canonicalize().ok());
    real.starts_with(beside.unwrap_or_default()) || is_shown(&real)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_unknown_folder_only_what_an_installation_has_is_taken() {
        let home = tempfile::tempdir().unwrap();
        let at = |path: &str| home.path().join(path);
        let deep = home.path().components().count();
        let make = |path: &str| {
            std::fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            std::fs::write(at(path), "").unwrap();
        };
        for file in [
            // Each with what must not be taken.
            ".fly/bin/fly",
            ".fly/config.yml",
            ".docker/bin/x",
            ".docker/config.json",
            ".docker/run/x",
            "tool/bin/x",
            "tool/lib/x",
            "tool/conf/password",
            "venv/bin/python",
            "venv/lib/x",
            "venv/pyvenv.cfg",
            "venv/.env",
            "go/bin/go",
            "go/src/runtime/x",
            "go/VERSION",
            "go/.netrc",
            "jdk/bin/java",
            "jdk/lib/modules",
            "jdk/conf/x",
            "global/node_modules/a/bin/a",
            "global/node_modules/b/x",
            "global/.npmrc",
            "vendor/bin/x",
            "vendor/autoload.php",
            "vendor/composer/x",
        ] {
            make(file);
        }
        std::os::unix::fs::symlink(at(".docker"), at("tool/share")).unwrap();
        for (entry, taken) in [
            (".fly/bin", &[".fly/bin"][..]),
            (".docker/bin", &[".docker/bin"]),
            ("tool/bin", &["tool/bin", "tool/lib"]),
            ("venv/bin", &["venv/bin", "venv/pyvenv.cfg", "venv/lib"]),
            ("go/bin", &["go/bin", "go/VERSION", "go/src"]),
            ("jdk/bin", &["jdk/bin", "jdk/conf", "jdk/lib"]),
            ("global/node_modules/a/bin", &["global/node_modules"]),
            ("vendor/bin", &["vendor"]),
            ("bin", &["bin"]),
        ] {
            let found = with_neighbours(&at(entry), deep);
            let wanted: Vec<_> = taken.iter().map(|path| at(path)).collect();
            assert_eq!(found, wanted, "{entry}");
        }
    }
}
