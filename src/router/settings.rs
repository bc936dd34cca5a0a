//! Every time and limit of the router.

use std::time::Duration;

use crate::model::settings::Network;
use crate::wire::http::Limits;

/// Times and limits. The defaults are Heroku's where Heroku has such a figure (Dev Center, "HTTP Routing").
#[derive(Debug, Clone)]
pub struct Settings {
    /// What follows the app's name in a host name.
    pub domain: String,
    /// Proxies whose word counts for where a request comes from.
    pub trusted: Vec<Network>,
    /// For a dyno to accept a connection (H19).
    pub connect_time: Duration,
    /// How many dynos are tried for one request.
    pub tries: usize,
    /// How long a dyno that refused a connection is passed over.
    pub refused_time: Duration,
    /// From the whole request until the first byte of the response (H12).
    pub first_byte_time: Duration,
    /// After that, without a byte either way (H15, H28).
    pub rolling_time: Duration,
    /// For a starting dyno to be up (H20).
    pub boot_time: Duration,
    /// Requests that one dyno has at once.
    pub active_per_dyno: u32,
    /// Requests of one app that wait, for a dyno to be up or to have time; more are refused (H11).
    pub waiting_per_app: usize,
    /// For the head of a request, from its first byte, however many come.
    pub head_time: Duration,
    /// How long a client's connection is kept without a request.
    pub idle_time: Duration,
    /// How long a client may take to read a last response.
    pub linger_time: Duration,
    /// How long a connection to a dyno is kept without a request.
    pub pooled_time: Duration,
    /// How long after a request its connection may serve one that must not be sent twice. Programs close connections
    /// that were idle for two seconds or more, and a request might cross with that.
    pub pooled_fresh_time: Duration,
    /// Connections kept without a request, per dyno.
    pub pooled_per_dyno: usize,
    /// Connections of clients.
    pub clients: usize,
    /// The head of a request.
    pub request_head: Limits,
    /// The head of a response.
    pub response_head: Limits,
    /// Lines are written to an app's log this often at most.
    pub log_interval: Duration,
    /// How long a router that leaves waits for the answers that are on their way.
    pub leave_time: Duration,
    /// The same of one whose socket another router has.
    pub succeeded_time: Duration,
    /// How long a client of a router that leaves may be silent before it is taken for one that asks nothing.
    pub quiet_time: Duration,
    /// How long those who are about to be connected may take for that once no more are let in.
    pub shut_time: Duration,
    /// How often it is asked whether a client that has ended its side is still there.
    pub gone_interval: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            domain: "localhost".into(),
            trusted: Vec::new(),
            connect_time: Duration::from_secs(5),
            tries: 10,
            refused_time: Duration::from_secs(5),
            first_byte_time: Duration::from_secs(30),
            rolling_time: Duration::from_secs(55),
            boot_time: Duration::from_secs(75),
            active_per_dyno: 50,
            waiting_per_app: 2000,
            head_time: Duration::from_secs(30),
            idle_time: Duration::from_secs(60),
            linger_time: Duration::from_secs(5),
            pooled_time: Duration::from_secs(20),
            pooled_fresh_time: Duration::from_secs(1),
            pooled_per_dyno: 50,
            clients: 10_000,
            request_head: Limits {
                line: 8 * 1024,
                head: 64 * 1024,
                fields: 1000,
            },
            response_head: Limits {
                line: 512 * 1024,
                head: 1024 * 1024,
                fields: 1000,
            },
            log_interval: Duration::from_millis(10),
            leave_time: Duration::from_secs(5),
            succeeded_time: Duration::from_secs(60),
            quiet_time: Duration::from_millis(500),
            shut_time: Duration::from_millis(20),
            gone_interval: Duration::from_secs(1),
        }
    }
}
