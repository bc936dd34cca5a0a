//! The command line.

pub mod attach;
pub mod sandbox;
pub mod streams;
