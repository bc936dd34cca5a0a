//! The networks that dynos can have, `dyno network`: what is reached from them, and how they are reached.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use rustix::process::Signal;

use crate::formation::{few_ports, port_of};
use crate::harness::{
    Host, Outcome, eventually, is_root, lacks, lacks_walls, leave_out, own_router,
};
use crate::routing::{get, router, shop};

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
    // Its own name is known to programs that ask for addresses which are of use here.
    host.run(&app, &["getent ahostsv4 $(hostname) | cut -d' ' -f1"])
        .finish()
        .succeeds()
        .holds("an address", |text| text.starts_with("127.0.0.1\n"));
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
    let of_the_host = std::fs::read_link("/proc/self/ns/net").unwrap();
    let is_the_hosts = || {
        let its = host.run(&app, &["readlink", "/proc/self/ns/net"]).finish();
        Path::new(its.succeeds().text().trim_end()) == of_the_host
    };
    shown("none");
    assert!(!is_the_hosts());
    choose(&host, &app, "host");
    shown("host");
    assert!(is_the_hosts());
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

#[test]
fn web_dynos_with_networks_of_their_own_are_visited_by_the_router_and_by_nobody_else() {
    if lacks_walls() || lacks("python3") {
        return;
    }
    let (place, (ports, few)) = (own_router(), few_ports(2));
    let host = Host::with(&[
        ("DYNO_NETWORK", "private"),
        ("DYNO_ROUTER", &place),
        ("DYNO_PORTS", &few),
    ]);
    let app = shop(&host, "web");
    let router = router(&host);
    assert_eq!(get(router, "/dyno"), (200, "web.1\n".to_owned()));
    host.dyno(&app, &["ps:scale", "web=3"]).finish().succeeds();
    host.dyno(&app, &["ps:wait"]).finish().succeeds();
    let mut seen = BTreeSet::new();
    eventually("all three", || {
        let (status, dyno) = get(router, "/dyno");
        assert_eq!(status, 200);
        seen.insert(dyno);
        (seen.len() == 3).then_some(())
    });
    // They are alone in their networks, and may all have one port, which is not the host's.
    let port = *ports.start();
    for name in ["web.1", "web.3"] {
        assert_eq!(port_of(&host, &app, name), port);
    }
    let _own = TcpListener::bind(("127.0.0.1", port)).unwrap();
    connect(&host, &app, "127.0.0.1", port)
        .exits(1)
        .mentions("Connection refused");
    // The next server comes to them as well.
    host.kill_server();
    host.dyno(&app, &["ps"]).finish().succeeds();
    seen.clear();
    eventually("all three again", || {
        let (status, dyno) = get(router, "/dyno");
        assert_eq!(status, 200);
        seen.insert(dyno);
        (seen.len() == 3).then_some(())
    });
}

#[test]
fn many_visitors_at_once_come_to_a_network_of_its_own() {
    if lacks_walls() || lacks("python3") {
        return;
    }
    let place = own_router();
    let host = Host::with(&[("DYNO_NETWORK", "none"), ("DYNO_ROUTER", &place)]);
    shop(&host, "web");
    let router = router(&host);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(get(router, "/slow?s=0.01").0, 200);
                }
            });
        }
    });
    let lines = host.log_lines();
    let failed: Vec<_> = lines.iter().filter(|it| it.contains("at=error")).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn a_dyno_that_listens_no_more_in_its_own_network_gets_no_visitors() {
    if lacks_walls() || lacks("python3") {
        return;
    }
    let place = own_router();
    let host = Host::with(&[("DYNO_NETWORK", "private"), ("DYNO_ROUTER", &place)]);
    shop(&host, "stops-listening");
    let router = router(&host);
    eventually("H21", || {
        // A visitor whose connection was waiting when the socket was closed gets another error.
        get(router, "/close");
        host.log_lines()
            .iter()
            .any(|line| line.contains("code=H21 desc=\"Backend connection refused\""))
            .then_some(())
    });
}

