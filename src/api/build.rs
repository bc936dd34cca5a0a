//! The build resource, and its result.

use serde::{Deserialize, Serialize};

use super::account::Identity;
use super::buildpack::{NamedBuildpack, allowed};
use super::release::Origin;
use super::slug::digest;
use super::{ApiError, BodyFields, Named, Sender, Time};
use crate::model::buildpack::address::{Buildpack, parse_all};
use crate::model::release::build::{self, BuildSource, BuildStatus};

/// The longest URL of a source, in bytes.
const MAX_URL: usize = 4_000;

/// A build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// A uuid.
    pub id: String,
    /// Its app.
    pub app: Id,
    /// Those that were named for it, in their order.
    pub buildpacks: Vec<NamedBuildpack>,
    /// What sort of dynos it is for.
    pub generation: String,
    /// Where its log can be read, while it runs and afterwards.
    pub output_stream_url: String,
    /// What is built.
    pub source_blob: SourceBlob,
    /// The release that came of it.
    pub release: Option<Id>,
    /// The slug that came of it.
    pub slug: Option<Id>,
    /// What it is built for.
    pub stack: String,
    /// How far it has come.
    pub status: BuildStatus,
    /// Who asked for it.
    pub user: Identity,
    /// When it was asked for.
    pub created_at: Time,
    /// When its status last changed.
    pub updated_at: Time,
}

/// Something that is known by its id alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Id {
    /// A uuid.
    pub id: String,
}

/// What is built.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceBlob {
    /// Where its tarball is: the `get_url` of a source of this server.
    pub url: String,
    /// The commit that it is, or another name of it.
    #[serde(default)]
    pub version: Option<String>,
    /// That commit's first line.
    #[serde(default)]
    pub version_description: Option<String>,
    /// `SHA256:` and the tarball's digest, which is then held against it.
    #[serde(default)]
    pub checksum: Option<String>,
}

impl Build {
    /// The resource of a build whose log has this URL; `account` is who uses this host.
    pub fn new(build: &build::Build, account: &Identity, output_stream_url: String) -> Self {
        let id = |id: &String| Id { id: id.clone() };
        let source = &build.source;
        Self {
            id: build.id.clone(),
            app: id(&build.app_id),
            buildpacks: build
                .buildpacks
                .iter()
                .map(|it| NamedBuildpack::of(it))
                .collect(),
            generation: Named::generation().name,
            output_stream_url,
            source_blob: SourceBlob {
                url: source.url.clone(),
                version: source.commit.clone(),
                version_description: source.commit_description.clone(),
                checksum: source.digest.as_ref().map(|it| format!("SHA256:{it}")),
            },
            release: build.release_id.as_ref().map(id),
            slug: build.slug_id.as_ref().map(id),
            stack: Named::stack().name,
            status: build.status,
            user: Identity {
                id: account.id.clone(),
                email: build.user.clone(),
            },
            created_at: Time(build.created_at),
            updated_at: Time(build.updated_at),
        }
    }
}

/// `GET /apps/A/builds/ID/result`: a build with its log, once it has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildResult {
    /// The build.
    pub build: BuildSummary,
    /// 0 if it succeeded.
    pub exit_code: Option<u8>,
    /// Its log.
    pub lines: Vec<OutputLine>,
}

/// A build as its result names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildSummary {
    /// A uuid.
    pub id: String,
    /// How far it has come.
    pub status: BuildStatus,
    /// Where its log can be read.
    pub output_stream_url: String,
}

/// A line of a build's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputLine {
    /// The text, with its line feed.
    pub line: String,
    /// `STDOUT`: there is one stream here.
    pub stream: String,
}

impl BuildResult {
    /// The result of `build`, whose log this is.
    pub fn new(build: Build, log: &str) -> Self {
        let lines = log.split_inclusive('\n').map(|line| OutputLine {
            line: line.to_owned(),
            stream: "STDOUT".to_owned(),
        });
        Self {
            exit_code: match build.status {
                BuildStatus::Pending => None,
                BuildStatus::Succeeded => Some(0),
                BuildStatus::Failed => Some(1),
            },
            lines: lines.collect(),
            build: BuildSummary {
                id: build.id,
                status: build.status,
                output_stream_url: build.output_stream_url,
            },
        }
    }
}

/// A buildpack as clients name it.
#[derive(Debug, Deserialize)]
struct SentBuildpack {
    url: Option<String>,
    name: Option<String>,
}

/// `POST /apps/A/builds`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CreateBuild {
    /// What is to be built.
    pub source_blob: SourceBlob,
    /// Where the deploy comes from; its toolchains are those of the app's newest release if nothing is said.
    #[serde(flatten)]
    pub origin: Origin,
}

impl CreateBuild {
    /// Reads the body of a request that came from there.
    ///
    /// # Errors
    /// When a field is wrong or names folders of this host from elsewhere, or the source is not one of this server's.
    pub fn parse(
        body: &[u8],
        sender: Sender,
    ) -> Result<(BuildSource, Vec<Buildpack>, Origin), ApiError> {
        let fields = BodyFields::parse(body)?;
        let blob = fields.required::<&serde_json::value::RawValue>("source_blob")?;
        let blob = BodyFields::parse(blob.get().as_bytes()).map_err(|_| {
            ApiError::invalid("`source_blob` is not valid: it is an object with a `url`")
        })?;
        let url: String = blob.required("url")?;
        let checksum: Option<String> = blob.optional("checksum")?;
        let origin = Origin::parse(&fields, sender)?;
        let buildpacks: Option<Vec<SentBuildpack>> = fields.optional("buildpacks")?;
        let buildpacks = buildpacks.unwrap_or_default().into_iter();
        let buildpacks = buildpacks.map(|it| it.url.or(it.name).unwrap_or_default());
        let buildpacks = parse_all(&buildpacks.collect::<Vec<_>>())?.into_iter();
        let buildpacks = buildpacks.map(|pack| allowed(pack, sender));
        let buildpacks = buildpacks.collect::<Result<_, _>>()?;
        let source = BuildSource {
            id: source_of(&url)?.to_owned(),
            commit: blob.text("version")?.filter(|text| !text.is_empty()),
            commit_description: blob.text("version_description")?,
            digest: checksum.map(|checksum| digest(&checksum)).transpose()?,
            url,
        };
        Ok((source, buildpacks, origin))
    }
}

/// The path of a source's tarball.
pub fn source_path(id: &str) -> String {
    format!("/sources/{id}/blob")
}

/// The source that a URL means, whichever name it gives this server.
fn source_of(url: &str) -> Result<&str, ApiError> {
    if url.len() > MAX_URL {
        let message = format!(
            "`url` is not valid: it has {} bytes, and may have {MAX_URL}",
            url.len()
        );
        return Err(ApiError::invalid(message));
    }
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.find('/').map(|slash| &rest[slash..]),
        None => Some(url),
    };
    let path = path.and_then(|path| path.split(['?', '#']).next());
    let id = path.and_then(|path| path.strip_prefix("/sources/")?.strip_suffix("/blob"));
    id.filter(|id| !id.is_empty() && !id.contains('/'))
        .ok_or_else(|| {
            let shown = crate::error::shown(url.as_bytes(), 100);
            ApiError::invalid(format!("`{shown}` is not a source of this server"))
                .hint("nothing is fetched from elsewhere: `POST /sources`, upload to its `put_url`, build its `get_url`")
        })
}
