//! The app resource.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::account::Identity;
use super::buildpack::NamedBuildpack;
use super::platform::Region;
use super::{ApiError, BodyFields, LocalField, Named, Sender, Time};
use crate::model::app::{self, AppName, Folder};
use crate::model::builder::Builder;
use crate::model::network::{DynoNetwork, NetworkChoice};

/// An app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// A uuid.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub owner: Identity,
    /// Where it runs: here.
    pub region: Named,
    /// What is under its dynos.
    pub stack: Named,
    /// What is under its dynos from the next deploy on.
    pub build_stack: Named,
    /// What sort of dynos it has.
    pub generation: Named,
    /// Where it can be visited; nowhere if no router runs.
    pub web_url: Option<String>,
    /// Where it can be pushed to; empty if nowhere.
    pub git_url: String,
    /// When it was made.
    pub created_at: Time,
    /// When it last changed.
    pub updated_at: Time,
    /// When its newest release was made.
    pub released_at: Option<Time>,
    /// Never.
    pub archived_at: Option<Time>,
    /// Whether it is closed to visitors.
    pub maintenance: bool,
    /// Whether certificates are cared for.
    pub acm: bool,
    /// Whether visitors must come from within.
    pub internal_routing: Option<bool>,
    /// What a buildpack says of it; there is none.
    pub buildpack_provided_description: Option<String>,
    /// Bytes of its repository; there is none.
    pub repo_size: Option<u64>,
    /// Bytes of its slug.
    pub slug_size: Option<u64>,
    /// Always `null`: an app belongs to no such group here.
    pub space: Option<Named>,
    /// Always `null`: an app belongs to no such group here.
    pub team: Option<Named>,
    /// Heroku's old word for a team.
    pub organization: Option<Named>,
    /// `complete`. Not in Heroku's schema, but its client shows what is anything else.
    #[serde(default)]
    pub create_status: String,
    /// The folder last linked to it. Ours.
    pub folder: Option<String>,
    /// What makes slugs of its source. Ours.
    #[serde(default)]
    pub builder: Builder,
    /// The names of the buildpacks that it was given, in their order. Ours.
    #[serde(default)]
    pub buildpacks: Vec<String>,
    /// The network of its dynos that start from now on. Ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<DynoNetwork>,
    /// Whether that is what the setting says, as the app has none of its own. Ours.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub network_by_default: bool,
    /// `server:stop --all` has ended its dynos, and its formation waits to be told to come back. Ours.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asleep: bool,
}

/// Where the apps of this host are to be found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// Where the router listens, if there is one.
    pub router: Option<SocketAddr>,
    /// What stands before `/APP.git`, if apps can be pushed to: `http://localhost:5001`.
    pub git: Option<String>,
}

impl Places {
    /// Where visitors find an app: `http://shop.localhost:8080/`.
    pub fn web_url(&self, app: &str) -> Option<String> {
        let port = match self.router?.port() {
            80 => String::new(),
            port => format!(":{port}"),
        };
        Some(format!("http://{app}.localhost{port}/"))
    }

    /// Where an app can be pushed to.
    pub fn git_url(&self, app: &str) -> Option<String> {
        let base = self.git.as_ref()?;
        Some(format!("{base}/{app}.git"))
    }
}

impl App {
    /// The resource of an app.
    pub fn new(app: &app::App, owner: &Identity, places: &Places) -> Self {
        Self {
            id: app.id.clone(),
            name: app.name.to_string(),
            owner: owner.clone(),
            region: Region::here(),
            stack: Named::stack(),
            build_stack: Named::stack(),
            generation: Named::generation(),
            web_url: places.web_url(app.name.as_str()),
            git_url: places.git_url(app.name.as_str()).unwrap_or_default(),
            created_at: Time(app.created_at),
            updated_at: Time(app.updated_at),
            released_at: Some(Time(app.released_at)),
            archived_at: None,
            maintenance: app.maintenance,
            acm: false,
            internal_routing: None,
            buildpack_provided_description: None,
            repo_size: None,
            slug_size: app.slug_size,
            space: None,
            team: None,
            organization: None,
            create_status: "complete".to_owned(),
            folder: app.folder.clone(),
            builder: app.builder,
            buildpacks: (app.buildpacks.iter())
                .map(|address| NamedBuildpack::of(address).name)
                .collect(),
            network: app.network,
            network_by_default: false,
            asleep: false,
        }
    }
}

/// `POST /apps`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CreateApp {
    /// Its name; one is found if none is given.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub name: Option<AppName>,
    /// The folder to link to it, after which it is named if it has no name. Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<LocalField<Folder>>,
    /// If the folder is linked to an app by now, that app is the answer and none is made. Ours.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unless_linked: bool,
}

impl CreateApp {
    /// Reads the body of a request that came from there.
    ///
    /// # Errors
    /// When a field is wrong, or names a folder of this host from elsewhere.
    pub fn parse(body: &[u8], sender: Sender) -> Result<Self, ApiError> {
        let fields = BodyFields::parse(body)?;
        let folder: Option<LocalField<Folder>> = fields.local("folder", sender)?;
        let name: Option<String> = fields.optional("name")?;
        if let Some(folder) = &folder {
            folder.get().check()?;
        }
        Ok(Self {
            name: name.map(|name| AppName::parse(&name)).transpose()?,
            folder,
            unless_linked: fields.flag("unless_linked")?.unwrap_or(false),
        })
    }
}

/// `PATCH /apps/A`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UpdateApp {
    /// Whether it shall be closed to visitors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<bool>,
    /// What it shall be called from now on.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub name: Option<AppName>,
    /// The network of its dynos that start from now on. Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkChoice>,
    /// What makes slugs of its source from now on. Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builder: Option<Builder>,
}

impl UpdateApp {
    /// Reads a body.
    ///
    /// # Errors
    /// When a field is wrong, or is one that cannot be changed.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let fields = BodyFields::parse(body)?;
        if fields.names().any(|name| name == "build_stack") {
            let message = "`build_stack` of an app cannot be changed";
            return Err(ApiError::invalid(message));
        }
        let name: Option<String> = fields.optional("name")?;
        let network: Option<String> = fields.optional("network")?;
        let builder: Option<String> = fields.optional("builder")?;
        let update = Self {
            maintenance: fields.flag("maintenance")?,
            name: name.map(|name| AppName::parse(&name)).transpose()?,
            network: network.map(|it| NetworkChoice::parse(&it)).transpose()?,
            builder: builder.map(|it| it.parse()).transpose()?,
        };
        if update == Self::default() {
            let message = "`maintenance`, `name`, `network` or `builder` is missing";
            return Err(ApiError::invalid(message));
        }
        Ok(update)
    }
}

fn as_text<S: serde::Serializer>(name: &Option<AppName>, serializer: S) -> Result<S::Ok, S::Error> {
    name.as_ref().map(AppName::as_str).serialize(serializer)
}
