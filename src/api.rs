//! The Platform API's resources, as types: what the server writes and the client reads.

pub mod error;
pub mod server;
