//! An app: its record, and the rules for its name.
//!
//! A name follows Heroku's rule, since people type it and the router uses it as a host name. This module turns any text
//! into such a name and offers others when one is taken; the store knows whether a name is taken. Called by the command
//! line, the API and the store.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{UserError, shown};
use crate::model::builder::Builder;
use crate::model::network::DynoNetwork;

/// The longest app name in bytes (Heroku's figure).
pub const MAX_NAME_BYTES: usize = 30;

/// The shortest app name in bytes (Heroku's figure).
pub const MIN_NAME_BYTES: usize = 3;

/// The longest path in bytes: Linux's `PATH_MAX` without the final NUL.
pub const MAX_PATH_BYTES: usize = 4095;

/// The name of an app: `^[a-z][a-z0-9-]{1,28}[a-z0-9]$`, Heroku's rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppName(String);

/// An app, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// A uuid; stays when the name changes.
    pub id: String,
    /// Unique among the apps of this host.
    pub name: AppName,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its name, its newest release, `maintenance`, `network`, `builder` or buildpacks last changed.
    pub updated_at: Timestamp,
    /// When its newest release was made.
    pub released_at: Timestamp,
    /// Bytes of the current release's slug, compressed; None before the first deploy.
    pub slug_size: Option<u64>,
    /// The folder that was last linked to it, as a canonical path.
    pub folder: Option<String>,
    /// Whether it is in maintenance mode.
    pub maintenance: bool,
    /// The network of its dynos; None: what the setting `network` says.
    pub network: Option<DynoNetwork>,
    /// What makes slugs of its source.
    pub builder: Builder,
    /// The addresses of the buildpacks that it was given, in their order.
    pub buildpacks: Vec<String>,
    /// Whether its dynos log what they take of processors and memory (`log-runtime-metrics`).
    pub runtime_metrics: bool,
}

/// A folder of the user, identified so that it can be linked to an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folder {
    /// Its canonical path.
    pub path: String,
    /// The number of its device.
    pub device: u64,
    /// Its inode, which tells it from a later folder of the same path.
    pub inode: u64,
}

impl Folder {
    /// Checks a folder that comes in a request.
    ///
    /// # Errors
    /// When the path is not absolute, or longer than [`MAX_PATH_BYTES`].
    pub fn check(&self) -> Result<(), UserError> {
        let (path, length) = (&self.path, self.path.len());
        if length > MAX_PATH_BYTES {
            let message = format!("the path of the folder has {length} bytes");
            return Err(UserError::new(message).hint(format!("it may have {MAX_PATH_BYTES}")));
        }
        match path.starts_with('/') && !path.contains('\0') {
            true => Ok(()),
            false => {
                let path = shown(path.as_bytes(), 100);
                Err(UserError::new(format!("`{path}` is no path of a folder"))
                    .hint("it begins with a `/`"))
            }
        }
    }
}

/// The link of a folder to an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The app.
    pub app: App,
    /// The canonical path of the linked folder, which may be above the folder in question.
    pub path: String,
    /// When the app's newest deploy from this folder was packed; None before the first. The greatest time where dynos
    /// use the folder itself, so that it is never out of date.
    pub packed_at: Option<Timestamp>,
}

impl AppName {
    /// Checks `name`, and takes it unchanged.
    ///
    /// # Errors
    /// When it breaks the rule; the hint offers the nearest legal name.
    pub fn parse(name: &str) -> Result<Self, UserError> {
        if is_legal(name) {
            return Ok(Self(name.to_owned()));
        }
        let start = shown(name.as_bytes(), 2 * MAX_NAME_BYTES);
        Err(UserError::new(format!("`{start}` cannot be the name of an app")).hint(format!(
            "a name is {MIN_NAME_BYTES} to {MAX_NAME_BYTES} of a-z, 0-9 and -, begins with a letter and does not end \
             with a -: `{}` would do",
            Self::from_folder(name)
        )))
    }

