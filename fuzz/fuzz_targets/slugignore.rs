//! A `.slugignore`: any text is a list of patterns or refused, what git would not get into a slug never gets in, a pattern that
//! is spelled out means the same once more, and memory has a bound.

#![no_main]

use dyno::bounds::within;
use dyno::pieces::first;
use dyno::slug_patterns::patterns::spelled_out;
use dyno::slug_patterns::slugignore::SlugIgnore;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((length, rest)) = first(data) else {
        return;
    };
    let (path, text) = rest.split_at(rest.len().min(length.into()));
    let read = within(4096 * text.len() + (4 << 20), || SlugIgnore::parse(text));
    let Ok(rules) = read else {
        return;
    };
    assert!(
        rules
            .warnings
            .iter()
            .all(|warning| !warning.contains(char::is_control))
    );
    assert!(rules.ignores(b".git", true) && rules.ignores(b"a/.git", false));
    // Asked of its parents first, as the walk does; none of these panics.
    let mut at = 0;
    let parts = path
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b"." && *part != b"..");
    let path = parts.collect::<Vec<_>>().join(&b'/');
    while let Some(end) = path[at..].iter().position(|byte| *byte == b'/') {
        if rules.ignores(&path[..at + end], true) {
            return;
        }
        at += end + 1;
    }
    if !path.is_empty() {
        let _ = (rules.ignores(&path, false), rules.ignores(&path, true));
    }
    if let Ok(text) = std::str::from_utf8(text) {
        for line in text.lines() {
            // Only comments and blanks: nothing is left out.
            if let Ok(spelled) = spelled_out(line)
                && !line.contains(['{', '}'])
            {
                assert_eq!(spelled_out(&spelled).as_deref(), Ok(&*spelled), "{line}");
            }
        }
        let nothing = text
            .lines()
            .all(|line| line.trim().is_empty() || line.starts_with(['#', '!']));
        let is_git = path.rsplit(|byte| *byte == b'/').next() == Some(b".git");
        if nothing && !path.is_empty() && !is_git {
            assert!(!rules.ignores(&path, false));
        }
    }
});
