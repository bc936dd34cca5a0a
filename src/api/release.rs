//! The release resource.

use serde::{Deserialize, Serialize};

use super::account::Identity;
use super::{ApiError, BodyFields, ExactTime, LocalField, Named, Sender, Time};
use crate::model::app::Folder;
use crate::model::release::{self, ProcessTypes, ReleaseStatus, Toolchains};

/// A release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// A uuid.
    pub id: String,
    /// Its number within the app.
    pub version: u32,
    /// How far it has come.
    pub status: ReleaseStatus,
    /// Whether it is what runs.
    pub current: bool,
    /// What it changes.
    pub description: String,
    /// Who made it.
    pub user: Identity,
    /// Its slug.
    pub slug: Option<SlugId>,
    /// What it is made of: its slug once more.
    pub artifacts: Vec<Artifact>,
    /// None.
    pub addon_plan_names: Vec<String>,
    /// Its app.
    pub app: Named,
    /// Where its release phase can be watched.
    pub output_stream_url: Option<String>,
    /// Whether a rollback can go to it.
    pub eligible_for_rollback: bool,
    /// When it was made.
    pub created_at: Time,
    /// When its status last changed.
    pub updated_at: Time,
    /// What its deployer's toolchains are. Ours.
    #[serde(default)]
    pub toolchains: Toolchains,
    /// Its process types and their commands. Ours.
    #[serde(default)]
    pub process_types: ProcessTypes,
}

/// A slug as a release names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlugId {
    /// A uuid.
    pub id: String,
}

/// What a release is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// `slug`.
    pub r#type: String,
    /// A uuid.
    pub id: String,
}

impl Release {
    /// The resource of a release; `account` is who uses this host.
    pub fn new(release: &release::Release, account: &Identity) -> Self {
        let artifact = |id: &String| Artifact {
            r#type: "slug".to_owned(),
            id: id.clone(),
        };
        Self {
            id: release.id.clone(),
            version: release.version.0,
            status: release.status,
            current: release.current,
            description: release.description.clone(),
            user: Identity {
                id: account.id.clone(),
                email: release.user.clone(),
            },
            slug: release.slug_id.clone().map(|id| SlugId { id }),
            artifacts: release.slug_id.iter().map(artifact).collect(),
            addon_plan_names: Vec::new(),
            app: Named {
                id: release.app_id.clone(),
                name: release.app_name.to_string(),
            },
            output_stream_url: None,
            eligible_for_rollback: release.eligible_for_rollback(),
            created_at: Time(release.created_at),
            updated_at: Time(release.updated_at),
            toolchains: release.toolchains.clone(),
            process_types: release.process_types.clone(),
        }
    }
}

/// `POST /apps/A/releases`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum CreateRelease {
    /// Of a slug.
    Deploy(Deploy),
    /// Of an earlier release.
    Rollback {
        /// Its id, or its version as `3` or `v3`.
        release: String,
    },
}

/// A slug to release.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Deploy {
    /// Its id.
    pub slug: String,
    /// What to say of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where it comes from.
    #[serde(flatten)]
    pub origin: Origin,
}

/// Where a deploy comes from: of a slug, or of a build. Ours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// What it was packed from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<LocalField<PackedFolder>>,
    /// What the deployer's toolchains are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toolchains: Option<LocalField<Toolchains>>,
    /// No dyno starts of the release: a command that needs one has made it on its way.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub without_web: bool,
}

impl Origin {
    /// Reads it from a body that came from there.
    ///
    /// # Errors
    /// When a field is wrong or names folders of this host from elsewhere.
    pub(super) fn parse(fields: &BodyFields<'_>, sender: Sender) -> Result<Self, ApiError> {
        let folder: Option<LocalField<PackedFolder>> = fields.local("folder", sender)?;
        if let Some(packed) = &folder {
            packed.get().folder.check()?;
        }
        let toolchains: Option<LocalField<Toolchains>> = fields.local("toolchains", sender)?;
        if let Some(toolchains) = &toolchains {
            toolchains.get().check()?;
        }
        Ok(Self {
            folder,
            toolchains,
            // Clients of earlier builds call it `by_the_way`.
            without_web: fields
                .flag("without_web")?
                .or(fields.flag("by_the_way")?)
                .unwrap_or_default(),
        })
    }
}

/// A folder that a slug was packed from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedFolder {
    /// Which.
    #[serde(flatten)]
    pub folder: Folder,
    /// When reading it began.
    pub packed_at: ExactTime,
}

impl CreateRelease {
    /// Reads the body of a request that came from there.
    ///
    /// # Errors
    /// When a field is wrong or names folders of this host from elsewhere, or it has neither `slug` nor `release`.
    pub fn parse(body: &[u8], sender: Sender) -> Result<Self, ApiError> {
        let fields = BodyFields::parse(body)?;
        if let Some(release) = fields.optional("release")? {
            return Ok(Self::Rollback { release });
        }
        let slug = fields.optional("slug")?;
        Ok(Self::Deploy(Deploy {
            slug: slug.ok_or_else(|| ApiError::invalid("`slug` or `release` is missing"))?,
            description: fields.text("description")?,
            origin: Origin::parse(&fields, sender)?,
        }))
    }
}
