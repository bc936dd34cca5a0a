//! The members of a tarball, one after the other, with bounded memory.
//!
//! Reads what GNU tar, POSIX pax and the old formats write: long names and targets by GNU members or pax records, sizes
//! beyond the header. The `tar` crate parses the fields of a header; its archive reader is not used, because it reads a
//! long name of any length into memory. Sparse files and multi-volume archives are refused. Whether a member's name is
//! acceptable is decided by [`unpack`](super::unpack).

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use tar::{EntryType, Header};

use super::inflate::Inflated;
use super::limits::SlugLimits;
use super::messages::{bad_slug, over_limit};

const RECORD: usize = 512;

/// The most bytes of one pax header. Its long values are extended attributes, which are ignored.
const MAX_PAX_BYTES: u64 = 1024 * 1024;

/// One file, directory or link. Its contents are read with [`Members::contents`].
#[derive(Debug)]
pub(super) struct Member {
    /// The name as written in the tarball, unchecked.
    pub(super) name: Vec<u8>,
    /// The target of a symlink or hard link; otherwise unused.
    pub(super) target: Vec<u8>,
    pub(super) kind: EntryType,
    pub(super) mode: u32,
    /// Seconds since 1970.
    pub(super) mtime: u64,
    pub(super) size: u64,
}

/// The values that preceding extension members give for a member.
#[derive(Debug, Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
}

/// Reads the members of a tarball: see the [module](self).
#[derive(Debug)]
pub(super) struct Members<'a> {
    stream: Inflated,
    limits: &'a SlugLimits,
    /// Bytes of the stream that were consumed.
    position: u64,
    /// Bytes of the current member that are left: contents, then padding.
    contents_left: u64,
    padding_left: u64,
}

impl<'a> Members<'a> {
    pub(super) fn new(stream: Inflated, limits: &'a SlugLimits) -> Self {
        Self {
            stream,
            limits,
            position: 0,
            contents_left: 0,
            padding_left: 0,
        }
    }

    /// The next member. `None` at the end, after everything up to the end of the gzip stream was read and its checksum
    /// was right.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Member>> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_rest()?;
            let start = self.position;
            let Some(record) = self.record()? else {
                // As in GNU tar, the two empty records need not be there: gzip's checksum proves that the stream is complete.
                return if start > 0 {
                    Ok(None)
                } else {
                    Err(bad_slug("it is empty"))
                };
            };
            if record.iter().all(|&byte| byte == 0) {
                self.expect_zeros()?;
                return Ok(None);
            }
            let header = Header::from_byte_slice(&record);
            if !checksum_matches(header) {
                return Err(bad_slug(match start {
                    0 => "there is no tar archive in it".to_owned(),
                    _ => format!("the tar archive is corrupt at byte {start}"),
                }));
            }
            let bad_number = || bad_slug(format!("bad number in the tar header at byte {start}"));
            let kind = header.entry_type();
            let is_about_next =
                kind.is_gnu_longname() || kind.is_gnu_longlink() || kind.is_pax_local_extensions();
            if is_beyond_64_bits(&header.as_old().size) {
                return Err(bad_number());
            }
            let own_size = header.entry_size().map_err(|_| bad_number())?;
            let size = match extensions.size {
                Some(size) if !is_about_next => size,
                _ => own_size,
            };
            // Links and directories carry no contents, whatever their size field says.
            let size = if kind.is_hard_link() || kind.is_symlink() || kind.is_dir() {
                0
            } else {
                size
            };
            self.limits
                .check_bytes(self.position.saturating_add(size))?;
            self.contents_left = size;
            let end = size.checked_next_multiple_of(RECORD as u64);
            self.padding_left = end.unwrap_or(size).saturating_sub(size);
            if kind.is_gnu_longname() {
                extensions.name = Some(self.long_text()?);
            } else if kind.is_gnu_longlink() {
                extensions.target = Some(self.long_text()?);
            } else if kind.is_pax_local_extensions() {
                let text = self.take_contents(MAX_PAX_BYTES, "bytes in one pax header")?;
                extensions.read_pax(&text)?;
            } else if kind.is_pax_global_extensions() {
                // `git archive` puts the commit there. No known program writes defaults for names and sizes.
            } else {
                return Ok(Some(Member {
                    name: extensions
                        .name
                        .unwrap_or_else(|| header.path_bytes().into_owned()),
                    target: extensions.target.unwrap_or_else(|| {
                        header
                            .link_name_bytes()
                            .map(|text| text.into_owned())
                            .unwrap_or_default()
                    }),
                    kind,
                    mode: header.mode().map_err(|_| bad_number())?,
                    // A time before 1970 becomes 0.
                    mtime: header.mtime().unwrap_or(0),
                    size,
                }));
            }
        }
    }

    /// The next piece of the current member's contents; empty at their end.
    pub(super) fn contents(&mut self) -> anyhow::Result<&[u8]> {
        if self.contents_left == 0 {
            return Ok(&[]);
        }
        let piece = self.stream.fill()?;
        if piece.is_empty() {
            return Err(bad_slug("the tar archive is truncated"));
        }
        let left = usize::try_from(self.contents_left).unwrap_or(usize::MAX);
        Ok(piece.get(..left).unwrap_or(piece))
    }

    /// Takes `count` bytes off what [`contents`](Self::contents) showed.
    pub(super) fn consume(&mut self, count: usize) {
        self.stream.consume(count);
        self.contents_left = self.contents_left.saturating_sub(count as u64);
        self.position = self.position.saturating_add(count as u64);
    }

    fn skip_rest(&mut self) -> anyhow::Result<()> {
        let padding = std::mem::take(&mut self.padding_left);
        self.contents_left = self.contents_left.saturating_add(padding);
        loop {
            match self.contents()?.len() {
                0 => return Ok(()),
                count => self.consume(count),
            }
        }
    }

    /// The next 512 bytes; `None` when the stream ends before them.
    fn record(&mut self) -> anyhow::Result<Option<[u8; RECORD]>> {
        let mut record = [0; RECORD];
        let mut left = record.as_mut_slice();
        while !left.is_empty() {
            let piece = self.stream.fill()?;
            if piece.is_empty() {
                return match left.len() {
                    RECORD => Ok(None),
                    _ => Err(bad_slug("the tar archive is truncated")),
                };
            }
            let count = piece.len().min(left.len());
            let (now, later) = left.split_at_mut(count);
            now.copy_from_slice(piece.split_at(count).0);
            left = later;
            self.stream.consume(count);
        }
        self.position = self.position.saturating_add(RECORD as u64);
        Ok(Some(record))
    }

    fn expect_zeros(&mut self) -> anyhow::Result<()> {
        loop {
            let piece = self.stream.fill()?;
            let count = piece.len();
            if count == 0 {
                return Ok(());
            }
            if piece.iter().any(|&byte| byte != 0) {
                return Err(bad_slug("something follows the end of the tar archive"));
            }
            self.stream.consume(count);
            self.position = self.position.saturating_add(count as u64);
            self.limits.check_bytes(self.position)?;
        }
    }

    /// A GNU long name or target: NUL-terminated.
    fn long_text(&mut self) -> anyhow::Result<Vec<u8>> {
        // Room for `./app/`, a slash at the end and the NUL.
        let limit = (self.limits.path_bytes as u64).saturating_add(16);
        let mut text = self.take_contents(limit, "bytes in one path")?;
        if let Some(end) = text.iter().position(|&byte| byte == 0) {
            text.truncate(end);
        }
        Ok(text)
    }

    fn take_contents(&mut self, limit: u64, what: &str) -> anyhow::Result<Vec<u8>> {
        if self.contents_left > limit {
            return Err(over_limit(format!("{} {what}", self.contents_left), limit));
        }
        let mut bytes = Vec::with_capacity(self.contents_left as usize);
        loop {
            let piece = self.contents()?;
            let count = piece.len();
            if count == 0 {
                return Ok(bytes);
            }
            bytes.extend_from_slice(piece);
            self.consume(count);
        }
    }
}

