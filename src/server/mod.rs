//! The server: the API on its socket, and what it makes of the requests.
//!
//! Its folders have an order of their own, from the loop up to the service; `tests/suite/layers.rs` says it.

mod access;
pub mod api_loop;
pub mod builds;
mod dynos;
mod git_http;
mod logs;
pub mod process;
mod records;
pub mod service;
mod sessions;

#[cfg(test)]
mod tests;