#[test]
fn at_a_boot_timeout_it_is_told_where_in_its_network_a_dyno_listens() {
    if lacks_walls() || lacks("python3") {
        return;
    }
    let host = Host::with(&[
        ("DYNO_NETWORK", "private"),
        ("DYNO_BOOT_TIMEOUT", "2"),
        ("DYNO_CRASH_SECOND_WAIT", "1h"),
    ]);
    let elsewhere = "web: exec python3 -m http.server --bind 127.0.0.1 3000\n";
    let app = host.folder_of("shop", &[("Procfile", elsewhere)]);
    host.dyno(&app, &["deploy"]).finish().exits(1);
    eventually("where it listens", || {
        host.log_lines()
            .iter()
            .any(|line| line.contains("The dyno listens on `127.0.0.1:3000`, and not on $PORT"))
            .then_some(())
    });
}

/// A service of the host that sends back what it was sent, once that has ended; its address.
fn echo() -> SocketAddr {
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = service.local_addr().unwrap();
    thread::spawn(move || {
        for client in service.incoming() {
            let (mut client, mut all) = (client.unwrap(), Vec::new());
            thread::spawn(move || {
                let _ = client.read_to_end(&mut all);
                let _ = client.write_all(&all);
            });
        }
    });
    address
}

#[test]
fn services_of_the_host_are_reached_at_their_addresses_if_the_setting_names_them() {
    if lacks_walls() || lacks("python3") {
        return;
    }
    let (named, other) = (echo(), echo());
    let host = Host::with(&[
        ("DYNO_NETWORK", "private"),
        ("DYNO_REACH", &named.to_string()),
    ]);
    let app = host.plain_app();
    let talk = "import socket, sys
def talk(number):
    sent = bytes([number]) * 3_000_000
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 60) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile('rb') as back:
            return back.read() == sent
# More at a time than the supervisor takes: the others wait.
many = [socket.create_connection((sys.argv[1], int(sys.argv[2])), 60) for _ in range(300)]
for connection in many:
    connection.sendall(b'hello')
    connection.shutdown(socket.SHUT_WR)
for connection in many:
    with connection:
        assert connection.recv(9) == b'hello'
import concurrent.futures
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    print(all(pool.map(talk, range(24))))
";
    let (ip, port) = (named.ip().to_string(), named.port().to_string());
    host.run(&app, &["python3", "-c", talk, &ip, &port])
        .finish()
        .succeeds()
        .prints("True\n");
    connect(&host, &app, "127.0.0.1", other.port())
        .exits(1)
        .mentions("Connection refused");
    // Without a network there is nothing to be reached.
    choose(&host, &app, "none");
    connect(&host, &app, "127.0.0.1", named.port())
        .exits(1)
        .mentions("Connection refused");
    host.dyno(&app, &["server:stop"]).finish().succeeds();
    host.dyno(&app, &["apps"])
        .env("DYNO_REACH", "10.0.0.5:5432")
        .finish()
        .fails_with(
            1,
            "DYNO_REACH",
            "up to 16 addresses of the loopback interface",
        );
}

/// Another host, with an address that is reached from this one: a network of its own. It ends with this.
struct OtherHost {
    name: String,
    server: std::process::Child,
}

/// Says to whoever connects where they come from.
const SAY_WHO: &str = "import socket
with socket.create_server(('0.0.0.0', 8000)) as listener:
    print('listening', flush=True)
    while True:
        connection, who = listener.accept()
        with connection:
            connection.sendall(who[0].encode())
";

impl OtherHost {
    const ADDRESS: &str = "203.0.113.2";
    const OWN: &str = "203.0.113.1";

    fn new() -> Self {
        let name = format!("other{}", std::process::id());
        let ip = |args: &str| {
            let status = Command::new("ip").args(args.split(' ')).status().unwrap();
            assert!(status.success(), "ip {args}");
        };
        ip(&format!("netns add {name}"));
        ip(&format!(
            "link add {name} type veth peer name eth0 netns {name}"
        ));
        ip(&format!("addr add {}/30 dev {name}", Self::OWN));
        ip(&format!("link set {name} up"));
        ip(&format!("-n {name} addr add {}/30 dev eth0", Self::ADDRESS));
        ip(&format!("-n {name} link set eth0 up"));
        let mut server = Command::new("ip")
            .args(["netns", "exec", &name, "python3", "-c", SAY_WHO])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(server.stdout.take().unwrap());
        said.read_line(&mut String::new()).unwrap();
        Self { name, server }
    }
}

