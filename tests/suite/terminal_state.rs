//! The user's terminal and the dyno's: what the one begins with of the other's, and what is left behind.

use std::fs;

use rustix::process::Signal;

use crate::harness::{Host, lacks};
use crate::terminal::{CTRL_C, Terminal};

/// What programs switch on, and off again.
const ON_AND_OFF: [(&str, &str); 9] = [
    ("\x1b[?1049h", "\x1b[?1049l"),
    ("\x1b[?1002h", "\x1b[?1002l"),
    ("\x1b[?1006h", "\x1b[?1006l"),
    ("\x1b[?1004h", "\x1b[?1004l"),
    ("\x1b[?2004h", "\x1b[?2004l"),
    ("\x1b[?25l", "\x1b[?25h"),
    ("\x1b[?1h", "\x1b[?1l"),
    ("\x1b[>1u", "\x1b[<1u"),
    ("\x1b[1;31m", "\x1b[m"),
];

/// Options of a run, its exit status, and what ends it.
type End<'a> = (&'a [&'a str], u32, fn(&Host, &Terminal<'_>));

/// Shell text that switches all of it on, or all of it off.
fn switch(on: bool) -> String {
    let sequences = ON_AND_OFF.map(|(switched_on, off)| if on { switched_on } else { off });
    format!("printf '{}'", sequences.concat().replace('\x1b', "\\033"))
}

/// What was drawn from this text on.
fn drawn_since(terminal: &Terminal<'_>, text: &str) -> String {
    let drawn = String::from_utf8(terminal.bytes()).unwrap();
    let at = drawn
        .rfind(text)
        .unwrap_or_else(|| panic!("no {text:?} in {drawn:?}"));
    drawn[at + text.len()..].to_owned()
}

#[test]
fn modes_are_switched_off_when_a_session_does_not_end_by_its_command() {
    let host = Host::with(&[("DYNO_HANGUP_INTERVAL", "1")]);
    let app = host.plain_app();
    let command = format!("{}; echo rea''dy; exec sleep 1000", switch(true));
    let ends: [End<'_>; 6] = [
        (&["--ttl", "2s"], 143, |_, _| ()),
        (&[], 143, |host, _| {
            let folder = host.path().join("apps/plain");
            host.dyno(&folder, &["ps:stop", "run"]).finish().succeeds();
        }),
        (&[], 143, |_, terminal| terminal.signal(Signal::TERM)),
        (&[], 129, |_, terminal| terminal.signal(Signal::HUP)),
        (&[], 130, |_, terminal| {
            terminal.type_keys(&CTRL_C.repeat(4))
        }),
        (&[], 125, |host, _| {
            host.wait_for_supervisor().signal(Signal::KILL);
        }),
    ];
    for (options, code, end) in ends {
        let ignores = match code {
            130 => format!("trap '' INT; {command}"),
            _ => command.clone(),
        };
        let terminal = Terminal::run(&host, &app, &[&["-q"], options, &[&ignores]].concat());
        terminal.wait_for_text("ready");
        end(&host, &terminal);
        terminal.exits(code);
        let rest = drawn_since(&terminal, "ready");
        for (on, off) in ON_AND_OFF {
            assert_eq!(
                rest.matches(off).count(),
                1,
                "{on:?} {options:?} {code}: {rest:?}"
            );
        }
        terminal.is_restored();
    }
    host.wait_until_clean();
}

#[test]
fn nothing_is_added_to_what_a_command_printed_that_ends_by_itself_or_tidied_up() {
    let host = Host::new();
    let app = host.plain_app();
    // It is the command's wish.
    let terminal = Terminal::run(
        &host,
        &app,
        &["-q", &format!("{}; echo d''one", switch(true))],
    );
    terminal.exits(0);
    assert_eq!(drawn_since(&terminal, "done"), "\r\n");
    let command = format!("{}; {}; echo d''one; kill $$", switch(true), switch(false));
    let terminal = Terminal::run(&host, &app, &["-q", &command]);
    terminal.exits(143);
    assert_eq!(drawn_since(&terminal, "done"), "\r\n");
    // Nor where it would be no terminal's.
    host.run(
        &app,
        &["-q", "--tty", &format!("{}; kill $$", switch(true))],
    )
    .finish()
    .exits(143)
    .holds("nothing switched off", |text| !text.contains("\x1b[?1049l"));
}

