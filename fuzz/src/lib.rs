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
    #[path = "cli/terminal/modes.rs"]
    pub mod modes;
    #[path = "server/access/signed_url.rs"]
    pub mod signed_url;

    pub mod bridge {
        pub mod client_requests;
        pub mod first_line;
        pub mod framed;
        pub mod piece;
        pub mod rendezvous;
        mod secrets;
    }

    pub mod kernel {
        pub mod beneath;
        pub mod cgroup;
        pub mod fail_point;
        pub mod listener;
        pub mod random;
        pub mod sys;
        pub mod temporary;
        pub mod tree;
        pub mod unix_socket;
        pub mod wait;
    }

    pub mod router {
        pub mod forwarded;
        pub mod headers;
    }

    pub mod sandbox {
        pub mod unexecutable;
    }

    #[path = "slug"]
    pub mod slug_patterns {
        mod messages;
        pub mod patterns;
        pub mod slugignore;
    }

    pub mod wire {
        pub mod command_streams;
        pub mod control;
        pub mod door;
        pub mod frame;
        pub mod handover;
        pub mod http;
        pub mod pkt_line;

        /// Of streams over sockets, how many bytes one TLS record has: the rest would take a TLS library.
        pub mod stream {
            pub const RECORD: usize = 16 * 1024;
        }
    }
}
