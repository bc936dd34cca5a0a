//! The server: the API on its socket, and what it makes of the requests.

pub mod api_loop;
pub mod application;
mod apps;
pub mod body_stream;
mod config;
mod connection;
pub mod host;
pub mod limits;
pub mod listener;
mod platform;
mod releases;
pub mod routes;
mod slugs;
pub mod supervisors;
#[cfg(test)]
mod tests;
mod workers;
