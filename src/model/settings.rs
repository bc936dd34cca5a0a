//! The settings: every limit and time that a user can change, with its name, unit, default, bounds and meaning, in one table.
//!
//! A setting is `name` in `config.toml` and `DYNO_NAME` in the environment, which goes before the file. Code that needs
//! one gets the value passed in; nothing else reads file or environment. The server reads most of them when it starts.

mod file;
mod networks;
mod own_sizes;
pub mod rule;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{UserError, shown};
use crate::model::network::DynoNetwork;
use crate::model::size::Sizes;

pub use networks::Network;
pub use rule::Listen;

pub use file::{ConfigFile, LONGEST as LONGEST_FILE};
use networks::Networks;
use own_sizes::OwnSizes;
use rule::{
    AddressRule, Choice, Count, FilePath, Hosts, LoopbackAddresses, Ports, Rule, Size, SizeOr, Time,
};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
const TENTH: Duration = Duration::from_millis(100);
const HOUR: Duration = seconds(3600);
const DAY: Duration = seconds(24 * 3600);
const YEAR: Duration = seconds(365 * 24 * 3600);

/// The default address of the API over TCP.
pub const API_ADDRESS: SocketAddr = loopback(5001);

/// The default address of the rendezvous.
pub const RENDEZVOUS_ADDRESS: SocketAddr = loopback(5000);

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

const fn time(usual: Duration, low: Duration, high: Duration) -> Time {
    Time { usual, low, high }
}
const fn mib(usual: u64, bounds: RangeInclusive<u64>) -> Size {
    Size { usual, bounds }
}
const fn count(usual: u32, bounds: RangeInclusive<u32>) -> Count {
    Count { usual, bounds }
}

/// Makes the typed struct and the table from one list. The first line of a setting's comment is what users are shown.
macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty, $reader:ident, $rule:expr;)+) => {
        /// The settings of one process.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Settings {
            $($(#[doc = $doc])+ pub $name: $type,)+
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($name: Rule::usual(&$rule),)+ }
            }
        }

        /// All settings, in the order in which people see them.
        pub const TABLE: &[Setting] = &[$(Setting {
            name: stringify!($name),
            about: [$($doc),+][0],
            reader: Reader::$reader,
            set: |settings, text| match Rule::parse(&$rule, text) {
                Some(value) => { settings.$name = value; true }
                None => false,
            },
            show: |settings| Rule::show(&$rule, &settings.$name),
            bounds: || Rule::bounds(&$rule),
            takes: || Rule::takes(&$rule),
            mistake: |text| Rule::mistake(&$rule, text),
        }),+];
    };
}

