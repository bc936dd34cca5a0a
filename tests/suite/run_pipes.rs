//! `dyno run` without a terminal: three pipes, nothing added to them, nothing lost, and the exact status.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;
use std::thread;

use rustix::process::Signal;
use sha2::{Digest, Sha256};

use crate::harness::{self, Host, nothing};

#[test]
fn the_readme_line_prints_hello() {
    let host = Host::new();
    let hello = host.path().join("apps/hello");
    harness::copy_tree(&harness::root().join("examples/hello"), &hello);
    let elsewhere = host.path();
    host.dyno(
        &elsewhere,
        &[
            "-C",
            "apps/hello",
            "run",
            r#"echo "hello from $DYNO in $PWD""#,
        ],
    )
    .finish()
    .succeeds()
    .prints("hello from run.1 in /app\n");
    host.wait_until_clean();
}

#[test]
fn stdout_is_the_commands_alone_and_the_status_line_is_on_stderr() {
    let host = Host::new();
    let app = host.plain_app();
    host.run(&app, &["echo out; echo err >&2"])
        .finish()
        .succeeds()
        .prints("out\n")
        .says("Running echo out; echo err >&2 attached to terminal... up, run.1\nerr\n");
    host.run(&app, &["echo", "a b"])
        .finish()
        .succeeds()
        .prints("a b\n")
        .says("Running echo 'a b' attached to terminal... up, run.2\n");
    host.wait_until_clean();
}

#[test]
fn quiet_says_nothing() {
    let host = Host::new();
    let app = host.folder("plain");
    for flag in ["-q", "--quiet"] {
        host.run(&app, &[flag, "echo out"])
            .finish()
            .succeeds()
            .prints("out\n")
            .says("");
    }
}

#[test]
fn the_status_of_the_command_is_the_status_of_run() {
    let host = Host::new();
    let app = host.plain_app();
    for (command, status) in [
        ("true", 0),
        ("exit 3", 3),
        ("exit 255", 255),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
        ("kill -INT $$", 130),
        ("no-such-program", 127),
        ("./Procfile", 126),
        ("/no/such/file", 127),
        ("sh -c 'kill -SEGV $$'", 139),
    ] {
        for flag in ["-q", "-qx", "-q --exit-code"] {
            let args: Vec<_> = flag.split(' ').chain([command]).collect();
            let outcome = host.run(&app, &args).finish();
            outcome.exits(status);
        }
    }
    host.wait_until_clean();
}

#[test]
fn a_shell_says_why_a_command_cannot_run() {
    let host = Host::new();
    let app = host.plain_app();
    host.run(&app, &["-q", "no-such-program"])
        .finish()
        .exits(127)
        .prints("")
        .mentions("no-such-program: command not found");
    host.run(&app, &["-q", "no-such-program", "with", "arguments"])
        .finish()
        .exits(127)
        .mentions("no-such-program: command not found");
}

