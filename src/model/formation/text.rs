//! A formation as text, as `ps:scale` and `ps:type` print and parse it: `web=2:Standard-1X worker+1`.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use super::Wanted;
use super::scale::{Amount, MAX_QUANTITY, Update};
use crate::error::{UserError, shown};
use crate::model::procfile::is_process_type_name;
use crate::model::size::is_size_name;

/// How many characters of an invalid word are shown.
const SHOWN: usize = 60;

/// Parses `TYPE=N`, `TYPE+N` and `TYPE-N`, each with or without `:SIZE`, which the server is to know.
///
/// Where Heroku's client skips a word that it does not understand, this is an error, so that a formation is never
/// changed only in part.
///
/// # Errors
/// The first word that is not valid, a number over [`MAX_QUANTITY`], or a type that is named twice.
pub fn parse_scale(words: &[impl AsRef<str>]) -> Result<Vec<Update>, UserError> {
    let mut updates = Vec::with_capacity(words.len());
    for word in words {
        push(&mut updates, parse_one(word.as_ref())?)?;
    }
    Ok(updates)
}

fn parse_one(word: &str) -> Result<Update, UserError> {
    let (change, size) = match word.split_once(':') {
        Some((change, size)) => (change, Some(size)),
        None => (word, None),
    };
    // Names may have dashes and digits: `worker-2-1` is one `worker-2` fewer.
    let parts = change
        .rfind(['=', '+', '-'])
        .map(|at| change.split_at(at))
        .filter(|(name, _)| is_process_type_name(name));
    let Some((name, amount)) = parts else {
        return Err(not_understood(word));
    };
    let amount = match amount.strip_prefix('=') {
        // `=+1` is not valid: digits must follow the sign.
        Some(exactly) => digits(exactly).map(|number| number.map(Amount::Exactly)),
        None => signed(amount),
    };
    Ok(Update {
        which: name.to_owned(),
        amount: Some(amount.ok_or_else(|| not_understood(word))??),
        size: size.map(size_name).transpose()?,
    })
}

/// Parses a quantity in the API's text form: `2`, `+1`, `-1`.
///
/// # Errors
/// When it is none of these, or over [`MAX_QUANTITY`].
pub fn parse_amount(text: &str) -> Result<Amount, UserError> {
    let amount = signed(text).or_else(|| digits(text).map(|number| number.map(Amount::Exactly)));
    amount.unwrap_or_else(|| {
        let text = shown(text.as_bytes(), SHOWN);
        Err(UserError::new(format!("`{text}` is no quantity"))
            .hint("it is a number, or one more `+1` or fewer `-1`"))
    })
}

/// Parses `+1` or `-1`; None if it is not a sign with digits.
fn signed(text: &str) -> Option<Result<Amount, UserError>> {
    let (sign, amount): (_, fn(u32) -> Amount) = match text.as_bytes().first()? {
        b'+' => ('+', Amount::More),
        b'-' => ('-', Amount::Fewer),
        _ => return None,
    };
    digits(text.strip_prefix(sign)?).map(|number| number.map(amount))
}

/// Parses a number of dynos; None if it is not digits.
fn digits(text: &str) -> Option<Result<u32, UserError>> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| {
        let number = text.parse().ok().filter(|number| *number <= MAX_QUANTITY);
        number.ok_or_else(|| too_many(text))
    })
}

/// The error for a number of dynos over [`MAX_QUANTITY`].
fn too_many(number: &str) -> UserError {
    let number = shown(number.as_bytes(), SHOWN);
    UserError::new(format!("`{number}` dynos are more than an app can have")).hint(format!(
        "at most {MAX_QUANTITY}; `dyno settings` shows how many it may have, `max_dynos`"
    ))
}

fn not_understood(word: &str) -> UserError {
    let word_shown = shown(word.as_bytes(), SHOWN);
    let error = UserError::new(format!("`{word_shown}` scales nothing"));
    match word.split_once('=') {
        Some((name, size)) if is_process_type_name(name) && is_size_name(size) => {
            error.hint(format!("`dyno ps:type {word}` changes the size alone"))
        }
        _ => error.hint("`web=2` sets how many there are, `worker+1` and `worker-1` change it, `web=2:Standard-2X` their size, too"),
    }
}

/// What `ps:type` is to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resize {
    /// The size of all process types.
    All(String),
    /// The sizes of these process types.
    These(Vec<Update>),
}

