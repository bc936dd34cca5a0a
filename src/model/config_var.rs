//! Config vars: the rules for their names, values and number.
//!
//! Heroku's rule for a name is `^\w+$`. dyno takes the names that a shell can export, which is the rule in ASCII and
//! without a leading digit: an app could not read any other. Three names are not for config: `DYNO`, `PORT` and
//! `DYNO_ID` differ from dyno to dyno, and a value fixed for all of them breaks an app in ways that are hard to see.
//! Heroku accepts them and lets the app break. A single one-off may still be given a port with `-e PORT=…`.
//!
//! Called by the command line, the API and the store.

use std::collections::BTreeMap;

use crate::error::{UserError, shown};

/// The whole config of an app: names and values.
pub type Config = BTreeMap<String, String>;

/// A change of config: a value sets a variable, None removes it.
pub type ConfigChange = BTreeMap<String, Option<String>>;

/// The longest name in bytes.
pub const MAX_NAME_BYTES: usize = 256;

/// All names and values of one app together, in bytes (Heroku's 64 kB).
pub const MAX_CONFIG_BYTES: usize = 64 * 1024;

/// How many characters of an invalid name are shown.
const SHOWN: usize = 60;

/// Variables that each dyno gets from the server, so that they cannot be config vars.
const PER_DYNO: [&str; 3] = ["DYNO", "DYNO_ID", "PORT"];

/// Whether a shell can export a variable of this name.
pub fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Checks the name of a variable in the environment of one dyno (`-e`).
///
/// # Errors
/// When a shell cannot export it, or it is one that identifies the dyno.
pub fn check_env_name(name: &str) -> Result<(), UserError> {
    check_name(name)?;
    if name == "DYNO" || name == "DYNO_ID" {
        return Err(
            UserError::new(format!("`{name}` cannot be set")).hint("it tells which dyno this is")
        );
    }
    Ok(())
}

/// Applies `change` to `config`.
///
/// # Errors
/// When a name, a value or the sum of all breaks a bound. Any name can be removed.
pub fn apply(config: &Config, change: &ConfigChange) -> Result<Config, UserError> {
    let mut changed = config.clone();
    for (name, value) in change {
        let Some(value) = value else {
            changed.remove(name);
            continue;
        };
        check_name(name)?;
        if PER_DYNO.contains(&name.as_str()) {
            return Err(
                UserError::new(format!("`{name}` cannot be a config var")).hint(
                    "each dyno gets its own; for a single run there is `dyno run -e PORT=5000 …`",
                ),
            );
        }
        check_value(name, value)?;
        changed.insert(name.clone(), value.clone());
    }
    check_total("config vars", changed.iter())?;
    Ok(changed)
}

/// Checks the variables given to one dyno (`-e`, or `env` in a request).
///
/// # Errors
/// As for config, but `PORT` is allowed.
pub fn check_env(env: &BTreeMap<String, String>) -> Result<(), UserError> {
    for (name, value) in env {
        check_env_name(name)?;
        check_value(name, value)?;
    }
    check_total("variables", env.iter())
}

fn check_name(name: &str) -> Result<(), UserError> {
    if name.len() > MAX_NAME_BYTES {
        let start = shown(name.as_bytes(), SHOWN);
        return Err(UserError::new(format!("the name `{start}` is too long"))
            .hint(format!("a name has at most {MAX_NAME_BYTES} bytes")));
    }
    if is_name(name) {
        return Ok(());
    }
    let name = shown(name.as_bytes(), SHOWN);
    Err(
        UserError::new(format!("`{name}` cannot be the name of a variable"))
            .hint("letters, digits and _ make a name, and it does not begin with a digit"),
    )
}

fn check_value(name: &str, value: &str) -> Result<(), UserError> {
    if value.contains('\0') {
        return Err(
            UserError::new(format!("the value of `{name}` contains a NUL byte"))
                .hint("no environment can hold that; base64 can"),
        );
    }
    Ok(())
}

fn check_total<'a>(
    what: &str,
    vars: impl Iterator<Item = (&'a String, &'a String)>,
) -> Result<(), UserError> {
    let total: usize = vars.map(|(name, value)| name.len() + value.len()).sum();
    if total <= MAX_CONFIG_BYTES {
        return Ok(());
    }
    Err(
        UserError::new(format!("the {what} would take {total} bytes")).hint(format!(
            "names and values together have room for {MAX_CONFIG_BYTES}; big values belong in files"
        )),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> ConfigChange {
        ConfigChange::from([(name.into(), Some(value.into()))])
    }

    #[test]
    fn a_name_is_what_a_shell_can_export() {
        for good in ["A", "_", "DATABASE_URL", "lower", "A1", "LD_LIBRARY_PATH"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "1A", "A-B", "A B", "A.B", "É", "A=", "A\n"] {
            assert!(!is_name(bad), "{bad}");
            assert!(apply(&Config::new(), &set(bad, "x")).is_err());
        }
    }

    #[test]
    fn what_differs_from_dyno_to_dyno_is_not_config() {
        for name in PER_DYNO {
            assert!(apply(&Config::new(), &set(name, "1")).is_err(), "{name}");
        }
        assert!(check_env(&BTreeMap::from([("PORT".into(), "5000".into())])).is_ok());
        assert!(check_env(&BTreeMap::from([("DYNO".into(), "web.1".into())])).is_err());
    }

    #[test]
    fn a_change_sets_and_removes() {
        let config = Config::from([
            ("A".into(), "1".into()),
            ("1B".into(), "left by an importer".into()),
        ]);
        let change = ConfigChange::from([("1B".into(), None), ("C".into(), Some("a\nb".into()))]);
        let changed = apply(&config, &change).unwrap();
        assert_eq!(
            changed,
            Config::from([("A".into(), "1".into()), ("C".into(), "a\nb".into())])
        );
    }

    #[test]
    fn what_is_no_name_is_shown_as_one_short_line() {
        let error = check_env_name("\u{1b}[2Ja\nb").unwrap_err();
        assert_eq!(
            error.message,
            "`\u{fffd}[2Ja\u{fffd}b` cannot be the name of a variable"
        );
        let error = check_env_name(&"\u{1b}".repeat(1000)).unwrap_err();
        assert!(error.message.chars().count() < 100 && !error.message.contains('\u{1b}'));
    }

    #[test]
    fn bounds_hold() {
        let full = "x".repeat(MAX_CONFIG_BYTES - 1);
        assert!(apply(&Config::new(), &set("A", &full)).is_ok());
        assert!(apply(&Config::new(), &set("AB", &full)).is_err());
        assert!(apply(&Config::new(), &set("A", "nul\0")).is_err());
        assert!(apply(&Config::new(), &set(&"A".repeat(257), "x")).is_err());
        assert!(apply(&Config::new(), &set(&"A".repeat(256), "x")).is_ok());
    }
}