#[test]
fn a_dynos_terminal_begins_with_the_settings_of_the_users() {
    let host = Host::new();
    let app = host.plain_app();
    let program = host.program().display().to_string();
    host.dyno(&app, &["run:detached", "-q", "sleep 1000"])
        .finish()
        .prints("run.1\n");
    let script = format!(
        "stty iutf8 -ixon erase '^H' intr '^A' kill undef -echoctl; stty -a >here; \
         {program} run -q --tty 'stty -a' >there; \
         {program} run:inside -q --tty run.1 'stty -a' >inside; echo d''one"
    );
    let terminal = Terminal::start(&host, &app, &["sh", "-c", &script]);
    terminal.wait_for_line("done");
    let read = |name: &str| {
        let text = fs::read_to_string(app.join(name))
            .unwrap()
            .replace('\r', "");
        text.trim_end().to_owned()
    };
    let here = read("here");
    assert!(
        here.contains("erase = ^H") && here.contains(" iutf8"),
        "{here}"
    );
    assert_eq!([read("there"), read("inside")], [here.clone(), here]);
}

#[test]
fn without_a_terminal_here_a_dynos_is_as_any_of_today() {
    let host = Host::new();
    let app = host.plain_app();
    host.run(&app, &["-q", "--tty", "stty -a"])
        .finish()
        .succeeds()
        .holds("UTF-8", |text| {
            text.contains(" iutf8") && text.contains("erase = ^?")
        });
}

#[test]
fn what_was_typed_before_the_terminal_was_raw_is_the_commands() {
    let host = Host::new();
    let app = host.plain_app();
    let program = host.program().display().to_string();
    // The command line begins when all of it was typed.
    let script = format!(
        "until test -e go; do sleep 0.05; done; exec {program} run -q 'cat >typed; od -c typed'"
    );
    let terminal = Terminal::start(&host, &app, &["sh", "-c", &script]);
    terminal.type_keys("one\rtwo\x04\x04");
    terminal.wait_for_text("two");
    fs::write(app.join("go"), "").unwrap();
    terminal.exits(0);
    terminal.wait_for_text("0000000   o   n   e  \\n   t   w   o");
}

#[test]
fn a_terminal_that_only_its_user_knows_is_known_in_the_dyno() {
    if lacks("tic") {
        return;
    }
    let host = Host::new();
    let app = host.plain_app();
    let home = host.path().join("somebodys");
    fs::create_dir(&home).unwrap();
    fs::write(
        home.join("source"),
        "xterm-mine|mine,\n\tcolors#77, use=xterm,\n",
    )
    .unwrap();
    let (source, own) = (home.join("source"), home.join(".terminfo"));
    let words = ["-x", "-o", own.to_str().unwrap(), source.to_str().unwrap()];
    host.program_of("tic".as_ref(), &app, &words)
        .finish()
        .succeeds();
    let command = "tput colors; TERM=xterm tput colors >/dev/null && echo others";
    let words = ["run", "-q", "--tty", command];
    let run = host.dyno(&app, &words).env("TERM", "xterm-mine");
    run.env("HOME", &home)
        .finish()
        .succeeds()
        .prints("77\r\nothers\r\n");
    // Where its variable says, and inside of a dyno.
    let first = host.run(&app, &["-q", "echo up; cat"]).open_input().start();
    first.wait_for_output("up\n");
    let words = ["run:inside", "-q", "--tty", "run.2", command];
    host.dyno(&app, &words)
        .env("TERM", "xterm-mine")
        .env("TERMINFO", &own)
        .finish()
        .succeeds()
        .prints("77\r\nothers\r\n");
    first.finish_input().succeeds();
    // The user's word counts.
    host.run(
        &app,
        &["-q", "--tty", "-e", "TERMINFO=/mine", "echo $TERMINFO"],
    )
    .env("TERM", "xterm-mine")
    .env("HOME", &home)
    .finish()
    .prints("/mine\r\n");
}
