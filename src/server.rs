//! The server: the API on its socket, and what it makes of the requests.

pub mod api_loop;
pub mod application;
pub mod body_stream;
mod connection;
pub mod limits;
pub mod listener;
pub mod supervisors;
#[cfg(test)]
mod tests;
mod workers;
