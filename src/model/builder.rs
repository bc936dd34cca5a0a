//! What makes a slug of an app's source.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::UserError;

/// What a build does with a source: the setting of an app.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Builder {
    /// The buildpacks that the app or the source names; else the one that the files of the source ask for, if any does.
    #[default]
    Auto,
    /// The buildpack of this program's own that the files of the source ask for, whatever is named.
    Native,
    /// The buildpacks that the app or the source names.
    Buildpacks,
    /// Nothing: the files are the slug, as they are.
    None,
}

impl Builder {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Native, Self::Buildpacks, Self::None];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Buildpacks => "buildpacks",
            Self::None => "none",
        }
    }
}

impl fmt::Display for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Builder {
    type Err = UserError;

    fn from_str(name: &str) -> Result<Self, UserError> {
        let named = Self::ALL.into_iter().find(|it| it.as_str() == name);
        named.ok_or_else(|| {
            UserError::new(format!("there is no builder `{name}`"))
                .hint("it is `auto`, `native`, `buildpacks` or `none`")
        })
    }
}
