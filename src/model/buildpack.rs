//! Which buildpacks a source is for, and what they say, by the Buildpack API: the YAML that `bin/release` prints.
//!
//! Buildpacks print little YAML, and always the same: maps in blocks, with names and commands that may be quoted. That is what is
//! read here; anything else is an error. A whole reader of YAML would cost each supervisor memory, as they are all one program.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod address;

use crate::error::{UserError, shown};
use crate::model::procfile;
use crate::model::release::ProcessTypes;

/// A buildpack of this program's own.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// Files at the root of a source that it may be for. Whether it is, its `bin/detect` says.
    pub signs: &'static [&'static str],
    /// What it makes anew in the source, so that nobody need send it.
    pub makes: &'static [&'static str],
    /// Whether it makes a virtual environment of Python, which people have by many names, and which is good for no other place.
    pub makes_environments: bool,
}

/// The name of the one for sites of files alone.
const STATIC: &str = "static";

/// All of them, in the order in which Heroku looks.
pub const KINDS: &[Kind] = &[
    Kind {
        name: "ruby",
        signs: &["Gemfile"],
        makes: &["vendor/bundle"],
        makes_environments: false,
    },
    Kind {
        name: "nodejs",
        signs: &["package.json"],
        makes: &["node_modules"],
        makes_environments: false,
    },
    Kind {
        name: "python",
        signs: &[
            "requirements.txt",
            "uv.lock",
            "pyproject.toml",
            "Pipfile",
            "setup.py",
        ],
        makes: &[".venv"],
        makes_environments: true,
    },
    Kind {
        name: "php",
        signs: &["composer.json", "index.php"],
        makes: &[],
        makes_environments: false,
    },
    Kind {
        name: "go",
        signs: &["go.mod"],
        makes: &[],
        makes_environments: false,
    },
    Kind {
        name: "rust",
        signs: &["Cargo.toml"],
        makes: &["target"],
        makes_environments: false,
    },
    Kind {
        name: STATIC,
        signs: &["static.json", "index.html"],
        makes: &[],
        makes_environments: false,
    },
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

/// The buildpacks that may be for a source that has these files at its root, the likeliest first.
///
/// # Errors
/// When there is a manifest that none is for: what it names would be missing without a word.
pub fn candidates(has: impl Fn(&str) -> bool) -> Result<Vec<&'static Kind>, UserError> {
    // Files with a Procfile are served by what that names.
    let is_meant = |kind: &Kind| kind.name != STATIC || !has("Procfile");
    let meant = |kind: &&Kind| kind.signs.iter().any(|sign| has(sign)) && is_meant(kind);
    let kinds: Vec<_> = KINDS.iter().filter(meant).collect();
    let unknown = UNKNOWN.iter().find(|(manifest, _)| has(manifest));
    match unknown {
        Some((manifest, language)) if kinds.is_empty() => {
            let why = format!("nothing here builds {language}, which `{manifest}` is of");
            Err(UserError::new(why).hint(
                "build it yourself and deploy what runs: `dyno builder none` takes the files as they are",
            ))
        }
        _ => Ok(kinds),
    }
}

/// The key of the process types that an app has by default.
const TYPES: &str = "default_process_types";

/// The default process types of a buildpack, from what its `bin/release` has printed. Nothing, and `{}`, are none; other keys are
/// passed over.
///
/// # Errors
/// A line is none of that kind, or has a name or a command that a Procfile could not have.
pub fn default_types(yaml: &str) -> Result<ProcessTypes, UserError> {
    let (mut types, mut is_within) = (ProcessTypes::new(), false);
    for line in yaml.lines() {
        let line = line.strip_prefix("---").unwrap_or(line);
        let text = line.trim();
        if text.is_empty() || text.starts_with('#') || text == "{}" {
            continue;
        }
        let is_below = line.starts_with([' ', '\t', '-']);
        if is_below && !is_within {
            continue;
        }
        let bad = || {
            let line = shown(text.as_bytes(), 100);
            UserError::new(format!(
                "the buildpack's bin/release says what cannot be read: `{line}`"
            ))
            .hint("it prints YAML: `default_process_types:`, and below it `name: command`")
        };
        let (key, value) = entry(text).ok_or_else(bad)?;
        if !is_below {
            is_within = key == TYPES;
            if is_within && !matches!(value.as_str(), "" | "{}" | "~" | "null") {
                return Err(bad());
            }
            continue;
        }
        // As the Procfile's own lines are checked.
        let parsed = procfile::parse(format!("{key}: {value}").as_bytes());
        for it in parsed.map_err(|_| bad())? {
            types.insert(it.name, it.command);
        }
    }
    Ok(types)
}

