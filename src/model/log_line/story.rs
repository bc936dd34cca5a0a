//! The platform's sentences in an app's log about its dynos and the app: only written and parsed here. The words are
//! Heroku's where it has the sentence ("One-off Dynos", "Dyno Restarts", "Heroku Error Codes").
//!
//! Some are parsed: `dyno start` learns from them which process has failed and with which status, a server that was restarted
//! learns how far a dyno's end has been logged, and `dyno logs` colours them.

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
use std::time::Duration;

use crate::model::app::AppName;
use crate::model::dyno::{DynoName, DynoState};
use crate::model::formation::Wanted;
use crate::model::release::Version;

const CHANGED: &str = "State changed from ";
const STARTING: &str = "Starting process with command ";
const INSIDE: &str = " inside ";
const EXITED: &str = "Process exited with status ";
const BOOT_TIMEOUT: &str =
    "Error R10 (Boot timeout) -> Web process failed to bind to $PORT within ";
const OF_LAUNCH: &str = " seconds of launch";
const EXIT_TIMEOUT: &str =
    "Error R12 (Exit timeout) -> At least one process failed to exit within ";
const OF_SIGTERM: &str = " seconds of SIGTERM";
const MEMORY: &str = "Process running mem=";
const LAUNCH_FAILED: &str = "Error R99 (Platform error) -> Failed to launch the dyno: ";
const LOST: &str = "Error R99 (Platform error) -> The dyno was lost: ";
const SERVER_FAILED: &str = "Error R99 (Platform error) -> The server failed: ";
const DEPLOY: &str = "Deploy ";
const RELEASE: &str = "Release ";
const CREATED: &str = " created";
const COMMAND_FAILED: &str = " command failed";
const RUNNING_RELEASE: &str = "Running release ";
const COMMANDS: &str = " commands";
const SCALED: &str = "Scaled to ";
const RENAMED: &str = "Renamed from ";
const BY_USER: &str = " by user ";

/// One sentence of the platform. `Display` gives the text of the log line, and [`parse`](Self::parse) is its inverse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Story {
    /// A dyno, or a name of the formation, has another state.
    StateChanged {
        /// The state before.
        from: DynoState,
        /// The state now.
        to: DynoState,
    },
    /// The dyno is built and waits for the client that its command is for.
    AwaitingClient,
    /// The dyno's command is being started. [`Story::starting`] makes it.
    Starting {
        /// The command in backquotes. The second one is missing where the command was too long for a line.
        quoted: String,
    },
    /// A second command is being started in a dyno (`run:inside`).
    StartingInside {
        /// The command.
        command: String,
        /// The dyno.
        dyno: DynoName,
    },
    /// The command has ended, with the status that a shell would report.
    Exited(u8),
    /// The client is gone, and every process of the dyno gets SIGHUP.
    ClientGone,
    /// Every process of the dyno gets SIGTERM.
    Terminating,
    /// Every process of the dyno gets SIGKILL.
    Killing,
    /// Processes that have outlived SIGTERM get SIGKILL.
    KillingRemaining,
    /// The processes of a dyno that did not listen on its port in time get SIGKILL.
    KillingProcess,
    /// The dyno has reached the lifetime of dynos.
    Cycling,
    /// The dyno is replaced by a new one.
    Restarting,
    /// The one-off dyno has reached its time to live.
    TimeToLiveOver,
    /// R10: a web dyno did not listen on its port within this time.
    BootTimeout(Duration),
    /// R12: the dyno did not end within this time of its SIGTERM.
    ExitTimeout(Duration),
    /// How much memory the dyno has; said when it is more than its quota.
    MemoryUse {
        /// Mebibytes.
        mib: u64,
        /// The part of the quota that this is, in thousandths.
        permille: u64,
    },
    /// R14: the dyno has more memory than its quota.
    MemoryExceeded,
    /// R15: the dyno has so much more memory than its quota that it is killed.
    MemoryVastlyExceeded,
    /// R13: no client attached in time.
    AttachError,
    /// R16: the command still runs, though its client is gone.
    Detached,
    /// R99: the dyno could not be started, and why.
    LaunchFailed(String),
    /// R99: it is not known how the dyno ended, and why not.
    Lost(String),
    /// R99: the server failed while it answered a request about the app, and how.
    ServerFailed(String),
    /// A build of the app has begun.
    BuildStarted,
    /// A build of the app has become a release.
    BuildSucceeded,
    /// A build of the app has failed.
    BuildFailed,
    /// A release with another slug; it is named by the first characters of its commit or digest.
    Deploy(String),
    /// A release was made.
    ReleaseCreated(Version),
    /// The release phase of a release begins.
    RunningReleaseCommands(Version),
    /// The release phase of a release has failed.
    ReleaseCommandFailed(Version),
    /// The formation was scaled to these quantities.
    Scaled(Vec<Wanted>),
    /// The app was renamed.
    Renamed {
        /// The name before.
        from: AppName,
        /// The name now.
        to: AppName,
    },
    /// Maintenance mode was switched on (true) or off.
    Maintenance(bool),
    /// Any other text: the description of a release, why a program could not be executed. No program reads these.
    Other(String),
}

