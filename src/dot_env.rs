//! `.env` files: variables for an app that somebody works on, as foreman reads them. Pure: the caller reads the file.
//!
//! A line is `NAME=value`, `export NAME=value`, a comment, or blank. Between single quotes everything is as it is; between
//! double quotes `\n` is a line feed, and `\` before anything else stands for that. Without quotes a blank and `#` begin a
//! comment, and blanks at the end do not count. Nothing is put in for `$NAME`. Where foreman passes over a line that it
//! does not understand, we say which one.

use std::collections::BTreeMap;

use crate::config_var::is_name;
use crate::error::UserError;

/// The largest file, in bytes. What all variables may take together is less.
pub const MAX_BYTES: usize = 256 * 1024;

/// Reads a file; the last value of a name counts. `file` is what the error calls it.
///
/// # Errors
/// The first line that is none of these, by its number alone: what is in it may be a secret. Or the bound.
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
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let mut variables = BTreeMap::new();
    for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        let bad = |why: &str| refused(format!("makes no sense in line {number}: {why}"));
        let line = std::str::from_utf8(line).map_err(|_| bad("it is not UTF-8"))?;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let exported = line.strip_prefix("export").map(str::trim_start);
        let line = exported
            .filter(|rest| rest.len() < line.len() - "export".len())
            .unwrap_or(line);
        let (name, rest) = line.split_once('=').ok_or_else(|| bad("it has no `=`"))?;
        if !is_name(name) {
            return Err(bad("what stands before the `=` is no name of a variable"));
        }
        let value = value(rest.trim_start()).ok_or_else(|| bad("a quote is not closed"))?;
        if value.contains('\0') {
            return Err(bad("it has a NUL byte"));
        }
        variables.insert(name.to_owned(), value);
    }
    Ok(variables)
}

/// A line, with its line feed, that [`parse`] reads as this variable.
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

/// What stands for a value; none if a quote does not end, or is not followed by nothing or a comment.
fn value(text: &str) -> Option<String> {
    let (value, rest) = match text.as_bytes().first() {
        Some(b'\'') => {
            let (value, rest) = text[1..].split_once('\'')?;
            (value.to_owned(), rest)
        }
        Some(b'"') => double_quoted(&text[1..])?,
        _ => {
            let comment = text
                .match_indices('#')
                .map(|(at, _)| at)
                .find(|&at| at == 0 || text[..at].ends_with([' ', '\t']));
            let value = &text[..comment.unwrap_or(text.len())];
            (value.trim_end().to_owned(), "")
        }
    };
    let rest = rest.trim_start();
    (rest.is_empty() || rest.starts_with('#')).then_some(value)
}

/// A value up to its closing quote, and what follows.
fn double_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.chars();
    loop {
        match characters.next()? {
            '"' => return Some((value, characters.as_str())),
            '\\' => match characters.next()? {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            "A=\0",
        ] {
            let error = parse(format!("X=1\n{line}\n").as_bytes(), ".env").unwrap_err();
            assert!(error.message.contains("line 2"), "{line}: {error}");
            assert!(!error.message.contains("secret"), "{error}");
        }
        assert!(parse(b"A=\xff", ".env").is_err());
        assert!(parse(&vec![b'#'; MAX_BYTES], ".env").is_ok());
        assert!(parse(&vec![b'#'; MAX_BYTES + 1], ".env").is_err());
    }
}
