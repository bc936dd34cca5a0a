//! Dyno sizes: Heroku's table, past names included.
//!
//! A size limits a dyno's memory, its processes and threads, and how many one-off dynos of it an app may have; and it is the
//! dyno's share of the processors when there is not enough for all (docs/limits.md). Called by the command line, the API and
//! the store.

use crate::error::{UserError, shown};

/// The size of a one-off dyno, and of a new process type, when none is named. Heroku's page on
/// one-off dynos says 1X, whatever the app's other dynos have.
pub const DEFAULT: &str = "1X";

/// One row of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Size {
    /// The name with Heroku's capitals.
    pub name: &'static str,
    /// Memory quota in MiB.
    pub memory_mib: u32,
    /// Whether Heroku gives it a machine of its own.
    pub dedicated: bool,
    /// Heroku's measure of computing power, where it gives a range the lower end.
    pub compute: u32,
    /// The most processes and threads of a dyno, counted together, in whatever state.
    pub processes: u32,
    /// The most one-off dynos of this size in an app, if Heroku allows fewer than of other sizes of its kind.
    pub fewer_one_offs: Option<u32>,
    /// Whether Heroku sells it in private spaces only.
    pub private_space_only: bool,
}

impl Size {
    const fn shared(name: &'static str, memory_mib: u32, compute: u32, processes: u32) -> Self {
        Self {
            name,
            memory_mib,
            dedicated: false,
            compute,
            processes,
            fewer_one_offs: None,
            private_space_only: false,
        }
    }

    const fn dedicated(name: &'static str, memory_mib: u32, compute: u32, processes: u32) -> Self {
        Self {
            name,
            memory_mib,
            dedicated: true,
            compute,
            processes,
            fewer_one_offs: None,
            private_space_only: false,
        }
    }

    const fn private(name: &'static str, memory_mib: u32, compute: u32, processes: u32) -> Self {
        Self {
            private_space_only: true,
            ..Self::dedicated(name, memory_mib, compute, processes)
        }
    }

    /// The size with this name, ignoring case: `standard-2x` finds `Standard-2X`.
    ///
    /// # Errors
    /// When there is none; the hint lists them.
    pub fn lookup(name: &str) -> Result<&'static Self, UserError> {
        ALL.iter()
            .find(|size| size.name.eq_ignore_ascii_case(name))
            .ok_or_else(|| {
                let names: Vec<_> = ALL
                    .iter()
                    .filter(|size| !size.private_space_only)
                    .map(|size| size.name)
                    .collect();
                let start = shown(name.as_bytes(), 40);
                UserError::new(format!("no such size as `{start}`")).hint(format!(
                    "the sizes are {}, and Private-S, Shield-S and their likes",
                    names.join(", ")
                ))
            })
    }

    /// How much memory a dyno may have before the log says that it is too much (R14), in bytes.
    pub fn memory_quota(&self) -> u64 {
        u64::from(self.memory_mib) << 20
    }

    /// How much memory a dyno may have before it is killed (R15), in bytes: three times the quota for a size that shares
    /// a machine on Heroku, twice the quota for others (Heroku's).
    pub fn memory_limit(&self) -> u64 {
        self.memory_quota() * if self.dedicated { 2 } else { 3 }
    }

    /// [`DEFAULT`] as a row.
    pub fn default_size() -> &'static Self {
        &ALL[0]
    }
}

/// Every size of Heroku's documents.
pub static ALL: [Size; 26] = [
    Size::shared("1X", 512, 1, 256),
    Size::shared("2X", 1024, 4, 512),
    Size::dedicated("PX", 6 * 1024, 40, 16_384),
    Size::shared("Free", 512, 1, 256),
    Size::shared("Hobby", 512, 1, 256),
    Size {
        fewer_one_offs: Some(1),
        ..Size::shared("Eco", 512, 1, 256)
    },
    Size::shared("Basic", 512, 1, 256),
    Size::shared("Standard-1X", 512, 1, 256),
    Size::shared("Standard-2X", 1024, 2, 512),
    Size::dedicated("Performance-M", 2560, 12, 16_384),
    Size::dedicated("Performance-L", 14 * 1024, 50, 32_768),
    Size::dedicated("Performance-L-RAM", 30 * 1024, 24, 16_384),
    Size::dedicated("Performance-XL", 62 * 1024, 50, 32_768),
    Size::dedicated("Performance-2XL", 126 * 1024, 100, 65_536),
    Size::private("Private-S", 1024, 12, 512),
    Size::private("Private-M", 2560, 12, 16_384),
    Size::private("Private-L", 14 * 1024, 50, 32_768),
    Size::private("Private-L-RAM", 30 * 1024, 24, 16_384),
    Size::private("Private-XL", 62 * 1024, 50, 32_768),
    Size::private("Private-2XL", 126 * 1024, 100, 65_536),
    Size::private("Shield-S", 1024, 12, 512),
    Size::private("Shield-M", 2560, 12, 16_384),
    Size::private("Shield-L", 14 * 1024, 50, 32_768),
    Size::private("Shield-L-RAM", 30 * 1024, 24, 16_384),
    Size::private("Shield-XL", 62 * 1024, 50, 32_768),
    Size::private("Shield-2XL", 126 * 1024, 100, 65_536),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_case_finds_the_name_with_herokus_capitals() {
        for (typed, name) in [
            ("1x", "1X"),
            ("standard-2x", "Standard-2X"),
            ("PERFORMANCE-L-RAM", "Performance-L-RAM"),
        ] {
            assert_eq!(Size::lookup(typed).unwrap().name, name);
        }
        assert_eq!(Size::default_size().name, DEFAULT);
    }

    #[test]
    fn an_unknown_size_lists_the_known_ones() {
        let error = Size::lookup("3X").unwrap_err();
        assert_eq!(error.message, "no such size as `3X`");
        let hint = error.hint.unwrap();
        assert!(hint.starts_with("the sizes are 1X, 2X, PX, Free"), "{hint}");
    }

    #[test]
    fn names_are_unique_and_figures_make_sense() {
        for (index, size) in ALL.iter().enumerate() {
            assert!(
                ALL[..index]
                    .iter()
                    .all(|other| !other.name.eq_ignore_ascii_case(size.name))
            );
            assert!(size.memory_mib >= 512 && size.fewer_one_offs != Some(0));
            assert!(size.processes >= 256 && size.processes % 256 == 0);
        }
        assert_eq!(Size::lookup("eco").unwrap().fewer_one_offs, Some(1));
    }
}
