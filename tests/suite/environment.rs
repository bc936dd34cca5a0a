//! What reaches a command: variables from whom, its words as they were typed, process types, profile scripts.

use crate::harness::Host;

#[test]
fn the_request_wins_over_config_and_config_over_defaults() {
    let host = Host::new();
    let app = host.plain_app();
    host.dyno(
        &app,
        &[
            "config:set",
            "A=config",
            "B=config",
            "LANG=de_DE",
            "DYNO=x",
            "PORT=1",
        ],
    )
    .finish();
    host.dyno(&app, &["config:set", "A=config", "B=config", "LANG=de_DE"])
        .finish()
        .succeeds();
    host.run(&app, &["-q", "-e", "A=request", "echo $A $B $LANG $DYNO"])
        .finish()
        .succeeds()
        .prints("request config de_DE run.1\n");
}

#[test]
fn what_python_prints_is_not_held_back_unless_a_config_var_says_so() {
    let host = Host::new();
    let app = host.plain_app();
    let shown = "echo \"<$PYTHONUNBUFFERED>\"";
    host.run(&app, &["-q", shown]).finish().prints("<1>\n");
    host.dyno(&app, &["config:set", "PYTHONUNBUFFERED="])
        .finish()
        .succeeds();
    host.run(&app, &["-q", shown]).finish().prints("<>\n");
}

#[test]
fn the_name_of_the_dyno_is_not_the_users_to_set() {
    let host = Host::new();
    let app = host.plain_app();
    host.run(&app, &["-e", "DYNO=web.1", "true"])
        .finish()
        .fails_with(125, "DYNO", "");
    host.dyno(&app, &["config:set", "DYNO=web.1"])
        .finish()
        .fails_with(1, "DYNO", "");
    host.run(&app, &["-q", "echo $DYNO"])
        .finish()
        .prints("run.1\n");
}

