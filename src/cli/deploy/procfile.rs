//! The Procfile of a folder that is to be deployed: read, or refused with advice.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use anyhow::Result;

use crate::error::{UserError, shown};
use crate::kernel::beneath;
use crate::model::command_line;
use crate::model::procfile;
use crate::model::release::{ProcessTypes, RELEASE_PHASE};
use crate::slug::{self, Elsewhere};

/// The hint that explains a Procfile.
pub(super) const WHAT_IT_SAYS: &str =
    "it says what the app runs: a line like `web: python3 -m http.server $PORT`";

/// The process types of the Procfile in `root`.
///
/// # Errors
/// There is none, or it is not valid.
pub fn process_types_for(root: &Path) -> Result<ProcessTypes> {
    required(root)?;
    process_types(root)
}

/// Refuses a folder without a Procfile; the hint says where there is one.
///
/// # Errors
/// There is no Procfile.
pub fn required(root: &Path) -> Result<(), UserError> {
    let is_file = fs::metadata(root.join("Procfile")).map(|procfile| procfile.is_file());
    // Other errors show when it is read.
    if is_file.unwrap_or_else(|error| error.kind() != io::ErrorKind::NotFound) {
        return Ok(());
    }
    let place = root.display();
    let hint = match slug::procfile_elsewhere(root) {
        Some(Elsewhere::Below(folder)) => {
            let folder = shown(folder.as_os_str().as_encoded_bytes(), 200);
            let deploy = command_line::join(&["dyno", "deploy", &*folder]);
            format!(
                "there is one in `{folder}`: `{deploy}` deploys that folder, `dyno create` in it makes it an app of its own"
            )
        }
        Some(Elsewhere::Named(name)) => {
            let name = shown(name.as_bytes(), 60);
            format!("there is a `{name}`: rename it, the name is `Procfile`")
        }
        None => WHAT_IT_SAYS.to_owned(),
    };
    Err(UserError::new(format!("there is no Procfile in `{place}`")).hint(hint))
}

/// The process types of the Procfile in `root`; empty if there is no Procfile.
pub fn process_types(root: &Path) -> Result<ProcessTypes> {
    // A checkout may be a stranger's, and its Procfile a symlink to a file of the user's.
    let text = File::open(root)
        .and_then(|folder| beneath::read(folder, "Procfile", procfile::MAX_BYTES as u64));
    match text {
        Ok(Some(text)) => parse(&text),
        Ok(None) => Ok(ProcessTypes::new()),
        Err(error) if beneath::leads_out(&error) => {
            let message = format!("`{}/Procfile` leads out of that folder", root.display());
            Err(UserError::new(message)
                .hint("put the file itself there: what it says is shown to the app's processes")
                .into())
        }
        Err(error) => {
            let message = format!("cannot read `{}/Procfile`: {error}", root.display());
            let hint = "it is a text file that you may read: `ls -l` shows its owner and mode, `chmod u+r Procfile` lets its owner read it";
            Err(UserError::new(message).hint(hint).into())
        }
    }
}

/// The process types without `release`.
pub fn without_release_phase(types: &ProcessTypes) -> ProcessTypes {
    let types = types.iter().filter(|(name, _)| *name != RELEASE_PHASE);
    types.collect()
}

pub(super) fn parse(text: &[u8]) -> Result<ProcessTypes> {
    let mut types = ProcessTypes::new();
    for process_type in procfile::parse(text).map_err(UserError::from)? {
        types.insert(process_type.name, process_type.command);
    }
    Ok(types)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_procfile_that_cannot_be_read_is_told_with_advice() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("Procfile")).unwrap();
        let error = process_types(root.path()).unwrap_err();
        let error: &UserError = error.downcast_ref().unwrap();
        let root = root.path().display();
        let message = format!("cannot read `{root}/Procfile`: it is no regular file");
        assert!(error.message.starts_with(&message), "{error}");
        assert!(error.hint.as_ref().unwrap().contains("chmod u+r Procfile"));
    }
}
