//! The buildpacks that are in this binary: scripts in `buildpacks/NAME/bin`, which a build's dyno runs.

use std::path::Path;

use crate::error::UserError;

/// What runs buildpacks in a build's dyno, in their order.
pub const RUN: &str = include_str!("../../../buildpacks/run");

/// A buildpack: see the [module](self).
#[derive(Debug)]
pub struct Pack {
    /// Its name.
    pub name: &'static str,
    /// Its files, by their paths in it.
    pub files: &'static [(&'static str, &'static str)],
    /// Files at the root of a source that it may be for. Whether it is, its `bin/detect` says.
    signs: &'static [&'static str],
}

macro_rules! pack {
    ($name:literal, $signs:expr) => {
        Pack {
            name: $name,
            files: &[
                (
                    "bin/detect",
                    include_str!(concat!("../../../buildpacks/", $name, "/bin/detect")),
                ),
                (
                    "bin/compile",
                    include_str!(concat!("../../../buildpacks/", $name, "/bin/compile")),
                ),
                (
                    "bin/release",
                    include_str!(concat!("../../../buildpacks/", $name, "/bin/release")),
                ),
            ],
            signs: $signs,
        }
    };
}

/// All of them, in the order in which Heroku looks.
pub const PACKS: &[Pack] = &[
    pack!("ruby", &["Gemfile"]),
    pack!("nodejs", &["package.json"]),
    pack!(
        "python",
        &[
            "requirements.txt",
            "uv.lock",
            "pyproject.toml",
            "Pipfile",
            "setup.py"
        ]
    ),
    pack!("php", &["composer.json", "index.php"]),
    pack!("go", &["go.mod"]),
    pack!("rust", &["Cargo.toml"]),
];

/// Manifests of which no buildpack here makes anything.
const UNKNOWN: &[(&str, &str)] = &[
    ("pom.xml", "Java (Maven)"),
    ("build.gradle", "Java (Gradle)"),
    ("build.gradle.kts", "Kotlin (Gradle)"),
    ("build.sbt", "Scala"),
    ("project.clj", "Clojure"),
    ("mix.exs", "Elixir"),
    ("Package.swift", "Swift"),
];

/// The buildpacks that may be for the source at `root`, the likeliest first.
///
/// # Errors
/// When there is a manifest that none is for: what it names would be missing without a word.
pub fn candidates(root: &Path) -> Result<Vec<&'static Pack>, UserError> {
    let there = |name: &str| root.join(name).symlink_metadata().is_ok();
    let meant = |pack: &&Pack| pack.signs.iter().any(|sign| there(sign));
    let packs: Vec<_> = PACKS.iter().filter(meant).collect();
    if let (true, Some((manifest, language))) =
        (packs.is_empty(), UNKNOWN.iter().find(|it| there(it.0)))
    {
        let why = format!("nothing here builds {language}, which `{manifest}` is of");
        return Err(UserError::new(why).hint(
            "build it yourself and push what runs: `dyno builder none` takes the files as they are",
        ));
    }
    Ok(packs)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_source_may_be_for_several_and_a_manifest_for_none_is_no_source() {
        let root = tempfile::tempdir().unwrap();
        let names = || -> Vec<&str> {
            let packs = candidates(root.path()).unwrap().into_iter();
            packs.map(|pack| pack.name).collect()
        };
        assert!(names().is_empty());
        for name in ["requirements.txt", "package.json"] {
            fs::write(root.path().join(name), "").unwrap();
        }
        assert_eq!(names(), ["nodejs", "python"]);
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join("mix.exs"), "").unwrap();
        let error = candidates(other.path()).unwrap_err();
        assert!(error.message.contains("Elixir"), "{error}");
    }
}
