//! The server.

pub mod supervisors;
