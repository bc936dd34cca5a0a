//! What a request wants of the server, as a value: [`Ask`].
//!
//! [`Ask::parse`] is the one place that knows the paths of the API, and the one that says that there is no such route.
//! What must be known of a request before it is answered ([`policy`], [`permission`]) is decided by exhaustive matches on its variants, so
//! that the compiler asks for it at each new route.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod permission;
pub mod policy;
mod routes;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use super::{ApiError, target};
use routes::{of_account, of_app};

/// A request's method and target, read: one variant for each noun of the API, each with the verbs of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Apps.
    Apps(AppAsk),
    /// Folders of this host that are linked to apps. Ours.
    Links(LinkAsk),
    /// The config vars of an app.
    Config(ConfigAsk),
    /// Slugs.
    Slugs(SlugAsk),
    /// Source tarballs, to be built.
    Sources(SourceAsk),
    /// Builds.
    Builds(BuildAsk),
    /// Releases.
    Releases(ReleaseAsk),
    /// Formations: how many dynos of each process type an app has.
    Formation(FormationAsk),
    /// Dynos.
    Dynos(DynoAsk),
    /// Logs.
    Logs(LogAsk),
    /// The git repositories of apps.
    Git(GitAsk),
    /// The short-lived apps of `dyno start`. Ours.
    Sessions(SessionAsk),
    /// Tokens.
    Authorizations(AuthorizationAsk),
    /// What Heroku's clients look for around an app.
    Platform(PlatformAsk),
    /// `GET /account/rate-limits`: how many more requests may come with the client's token.
    RateLimits,
    /// The server itself. Ours.
    Server(ServerAsk),
}

/// Requests about apps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppAsk {
    /// `GET /apps`
    List,
    /// `GET /users/U/apps`
    ListOfUser { user: String },
    /// `POST /apps`
    Create,
    /// `GET /apps/A`
    Info { app: String },
    /// `PATCH /apps/A`: another name, or closed to visitors, or open again.
    Update { app: String },
    /// `DELETE /apps/A`
    Destroy { app: String },
    /// `GET /apps/A/features`
    Features { app: String },
    /// `GET /apps/A/features/F`
    Feature { app: String, feature: String },
    /// `PATCH /apps/A/features/F`: switched on or off.
    UpdateFeature { app: String, feature: String },
    /// `GET /apps/A/buildpack-installations`
    Buildpacks { app: String },
    /// `PUT /apps/A/buildpack-installations`
    SetBuildpacks { app: String },
}

/// Requests about the folders that are linked to apps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkAsk {
    /// `GET /links?path=…`: the app of a folder, or of the nearest one above it.
    Find { path: Option<String> },
    /// `GET /links/moved?path=…`: the link that a folder had before it was moved.
    FindMoved { path: Option<String> },
    /// `PUT /links`
    Link,
    /// `DELETE /links?path=…`
    Unlink { path: Option<String> },
}

/// Requests about the config vars of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigAsk {
    /// `GET /apps/A/config-vars`
    Info { app: String },
    /// `PATCH /apps/A/config-vars`
    Change { app: String },
}

/// Requests about slugs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlugAsk {
    /// `POST /apps/A/slugs`
    Create { app: String },
    /// `GET /apps/A/slugs/S`
    Info { app: String, slug: String },
    /// `PUT /apps/A/slugs/S/blob`: its tarball.
    Upload { app: String, slug: String },
    /// `GET /apps/A/slugs/S/blob`
    Download { app: String, slug: String },
}

/// Requests about source tarballs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceAsk {
    /// `POST /sources`, `POST /apps/A/sources`
    Create,
    /// `PUT /sources/S/blob`
    Upload { source: String },
    /// `GET /sources/S/blob`
    Download { source: String },
    /// `DELETE /sources/S`. Ours.
    Forget { source: String },
}

/// Requests about builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildAsk {
    /// `GET /apps/A/builds`
    List { app: String },
    /// `POST /apps/A/builds`
    Create { app: String },
    /// `GET /apps/A/builds/B`
    Info { app: String, build: String },
    /// `DELETE /apps/A/builds/B`
    Cancel { app: String, build: String },
    /// `DELETE /apps/A/build-cache`
    PurgeCache { app: String },
    /// `GET /apps/A/builds/B/result`, `GET /builds/B/result`
    Result { app: Option<String>, build: String },
    /// `GET /apps/A/builds/B/output`, with `?from=N` from that byte on.
    Output {
        app: String,
        build: String,
        from: Option<String>,
    },
}

