//! `config.toml` in the state folder: one `name = value` for each setting that is not to have its default.
//!
//! Only its text is handled here; `home` reads the file.

use toml::de::{DeTable, DeValue};

use super::{Setting, bad_value, nearest};
use crate::error::{UserError, shown};

/// The longest file, in bytes: far more than all settings with a page of comments each.
pub const LONGEST: usize = 64 * 1024;

/// How many characters of an invalid value are shown.
const SHOWN: usize = 60;

/// The settings file.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    /// Its path, for messages.
    pub path: String,
    /// Its contents.
    pub text: String,
}

impl ConfigFile {
    /// Its settings in the order of their names: each with its value, written as in the environment, and its line.
    ///
    /// # Errors
    /// When it is no valid TOML, or names an unknown setting.
    pub(super) fn entries(&self) -> Result<Vec<(&'static Setting, String, usize)>, UserError> {
        let table = DeTable::parse(&self.text).map_err(|error| {
            let line = error.span().map_or(1, |span| self.line(span.start));
            let reason: Vec<_> = error.message().lines().collect();
            UserError::new(format!("{}: {}", self.at(line), reason.join(", ")))
                .hint("each line is like `attach_timeout = \"30s\"`; text stands in quotes")
        })?;
        let mut entries = Vec::new();
        for (name, value) in table.get_ref() {
            let line = self.line(name.span().start);
            let name = name.get_ref();
            let setting = Setting::named(name).ok_or_else(|| self.unknown(name, line))?;
            let text = match value.get_ref() {
                DeValue::String(text) => text.to_string(),
                // Hexadecimal and the like are numbers, too.
                DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                    .map_or_else(|_| number.to_string(), |number| number.to_string()),
                DeValue::Float(number) => number.to_string(),
                DeValue::Boolean(_)
                | DeValue::Datetime(_)
                | DeValue::Array(_)
                | DeValue::Table(_) => {
                    let written = self.text.get(value.span()).unwrap_or_default();
                    return Err(self.bad(setting, &shown(written.as_bytes(), SHOWN), line));
                }
            };
            entries.push((setting, text, line));
        }
        Ok(entries)
    }

    /// The error for a value that is not valid for the setting.
    pub(super) fn bad(&self, setting: &Setting, text: &str, line: usize) -> UserError {
        let written = format!("{} = {}", setting.name, shown(text.as_bytes(), SHOWN));
        bad_value(setting, &format!("{}: ", self.at(line)), &written)
    }

    fn unknown(&self, name: &str, line: usize) -> UserError {
        let (place, shown) = (self.at(line), shown(name.as_bytes(), SHOWN));
        let error = UserError::new(format!("{place}: there is no setting `{shown}`"));
        error.hint(match nearest(name) {
            Some(setting) => format!("did you mean `{}`? `dyno settings` lists all", setting.name),
            None => "`dyno settings` lists all".to_owned(),
        })
    }

    fn at(&self, line: usize) -> String {
        format!("`{}` line {line}", self.path)
    }

    fn line(&self, offset: usize) -> usize {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }
}

#[cfg(test)]
mod tests {
    use crate::model::settings::{SettingSource, Sourced};

    use super::*;

    fn read(text: &str) -> Result<Sourced, UserError> {
        let file = ConfigFile {
            path: "/d/config.toml".into(),
            text: text.into(),
        };
        Sourced::read(Some(&file), |_| None)
    }

    #[test]
    fn numbers_and_texts_say_the_same() {
        for text in [
            "stop_grace = 90\nslug_limit = 100",
            "stop_grace = 90.0 # seconds\nslug_limit = 0x64",
            "stop_grace = \"1.5m\"\nslug_limit = \"100MiB\"",
        ] {
            let read = read(text).unwrap();
            assert_eq!(read.settings.stop_grace.as_secs(), 90, "{text}");
            assert_eq!(read.settings.slug_limit, 100 << 20, "{text}");
            let sources = read.rows().filter(|row| row.source == SettingSource::File);
            assert_eq!(sources.count(), 2);
        }
    }

    #[test]
    fn what_makes_no_sense_is_told_with_its_line() {
        for (text, message, hint) in [
            (
                "\n# comment\nslug_level = 10\n",
                "`/d/config.toml` line 3: the setting `slug_level = 10` is not valid",
                "it takes a number from 1 to 9",
            ),
            (
                "stop_grace = 30\nstop_gracee = 1",
                "`/d/config.toml` line 2: there is no setting `stop_gracee`",
                "did you mean `stop_grace`? `dyno settings` lists all",
            ),
            (
                "colour = 1",
                "`/d/config.toml` line 1: there is no setting `colour`",
                "`dyno settings` lists all",
            ),
            (
                "id_mapping = false",
                "`/d/config.toml` line 1: the setting `id_mapping = false` is not valid",
                "it takes `auto` or `off`",
            ),
            (
                "[ports]\nlow = 1",
                "`/d/config.toml` line 1: the setting `ports = [ports]` is not valid",
                "it takes two ports from 1024 to 65535, like `20000-29999`",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.message, message);
            assert_eq!(error.hint.as_deref(), Some(hint));
        }
        for (text, line) in [
            ("stop_grace = 30\nslug_level =", 2),
            ("stop_grace = 1\n\nstop_grace = 2", 3),
            ("isolation = tempdir", 1),
            ("stop_grace = inf", 1),
            ("max_dynos = 99999999999999999999999", 1),
            (&"[".repeat(LONGEST), 1),
        ] {
            let error = read(text).unwrap_err();
            let start = format!("`/d/config.toml` line {line}: ");
            assert!(error.message.starts_with(&start), "{}", error.message);
            assert!(error.message.len() < 300 && error.hint.is_some());
        }
    }
}
