//! The command line.

pub mod attach;
pub mod sandbox;
pub mod streams;

/// Does what the command line says; the result is the exit code.
pub fn run() -> anyhow::Result<u8> {
    Ok(0)
}
