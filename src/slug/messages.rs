//! The errors for slugs and files in them that are refused.

use std::fmt;

use crate::error::UserError;

/// The beginning of the error for a tarball that is no slug.
pub(super) const BAD_SLUG: &str = "bad slug: ";

/// The error for a tarball that is no slug: corrupt, hostile, or another kind of file.
pub(super) fn bad_slug(why: impl fmt::Display) -> anyhow::Error {
    UserError::new(format!("{BAD_SLUG}{why}"))
        .hint("a slug is a .tgz whose members lie under ./app, as `dyno deploy` and `tar` make it")
        .into()
}

pub(super) fn over_limit(what: impl fmt::Display, limit: u64) -> anyhow::Error {
    UserError::new(format!("slug too large: {what}, and the limit is {limit}"))
        .hint("leave out what the app does not need with .slugignore, or raise `slug_limit` or `tree_limit`: `dyno settings`")
        .into()
}

/// The error for a failed system call: ``cannot read `lib/a.rb`: Permission denied``.
pub(super) fn failed(action: impl fmt::Display, error: impl Into<std::io::Error>) -> anyhow::Error {
    use std::io::ErrorKind::{PermissionDenied, QuotaExceeded, StorageFull};
    let error = error.into();
    if matches!(error.kind(), StorageFull | QuotaExceeded) {
        return UserError::new(format!("disk full: cannot {action}: {error}"))
            .hint("free some space and try again; nothing was left half done")
            .into();
    }
    let failed = UserError::new(format!("cannot {action}: {error}"));
    match error.kind() {
        PermissionDenied => failed
            .hint("make it readable, or leave it out with .slugignore")
            .into(),
        _ => failed.into(),
    }
}

/// A path for a message: without control characters, and shortened if it is long.
pub(super) fn shown(path: &[u8]) -> String {
    crate::error::shown(path, 200)
}
