//! The variables of the processes, from `.env` or from the files that are named instead, and the first port.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

use anyhow::Result;

use crate::cli::dot_env;
use crate::error::UserError;
use crate::kernel::beneath;
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
        match content(root, file) {
            Ok(Some(text)) => env.extend(dot_env::parse(&text, &shown)?),
            Ok(None) if !must_be => {}
            Ok(None) => {
                return Err(UserError::new(format!(
                    "cannot read `{shown}`: there is no such file"
                ))
                .hint("-e takes a file of lines like `NAME=value`")
                .into());
            }
            Err(error) if beneath::leads_out(&error) => {
                let root = root.display();
                return Err(
                    UserError::new(format!("`{shown}` leads out of the folder `{root}`"))
                        .hint("its lines are shown to the app's processes; `-e PATH` names a file that is elsewhere by its own path")
                        .into(),
                );
            }
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

/// The contents of a file, up to one byte more than is allowed; None if there is none. A file of the folder may be a
/// stranger's symlink, and is looked for in the folder alone; one that the user has named elsewhere is the user's.
fn content(root: &Path, file: &Path) -> io::Result<Option<Vec<u8>>> {
    let is_elsewhere = file.is_absolute() || file.components().any(|it| it == Component::ParentDir);
    let path = root.join(file);
    let (folder, name) = match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) if is_elsewhere => (folder, Path::new(name)),
        _ => (root, file),
    };
    let folder = match File::open(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        folder => folder?,
    };
    match beneath::read(folder, name, dot_env::MAX_BYTES as u64) {
        Err(error) if is_elsewhere && beneath::leads_out(&error) => {
            let real = path.canonicalize()?;
            let (Some(folder), Some(name)) = (real.parent(), real.file_name()) else {
                return Err(error);
            };
            beneath::read(File::open(folder)?, name, dot_env::MAX_BYTES as u64)
        }
        read => read,
    }
}
