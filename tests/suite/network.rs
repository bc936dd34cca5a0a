//! The networks that dynos can have, `dyno network`: what is reached from them, and how they are reached.

use std::net::TcpListener;
use std::path::Path;

use crate::harness::{Host, Outcome, lacks, lacks_walls};

/// A program that connects to the port that it is given, and says what came of it.
const CONNECT: &str = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5); print('reached')";

fn choose(host: &Host, app: &Path, network: &str) {
    host.dyno(app, &["network", network])
        .finish()
        .succeeds()
        .says(&format!(
            "Setting the network of plain to {network}... done\n\
             dynos that run keep theirs; `dyno ps:restart -a plain` starts them anew\n"
        ));
}

/// What becomes of a connection that a one-off dyno makes.
fn connect<'a>(host: &'a Host, app: &Path, ip: &str, port: u16) -> Outcome<'a> {
    host.run(app, &["python3", "-c", CONNECT, ip, &port.to_string()])
        .finish()
}

#[test]
fn a_dyno_without_a_network_reaches_itself_and_nothing_else() {
    if lacks_walls() || lacks("python3") {
        return;
    }
    let host = Host::new();
    let app = host.plain_app();
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = service.local_addr().unwrap().port();
    connect(&host, &app, "127.0.0.1", port).prints("reached\n");
    choose(&host, &app, "none");
    connect(&host, &app, "127.0.0.1", port)
        .exits(1)
        .mentions("Connection refused");
    connect(&host, &app, "192.0.2.1", 80)
        .exits(1)
        .mentions("Network is unreachable");
    let itself = "import socket; s = socket.create_server(('127.0.0.1', 8080)); \
                  socket.create_connection(s.getsockname(), 5); print('reached')";
    host.run(&app, &["python3", "-c", itself])
        .finish()
        .prints("reached\n");
    host.run(&app, &["tail", "-n", "+3", "/proc/net/dev"])
        .finish()
        .succeeds()
        .holds("the loopback interface alone", |text| {
            text.lines().count() == 1 && text.trim_start().starts_with("lo:")
        });
}

#[test]
fn the_setting_says_the_network_of_apps_that_have_none_of_their_own() {
    if lacks_walls() {
        return;
    }
    let host = Host::with(&[("DYNO_NETWORK", "none")]);
    let app = host.plain_app();
    let shown = |network: &str| {
        host.dyno(&app, &["network"])
            .finish()
            .prints(&format!("{network}\n"));
        host.dyno(&app, &["apps:info"])
            .finish()
            .succeeds()
            .holds("the network", |text| {
                text.contains(&format!("Network:        {network}\n"))
            });
    };
    let interfaces = || {
        let list = host
            .run(&app, &["tail", "-n", "+3", "/proc/net/dev"])
            .finish();
        list.succeeds().text().lines().count()
    };
    let of_the_host = std::fs::read_to_string("/proc/net/dev").unwrap();
    let of_the_host = of_the_host.lines().count() - 2;
    shown("none");
    assert_eq!(interfaces(), 1);
    choose(&host, &app, "host");
    shown("host");
    assert_eq!(interfaces(), of_the_host);
    host.dyno(&app, &["network", "default"])
        .finish()
        .succeeds()
        .mentions("to none, as the setting `network` says... done\n");
    shown("none");
    host.dyno(&app, &["network", "lan"]).finish().fails_with(
        1,
        "there is no network `lan`",
        "`host`, `private`, `none`",
    );
}

#[test]
fn a_network_of_its_own_takes_walls() {
    let host = Host::with(&[("DYNO_ISOLATION", "tempdir")]);
    let app = host.plain_app();
    let error = "the network `none` takes namespaces, and dynos have isolation tempdir here";
    host.dyno(&app, &["network", "none"])
        .finish()
        .fails_with(1, error, "`dyno doctor`");
    host.dyno(&app, &["network", "host"]).finish().succeeds();
    host.run(&app, &["true"]).finish().succeeds();
    // No server starts that would break what the setting promises.
    host.dyno(&app, &["server:stop"]).finish().succeeds();
    host.dyno(&app, &["apps"])
        .env("DYNO_NETWORK", "none")
        .finish()
        .mentions(error);
}