/// Parses `SIZE`, or any number of `TYPE=SIZE`.
///
/// # Errors
/// A word that is neither, a type that is named twice, or no word at all.
pub fn parse_resize(words: &[impl AsRef<str>]) -> Result<Resize, UserError> {
    let mut updates = Vec::with_capacity(words.len());
    for word in words {
        let word = word.as_ref();
        let Some((name, size)) = word.split_once('=') else {
            return match words {
                [_] => Ok(Resize::All(size_name(word)?)),
                _ => Err(no_resize(word)),
            };
        };
        if !is_process_type_name(name) {
            return Err(no_resize(word));
        }
        let size = size_name(size).map_err(|error| match digits(size) {
            Some(_) => error.hint(format!("`dyno ps:scale {word}` changes how many there are")),
            None => error,
        })?;
        let update = Update {
            which: name.to_owned(),
            amount: None,
            size: Some(size),
        };
        push(&mut updates, update)?;
    }
    Ok(Resize::These(updates))
}

/// The name of a size, as it was typed.
fn size_name(name: &str) -> Result<String, UserError> {
    match is_size_name(name) {
        true => Ok(name.to_owned()),
        false => {
            let name = shown(name.as_bytes(), SHOWN);
            Err(UserError::new(format!("no such size as `{name}`"))
                .hint("a size is a name like `Standard-2X`, which may be typed in any case"))
        }
    }
}

fn no_resize(word: &str) -> UserError {
    let word = shown(word.as_bytes(), SHOWN);
    UserError::new(format!("`{word}` gives nothing a size"))
        .hint("one size alone is for all process types, `web=Standard-2X` for one; several of those may follow each other")
}

fn push(updates: &mut Vec<Update>, update: Update) -> Result<(), UserError> {
    if updates.iter().any(|earlier| earlier.which == update.which) {
        return Err(UserError::new(format!("`{}` is named twice", update.which))
            .hint("name each process type once"));
    }
    updates.push(update);
    Ok(())
}

