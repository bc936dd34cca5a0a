//! The slug resource.

use serde::{Deserialize, Serialize};

use super::{ApiError, BodyFields, Named, Time};
use crate::error::{UserError, shown};
use crate::model::command_line;
use crate::model::procfile::{MAX_NAME, MAX_PROCESS_TYPES, is_process_type_name};
use crate::model::release::{self, ProcessTypes};

/// A slug.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slug {
    /// A uuid.
    pub id: String,
    /// Where its tarball goes, or is.
    pub blob: Blob,
    /// What it can run.
    pub process_types: ProcessTypes,
    /// The commit it was made from.
    pub commit: Option<String>,
    /// That commit's first line.
    pub commit_description: Option<String>,
    /// `SHA256:` and the tarball's digest.
    pub checksum: Option<String>,
    /// Bytes of the tarball.
    pub size: Option<u64>,
    /// What it was made for.
    pub stack: Named,
    /// What a buildpack says of it; there is none.
    pub buildpack_provided_description: Option<String>,
    /// When it was announced.
    pub created_at: Time,
    /// When its tarball arrived.
    pub updated_at: Time,
    /// Never.
    pub deleted_at: Option<Time>,
}

/// How to get at a slug's tarball.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// `put` until the tarball is there, then `get`.
    pub method: String,
    /// Where.
    pub url: String,
}

impl Slug {
    /// The resource of a slug whose tarball has this URL.
    pub fn new(slug: &release::Slug, url: String) -> Self {
        Self {
            id: slug.id.clone(),
            blob: Blob {
                method: if slug.uploaded { "get" } else { "put" }.to_owned(),
                url,
            },
            process_types: slug.process_types.clone(),
            commit: slug.commit.clone(),
            commit_description: slug.commit_description.clone(),
            checksum: slug.digest.as_ref().map(|digest| checksum(digest)),
            size: slug.size,
            stack: Named::stack(),
            buildpack_provided_description: None,
            created_at: Time(slug.created_at),
            updated_at: Time(slug.updated_at),
            deleted_at: None,
        }
    }
}

/// `POST /apps/A/slugs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CreateSlug {
    /// What it can run.
    pub process_types: ProcessTypes,
    /// The digest that the tarball will have: 64 lower-case hexadecimal digits here, in Heroku's
    /// form on the wire.
    #[serde(rename = "checksum", serialize_with = "as_checksum")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The commit it was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// That commit's first line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_description: Option<String>,
}

impl CreateSlug {
    /// Reads a body.
    ///
    /// # Errors
    /// When a field is wrong, or a process type is.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let fields = BodyFields::parse(body)?;
        let process_types: ProcessTypes = fields.required("process_types")?;
        check_process_types(&process_types)?;
        let checksum: Option<String> = fields.optional("checksum")?;
        Ok(Self {
            process_types,
            digest: checksum.map(|checksum| digest(&checksum)).transpose()?,
            commit: fields.text("commit")?,
            commit_description: fields.text("commit_description")?,
        })
    }
}

/// Checks what a Procfile names.
///
/// # Errors
/// When there are too many, or one is not valid.
pub(super) fn check_process_types(process_types: &ProcessTypes) -> Result<(), ApiError> {
    if process_types.len() > MAX_PROCESS_TYPES {
        return Err(ApiError::invalid(format!(
            "`process_types` is not valid: there are more than {MAX_PROCESS_TYPES}"
        )));
    }
    for (name, command) in process_types.iter() {
        if !is_process_type_name(name) {
            return Err(ApiError::invalid(format!(
                "`process_types` is not valid: `{}` cannot be one",
                shown(name.as_bytes(), MAX_NAME)
            )));
        }
        command_line::check(command).map_err(|error| {
            ApiError::from(UserError {
                message: format!("`process_types` is not valid: for `{name}`, {error}"),
                ..error
            })
        })?;
    }
    Ok(())
}

/// Heroku's form of a digest.
fn checksum(digest: &str) -> String {
    format!("SHA256:{digest}")
}

/// The digest in Heroku's form of it.
pub(super) fn digest(checksum: &str) -> Result<String, ApiError> {
    checksum
        .split_once(':')
        .filter(|(kind, _)| kind.eq_ignore_ascii_case("SHA256"))
        .map(|(_, digits)| digits.to_ascii_lowercase())
        .filter(|digits| digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .ok_or_else(|| {
            ApiError::invalid("`checksum` is not valid: it is `SHA256:` and 64 hexadecimal digits")
        })
}

fn as_checksum<S: serde::Serializer>(
    digest: &Option<String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    digest.as_deref().map(checksum).serialize(serializer)
}
