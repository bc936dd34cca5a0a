//! Slugs: an app's files as one gzipped tarball, and as the tree a dyno runs on.
//!
//! This room packs a directory ([`pack`]), keeps tarballs and their unpacked trees ([`SlugCache`]) and unpacks tarballs
//! of any origin without trusting them ([`unpack`]). A slug is named by its content, the SHA-256 of its tarball
//! ([`SlugId`]), and its members lie under `./app/`, as Heroku's do. It knows nothing of apps and releases, and mounts
//! nothing: the store remembers which release has which slug, the sandbox puts a tree under `/app`. Called by the CLI
//! (packing), by the server (receiving, unpacking, evicting), by builds ([`UnpackedSource`]) and by the sandbox ([`copy_tree`]).

mod cache;
mod copy;
mod gzip;
mod id;
mod inflate;
mod layer;
mod lfs;
mod limits;
mod links;
mod members;
mod messages;
mod pack;
mod patterns;
mod procfile;
mod slugignore;
mod source;
mod special_files;
#[cfg(test)]
mod tests;
mod times;
mod tree;
mod uninstalled;
mod unpack;
mod walk;

pub use cache::{Lease, Received, SlugCache};
pub use copy::{copy_tree, is_within};
pub use id::SlugId;
pub use layer::{Layer, MakeLayer};
pub use limits::SlugLimits;
pub use links::{LeadsOut, link_warnings};
use pack::{Form, pack_again, pack_whole};
pub use pack::{MadeAnew, PackProgress, Packed, pack, pack_dated, pack_source};
pub use procfile::{Elsewhere, procfile_elsewhere, procfile_of};
pub use source::{UnpackedSource, WhileWanted};
pub use times::{ReleaseBefore, Times};
pub use tree::TreeOwner;
pub use unpack::unpack;
pub use walk::tree_is_newer_than;

/// The default gzip level, as of `gzip` itself.
pub const DEFAULT_LEVEL: u32 = 6;