#[test]
fn several_variables_in_one_option_or_several_options() {
    let host = Host::new();
    let app = host.plain_app();
    for (arguments, printed) in [
        (&["-e", "A=1;B=2"][..], "[1][2]"),
        (&["-e", "A=1", "-e", "B=2"], "[1][2]"),
        (&["--env", "A=1", "--env=B=2"], "[1][2]"),
        (&["-e", "A=x;y"], "[x;y][]"),
        (&["-e", "A=x;y;B=z"], "[x;y][z]"),
        (&["-e", "A=;B=a=b"], "[][a=b]"),
        (&["-e", "A=a b  c"], "[a b  c][]"),
        (&["-e", "A=$HOME `id`"], "[$HOME `id`][]"),
        (&["-e", "A=é\nline"], "[é\nline][]"),
    ] {
        let args = [&["-q"], arguments, &[r#"printf '[%s][%s]' "$A" "$B""#]].concat();
        host.run(&app, &args).finish().succeeds().prints(printed);
    }
    host.run(&app, &["-e", "A", "true"]).finish().fails_with(
        125,
        "`A` is not a variable",
        "-e NAME=VALUE",
    );
}

#[test]
fn words_arrive_as_they_were_typed() {
    let host = Host::new();
    let app = host.app("many-types");
    let words = [
        "a b", "$x", "it's", "", "*", "~", "a\nb", "\\", "\"", ";", "&&", "`id`", "#", "é", "-s",
        "--help",
    ];
    let printed: String = words.iter().map(|word| format!("[{word}]\n")).collect();
    let args = [&["-q", "bin/count-arguments"], &words[..]].concat();
    host.run(&app, &args).finish().succeeds().prints(&printed);
    let args = [&["-q", "--", "bin/count-arguments"], &words[..]].concat();
    host.run(&app, &args).finish().succeeds().prints(&printed);
}

#[test]
fn one_word_is_shell_text() {
    let host = Host::new();
    let app = host.app("many-types");
    for (text, printed) in [
        ("echo a; echo b", "a\nb\n"),
        ("X=1; echo $X | cat", "1\n"),
        ("bin/count-arguments 'a b' c", "[a b]\n[c]\n"),
        ("bin/say --help", "--help\n"),
        ("[[ a == a ]] && echo bash", "bash\n"),
    ] {
        host.run(&app, &["-q", text])
            .finish()
            .succeeds()
            .prints(printed);
    }
}

#[test]
fn assignments_before_the_command_assign() {
    let host = Host::new();
    let app = host.plain_app();
    host.run(&app, &["-q", "FOO=1", "BAR=a b", "printenv", "FOO", "BAR"])
        .finish()
        .succeeds()
        .prints("1\na b\n");
}

#[test]
fn options_after_the_command_are_the_commands() {
    let host = Host::new();
    let app = host.app("many-types");
    for words in [
        &["bin/say", "--help"][..],
        &["bin/say", "-s", "1X"],
        &["bin/say", "-a", "x"],
        &["bin/say", "-C", "/"],
        &["bin/say", "--", "-q"],
        &["bin/say", "-q", "--version"],
    ] {
        let args = [&["-q"], words].concat();
        let printed = format!("{}\n", words[1..].join(" "));
        host.run(&app, &args).finish().succeeds().prints(&printed);
    }
    host.run(&app, &["-q", "--", "echo", "-n", "x"])
        .finish()
        .succeeds()
        .prints("x");
}

#[test]
fn a_process_type_is_replaced_by_its_definition() {
    let host = Host::new();
    let app = host.app("many-types");
    for (words, printed) in [
        (&["myworker"][..], ""),
        (&["myworker", "42"], "[42]\n"),
        (&["myworker 42"], "[42]\n"),
        (&["myworker", "a b", "$x", "it's"], "[a b]\n[$x]\n[it's]\n"),
        (&["myworker a; echo $?"], "[a]\n0\n"),
        (&["-e", "WHO=you", "greet"], "hello, you\n"),
        (
            &["rake_task", "db:migrate", "--trace"],
            "rake db:migrate --trace\n",
        ),
        (&["echo", "myworker"], "myworker\n"),
    ] {
        let args = [&["-q"], words].concat();
        host.run(&app, &args).finish().succeeds().prints(printed);
    }
    // The status line and the log name what was asked for.
    host.run(&app, &["myworker", "42"])
        .finish()
        .says("Running myworker 42 attached to terminal... up, run.9\n");
}

#[test]
fn profile_scripts_are_sourced_in_order_and_none_stops_the_start() {
    let host = Host::new();
    let app = host.app("profile");
    let outcome = host
        .run(
            &app,
            &[
                "-q",
                "-e",
                "FROM=request",
                "echo \"$ORDER\"; echo $FROM; exit 3",
            ],
        )
        .finish();
    outcome
        .exits(3)
        .prints("first says hello\n1 2 fails b profile\nprofile\n");
    // The command is its own process all the same: no shell around it keeps a signal.
    host.run(&app, &["-q", "kill -TERM $$"]).finish().exits(143);
}

#[test]
fn another_type_names_the_dyno() {
    let host = Host::new();
    let app = host.plain_app();
    host.run(&app, &["--type", "console", "echo $DYNO"])
        .finish()
        .succeeds()
        .prints("console.1\n")
        .says("Running echo $DYNO attached to terminal... up, console.1\n");
    host.run(&app, &["-q", "echo $DYNO"])
        .finish()
        .prints("run.1\n");
    host.run(&app, &["-q", "--type", "a b", "true"])
        .finish()
        .exits(125)
        .mentions("error: ");
}

#[test]
fn every_size_of_the_table_is_known_in_any_case() {
    let host = Host::new();
    let app = host.plain_app();
    for size in [
        "eco",
        "Basic",
        "1X",
        "2x",
        "px",
        "standard-1X",
        "STANDARD-2X",
        "Performance-M",
        "performance-l",
        "Performance-L-RAM",
        "performance-xl",
        "performance-2xl",
        "private-s",
        "Shield-L",
        "free",
        "hobby",
    ] {
        host.run(&app, &["-q", "-s", size, "true"])
            .finish()
            .succeeds();
    }
    host.run(&app, &["-q", "--size=2X", "true"])
        .finish()
        .succeeds();
}

#[test]
fn numbers_increase_and_are_never_used_again() {
    let host = Host::new();
    let app = host.plain_app();
    let name = || host.run(&app, &["-q", "echo $DYNO"]).finish().text();
    assert_eq!(name(), "run.1\n");
    assert_eq!(name(), "run.2\n");
    host.kill_server();
    assert_eq!(name(), "run.3\n");
    let mut running = host
        .run(&app, &["-q", "echo $DYNO; cat"])
        .open_input()
        .start();
    running.wait_for_output("run.4\n");
    host.kill_server();
    assert_eq!(name(), "run.5\n");
    running.close_input();
    running.finish().succeeds();
    host.wait_until_clean();
}
