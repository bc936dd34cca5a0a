//! `dyno __slug`: packs and unpacks slugs without a server, for `bench/slug.sh` and for debugging. Hidden; may change
//! at any time.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::Context as _;

use crate::error::{EXIT_USAGE, UserError};
use crate::slug::{DEFAULT_LEVEL, SlugLimits, pack, unpack};

/// Runs `pack DIR FILE [LEVEL]` or `unpack FILE DIR`, and prints the result.
///
/// # Errors
/// The errors of packing and unpacking, and invalid arguments.
pub fn run(args: &[OsString]) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    let words: Vec<&str> = args
        .iter()
        .map(|arg| arg.to_str().unwrap_or_default())
        .collect();
    match (words.as_slice(), args) {
        (["pack", _, _, level @ ..], [_, dir, file, ..]) if level.len() <= 1 => {
            let level = match level {
                [level] => level.parse().context("LEVEL is a number from 0 to 9")?,
                _ => DEFAULT_LEVEL,
            };
            let tarball = File::create(file).with_context(|| format!("cannot create {file:?}"))?;
            let packed = pack(
                Path::new(dir),
                &tarball,
                level,
                &SlugLimits::default(),
                &mut |_| {},
            )?;
            writeln!(
                out,
                "{} {} entries, {} bytes, packed {} bytes",
                packed.id, packed.entries, packed.content_bytes, packed.packed_bytes
            )?;
            for warning in packed.warnings {
                writeln!(out, "{warning}")?;
            }
        }
        (["unpack", _, _], [_, file, dir]) => {
            let tarball = File::open(file).with_context(|| format!("cannot open {file:?}"))?;
            let unpacked = unpack(tarball, Path::new(dir), None, &SlugLimits::default())?;
            writeln!(
                out,
                "{} entries, {} bytes",
                unpacked.entries, unpacked.content_bytes
            )?;
        }
        _ => {
            return Err(
                UserError::new("usage: __slug pack DIR FILE [LEVEL] | unpack FILE DIR")
                    .exit_code(EXIT_USAGE)
                    .into(),
            );
        }
    }
    Ok(())
}
