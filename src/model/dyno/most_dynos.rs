//! How many live dynos an app may have (Heroku Dev Center, "Limits").

use std::fmt;

use crate::model::settings::Settings;
use crate::model::size::Size;

/// How many live dynos an app may have; each number is at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MostDynos {
    /// Dynos of all kinds.
    pub dynos: u32,
    /// One-off dynos of one size.
    pub one_offs: u32,
    /// One-off dynos of one size that Heroku gives a machine of its own.
    pub large_one_offs: u32,
}

/// The limit that one more dyno would exceed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reached {
    /// This many dynos of all kinds.
    Dynos(u32),
    /// This many one-off dynos of this size.
    OneOffs(Box<Size>, u32),
}

impl MostDynos {
    /// The limits in these settings.
    pub fn of(settings: &Settings) -> Self {
        Self {
            dynos: settings.max_dynos,
            one_offs: settings.max_one_offs,
            large_one_offs: settings.max_large_one_offs,
        }
    }

    /// Whether one more one-off dyno of `size` is allowed, when `alive` dynos are alive, `of_size` of them one-offs of
    /// that size.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn allow(&self, size: &Size, alive: u32, of_size: u32) -> Result<(), Reached> {
        let one_offs = match size.dedicated {
            true => self.large_one_offs,
            false => self.one_offs,
        };
        let one_offs = size.fewer_one_offs.unwrap_or(one_offs).min(one_offs);
        if of_size >= one_offs {
            return Err(Reached::OneOffs(Box::new(size.clone()), one_offs));
        }
        if alive >= self.dynos {
            return Err(Reached::Dynos(self.dynos));
        }
        Ok(())
    }
}

impl Reached {
    /// The setting that changes the limit; None for a limit of the size itself.
    pub fn setting(&self) -> Option<&'static str> {
        match self {
            Self::Dynos(_) => Some("max_dynos"),
            Self::OneOffs(size, limit) if size.fewer_one_offs == Some(*limit) => None,
            Self::OneOffs(size, _) if size.dedicated => Some("max_large_one_offs"),
            Self::OneOffs(..) => Some("max_one_offs"),
        }
    }
}

/// The dynos that the app has: ``50 one-off dynos of size `1X` ``.
impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count| if count == 1 { "" } else { "s" };
        match self {
            Self::Dynos(limit) => write!(f, "{limit} dyno{}", plural(*limit)),
            Self::OneOffs(size, limit) => {
                let (name, s) = (&size.name, plural(*limit));
                write!(f, "{limit} one-off dyno{s} of size `{name}`")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_herokus() {
        let limits = MostDynos::of(&Settings::default());
        for (size, limit) in [
            ("1X", 50),
            ("Standard-2X", 50),
            ("Eco", 1),
            ("PX", 5),
            ("Performance-L", 5),
            ("Private-S", 5),
        ] {
            let size = Size::of_heroku(size).unwrap();
            assert_eq!(limits.allow(size, 0, limit - 1), Ok(()));
            let reached = Reached::OneOffs(Box::new(size.clone()), limit);
            assert_eq!(limits.allow(size, 0, limit), Err(reached));
        }
        let size = Size::default_size();
        assert_eq!(limits.allow(size, 99, 0), Ok(()));
        assert_eq!(limits.allow(size, 100, 0), Err(Reached::Dynos(100)));
    }

    #[test]
    fn a_setting_raises_what_is_not_the_sizes_own() {
        let limits = MostDynos {
            dynos: 10_000,
            one_offs: 1_000,
            large_one_offs: 1,
        };
        let eco = Size::of_heroku("Eco").unwrap();
        let reached = limits.allow(eco, 500, 1).unwrap_err();
        assert_eq!(reached, Reached::OneOffs(Box::new(eco.clone()), 1));
        assert_eq!(reached.setting(), None);
        assert_eq!(reached.to_string(), "1 one-off dyno of size `Eco`");
        let usual = limits.allow(Size::default_size(), 999, 1_000).unwrap_err();
        assert_eq!(usual.setting(), Some("max_one_offs"));
        let large = Size::of_heroku("PX").unwrap();
        let reached = limits.allow(large, 1, 1).unwrap_err();
        assert_eq!(reached.setting(), Some("max_large_one_offs"));
        assert_eq!(Reached::Dynos(100).to_string(), "100 dynos");
    }
}
