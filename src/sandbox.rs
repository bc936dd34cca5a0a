//! A dyno's walls: from a plan, which is data and validated whole, to a process that is PID 1 behind them.
//!
//! `plan` says what the inside looks like and refuses what makes no sense; `launch` makes the
//! namespaces and gives the new PID 1 its root tree. Neither knows what a dyno is: the supervisor makes
//! the plan (with `stack`), and hands over the function that PID 1 is to run.
//!
//! The rules that hold for every plan (measured reasons in `docs/architecture.md`):
//! - the command never runs as uid 0 of its user namespace, nor with any capability;
//! - what comes from the host is bound read-only and recursively, and flags are only ever added;
//! - nothing of the host's root is reachable once [`launch::launch`]'s child has set itself up.

pub mod launch;
pub mod plan;
pub mod probe;
