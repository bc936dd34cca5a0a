//! Bytes between processes: HTTP/1.1, TLS, git's packet lines, and what server, supervisor, PID 1 and client tell each other.
//!
//! Nothing in here knows what a request means, or which user sent it.

pub mod command_streams;
pub mod control;
pub mod door;
pub mod frame;
pub mod handover;
pub mod http;
pub mod pkt_line;
pub mod reactor;
pub mod stream;
pub mod tls;
pub mod unsent;