/// A formation as text that [`parse_scale`] can parse, in alphabetical order: `web=1:1X worker=0:Standard-2X`.
pub fn words<'a>(formation: impl IntoIterator<Item = &'a Wanted>) -> String {
    let mut formation: Vec<_> = formation.into_iter().collect();
    formation.sort_by(|a, b| a.process_type.cmp(&b.process_type));
    let words: Vec<_> = formation
        .iter()
        .map(|it| format!("{}={}:{}", it.process_type, it.quantity, it.size))
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::size;

    fn read(words: &[&str]) -> Vec<(String, Option<Amount>, Option<String>)> {
        let updates = parse_scale(words).unwrap();
        let parts = |it: Update| (it.which, it.amount, it.size);
        updates.into_iter().map(parts).collect()
    }

    #[test]
    fn words_are_those_of_heroku() {
        use Amount::{Exactly, Fewer, More};
        for (word, which, amount, size) in [
            ("web=2", "web", Exactly(2), None),
            ("worker+1", "worker", More(1), None),
            ("web-1", "web", Fewer(1), None),
            ("web=2:standard-2x", "web", Exactly(2), Some("standard-2x")),
            ("worker+1:own_Size", "worker", More(1), Some("own_Size")),
            ("web=0:px", "web", Exactly(0), Some("px")),
            ("my-worker-2-10", "my-worker-2", Fewer(10), None),
            ("a-b=007", "a-b", Exactly(7), None),
            ("-1+1", "-1", More(1), None),
            ("web=10000", "web", Exactly(10_000), None),
        ] {
            let size = size.map(str::to_owned);
            assert_eq!(read(&[word]), [(which.to_owned(), Some(amount), size)]);
        }
        assert_eq!(read(&["web=1", "worker=2:2X"]).len(), 2);
        assert!(read(&[]).is_empty());
    }

    #[test]
    fn a_word_without_sense_is_an_error_with_a_hint() {
        for (words, message, hint) in [
            (&["web"][..], "`web` scales nothing", "`web=2` sets"),
            (&["web="], "`web=` scales nothing", "`web=2` sets"),
            (&["=2"], "`=2` scales nothing", "`web=2` sets"),
            (&["web=+1"], "`web=+1` scales nothing", "`web=2` sets"),
            (&["web=-1"], "`web=-1` scales nothing", "`web=2` sets"),
            (&["web=1.5"], "`web=1.5` scales nothing", "`web=2` sets"),
            (&["we b=1"], "`we b=1` scales nothing", "`web=2` sets"),
            (&["web=2:"], "no such size as ``", "like `Standard-2X`"),
            (&["web=2:3"], "no such size as `3`", "like `Standard-2X`"),
            (
                &["web=standard-2x"],
                "`web=standard-2x` scales nothing",
                "`dyno ps:type web=standard-2x`",
            ),
            (&["web=1", "web+1"], "`web` is named twice", "once"),
            (
                &["web=10001"],
                "`10001` dynos are more than an app can have",
                "at most 10000",
            ),
            (
                &["web+99999999999"],
                "`99999999999` dynos are more than an app can have",
                "max_dynos",
            ),
        ] {
            let error = parse_scale(words).unwrap_err();
            assert_eq!(error.message, message);
            let given = error.hint.unwrap();
            assert!(given.contains(hint), "{given}");
        }
        let long = parse_scale(&["x".repeat(1 << 20)]).unwrap_err();
        assert!(long.message.len() < 100, "{}", long.message);
    }

    #[test]
    fn an_amount_is_a_number_with_or_without_a_sign() {
        assert_eq!(parse_amount("3"), Ok(Amount::Exactly(3)));
        assert_eq!(parse_amount("+2"), Ok(Amount::More(2)));
        assert_eq!(parse_amount("-1"), Ok(Amount::Fewer(1)));
        for text in ["", "+", "-", "=1", "++1", "one", " 1", "1.0"] {
            let error = parse_amount(text).unwrap_err();
            assert_eq!(error.message, format!("`{text}` is no quantity"));
        }
        assert!(parse_amount("10001").is_err());
    }

    #[test]
    fn a_size_is_for_all_or_for_those_that_are_named() {
        let of = |words: &[&str]| parse_resize(words).unwrap();
        assert_eq!(of(&["standard-2x"]), Resize::All("standard-2x".to_owned()));
        let Resize::These(updates) = of(&["my-web=2x", "worker=Eco"]) else {
            panic!("two types have two sizes");
        };
        let pairs: Vec<_> = updates
            .iter()
            .map(|it| (&*it.which, it.amount, it.size.as_deref()))
            .collect();
        assert_eq!(
            pairs,
            [("my-web", None, Some("2x")), ("worker", None, Some("Eco"))]
        );
        for (words, message, hint) in [
            (&["3+"][..], "no such size as `3+`", "like `Standard-2X`"),
            (&["web=2"], "no such size as `2`", "`dyno ps:scale web=2`"),
            (
                &["web=1X", "2X"],
                "`2X` gives nothing a size",
                "`web=Standard-2X`",
            ),
            (&["=1X"], "`=1X` gives nothing a size", "`web=Standard-2X`"),
            (&["web=1X", "web=2X"], "`web` is named twice", "once"),
        ] {
            let error = parse_resize(words).unwrap_err();
            assert_eq!(error.message, message);
            let given = error.hint.unwrap();
            assert!(given.contains(hint), "{given}");
        }
    }

    fn formation() -> impl Strategy<Value = Vec<Wanted>> {
        let sizes: Vec<_> = size::ALL.iter().map(|size| &*size.name).collect();
        let one = (0..=MAX_QUANTITY, prop::sample::select(sizes));
        prop::collection::btree_map("[-_a-zA-Z0-9]{1,128}", one, 0..20).prop_map(|types| {
            let wanted = |(process_type, (quantity, size)): (String, (u32, &str))| Wanted {
                process_type,
                quantity,
                size: size.to_owned(),
            };
            types.into_iter().map(wanted).collect()
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_is_taken_back(formation in formation()) {
            let printed = words(formation.iter().rev());
            let taken: Vec<_> = printed.split_whitespace().collect();
            let updates: Vec<_> = parse_scale(&taken).unwrap();
            let wanted: Vec<_> = updates
                .into_iter()
                .map(|update| Wanted {
                    process_type: update.which,
                    quantity: match update.amount {
                        Some(Amount::Exactly(quantity)) => quantity,
                        other => panic!("{other:?}"),
                    },
                    size: update.size.unwrap(),
                })
                .collect();
            prop_assert_eq!(wanted, formation);
        }

        #[test]
        fn any_word_is_read_or_refused(word: String) {
            let _ = parse_scale(&[&word]);
            let _ = parse_resize(&[&word]);
            let _ = parse_amount(&word);
        }
    }
}
