//! How large a slug may be.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use super::messages::{over_limit, shown};

/// Bounds on a slug. Packing and unpacking share them, so that what was packed can be unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlugLimits {
    /// Members of the tarball, and directories it implies without naming them.
    pub entries: u64,
    /// Bytes of the tar stream inside the gzip: contents, plus half a KiB or more for each entry.
    pub unpacked_bytes: u64,
    /// Bytes of one path below `/app`, and of one symlink's target.
    pub path_bytes: usize,
    /// Directories above a file. Each costs one open descriptor while unpacking.
    pub depth: usize,
}

impl Default for SlugLimits {
    fn default() -> Self {
        Self {
            entries: 1_000_000,
            unpacked_bytes: 8 << 30,
            path_bytes: 4000,
            depth: 128,
        }
    }
}

impl SlugLimits {
    /// Refuses a path below `/app` that is too long or too deep.
    pub(super) fn check_path(&self, path: &[u8]) -> anyhow::Result<()> {
        if path.len() > self.path_bytes {
            return Err(over_limit(
                format!("a path has {} bytes, `{}`", path.len(), shown(path)),
                self.path_bytes as u64,
            ));
        }
        let depth = path.iter().filter(|&&byte| byte == b'/').count();
        if depth > self.depth {
            return Err(over_limit(
                format!("`{}` lies {depth} directories deep", shown(path)),
                self.depth as u64,
            ));
        }
        Ok(())
    }

    /// Refuses the entry that is one too many; `entries` counts it.
    pub(super) fn check_entries(&self, entries: u64) -> anyhow::Result<()> {
        if entries > self.entries {
            return Err(over_limit("too many files and directories", self.entries));
        }
        Ok(())
    }

    /// Refuses a tar stream that gets too long.
    pub(super) fn check_bytes(&self, bytes: u64) -> anyhow::Result<()> {
        if bytes > self.unpacked_bytes {
            return Err(over_limit(
                "too many bytes when unpacked",
                self.unpacked_bytes,
            ));
        }
        Ok(())
    }
}