/// Requests about releases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReleaseAsk {
    /// `GET /apps/A/releases`
    List { app: String },
    /// `POST /apps/A/releases`: a deploy or a rollback.
    Create { app: String },
    /// `GET /apps/A/releases/R`
    Info { app: String, release: String },
    /// `GET /apps/A/releases/R/config-vars`
    Config { app: String, release: String },
    /// `GET /apps/A/releases/R/output`: what its release phase prints.
    Output { app: String, release: String },
}

/// Requests about formations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormationAsk {
    /// `GET /apps/A/formation`
    List { app: String },
    /// `PATCH /apps/A/formation`
    Scale { app: String },
    /// `GET /apps/A/formation/T`
    Info { app: String, process_type: String },
    /// `PATCH /apps/A/formation/T`
    ScaleOne { app: String, process_type: String },
}

/// Requests about dynos.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DynoAsk {
    /// `GET /apps/A/dynos`, with `?ended=true` also those that have ended, with `?extended=true` also their addresses.
    List {
        app: String,
        ended: bool,
        extended: bool,
    },
    /// `POST /apps/A/dynos`
    Create { app: String },
    /// `GET /apps/A/dynos/D`
    Info { app: String, dyno: String },
    /// `GET /apps/A/dynos/D/end?seconds=N`: the dyno once it has ended. Ours.
    End {
        app: String,
        dyno: String,
        seconds: Option<String>,
    },
    /// `POST /apps/A/dynos/D/actions/stop`
    Stop { app: String, dyno: String },
    /// `DELETE /apps/A/dynos/D`
    Restart { app: String, dyno: String },
    /// `DELETE /apps/A/dynos`
    RestartAll { app: String },
    /// `DELETE /apps/A/formations/T`, `POST /apps/A/formations/T/actions/stop`
    RestartType { app: String, process_type: String },
    /// `GET /apps/A/dynos/D/attach`, an upgrade. Ours.
    Attach { app: String, dyno: String },
    /// `POST /apps/A/dynos/D/inside`, an upgrade: a second command in the dyno. Ours.
    RunInside { app: String, dyno: String },
    /// `POST /apps/A/dynos/D`, Heroku's `run:inside`: a second command, which the client meets at the rendezvous.
    MeetInside { app: String, dyno: String },
}

/// Requests about logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogAsk {
    /// `GET /apps/A/logs`. Ours.
    Read { app: String, query: Query },
    /// `POST /apps/A/log-sessions`
    CreateSession { app: String },
    /// `GET /apps/A/log-stream`: the address of a log session.
    ReadSession { app: String, query: Query },
}

/// Requests about the git repositories of apps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GitAsk {
    /// `POST /apps/A/repository`: the path of the repository on this host. Ours.
    Locate { app: String },
    /// `GET /A.git/info/refs?service=…`: which branches there are, before anything else of the service.
    Refs { app: String, service: GitService },
    /// `POST /A.git/git-receive-pack`, `POST /A.git/git-upload-pack`
    Serve { app: String, service: GitService },
}

/// What a client of git's wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitService {
    /// To push: `git-receive-pack`.
    Receive,
    /// To fetch: `git-upload-pack`.
    Upload,
}

/// Requests about the short-lived apps of `dyno start`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionAsk {
    /// `POST /sessions`: the app lives as long as the connection.
    Create,
    /// `POST /sessions/S/actions/stop`
    Stop { session: String },
}

/// Requests about tokens, which Heroku calls authorizations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthorizationAsk {
    /// `GET /oauth/authorizations`
    List,
    /// `POST /oauth/authorizations`
    Create,
    /// `DELETE /oauth/authorizations/ID`
    Revoke { id: String },
}

