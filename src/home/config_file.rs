//! Reading `config.toml`, in which the user of this state folder has written settings.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;

use super::Home;
use crate::error::UserError;
use crate::model::settings::{ConfigFile, LONGEST_FILE};

/// Its name in the state folder.
pub const NAME: &str = "config.toml";

impl Home {
    /// The settings file; None if there is none.
    ///
    /// # Errors
    /// When it cannot be read, is no text file, or is too long.
    pub fn config_file(&self) -> Result<Option<ConfigFile>, UserError> {
        let path = self.path().join(NAME).display().to_string();
        match self.config_text() {
            Ok(text) => Ok(Some(ConfigFile { path, text })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(UserError::new(format!(
                "cannot read the settings in `{path}`: {error}"
            ))
            .hint("correct or remove it; `dyno settings` shows what is used then")),
        }
    }

    fn config_text(&self) -> io::Result<String> {
        // Opening must not wait if it is a FIFO.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits() as i32)
            .open(self.path().join(NAME))?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let mut text = Vec::new();
        file.take(LONGEST_FILE as u64 + 1).read_to_end(&mut text)?;
        if text.len() > LONGEST_FILE {
            let longest = LONGEST_FILE / 1024;
            return Err(io::Error::other(format!("it has more than {longest} KiB")));
        }
        String::from_utf8(text).map_err(|_| io::Error::other("it is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_a_short_file_of_text_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(NAME);
        fs::write(&file, "stop_grace = 1\n").unwrap();
        // The settings may be there before the state.
        let home = Home::open(folder.path()).unwrap();
        assert_eq!(
            home.config_file().unwrap().unwrap().text,
            "stop_grace = 1\n"
        );

        fs::write(&file, " ".repeat(LONGEST_FILE)).unwrap();
        assert!(home.config_file().is_ok());
        fs::write(&file, " ".repeat(LONGEST_FILE + 1)).unwrap();
        let error = home.config_file().unwrap_err();
        assert!(error.message.ends_with("more than 64 KiB"), "{error}");
        fs::write(&file, b"\xff").unwrap();
        assert!(home.config_file().unwrap_err().message.ends_with("UTF-8"));

        fs::remove_file(&file).unwrap();
        assert!(home.config_file().unwrap().is_none());
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &file,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        assert!(home.config_file().unwrap_err().message.ends_with("no file"));
    }
}
