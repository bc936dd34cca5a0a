//! Every limit and time that a person may want to change, with its unit and its bounds.
//!
//! Settings come from the environment of the process that reads them (`DYNO_…`), which for most is
//! the server. Whoever needs one is handed the value; nothing else reads the environment for it.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::error::UserError;

const MIB: u64 = 1024 * 1024;

/// The settings of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long a dyno waits for its client before R13, and the client for its dyno.
    /// `DYNO_ATTACH_TIMEOUT`, seconds; Heroku's 30.
    pub attach_timeout: Duration,
    /// Time from one SIGHUP to the next after a client is gone, and from the last to R16.
    /// `DYNO_HANGUP_INTERVAL`, seconds; Heroku's 5.
    pub hangup_interval: Duration,
    /// How many SIGHUPs a dyno gets after its client is gone. `DYNO_HANGUP_COUNT`; Heroku's 3.
    pub hangup_count: u32,
    /// Effort of gzip for a slug, 1 to 9. `DYNO_SLUG_LEVEL`; gzip's own 6.
    pub slug_level: u32,
    /// The biggest slug in bytes, compressed. `DYNO_SLUG_LIMIT`, MiB; Heroku's 500.
    pub slug_limit: u64,
    /// The biggest tree in bytes that a slug may unpack to: a bound on hostile tarballs.
    /// `DYNO_TREE_LIMIT`, MiB.
    pub tree_limit: u64,
    /// Above how many bytes of unpacked trees the least recently used go. `DYNO_CACHE_LIMIT`, MiB.
    pub cache_limit: u64,
    /// The ports that dynos are given. `DYNO_PORTS`, as `LOW-HIGH`. The default has the five digits
    /// of Heroku's and lies below what Kubernetes (30000) and the kernel (32768) hand out.
    pub ports: RangeInclusive<u16>,
    /// The first of the 65,536 host uids that the dynos of a root server run as, each with its own.
    /// `DYNO_UID_BASE`.
    ///
    /// The default lies above what systemd gives to containers (to 1,879,048,191), what SSSD and
    /// FreeIPA give to directory users (to 2,000,200,000) and the usual subordinate ids (to
    /// 600,100,000), and below systemd's range for foreign images (from 2,147,352,576).
    pub uid_base: u32,
    /// Whether a root server maps the owners of slugs' files to each dyno's uid where the kernel can. `DYNO_ID_MAPPING`,
    /// `auto` or `off`: then all dynos share one uid, as on kernels before 5.19. To be changed only while no
    /// dyno is alive.
    pub id_mapping: bool,
    /// How many ended dynos of an app are remembered. `DYNO_KEPT_DYNOS`.
    pub kept_dynos: u32,
    /// How long a server that was started by the command line stays when there is nothing to do.
    /// `DYNO_IDLE_LINGER`, seconds.
    pub idle_linger: Duration,
    /// After how long a dyno is cycled, which ends a one-off. `DYNO_LIFETIME`, seconds; Heroku's 24 hours.
    pub lifetime: Duration,
    /// The longest time by which that is put off, at random for each dyno, so that not all are cycled at once.
    /// `DYNO_LIFETIME_SPREAD`, seconds; Heroku's 216 minutes.
    pub lifetime_spread: Duration,
    /// After how long without a byte in either direction the connection to an attached dyno is closed; zero: never.
    /// `DYNO_IDLE_TIMEOUT`, seconds; Heroku's hour.
    pub idle_timeout: Duration,
    /// Time from SIGTERM to SIGKILL when a dyno is ended. `DYNO_STOP_GRACE`, seconds; Heroku's 30.
    pub stop_grace: Duration,
    /// How many dynos an app may have alive, of all kinds. `DYNO_MAX_DYNOS`; Heroku's 100.
    pub max_dynos: u32,
    /// How many one-off dynos of one size an app may have alive. `DYNO_MAX_ONE_OFFS`; Heroku's 50. (A size that allows
    /// fewer on Heroku, Eco's 1, keeps that.)
    pub max_one_offs: u32,
    /// The same for the sizes that Heroku gives a machine of their own: PX, Performance and the private ones.
    /// `DYNO_MAX_LARGE_ONE_OFFS`; Heroku's 5.
    pub max_large_one_offs: u32,
    /// How much of an app's log is kept, in bytes. `DYNO_LOG_LIMIT`, MiB.
    pub log_limit: u64,
    /// How long a line of an app's log is kept. `DYNO_LOG_AGE`, seconds; Heroku's week.
    pub log_age: Duration,
    /// How dynos are kept apart. `DYNO_ISOLATION`, `auto`, `namespaces` or `tempdir`.
    pub isolation: Isolation,
}

