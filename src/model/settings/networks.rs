//! Addresses and networks, for the setting `trusted_proxies`.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use std::fmt;
use std::net::IpAddr;

use super::rule::Rule;

/// The word for no network at all.
const NONE: &str = "none";

/// Words for several networks.
const WORDS: [(&str, &[&str]); 3] = [
    (NONE, &[]),
    ("loopback", &["127.0.0.0/8", "::1/128"]),
    (
        "private",
        &[
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "169.254.0.0/16",
            "fc00::/7",
            "fe80::/10",
        ],
    ),
];

/// The length of the prefix `::ffff:0:0/96` before an IPv4 address, in bits.
const MAPPED: u8 = 96;

/// The addresses with a common prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Parses `192.0.2.1`, `192.0.2.0/24` or `2001:db8::/32`.
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|prefix| *prefix <= whole)?,
            None => whole,
        };
        // An IPv4 address written as IPv6 is taken as IPv4.
        Some(match address {
            IpAddr::V6(six) if prefix >= MAPPED => match six.to_ipv4_mapped() {
                Some(four) => Self {
                    address: IpAddr::V4(four),
                    prefix: prefix.saturating_sub(MAPPED),
                },
                None => Self { address, prefix },
            },
            _ => Self { address, prefix },
        })
    }

    /// Whether the network contains an address. An IPv4 address may be written as IPv6.
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
            IpAddr::V6(address) => address.to_bits(),
        };
        let address = address.to_canonical();
        let differ = bits(self.address) ^ bits(address);
        let beyond = differ.checked_shr(128_u32.saturating_sub(self.prefix.into()));
        self.address.is_ipv4() == address.is_ipv4() && beyond.unwrap_or(0) == 0
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, self.prefix) {
            (IpAddr::V4(address), 32) => write!(f, "{address}"),
            (IpAddr::V6(address), 128) => write!(f, "{address}"),
            (address, prefix) => write!(f, "{address}/{prefix}"),
        }
    }
}

/// The rule for a list of addresses, networks and words for networks, separated by commas.
pub struct Networks {
    /// The most entries of the list.
    pub most: usize,
}

/// The networks that a word stands for, or the network that it is.
fn networks(text: &str) -> Option<Vec<Network>> {
    let of_word = WORDS
        .iter()
        .find(|(word, _)| text.eq_ignore_ascii_case(word));
    match of_word {
        Some((_, networks)) => networks.iter().map(|text| Network::parse(text)).collect(),
        None => Network::parse(text).map(|network| vec![network]),
    }
}

impl Rule for Networks {
    type Value = Vec<Network>;

    fn usual(&self) -> Vec<Network> {
        Vec::new()
    }

    fn parse(&self, text: &str) -> Option<Vec<Network>> {
        let parts: Option<Vec<_>> = text.split(',').map(|part| networks(part.trim())).collect();
        let mut all: Vec<Network> = Vec::new();
        for network in parts?.into_iter().flatten() {
            if !all.contains(&network) {
                all.push(network);
            }
        }
        (all.len() <= self.most).then_some(all)
    }

    fn show(&self, value: &Vec<Network>) -> String {
        let mut left: Vec<Network> = value.clone();
        let mut shown = Vec::new();
        for (word, _) in &WORDS[1..] {
            let of_word = networks(word).unwrap_or_default();
            if of_word.iter().all(|network| left.contains(network)) {
                left.retain(|network| !of_word.contains(network));
                shown.push((*word).to_owned());
            }
        }
        shown.extend(left.iter().map(Network::to_string));
        match &shown[..] {
            [] => NONE.to_owned(),
            shown => shown.join(","),
        }
    }

    fn bounds(&self) -> String {
        format!(
            "`none`, `loopback`, `private` or up to {} networks",
            self.most
        )
    }

    fn takes(&self) -> String {
        let most = self.most;
        format!(
            "up to {most} addresses or networks like `192.0.2.1,10.0.0.0/8`, `loopback`, `private`, or `none`"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Networks = Networks { most: 16 };

    #[test]
    fn networks_are_read_and_shown() {
        for (text, shown) in [
            ("none", "none"),
            ("loopback", "loopback"),
            ("::1, 127.0.0.0/8", "loopback"),
            ("Loopback,192.0.2.7", "loopback,192.0.2.7"),
            ("192.0.2.0/24,2001:db8::/32", "192.0.2.0/24,2001:db8::/32"),
            ("private,loopback,private", "loopback,private"),
        ] {
            let value = RULE.parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(RULE.show(&value), shown, "{text}");
            assert_eq!(
                RULE.parse(shown),
                Some(RULE.parse(&RULE.show(&value)).unwrap())
            );
        }
        for text in [
            "",
            "localhost",
            "10.0.0.0/33",
            "10.0.0/8",
            "::/129",
            "1.2.3.4,",
            "1.2.3.4/",
        ] {
            assert_eq!(RULE.parse(text), None, "{text}");
        }
        let many: Vec<String> = (0..17).map(|last| format!("192.0.2.{last}")).collect();
        assert_eq!(RULE.parse(&many.join(",")), None);
    }

    #[test]
    fn an_address_is_of_a_network_if_the_first_bits_are() {
        let of = |networks: &str, address: &str| {
            let address = address.parse().unwrap();
            let networks = RULE.parse(networks).unwrap();
            networks.iter().any(|network| network.contains(address))
        };
        for (networks, address, is) in [
            ("loopback", "127.0.0.1", true),
            ("loopback", "127.9.9.9", true),
            ("loopback", "::1", true),
            ("loopback", "::ffff:127.0.0.1", true),
            ("::ffff:127.0.0.0/104", "127.0.0.9", true),
            ("::ffff:127.0.0.0/104", "128.0.0.1", false),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("loopback", "128.0.0.1", false),
            ("loopback", "::2", false),
            ("none", "127.0.0.1", false),
            ("192.0.2.128/25", "192.0.2.200", true),
            ("192.0.2.128/25", "192.0.2.100", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("private", "172.31.0.1", true),
            ("private", "172.32.0.1", false),
        ] {
            assert_eq!(of(networks, address), is, "{networks} {address}");
        }
    }
}
