//! The rules for the values of settings: how they are parsed, shown, and bounded.
//!
//! A value has one spelling, with its unit, that is shown everywhere and can be typed anywhere: `30s`, `500MiB`. A bare
//! number has the unit of its setting.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::UserError;
use crate::model::time_span;

const MIB: u64 = 1 << 20;

/// The word that switches a setting off.
const OFF: &str = "off";

/// The rule for the values of a setting.
pub trait Rule {
    /// The type of the value.
    type Value;
    /// The default.
    fn usual(&self) -> Self::Value;
    /// Parses a value; None if it is not valid or out of bounds.
    fn parse(&self, text: &str) -> Option<Self::Value>;
    /// The value as text that [`parse`](Self::parse) can parse.
    fn show(&self, value: &Self::Value) -> String;
    /// The lowest and the highest value, or all possible values: `1 to 9`.
    fn bounds(&self) -> String;
    /// The valid values in words, with the bounds: `a number from 1 to 9`.
    fn takes(&self) -> String;
    /// What is wrong with an invalid value that has parts; None if that is plain from the valid values.
    fn mistake(&self, _text: &str) -> Option<UserError> {
        None
    }
}

/// A time span; bare numbers are seconds.
pub struct Time {
    /// The default.
    pub usual: Duration,
    /// The shortest value.
    pub low: Duration,
    /// The longest value.
    pub high: Duration,
}

impl Rule for Time {
    type Value = Duration;

    fn usual(&self) -> Duration {
        self.usual
    }

    fn parse(&self, text: &str) -> Option<Duration> {
        let time = time_span::parse(text).ok()?;
        (self.low..=self.high).contains(&time).then_some(time)
    }

    fn show(&self, value: &Duration) -> String {
        time_span::exact(*value)
    }

    fn bounds(&self) -> String {
        format!("{} to {}", self.show(&self.low), self.show(&self.high))
    }

    fn takes(&self) -> String {
        let bounds = self.bounds();
        format!("a time from {bounds}, in seconds or like `90s`, `10m`, `1h30m`")
    }
}

/// An amount of bytes; bare numbers are MiB.
pub struct Size {
    /// The default, in MiB.
    pub usual: u64,
    /// The bounds, in MiB.
    pub bounds: RangeInclusive<u64>,
}

impl Rule for Size {
    type Value = u64;

    fn usual(&self) -> u64 {
        self.usual * MIB
    }

    fn parse(&self, text: &str) -> Option<u64> {
        let (number, unit) = split_unit(text);
        let mib = match unit {
            "" | "MiB" => 1,
            "GiB" => 1 << 10,
            "TiB" => 1 << 20,
            _ => return None,
        };
        let size = number.parse::<u64>().ok()?.checked_mul(mib)?;
        self.bounds.contains(&size).then_some(size * MIB)
    }

    fn show(&self, value: &u64) -> String {
        match value / MIB {
            mib if mib > 0 && mib.is_multiple_of(1 << 20) => format!("{}TiB", mib >> 20),
            mib if mib > 0 && mib.is_multiple_of(1 << 10) => format!("{}GiB", mib >> 10),
            mib => format!("{mib}MiB"),
        }
    }

    fn bounds(&self) -> String {
        let [low, high] =
            [self.bounds.start(), self.bounds.end()].map(|mib| self.show(&(mib * MIB)));
        format!("{low} to {high}")
    }

    fn takes(&self) -> String {
        let bounds = Rule::bounds(self);
        format!("a size from {bounds}, in MiB or like `500MiB`, `2GiB`")
    }
}

/// An amount of bytes, or a word for none in particular, which is the default.
pub struct SizeOr {
    /// That word.
    pub word: &'static str,
    /// What it means, for people.
    pub means: &'static str,
    /// The amounts.
    pub size: Size,
}

impl Rule for SizeOr {
    type Value = Option<u64>;

    fn usual(&self) -> Option<u64> {
        None
    }

    fn parse(&self, text: &str) -> Option<Option<u64>> {
        match text == self.word {
            true => Some(None),
            false => self.size.parse(text).map(Some),
        }
    }

