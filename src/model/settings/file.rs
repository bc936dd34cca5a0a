//! `config.toml` in the state folder: one `name = value` for each setting that is not to have its default.
//!
//! Only its text is handled here; `home` reads the file.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::own_sizes::{line, own_size};
use super::{Setting, bad_value, nearest};
use crate::error::{UserError, shown};

/// The longest file, in bytes: far more than all settings with a page of comments each.
pub const LONGEST: usize = 64 * 1024;

/// How many characters of an invalid value are shown.
const SHOWN: usize = 60;

/// The setting that may be a table.
const SIZES: &str = "sizes";

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
                DeValue::Table(sizes) if setting.name == SIZES => self.sizes(sizes)?,
                plain => match text_of(plain) {
                    Some(text) => text,
                    None => return Err(self.bad(setting, self.written(value.span()), line)),
                },
            };
            entries.push((setting, text, line));
        }
        Ok(entries)
    }

    /// The sizes of the table `sizes`, as one line.
    fn sizes(&self, sizes: &DeTable<'_>) -> Result<String, UserError> {
        let mut lines = Vec::new();
        for (name, said) in sizes {
            let place = self.at(self.line(name.span().start));
            let at = |error: UserError| UserError {
                message: format!("{place}: {}", error.message),
                ..error
            };
            let DeValue::Table(table) = said.get_ref() else {
                let name = shown(name.get_ref().as_bytes(), SHOWN);
                let error = UserError::new(format!("the size `{name}` is no table"));
                return Err(at(error.hint(
                    "a size is like `[sizes.small]`, and below it `memory = \"256MiB\"`",
                )));
            };
            let pairs: Vec<(&str, String)> = table
                .iter()
                .map(|(key, value)| {
                    let text = text_of(value.get_ref());
                    let written = || self.written(value.span()).to_owned();
                    (key.get_ref().as_ref(), text.unwrap_or_else(written))
                })
                .collect();
            let pairs = pairs.iter().map(|(key, value)| (*key, value.as_str()));
            let size = own_size(name.get_ref(), pairs).map_err(at)?;
            lines.push(line(&size));
        }
        Ok(match lines.is_empty() {
            true => "none".to_owned(),
            false => lines.join("; "),
        })
    }

    /// What is written in this place.
    fn written(&self, span: Range<usize>) -> &str {
        self.text.get(span).unwrap_or_default()
    }

    /// The error for a value that is not valid for the setting.
    pub(super) fn bad(&self, setting: &Setting, text: &str, line: usize) -> UserError {
        let written = format!("{} = {}", setting.name, shown(text.as_bytes(), SHOWN));
        bad_value(setting, &format!("{}: ", self.at(line)), &written, text)
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
        let text = self.text.as_bytes();
        let before = text.get(..offset).unwrap_or(text);
        memchr::memchr_iter(b'\n', before).count().saturating_add(1)
    }
}

/// A text or a number, written as in the environment; None for what is neither.
fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        // Hexadecimal and the like are numbers, too.
        DeValue::Integer(number) => Some(
            i64::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| number.to_string(), |number| number.to_string()),
        ),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
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
    fn a_size_has_a_table_or_stands_in_the_line_of_all() {
        for text in [
            "[sizes.small]\nmemory = \"2 GiB\"\nlimit = 1.5\n[sizes.1x]\ncpu = 0x2\n",
            "sizes = { small = { memory = 2048, limit = \"1.5\" }, 1X = { cpu = 2 } }",
            "sizes = \"1x cpu=2; small memory=2048 limit=1.50\"",
        ] {
            let read = read(text).unwrap();
            let row = read.rows().find(|row| row.setting.name == "sizes").unwrap();
            let lines = ["1X memory=512MiB cpu=2", "small memory=2GiB limit=1.5"];
            assert!(
                lines.iter().all(|line| row.value.contains(line)),
                "{}",
                row.value
            );
            assert_eq!(row.source, SettingSource::File);
        }
        assert!(read("[sizes]\n").unwrap().settings.sizes.own().is_empty());
    }

    #[test]
    fn a_size_that_makes_no_sense_is_told_with_its_line() {
        for (text, message, hint) in [
            (
                "[sizes.small]\nmemory = 256\n\n[sizes.big]\nprocesses = 64\n",
                "line 4: the size `big` has no `memory`",
                "each size says how much",
            ),
            (
                "[sizes.small]\nmemory = 256\nprocesses = true",
                "line 1: `processes = true` of the size `small` is not valid",
                "it takes a number from 8 to 4194304",
            ),
            (
                "[sizes]\nsmall = 256",
                "line 2: the size `small` is no table",
                "a size is like `[sizes.small]`",
            ),
            (
                "sizes = \"small memory=1\"",
                "line 1: the setting `sizes = small memory=1` is not valid",
                "`memory = 1` of the size `small` is not valid: it takes a size from 16MiB",
            ),
            (
                "[sizes.a]\nmemory = 99\n[sizes.A]\nmemory = 99",
                "line 1: the setting `sizes = ",
                "there are two sizes `",
            ),
        ] {
            let error = read(text).unwrap_err();
            let begin = format!("`/d/config.toml` {message}");
            assert!(error.message.starts_with(&begin), "{}", error.message);
            let told = error.hint.unwrap();
            assert!(told.starts_with(hint), "{told}");
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
