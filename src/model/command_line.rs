//! The text of a dyno's command: from the words of `dyno run` to the text for the shell.
//!
//! Heroku joins several words with blanks and lets the dyno's shell split them again, so that `run echo 'a  b'` prints
//! `a b`. Here one word is shell text, as on Heroku, and several arrive as they were typed: each is quoted if the shell
//! would otherwise change it. Words like `FOO=1` before the command still assign.
//!
//! A process type is replaced only as the very first word, as on Heroku. So `FOO=1 worker` does not find `worker`: the
//! definition may be any shell text (`cd x && y`), in which an assignment in front would have another meaning. `-e
//! FOO=1` sets the variable.
//!
//! The client calls `join` and `split_env`, the server `check` and `resolve`.

use crate::error::{UserError, shown};
use crate::model::config_var;
use crate::model::release::ProcessTypes;

/// The longest command in bytes, process type replaced. Linux takes 128 KiB for one argument
/// (`MAX_ARG_STRLEN`), its final NUL included; the rest is for the text around the command.
pub const MAX_COMMAND_BYTES: usize = 120 * 1024;

/// How many characters of an invalid argument are shown.
const SHOWN: usize = 60;

/// Makes shell text of the words of a command. A single word is shell text already; several arrive unchanged in the
/// command, in bash and in any POSIX shell.
pub fn join<S: AsRef<str>>(words: &[S]) -> String {
    if let [text] = words {
        return text.as_ref().to_owned();
    }
    let mut text = String::new();
    let mut before_command = true;
    for word in words {
        let word = word.as_ref();
        if !text.is_empty() {
            text.push(' ');
        }
        match word.split_once('=') {
            Some((name, value)) if before_command && config_var::is_name(name) => {
                text.push_str(name);
                text.push('=');
                if !value.is_empty() {
                    push_quoted(&mut text, value, is_plain(value));
                }
            }
            _ => {
                let plain = is_plain(word) && !(before_command && is_special_as_command(word));
                push_quoted(&mut text, word, plain);
                before_command = false;
            }
        }
    }
    text
}

/// `value` as one word of shell text.
pub fn quote(value: &str) -> String {
    let mut text = String::new();
    push_quoted(&mut text, value, is_plain(value));
    text
}

/// Replaces the first word of `command`, if it is a process type, by that type's command; the rest stays unchanged.
pub fn resolve(command: &str, types: &ProcessTypes) -> String {
    let command = command.trim_start();
    let end = command.find(char::is_whitespace).unwrap_or(command.len());
    let (word, rest) = command.split_at(end);
    types.get(word).map_or_else(
        || command.to_owned(),
        |definition| format!("{definition}{rest}"),
    )
}

/// Checks a command; to be called with the given one and again after [`resolve`].
///
/// # Errors
/// When it is blank, too long, or has a NUL.
pub fn check(command: &str) -> Result<(), UserError> {
    if command.trim().is_empty() {
        return Err(UserError::new("there is no command to run").hint("try `dyno run bash`"));
    }
    if command.contains('\0') {
        return Err(
            UserError::new("the command contains a NUL byte").hint("no program can be given one")
        );
    }
    if command.len() > MAX_COMMAND_BYTES {
        return Err(
            UserError::new(format!("the command is {} bytes long", command.len())).hint(format!(
                "there is room for {MAX_COMMAND_BYTES}; pipe the rest: `dyno run COMMAND < FILE`"
            )),
        );
    }
    Ok(())
}

/// The variables of one `-e`: `A=1`, or several as in `A=1;B=2`. A `;` that is not followed by
/// another `NAME=` belongs to the value.
///
/// # Errors
/// When there is no `=`, or the first name is not one a shell can export.
pub fn split_env(argument: &str) -> Result<Vec<(String, String)>, UserError> {
    let Some((first, _)) = argument.split_once('=') else {
        let argument = shown(argument.as_bytes(), SHOWN);
        return Err(
            UserError::new(format!("`{argument}` is not a variable")).hint("write `-e NAME=VALUE`")
        );
    };
    config_var::check_env_name(first)?;
    let mut vars: Vec<(String, String)> = Vec::new();
    for part in argument.split(';') {
        match part.split_once('=') {
            Some((name, value)) if config_var::is_name(name) => {
                vars.push((name.into(), value.into()))
            }
            // The first part has a name: `=` and `;` cannot both come first.
            _ => {
                if let Some((_, value)) = vars.last_mut() {
                    value.push(';');
                    value.push_str(part);
                }
            }
        }
    }
    Ok(vars)
}

