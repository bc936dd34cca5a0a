//! `heroku apps`, `apps:create`, `apps:info`, `apps:destroy`, `maintenance`.

use serde_json::Value;

use super::{Heroku, told};
use crate::formation;

#[test]
fn apps_are_made_listed_and_destroyed() {
    let Some(heroku) = Heroku::new() else {
        return;
    };
    heroku
        .run(&["apps"])
        .succeeds()
        .says("")
        .prints("You have no apps.\n");

    let address = heroku.address();
    let made = heroku.run(&["apps:create", "shop"]);
    made.succeeds().says("Creating shop... done\n");
    let app = heroku.app_info("shop");
    let web_url = app["web_url"].as_str().unwrap();
    assert!(web_url.starts_with("http://shop.localhost:"), "{web_url}");
    made.prints(&format!("{web_url} | https://{address}/shop.git\n"));

    // In a checkout, the app becomes a remote of it. Where it is to run and on what is for Heroku to say; here
    // there is one of each.
    let folder = heroku.host.folder_of("checkout", &[("Procfile", "")]);
    heroku.git(&folder, &["init", "-q"]);
    let flags = [
        "create",
        "acme",
        "--region",
        "eu",
        "-s",
        "heroku-24",
        "-b",
        "heroku/python",
    ];
    let made = heroku.command_in(&folder, &flags).finish();
    made.succeeds();
    let said = told(&made.errors());
    assert_eq!(
        said,
        "Creating acme... done, region is us, stack is host \
         Setting buildpack to heroku/python... done"
    );
    let remote = heroku.git(&folder, &["remote", "get-url", "heroku"]);
    assert_eq!(remote, format!("https://{address}/acme.git\n"));

    let again = heroku.run(&["create", "shop"]);
    again.exits(2).prints("");
    assert_eq!(
        told(&again.errors()),
        "Creating shop... ! Error: the name `shop` is taken Error ID: invalid_params"
    );
    let all = heroku.run(&["apps", "--all"]);
    all.succeeds()
        .says("")
        .prints("=== dyno@localhost Apps\n\nacme\nshop\n");
    let json: Value = serde_json::from_str(&heroku.run(&["apps", "--json"]).text()).unwrap();
    assert_eq!(
        (&json[0]["name"], &json[1]["name"]),
        (&"acme".into(), &"shop".into())
    );

    let destroy = heroku.command_in(&folder, &["apps:destroy", "-a", "acme", "-c", "acme"]);
    destroy
        .finish()
        .succeeds()
        .says("Destroying acme (including all add-ons)... done\n");
    assert_eq!(heroku.git(&folder, &["remote"]), "");
    let gone = heroku.run(&["apps:info", "-a", "acme"]);
    gone.exits(2).prints("");
    assert_eq!(
        told(&gone.errors()),
        "Error: no app named `acme` Error ID: not_found"
    );
}

#[test]
fn an_app_with_running_dynos_is_shown_closed_and_destroyed() {
    let Some(heroku) = Heroku::new() else {
        return;
    };
    let app = heroku.app(
        "shop",
        "web: exec python3 -m http.server $PORT\nworker: sleep 1000\n",
    );
    let resource = heroku.app_info("shop");
    let web_url = resource["web_url"].as_str().unwrap();
    let git_url = format!("https://{}/shop.git", heroku.address());
    let shown = heroku.run(&["apps:info", "-a", "shop"]);
    shown.succeeds().says("");
    let lines: Vec<_> = shown.text().lines().map(str::to_owned).collect();
    assert_eq!(lines[..2], ["=== shop", ""]);
    let size = lines
        .iter()
        .find_map(|line| line.strip_prefix("Slug Size:"));
    assert!(
        size.is_some_and(|size| size.trim().ends_with('B')),
        "{lines:?}"
    );
    for line in [
        "Auto Cert Mgmt: false".to_owned(),
        format!("Git URL:        {git_url}"),
        format!("Web URL:        {web_url}"),
        "Repo Size:      0 B".to_owned(),
        "Owner:          dyno@localhost".to_owned(),
        "Region:         us".to_owned(),
        "Dynos:          web: 1".to_owned(),
        "Stack:          host".to_owned(),
    ] {
        assert!(lines.contains(&line), "`{line}` is not in {lines:#?}");
    }
    let shell = heroku.run(&["info", "-a", "shop", "--shell"]);
    shell.succeeds().says("");
    for line in [
        "addons=",
        "collaborators=",
        &format!("git_url={git_url}"),
        &format!("web_url={web_url}"),
        "repo_size=0 B",
        "owner=dyno@localhost",
        "dynos={ web: 1 }",
        "stack=host",
    ] {
        shell.holds(line, |text| text.lines().any(|found| found == line));
    }
    let json: Value =
        serde_json::from_str(&heroku.run(&["info", "-a", "shop", "-j"]).text()).unwrap();
    assert_eq!(
        (&json["app"]["name"], &json["dynos"][0]["name"]),
        (&"shop".into(), &"web.1".into())
    );

    let maintenance = |args: &[&str]| heroku.run(&[args, &["-a", "shop"]].concat());
    maintenance(&["maintenance"])
        .succeeds()
        .says("")
        .prints("off\n");
    maintenance(&["maintenance:on"])
        .succeeds()
        .prints("")
        .says("Enabling maintenance mode for shop... done\n");
    maintenance(&["maintenance"]).succeeds().prints("on\n");
    maintenance(&["maintenance:off"])
        .succeeds()
        .prints("")
        .says("Disabling maintenance mode for shop... done\n");
    assert_eq!(heroku.app_info("shop")["maintenance"], false);

    formation::wait_for_states(&heroku.host, &app, &["web.1 up"]);
    let mistaken = heroku.run(&["apps:destroy", "-a", "shop", "-c", "shop2"]);
    mistaken.exits(1).mentions("shop2");
    heroku
        .run(&["apps:destroy", "-a", "shop", "-c", "shop"])
        .succeeds()
        .says("Destroying shop (including all add-ons)... done\n");
    heroku.host.wait_until_clean();
}