/// Requests for what belongs to no app, and for what Heroku's clients look for around one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlatformAsk {
    /// `GET /account`
    Account,
    /// `GET /users/U`
    AccountOfUser { user: String },
    /// `GET /dyno-sizes`
    DynoSizes,
    /// `GET /dyno-sizes/S`
    DynoSize { size: String },
    /// `GET /regions`
    Regions,
    /// `GET /regions/R`
    Region { region: String },
    /// `GET /stacks`
    Stacks,
    /// `GET /stacks/S`
    Stack { stack: String },
    /// `GET /usage`: the time that dynos took. Ours.
    Usage,
    /// A list of the account of which nothing exists here, such as `GET /addons`.
    EmptyList,
    /// `GET /apps/A/available-dyno-sizes`
    DynoSizesOfApp { app: String },
    /// `GET /apps/A/available-stacks`
    StacksOfApp { app: String },
    /// `GET /apps/A/collaborators`
    Collaborators { app: String },
    /// `GET /apps/A/collaborators/U`
    Collaborator { app: String, user: String },
    /// `GET /apps/A/pipeline-couplings`
    PipelineCoupling { app: String },
    /// `POST /apps/A/addons`
    CreateAddon { app: String },
    /// A list of an app of which nothing exists here, such as `GET /apps/A/domains`.
    EmptyListOfApp { app: String },
}

/// Requests about the server itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerAsk {
    /// `GET /server`: which server this is.
    Info,
    /// `GET /server/status`: what it does and takes.
    Status,
    /// `GET /server/settings`
    Settings,
    /// `POST /server/actions/listen`: reach the API over TCP from now on.
    Listen,
    /// `POST /server/actions/stop`
    Stop,
    /// `POST /server/actions/replace`: make room for a server of another build.
    Replace,
}

impl Ask {
    /// Reads a method, and a path and a query as they came: `GET`, `/apps/shop/dynos`, `ended=true`.
    ///
    /// # Errors
    /// `404` for a route that does not exist; `403` for a target below a repository that is none of git's.
    pub fn parse(method: &str, path: &str, query: Option<&str>) -> Result<Self, ApiError> {
        let parts: Vec<_> = path.trim_matches('/').split('/').map(decoded).collect();
        let parts: Vec<&str> = parts.iter().map(|part| &**part).collect();
        let query = Query::parse(query.unwrap_or_default());
        if let Some((repository, rest)) = parts.split_first()
            && let Some(app) = repository.strip_suffix(".git")
        {
            return GitAsk::over_http(method, app, rest, &query).map(Self::Git);
        }
        let ask = match &parts[..] {
            ["apps", app, rest @ ..] => of_app(method, (*app).to_owned(), rest, query),
            parts => of_account(method, parts, &query),
        };
        ask.ok_or_else(|| ApiError::not_found(format!("there is no {method} {path}")))
    }

    /// The name or id of the app that a target is about, if it is about one.
    pub fn app_of(target: &str) -> Option<String> {
        let mut parts = target.split(['/', '?']).skip(1);
        let app = (parts.next() == Some("apps")).then(|| parts.next())??;
        Some(decoded(app).into_owned())
    }
}

impl GitService {
    fn named(name: &str) -> Option<Self> {
        match name {
            "git-receive-pack" => Some(Self::Receive),
            "git-upload-pack" => Some(Self::Upload),
            _ => None,
        }
    }

    /// The name of git's command for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Receive => "receive-pack",
            Self::Upload => "upload-pack",
        }
    }
}

/// The parameters of a target's query: names, and values decoded. One without a `=` is passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what follows the `?` of a target.
    pub fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        Self(
            pairs
                .map(|(name, value)| (name.to_owned(), decoded(value).into_owned()))
                .collect(),
        )
    }

    /// The value of the first parameter of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.pairs();
        pairs.find(|(known, _)| *known == name).map(|(_, it)| it)
    }

    /// Whether the parameter of this name says yes.
    fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1"))
    }

    /// All names and values, as they came.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// A part of a target as it was meant. One that is not UTF-8 when it is decoded, or was not encoded right, is left as it
/// came: it names nothing that exists.
fn decoded(text: &str) -> Cow<'_, str> {
    match text.contains('%') {
        true => target::decode(text).map_or(Cow::Borrowed(text), Cow::Owned),
        false => Cow::Borrowed(text),
    }
}
