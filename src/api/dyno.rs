//! The dyno resource.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::platform::Region;
use super::usage::Taken;
use super::{ApiError, BodyFields, Named, Time};
use crate::model::dyno::{self, Attach, ClientTerminal, DynoState, Exit, ONE_OFF, Spent};
use crate::model::size::{self, Sizes};
use crate::model::{command_line, config_var};

/// The longest `time_to_live` in seconds (Heroku's).
pub const MAX_TIME_TO_LIVE: u32 = 86_400;

/// A dyno.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dyno {
    /// A uuid.
    pub id: String,
    /// `run.1`.
    pub name: String,
    /// The name without its number.
    pub r#type: String,
    /// The command as it was given.
    pub command: String,
    /// Its size, with Heroku's capitals.
    pub size: String,
    /// Where it is in its life.
    pub state: DynoState,
    /// Where Heroku's own client meets it; only in the answer that makes an attached one.
    pub attach_url: Option<String>,
    /// Its app.
    pub app: Named,
    /// Its release.
    pub release: DynoRelease,
    /// When it was asked for.
    pub created_at: Time,
    /// When its state last changed.
    pub updated_at: Time,
    /// What its command left with. Ours.
    pub exit_status: Option<u8>,
    /// What signal ended its command. Ours.
    pub exit_signal: Option<u8>,
    /// When it ended. Ours.
    pub ended_at: Option<Time>,
    /// Why it ended, if not because its command did. Ours.
    pub end_reason: Option<String>,
    /// What went wrong, if it or its command could not be started, or it did not listen on its port. Ours.
    #[serde(default)]
    pub end_message: Option<String>,
    /// What it took until its end, or, while it lives, until now. Ours.
    #[serde(flatten)]
    pub taken: Taken,
    /// Whether it is one of the formation's, whose place another takes when it ends. Ours.
    #[serde(default)]
    pub formation: bool,
    /// Of one of the formation that has crashed: how often, and when it is tried again. Ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash: Option<CrashLoop>,
    /// Of one of the formation: whether it has been up for so long that its launch is taken for a success. Ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<bool>,
    /// With `?extended=true`, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extended: Option<Extended>,
}

/// How it is with a dyno of the formation that has crashed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CrashLoop {
    /// How many crashes in a row count.
    pub count: u32,
    /// When it is tried again, at the latest.
    pub next_try_at: Time,
    /// How long after its crash that is, in seconds.
    pub wait: f64,
    /// It lived beside dynos that were told to end, and is tried again as soon as these have ended.
    pub waits_for_predecessor: bool,
}

/// Where a dyno is, as Heroku tells its own people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extended {
    /// Where apps run.
    pub region: String,
    /// The address that it listens on, if it does.
    pub ip: Option<String>,
    /// The port that it listens on.
    pub port: Option<u16>,
}

impl Extended {
    /// Of a dyno that listens there, if it does.
    pub fn new(address: Option<SocketAddr>) -> Self {
        Self {
            region: Region::here().name,
            ip: address.map(|address| address.ip().to_string()),
            port: address.map(|address| address.port()),
        }
    }
}

/// A release as a dyno names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DynoRelease {
    /// A uuid.
    pub id: String,
    /// Its number.
    pub version: u32,
}

impl Dyno {
    /// The resource of a dyno. `attach_url` is for the answer that makes it.
    pub fn new(dyno: &dyno::Dyno, attach_url: Option<String>) -> Self {
        let ended = dyno.ended.as_ref();
        let exit = ended.map(|ended| &ended.exit);
        Self {
            id: dyno.id.clone(),
            name: dyno.name.to_string(),
            r#type: dyno.name.process_type.clone(),
            command: dyno.command.clone(),
            size: dyno.size.clone(),
            state: dyno.state,
            attach_url,
            app: Named {
                id: dyno.app_id.clone(),
                name: dyno.app_name.to_string(),
            },
            release: DynoRelease {
                id: dyno.release_id.clone(),
                version: dyno.release_version.0,
            },
            created_at: Time(dyno.created_at),
            updated_at: Time(dyno.updated_at),
            exit_status: match exit {
                Some(Exit::Status(status)) => Some(*status),
                _ => None,
            },
            exit_signal: match exit {
                Some(Exit::Signal(signal)) => Some(*signal),
                _ => None,
            },
            ended_at: ended.map(|ended| Time(ended.at)),
            end_reason: ended.and_then(|ended| ended.reason.clone()),
            end_message: ended.and_then(|ended| ended.message.clone()),
            taken: Taken::new(&ended.map(|ended| ended.spent).unwrap_or_default()),
            formation: dyno.formation,
            crash: None,
            settled: None,
            extended: None,
        }
    }

    /// When and how it ended, to the second; `None`: it may be alive.
    pub fn ended(&self) -> Option<dyno::DynoEnd> {
        let exit = match (self.exit_status, self.exit_signal) {
            (Some(status), _) => Exit::Status(status),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Unknown,
        };
        self.ended_at.map(|Time(at)| dyno::DynoEnd {
            at,
            exit,
            reason: self.end_reason.clone(),
            message: self.end_message.clone(),
            spent: Spent::default(),
        })
    }
}

