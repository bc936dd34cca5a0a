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