settings! {
    /// How long a dyno waits for its client before R13, and the client for its dyno (Heroku's).
    attach_timeout: Duration, Server, time(seconds(30), TENTH, HOUR);
    /// Time from one SIGHUP to the next after a client is gone, and from the last to R16 (Heroku's).
    hangup_interval: Duration, Server, time(seconds(5), TENTH, HOUR);
    /// How many SIGHUPs a dyno gets after its client is gone (Heroku's).
    hangup_count: u32, Server, count(3, 1..=100);
    /// Time from SIGTERM to SIGKILL when a dyno is ended (Heroku's).
    stop_grace: Duration, Server, time(seconds(30), Duration::ZERO, HOUR);
    /// How long a web dyno may take until it listens on its port, before R10 (Heroku's).
    boot_timeout: Duration, Server, time(seconds(60), TENTH, HOUR);
    /// How long a dyno must have been up until `deploy` and `ps:wait` say that it is launched.
    settle_time: Duration, Server, time(seconds(3), Duration::ZERO, HOUR);
    /// How long a release phase may take (Heroku's).
    release_timeout: Duration, Server, time(HOUR, TENTH, DAY);
    /// How long a web dyno that is replaced may take to answer the requests that it has, before SIGTERM.
    drain_timeout: Duration, Server, time(seconds(10), Duration::ZERO, HOUR);
    /// How long a web dyno may take to the first byte of an answer, before H12 (Heroku's).
    request_timeout: Duration, Server, time(seconds(30), TENTH, DAY);
    /// How long an answer or an upgraded connection may be without a byte, before H15 or H28 (Heroku's).
    response_timeout: Duration, Server, time(seconds(55), TENTH, DAY);
    /// How long a request waits for a web dyno that starts, before H20 (Heroku's).
    boot_wait: Duration, Server, time(seconds(75), TENTH, HOUR);
    /// From the second crash in a row of a dyno of the formation to the next try; after the first it is tried at once.
    crash_second_wait: Duration, Server, time(seconds(45), Duration::ZERO, DAY);
    /// From the third crash in a row to the next try; each later wait is twice as long (Heroku's).
    crash_third_wait: Duration, Server, time(seconds(600), Duration::ZERO, DAY);
    /// The longest wait between two tries (Heroku's).
    crash_longest_wait: Duration, Server, time(DAY, Duration::ZERO, YEAR);
    /// After how long a dyno's crash counts as the first again.
    crash_recovery: Duration, Server, time(seconds(600), TENTH, DAY);
    /// After how long a dyno is cycled, which ends a one-off (Heroku's).
    lifetime: Duration, Server, time(DAY, TENTH, YEAR);
    /// The longest time by which cycling is put off, at random, so that not all dynos are cycled at once (Heroku's).
    lifetime_spread: Duration, Server, time(seconds(216 * 60), Duration::ZERO, YEAR);
    /// After how long without a byte either way an attached connection is closed; 0: never (Heroku's).
    idle_timeout: Duration, Server, time(HOUR, Duration::ZERO, YEAR);
    /// How many dynos an app may have alive, of all kinds (Heroku's).
    max_dynos: u32, Server, count(100, 1..=10_000);
    /// How many one-off dynos of one size an app may have alive (Heroku's).
    ///
    /// A size that allows fewer on Heroku, Eco's 1, keeps that.
    max_one_offs: u32, Server, count(50, 1..=10_000);
    /// How many one-off dynos of one size with a machine of its own (PX, Performance, Private) may be alive (Heroku's).
    max_large_one_offs: u32, Server, count(5, 1..=10_000);
    /// How many ended dynos of an app are remembered.
    kept_dynos: u32, Server, count(1_000, 0..=1_000_000);
    /// How many releases of an app are kept with their slugs; what runs and the one before always are.
    keep_releases: u32, Server, count(50, 0..=1_000_000);
    /// How much of an app's log is kept.
    log_limit: u64, Server, mib(256, 1..=1 << 20);
    /// How long a line of an app's log is kept (Heroku's).
    log_age: Duration, Server, time(seconds(7 * 24 * 3600), seconds(1), YEAR);
    /// How often a tail over the API gets a byte when nothing is logged.
    ///
    /// Heroku's client takes one that says nothing for five minutes for dead.
    log_keep_alive: Duration, Server, time(seconds(20), TENTH, seconds(240));
    /// Sizes of dynos that this host has beside Heroku's, or in their place, each with a table of its own in the file.
    sizes: Sizes, Server, OwnSizes;
    /// How much shared memory (`/dev/shm`) a dyno may use, if its size does not say; `auto`: as much as its memory.
    shm_size: Option<u64>, Server, SizeOr {
        word: "auto",
        means: "the memory of the dyno's size",
        size: mib(512, 1..=1 << 20),
    };
    /// How much `/tmp` may hold, in memory, if a dyno's size does not say; `disk`: it is on disk, without a limit of its own.
    tmp_size: Option<u64>, Server, SizeOr {
        word: "disk",
        means: "it is on disk, without a limit of its own",
        size: mib(512, 1..=1 << 20),
    };
    /// How much a dyno may have on disk of what it writes, if its size does not say; more ends it. `off`: it has no limit.
    disk_size: Option<u64>, Server, SizeOr {
        word: "off",
        means: "no limit",
        size: mib(1024, 16..=1 << 24),
    };
    /// How often the log says that a dyno has more memory than its quota, R14, and runtime metrics (Heroku's).
    measure_interval: Duration, Server, time(seconds(20), TENTH, HOUR);
    /// How dynos are isolated; `auto` takes the strongest kind that the host allows.
    isolation: IsolationSetting, Server, Choice(&[
        ("auto", IsolationSetting::Auto),
        ("namespaces", IsolationSetting::Namespaces),
        ("tempdir", IsolationSetting::Tempdir),
    ]);
    /// Effort of gzip for a slug, 9 the highest.
    slug_level: u32, Command, count(6, 1..=9);
    /// The biggest slug, compressed (Heroku's).
    slug_limit: u64, Server, mib(500, 1..=1 << 20);
    /// The biggest tree that a slug may unpack to: a bound on hostile tarballs.
    tree_limit: u64, Server, mib(4096, 1..=1 << 20);
    /// How long a build may take (Heroku's).
    build_timeout: Duration, Server, time(seconds(900), TENTH, DAY);
    /// How many builds run at once, each of another app.
    max_builds: u32, Server, count(4, 1..=64);
    /// The most disk space of unpacked slugs; above it, the least recently used are removed.
    cache_limit: u64, Server, mib(10 * 1024, 0..=1 << 30);
    /// Where the router listens, which sends `http://APP.localhost:8080` to the app's web dynos.
    router: Listen, Server, AddressRule { usual: loopback(8080), on: true };
    /// The proxies before the router whose `X-Forwarded-…` and `Forwarded` say who a visitor is, and whether over TLS.
    ///
    /// `loopback` is right when a proxy on this host, and nothing else here that one should not trust, comes to the router.
    trusted_proxies: Vec<Network>, Server, Networks { most: 64 };
    /// Where the API can be reached over TCP, with a token, as `http://127.0.0.1:5001`.
    ///
    /// On a loopback address, with TLS or without; elsewhere only with TLS.
    listen: Listen, Server, AddressRule { usual: API_ADDRESS, on: false };
    /// How many requests an hour of one token the API answers over TCP (Heroku's).
    rate_limit: u32, Server, count(4_500, 1..=1_000_000_000);
    /// Where Heroku's CLI attaches to the dynos that it runs (rendezvous, over TLS).
    rendezvous: Listen, Server, AddressRule { usual: RENDEZVOUS_ADDRESS, on: false };
    /// The server's certificate in PEM, for TLS; without one, the server has a CA of its own in the state folder.
    tls_cert: Option<PathBuf>, Server, FilePath;
    /// The key of that certificate, in PEM.
    tls_key: Option<PathBuf>, Server, FilePath;
    /// Names and addresses in the server's own certificate, beside `localhost`, `127.0.0.1`, `::1` and the host's name.
    tls_names: Vec<String>, Server, Hosts { most: 64 };
    /// The ports that dynos are given as `PORT`.
    ///
    /// The default has the five digits of Heroku's and lies below what Kubernetes (30000) and the kernel (32768) hand
    /// out.
    ports: RangeInclusive<u16>, Server, Ports { usual: 20_000..=29_999 };
    /// Where a dyno may listen: anywhere (`any`), or on its `PORT` and on free ports alone (`port`).
    ///
    /// `port` is for hosts that run strangers' code, and takes Linux 6.7. What `dyno start` runs may listen anywhere.
    bind: BindSetting, Server, Choice(&[
        ("any", BindSetting::Any),
        ("port", BindSetting::Port),
    ]);
    /// The first of the 65,536 host uids that the dynos of a root server run as, each with its own.
    ///
    /// The default lies above what systemd gives to containers (to 1,879,048,191), what SSSD and FreeIPA give to
    /// directory users (to 2,000,200,000) and the usual subordinate ids (to 600,100,000), and below systemd's range
    /// for foreign images (from 2,147,352,576). The first uid must be no user's, the last below 2^31: above, some
    /// programs see a minus.
    uid_base: u32, Server, count(0x7800_0000, 100_000..=0x7fff_0000);
    /// `off`: a root server's dynos share one uid, as on kernels before 5.19. To be changed while no dyno is alive.
    id_mapping: bool, Server, Choice(&[("auto", true), ("off", false)]);
    /// The network of dynos of apps that have none of their own: the host's, or one of each dyno's own.
    ///
    /// What `dyno start` runs has the host's.
    network: DynoNetwork, Server, Choice(DynoNetwork::NAMED);
    /// Services of this host that dynos with the network `private` reach, by the addresses of its loopback interface.
    ///
    /// A dyno finds each at the same address in its own network.
    reach: Vec<SocketAddr>, Server, LoopbackAddresses { most: 16 };
    /// How long a server that was started by a command stays when there is nothing to do.
    idle_linger: Duration, Server, time(seconds(300), Duration::ZERO, YEAR);
}

