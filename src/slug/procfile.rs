//! The Procfile inside a packed slug, which gives the process types of a slug that was made elsewhere.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread;

use super::inflate::inflater;
use super::limits::SlugLimits;
use super::members::Members;
use crate::model::procfile::MAX_BYTES;

/// The Procfile of a tarball, if it has one; of one that is too large, one byte more than is allowed. The rest of the
/// tarball is checked when it is unpacked.
///
/// # Errors
/// The tarball is no gzipped tar as far as it was read, or passes one of the bounds.
pub fn procfile_of(tarball: impl Read + Send) -> anyhow::Result<Option<Vec<u8>>> {
    let limits = SlugLimits::default();
    let (inflater, inflated) = inflater();
    thread::scope(|scope| {
        scope.spawn(move || inflater.run(tarball));
        find(Members::new(inflated, &limits), &limits)
    })
}

/// A file that may be meant as the Procfile, where the root has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elsewhere {
    /// At the root, under this name.
    Named(String),
    /// In this folder below the root, relative to it.
    Below(PathBuf),
}

/// How many entries of a folder are looked at: the answer only makes a hint.
const GLANCE: usize = 1000;

/// Looks for the Procfile of a root that has none: under a name that differs in case, or has an ending, or in a folder
/// right below.
pub fn procfile_elsewhere(root: &Path) -> Option<Elsewhere> {
    let entries = fs::read_dir(root).ok()?.take(GLANCE).flatten();
    let (folders, others): (Vec<_>, Vec<_>) = entries
        .filter_map(|entry| {
            Some((
                entry.file_name().into_string().ok()?,
                entry.file_type().ok()?,
            ))
        })
        .partition(|(_, kind)| kind.is_dir());
    let is_meant = |name: &str| {
        let stem = name.split_once('.').map_or(name, |(stem, _)| stem);
        // An entry named `Procfile` exactly is a directory or the like.
        stem.eq_ignore_ascii_case("Procfile") && name != "Procfile" && !name.ends_with(".dev")
    };
    let named = others.into_iter().map(|(name, _)| name);
    if let Some(name) = named.filter(|name| is_meant(name)).min() {
        return Some(Elsewhere::Named(name));
    }
    let below = folders.into_iter().map(|(name, _)| PathBuf::from(name));
    let below = below.filter(|folder| root.join(folder).join("Procfile").is_file());
    below.min().map(Elsewhere::Below)
}

/// Finds the Procfile. Takes the members, so that the inflater ends when this returns.
fn find(mut members: Members<'_>, limits: &SlugLimits) -> anyhow::Result<Option<Vec<u8>>> {
    let mut seen = 0;
    while let Some(member) = members.next()? {
        let path = member.name.strip_prefix(b"./").unwrap_or(&member.name);
        if path == b"app/Procfile" && member.kind.is_file() {
            let mut text = Vec::new();
            while text.len() <= MAX_BYTES {
                let piece = members.contents()?;
                let length = piece.len();
                text.extend_from_slice(piece);
                members.consume(length);
                if length == 0 {
                    break;
                }
            }
            return Ok(Some(text));
        }
        seen = u64::saturating_add(seen, 1);
        limits.check_entries(seen)?;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn tarball(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, contents) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(contents.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, *contents).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn the_procfile_is_found_among_others() {
        let found = |members: &[(&str, &[u8])]| procfile_of(&tarball(members)[..]).unwrap();
        let long = format!("app/{}", "d/".repeat(200));
        let members: &[(&str, &[u8])] = &[
            (&long, b""),
            ("Procfile", b"no"),
            ("app/Procfile", b"web: x"),
            ("app/z", b""),
        ];
        assert_eq!(found(members).as_deref(), Some(&b"web: x"[..]));
        assert_eq!(found(&members[..2]), None);
        let big = vec![b'#'; 3 * MAX_BYTES];
        let taken = found(&[("app/Procfile", &big)]).unwrap();
        assert!(taken.len() > MAX_BYTES);
    }

    #[test]
    fn a_long_name_is_not_taken_into_memory() {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_path("././@LongLink").unwrap();
        header.set_size(1 << 30);
        header.set_cksum();
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(header.as_bytes()).unwrap();
        let error = procfile_of(&gzip.finish().unwrap()[..]).unwrap_err();
        assert!(error.to_string().contains("bytes in one path"), "{error:#}");
        assert!(procfile_of(&b"no gzip"[..]).is_err());
    }

    #[test]
    fn a_procfile_under_another_name_or_further_down_is_found() {
        let root = tempfile::tempdir().unwrap();
        let found = || procfile_elsewhere(root.path());
        assert_eq!(found(), None);
        fs::create_dir(root.path().join("web")).unwrap();
        fs::create_dir(root.path().join("api")).unwrap();
        fs::write(root.path().join("Procfile.dev"), "").unwrap();
        assert_eq!(found(), None);
        for folder in ["web", "api"] {
            fs::write(root.path().join(folder).join("Procfile"), "").unwrap();
        }
        assert_eq!(found(), Some(Elsewhere::Below("api".into())));
        for name in ["procfile", "Procfile.txt", "PROCFILE"] {
            fs::write(root.path().join(name), "").unwrap();
            assert_eq!(found(), Some(Elsewhere::Named(name.into())));
            fs::remove_file(root.path().join(name)).unwrap();
        }
        assert_eq!(procfile_elsewhere(&root.path().join("none")), None);
    }
}
