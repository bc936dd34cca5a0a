//! The variables of the processes, from `.env` or from the files that are named instead, and the first port.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rustix::fs::OFlags;

use crate::cli::dot_env;
use crate::error::UserError;
use crate::model::config_var::check_env;

/// The first port, foreman's.
pub const FIRST_PORT: u16 = 5000;

/// The file of variables that is read if no other is named; it need not be there.
const DOT_ENV: &str = ".env";

/// The variables for the processes of `root`, and the first port, if it is given; as in foreman, `PORT` gives it.
/// `files` and `port` are from the command line.
///
/// # Errors
/// When a named file does not exist, cannot be read or is not valid, or a port is not valid.
pub fn read(
    root: &Path,
    files: &[PathBuf],
    port: Option<u16>,
) -> Result<(BTreeMap<String, String>, Option<u16>)> {
    let mut env = BTreeMap::new();
    let usual = [PathBuf::from(DOT_ENV)];
    let (files, must_be) = match files.is_empty() {
        true => (&usual[..], false),
        false => (files, true),
    };
    for file in files {
        let shown = file.display().to_string();
        match content(&root.join(file)) {
            Ok(text) => env.extend(dot_env::parse(&text, &shown)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_be => {}
            Err(error) => {
                return Err(UserError::new(format!("cannot read `{shown}`: {error}"))
                    .hint("-e takes a file of lines like `NAME=value`")
                    .into());
            }
        }
    }
    let of_file = env.remove("PORT");
    let port = match (port, of_file) {
        (Some(port), _) => Some(port),
        (None, Some(text)) => {
            Some(text.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
                let hint = "it is the first port, from 1 to 65535; `-p` says another";
                UserError::new("`PORT` of the file of variables is no port").hint(hint)
            })?)
        }
        (None, None) => None,
    };
    check_env(&env)?;
    Ok((env, port))
}

/// The contents of a file, up to one byte more than is allowed. Opening a FIFO does not wait for a writer.
fn content(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::options()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(path)?
        .take(dot_env::MAX_BYTES as u64 + 1)
        .read_to_end(&mut text)?;
    Ok(text)
}
