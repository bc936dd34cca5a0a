//! The formation resource: one process type of an app.

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::dyno_size::{find, size_id};
use super::{ApiError, BodyFields, Named, Time};
use crate::model::app;
use crate::model::formation::{Entry, Update, Wanted, parse_amount};
use crate::model::procfile::MAX_PROCESS_TYPES;
use crate::model::size::Sizes;

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
                id: size_id(size),
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

    /// What is wanted of the process type.
    pub fn wanted(&self) -> Wanted {
        Wanted {
            process_type: self.r#type.clone(),
            quantity: self.quantity,
            size: self.size.clone(),
        }
    }
}

/// `PATCH /apps/A/formation`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScaleFormation {
    /// What is to become of which process types; at most [`MAX_PROCESS_TYPES`] of them.
    #[serde(serialize_with = "as_fields")]
    pub updates: Vec<Update>,
}

impl ScaleFormation {
    /// Reads a body. Sizes then have their names as `sizes` has them.
    ///
    /// # Errors
    /// When a field is wrong or breaks a rule.
    pub fn parse(body: &[u8], sizes: &Sizes) -> Result<Self, ApiError> {
        let updates: Vec<&RawValue> = BodyFields::parse(body)?.required("updates")?;
        if updates.len() > MAX_PROCESS_TYPES {
            return Err(ApiError::invalid(format!(
                "`updates` is not valid: it has {} entries, and may have {MAX_PROCESS_TYPES}",
                updates.len()
            )));
        }
        let updates = updates.iter().map(|update| {
            let fields = BodyFields::parse(update.get().as_bytes())
                .map_err(|_| ApiError::invalid("`updates` is not valid: one is no JSON object"))?;
            let mut which = None;
            for name in ["type", "process", "id"] {
                which = which.or(fields.optional(name)?);
            }
            let which = which.ok_or_else(|| ApiError::invalid("`type` of an update is missing"))?;
            update_of(which, &fields, sizes)
        });
        let updates = updates.collect::<Result<_, _>>()?;
        Ok(Self { updates })
    }
}

/// Reads the body of `PATCH /apps/A/formation/T`, where `which` is T.
///
/// # Errors
/// When a field is wrong or breaks a rule.
pub fn parse_update(which: &str, body: &[u8], sizes: &Sizes) -> Result<Update, ApiError> {
    update_of(which.to_owned(), &BodyFields::parse(body)?, sizes)
}

fn update_of(which: String, fields: &BodyFields<'_>, sizes: &Sizes) -> Result<Update, ApiError> {
    let amount = match fields.optional("quantity")? {
        None => None,
        Some(Quantity::Number(number)) => Some(parse_amount(&number.to_string())?),
        Some(Quantity::Text(text)) => Some(parse_amount(&text)?),
    };
    let dyno_size = fields.optional("dyno_size")?.map(DynoSize::which);
    let size = fields.optional::<String>("size")?.or(dyno_size);
    let size = size.map(|size| find(sizes, &size)).transpose()?;
    Ok(Update {
        which,
        amount,
        size: size.map(|size| size.name.clone().into_owned()),
    })
}

/// A quantity, as Heroku's clients write it.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a number that is not negative, or a string"
)]
enum Quantity {
    Number(u64),
    Text(String),
}

/// A size as a request names it.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected the name or id of a size")]
enum DynoSize {
    Plain(String),
    Name { name: String },
    Id { id: String },
}

impl DynoSize {
    fn which(self) -> String {
        match self {
            Self::Plain(which) | Self::Name { name: which } | Self::Id { id: which } => which,
        }
    }
}

fn as_fields<S: Serializer>(updates: &[Update], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(updates.iter().map(Item))
}

/// An update as Heroku's own client writes it.
struct Item<'a>(&'a Update);

impl Serialize for Item<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &self.0.which)?;
        if let Some(amount) = self.0.amount {
            map.serialize_entry("quantity", &amount.to_string())?;
        }
        if let Some(size) = &self.0.size {
            map.serialize_entry("size", size)?;
        }
        map.end()
    }
}