/// The sentences without values, for [`Story::parse`]. A test finds any that is left out.
const FIXED: [Story; 18] = [
    Story::MemoryExceeded,
    Story::MemoryVastlyExceeded,
    Story::AwaitingClient,
    Story::ClientGone,
    Story::Terminating,
    Story::Killing,
    Story::KillingRemaining,
    Story::KillingProcess,
    Story::Cycling,
    Story::Restarting,
    Story::TimeToLiveOver,
    Story::AttachError,
    Story::Detached,
    Story::BuildStarted,
    Story::BuildSucceeded,
    Story::BuildFailed,
    Story::Maintenance(true),
    Story::Maintenance(false),
];

impl Story {
    /// That this command of a dyno is being started.
    pub fn starting(command: &str) -> Self {
        Self::Starting {
            quoted: format!("`{command}`"),
        }
    }

    /// That a dyno, or a name of the formation, goes from one state to another.
    pub fn state_changed(from: DynoState, to: DynoState) -> Self {
        Self::StateChanged { from, to }
    }

    /// Whether the platform itself failed (R99).
    pub fn is_platform_error(&self) -> bool {
        matches!(
            self,
            Self::LaunchFailed(_) | Self::Lost(_) | Self::ServerFailed(_)
        )
    }

    /// Parses the text of a line. Any text is a story, whose `Display` is `text` again.
    pub fn parse(text: &str) -> Self {
        // A text that `Display` would write differently is none of these sentences: `status 007`.
        Self::known(text)
            .filter(|story| story.to_string() == text)
            .unwrap_or_else(|| Self::Other(text.to_owned()))
    }

    fn known(text: &str) -> Option<Self> {
        let between = |start: &str, end: &str| text.strip_prefix(start)?.strip_suffix(end);
        let after = |start: &str| text.strip_prefix(start).map(str::to_owned);
        if let Some(rest) = text.strip_prefix(STARTING) {
            return Some(starting(rest));
        }
        if let Some(rest) = text.strip_prefix(CHANGED) {
            let (from, to) = rest.split_once(" to ")?;
            let (from, to) = (DynoState::parse(from)?, DynoState::parse(to)?);
            return Some(Self::StateChanged { from, to });
        }
        if let Some(status) = text.strip_prefix(EXITED) {
            return status.parse().ok().map(Self::Exited);
        }
        if let Some(time) = between(BOOT_TIMEOUT, OF_LAUNCH) {
            return seconds(time).map(Self::BootTimeout);
        }
        if let Some(time) = between(EXIT_TIMEOUT, OF_SIGTERM) {
            return seconds(time).map(Self::ExitTimeout);
        }
        if let Some(memory) = between(MEMORY, "%)") {
            let (mib, percent) = memory.split_once("M(")?;
            let (whole, tenth) = percent.split_once('.')?;
            let (whole, tenth): (u64, u64) = (whole.parse().ok()?, tenth.parse().ok()?);
            let permille = whole.checked_mul(10)?.checked_add(tenth)?;
            return Some(Self::MemoryUse {
                mib: mib.parse().ok()?,
                permille,
            });
        }
        if let Some(version) = between(RELEASE, CREATED) {
            return version.parse().ok().map(Self::ReleaseCreated);
        }
        if let Some(version) = between(RELEASE, COMMAND_FAILED) {
            return version.parse().ok().map(Self::ReleaseCommandFailed);
        }
        if let Some(version) = between(RUNNING_RELEASE, COMMANDS) {
            return version.parse().ok().map(Self::RunningReleaseCommands);
        }
        if let Some(words) = text.strip_prefix(SCALED) {
            return scaled(words).map(Self::Scaled);
        }
        if let Some(names) = text.strip_prefix(RENAMED) {
            let (from, to) = names.split_once(" to ")?;
            let (from, to) = (AppName::parse(from).ok()?, AppName::parse(to).ok()?);
            return Some(Self::Renamed { from, to });
        }
        let failed = after(LAUNCH_FAILED).map(Self::LaunchFailed);
        failed
            .or_else(|| after(LOST).map(Self::Lost))
            .or_else(|| after(SERVER_FAILED).map(Self::ServerFailed))
            .or_else(|| after(DEPLOY).map(Self::Deploy))
            .or_else(|| FIXED.into_iter().find(|story| story.to_string() == text))
    }
}

