//! The router's times and limits.

use std::time::Duration;

use crate::model::settings::Network;
use crate::wire::http::HeadLimits;

/// The router's times and limits. The defaults are Heroku's where Heroku has such a figure (Dev Center, "HTTP Routing").
#[derive(Debug, Clone)]
pub struct RouterSettings {
    /// The domain below which each app has a host name.
    pub domain: String,
    /// Proxies whose `X-Forwarded-*` fields are trusted.
    pub trusted: Vec<Network>,
    /// How long a dyno may take to accept a connection (H19).
    pub connect_time: Duration,
    /// How many dynos are tried for one request.
    pub tries: usize,
    /// How long a dyno that refused a connection gets no requests.
    pub refused_time: Duration,
    /// The most time from the end of the request to the first byte of the response (H12).
    pub first_byte_time: Duration,
    /// After that, the most time without a byte either way (H15, H28).
    pub rolling_time: Duration,
    /// How long a request waits for a starting dyno to be up (H20).
    pub boot_time: Duration,
    /// The most requests that one dyno has at a time.
    pub active_per_dyno: u32,
    /// The most requests of one app that wait for a dyno; more are refused (H11).
    pub waiting_per_app: usize,
    /// How long the head of a request may take, from its first byte.
    pub head_time: Duration,
    /// How long an idle connection of a client is kept.
    pub idle_time: Duration,
    /// How long a client may take to read the last response of its connection.
    pub linger_time: Duration,
    /// How long an idle connection to a dyno is kept.
    pub pooled_time: Duration,
    /// How long after a request its connection may be used for a request that must not be sent twice. Programs close
    /// connections after two idle seconds or more, and a request could be lost at that moment.
    pub pooled_fresh_time: Duration,
    /// The most idle connections to one dyno.
    pub pooled_per_dyno: usize,
    /// The most connections of clients.
    pub clients: usize,
    /// Bounds on the head of a request.
    pub request_head: HeadLimits,
    /// Bounds on the head of a response.
    pub response_head: HeadLimits,
    /// The shortest time between two writes to an app's log.
    pub log_interval: Duration,
    /// How long a router that leaves waits for responses in progress.
    pub leave_time: Duration,
    /// How long a router waits for responses in progress when another router has its socket.
    pub succeeded_time: Duration,
    /// How long a client of a leaving router may be silent before it counts as idle.
    pub quiet_time: Duration,
    /// How long clients whose handshake has begun may take to connect, once no more are accepted.
    pub shut_time: Duration,
    /// How often the kernel is asked whether a client that has ended its side is still there.
    pub gone_interval: Duration,
}

impl Default for RouterSettings {
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
            request_head: HeadLimits {
                line: 8 * 1024,
                head: 64 * 1024,
                fields: 1000,
            },
            response_head: HeadLimits {
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
