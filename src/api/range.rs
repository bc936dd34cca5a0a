//! The `Range` of a list, Heroku's way to page through one: `version ..; max=15, order=desc` (Platform API Reference,
//! "Ranges"). Which part is wanted is read here, and how a part says where it ends and the next one begins.

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

use super::{ApiError, ErrorKind};
use crate::error::shown;

/// How many members a part has when nothing is said, and at most (Heroku's figures).
pub const USUAL: usize = 200;
/// See [`USUAL`].
pub const MOST: usize = 1_000;

/// The longest field that is looked at, in bytes.
const LONGEST: usize = 1_024;

/// Which part of a list is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range<'a> {
    /// What the list is ordered by; nothing if that was not said.
    pub attribute: &'a str,
    /// Where the part begins, in the order that is wanted.
    pub from: Option<Bound<'a>>,
    /// Where it ends.
    pub to: Option<Bound<'a>>,
    /// How many members it has at most.
    pub max: usize,
    /// From the last to the first.
    pub descending: bool,
}

/// One end of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound<'a> {
    /// The value of the attribute.
    pub value: &'a str,
    /// Whether the member that has it is left out.
    pub exclusive: bool,
}

impl<'a> Range<'a> {
    /// Reads a field, in whichever way a client writes it. No field, or an empty one, is the beginning of the list. Blanks are
    /// where they like, what is not said is as usual, options are apart by `,` or `;`, and one that is not known is passed over.
    ///
    /// # Errors
    /// `416` when it is not valid.
    pub fn parse(field: &'a str) -> Result<Self, ApiError> {
        let wrong = || {
            ApiError::new(
                ErrorKind::RangeNotSatisfiable,
                format!("`{}` is not a range", shown(field.as_bytes(), 100)),
            )
            .hint("one looks like `version ..; max=10, order=desc`")
        };
        let mut range = Self {
            attribute: "",
            from: None,
            to: None,
            max: USUAL,
            descending: false,
        };
        if field.len() > LONGEST {
            return Err(wrong());
        }
        let is = |word: &str, other: &str| word.trim().eq_ignore_ascii_case(other);
        for part in field.split([';', ',']).map(str::trim) {
            match part.split_once('=') {
                Some((name, max)) if is(name, "max") => {
                    let max: usize = max.trim().parse().map_err(|_| wrong())?;
                    range.max = max.clamp(1, MOST);
                }
                Some((name, order)) if is(name, "order") => range.descending = is(order, "desc"),
                Some(_) => {}
                None if part.is_empty() => {}
                None if !range.attribute.is_empty() => return Err(wrong()),
                None => {
                    let blank = part.find(char::is_whitespace).unwrap_or(part.len());
                    let (attribute, bounds) = part.split_at(blank);
                    let (attribute, bounds) = match attribute.contains("..") {
                        true => ("", part),
                        false => (attribute, bounds.trim()),
                    };
                    let whole = if bounds.is_empty() { ".." } else { bounds };
                    let (from, to) = whole.split_once("..").ok_or_else(wrong)?;
                    range.attribute = attribute;
                    range.from = Bound::parse(from.trim(), |from| from.strip_prefix(']'));
                    range.to = Bound::parse(to.trim(), |to| to.strip_suffix('['));
                }
            }
        }
        Ok(range)
    }

    /// The lowest and the highest number that are wanted, both included, of a list that is ordered by `attribute`, a
    /// number. A range of another attribute has an order, but no bounds.
    ///
    /// # Errors
    /// `416` when a bound is no number, or is one of something else.
    pub fn numbers(&self, attribute: &str) -> Result<(u32, u32), ApiError> {
        let number = |bound: Bound<'_>| match bound.value.parse::<u32>() {
            Ok(number) if self.attribute == attribute => Ok((number, bound.exclusive)),
            _ => Err(ApiError::new(
                ErrorKind::RangeNotSatisfiable,
                format!("a range of this list has bounds like `{attribute} 1..10`"),
            )),
        };
        let up = |(number, exclusive): (u32, bool)| number.saturating_add(exclusive.into());
        let down = |(number, exclusive): (u32, bool)| number.saturating_sub(exclusive.into());
        let (first, last) = (self.from.map(number), self.to.map(number));
        let (first, last) = (first.transpose()?, last.transpose()?);
        let (low, high) = match self.descending {
            false => (first, last),
            true => (last, first),
        };
        Ok((low.map_or(0, up), high.map_or(u32::MAX, down)))
    }

    /// The members that are wanted of a whole list in ascending order, and whether more follow them. `key` is the
    /// attribute that it is ordered by.
    pub fn select<T>(&self, mut list: Vec<T>, key: impl Fn(&T) -> &str) -> (Vec<T>, bool) {
        if self.descending {
            list.reverse();
        }
        let before = |one: &str, other: &str| match self.descending {
            false => one < other,
            true => one > other,
        };
        list.retain(|member| {
            let key = key(member);
            let begun = self.from.is_none_or(|from| {
                before(from.value, key) || (key == from.value && !from.exclusive)
            });
            let over = self
                .to
                .is_some_and(|to| before(to.value, key) || (key == to.value && to.exclusive));
            begun && !over
        });
        let more = list.len() > self.max;
        list.truncate(self.max);
        (list, more)
    }

    /// The part after the one that ends with the member of this `attribute`.
    pub fn after<'b>(&self, attribute: &'b str, value: &'b str) -> Range<'b>
    where
        'a: 'b,
    {
        Range {
            attribute,
            from: Some(Bound {
                value,
                exclusive: true,
            }),
            ..*self
        }
    }
}