/// The key and the value of `key: value`, both without quotes.
fn entry(text: &str) -> Option<(String, String)> {
    let (key, value) = match text.chars().next()? {
        quote @ ('"' | '\'') => {
            let (key, rest) = quoted(text, quote)?;
            (key, rest.trim_start().strip_prefix(':')?)
        }
        _ => {
            let (key, value) = text.split_once(':')?;
            (key.trim_end().to_owned(), value)
        }
    };
    let is_apart = value.is_empty() || value.starts_with([' ', '\t']);
    let value = value.trim();
    let value = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let (value, rest) = quoted(value, quote)?;
            rest.trim().is_empty().then_some(value)?
        }
        // Anchors, blocks of text and the like; a list is of another key.
        Some('&' | '*' | '|' | '>' | '!' | '%' | '@' | '`') => return None,
        _ => value.to_owned(),
    };
    is_apart.then_some((key, value))
}

/// The text in quotes at the beginning, and what comes after it. In double quotes a backslash is before a quote or a backslash; in
/// single ones a quote is written twice.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut found = String::new();
    let mut letters = text.char_indices().skip(1).peekable();
    while let Some((at, letter)) = letters.next() {
        let next = letters.peek().map(|(_, next)| *next);
        match letter {
            '\\' if quote == '"' => match next? {
                it @ ('"' | '\\') => {
                    found.push(it);
                    letters.next();
                }
                _ => return None,
            },
            '\'' if quote == '\'' && next == Some(quote) => {
                found.push(quote);
                letters.next();
            }
            _ if letter == quote => return Some((found, text.get(at.saturating_add(1)..)?)),
            _ => found.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_may_be_for_several_and_a_manifest_for_none_is_no_source() {
        let names = |files: &[&str]| -> Vec<&str> {
            let kinds = candidates(|name| files.contains(&name)).unwrap();
            kinds.iter().map(|kind| kind.name).collect()
        };
        assert!(names(&[]).is_empty());
        assert_eq!(
            names(&["requirements.txt", "package.json"]),
            ["nodejs", "python"]
        );
        assert_eq!(names(&["package.json", "mix.exs"]), ["nodejs"]);
        assert_eq!(names(&["index.html"]), ["static"]);
        assert!(names(&["index.html", "Procfile"]).is_empty());
        let error = candidates(|name| name == "mix.exs").unwrap_err();
        assert!(error.message.contains("Elixir"), "{error}");
    }

    #[test]
    fn process_types_are_read_from_what_buildpacks_print() {
        let types = |yaml: &str| -> Vec<(String, String)> {
            let types = default_types(yaml).unwrap();
            let mut types: Vec<_> = types
                .iter()
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
                .collect();
            types.sort();
            types
        };
        for none in [
            "",
            "--- {}\n",
            "{}",
            "---\naddons: []\n",
            "---\nconfig_vars: {}\ndefault_process_types:\n",
            "---\naddons:\n- heroku-postgresql:hobby\n  - b\ndefault_process_types: {}\n",
        ] {
            assert!(types(none).is_empty(), "{none}");
        }
        let yaml = "---\naddons:\n- heroku-postgresql\ndefault_process_types:\n  web: \"bin/a -p $PORT\"\n  \
                    rake: bundle exec rake\n  'it': 'echo ''a: b'''\nconfig_vars:\n  A: b\n";
        assert_eq!(
            types(yaml),
            [
                ("it", "echo 'a: b'"),
                ("rake", "bundle exec rake"),
                ("web", "bin/a -p $PORT")
            ]
            .map(|(name, command)| (name.to_owned(), command.to_owned()))
        );
        for bad in [
            "default_process_types: [web]",
            "default_process_types:\n  a b: c\n",
            "default_process_types:\n  web: |\n    a\n",
            "default_process_types:\n  web: \"a\n",
            "default_process_types:\n  web:a\n",
        ] {
            assert!(default_types(bad).is_err(), "{bad}");
        }
    }
}
