//! The server: the API on its socket, and what it makes of the requests.

pub mod access;
pub mod api_loop;
pub mod application;
mod apps;
mod asleep;
mod authorizations;
pub mod body_stream;
pub mod build;
mod builds;
mod config;
mod connection;
mod courtesy;
mod descriptors;
mod dynos;
mod end_waiters;
mod file_streams;
mod formation;
mod formations;
mod git_http;
mod ground;
mod host;
mod host_watch;
pub mod limits;
pub mod listener;
mod log_keeper;
mod logs;
mod lost;
mod place;
mod platform;
mod releases;
pub mod replacement;
pub mod service;
mod service_manager;
pub mod sessions;
mod signals;
pub mod signed_url;
mod slugs;
mod sources;
pub mod startup;
mod status;
mod supervisors;
mod workers;

#[cfg(test)]
mod tests;