/// Parses the text after [`STARTING`].
fn starting(rest: &str) -> Story {
    let inside = || {
        let (command, dyno) = rest.strip_prefix('`')?.rsplit_once(&format!("`{INSIDE}"))?;
        let (command, dyno) = (command.to_owned(), dyno.parse().ok()?);
        Some(Story::StartingInside { command, dyno })
    };
    inside().unwrap_or_else(|| Story::Starting {
        quoted: rest.to_owned(),
    })
}

/// Parses the text after [`SCALED`].
fn scaled(words: &str) -> Option<Vec<Wanted>> {
    let wanted = |word: &str| {
        let (process_type, rest) = word.split_once('@')?;
        let (quantity, size) = rest.split_once(':')?;
        Some(Wanted {
            process_type: process_type.to_owned(),
            quantity: quantity.parse().ok()?,
            size: size.to_owned(),
        })
    };
    let words = words.split(' ').filter(|word| !word.is_empty());
    words.map(wanted).collect()
}

fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StateChanged { from, to } => write!(f, "{CHANGED}{from} to {to}"),
            Self::AwaitingClient => f.write_str("Awaiting client"),
            Self::Starting { quoted } => write!(f, "{STARTING}{quoted}"),
            Self::StartingInside { command, dyno } => {
                write!(f, "{STARTING}`{command}`{INSIDE}{dyno}")
            }
            Self::Exited(status) => write!(f, "{EXITED}{status}"),
            Self::ClientGone => {
                f.write_str("Client connection closed. Sending SIGHUP to all processes")
            }
            Self::Terminating => f.write_str("Stopping all processes with SIGTERM"),
            Self::Killing => f.write_str("Stopping all processes with SIGKILL"),
            Self::KillingRemaining => f.write_str("Stopping remaining processes with SIGKILL"),
            Self::KillingProcess => f.write_str("Stopping process with SIGKILL"),
            Self::Cycling => f.write_str("Cycling"),
            Self::Restarting => f.write_str("Restarting"),
            Self::TimeToLiveOver => f.write_str("Time to live is over"),
            Self::BootTimeout(time) => {
                write!(f, "{BOOT_TIMEOUT}{}{OF_LAUNCH}", time.as_secs_f64())
            }
            Self::ExitTimeout(time) => {
                write!(f, "{EXIT_TIMEOUT}{}{OF_SIGTERM}", time.as_secs_f64())
            }
            Self::MemoryUse { mib, permille } => {
                let (whole, tenth) = (permille / 10, permille % 10);
                write!(f, "{MEMORY}{mib}M({whole}.{tenth}%)")
            }
            Self::MemoryExceeded => f.write_str("Error R14 (Memory quota exceeded)"),
            Self::MemoryVastlyExceeded => f.write_str("Error R15 (Memory quota vastly exceeded)"),
            Self::AttachError => {
                f.write_str("Error R13 (Attach error) -> Failed to attach to process")
            }
            Self::Detached => f.write_str(
                "Error R16 (Detached) -> An attached process is not responding to SIGHUP after its \
                 external connection was closed.",
            ),
            Self::LaunchFailed(why) => write!(f, "{LAUNCH_FAILED}{why}"),
            Self::Lost(why) => write!(f, "{LOST}{why}"),
            Self::ServerFailed(how) => write!(f, "{SERVER_FAILED}{how}"),
            Self::BuildStarted => f.write_str("Build started"),
            Self::BuildSucceeded => f.write_str("Build succeeded"),
            Self::BuildFailed => f.write_str("Build failed"),
            Self::Deploy(commit) => write!(f, "{DEPLOY}{commit}"),
            Self::ReleaseCreated(version) => write!(f, "{RELEASE}{version}{CREATED}"),
            Self::RunningReleaseCommands(version) => {
                write!(f, "{RUNNING_RELEASE}{version}{COMMANDS}")
            }
            Self::ReleaseCommandFailed(version) => write!(f, "{RELEASE}{version}{COMMAND_FAILED}"),
            Self::Scaled(formation) => {
                let word = |it: &Wanted| format!("{}@{}:{}", it.process_type, it.quantity, it.size);
                let words: Vec<_> = formation.iter().map(word).collect();
                write!(f, "{SCALED}{}", words.join(" "))
            }
            Self::Renamed { from, to } => write!(f, "{RENAMED}{from} to {to}"),
            Self::Maintenance(true) => f.write_str("Maintenance mode on"),
            Self::Maintenance(false) => f.write_str("Maintenance mode off"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// What a user did through the API, as a line of `app[api]`: `Release v3 created by user EMAIL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByUser {
    /// What was done.
    pub story: Story,
    /// The user's address.
    pub user: String,
}