impl Drop for OtherHost {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
        let _ = Command::new("ip")
            .args(["link", "del", &self.name])
            .status();
    }
}

/// Whether no private dyno here reaches other hosts, as `dyno doctor` says. A test that needs that is over then.
fn lacks_a_way_out(host: &Host) -> bool {
    let said = host.dyno(&host.path(), &["doctor"]).finish();
    let said = said.text();
    let lacks = !said.contains("\nnetworks:    `private` reaches other hosts by ");
    if lacks {
        leave_out(
            "tests of what private networks reach: `dyno doctor` says why they reach nothing",
        );
    }
    lacks
}

/// A program that says the address of the dyno in its network, and then does as it is told.
const ADDRESS: &str = "import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(('203.0.113.2', 9))
print(s.getsockname()[0], flush=True)
time.sleep(float(sys.argv[1]))
";

/// The interface of this host behind which a dyno with this address is.
fn interface_of(address: &str) -> String {
    let address: std::net::Ipv4Addr = address.trim().parse().unwrap();
    let first = std::net::Ipv4Addr::new(198, 19, 0, 0);
    format!("dyno-{}", (address.to_bits() - first.to_bits()) / 2)
}

fn has_interface(name: &str) -> bool {
    let interfaces = std::fs::read_to_string("/proc/net/dev").unwrap();
    let mut names = interfaces.lines().filter_map(|it| it.split(':').next());
    names.any(|it| it.trim() == name)
}

#[test]
fn other_hosts_are_reached_from_a_network_of_its_own_and_this_one_and_private_networks_are_not() {
    if lacks_walls() || lacks("python3") || lacks("ip") || !is_root() {
        return;
    }
    let host = Host::with(&[("DYNO_NETWORK", "private")]);
    if lacks_a_way_out(&host) {
        return;
    }
    let _other = OtherHost::new();
    let app = host.plain_app();
    let who = "import socket; print(socket.create_connection(('203.0.113.2', 8000), 20).recv(99))";
    // It comes as this host.
    host.run(&app, &["python3", "-c", who])
        .finish()
        .prints(&format!("b'{}'\n", OtherHost::OWN));
    let own = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = own.local_addr().unwrap().port();
    for address in [
        OtherHost::OWN,
        "169.254.169.254",
        "10.0.0.1",
        "192.168.0.1",
        "198.19.0.3",
    ] {
        connect(&host, &app, address, port)
            .exits(1)
            .mentions("Permission denied");
    }
    // The other end of its own pair is this host's, too.
    let gateway = "import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('203.0.113.2', 9))
a, b, c, d = s.getsockname()[0].split('.')
socket.create_connection((f'{a}.{b}.{c}.{int(d) - 1}', int(sys.argv[1])), 1)";
    host.run(&app, &["python3", "-c", gateway, &port.to_string()])
        .finish()
        .exits(1)
        .mentions("timed out");
    host.run(&app, &["grep", "^nameserver", "/etc/resolv.conf"])
        .finish()
        .prints("nameserver 127.0.0.53\n");
}

#[test]
fn the_way_out_of_a_network_goes_with_its_dyno() {
    if lacks_walls() || lacks("python3") || !is_root() {
        return;
    }
    let host = Host::with(&[("DYNO_NETWORK", "private")]);
    if lacks_a_way_out(&host) {
        return;
    }
    let app = host.plain_app();
    let ended = host.run(&app, &["python3", "-c", ADDRESS, "0"]).finish();
    let name = interface_of(&ended.succeeds().text());
    eventually("the interface gone", || {
        (!has_interface(&name)).then_some(())
    });
    // Whoever is killed.
    let address = format!(
        "python3 -c '{}' 1000",
        ADDRESS.replace('\'', "\"").replace('\n', "; ")
    );
    host.dyno(&app, &["run:detached", "-q", &address])
        .finish()
        .prints("run.2\n");
    let name = eventually("its address", || {
        let lines = host.log_lines();
        let said = lines
            .iter()
            .find_map(|it| it.strip_prefix("app[run.2]: "))?;
        Some(interface_of(said))
    });
    assert!(has_interface(&name));
    let supervisor = host.wait_for_supervisor();
    supervisor.signal(Signal::KILL);
    supervisor.wait_for_end();
    eventually("the interface gone", || {
        (!has_interface(&name)).then_some(())
    });
}
