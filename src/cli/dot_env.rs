//! `.env` files: variables for an app in development, in the forms that foreman and the `dotenv` libraries have.
//! Pure: the caller reads the file.
//!
//! A line is `NAME=value`, `export NAME=value`, `NAME: value`, a comment, or blank. Without quotes a value ends with
//! its line; a blank and `#` begin a comment, and blanks at the end do not count. A value between quotes may go on over
//! several lines. Between single quotes and between backticks every character stands for itself; between double quotes
//! `\n`, `\r` and `\t` have their usual meaning, and `\` before any other character stands for that. As in a shell,
//! another quoted piece or a `\` and a character may follow at once, as `dyno config -s` writes a single quote. `$NAME`
//! is not replaced. Where foreman skips a line that it does not understand, this is an error that names the line.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::error::UserError;
use crate::model::config_var::is_name;

/// The largest file, in bytes; all variables together are bounded more tightly.
pub const MAX_BYTES: usize = 256 * 1024;

/// Parses a file; the last value of a name counts. `file` is its name in errors.
///
/// # Errors
/// The first line that is not valid, by its number alone, since it may contain a secret; or that the file is too large.
pub fn parse(text: &[u8], file: &str) -> Result<BTreeMap<String, String>, UserError> {
    let refused = |why: String| {
        UserError::new(format!("`{file}` {why}"))
            .hint("every line is `NAME=value` or `NAME=\"a value\"`; comments begin with `#`")
    };
    if text.len() > MAX_BYTES {
        return Err(refused(format!(
            "has more than the {MAX_BYTES} bytes allowed"
        )));
    }
    let bad = |before: &[u8], why: &str| {
        let number = 1 + memchr::memchr_iter(b'\n', before).count();
        refused(format!("is not valid in line {number}: {why}"))
    };
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let text = std::str::from_utf8(text)
        .map_err(|error| bad(&text[..error.valid_up_to()], "it is not UTF-8"))?;
    let text = without_carriage_returns(text);
    let mut variables = BTreeMap::new();
    let mut rest = &*text;
    while !rest.is_empty() {
        let bad = |why: &str| bad(&text.as_bytes()[..text.len() - rest.len()], why);
        let end = rest.find('\n').map_or(rest.len(), |end| end + 1);
        let line = rest[..end].trim();
        if line.is_empty() || line.starts_with('#') {
            rest = &rest[end..];
            continue;
        }
        let (name, behind) = name(&rest[..end]).ok_or_else(|| bad("it has no `=`"))?;
        if !is_name(name) {
            return Err(bad("what stands before the `=` is no name of a variable"));
        }
        // A quoted value may continue after the line.
        let (value, after) = value(&rest[end - behind.len()..]).map_err(bad)?;
        if value.contains('\0') {
            return Err(bad("it has a NUL byte"));
        }
        variables.insert(name.to_owned(), value);
        rest = after;
    }
    Ok(variables)
}

/// A line, with its line feed, that [`parse`] parses to this variable.
pub fn line(name: &str, value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-+.,:/@%=~^".contains(c);
    if value.chars().all(plain) {
        return format!("{name}={value}\n");
    }
    let mut quoted = String::new();
    for c in value.chars() {
        match c {
            '\n' => quoted += "\\n",
            '"' | '\\' => quoted.extend(['\\', c]),
            c => quoted.push(c),
        }
    }
    format!("{name}=\"{quoted}\"\n")
}

/// If every line ends with `\r\n`, as some editors write, replaces that by `\n`; otherwise keeps each `\r`.
fn without_carriage_returns(text: &str) -> Cow<'_, str> {
    let line_feeds = text.matches('\n').count();
    match line_feeds > 0 && text.matches("\r\n").count() == line_feeds {
        true => text.replace("\r\n", "\n").into(),
        false => text.into(),
    }
}

/// The name in a line, and the text after its `=` or `:`; None if there is neither.
fn name(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start();
    let exported = line.strip_prefix("export").map(str::trim_start);
    let line = exported
        .filter(|rest| rest.len() < line.len() - "export".len() && !rest.starts_with(['=', ':']))
        .unwrap_or(line);
    let is_separator = |(at, found): &(usize, &str)| {
        *found == "="
            || line[at + 1..].is_empty()
            || line[at + 1..].starts_with(char::is_whitespace)
    };
    let (at, _) = line.match_indices(['=', ':']).find(is_separator)?;
    Some((line[..at].trim_end(), &line[at + 1..]))
}

/// The value at the beginning of `text`, and the text after its last line.
///
/// # Errors
/// Why it is not valid.
fn value(text: &str) -> Result<(String, &str), &'static str> {
    let text = text.trim_start_matches([' ', '\t']);
    let (value, rest) = match text.starts_with(QUOTES) {
        true => quoted(text).ok_or("a quote is not closed")?,
        false => (String::new(), text),
    };
    let (end, next) = match rest.find('\n') {
        Some(end) => (&rest[..end], &rest[end + 1..]),
        None => (rest, ""),
    };
    if text.starts_with(QUOTES) {
        let end = end.trim_start();
        return match end.is_empty() || end.starts_with('#') {
            true => Ok((value, next)),
            false => Err("something follows the closing quote"),
        };
    }
    let comment = end
        .match_indices('#')
        .map(|(at, _)| at)
        .find(|&at| at == 0 || end[..at].ends_with([' ', '\t']));
    let value = &end[..comment.unwrap_or(end.len())];
    Ok((value.trim_end().to_owned(), next))
}