/// The beginning of the line that tells Heroku's CLI the exit status of its command.
pub const STATUS_MARKER: &str = "\u{ffff} heroku-command-exit-status: ";

/// The command without the text that Heroku's CLI appends so that the shell prints its status (`run -x`); None if it
/// has none. A shell that exits early would not print it, so the bridge sends it instead.
pub fn without_status_request(command: &str) -> Option<&str> {
    let before = command
        .trim_end()
        .strip_suffix("$?\"")?
        .strip_suffix(STATUS_MARKER)?
        .strip_suffix("echo \"")?
        .trim_end();
    before.strip_suffix(';').map(str::trim_end)
}

fn push_quoted(text: &mut String, word: &str, plain: bool) {
    if plain {
        text.push_str(word);
    } else {
        text.push('\'');
        text.push_str(&word.replace('\'', r"'\''"));
        text.push('\'');
    }
}

/// Whether no shell changes `word`. Only characters that are safe everywhere count: bytes above ASCII may be blanks in
/// some locale, and `~` is expanded after a `:` or `=`, too.
fn is_plain(word: &str) -> bool {
    !word.is_empty()
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-+./:,@%=".contains(&byte))
}

/// Whether a plain word is special in the place of the command: an assignment as only bash has it (`A+=1`), or a
/// reserved word. `time` stays a reserved word, since there may be no program of that name.
fn is_special_as_command(word: &str) -> bool {
    const RESERVED: [&str; 16] = [
        "case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if",
        "in", "select", "then", "until", "while",
    ];
    word.contains('=') || RESERVED.contains(&word)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_word_is_shell_text() {
        for text in ["rake --help", "echo $HOME; ls | wc", "", " a  b "] {
            assert_eq!(join(&[text]), text);
        }
    }

    #[test]
    fn several_words_are_quoted_only_where_needed() {
        for (words, text) in [
            (
                &["rake", "db:migrate", "--trace", "A=1"][..],
                "rake db:migrate --trace A=1",
            ),
            (&["echo", "a b"], "echo 'a b'"),
            (
                &["echo", "$x", "it's", "", "a\nb", "!", "~", "*", "é"],
                "echo '$x' 'it'\\''s' '' 'a\nb' '!' '~' '*' 'é'",
            ),
            (&["bash", "-c", "echo \"a b\""], "bash -c 'echo \"a b\"'"),
            (&["my prog", "x"], "'my prog' x"),
            (&["time", "ls"], "time ls"),
            (&["if", "x"], "'if' x"),
            (&["echo", "if"], "echo if"),
        ] {
            assert_eq!(join(words), text);
        }
    }

    #[test]
    fn words_before_the_command_still_assign() {
        for (words, text) in [
            (&["FOO=1", "cmd"][..], "FOO=1 cmd"),
            (
                &["FOO=a b", "BAR=~/x", "BAZ=", "cmd", "A=b c"],
                "FOO='a b' BAR='~/x' BAZ= cmd 'A=b c'",
            ),
            (&["1A=b", "x"], "'1A=b' x"),
            (&["A+=b", "x"], "'A+=b' x"),
        ] {
            assert_eq!(join(words), text);
        }
    }

    #[test]
    fn the_first_word_may_be_a_process_type() {
        let types =
            ProcessTypes::from_iter([("myworker", "python dowork.py"), ("web", "./web -p $PORT")]);
        for (command, resolved) in [
            ("myworker", "python dowork.py"),
            ("myworker 42", "python dowork.py 42"),
            (
                "  myworker  'a b' ; echo $?",
                "python dowork.py  'a b' ; echo $?",
            ),
            ("web", "./web -p $PORT"),
            ("myworkers 42", "myworkers 42"),
            ("'myworker' 42", "'myworker' 42"),
            ("FOO=1 myworker", "FOO=1 myworker"),
            ("echo myworker", "echo myworker"),
            ("", ""),
        ] {
            assert_eq!(resolve(command, &types), resolved);
        }
    }

    #[test]
    fn a_command_asks_for_its_status_as_herokus_cli_has_it() {
        let asks =
            |command: &str| format!("{command} ; echo \"\u{ffff} heroku-command-exit-status: $?\"");
        for command in ["worker 42", "rake test; ls", "echo \"a b\"", ""] {
            assert_eq!(without_status_request(&asks(command)), Some(command));
        }
        for command in [
            "worker 42",
            "worker ; echo \"heroku-command-exit-status: $?\"",
            &format!("{} ; ls", asks("worker")),
            &asks("worker")["worker ;".len()..],
        ] {
            assert_eq!(without_status_request(command), None, "{command}");
        }
    }

    #[test]
    fn a_command_has_bounds() {
        assert!(check("bash").is_ok());
        assert!(check(&"x".repeat(MAX_COMMAND_BYTES)).is_ok());
        for bad in ["", " \n", "a\0b", &"x".repeat(MAX_COMMAND_BYTES + 1)] {
            assert!(check(bad).is_err());
        }
    }

    #[test]
    fn env_splits_before_a_name_only() {
        for (argument, vars) in [
            ("A=1", &[("A", "1")][..]),
            ("A=1;B=2", &[("A", "1"), ("B", "2")]),
            ("A=x;y", &[("A", "x;y")]),
            ("A=x;y;B=a=b;", &[("A", "x;y"), ("B", "a=b;")]),
            ("A=;B=", &[("A", ""), ("B", "")]),
            ("A=1;2B=3", &[("A", "1;2B=3")]),
            ("A=;=", &[("A", ";=")]),
        ] {
            let split = split_env(argument).unwrap();
            let split: Vec<_> = split
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            assert_eq!(split, vars, "{argument}");
        }
        for bad in ["", "A", "=1", ";A=1", "1A=1", "A-B=1", "DYNO=x"] {
            assert!(split_env(bad).is_err(), "{bad}");
        }
    }

    /// What `shell` makes of `text`.
    fn arguments(shell: &str, text: &str) -> Vec<String> {
        let output = Command::new(shell)
            .args(["-c", text])
            .output()
            .expect("a shell");
        let output = String::from_utf8(output.stdout).expect("the same UTF-8");
        output.split_terminator('\0').map(str::to_owned).collect()
    }

    fn word() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-zA-Z0-9_./:,@%=+~^!#{}\\[\\]()<>|&;*?$`\"'\\\\ \t\n-]{0,12}",
            "[^\0]{0,8}",
            "[A-Z]=[~:a b]{0,4}",
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn every_word_arrives_unchanged(words in prop::collection::vec(word(), 1..6)) {
            let mut command = vec!["printf".to_owned(), "%s\\0".to_owned()];
            command.extend(words.iter().cloned());
            let text = join(&command);
            for shell in ["bash", "sh"] {
                prop_assert_eq!(&arguments(shell, &text), &words, "{}: {}", shell, text);
            }
        }

        #[test]
        fn assigned_values_arrive_unchanged(value in word()) {
            let text = join(&[&format!("FOO={value}"), "sh", "-c", "printf '%s\\0' \"$FOO\""]);
            prop_assert_eq!(&arguments("bash", &text), &[value], "{}", text);
        }

        #[test]
        fn splitting_loses_nothing(argument in "[AB]=[ab=;1AB]{0,12}") {
            let joined: Vec<_> =
                split_env(&argument).unwrap().iter().map(|(name, value)| format!("{name}={value}")).collect();
            prop_assert_eq!(joined.join(";"), argument);
        }
    }
}