/// The networks of a value of `trusted_proxies`, for tests.
#[cfg(test)]
pub fn networks_for_tests(text: &str) -> Vec<Network> {
    Networks { most: 64 }.parse(text).unwrap()
}

/// The setting `isolation`: how dynos are isolated from each other and from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsolationSetting {
    /// The strongest that the host allows.
    Auto,
    /// Namespaces; the server does not start if the host does not allow them.
    Namespaces,
    /// A folder of its own for each dyno, and nothing more.
    Tempdir,
}

/// The setting `bind`: on which TCP ports a dyno's processes may listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindSetting {
    /// On any.
    Any,
    /// On the dyno's own, and on free ones that the kernel chooses.
    Port,
}

/// How many uids a root server uses, from [`Settings::uid_base`].
pub const UID_COUNT: u32 = 65_536;

/// A row of the [`TABLE`].
pub struct Setting {
    /// Its name in `config.toml`.
    pub name: &'static str,
    about: &'static str,
    /// Which part of the program reads it.
    pub reader: Reader,
    set: fn(&mut Settings, &str) -> bool,
    show: fn(&Settings) -> String,
    bounds: fn() -> String,
    takes: fn() -> String,
    mistake: fn(&str) -> Option<UserError>,
}

/// Which part reads a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// The server, once, when it starts. (The command that packs a slug or attaches to a dyno keeps to its own value.)
    Server,
    /// The command that is typed.
    Command,
}

