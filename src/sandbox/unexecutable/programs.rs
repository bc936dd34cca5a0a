//! Which programs a command's shell text names, as far as that is known without running it.

/// Words before a program's name that are keywords, or that run the program that follows.
const PREFIXES: [&str; 16] = [
    "exec", "command", "builtin", "env", "nohup", "setsid", "time", "if", "then", "else", "elif",
    "while", "until", "do", "!", "{",
];

/// Builtins of the shell with which a command may begin.
const BUILTINS: [&str; 40] = [
    ".", ":", "[", "[[", "alias", "bg", "break", "case", "cd", "continue", "declare", "done",
    "echo", "esac", "eval", "exit", "export", "false", "fg", "fi", "for", "function", "hash",
    "jobs", "kill", "local", "printf", "pwd", "read", "return", "select", "set", "shift", "source",
    "test", "trap", "true", "type", "ulimit", "umask",
];

/// More builtins of the shell.
const MORE_BUILTINS: [&str; 6] = ["unset", "wait", "}", "times", "shopt", "let"];

/// The programs that the simple commands of a shell text name, in order, as far as they are known without running it.
/// None where that is not known: the text defines functions, or changes what names mean.
pub(super) fn programs(text: &str) -> Option<Vec<String>> {
    let mut programs = Vec::new();
    for command in simple_commands(text)? {
        let mut after_env = false;
        for word in command {
            // A word that only the running shell knew may be any program.
            let Some(word) = word else { break };
            if let Some((name, _)) = assignment(&word) {
                if name == "PATH" {
                    return Some(programs);
                }
                continue;
            }
            if PREFIXES.contains(&&*word) {
                after_env |= word == "env";
                continue;
            }
            // An option of one of these words may take a value.
            if word.starts_with('-') {
                break;
            }
            if word == "cd" || word == "eval" || word == "." || word == "source" || word == "alias"
            {
                // What follows may be found elsewhere, or be no program.
                return Some(programs);
            }
            let builtin = BUILTINS.contains(&&*word) || MORE_BUILTINS.contains(&&*word);
            if !builtin || after_env {
                programs.push(word);
            }
            break;
        }
    }
    Some(programs)
}

/// `NAME=value`.
fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let mut characters = name.chars();
    let first = characters.next()?;
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!first.is_ascii_digit() && fits(first) && characters.all(fits)).then_some((name, value))
}

/// The words of each simple command. A word is None where it depends on what the shell finds when it runs.
fn simple_commands(text: &str) -> Option<Vec<Vec<Option<String>>>> {
    let (mut commands, mut command) = (Vec::new(), Vec::new());
    let mut characters = text.chars().peekable();
    // The word that is being read; whether it is known; whether it is what a redirection goes to.
    let (mut word, mut known, mut target): (Option<String>, bool, bool) = (None, true, false);
    let mut before_text = false;
    loop {
        let next = characters.next();
        let ends_word = match next {
            None => true,
            Some(c) => c.is_whitespace() || ";&|<>()".contains(c),
        };
        if ends_word {
            let digits = |word: &String| word.bytes().all(|byte| byte.is_ascii_digit());
            if let Some(done) = word.take() {
                let descriptor = matches!(next, Some('<' | '>')) && digits(&done);
                if !std::mem::take(&mut target) && !descriptor {
                    command.push(known.then_some(done));
                }
                known = true;
            }
        }
        match next {
            // The text of a here-document follows, whose end is not found here.
            Some('\n') if before_text => {
                commands.push(command);
                return Some(commands);
            }
            None | Some(';' | '|' | '\n') => commands.push(std::mem::take(&mut command)),
            // A function, a subshell or a substitution, which are not parsed here.
            Some('(' | ')') => return None,
            Some('&') if matches!(characters.peek(), Some('>')) => {}
            Some('&') if target => {}
            Some('&') => commands.push(std::mem::take(&mut command)),
            Some('<') if characters.next_if_eq(&'<').is_some() => {
                // `<<<` takes a word instead of a text.
                before_text |= characters.next_if_eq(&'<').is_none();
                target = true;
            }
            Some('<' | '>') => target = true,
            Some(c) if c.is_whitespace() => {}
            Some('#') if word.is_none() => while characters.next_if(|c| *c != '\n').is_some() {},
            Some(c) => {
                let word = word.get_or_insert_default();
                match c {
                    '\'' => loop {
                        match characters.next()? {
                            '\'' => break,
                            c => word.push(c),
                        }
                    },
                    '"' => loop {
                        match characters.next()? {
                            '"' => break,
                            '\\' => word.push(characters.next()?),
                            c => {
                                known &= !matches!(c, '$' | '`');
                                word.push(c);
                            }
                        }
                    },
                    '\\' => match characters.next()? {
                        '\n' => {}
                        c => word.push(c),
                    },
                    c => {
                        known &= !matches!(c, '$' | '`' | '*' | '?' | '[' | '~' | '{')
                            || c == '[' && word.is_empty();
                        word.push(c);
                    }
                }
            }
        }
        if next.is_none() {
            return Some(commands);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(command: &str) -> Vec<String> {
        programs(command).unwrap_or_default()
    }

    #[test]
    fn the_text_of_a_here_document_is_no_program() {
        for (text, expected) in [
            ("one <<X\nnope\nX\nexit 127", &["one"][..]),
            ("one <<-'X' | two\nnope\nX\n", &["one", "two"]),
            ("one <<< word\ntwo", &["one", "two"]),
        ] {
            assert_eq!(programs(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn a_command_names_its_programs() {
        for (command, wanted) in [
            ("./run.sh --x", &["./run.sh"][..]),
            ("exec ./run.sh", &["./run.sh"]),
            ("A=1 B='x y' exec env C=2 python3 web.py", &["python3"]),
            (
                "true && ./a 2>&1 >log | ./b; ./c & ./d",
                &["./a", "./b", "./c", "./d"],
            ),
            ("if ./a; then echo x; fi", &["./a"]),
            ("'./a b' c \"./d\"", &["./a b"]),
            ("echo hi # ./no\n./yes", &["./yes"]),
            ("$HOME/bin/x", &[]),
            ("\"$X\" ./a", &[]),
            ("./a > ./out 2> err", &["./a"]),
            ("./a\\ b", &["./a b"]),
            ("cd sub && ./a", &[]),
            ("PATH=x:$PATH a", &[]),
            ("nice -n 5 ./a", &["nice"]),
            ("exec -a name ./a", &[]),
            ("f() { ./a; }; f", &[]),
            ("for x in 1 2; do ./a; done", &["./a"]),
            ("echo 'open", &[]),
            ("", &[]),
        ] {
            assert_eq!(of(command), wanted, "{command}");
        }
    }
}
