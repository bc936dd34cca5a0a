//! The dyno size resource.

use serde::{Deserialize, Serialize};

use super::{Named, fixed_id};
use crate::error::UserError;
use crate::model::size::{Size, Sizes};

/// A size of dynos.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DynoSize {
    /// A uuid.
    pub id: String,
    /// Its name, with Heroku's capitals or those of the setting `sizes`.
    pub name: String,
    /// Memory in GB.
    pub memory: f64,
    /// Heroku's measure of computing power.
    pub compute: u32,
    /// Whether Heroku gives it a machine of its own.
    pub dedicated: bool,
    /// Nothing.
    pub cost: Cost,
    /// Heroku's unit of billing; nothing is billed.
    pub precise_dyno_units: f64,
    /// Whether Heroku sells it in private spaces only.
    pub private_space_only: bool,
    /// The processor, by Heroku's word.
    pub architecture: String,
    /// What sort of dynos it is for.
    pub generation: Named,
}

/// What a size costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// How many cents.
    pub cents: u32,
    /// For how long.
    pub unit: String,
}

impl DynoSize {
    /// The resource of a size.
    pub fn new(size: &Size) -> Self {
        Self {
            id: size_id(&size.name),
            name: size.name.clone().into_owned(),
            memory: f64::from(size.memory_mib) / 1024.0,
            compute: size.compute,
            dedicated: size.dedicated,
            cost: Cost {
                cents: 0,
                unit: "month".to_owned(),
            },
            precise_dyno_units: 0.0,
            private_space_only: size.private_space_only,
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            }
            .to_owned(),
            generation: Named::generation(),
        }
    }
}

/// The id of the size with this name.
pub fn size_id(name: &str) -> String {
    fixed_id("dyno-size", name)
}

/// The size with this name or id.
///
/// # Errors
/// When there is none; the hint lists them.
pub fn find<'a>(sizes: &'a Sizes, which: &str) -> Result<&'a Size, UserError> {
    let of_id = || sizes.all().find(|size| size_id(&size.name) == which);
    sizes.lookup(which).or_else(|error| of_id().ok_or(error))
}