/// How dynos are kept apart from each other and from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// The strongest that the host allows.
    Auto,
    /// Namespaces, or no dyno at all.
    Namespaces,
    /// A folder of its own for each, and nothing more.
    Tempdir,
}

/// How many uids a root server uses, from [`Settings::uid_base`].
pub const UID_COUNT: u32 = 65_536;

impl Default for Settings {
    fn default() -> Self {
        Self {
            attach_timeout: Duration::from_secs(30),
            hangup_interval: Duration::from_secs(5),
            hangup_count: 3,
            slug_level: 6,
            slug_limit: 500 * MIB,
            tree_limit: 4096 * MIB,
            cache_limit: 10 * 1024 * MIB,
            ports: 20_000..=29_999,
            uid_base: 0x7800_0000,
            id_mapping: true,
            kept_dynos: 1_000,
            idle_linger: Duration::from_secs(300),
            lifetime: Duration::from_secs(24 * 3600),
            lifetime_spread: Duration::from_secs(216 * 60),
            idle_timeout: Duration::from_secs(3600),
            stop_grace: Duration::from_secs(30),
            max_dynos: 100,
            max_one_offs: 50,
            max_large_one_offs: 5,
            log_limit: 256 * MIB,
            log_age: Duration::from_secs(7 * 24 * 3600),
            isolation: Isolation::Auto,
        }
    }
}

impl Settings {
    /// The defaults, changed by the variables that `env` knows.
    ///
    /// # Errors
    /// When one is not a number or out of its bounds; the message names variable, value and bounds.
    pub fn from_env(env: impl Fn(&str) -> Option<String>) -> Result<Self, UserError> {
        let mut settings = Self::default();
        let seconds = |name, bounds| {
            let seconds = number::<f64>(&env, name, "seconds", bounds);
            seconds.map(|value| value.map(Duration::from_secs_f64))
        };
        let mib = |name, bounds| {
            number::<u64>(&env, name, "MiB", bounds).map(|value| value.map(|value| value * MIB))
        };
        let count = |name, bounds| number::<u32>(&env, name, "", bounds);

        set(
            &mut settings.attach_timeout,
            seconds("DYNO_ATTACH_TIMEOUT", 0.1..=3600.0)?,
        );
        set(
            &mut settings.hangup_interval,
            seconds("DYNO_HANGUP_INTERVAL", 0.1..=3600.0)?,
        );
        set(
            &mut settings.hangup_count,
            count("DYNO_HANGUP_COUNT", 1..=100)?,
        );
        set(&mut settings.slug_level, count("DYNO_SLUG_LEVEL", 1..=9)?);
        set(
            &mut settings.slug_limit,
            mib("DYNO_SLUG_LIMIT", 1..=1_048_576)?,
        );
        set(
            &mut settings.tree_limit,
            mib("DYNO_TREE_LIMIT", 1..=1_048_576)?,
        );
        set(
            &mut settings.cache_limit,
            mib("DYNO_CACHE_LIMIT", 0..=1_073_741_824)?,
        );
        set(&mut settings.ports, ports(&env)?);
        match env("DYNO_ID_MAPPING").as_deref() {
            None | Some("auto") => {}
            Some("off") => settings.id_mapping = false,
            Some(other) => return Err(bad("DYNO_ID_MAPPING", other, "`auto` or `off`".to_owned())),
        }
        // The first uid must be no user's, the last below 2^31: above, some programs see a minus.
        set(
            &mut settings.uid_base,
            count("DYNO_UID_BASE", 100_000..=0x7fff_0000)?,
        );
        set(
            &mut settings.kept_dynos,
            count("DYNO_KEPT_DYNOS", 0..=1_000_000)?,
        );
        set(
            &mut settings.idle_linger,
            seconds("DYNO_IDLE_LINGER", 0.0..=31_536_000.0)?,
        );
        set(
            &mut settings.lifetime,
            seconds("DYNO_LIFETIME", 0.1..=31_536_000.0)?,
        );
        set(
            &mut settings.lifetime_spread,
            seconds("DYNO_LIFETIME_SPREAD", 0.0..=31_536_000.0)?,
        );
        set(
            &mut settings.idle_timeout,
            seconds("DYNO_IDLE_TIMEOUT", 0.0..=31_536_000.0)?,
        );
        set(
            &mut settings.stop_grace,
            seconds("DYNO_STOP_GRACE", 0.0..=3600.0)?,
        );
        set(
            &mut settings.max_dynos,
            count("DYNO_MAX_DYNOS", 1..=10_000)?,
        );
        set(
            &mut settings.max_one_offs,
            count("DYNO_MAX_ONE_OFFS", 1..=10_000)?,
        );
        set(
            &mut settings.max_large_one_offs,
            count("DYNO_MAX_LARGE_ONE_OFFS", 1..=10_000)?,
        );
        set(
            &mut settings.log_limit,
            mib("DYNO_LOG_LIMIT", 1..=1_048_576)?,
        );
        set(
            &mut settings.log_age,
            seconds("DYNO_LOG_AGE", 1.0..=31_536_000.0)?,
        );
        match env("DYNO_ISOLATION").as_deref() {
            None | Some("auto") => {}
            Some("namespaces") => settings.isolation = Isolation::Namespaces,
            Some("tempdir") => settings.isolation = Isolation::Tempdir,
            Some(other) => {
                let wanted = "`auto`, `namespaces` or `tempdir`".to_owned();
                return Err(bad("DYNO_ISOLATION", other, wanted));
            }
        }
        Ok(settings)
    }
}

