//! Dyno sizes: Heroku's table, past names included.
//!
//! A size limits a dyno's memory, its processes and threads, and how many one-off dynos of it an app may have; and it is the
//! dyno's share of the processors when there is not enough for all (docs/limits.md). A host may have sizes of its own, by the
//! setting `sizes`. Called by the API, the store and the server.

use std::borrow::Cow;

use crate::error::{UserError, shown};

/// The size of a one-off dyno, and of a new process type, when none is named. Heroku's page on
/// one-off dynos says 1X, whatever the app's other dynos have.
pub const DEFAULT: &str = "1X";

/// The longest name of a size, in characters.
pub const LONGEST_NAME: usize = 40;

/// What Heroku's sizes have in common.
enum Kind {
    Eco,
    Shared,
    Dedicated,
    Private,
}

/// A size of dynos: a row of Heroku's table, or one of this host's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size {
    /// The name with Heroku's capitals, or with those of the setting.
    pub name: Cow<'static, str>,
    /// Memory quota in MiB.
    pub memory_mib: u32,
    /// How much memory a dyno may have before it is killed (R15), in hundredths of the quota: on Heroku 300 for a size that
    /// shares a machine, 200 for others.
    pub limit_percent: u32,
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
    /// How much `/dev/shm` may hold, in MiB; None: what the setting `shm_size` says.
    pub shm_mib: Option<u32>,
    /// How much `/tmp` may hold, in memory, in MiB; None: what the setting `tmp_size` says.
    pub tmp_mib: Option<u32>,
    /// How much it may have on disk of what it writes, in MiB; None: what the setting `disk_size` says.
    pub disk_mib: Option<u32>,
}

impl Size {
    const fn shared(name: &'static str, memory_mib: u32, compute: u32, processes: u32) -> Self {
        Self::of_kind(name, memory_mib, compute, processes, Kind::Shared)
    }

    const fn dedicated(name: &'static str, memory_mib: u32, compute: u32, processes: u32) -> Self {
        Self::of_kind(name, memory_mib, compute, processes, Kind::Dedicated)
    }

    const fn private(name: &'static str, memory_mib: u32, compute: u32, processes: u32) -> Self {
        Self::of_kind(name, memory_mib, compute, processes, Kind::Private)
    }

    const fn of_kind(
        name: &'static str,
        memory_mib: u32,
        compute: u32,
        processes: u32,
        kind: Kind,
    ) -> Self {
        let dedicated = matches!(kind, Kind::Dedicated | Kind::Private);
        Self {
            name: Cow::Borrowed(name),
            memory_mib,
            limit_percent: if dedicated { 200 } else { 300 },
            dedicated,
            compute,
            processes,
            fewer_one_offs: if matches!(kind, Kind::Eco) {
                Some(1)
            } else {
                None
            },
            private_space_only: matches!(kind, Kind::Private),
            shm_mib: None,
            tmp_mib: None,
            disk_mib: None,
        }
    }

    /// How much memory a dyno may have before the log says that it is too much (R14), in bytes.
    pub fn memory_quota(&self) -> u64 {
        u64::from(self.memory_mib) << 20
    }

    /// How much memory a dyno may have before it is killed (R15), in bytes.
    pub fn memory_limit(&self) -> u64 {
        self.memory_quota() * u64::from(self.limit_percent) / 100
    }

    /// How much `/dev/shm` of a dyno may hold, in MiB, with this setting `shm_size` in bytes.
    pub fn shared_memory(&self, setting: Option<u64>) -> u32 {
        let by_setting = setting.map_or(self.memory_mib, in_mib);
        self.shm_mib.unwrap_or(by_setting)
    }

    /// How much `/tmp` of a dyno may hold in memory, in MiB, with this setting `tmp_size` in bytes; None: it is on disk.
    pub fn temporary(&self, setting: Option<u64>) -> Option<u32> {
        self.tmp_mib.or(setting.map(in_mib))
    }

    /// How much a dyno may have on disk of what it writes, in bytes, with this setting `disk_size` in bytes; None: it has no
    /// limit.
    pub fn disk(&self, setting: Option<u64>) -> Option<u64> {
        self.disk_mib.map(|mib| u64::from(mib) << 20).or(setting)
    }

    /// [`DEFAULT`] as a row of Heroku's table.
    pub fn default_size() -> &'static Self {
        &ALL[0]
    }

    /// Heroku's size with this name, ignoring case.
    pub fn of_heroku(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|size| size.is_named(name))
    }

    /// Whether this is its name, ignoring case.
    pub fn is_named(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

fn in_mib(bytes: u64) -> u32 {
    u32::try_from(bytes >> 20).unwrap_or(u32::MAX)
}

/// Whether a size may have this name: letters, digits, `-` and `_`, the first a letter or a digit, not digits alone, which would
/// be a number of dynos.
pub fn is_size_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    name.len() <= LONGEST_NAME
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(is_part)
        && !name.bytes().all(|byte| byte.is_ascii_digit())
}

