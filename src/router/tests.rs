//! The router as it runs: its thread, real sockets, and dynos that do as the test says.

mod behaviour;
mod failures;
mod formation;
mod hostile;
mod serve;
mod support;
