//! Rewrites git's patterns for the matching library, which has no POSIX character classes and gives braces a meaning:
//! `[[:upper:]]` becomes a range, and braces are escaped.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

use std::borrow::Cow;

/// The characters of a class, as ranges; none begins with a character that is special at the beginning of a set.
fn ranges(class: &str) -> Option<&'static str> {
    Some(match class {
        "alnum" => "0-9A-Za-z",
        "alpha" => "A-Za-z",
        "blank" => " \t",
        "cntrl" => "\u{1}-\u{1f}\u{7f}",
        "digit" => "0-9",
        "graph" => "\"-~!",
        "lower" => "a-z",
        "print" => " -~",
        "punct" => "[-`:-@{-~\"-/!",
        "space" => " \t-\r",
        "upper" => "A-Z",
        "xdigit" => "0-9A-Fa-f",
        _ => return None,
    })
}

/// The name of the class at the beginning of `rest`. Without `:]` at the next bracket it is no class, but characters.
fn class(rest: &str) -> Option<&str> {
    let inside = rest.strip_prefix("[:")?;
    inside[..inside.find(']')?].strip_suffix(':')
}

/// The pattern without classes, and with braces escaped.
///
/// # Errors
/// Why the pattern matches nothing.
pub fn spelled_out(pattern: &str) -> Result<Cow<'_, str>, String> {
    if !pattern.contains("[:") && !pattern.contains(['{', '}']) {
        return Ok(Cow::Borrowed(pattern));
    }
    let mut spelled = String::with_capacity(pattern.len());
    let mut rest = pattern;
    let mut in_set = false;
    while let Some(next) = rest.chars().next() {
        let taken = if next == '\\' {
            // The backslash, with the character that it escapes.
            let escaped = rest[1..].chars().next().map_or(0, char::len_utf8);
            1 + escaped
        } else if !in_set && next == '[' {
            in_set = true;
            // A bracket right at the beginning stands for itself.
            let negated = usize::from(rest[1..].starts_with(['!', '^']));
            1 + negated + usize::from(rest[1 + negated..].starts_with(']'))
        } else if in_set && let Some(class) = class(rest) {
            let ranges = ranges(class).ok_or_else(|| format!("there is no `[:{class}:]`"))?;
            spelled.push_str(ranges);
            rest = &rest[class.len() + "[::]".len()..];
            continue;
        } else {
            if !in_set && matches!(next, '{' | '}') {
                spelled.push('\\');
            }
            in_set &= next != ']';
            next.len_utf8()
        };
        spelled.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    Ok(Cow::Owned(spelled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_become_ranges_and_all_else_stays() {
        for (pattern, expected) in [
            ("*.log", "*.log"),
            ("a[:b]", "a[:b]"),
            ("[[:upper:]]*.bak", "[A-Z]*.bak"),
            ("[_[:digit:]x[:lower:]-]", "[_0-9xa-z-]"),
            ("[![:alpha:]]", "[!A-Za-z]"),
            ("[]x[:blank:]]é", "[]x \t]é"),
            ("\\[[[:digit:]]", "\\[[0-9]"),
            // Outside of a set it is a set of its letters.
            ("[a][:upper:]", "[a][:upper:]"),
            ("[[:upper]]", "[[:upper]]"),
            ("{OLD,old}.bak", "\\{OLD,old\\}.bak"),
            ("\\{a,b", "\\{a,b"),
            ("[{]", "[{]"),
        ] {
            assert_eq!(spelled_out(pattern).unwrap(), expected, "{pattern}");
        }
        let why = spelled_out("[[:large:]]").unwrap_err();
        assert_eq!(why, "there is no `[:large:]`");
    }

    #[test]
    fn a_class_has_what_posix_says() {
        let is = |class: &str, byte: u8| match class {
            "alnum" => byte.is_ascii_alphanumeric(),
            "alpha" => byte.is_ascii_alphabetic(),
            "blank" => matches!(byte, b' ' | b'\t'),
            "digit" => byte.is_ascii_digit(),
            "graph" => byte.is_ascii_graphic(),
            "lower" => byte.is_ascii_lowercase(),
            "print" => byte == b' ' || byte.is_ascii_graphic(),
            "punct" => byte.is_ascii_punctuation(),
            "space" => matches!(byte, b' ' | 9..=13),
            "upper" => byte.is_ascii_uppercase(),
            _ => byte.is_ascii_hexdigit(),
        };
        for class in [
            "alnum", "alpha", "blank", "digit", "graph", "lower", "print", "punct", "space",
            "upper", "xdigit",
        ] {
            for negated in ["", "!"] {
                let pattern = format!("x[{negated}[:{class}:]]x");
                let pattern = spelled_out(&pattern).unwrap().into_owned();
                let patterns = ignore::gitignore::GitignoreBuilder::new("")
                    .add_line(None, &pattern)
                    .unwrap()
                    .build()
                    .unwrap();
                // A slash is never one of a name's characters, and a line has no line feed.
                for byte in (1..128_u8).filter(|byte| !matches!(byte, b'/' | b'\n')) {
                    let name = format!("x{}x", char::from(byte));
                    let matched = patterns.matched(&name, false).is_ignore();
                    let expected = is(class, byte) == negated.is_empty();
                    assert_eq!(matched, expected, "{pattern} {name:?}");
                }
            }
        }
    }
}
