//! `dyno auth:token`.

use serde_json::Value;

use super::api_tcp::Remote;
use super::harness::Host;

#[test]
fn a_token_is_shown_once_listed_without_it_and_good_until_it_is_revoked() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    host.plain_app();
    let place = host.path();
    let mut remote = Remote::of(&host);
    let made = host
        .dyno(&place, &["auth:token", "--name", "CI", "--expires", "1h"])
        .finish();
    let token = made.succeeds().mentions("Made the token `CI`").text();
    assert!(
        token.starts_with("dyno_") && token.lines().count() == 1,
        "{token}"
    );
    remote.token = token.trim().to_owned();
    assert_eq!(remote.ask("GET /apps", &Value::Null).status, 200);
    let list = host
        .dyno(&place, &["auth:token", "--list"])
        .finish()
        .succeeds()
        .text();
    let line = list.lines().find(|line| line.contains("  CI  ")).unwrap();
    assert!(
        line.contains("last used ") && line.contains(", expires in "),
        "{line}"
    );
    assert!(!list.contains(&remote.token));
    host.dyno(&place, &["auth:token", "--revoke", "CI"])
        .finish()
        .succeeds()
        .mentions("Revoked the token `CI`.");
    assert_eq!(remote.ask("GET /apps", &Value::Null).status, 401);
    host.dyno(&place, &["auth:token", "--revoke", "CI"])
        .finish()
        .fails_with(1, "no token `CI`", "dyno auth:token --list");
    host.dyno(&place, &["auth:token", "--expires", "soon"])
        .finish()
        .fails_with(1, "`soon` is not a length of time", "90");
}

#[test]
fn tokens_are_authorizations_as_heroku_has_them() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    host.plain_app();
    let remote = Remote::of(&host);
    let wish = serde_json::json!({"description": "deploys", "expires_in": 3600});
    let made = remote.ask("POST /oauth/authorizations", &wish);
    assert_eq!(made.status, 201);
    let made = made.json();
    let fresh = Remote {
        token: made["access_token"]["token"].as_str().unwrap().to_owned(),
        ..remote.clone()
    };
    let list = fresh.ask("GET /oauth/authorizations", &Value::Null).json();
    let listed = list
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["id"] == made["id"])
        .unwrap();
    assert_eq!(listed["description"], "deploys");
    assert_eq!(listed["access_token"]["token"], "********");
    // One may revoke oneself.
    let target = format!(
        "DELETE /oauth/authorizations/{}",
        made["id"].as_str().unwrap()
    );
    assert_eq!(fresh.ask(&target, &Value::Null).status, 200);
    assert_eq!(fresh.ask("GET /apps", &Value::Null).status, 401);
    assert_eq!(remote.ask(&target, &Value::Null).status, 404);
}

/// Runs a line of shell in which `$dyno` is the binary, and gives what it prints.
fn shell(host: &Host, line: &str) -> String {
    let mut sh = std::process::Command::new("sh");
    sh.env_clear().envs(host.env()).env("dyno", host.program());
    let output = sh.args(["-euc", line]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn one_line_sets_herokus_command_line_up_and_a_second_time_adds_nothing() {
    let host = Host::with(&[("DYNO_IDLE_LINGER", "60")]);
    host.plain_app();
    let set_up = r#"eval "$("$dyno" heroku:env)""#;
    let show = "env | grep -E '^(HEROKU|NODE|DISABLE|GIT)_' | sort";
    let once = shell(&host, &format!("{set_up}; {show}"));
    assert_eq!(once, shell(&host, &format!("{set_up}; {set_up}; {show}")));
    let value = |name: &str| {
        let line = once
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("no {name} in {once}"))
            .to_owned()
    };
    let api = value("HEROKU_HOST");
    let remote = Remote {
        address: api.strip_prefix("https://").unwrap().parse().unwrap(),
        token: value("HEROKU_API_KEY"),
    };
    assert_eq!(remote.ask("GET /account", &Value::Null).status, 200);
    assert_eq!(value("HEROKU_PARTICLEBOARD_URL"), api);
    assert_eq!(value("GIT_CONFIG_COUNT"), "1");
    assert_eq!(value("GIT_CONFIG_VALUE_0"), value("NODE_EXTRA_CA_CERTS"));
    assert!(
        std::fs::read_to_string(value("NODE_EXTRA_CA_CERTS"))
            .unwrap()
            .contains("BEGIN CERTIFICATE")
    );
    // What git was told before stays.
    let before = "export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=user.name GIT_CONFIG_VALUE_0=Ada";
    let taken_back = format!(
        "{before}; {set_up}; test $GIT_CONFIG_COUNT = 2; eval \"$(\"$dyno\" heroku:env --unset)\"; {show}"
    );
    assert_eq!(
        shell(&host, &taken_back),
        "GIT_CONFIG_COUNT=1\nGIT_CONFIG_KEY_0=user.name\nGIT_CONFIG_VALUE_0=Ada\n"
    );
    let warned = shell(&host, "GIT_SSL_CAINFO=/other.pem \"$dyno\" heroku:env 2>&1");
    assert!(warned.starts_with("GIT_SSL_CAINFO is set, "), "{warned}");
    // It listens, so it stays.
    let told = host.dyno(&host.path(), &["server:status"]).finish();
    let told = told.succeeds().text();
    assert!(
        told.contains("started by:   a command; stays, since it listens\n"),
        "{told}"
    );
    // It takes nothing but a shell to take it back: the state folder of a host that never ran anything stays empty.
    let nothing = host.path().join("nothing");
    let unset = format!(
        "DYNO_HOME={} \"$dyno\" heroku:env --unset",
        nothing.display()
    );
    assert!(shell(&host, &unset).starts_with("unset HEROKU_HOST\n"));
    assert_eq!(std::fs::read_dir(&nothing).unwrap().count(), 0);
    // A token that was revoked is replaced.
    host.dyno(&host.path(), &["auth:token", "--revoke", "heroku:env"])
        .finish()
        .succeeds();
    let next = shell(&host, &format!("{set_up}; printf %s \"$HEROKU_API_KEY\""));
    assert_ne!(next, remote.token);
    let next = Remote {
        token: next,
        ..remote
    };
    assert_eq!(next.ask("GET /account", &Value::Null).status, 200);
}
