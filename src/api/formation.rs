//! The formation resource: one process type of an app.

use serde::{Deserialize, Serialize};

use super::{Named, Time, fixed_id};
use crate::app;
use crate::formation::Entry;

/// How many dynos a process type has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Formation {
    /// A uuid.
    pub id: String,
    /// The process type.
    pub r#type: String,
    /// What its dynos run.
    pub command: String,
    /// How many.
    pub quantity: u32,
    /// Their size. Heroku has given it up, its client has not.
    pub size: String,
    /// Their size.
    pub dyno_size: Named,
    /// Its app.
    pub app: Named,
    /// When the process type came.
    pub created_at: Time,
    /// When it last changed.
    pub updated_at: Time,
}

impl Formation {
    /// The resource of one process type.
    pub fn new(entry: &Entry, app: &app::App) -> Self {
        let size = &entry.wanted.size;
        Self {
            id: entry.id.clone(),
            r#type: entry.wanted.process_type.clone(),
            command: entry.command.clone(),
            quantity: entry.wanted.quantity,
            size: size.clone(),
            dyno_size: Named {
                id: fixed_id("dyno-size", size),
                name: size.clone(),
            },
            app: Named {
                id: app.id.clone(),
                name: app.name.to_string(),
            },
            created_at: Time(entry.created_at),
            updated_at: Time(entry.updated_at),
        }
    }
}
