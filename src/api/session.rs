//! The session resource, `/sessions`: the short-lived app of one `dyno start`. All of it is ours.
//!
//! The answer to `POST /sessions` is a line of JSON, a [`Session`], and then a body without an end: the app lives as long
//! as its client reads on. A client that has lost the server asks the next one with the session's id, and gives once
//! more what no server has stored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::app::App;
use super::slug::check_process_types;
use super::{ApiError, BodyFields};
use crate::model::app::Folder;
use crate::model::config_var::check_env;
use crate::model::dyno::DynoName;
use crate::model::formation::is_scalable;
use crate::model::procfile::{MAX_PROCESS_TYPES, is_process_type_name};
use crate::model::release::{ProcessTypes, Toolchains};

/// Between the first ports of two process types, foreman's figure: so many dynos a type may have.
pub const PORTS_OF_TYPE: u32 = 100;

/// The port of a dyno of the formation, as foreman has it: a hundred for each process type, in the order of the Procfile.
/// None for other dynos, and beyond the hundred.
pub fn fixed_port(first: u16, order: &[String], name: &DynoName) -> Option<u16> {
    let place = order.iter().position(|it| *it == name.process_type)?;
    let number = name
        .number
        .checked_sub(1)
        .filter(|it| *it < PORTS_OF_TYPE)?;
    let offset = u32::try_from(place).ok()? * PORTS_OF_TYPE + number;
    u16::try_from(u32::from(first) + offset).ok()
}

/// A short-lived app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// A uuid, to come back with.
    pub id: String,
    /// The app.
    pub app: App,
    /// The first port.
    #[serde(default)]
    pub port: u16,
    /// Why that is not the one that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<String>,
}

/// `POST /sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CreateSession {
    /// The session that goes on with this connection; a new one, if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The folder.
    pub folder: Folder,
    /// Further variables for all of its dynos. They are kept in memory only.
    pub env: BTreeMap<String, String>,
    /// The first port.
    pub port: u16,
    /// The user has not asked for that port: another may be taken.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub port_may_move: bool,
    /// The process types in the order of the Procfile: each has [`PORTS_OF_TYPE`] ports.
    pub order: Vec<String>,
    /// How many dynos there are to be at first.
    pub formation: BTreeMap<String, u32>,
    /// The client has asked for the end before it lost the server: the end goes on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stopping: bool,
    /// What ends is not started again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
    /// What runs in the folder itself; none if a slug follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live: Option<Live>,
}

/// What runs in the folder itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// The commands.
    pub process_types: ProcessTypes,
    /// Where programs are that the user has installed.
    pub toolchains: Toolchains,
}

impl CreateSession {
    /// Reads a body.
    ///
    /// # Errors
    /// When a field is missing or wrong.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let fields = BodyFields::parse(body)?;
        let request = Self {
            id: fields.optional("id")?,
            folder: fields.required("folder")?,
            env: fields.optional("env")?.unwrap_or_default(),
            port: fields.required("port")?,
            port_may_move: fields.flag("port_may_move")?.unwrap_or(false),
            order: fields.required("order")?,
            formation: fields.required("formation")?,
            stopping: fields.flag("stopping")?.unwrap_or(false),
            once: fields.flag("once")?.unwrap_or(false),
            live: fields.optional("live")?,
        };
        request.folder.check()?;
        check_env(&request.env)?;
        if request.port == 0 {
            return Err(ApiError::invalid(
                "`port` is not valid: it is from 1 to 65535",
            ));
        }
        let names = request.order.iter().chain(request.formation.keys());
        if request.order.len() > MAX_PROCESS_TYPES
            || request.formation.len() > MAX_PROCESS_TYPES
            || !{ names }.all(|name| is_process_type_name(name))
        {
            let message = "`order` and `formation` are not valid: they name process types";
            return Err(ApiError::invalid(message));
        }
        for (process_type, quantity) in &request.formation {
            if *quantity > PORTS_OF_TYPE || (*quantity > 0 && !is_scalable(process_type)) {
                return Err(ApiError::invalid(format!(
                    "`formation` is not valid: {quantity} of `{process_type}` cannot be started"
                )));
            }
        }
        if let Some(live) = &request.live {
            check_process_types(&live.process_types)?;
            live.toolchains.check()?;
        }
        Ok(request)
    }
}

/// `POST /sessions/ID/actions/stop`: no dyno starts any more, all end, and then the app is destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StopSession {
    /// At once, with SIGKILL; they may have been asked before.
    pub kill: bool,
}

impl StopSession {
    /// Reads a body.
    ///
    /// # Errors
    /// When the field is wrong.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let kill = BodyFields::parse(body)?.flag("kill")?;
        Ok(Self {
            kill: kill.unwrap_or(false),
        })
    }
}
