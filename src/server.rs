//! The server: the API on its socket, and what it makes of the requests.

pub mod about;
pub mod api_loop;
pub mod application;
mod apps;
pub mod body_stream;
mod config;
mod connection;
mod dynos;
mod end_waiters;
mod host;
pub mod limits;
pub mod listener;
mod logs;
mod lost;
mod platform;
mod releases;
mod routes;
pub mod service;
pub mod signals;
mod slugs;
pub mod startup;
mod supervisors;
mod workers;

#[cfg(test)]
mod tests;