/// The sizes of a host: Heroku's, and its own beside or in place of these.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sizes {
    own: Vec<Size>,
}

impl Sizes {
    /// Heroku's, with these beside or in place of them. Their names differ in more than case.
    pub fn with(own: Vec<Size>) -> Self {
        Self { own }
    }

    /// Those that are this host's own.
    pub fn own(&self) -> &[Size] {
        &self.own
    }

    /// Every size once: Heroku's in the order of its table, then what this host has beside them.
    pub fn all(&self) -> impl Iterator<Item = &Size> {
        let herokus = ALL
            .iter()
            .map(|size| self.own_named(&size.name).unwrap_or(size));
        let others = self.own.iter();
        herokus.chain(others.filter(|size| Size::of_heroku(&size.name).is_none()))
    }

    /// The size with this name, ignoring case: `standard-2x` finds `Standard-2X`.
    ///
    /// # Errors
    /// When there is none; the hint lists them.
    pub fn lookup(&self, name: &str) -> Result<&Size, UserError> {
        let found = self.own_named(name).or_else(|| Size::of_heroku(name));
        found.ok_or_else(|| {
            let listed = self.all().filter(|size| !size.private_space_only);
            let names: Vec<_> = listed.map(|size| &*size.name).collect();
            let start = shown(name.as_bytes(), LONGEST_NAME);
            UserError::new(format!("no such size as `{start}`")).hint(format!(
                "the sizes are {}, and Private-S, Shield-S and their likes",
                names.join(", ")
            ))
        })
    }

    /// The size that a dyno was made with, or the default one if there is none of this name any more.
    pub fn of_dyno(&self, name: &str) -> &Size {
        self.lookup(name)
            .or_else(|_| self.lookup(DEFAULT))
            .unwrap_or(Size::default_size())
    }

    fn own_named(&self, name: &str) -> Option<&Size> {
        self.own.iter().find(|size| size.is_named(name))
    }
}

/// Every size of Heroku's documents.
pub static ALL: [Size; 26] = [
    Size::shared("1X", 512, 1, 256),
    Size::shared("2X", 1024, 4, 512),
    Size::dedicated("PX", 6 * 1024, 40, 16_384),
    Size::shared("Free", 512, 1, 256),
    Size::shared("Hobby", 512, 1, 256),
    Size::of_kind("Eco", 512, 1, 256, Kind::Eco),
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
        let sizes = Sizes::default();
        for (typed, name) in [
            ("1x", "1X"),
            ("standard-2x", "Standard-2X"),
            ("PERFORMANCE-L-RAM", "Performance-L-RAM"),
        ] {
            assert_eq!(sizes.lookup(typed).unwrap().name, name);
        }
        assert_eq!(Size::default_size().name, DEFAULT);
    }

    #[test]
    fn an_unknown_size_lists_the_known_ones() {
        let error = Sizes::default().lookup("3X").unwrap_err();
        assert_eq!(error.message, "no such size as `3X`");
        let hint = error.hint.unwrap();
        assert!(hint.starts_with("the sizes are 1X, 2X, PX, Free"), "{hint}");
    }

    #[test]
    fn sizes_of_the_host_are_beside_herokus_and_in_their_place() {
        let own = |name: &'static str| Size::shared(name, 300, 1, 64);
        let sizes = Sizes::with(vec![own("small"), own("eco")]);
        assert_eq!(sizes.lookup("SMALL").unwrap().name, "small");
        assert_eq!(sizes.lookup("Eco").unwrap().memory_mib, 300);
        assert_eq!(sizes.all().count(), ALL.len() + 1);
        assert_eq!(sizes.all().filter(|size| size.is_named("eco")).count(), 1);
        let hint = sizes.lookup("3X").unwrap_err().hint.unwrap();
        assert!(hint.contains("small"), "{hint}");
        assert_eq!(sizes.of_dyno("gone").name, DEFAULT);
    }

    #[test]
    fn a_name_is_no_number_of_dynos() {
        for name in ["small", "2x", "my-Size_2", "a"] {
            assert!(is_size_name(name), "{name}");
        }
        for name in [
            "",
            "2",
            "+1",
            "-a",
            "a b",
            "a=1",
            "a;b",
            "ä",
            &"a".repeat(41),
        ] {
            assert!(!is_size_name(name), "{name}");
        }
    }

    #[test]
    fn names_are_unique_and_figures_make_sense() {
        for (index, size) in ALL.iter().enumerate() {
            let mut others = ALL[..index].iter();
            assert!(others.all(|other| !other.is_named(&size.name)) && is_size_name(&size.name));
            assert!(size.memory_mib >= 512 && size.fewer_one_offs != Some(0));
            assert!(size.processes >= 256 && size.processes % 256 == 0);
        }
        assert_eq!(Size::of_heroku("eco").unwrap().fewer_one_offs, Some(1));
    }
}