impl Setting {
    /// The setting with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TABLE.iter().find(|setting| setting.name == name)
    }

    /// The name of its environment variable.
    pub fn variable(&self) -> String {
        format!("DYNO_{}", self.name.to_ascii_uppercase())
    }

    /// Its meaning, in a sentence.
    pub fn about(&self) -> &'static str {
        self.about.trim()
    }

    /// The lowest and the highest value, or all possible values: `1 to 9`.
    pub fn bounds(&self) -> String {
        (self.bounds)()
    }

    /// The valid values in words, with the bounds: `a number from 1 to 9`.
    pub fn takes(&self) -> String {
        (self.takes)()
    }

    /// Its default.
    pub fn usual(&self) -> String {
        self.value(&Settings::default())
    }

    /// Its value with the unit, as it can be written in file and environment.
    pub fn value(&self, settings: &Settings) -> String {
        (self.show)(settings)
    }
}

/// Where a value comes from; a later source goes before an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingSource {
    /// The program's default.
    Default,
    /// `config.toml`.
    File,
    /// The environment.
    Environment,
    /// An option of the command that started the process.
    Option,
}

impl SettingSource {
    /// Its name in output and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File => "config.toml",
            Self::Environment => "environment",
            Self::Option => "option",
        }
    }
}

/// Settings, with the source of each.
#[derive(Debug, Clone)]
pub struct Sourced {
    /// The values of all settings.
    pub settings: Settings,
    /// The sources, in the order of the table.
    sources: Vec<SettingSource>,
}

/// A setting with its value.
#[derive(Debug, Clone)]
pub struct Row {
    /// The setting.
    pub setting: &'static Setting,
    /// Its value, with the unit.
    pub value: String,
    /// The source of the value.
    pub source: SettingSource,
}

