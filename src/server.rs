//! The server: the API on its socket, and what it makes of the requests.

pub mod about;
pub mod api_loop;
pub mod application;
pub mod body_stream;
mod connection;
pub mod limits;
pub mod listener;
pub mod signals;
pub mod startup;
mod workers;

#[cfg(test)]
mod tests;