impl ByUser {
    /// Parses the text of a line. None if it names no user.
    pub fn parse(text: &str) -> Option<Self> {
        let (what, user) = text.rsplit_once(BY_USER)?;
        let story = Story::parse(what);
        // The words belong to the command: `echo by user x`.
        let within_command = matches!(&story, Story::Starting { quoted } if !quoted.ends_with('`'));
        (!within_command).then(|| Self {
            story,
            user: user.to_owned(),
        })
    }
}

impl fmt::Display for ByUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{BY_USER}{}", self.story, self.user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;

    fn states() -> impl Strategy<Value = DynoState> {
        proptest::sample::select(vec![
            DynoState::Starting,
            DynoState::Up,
            DynoState::Idle,
            DynoState::Crashed,
            DynoState::Down,
            DynoState::Complete,
        ])
    }

    fn times() -> impl Strategy<Value = Duration> {
        (0u64..1_000_000_000).prop_map(Duration::from_millis)
    }

    fn names() -> impl Strategy<Value = AppName> {
        "[a-z][a-z0-9-]{2,20}[a-z0-9]".prop_map(|name| AppName::parse(&name).unwrap())
    }

    fn dynos() -> impl Strategy<Value = DynoName> {
        let parts = ("[a-z][a-z0-9]{0,9}", 1u32..);
        parts.prop_map(|(process_type, number)| DynoName {
            process_type,
            number,
        })
    }

    fn wanted() -> impl Strategy<Value = Wanted> {
        let parts = ("[a-z][a-z0-9-]{0,9}", 0u32.., "[A-Z][a-z0-9A-Z-]{1,11}");
        parts.prop_map(|(process_type, quantity, size)| Wanted {
            process_type,
            quantity,
            size,
        })
    }

    fn versions() -> impl Strategy<Value = Version> {
        (1u32..).prop_map(Version)
    }

    /// All of them, but [`Story::Other`].
    fn stories() -> impl Strategy<Value = Story> {
        let text = "(?s).{0,60}";
        let of_dynos = prop_oneof![
            (states(), states()).prop_map(|(from, to)| Story::StateChanged { from, to }),
            text.prop_map(|command| Story::starting(&command)),
            (text, dynos()).prop_map(|(command, dyno)| Story::StartingInside { command, dyno }),
            any::<u8>().prop_map(Story::Exited),
            times().prop_map(Story::BootTimeout),
            (any::<u64>(), any::<u64>())
                .prop_map(|(mib, permille)| Story::MemoryUse { mib, permille }),
            times().prop_map(Story::ExitTimeout),
            text.prop_map(Story::LaunchFailed),
            text.prop_map(Story::Lost),
            text.prop_map(Story::ServerFailed),
        ];
        let of_apps = prop_oneof![
            text.prop_map(Story::Deploy),
            versions().prop_map(Story::ReleaseCreated),
            versions().prop_map(Story::RunningReleaseCommands),
            versions().prop_map(Story::ReleaseCommandFailed),
            proptest::collection::vec(wanted(), 0..4).prop_map(Story::Scaled),
            (names(), names()).prop_map(|(from, to)| Story::Renamed { from, to }),
        ];
        let fixed = proptest::sample::select(FIXED.to_vec());
        prop_oneof![of_dynos, of_apps, fixed]
    }

    proptest! {
        #[test]
        fn a_sentence_reads_as_it_was_meant(story in stories()) {
            prop_assert_eq!(Story::parse(&story.to_string()), story);
        }

        #[test]
        fn whatever_is_read_is_written_again(story in stories(), end in 0usize..200, more in "(?s).{0,20}") {
            let text = story.to_string();
            let cut = text.floor_char_boundary(end.min(text.len()));
            for text in [&text[..cut], &more, &format!("{}{more}", &text[..cut]), &format!("{text}{more}")] {
                prop_assert_eq!(Story::parse(text).to_string(), text);
            }
        }

        #[test]
        fn what_a_user_did_reads_as_it_was_meant(story in stories(), user in "[a-z]{1,9}@[a-z.]{1,9}") {
            let by_user = ByUser { story, user };
            prop_assert_eq!(ByUser::parse(&by_user.to_string()), Some(by_user));
        }
    }

    /// The names of the variants, as this file has them.
    fn variants() -> Vec<&'static str> {
        let (_, after) = include_str!("story.rs")
            .split_once("pub enum Story {\n")
            .unwrap();
        let (body, _) = after.split_once("\n}\n").unwrap();
        let name = |line: &'static str| {
            let line = line.strip_prefix("    ")?;
            let end = line.find(|c: char| !c.is_alphanumeric())?;
            (end > 0).then(|| &line[..end])
        };
        body.lines().filter_map(name).collect()
    }

    #[test]
    fn every_sentence_is_among_those_that_are_read_again() {
        let name = |story: &Story| {
            let debug = format!("{story:?}");
            let end = debug.find(|c: char| !c.is_alphanumeric());
            debug[..end.unwrap_or(debug.len())].to_owned()
        };
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let mut tried: Vec<_> = FIXED.iter().map(name).collect();
        for _ in 0..2_000 {
            tried.push(name(&stories().new_tree(&mut runner).unwrap().current()));
        }
        let known = variants();
        assert!(known.len() > 25, "{known:?}");
        for variant in known.into_iter().filter(|name| *name != "Other") {
            assert!(
                tried.iter().any(|name| name == variant),
                "a log line `{variant}` would be read as another text: add it to FIXED, or to `stories` and `parse`"
            );
        }
    }

    #[test]
    fn what_would_not_be_written_so_is_no_sentence_of_ours() {
        for text in [
            "Process exited with status 007",
            "Process exited with status 256",
            "Process exited with status +1",
            "State changed from up to nowhere",
            "Error R12 (Exit timeout) -> At least one process failed to exit within 1e3 seconds of SIGTERM",
            "Release 3 created",
            "Restarting ",
            "",
        ] {
            assert_eq!(Story::parse(text), Story::Other(text.to_owned()));
        }
    }

    #[test]
    fn a_command_keeps_its_own_words() {
        let by_user = |text: &str| ByUser::parse(text).map(|it| it.user);
        let start = "Starting process with command";
        assert_eq!(by_user(&format!("{start} `echo by user x`")), None);
        let text = format!("{start} `ls` by user me@host");
        assert_eq!(by_user(&text).as_deref(), Some("me@host"));
        let inside = Story::parse(&format!("{start} `echo ` inside run.1` inside run.2"));
        let Story::StartingInside { command, dyno } = inside else {
            panic!("{inside:?}");
        };
        assert_eq!(
            (&*command, &*dyno.to_string()),
            ("echo ` inside run.1", "run.2")
        );
        // One that a line could not hold is still a start.
        let cut = Story::parse(&format!("{start} `cut o"));
        assert!(matches!(cut, Story::Starting { quoted } if quoted == "`cut o"));
    }
}