    fn show(&self, value: &Option<u64>) -> String {
        value.map_or_else(|| self.word.to_owned(), |size| self.size.show(&size))
    }

    fn bounds(&self) -> String {
        format!("`{}`, or {}", self.word, Rule::bounds(&self.size))
    }

    fn takes(&self) -> String {
        let Self { word, means, size } = self;
        format!("{}, or `{word}`: {means}", size.takes())
    }
}

/// A whole number.
pub struct Count {
    /// The default.
    pub usual: u32,
    /// The bounds.
    pub bounds: RangeInclusive<u32>,
}

impl Rule for Count {
    type Value = u32;

    fn usual(&self) -> u32 {
        self.usual
    }

    fn parse(&self, text: &str) -> Option<u32> {
        let number = text.parse().ok()?;
        self.bounds.contains(&number).then_some(number)
    }

    fn show(&self, value: &u32) -> String {
        value.to_string()
    }

    fn bounds(&self) -> String {
        format!("{} to {}", self.bounds.start(), self.bounds.end())
    }

    fn takes(&self) -> String {
        format!("a number from {}", Rule::bounds(self))
    }
}

/// A range of ports that need no privilege.
pub struct Ports {
    /// The default.
    pub usual: RangeInclusive<u16>,
}

impl Rule for Ports {
    type Value = RangeInclusive<u16>;

    fn usual(&self) -> RangeInclusive<u16> {
        self.usual.clone()
    }

    fn parse(&self, text: &str) -> Option<RangeInclusive<u16>> {
        let (low, high) = text.split_once('-')?;
        let (low, high) = (low.parse().ok()?, high.parse().ok()?);
        (low >= 1024 && low < high).then_some(low..=high)
    }

    fn show(&self, value: &RangeInclusive<u16>) -> String {
        format!("{}-{}", value.start(), value.end())
    }

    fn bounds(&self) -> String {
        "1024 to 65535".to_owned()
    }

    fn takes(&self) -> String {
        let (bounds, usual) = (self.bounds(), self.show(&self.usual));
        format!("two ports from {bounds}, like `{usual}`")
    }
}

/// An address to listen at: `auto`, `off`, or an address.
pub struct AddressRule {
    /// The address that `auto` stands for, if it is free.
    pub usual: SocketAddr,
    /// Whether the default is `auto`, and not `off`.
    pub on: bool,
}

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// At this address, or, if it is taken, at another port of it.
    Auto(SocketAddr),
    /// At this address only.
    At(SocketAddr),
    /// Nowhere.
    Off,
}

impl Rule for AddressRule {
    type Value = Listen;

    fn usual(&self) -> Listen {
        match self.on {
            true => Listen::Auto(self.usual),
            false => Listen::Off,
        }
    }

    fn parse(&self, text: &str) -> Option<Listen> {
        match text {
            "auto" => Some(Listen::Auto(self.usual)),
            OFF => Some(Listen::Off),
            address => address.parse().ok().map(Listen::At),
        }
    }

    fn show(&self, value: &Listen) -> String {
        match value {
            Listen::Auto(_) => "auto".to_owned(),
            Listen::At(address) => address.to_string(),
            Listen::Off => OFF.to_owned(),
        }
    }

    fn bounds(&self) -> String {
        "`auto`, `off` or an address".to_owned()
    }

    fn takes(&self) -> String {
        format!(
            "an address like `{0}`, `off`, or `auto`: {0}, or another port if that is taken",
            self.usual
        )
    }
}

/// The absolute path of a file, or `off`.
pub struct FilePath;

impl Rule for FilePath {
    type Value = Option<PathBuf>;

    fn usual(&self) -> Option<PathBuf> {
        None
    }

    fn parse(&self, text: &str) -> Option<Option<PathBuf>> {
        let path = Path::new(text);
        match text {
            OFF => Some(None),
            _ => path.is_absolute().then(|| Some(path.to_owned())),
        }
    }

