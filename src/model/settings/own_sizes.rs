//! The setting `sizes`: sizes of dynos that this host has beside Heroku's, or in their place.
//!
//! As text it is one line, `small memory=256MiB processes=64; big memory=4GiB`; in `config.toml` each may have a table of its own,
//! `[sizes.small]`, which is turned into such a line. A size that is not Heroku's is as 1X where nothing else is said.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use super::rule::{Count, Rule, Size as Mebibytes};
use crate::error::{UserError, shown};
use crate::model::size::{LONGEST_NAME, Size, Sizes, is_size_name};

/// The word for no size of this host's own.
const NONE: &str = "none";

/// The most sizes of a host's own.
const MOST: usize = 64;

/// How many characters of an invalid value are shown.
const SHOWN: usize = 60;

/// What can be said of a size, by its name in a table.
struct Key {
    name: &'static str,
    set: fn(&mut Size, &str) -> Option<()>,
    show: fn(&Size) -> String,
    takes: fn() -> String,
}

const MEMORY: Mebibytes = Mebibytes {
    usual: 512,
    bounds: 16..=1 << 20,
};
const PROCESSES: Count = Count {
    usual: 256,
    bounds: 8..=4_194_304,
};
const CPU: Count = Count {
    usual: 1,
    bounds: 1..=100,
};
const ONE_OFFS: Count = Count {
    usual: 1,
    bounds: 1..=10_000,
};

const FOLDER: Mebibytes = Mebibytes {
    usual: 64,
    bounds: 1..=1 << 20,
};

const DISK: Mebibytes = Mebibytes {
    usual: 1024,
    bounds: 16..=1 << 24,
};

/// An amount in MiB that a size may say nothing of.
fn mebibytes(rule: &Mebibytes, text: &str) -> Option<Option<u32>> {
    let bytes = rule.parse(text)?;
    u32::try_from(bytes >> 20).ok().map(Some)
}

fn shown_mebibytes(amount: Option<u32>) -> String {
    amount.map_or(String::new(), |mib| FOLDER.show(&(u64::from(mib) << 20)))
}

const KEYS: &[Key] = &[
    Key {
        name: "memory",
        set: |size, text| {
            size.memory_mib = u32::try_from(MEMORY.parse(text)? >> 20).ok()?;
            Some(())
        },
        show: |size| MEMORY.show(&size.memory_quota()),
        takes: || MEMORY.takes(),
    },
    Key {
        name: "limit",
        set: |size, text| {
            size.limit_percent = hundredths(text)?;
            Some(())
        },
        show: |size| shown_hundredths(size.limit_percent),
        takes: || {
            "a number from 1 to 100, with up to two decimals: so many times its memory".to_owned()
        },
    },
    Key {
        name: "processes",
        set: |size, text| {
            size.processes = PROCESSES.parse(text)?;
            Some(())
        },
        show: |size| size.processes.to_string(),
        takes: || PROCESSES.takes(),
    },
    Key {
        name: "cpu",
        set: |size, text| {
            size.compute = CPU.parse(text)?;
            Some(())
        },
        show: |size| size.compute.to_string(),
        takes: || format!("{}, 1 for the share of 1X", CPU.takes()),
    },
    Key {
        name: "one_offs",
        set: |size, text| {
            size.fewer_one_offs = Some(ONE_OFFS.parse(text)?);
            Some(())
        },
        show: |size| {
            size.fewer_one_offs
                .map_or(String::new(), |most| most.to_string())
        },
        takes: || ONE_OFFS.takes(),
    },
    Key {
        name: "shm",
        set: |size, text| {
            size.shm_mib = mebibytes(&FOLDER, text)?;
            Some(())
        },
        show: |size| shown_mebibytes(size.shm_mib),
        takes: || FOLDER.takes(),
    },
    Key {
        name: "tmp",
        set: |size, text| {
            size.tmp_mib = mebibytes(&FOLDER, text)?;
            Some(())
        },
        show: |size| shown_mebibytes(size.tmp_mib),
        takes: || FOLDER.takes(),
    },
    Key {
        name: "disk",
        set: |size, text| {
            size.disk_mib = mebibytes(&DISK, text)?;
            Some(())
        },
        show: |size| shown_mebibytes(size.disk_mib),
        takes: || DISK.takes(),
    },
];