const QUOTES: [char; 3] = ['\'', '"', '`'];

/// The quoted pieces at the beginning of `text` as one value, and the text after them; None if a quote is not closed.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text;
    loop {
        let mut characters = rest.chars();
        match characters.next() {
            Some(quote @ ('\'' | '`')) => {
                let (piece, behind) = characters.as_str().split_once(quote)?;
                value.push_str(piece);
                rest = behind;
            }
            Some('"') => rest = double_quoted(characters.as_str(), &mut value)?,
            Some('\\') => {
                value.push(characters.next().filter(|next| *next != '\n')?);
                rest = characters.as_str();
            }
            _ => return Some((value, rest)),
        }
    }
}

/// Appends the text before the closing quote to `value`; returns the text after it.
fn double_quoted<'a>(text: &'a str, value: &mut String) -> Option<&'a str> {
    let mut characters = text.chars();
    loop {
        value.push(match characters.next()? {
            '"' => return Some(characters.as_str()),
            '\\' => match characters.next()? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                other => other,
            },
            other => other,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::command_line;
    use proptest::prelude::*;

    proptest::proptest! {
        #[test]
        fn a_line_is_read_as_what_it_was_made_of(value in r#"[ -~\n\r\té"'\\\\#$]*"#) {
            let read = parse(line("A", &value).as_bytes(), ".env").unwrap();
            assert_eq!(read.get("A"), Some(&value));
        }
    }

    #[test]
    fn lines_are_read_as_foreman_reads_them() {
        for (line, wanted) in [
            ("A=b", "b"),
            ("A=", ""),
            ("  A= b c ", "b c"),
            ("export A=b", "b"),
            ("export\tA=b", "b"),
            ("A=b # c", "b"),
            ("A=b#c", "b#c"),
            ("A=# c", ""),
            ("A=a=b=c", "a=b=c"),
            ("A=$HOME", "$HOME"),
            ("A='$b \"c\" \\n # d'", "$b \"c\" \\n # d"),
            (r#"A="a\nb \"c\" \\ \$d # e""#, "a\nb \"c\" \\ $d # e"),
            ("A=\"b\" # c", "b"),
            ("A='' # c", ""),
            ("A=b\r", "b"),
            ("A=it's", "it's"),
            ("A = b", "b"),
            ("A: b", "b"),
            ("A:", ""),
            ("A: 'b: c'", "b: c"),
            ("A=a: b", "a: b"),
            ("A=`it's \"b\" \\n`", "it's \"b\" \\n"),
            (r#"A="a\r\n\tb""#, "a\r\n\tb"),
            (r"A='it'\''s' # c", "it's"),
            (r#"A='it'"'"'s'"#, "it's"),
            ("A=\"a\nb\n\" # c\n", "a\nb\n"),
            ("A='a\n# b\n\nB=c'\n", "a\n# b\n\nB=c"),
            ("A=`a\nb`", "a\nb"),
            // Every line ends as an editor's on Windows, or one does.
            ("A='a\r\nb'\r\n", "a\nb"),
            ("A='a\r\nb'\n", "a\r\nb"),
        ] {
            let read = parse(line.as_bytes(), ".env").unwrap();
            let wanted = BTreeMap::from([("A".to_owned(), wanted.to_owned())]);
            assert_eq!(read, wanted, "{line}");
        }
        let text = "\u{feff}# x\n\nA=1\nA=2\nexported=3\nexport=4\n";
        let read = parse(text.as_bytes(), ".env").unwrap();
        let pairs: Vec<_> = read.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert_eq!(pairs, [("A", "2"), ("export", "4"), ("exported", "3")]);
    }

    #[test]
    fn a_line_without_sense_is_named_by_its_number_and_not_shown() {
        for line in [
            "secret",
            "my secret=1",
            "1A=b",
            "=b",
            "A='b",
            "A=\"b\\\"",
            "A='b'c",
            "A='b\n'c\nB=1",
            "A=`b",
            "A='b'\\",
            "A=\0",
            "secret:1",
        ] {
            let error = parse(format!("X=1\n{line}\n").as_bytes(), ".env").unwrap_err();
            assert!(error.message.contains("line 2"), "{line}: {error}");
            assert!(!error.message.contains("secret"), "{error}");
        }
        assert!(parse(b"A=\xff", ".env").is_err());
        assert!(parse(&vec![b'#'; MAX_BYTES], ".env").is_ok());
        assert!(parse(&vec![b'#'; MAX_BYTES + 1], ".env").is_err());
    }

    proptest! {
        #[test]
        fn what_config_s_writes_is_read_back(
            config in proptest::collection::btree_map("[A-Z_]{1,4}", value(), 0..5),
        ) {
            let text: String = config
                .iter()
                .map(|(name, value)| format!("{name}={}\n", command_line::quote(value)))
                .collect();
            prop_assert_eq!(parse(text.as_bytes(), ".env").unwrap(), config);
        }
    }

    /// Mostly of what means something in such a file.
    fn value() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[^\0]{0,6}",
            r#"['"`\\#$=: \t\n\r]{1,6}"#,
            Just("\r\n".to_owned()),
        ];
        proptest::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
    }
}