impl Extensions {
    /// Records of the form `LENGTH KEY=VALUE\n`, where the length counts all of it: a value may hold
    /// any byte, newlines too.
    fn read_pax(&mut self, mut text: &[u8]) -> anyhow::Result<()> {
        let malformed = || bad_slug("malformed pax header");
        while !text.is_empty() {
            let digits = text.split(|&byte| byte == b' ').next().unwrap_or_default();
            let length = parse_number(digits).ok_or_else(malformed)?;
            let length = usize::try_from(length).map_err(|_| malformed())?;
            let (record, rest) = text.split_at_checked(length).ok_or_else(malformed)?;
            text = rest;
            let record = record
                .strip_prefix(digits)
                .and_then(|record| record.strip_prefix(b" ")?.strip_suffix(b"\n"))
                .ok_or_else(malformed)?;
            let mut parts = record.splitn(2, |&byte| byte == b'=');
            let (Some(key), Some(value)) = (parts.next(), parts.next()) else {
                return Err(malformed());
            };
            match key {
                b"path" => self.name = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                b"size" => self.size = Some(parse_number(value).ok_or_else(malformed)?),
                _ if key.starts_with(b"GNU.sparse.") => {
                    return Err(bad_slug("sparse files are not supported (tar without -S)"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn parse_number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Whether the header states the sum of its bytes, its own field read as blanks.
fn checksum_matches(header: &Header) -> bool {
    let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>();
    let field = &header.as_old().cksum;
    let others = sum(header.as_bytes()).saturating_sub(sum(field));
    let expected = others.saturating_add(sum(&[b' '; 8]));
    header.cksum().is_ok_and(|stated| stated == expected)
}

/// Whether a number in base 256, as for sizes from 8 GiB on, is negative or does not fit into 64 bits: its upper bytes are
/// passed over when it is read.
fn is_beyond_64_bits(field: &[u8; 12]) -> bool {
    field[0] & 0x80 != 0 && field[..4] != [0x80, 0, 0, 0]
}
