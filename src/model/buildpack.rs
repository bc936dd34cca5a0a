//! What buildpacks say, by the Buildpack API: the YAML that `bin/release` prints.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::UserError;
use crate::model::procfile;
use crate::model::release::ProcessTypes;

/// What `bin/release` says; other keys are passed over.
#[derive(Debug, Default, Deserialize)]
struct Release {
    #[serde(default)]
    default_process_types: Option<BTreeMap<String, String>>,
}

/// The default process types of a buildpack, from what its `bin/release` has printed. Nothing, and `{}`, are none.
///
/// # Errors
/// It is no YAML of that kind, or has a name or a command that a Procfile could not have.
pub fn default_types(yaml: &str) -> Result<ProcessTypes, UserError> {
    let bad = |why: String| {
        UserError::new(format!(
            "the buildpack's bin/release says what cannot be read: {why}"
        ))
        .hint("it prints YAML: `default_process_types:`, and below it `name: command`")
    };
    let release: Option<Release> =
        serde_saphyr::from_str(yaml).map_err(|error| bad(error.to_string()))?;
    let mut types = ProcessTypes::new();
    let named = release.and_then(|it| it.default_process_types);
    for (name, command) in named.unwrap_or_default() {
        // As the Procfile's own lines are checked.
        let line = format!("{name}: {command}");
        let parsed = procfile::parse(line.as_bytes()).map_err(|error| bad(error.to_string()))?;
        for it in parsed {
            types.insert(it.name, it.command);
        }
    }
    Ok(types)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_types_are_read_from_what_buildpacks_print() {
        let types = |yaml: &str| -> Vec<(String, String)> {
            let types = default_types(yaml).unwrap();
            let types = types.iter();
            types.map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
        };
        for none in [
            "",
            "--- {}\n",
            "{}",
            "---\naddons: []\n",
            "---\nconfig_vars: {}\ndefault_process_types:\n",
        ] {
            assert!(types(none).is_empty(), "{none}");
        }
        assert_eq!(
            types(
                "---\naddons:\n- heroku-postgresql\ndefault_process_types:\n  web: \"bin/a -p $PORT\"\n  rake: bundle exec rake\n"
            ),
            [
                ("rake".to_owned(), "bundle exec rake".to_owned()),
                ("web".to_owned(), "bin/a -p $PORT".to_owned())
            ]
        );
        for bad in [
            "- web",
            "default_process_types: [web]",
            "default_process_types:\n  'a b': c\n",
        ] {
            assert!(default_types(bad).is_err(), "{bad}");
        }
    }
}