fn set<T>(setting: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *setting = value;
    }
}

fn number<T: FromStr + PartialOrd + std::fmt::Display>(
    env: &impl Fn(&str) -> Option<String>,
    name: &str,
    unit: &str,
    bounds: RangeInclusive<T>,
) -> Result<Option<T>, UserError> {
    let Some(text) = env(name) else {
        return Ok(None);
    };
    match text.parse() {
        Ok(value) if bounds.contains(&value) => Ok(Some(value)),
        _ => Err(bad(
            name,
            &text,
            format!(
                "a number from {} to {} {unit}",
                bounds.start(),
                bounds.end()
            ),
        )),
    }
}

fn ports(env: &impl Fn(&str) -> Option<String>) -> Result<Option<RangeInclusive<u16>>, UserError> {
    const NAME: &str = "DYNO_PORTS";
    let Some(text) = env(NAME) else {
        return Ok(None);
    };
    let bounds = text
        .split_once('-')
        .and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
    match bounds {
        Some((low, high)) if low >= 1024 && low < high => Ok(Some(low..=high)),
        _ => Err(bad(
            NAME,
            &text,
            "two ports from 1024 to 65535, like `20000-29999`".to_owned(),
        )),
    }
}

fn bad(name: &str, text: &str, wanted: String) -> UserError {
    UserError::new(format!("the setting `{name}={text}` makes no sense"))
        .hint(format!("it takes {}", wanted.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(vars: &[(&str, &str)]) -> Result<Settings, UserError> {
        Settings::from_env(|name| {
            vars.iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_said_means_the_defaults() {
        let settings = from(&[]).unwrap();
        assert_eq!(settings, Settings::default());
        assert!(settings.uid_base > 2_000_200_000 && settings.uid_base + UID_COUNT < 2_147_352_576);
    }

    #[test]
    fn the_environment_changes_them() {
        let settings = from(&[
            ("DYNO_ATTACH_TIMEOUT", "2"),
            ("DYNO_HANGUP_COUNT", "1"),
            ("DYNO_SLUG_LIMIT", "1"),
            ("DYNO_PORTS", "5000-5999"),
            ("DYNO_IDLE_LINGER", "0"),
        ])
        .unwrap();
        assert_eq!(settings.attach_timeout, Duration::from_secs(2));
        assert_eq!(settings.hangup_count, 1);
        assert_eq!(settings.slug_limit, 1 << 20);
        assert_eq!(settings.ports, 5000..=5999);
        assert_eq!(settings.idle_linger, Duration::ZERO);
    }

    #[test]
    fn nonsense_is_named_with_its_bounds() {
        let error = from(&[("DYNO_SLUG_LEVEL", "10")]).unwrap_err();
        assert_eq!(
            error.message,
            "the setting `DYNO_SLUG_LEVEL=10` makes no sense"
        );
        assert_eq!(error.hint.unwrap(), "it takes a number from 1 to 9");
        for (name, value) in [
            ("DYNO_ATTACH_TIMEOUT", "0"),
            ("DYNO_ATTACH_TIMEOUT", ""),
            ("DYNO_HANGUP_INTERVAL", "5s"),
            ("DYNO_PORTS", "5000"),
            ("DYNO_PORTS", "5000-5000"),
            ("DYNO_PORTS", "80-100"),
            ("DYNO_PORTS", "5000-70000"),
            ("DYNO_UID_BASE", "0"),
            ("DYNO_UID_BASE", "2147483648"),
        ] {
            assert!(from(&[(name, value)]).is_err(), "{name}={value}");
        }
    }
}