#[test]
fn a_hundred_megabytes_of_any_bytes_come_back_the_same() {
    let host = Host::new();
    let app = host.plain_app();
    let mut running = host
        .run(&app, &["-q", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    // Their own pipes: the bytes are to be seen once, not kept.
    let (input, mut feed) = std::io::pipe().unwrap();
    let (mut output, sink) = std::io::pipe().unwrap();
    running = running.stdin(input).stdout(sink);
    let running = running.start();
    let feeder = thread::spawn(move || {
        let mut sent = Sha256::new();
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut piece = vec![0; 1 << 20];
        for _ in 0..100 {
            for word in piece.chunks_exact_mut(8) {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                word.copy_from_slice(&random.to_le_bytes());
            }
            sent.update(&piece);
            feed.write_all(&piece).unwrap();
        }
        sent.finalize()
    });
    let (mut received, mut length) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = output.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        length += count;
        received.update(&buffer[..count]);
    }
    running.finish().succeeds().says("");
    assert_eq!(length, 100 << 20);
    assert_eq!(feeder.join().unwrap(), received.finalize());
}

#[test]
fn files_at_both_ends_are_as_good_as_pipes() {
    let host = Host::new();
    let app = host.plain_app();
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let (from, to) = (host.path().join("from"), host.path().join("to"));
    std::fs::write(&from, &bytes).unwrap();
    std::fs::write(&to, "kept\n").unwrap();
    let append = File::options().append(true).open(&to).unwrap();
    host.run(&app, &["-q", "cat"])
        .stdin(File::open(&from).unwrap())
        .stdout(append)
        .finish()
        .succeeds();
    let expected: Vec<u8> = b"kept\n".iter().chain(&bytes).copied().collect();
    assert!(std::fs::read(&to).unwrap() == expected);
}

#[test]
fn the_end_of_input_reaches_the_command() {
    let host = Host::new();
    let app = host.plain_app();
    host.run(&app, &["-q", "wc -c"])
        .input("12345")
        .finish()
        .succeeds()
        .prints("5\n");
    host.run(&app, &["-q", "wc -c"])
        .finish()
        .succeeds()
        .prints("0\n");
    host.run(&app, &["-q", "wc -c"])
        .stdin(nothing())
        .finish()
        .succeeds()
        .prints("0\n");
}

#[test]
fn a_closed_standard_input_is_the_end_of_input() {
    let host = Host::new();
    let app = host.plain_app();
    let mut shell = std::process::Command::new("/bin/sh");
    let output = shell
        .args(["-c", r#""$0" run -q 'cat; echo done' <&-"#])
        .arg(harness::binary())
        .current_dir(&app)
        .env_clear()
        .envs(host.env())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n");
    assert!(output.status.success(), "{:?}", output.status);
}

#[test]
fn input_is_not_echoed_and_lines_keep_their_ends() {
    let host = Host::new();
    let app = host.plain_app();
    let bytes = b"one\ntwo\r\nthree\x04\x03four\0".to_vec();
    let outcome = host.run(&app, &["-q", "cat"]).input(bytes.clone()).finish();
    outcome.succeeds().says("");
    assert_eq!(outcome.stdout, bytes);
    host.run(&app, &["-q", "echo one; echo two; tty"])
        .finish()
        .exits(1)
        .prints("one\ntwo\nnot a tty\n");
}

#[test]
fn an_interactive_conversation_is_not_held_back() {
    let host = Host::new();
    let app = host.plain_app();
    let mut running = host
        .run(
            &app,
            &["-q", "while read -r line; do echo \"<$line>\"; done"],
        )
        .open_input()
        .start();
    for word in ["first", "second", "third"] {
        running.write(&format!("{word}\n"));
        running.wait_for_output(&format!("<{word}>\n"));
    }
    running.close_input();
    running.finish().succeeds();
}

#[test]
fn the_last_byte_arrives_without_a_line_feed() {
    let host = Host::new();
    let app = host.plain_app();
    for _ in 0..10 {
        host.run(&app, &["-q", "printf x; printf y >&2; exit 7"])
            .finish()
            .exits(7)
            .prints("x")
            .says("y");
    }
}

#[test]
fn a_burst_before_the_end_is_not_cut() {
    let host = Host::new();
    let app = host.plain_app();
    for _ in 0..5 {
        let outcome = host
            .run(&app, &["-q", "seq 1 200000; seq 1 1000 >&2; exit 9"])
            .finish();
        outcome.exits(9);
        assert!(outcome.text().ends_with("\n200000\n"));
        assert_eq!(outcome.text().lines().count(), 200_000);
        assert_eq!(outcome.errors().lines().count(), 1000);
    }
}

#[test]
fn a_reader_that_leaves_is_the_commands_broken_pipe() {
    let host = Host::new();
    let app = host.plain_app();
    let (mut output, sink) = std::io::pipe().unwrap();
    let running = host.run(&app, &["-q", "yes"]).stdout(sink).start();
    let mut some = [0; 20];
    output.read_exact(&mut some).unwrap();
    drop(output);
    running.finish().exits(141).says("");
    host.wait_until_clean();
}

#[test]
fn a_command_that_reads_a_little_of_an_endless_input_ends() {
    let host = Host::new();
    let app = host.plain_app();
    let (input, mut feed) = std::io::pipe().unwrap();
    let feeder = thread::spawn(move || while feed.write_all(b"yes yes yes\n").is_ok() {});
    host.run(&app, &["-q", "head -c1"])
        .stdin(input)
        .finish()
        .succeeds()
        .prints("y");
    feeder.join().unwrap();
    host.wait_until_clean();
}

#[test]
fn a_closed_reader_of_stderr_does_not_stop_stdout() {
    let host = Host::new();
    let app = host.plain_app();
    let (errors, sink) = std::io::pipe().unwrap();
    drop(errors);
    host.run(&app, &["-q", "trap '' PIPE; echo lost >&2; echo kept"])
        .stderr(sink)
        .finish()
        .succeeds()
        .prints("kept\n");
}

#[test]
fn a_process_left_behind_does_not_keep_the_session() {
    let host = Host::new();
    let app = host.plain_app();
    host.run(&app, &["-q", "sleep 1000 & setsid sleep 1000 & echo done"])
        .finish()
        .succeeds()
        .prints("done\n");
    host.wait_until_clean();
}

#[test]
fn a_slow_reader_slows_the_command_and_loses_nothing() {
    let host = Host::new();
    let app = host.app("flood");
    let (mut output, sink) = std::io::pipe().unwrap();
    let running = host
        .run(&app, &["-q", "flood 3000000"])
        .stdout(sink)
        .start();
    let (mut length, mut buffer) = (0, [0; 1000]);
    loop {
        match output.read(&mut buffer).unwrap() {
            0 => break,
            count => length += count,
        }
    }
    running.finish().succeeds();
    assert_eq!(length, 3_000_000);
}

#[test]
fn a_signal_to_the_command_itself_is_told_in_the_status_and_the_log() {
    let host = Host::new();
    let app = host.plain_app();
    let mut running = host
        .run(&app, &["-q", "echo $$; exec cat"])
        .open_input()
        .start();
    running.wait_for_output("\n");
    let command = harness::eventually("the command's process", || {
        host.processes().into_iter().find(|process| {
            std::fs::read_to_string(format!("/proc/{}/comm", process.pid))
                .is_ok_and(|name| name == "cat\n")
        })
    });
    command.signal(Signal::TERM);
    running.close_input();
    running.finish().exits(143);
    host.wait_for_log("heroku[run.1]: Process exited with status 143");
    host.wait_until_clean();
}

#[test]
fn several_sessions_at_once_do_not_mix() {
    let host = Host::new();
    let app = host.plain_app();
    let running: Vec<_> = (0..8)
        .map(|number| {
            let command = format!("cat; echo {number} $DYNO; exit {number}");
            host.run(&app, &["-q", &command])
                .input(format!("input {number}\n"))
                .start()
        })
        .collect();
    let mut names = std::collections::BTreeSet::new();
    for (number, running) in running.into_iter().enumerate() {
        let outcome = running.finish();
        outcome.exits(number as i32);
        let text = outcome.text();
        let name = text
            .strip_prefix(&format!("input {number}\n{number} "))
            .unwrap_or_else(|| outcome.wrong("mixed"));
        names.insert(name.to_owned());
    }
    assert_eq!(names.len(), 8, "{names:?}");
    host.wait_until_clean();
}

#[test]
fn stdout_and_stderr_on_one_file_do_not_overwrite_each_other() {
    let host = Host::new();
    let app = host.plain_app();
    let path = host.path().join("both");
    let file = File::create(&path).unwrap();
    // Each line is written once the one before must have arrived, by another stream.
    let command =
        "echo one; sleep 0.05; echo two >&2; sleep 0.05; echo three; sleep 0.05; echo four >&2";
    host.run(&app, &["-q", command])
        .stdout(file.try_clone().unwrap())
        .stderr(file.try_clone().unwrap())
        .finish()
        .succeeds();
    writeln!(&file, "five").unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, "one\ntwo\nthree\nfour\nfive\n");
}