/// What a request to stop a dyno is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stopping {
    /// How many seconds it has to end by itself before SIGKILL ends it.
    pub grace: f64,
}

/// `POST /apps/A/dynos`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CreateDyno {
    /// Shell text; its first word may be a process type.
    pub command: String,
    /// Whether a client will come.
    pub attach: bool,
    /// Whether that client has no terminal.
    pub force_no_tty: bool,
    /// Whether its standard output and error are one file, so that the command is to have one pipe for both.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub one_output: bool,
    /// What the client's own terminal is like.
    #[serde(skip_serializing_if = "is_default")]
    pub terminal: ClientTerminal,
    /// Variables over the config vars.
    pub env: BTreeMap<String, String>,
    /// The name of its size.
    pub size: String,
    /// What its name begins with.
    pub r#type: String,
    /// After how many seconds it is ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_to_live: Option<u32>,
}

impl CreateDyno {
    /// A dyno for this command that is like Heroku's when nothing else is said: detached, 1X, `run`.
    pub fn new(command: String) -> Self {
        Self {
            command,
            attach: false,
            force_no_tty: false,
            one_output: false,
            terminal: ClientTerminal::default(),
            env: BTreeMap::new(),
            size: size::DEFAULT.to_owned(),
            r#type: ONE_OFF.to_owned(),
            time_to_live: None,
        }
    }

    /// Reads a body. The size then has its name as `sizes` has it.
    ///
    /// # Errors
    /// When a field is wrong or breaks a rule.
    pub fn parse(body: &[u8], sizes: &Sizes) -> Result<Self, ApiError> {
        let mut request = Self::read(body)?;
        let size = sizes.lookup(&request.size)?;
        request.size = size.name.clone().into_owned();
        Ok(request)
    }

    /// Reads a body, whatever size it names. The values in `env` may be numbers: Heroku's client sends the size of its
    /// terminal so.
    fn read(body: &[u8]) -> Result<Self, ApiError> {
        let fields = BodyFields::parse(body)?;
        let mut request = Self::new(fields.required("command")?);
        command_line::check(&request.command)?;
        request.attach = fields.flag("attach")?.unwrap_or(false);
        request.one_output = fields.flag("one_output")?.unwrap_or(false);
        request.terminal = fields.optional("terminal")?.unwrap_or_default();
        let env: BTreeMap<String, Text> = fields.optional("env")?.unwrap_or_default();
        request.env = env
            .into_iter()
            .map(|(name, Text(value))| (name, value))
            .collect();
        config_var::check_env(&request.env)?;
        // Heroku's client does not say that its output is no terminal; but it tells the size of one.
        let has_window = ["COLUMNS", "LINES"]
            .iter()
            .any(|it| request.env.contains_key(*it));
        request.force_no_tty = fields.flag("force_no_tty")?.unwrap_or(!has_window);
        if let Some(size) = fields.optional("size")? {
            request.size = size;
        }
        if let Some(process_type) = fields.optional("type")? {
            request.r#type = process_type;
        }
        request.time_to_live = fields.number("time_to_live")?;
        match request.time_to_live {
            Some(seconds) if !(1..=MAX_TIME_TO_LIVE).contains(&seconds) => {
                Err(ApiError::invalid(format!(
                    "`time_to_live` is not valid: {seconds} is not from 1 to {MAX_TIME_TO_LIVE}"
                )))
            }
            _ => Ok(request),
        }
    }

    /// How the dyno is tied to a client.
    pub fn kind(&self) -> Attach {
        match (self.attach, self.force_no_tty) {
            (false, _) => Attach::Detached,
            (true, true) => Attach::Pipes,
            (true, false) => Attach::Terminal,
        }
    }
}

/// `POST /apps/A/dynos/D/inside`, an upgrade: a second command in a dyno that is up. Ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunInside {
    /// Shell text; its first word may be a process type.
    pub command: String,
    /// Whether it gets pipes and no terminal.
    pub force_no_tty: bool,
    /// Whether both outputs come in one of them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub one_output: bool,
    /// What the client's own terminal is like.
    #[serde(skip_serializing_if = "is_default")]
    pub terminal: ClientTerminal,
    /// Variables over those of the dyno.
    pub env: BTreeMap<String, String>,
}

impl RunInside {
    /// Reads a body.
    ///
    /// # Errors
    /// When a field is wrong or breaks a rule.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let CreateDyno {
            command,
            force_no_tty,
            one_output,
            terminal,
            env,
            ..
        } = CreateDyno::read(body)?;
        Ok(Self {
            command,
            force_no_tty,
            one_output,
            terminal,
            env,
        })
    }
}

/// A string, or a number as one.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a string or a number")]
        enum Either {
            Text(String),
            Number(serde_json::Number),
        }

        Either::deserialize(deserializer).map(|either| match either {
            Either::Text(text) => Self(text),
            Either::Number(number) => Self(number.to_string()),
        })
    }
}

fn is_default(terminal: &ClientTerminal) -> bool {
    *terminal == ClientTerminal::default()
}
