//! A router to be measured from outside, without a server around it.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use super::super::{Backend, BackendState, Route, Router, RouterSettings, ToRouter};
use crate::kernel::listener::{Listener, Listeners};

/// `DYNO_ROUTER=127.0.0.1:8080 DYNO_BACKEND=127.0.0.1:9000 DYNO_SECONDS=60`: serves `bench.localhost` from a program
/// that listens already.
#[test]
#[ignore = "runs for as long as it is told to; see bench/router.sh for the real thing"]
fn serve() {
    let wanted = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("${name} is not set"));
    let backend: SocketAddr = wanted("DYNO_BACKEND").parse().unwrap();
    let seconds = wanted("DYNO_SECONDS").parse().unwrap();
    let listener = TcpListener::bind(wanted("DYNO_ROUTER")).unwrap();
    let inode = Listeners::open().at(backend).unwrap().unwrap();
    let logs = tempfile::tempdir().unwrap();
    let router = Router::start(vec![listener], RouterSettings::default(), |_| {}).unwrap();
    let address = backend;
    router.send(ToRouter::App {
        app: "bench".into(),
        route: Some(Route {
            app: "bench".into(),
            logs: logs.path().into(),
            log_limits: Default::default(),
            maintenance: false,
            blank: false,
            backends: vec![Backend {
                dyno: "id-1".into(),
                name: "web.1".into(),
                state: BackendState::Up(Listener {
                    address,
                    inode,
                    apart: false,
                }),
                door: None,
            }],
        }),
    });
    router.send(ToRouter::Ready);
    std::thread::sleep(Duration::from_secs(seconds));
    router.stop();
}
