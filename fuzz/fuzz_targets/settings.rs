//! `config.toml`, and the values of settings wherever they come from: each value that is taken is taken again as it is shown,
//! and so is a file with all of them; what is refused is said in one short line, and memory has a bound.

#![no_main]

use dyno::bounds::within;
use dyno::error::UserError;
use dyno::model::settings::{ConfigFile, Sourced, TABLE, misspelt};
use dyno::pieces::first;
use libfuzzer_sys::fuzz_target;

fn fits(error: &UserError) {
    for text in [Some(&error.message), error.hint.as_ref()]
        .into_iter()
        .flatten()
    {
        assert!(text.len() < 2048, "{text}");
        assert!(!text.contains(char::is_control), "{text:?}");
    }
}

fn file(text: String) -> ConfigFile {
    let path = "/x/config.toml".to_owned();
    ConfigFile { path, text }
}

/// A file in which all settings have these values.
fn written(sourced: &Sourced) -> String {
    let rows = sourced.rows().map(|row| {
        let value: String = row.value.chars().flat_map(char::escape_unicode).collect();
        // TOML has the same escapes, with all digits.
        let value = value.replace("\\u{", "\\U{");
        let mut escaped = String::new();
        for part in value.split("\\U{").skip(1) {
            escaped += &format!("\\U{:0>8}", part.trim_end_matches('}'));
        }
        format!("{} = \"{escaped}\"\n", row.setting.name)
    });
    rows.collect()
}

fn values(sourced: &Sourced) -> Vec<(&'static str, String)> {
    sourced
        .rows()
        .map(|row| (row.setting.name, row.value))
        .collect()
}

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = first(data) else {
        return;
    };
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let mut sourced = Sourced::read(None, |_| None).expect("the defaults");
    let before = values(&sourced);
    let most = 64 * text.len() + 256 * 1024;
    let result = match TABLE.get(usize::from(which)) {
        Some(setting) => within(most, || sourced.set_option(setting.name, text)),
        None => within(most, || {
            Sourced::read(Some(&file(text.to_owned())), |_| None)
        })
        .map(|read| sourced = read),
    };
    for warning in misspelt([&*format!("DYNO_{text}")].into_iter()) {
        assert!(warning.len() < 512 && !warning.contains(char::is_control));
    }
    if let Err(error) = result {
        fits(&error);
        assert_eq!(values(&sourced), before);
        return;
    }
    let text = written(&sourced);
    if text.len() <= dyno::model::settings::LONGEST_FILE {
        let again = Sourced::read(Some(&file(text)), |_| None).expect("what is shown is taken");
        assert_eq!(again.settings, sourced.settings);
        assert_eq!(values(&again), values(&sourced));
    }
});