    fn show(&self, value: &Option<PathBuf>) -> String {
        let path = value.as_ref();
        path.map_or_else(|| OFF.to_owned(), |path| path.display().to_string())
    }

    fn bounds(&self) -> String {
        "`off` or a file".to_owned()
    }

    fn takes(&self) -> String {
        "a file, by its path from `/` on, or `off`".to_owned()
    }
}

/// Names and addresses of hosts, separated by commas, or `off`.
pub struct Hosts {
    /// The most hosts.
    pub most: usize,
}

impl Rule for Hosts {
    type Value = Vec<String>;

    fn usual(&self) -> Vec<String> {
        Vec::new()
    }

    fn parse(&self, text: &str) -> Option<Vec<String>> {
        if text == OFF {
            return Some(Vec::new());
        }
        let names: Vec<_> = text
            .split(',')
            .map(|name| name.trim().to_lowercase())
            .collect();
        let fit = names.len() <= self.most && names.iter().all(|name| is_host(name));
        fit.then_some(names)
    }

    fn show(&self, value: &Vec<String>) -> String {
        match &value[..] {
            [] => OFF.to_owned(),
            names => names.join(","),
        }
    }

    fn bounds(&self) -> String {
        format!("`off` or up to {} names", self.most)
    }

    fn takes(&self) -> String {
        let most = self.most;
        format!("up to {most} names or addresses of hosts like `box.example,192.0.2.1`, or `off`")
    }
}

/// Addresses of the loopback interface, separated by commas, or `off`.
pub struct LoopbackAddresses {
    /// The most addresses.
    pub most: usize,
}

impl Rule for LoopbackAddresses {
    type Value = Vec<SocketAddr>;

    fn usual(&self) -> Vec<SocketAddr> {
        Vec::new()
    }

    fn parse(&self, text: &str) -> Option<Vec<SocketAddr>> {
        if text == OFF {
            return Some(Vec::new());
        }
        let mut addresses = Vec::new();
        for part in text.split(',') {
            let address: SocketAddr = part.trim().parse().ok()?;
            if !address.ip().is_loopback() || address.port() == 0 {
                return None;
            }
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        (addresses.len() <= self.most).then_some(addresses)
    }

    fn show(&self, value: &Vec<SocketAddr>) -> String {
        match &value[..] {
            [] => OFF.to_owned(),
            addresses => {
                let addresses: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
                addresses.join(",")
            }
        }
    }

    fn bounds(&self) -> String {
        format!("`off` or up to {} addresses", self.most)
    }

    fn takes(&self) -> String {
        let most = self.most;
        format!(
            "up to {most} addresses of the loopback interface like `127.0.0.1:5432,[::1]:6379`, or `off`"
        )
    }
}

/// Whether this is an IP address or a valid DNS name (RFC 1123).
fn is_host(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.parse::<IpAddr>().is_ok() || (name.len() <= 253 && name.split('.').all(is_label))
}

/// One of a few words; the first is the default.
pub struct Choice<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Rule for Choice<T> {
    type Value = T;

    fn usual(&self) -> T {
        self.0[0].1
    }

    fn parse(&self, text: &str) -> Option<T> {
        let (_, value) = self.0.iter().find(|(word, _)| *word == text)?;
        Some(*value)
    }

    fn show(&self, value: &T) -> String {
        let known = self.0.iter().find(|(_, known)| known == value);
        known.map_or(String::new(), |(word, _)| (*word).to_owned())
    }

    fn bounds(&self) -> String {
        let words: Vec<_> = self.0.iter().map(|(word, _)| format!("`{word}`")).collect();
        match words.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => words.concat(),
        }
    }

    fn takes(&self) -> String {
        self.bounds()
    }
}