    /// The valid name nearest to that of a folder: `My App_2` gives `my-app-2`.
    ///
    /// Every run of other characters becomes one `-`. A name that does not begin with a letter gets `app-` in front,
    /// one that is too short `-app` at its end; without any usable character it is `app`.
    pub fn from_folder(folder: &str) -> Self {
        let mut name = String::with_capacity(folder.len());
        for character in folder.chars() {
            if character.is_ascii_alphanumeric() {
                name.push(character.to_ascii_lowercase());
            } else if !name.is_empty() && !name.ends_with('-') {
                name.push('-');
            }
        }
        let mut name = name.trim_end_matches('-').to_owned();
        if name.is_empty() {
            name.push_str("app");
        } else if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
            name.insert_str(0, "app-");
        }
        if name.len() < MIN_NAME_BYTES {
            name.push_str("-app");
        }
        Self(cut(&name, MAX_NAME_BYTES).to_owned())
    }

    /// This name with `suffix` appended, cut so that both fit. `suffix` has only characters of names.
    #[must_use]
    pub fn with_suffix(&self, suffix: &str) -> Self {
        let name = cut(&self.0, MAX_NAME_BYTES.saturating_sub(suffix.len()));
        Self(format!("{name}{suffix}"))
    }

    /// This name, then `name-2`, `name-3` and so on, each valid: for when one is taken.
    pub fn candidates(&self) -> impl Iterator<Item = Self> + use<> {
        let name = self.0.clone();
        (1u64..).map(move |number| {
            if number == 1 {
                return Self(name.clone());
            }
            let suffix = format!("-{number}");
            Self(format!(
                "{}{suffix}",
                cut(&name, MAX_NAME_BYTES - suffix.len())
            ))
        })
    }

    /// A generated name like Heroku's: `silent-meadow-48213`.
    pub fn random(random: u64) -> Self {
        let pick = |words: &[&'static str], bits: u64| words[bits as usize % words.len()];
        let number = (random >> 32) % 90_000 + 10_000;
        Self(format!(
            "{}-{}-{number}",
            pick(&ADJECTIVES, random),
            pick(&NOUNS, random >> 16)
        ))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for AppName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

fn is_legal(name: &str) -> bool {
    (MIN_NAME_BYTES..=MAX_NAME_BYTES).contains(&name.len())
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
}

/// At most `bytes` of an ASCII `name`, without a `-` at the end.
fn cut(name: &str, bytes: usize) -> &str {
    name[..name.len().min(bytes)].trim_end_matches('-')
}

const ADJECTIVES: [&str; 32] = [
    "amber", "brisk", "calm", "clear", "copper", "crisp", "deep", "early", "fair", "gentle",
    "glad", "golden", "green", "hidden", "kind", "late", "light", "lively", "mellow", "mild",
    "open", "plain", "quick", "quiet", "rustic", "silent", "silver", "soft", "steady", "warm",
    "wide", "young",
];

const NOUNS: [&str; 32] = [
    "anchor", "bay", "birch", "brook", "canyon", "cedar", "cliff", "coast", "dune", "falcon",
    "fern", "field", "grove", "harbor", "heron", "hill", "island", "lake", "lantern", "maple",
    "marsh", "meadow", "orchard", "otter", "pebble", "pine", "reef", "ridge", "river", "spring",
    "stone", "valley",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_follow_herokus_rule() {
        for good in ["abc", "shop", "my-app-2", "a--b", &"a".repeat(30)] {
            assert_eq!(AppName::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "a",
            "ab",
            "2048",
            "-abc",
            "abc-",
            "Shop",
            "my_app",
            "é-app",
            &"a".repeat(31),
        ] {
            assert!(AppName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_refusal_offers_the_nearest_legal_name() {
        let error = AppName::parse("My Shop").unwrap_err();
        assert_eq!(error.message, "`My Shop` cannot be the name of an app");
        assert!(error.hint.unwrap().ends_with("`my-shop` would do"));
    }

    #[test]
    fn a_folder_name_becomes_legal() {
        for (folder, name) in [
            ("My App_2", "my-app-2"),
            ("shop", "shop"),
            ("Café del Mar!", "caf-del-mar"),
            ("2048", "app-2048"),
            ("go", "go-app"),
            ("7", "app-7"),
            ("", "app"),
            ("___", "app"),
            ("日本", "app"),
            (".config", "config"),
        ] {
            assert_eq!(AppName::from_folder(folder).as_str(), name, "{folder:?}");
        }
    }

    #[test]
    fn a_suffix_always_fits() {
        let name = |name: &str| AppName::parse(name).unwrap().with_suffix("-start");
        assert_eq!(name("shop").as_str(), "shop-start");
        assert_eq!(
            name(&"a".repeat(30)).as_str(),
            format!("{}-start", "a".repeat(24))
        );
    }

    #[test]
    fn candidates_count_up_within_the_limit() {
        let names: Vec<_> = AppName::parse("shop")
            .unwrap()
            .candidates()
            .take(3)
            .collect();
        assert_eq!(
            names.iter().map(AppName::as_str).collect::<Vec<_>>(),
            ["shop", "shop-2", "shop-3"]
        );
        let long = AppName::parse(&"a".repeat(30)).unwrap();
        assert_eq!(
            long.candidates().nth(9).unwrap().as_str(),
            format!("{}-10", "a".repeat(27))
        );
    }

    proptest! {
        #[test]
        fn whatever_is_made_is_legal(folder in any::<String>(), nth in 0usize..2000, random in any::<u64>()) {
            let name = AppName::from_folder(&folder);
            prop_assert!(is_legal(name.as_str()), "{name}");
            let candidate = name.candidates().nth(nth).unwrap();
            prop_assert!(is_legal(candidate.as_str()), "{candidate}");
            prop_assert!(is_legal(AppName::random(random).as_str()));
        }
    }
}