/// The rule for the setting `sizes`.
pub struct OwnSizes;

impl Rule for OwnSizes {
    type Value = Sizes;

    fn usual(&self) -> Sizes {
        Sizes::default()
    }

    fn parse(&self, text: &str) -> Option<Sizes> {
        read(text).ok()
    }

    fn show(&self, value: &Sizes) -> String {
        match value.own() {
            [] => NONE.to_owned(),
            own => own.iter().map(line).collect::<Vec<_>>().join("; "),
        }
    }

    fn bounds(&self) -> String {
        format!("`{NONE}` or up to {MOST} sizes")
    }

    fn takes(&self) -> String {
        let names: Vec<_> = KEYS.iter().map(|key| format!("`{}`", key.name)).collect();
        format!(
            "`{NONE}`, or up to {MOST} sizes like `small memory=256MiB processes=64; big memory=4GiB`, of which can be said: {}",
            names.join(", ")
        )
    }

    fn mistake(&self, text: &str) -> Option<UserError> {
        read(text).err()
    }
}

fn read(text: &str) -> Result<Sizes, UserError> {
    if text.trim() == NONE {
        return Ok(Sizes::default());
    }
    let sizes = text.split(';').filter(|part| !part.trim().is_empty());
    together(sizes.map(|part| {
        let mut words = part.split_whitespace();
        let name = words.next().unwrap_or_default();
        let pairs = words.map(|word| word.split_once('=').unwrap_or((word, "")));
        own_size(name, pairs)
    }))
}

/// These sizes as one value.
///
/// # Errors
/// The first of theirs, a name that is there twice, or too many of them.
fn together(sizes: impl Iterator<Item = Result<Size, UserError>>) -> Result<Sizes, UserError> {
    let mut own: Vec<Size> = Vec::new();
    for size in sizes {
        let size = size?;
        if own.iter().any(|other| other.is_named(&size.name)) {
            return Err(
                UserError::new(format!("there are two sizes `{}`", size.name))
                    .hint("names of sizes differ in more than case"),
            );
        }
        own.push(size);
        if own.len() > MOST {
            return Err(UserError::new(format!("there are more than {MOST} sizes"))
                .hint("remove those that no app uses"));
        }
    }
    Ok(Sizes::with(own))
}

/// The size with this name of which this is said.
///
/// # Errors
/// What is wrong with the name, or the first thing that is said and makes no sense.
pub fn own_size<'a>(
    name: &str,
    said: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Size, UserError> {
    if !is_size_name(name) {
        let name = shown(name.as_bytes(), LONGEST_NAME);
        return Err(
            UserError::new(format!("no size can be named `{name}`")).hint(format!(
                "a name has 1 to {LONGEST_NAME} letters, digits, `-` and `_`, and is no number"
            )),
        );
    }
    let herokus = Size::of_heroku(name);
    let mut size = base(name);
    let mut told: Vec<&str> = Vec::new();
    for (key, value) in said {
        let Some(known) = KEYS.iter().find(|known| known.name == key) else {
            let names: Vec<_> = KEYS.iter().map(|key| format!("`{}`", key.name)).collect();
            let key = shown(key.as_bytes(), SHOWN);
            return Err(
                UserError::new(format!("a size has no `{key}`, as `{name}` is to have"))
                    .hint(format!("it has {}", names.join(", "))),
            );
        };
        if told.contains(&known.name) {
            return Err(
                UserError::new(format!("`{key}` of the size `{name}` is there twice"))
                    .hint("say it once"),
            );
        }
        told.push(known.name);
        if (known.set)(&mut size, value).is_none() {
            let value = shown(value.as_bytes(), SHOWN);
            let message = format!("`{key} = {value}` of the size `{name}` is not valid");
            return Err(UserError::new(message).hint(format!("it takes {}", (known.takes)())));
        }
    }
    if herokus.is_none() && !told.contains(&"memory") {
        return Err(UserError::new(format!("the size `{name}` has no `memory`"))
            .hint("each size says how much a dyno may have, like `memory = \"256MiB\"`"));
    }
    Ok(size)
}

