//! What a person or a client says in a few words: `ps:scale`, `ps:type`, quantities, lengths of time, names of apps and
//! dynos, networks, variables. What was understood is read again from what is written of it, and what was not is said in one
//! short line that moves no cursor.

#![no_main]

use dyno::error::UserError;
use dyno::model::app::AppName;
use dyno::model::command_line::{check, join, quote, resolve, split_env, without_status_request};
use dyno::model::config_var::is_name;
use dyno::model::dyno::DynoName;
use dyno::model::formation::{Resize, Update, parse_amount, parse_resize, parse_scale};
use dyno::model::network::NetworkChoice;
use dyno::model::size::{Sizes, is_size_name};
use dyno::model::time_span;
use dyno::pieces::first;
use libfuzzer_sys::fuzz_target;

fn fits(error: &UserError) {
    let printed = [Some(&error.message), error.hint.as_ref()];
    for text in printed.into_iter().flatten() {
        assert!(text.len() < 2048, "{text}");
        assert!(!text.contains(char::is_control), "{text:?}");
    }
}

/// What was understood; an error is looked at.
fn understood<T>(result: Result<T, UserError>) -> Option<T> {
    result.inspect_err(fits).ok()
}

fn written(update: &Update) -> String {
    let amount = update.amount.map_or(String::new(), |amount| {
        let text = amount.to_string();
        match text.starts_with(['+', '-']) {
            true => text,
            false => format!("={text}"),
        }
    });
    match (&update.size, update.amount) {
        (None, _) => format!("{}{amount}", update.which),
        (Some(size), Some(_)) => format!("{}{amount}:{size}", update.which),
        (Some(size), None) => format!("{}={size}", update.which),
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((which, data)) = first(data) else {
        return;
    };
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let words: Vec<&str> = text.split('\n').collect();
    match which % 9 {
        0 => {
            if let Some(updates) = understood(parse_scale(&words)) {
                let again: Vec<_> = updates.iter().map(written).collect();
                assert_eq!(understood(parse_scale(&again)), Some(updates));
            }
        }
        1 => match understood(parse_resize(&words)) {
            Some(Resize::These(updates)) => {
                let again: Vec<_> = updates.iter().map(written).collect();
                assert_eq!(
                    understood(parse_resize(&again)),
                    Some(Resize::These(updates))
                );
            }
            Some(Resize::All(size)) => {
                assert!(is_size_name(&size));
                assert_eq!(understood(parse_resize(&[&size])), Some(Resize::All(size)));
            }
            None => {}
        },
        2 => {
            if let Some(amount) = understood(parse_amount(text)) {
                assert_eq!(understood(parse_amount(&amount.to_string())), Some(amount));
                let number = amount.to_string().trim_start_matches(['+', '-']).parse();
                assert!(number.is_ok_and(|number: u32| number <= 10_000));
            }
        }
        3 => {
            if let Some(time) = understood(time_span::parse(text)) {
                let exact = time_span::exact(time);
                assert_eq!(understood(time_span::parse(&exact)), Some(time), "{exact}");
                let rough = understood(time_span::parse(&time_span::rough(time)));
                assert!(rough.is_some_and(|rough| rough <= time.max(rough)));
            }
        }
        4 => {
            let name = understood(AppName::parse(text));
            assert!(name.is_none_or(|name| name.as_str() == text));
            let name = AppName::from_folder(text);
            for name in [name.with_suffix("-12"), name.clone()]
                .into_iter()
                .chain(name.candidates().take(12))
            {
                assert!(AppName::parse(name.as_str()).is_ok(), "{name:?}");
            }
        }
        5 => {
            if let Some(name) = understood(text.parse::<DynoName>()) {
                assert_eq!(name.to_string(), text);
                assert!(name.number > 0);
            }
        }
        6 => {
            let choice = understood(NetworkChoice::parse(text));
            assert!(choice.is_none_or(|choice| choice.as_str() == text));
            let sizes = Sizes::default();
            let size = understood(sizes.lookup(text));
            assert!(size.is_none_or(|size| size.name.eq_ignore_ascii_case(text)));
        }
        7 => {
            for (name, value) in understood(split_env(text)).unwrap_or_default() {
                assert!(is_name(&name));
                assert!(text.contains(&format!("{name}={value}")));
            }
        }
        _ => {
            let _ = understood(check(text));
            assert_eq!(
                without_status_request(&format!(
                    "{text}; echo \"\u{ffff} heroku-command-exit-status: $?\""
                ))
                .map(str::trim_end),
                Some(text.trim_end())
            );
            assert_eq!(resolve(text, &Default::default()), text.trim_start());
            // Quotes alone are around what is not plain.
            if !text.contains('\'') {
                assert!([text.to_owned(), format!("'{text}'")].contains(&quote(text)));
            }
            assert_eq!(join(&[text]), text);
        }
    }
});
