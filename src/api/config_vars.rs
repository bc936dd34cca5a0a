//! The config vars resource: an object of names and values, both ways.

use super::{ApiError, BodyFields};
use crate::model::config_var::ConfigChange;

/// Reads the body of `PATCH /apps/A/config-vars`: a string sets, `null` removes. The response is the
/// whole [`Config`](crate::model::config_var::Config).
///
/// # Errors
/// When a value is neither; whether names are good, the store says.
pub fn parse_change(body: &[u8]) -> Result<ConfigChange, ApiError> {
    let fields = BodyFields::parse(body)?;
    fields
        .names()
        .map(|name| Ok((name.to_owned(), fields.optional(name)?)))
        .collect()
}
