//! Every unsafe line of the program: the few system calls that have no safe wrapper in `rustix`.
//!
//! Each function here is safe to call from anywhere: what the kernel call needs to be sound is checked
//! or made so inside. Policy (which namespaces, which mounts, which signals) lives with the callers,
//! `sandbox` and `init`.
//!
//! What is done where the kernel, or a filter of system calls, refuses one of these is listed in `docs/isolation.md`: "What
//! the kernel is asked for, and what is done without it".
#![allow(
    unsafe_code,
    reason = "this room exists to hold it; the crate denies it elsewhere"
)]

pub mod filter;
pub mod held;
pub mod image;
pub mod landlock;
pub mod lock;
pub mod memory;
pub mod mount;
pub mod pattern;
pub mod process;
pub mod signal;
pub mod socket;
pub mod title;