/// What a size with this name is before anything is said of it.
fn base(name: &str) -> Size {
    match Size::of_heroku(name) {
        Some(herokus) => herokus.clone(),
        None => Size {
            name: name.to_owned().into(),
            ..Size::default_size().clone()
        },
    }
}

/// A size as text: what it has other than its base, and its memory.
pub fn line(size: &Size) -> String {
    let base = base(&size.name);
    let said = KEYS.iter().filter_map(|key| {
        let value = (key.show)(size);
        let is_said = key.name == "memory" || value != (key.show)(&base);
        is_said.then(|| format!(" {}={value}", key.name))
    });
    let said: String = said.collect();
    format!("{}{said}", size.name)
}

/// A number from 1 to 100 in hundredths: `1.5` is 150.
fn hundredths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || part.len() > 2 {
        return None;
    }
    let part = format!("{part:0<2}").parse::<u32>().ok()?;
    let whole = whole.parse::<u32>().ok()?;
    let all = whole.checked_mul(100)?.checked_add(part)?;
    (100..=10_000).contains(&all).then_some(all)
}

fn shown_hundredths(all: u32) -> String {
    let text = format!("{}.{:02}", all / 100, all % 100);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_read_as_it_is_shown() {
        for (text, shown) in [
            ("none", "none"),
            (
                "small  memory=256 processes=64 cpu=1;",
                "small memory=256MiB processes=64",
            ),
            (
                "2X shm=64 disk=16 tmp=1GiB",
                "2X memory=1GiB shm=64MiB tmp=1GiB disk=16MiB",
            ),
            (
                "a memory=1GiB limit=1.50; standard-1x limit=2; Eco one_offs=3",
                "a memory=1GiB limit=1.5; Standard-1X memory=512MiB limit=2; Eco memory=512MiB one_offs=3",
            ),
        ] {
            let sizes = OwnSizes.parse(text).unwrap();
            assert_eq!(OwnSizes.show(&sizes), shown);
            assert_eq!(OwnSizes.parse(shown), Some(sizes));
        }
        let sizes = OwnSizes.parse("a memory=300MiB limit=1.5").unwrap();
        assert_eq!(sizes.lookup("A").unwrap().memory_limit(), 450 << 20);
    }

    #[test]
    fn what_is_said_of_a_size_has_bounds_and_the_error_names_it() {
        let many: String = (0..65).map(|n| format!("s{n} memory=99;")).collect();
        for (text, message) in [
            ("1X shm=0", "`shm = 0` of the size `1X` is not valid"),
            ("1X disk=9", "`disk = 9` of the size `1X` is not valid"),
            ("1X tmp=disk", "`tmp = disk` of the size `1X` is not valid"),
            ("small", "the size `small` has no `memory`"),
            ("12 memory=99", "no size can be named `12`"),
            (
                "small memory=15",
                "`memory = 15` of the size `small` is not valid",
            ),
            (
                "small memory=2TiB",
                "`memory = 2TiB` of the size `small` is not valid",
            ),
            (
                "small memory",
                "`memory = ` of the size `small` is not valid",
            ),
            (
                "1X limit=0.9",
                "`limit = 0.9` of the size `1X` is not valid",
            ),
            (
                "1X limit=1.234",
                "`limit = 1.234` of the size `1X` is not valid",
            ),
            (
                "1X limit=42949672.99",
                "`limit = 42949672.99` of the size `1X` is not valid",
            ),
            ("1X cpu=101", "`cpu = 101` of the size `1X` is not valid"),
            (
                "1X processes=7",
                "`processes = 7` of the size `1X` is not valid",
            ),
            (
                "1X one_offs=0",
                "`one_offs = 0` of the size `1X` is not valid",
            ),
            ("1X cpu=1 cpu=2", "`cpu` of the size `1X` is there twice"),
            (
                "1X colour=red",
                "a size has no `colour`, as `1X` is to have",
            ),
            ("a memory=99; A memory=98", "there are two sizes `A`"),
            (&many, "there are more than 64 sizes"),
        ] {
            assert_eq!(OwnSizes.parse(text), None, "{text}");
            let error = OwnSizes.mistake(text).unwrap();
            assert_eq!(error.message, message);
            assert!(error.hint.is_some());
        }
    }
}