impl std::fmt::Debug for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Sourced {
    /// The defaults, overridden by those in `file`, overridden by the variables that `env` returns.
    ///
    /// # Errors
    /// When a value is not valid; the message names file and line or the variable, the value, and the valid values.
    pub fn read(
        file: Option<&ConfigFile>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, UserError> {
        let mut settings = Settings::default();
        let mut sources = vec![SettingSource::Default; TABLE.len()];
        if let Some(file) = file {
            for (setting, text, line) in file.entries()? {
                if !(setting.set)(&mut settings, &text) {
                    return Err(file.bad(setting, &text, line));
                }
                let row = TABLE.iter().position(|row| row.name == setting.name);
                row.into_iter()
                    .for_each(|row| sources[row] = SettingSource::File);
            }
        }
        for (setting, source) in TABLE.iter().zip(&mut sources) {
            let variable = setting.variable();
            let Some(text) = env(&variable) else {
                continue;
            };
            if !(setting.set)(&mut settings, &text) {
                let written = format!("{variable}={}", shown(text.as_bytes(), SHOWN));
                return Err(bad_value(setting, "", &written, &text));
            }
            *source = SettingSource::Environment;
        }
        Ok(Self { settings, sources })
    }

    /// Sets a value from the option `--NAME`, which goes before all other sources.
    ///
    /// # Errors
    /// When it is not valid, as for [`read`](Self::read).
    pub fn set_option(&mut self, name: &str, text: &str) -> Result<(), UserError> {
        let rows = TABLE.iter().zip(&mut self.sources);
        for (setting, source) in rows.filter(|(setting, _)| setting.name == name) {
            if !(setting.set)(&mut self.settings, text) {
                let option = name.replace('_', "-");
                let written = format!("--{option} {}", shown(text.as_bytes(), SHOWN));
                return Err(bad_value(setting, "", &written, text));
            }
            *source = SettingSource::Option;
        }
        Ok(())
    }

    /// Whether the value is that of an option of the command that started the process.
    pub fn is_option(&self, name: &str) -> bool {
        self.rows()
            .any(|row| row.setting.name == name && row.source == SettingSource::Option)
    }

    /// All settings with their values.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        TABLE
            .iter()
            .zip(&self.sources)
            .map(|(setting, source)| Row {
                setting,
                value: setting.value(&self.settings),
                source: *source,
            })
    }
}

/// How many characters of an invalid value are shown.
const SHOWN: usize = 60;

fn bad_value(setting: &Setting, place: &str, written: &str, text: &str) -> UserError {
    let error = UserError::new(format!("{place}the setting `{written}` is not valid"));
    error.hint(match (setting.mistake)(text) {
        Some(mistake) => {
            let hint = mistake.hint.unwrap_or_default();
            format!("{}: {hint}", mistake.message)
        }
        None => format!("it takes {}", setting.takes()),
    })
}

/// Variables with a setting's prefix that are no settings: those that commands and tests read, and those that dynos
/// get, here and on Heroku.
const OTHER_VARIABLES: &[&str] = &[
    "DYNO_HOME",
    "DYNO_APP",
    "DYNO_HOST",
    "DYNO_API_KEY",
    "DYNO_TLS_CA",
    "DYNO_ID",
    "DYNO_RAM",
    "DYNO_BACKEND",
    "DYNO_PUSH_FROM_AFAR",
];

/// Warnings about environment variables that look like settings and are none.
pub fn misspelt<'a>(variables: impl Iterator<Item = &'a str>) -> Vec<String> {
    let of_tests = ["DYNO_TEST_", "DYNO_SOAK_", "DYNO_PLACES_"];
    let unknown = variables.filter(|variable| {
        let is_setting = || TABLE.iter().any(|setting| setting.variable() == **variable);
        !OTHER_VARIABLES.contains(variable)
            && !of_tests.iter().any(|begin| variable.starts_with(begin))
            && !is_setting()
    });
    let told = unknown.filter_map(|variable| {
        let name = variable.strip_prefix("DYNO_")?;
        let mut others = OTHER_VARIABLES.iter();
        let near = others
            .find(|other| name.len() <= SHOWN && strsim::osa_distance(other, variable) == 1)
            .map(|other| (*other).to_owned())
            .or_else(|| Some(nearest(&name.to_ascii_lowercase())?.variable()));
        let advice = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`dyno settings` lists them".to_owned(),
        };
        let variable = shown(variable.as_bytes(), SHOWN);
        Some(format!("there is no setting `{variable}`; {advice}"))
    });
    told.collect()
}

/// The setting whose name is nearest to a mistyped one, if it is near enough.
pub fn nearest(name: &str) -> Option<&'static Setting> {
    const FEW: usize = 3;
    if name.len() > 64 {
        return None;
    }
    let distances = TABLE
        .iter()
        .map(|row| (strsim::osa_distance(name, row.name), row));
    let (distance, setting) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= FEW).then_some(setting)
}

#[cfg(test)]
mod tests;
