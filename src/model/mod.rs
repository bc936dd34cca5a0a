//! Values and rules: what an app, a release, a formation, a dyno and its life are, and how they change.
//!
//! Nothing in here reads a file, a clock or a socket: time is passed in, and what to do is returned. So every rule of
//! the platform can be tested by itself. `tests/suite/layers.rs` enforces this.

pub mod app;
pub mod builder;
pub mod buildpack;
pub mod command_line;
pub mod config_var;
pub mod dyno;
pub mod formation;
pub mod log_limits;
pub mod log_line;
pub mod network;
pub mod procfile;
pub mod release;
pub mod runtime_metrics;
pub mod scheduler;
pub mod settings;
pub mod size;
pub mod time_span;
pub mod token;
pub mod uuid;
pub mod window;
