//! A site of files, as the buildpack `static` has it served: `dyno static` in a dyno, behind the router.
//!
//! [`answer`] decides what a request gets, [`validators`] whether all of a file is sent, [`serve`] performs. A fixed number of threads, each
//! with one connection at a time: the router holds the slow clients' connections, and a site has few.

mod answer;
mod config;
mod serve;
mod validators;

pub use serve::{Site, serve};
