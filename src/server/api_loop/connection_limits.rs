//! What the connections and bodies of the API's clients may cost the server, in bytes, seconds and numbers.

use std::time::Duration;

use crate::wire::http;

/// See the [module](self). Times are per phase and absolute: a byte now and then extends none.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// The head of a request.
    pub head: http::HeadLimits,
    /// Bytes of a body that is taken as a whole.
    pub memory_body: usize,
    /// Connections at once; more wait in the listener's backlog.
    pub connections: usize,
    /// From one request to the next. Long, since a client keeps its connection while it packs a slug.
    pub idle_time: Duration,
    /// From the first byte of a head to its last.
    pub head_time: Duration,
    /// For a body that is taken as a whole.
    pub body_time: Duration,
    /// For a body that is streamed.
    pub upload_time: Duration,
    /// For a response, from its first byte to its last.
    pub write_time: Duration,
    /// For the client to notice that the connection has ended, when it still has something to send.
    pub linger_time: Duration,
    /// For requests that are being answered when the loop is told to stop.
    pub stop_time: Duration,
    /// Worker threads; they start when they are needed.
    pub workers: usize,
    /// Threads that wait for bodies from a network and take them, beside the workers: a slow client holds up no worker.
    pub remote_uploads: usize,
    /// Jobs that wait for a worker; as many may wait for one of those threads.
    pub queued_jobs: usize,
}

impl ConnectionLimits {
    /// How many of the connections may have come from a network: a client at the Unix socket is never kept out by them.
    pub fn remote_connections(&self) -> usize {
        self.connections.div_ceil(2)
    }
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            head: http::HeadLimits::API,
            memory_body: 1024 * 1024,
            connections: 1024,
            idle_time: Duration::from_secs(300),
            head_time: Duration::from_secs(10),
            body_time: Duration::from_secs(30),
            upload_time: Duration::from_secs(1800),
            write_time: Duration::from_secs(30),
            linger_time: Duration::from_secs(2),
            stop_time: Duration::from_secs(5),
            workers: 4,
            remote_uploads: 4,
            queued_jobs: 64,
        }
    }
}