/// Splits a number from its unit: `10m`, `2 GiB`.
fn split_unit(text: &str) -> (&str, &str) {
    let end = text
        .trim_end_matches(|c: char| c.is_ascii_alphabetic())
        .len();
    let (number, unit) = text.split_at(end);
    (number.strip_suffix(' ').unwrap_or(number), unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_services_of_the_loopback_interface_are_reached() {
        let rule = LoopbackAddresses { most: 2 };
        let read = |text: &str| rule.parse(text).map(|value| rule.show(&value));
        let same = |text: &str| assert_eq!(read(text).as_deref(), Some(text));
        same("off");
        same("127.0.0.1:5432");
        same("127.0.0.53:53,[::1]:6379");
        assert_eq!(
            read("127.0.0.1:1, 127.0.0.1:1 ,[::1]:1").as_deref(),
            Some("127.0.0.1:1,[::1]:1")
        );
        for text in [
            "",
            "localhost:5432",
            "127.0.0.1",
            "127.0.0.1:0",
            "10.0.0.5:5432",
            "0.0.0.0:80",
            "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_is_read_as_it_is_shown_and_bounded() {
        let rule = Time {
            usual: Duration::from_secs(1),
            low: Duration::from_millis(100),
            high: Duration::from_secs(3600),
        };
        for (text, milliseconds) in [
            ("30", 30_000),
            ("0.25", 250),
            ("0.1s", 100),
            ("1h", 3_600_000),
        ] {
            let time = Duration::from_millis(milliseconds);
            assert_eq!(rule.parse(text), Some(time), "{text}");
            assert_eq!(rule.parse(&rule.show(&time)), Some(time), "{text}");
        }
        for text in [
            "",
            "0",
            "0.09",
            "-1",
            "inf",
            "1e300",
            "3601",
            "1h1s",
            "999999999999d",
        ] {
            assert_eq!(rule.parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_size_is_mebibytes_or_has_a_unit() {
        let rule = Size {
            usual: 1,
            bounds: 0..=1 << 20,
        };
        for (text, mib, shown) in [
            ("0", 0, "0MiB"),
            ("500", 500, "500MiB"),
            ("500MiB", 500, "500MiB"),
            ("2 GiB", 2048, "2GiB"),
            ("1TiB", 1 << 20, "1TiB"),
        ] {
            assert_eq!(rule.parse(text), Some(mib << 20), "{text}");
            assert_eq!(rule.show(&(mib << 20)), shown);
        }
        for text in [
            "",
            "1.5",
            "-1",
            "5MB",
            "2TiB",
            "99999999999999999999",
            "18446744073709551615TiB",
        ] {
            assert_eq!(rule.parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_word_stands_for_no_size() {
        let rule = SizeOr {
            word: "off",
            means: "none",
            size: Size {
                usual: 1,
                bounds: 1..=10,
            },
        };
        assert_eq!((rule.usual(), rule.parse("off")), (None, Some(None)));
        assert_eq!(rule.parse("2MiB"), Some(Some(2 << 20)));
        assert_eq!(
            (rule.parse("11"), rule.parse("0"), rule.parse("on")),
            (None, None, None)
        );
        assert_eq!(rule.show(&Some(2 << 20)), "2MiB");
    }

    #[test]
    fn what_is_off_as_a_rule_is_a_file_or_names() {
        assert_eq!(FilePath.parse("/a b"), Some(Some("/a b".into())));
        assert_eq!((FilePath.parse("a"), FilePath.parse("")), (None, None));
        let hosts = Hosts { most: 3 };
        for (text, shown) in [
            ("off", "off"),
            ("Box.Example, 192.0.2.1,::1", "box.example,192.0.2.1,::1"),
        ] {
            assert_eq!(hosts.show(&hosts.parse(text).unwrap()), shown);
        }
        let long = "a".repeat(64);
        for text in [
            "", "a,,b", "-a", "a.", "a_b", "*.a", "a:80", &long, "a,b,c,d",
        ] {
            assert_eq!(hosts.parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_words_of_a_choice_are_listed() {
        let rule = Choice(&[("auto", 1), ("on", 2), ("off", 3)]);
        assert_eq!(rule.takes(), "`auto`, `on` or `off`");
        assert_eq!(
            (rule.usual(), rule.parse("off"), rule.parse("OFF")),
            (1, Some(3), None)
        );
    }
}
