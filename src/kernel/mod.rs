//! What the program asks of Linux, one file for each thing: system calls that no crate has (`sys`, with all unsafe code),
//! control groups, claims of ports and uids, files below a folder of others, Unix sockets that pass descriptors, listening
//! sockets and their owners, network interfaces, who is at the other end of a Unix socket, open files, the program's own executable, the memory of
//! processes, waiting for a descriptor, random numbers, temporary files, removing a tree of files; and the points at which tests
//! have the program killed.

pub mod beneath;
pub mod cgroup;
pub mod claims;
pub mod disk;
pub mod executable;
pub mod fail_point;
pub mod listener;
pub mod netlink;
pub mod open_files;
pub mod peer;
pub mod processes;
pub mod random;
pub mod sys;
pub mod temporary;
pub mod tree;
pub mod unix_socket;
pub mod wait;
