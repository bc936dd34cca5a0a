//! The program's rooms that read bytes from outside, for the targets: their own files, in a library.
//!
//! The program is a binary, so its rooms cannot be imported from it. Of rooms with much that reads nothing, and of their
//! dependencies, only the files that read are here. Nothing of this is part of the program.

pub mod bounds;
pub mod pieces;

pub use program::*;

#[path = "../../src"]
#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the targets need a part of each room"
)]
mod program {
    pub mod api;
    pub mod error;
    pub mod model;
    pub mod slug;

    #[path = "cli/dot_env.rs"]
    pub mod dot_env;

    pub mod kernel {
        pub mod beneath;
        pub mod cgroup;
        pub mod listener;
        pub mod random;
        pub mod sys;
        pub mod temporary;
        pub mod tree;
        pub mod unix_socket;
        pub mod wait;
    }

    pub mod wire {
        pub mod command_streams;
        pub mod control;
        pub mod frame;
        pub mod http;
        pub mod pkt_line;
    }
}