impl<'a> Bound<'a> {
    fn parse(text: &'a str, exclusive: impl Fn(&'a str) -> Option<&'a str>) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        let bare = exclusive(text).map(str::trim);
        // What begins after nothing begins at the beginning: `]..`.
        Some(Self {
            value: bare.unwrap_or(text),
            exclusive: bare.is_some(),
        })
        .filter(|bound| !bound.value.is_empty())
    }
}

impl fmt::Display for Range<'_> {
    /// As it is sent and read back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.attribute)?;
        if let Some(from) = self.from {
            let open = if from.exclusive { "]" } else { "" };
            write!(f, "{open}{}", from.value)?;
        }
        f.write_str("..")?;
        if let Some(to) = self.to {
            let close = if to.exclusive { "[" } else { "" };
            write!(f, "{}{close}", to.value)?;
        }
        write!(f, "; max={}", self.max)?;
        match self.descending {
            true => f.write_str(", order=desc"),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers(field: &str) -> Option<(u32, u32, usize, bool)> {
        let range = Range::parse(field).ok()?;
        let (low, high) = range.numbers("version").ok()?;
        Some((low, high, range.max, range.descending))
    }

    #[test]
    fn a_range_is_read_in_every_spelling() {
        for field in [
            "version ..; max=15, order=desc",
            "version ..; order=desc,max=15",
            "version ..;max=15;order=desc;",
            "version  .. ; max=15 , order=desc ; ",
            "id ..; max=15, order=desc, unknown=1",
            "version ]..; order=desc,max=15;",
            "version ]..[ ; max = 15; ORDER=DESC",
            "version; max=15; order=desc",
            "..; max=15, order=desc",
            "max=15; order=desc",
            "; order=desc; max=15",
            "order=desc,max=15;version\t..",
        ] {
            let expected = Some((0, u32::MAX, 15, true));
            assert_eq!(numbers(field), expected, "{field}");
        }
        for (field, expected) in [
            ("", (0, u32::MAX, USUAL, false)),
            ("version ..", (0, u32::MAX, USUAL, false)),
            ("version 3..", (3, u32::MAX, USUAL, false)),
            ("version ]3..", (4, u32::MAX, USUAL, false)),
            ("version 3..7", (3, 7, USUAL, false)),
            ("version 3..7[", (3, 6, USUAL, false)),
            ("version ]7..; order=desc", (0, 6, USUAL, true)),
            ("version 7..3; order=desc", (3, 7, USUAL, true)),
            ("version ..; max=0", (0, u32::MAX, 1, false)),
            ("version ..; max=5000", (0, u32::MAX, MOST, false)),
            ("version", (0, u32::MAX, USUAL, false)),
            ("version ] 3 .. 7 [", (4, 6, USUAL, false)),
            ("bytes=0-", (0, u32::MAX, USUAL, false)),
        ] {
            assert_eq!(numbers(field), Some(expected), "{field}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        let long = format!("version {}..", "1".repeat(LONGEST));
        for field in [
            "version 1",
            "version ..; id ..",
            "3..",
            "version ..; max=many",
            "version x..",
            "id 3..",
            "version -1..",
            &long,
        ] {
            let error = Range::parse(field).and_then(|range| range.numbers("version"));
            let error = error.unwrap_err();
            assert_eq!(error.status(), 416, "{field}: {error}");
            assert!(error.message.len() < 200, "{error}");
        }
    }

    proptest! {
        #[test]
        fn whoever_follows_the_parts_sees_each_member_once(
            mut names in proptest::collection::btree_set("[a-z]{1,3}", 0..30),
            max in 1usize..10, descending: bool,
        ) {
            let order = if descending { ", order=desc" } else { "" };
            let mut field = format!("name ..; max={max}{order}");
            let mut seen: Vec<String> = Vec::new();
            loop {
                let range = Range::parse(&field).unwrap();
                let list: Vec<String> = names.iter().cloned().collect();
                let (part, more) = range.select(list, |name| name);
                prop_assert!(part.len() <= max);
                seen.extend(part);
                match more {
                    true => field = range.after("name", seen.last().unwrap()).to_string(),
                    false => break,
                }
            }
            if descending {
                seen.reverse();
            }
            let all: Vec<String> = std::mem::take(&mut names).into_iter().collect();
            prop_assert_eq!(seen, all);
        }
    }
}
