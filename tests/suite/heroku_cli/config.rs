//! `heroku config`, `config:set`, `config:get`, `config:unset`, `config:edit`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::Heroku;
use crate::harness::write;

#[test]
fn config_vars_are_set_shown_and_removed() {
    let Some(heroku) = Heroku::new() else {
        return;
    };
    heroku.app("shop", "worker: sleep 1000\n");
    let config = |args: &[&str]| heroku.run(&[args, &["-a", "shop"]].concat());
    config(&["config:set", "A=1", "B=two words", "C="])
        .succeeds()
        .says("Setting A, B, C and restarting shop... done, v3\n")
        .prints("A: 1\nB: two words\n");
    // What is the same already makes no release; the newest is named.
    config(&["config:set", "A=1"])
        .succeeds()
        .says("Setting A and restarting shop... done, v3\n")
        .prints("A: 1\n");
    config(&["config"])
        .succeeds()
        .says("")
        .prints("=== shop Config Vars\n\nA: 1\nB: two words\nC: ''\n");
    config(&["config", "--shell"])
        .succeeds()
        .prints("A=1\nB='two words'\nC=\n");
    config(&["config:get", "B", "NOPE", "A"])
        .succeeds()
        .says("")
        .prints("two words\n\n1\n");
    config(&["config:unset", "A", "NOPE"])
        .succeeds()
        .prints("")
        .says("Unsetting A, NOPE and restarting shop... done, v4\n");
    config(&["config", "--json"])
        .succeeds()
        .prints("{\n  \"B\": \"two words\",\n  \"C\": \"\"\n}\n");
    let bad = config(&["config:set", "PORT=1"]);
    bad.exits(2).mentions("PORT").mentions("invalid_params");
}

#[test]
fn config_vars_are_edited_in_an_editor() {
    let Some(mut heroku) = Heroku::new() else {
        return;
    };
    heroku.app("shop", "worker: sleep 1000\n");
    heroku
        .run(&["config:set", "-a", "shop", "KEPT=1", "GONE=2", "CHANGED=3"])
        .succeeds();
    let editor = heroku.host.path().join("editor");
    write(
        &editor,
        "#!/bin/sh\ngrep -v GONE \"$1\" | sed 's/CHANGED=3/CHANGED=4/' >\"$1.new\"\n\
         echo \"NEW='with blank'\" >>\"$1.new\"\nmv \"$1.new\" \"$1\"\n",
    );
    fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).unwrap();
    heroku.host.set("EDITOR", &editor);
    let terminal = heroku.terminal(&["config:edit", "-a", "shop"]);
    terminal.wait_for_text("Update config on");
    for line in [
        "- CHANGED=3",
        "+ CHANGED=4",
        "- GONE=2",
        "+ NEW='with blank'",
    ] {
        terminal.wait_for_line(line);
    }
    terminal.type_keys("y\r");
    terminal.exits(0);
    heroku
        .run(&["config", "-a", "shop"])
        .succeeds()
        .prints("=== shop Config Vars\n\nCHANGED: 4\nKEPT:    1\nNEW:     with blank\n");
}
