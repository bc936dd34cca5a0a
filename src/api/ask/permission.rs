//! What a token must be good for, that a request with it is answered, and which app that is about.
//!
//! Each match names every variant, without a wildcard: a new route does not compile before both are decided. `docs/api.md`
//! has the same as a table.

use super::{
    AppAsk, Ask, AuthorizationAsk, BuildAsk, ConfigAsk, DynoAsk, FormationAsk, GitAsk, GitService,
    LinkAsk, LogAsk, PlatformAsk, ReleaseAsk, ServerAsk, SessionAsk, SlugAsk, SourceAsk,
};
use crate::model::token::Scope;

/// What a request with a token needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs<'a> {
    /// No token is enough: it comes by the Unix socket alone.
    TheSocket,
    /// Any token.
    AnyToken,
    /// A token with this scope.
    Scope(Scope),
    /// A token with this scope that is for all apps.
    AllApps(Scope),
    /// A token with the scope [`Scope::Run`] if the dyno of this name or id is a one-off, else [`Scope::Deploy`].
    OfDyno(&'a str),
}

/// What a request is about, as far as tokens are for some apps alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About<'a> {
    /// The app of this name or id.
    App(&'a str),
    /// The app of the build with this id.
    AppOfBuild(&'a str),
    /// No app. A list has what the token is for.
    NoApp,
}

impl Ask {
    /// What a token must be good for, that the request is answered.
    pub fn needs(&self) -> Needs<'_> {
        use Needs::{AllApps, AnyToken, OfDyno, TheSocket};
        use Scope::{Admin, Deploy, Read, ReadProtected, Run};
        match self {
            Self::Apps(ask) => match ask {
                AppAsk::List | AppAsk::ListOfUser { .. } | AppAsk::Info { .. } => {
                    Needs::Scope(Read)
                }
                AppAsk::Create => AllApps(Admin),
                AppAsk::Features { .. } | AppAsk::Feature { .. } | AppAsk::Buildpacks { .. } => {
                    Needs::Scope(Read)
                }
                AppAsk::SetBuildpacks { .. } => Needs::Scope(Deploy),
                AppAsk::Update { .. } | AppAsk::Destroy { .. } | AppAsk::UpdateFeature { .. } => {
                    Needs::Scope(Admin)
                }
            },
            Self::Links(ask) => match ask {
                LinkAsk::Find { .. }
                | LinkAsk::FindMoved { .. }
                | LinkAsk::Link
                | LinkAsk::Unlink { .. } => TheSocket,
            },
            Self::Config(ask) => match ask {
                ConfigAsk::Info { .. } => Needs::Scope(ReadProtected),
                ConfigAsk::Change { .. } => Needs::Scope(Deploy),
            },
            Self::Slugs(ask) => match ask {
                SlugAsk::Info { .. } | SlugAsk::Download { .. } => Needs::Scope(Read),
                SlugAsk::Create { .. } | SlugAsk::Upload { .. } => Needs::Scope(Deploy),
            },
            Self::Sources(ask) => match ask {
                SourceAsk::Create
                | SourceAsk::Upload { .. }
                | SourceAsk::Download { .. }
                | SourceAsk::Forget { .. } => Needs::Scope(Deploy),
            },
            Self::Builds(ask) => match ask {
                BuildAsk::List { .. }
                | BuildAsk::Info { .. }
                | BuildAsk::Result { .. }
                | BuildAsk::Output { .. } => Needs::Scope(Read),
                BuildAsk::Create { .. } | BuildAsk::Cancel { .. } | BuildAsk::PurgeCache { .. } => {
                    Needs::Scope(Deploy)
                }
            },
            Self::Releases(ask) => match ask {
                ReleaseAsk::List { .. } | ReleaseAsk::Info { .. } | ReleaseAsk::Output { .. } => {
                    Needs::Scope(Read)
                }
                ReleaseAsk::Config { .. } => Needs::Scope(ReadProtected),
                ReleaseAsk::Create { .. } => Needs::Scope(Deploy),
            },
            Self::Formation(ask) => match ask {
                FormationAsk::List { .. } | FormationAsk::Info { .. } => Needs::Scope(Read),
                FormationAsk::Scale { .. } | FormationAsk::ScaleOne { .. } => Needs::Scope(Deploy),
            },
            Self::Dynos(ask) => match ask {
                DynoAsk::List { .. } | DynoAsk::Info { .. } | DynoAsk::End { .. } => {
                    Needs::Scope(Read)
                }
                DynoAsk::Create { .. } => Needs::Scope(Run),
                DynoAsk::Stop { dyno, .. }
                | DynoAsk::Restart { dyno, .. }
                | DynoAsk::Attach { dyno, .. }
                | DynoAsk::RunInside { dyno, .. }
                | DynoAsk::MeetInside { dyno, .. } => OfDyno(dyno),
                DynoAsk::RestartAll { .. } | DynoAsk::RestartType { .. } => Needs::Scope(Deploy),
            },
            Self::Logs(ask) => match ask {
                LogAsk::Read { .. } | LogAsk::CreateSession { .. } | LogAsk::ReadSession { .. } => {
                    Needs::Scope(Read)
                }
            },
            Self::Git(ask) => match ask {
                GitAsk::Locate { .. } => TheSocket,
                GitAsk::Refs { service, .. } | GitAsk::Serve { service, .. } => match service {
                    GitService::Upload => Needs::Scope(Read),
                    GitService::Receive => Needs::Scope(Deploy),
                },
            },
            Self::Sessions(ask) => match ask {
                SessionAsk::Create | SessionAsk::Stop { .. } => TheSocket,
            },
            Self::Authorizations(ask) => match ask {
                AuthorizationAsk::List
                | AuthorizationAsk::Create
                | AuthorizationAsk::Revoke { .. } => Needs::Scope(Admin),
            },
            Self::Platform(ask) => match ask {
                PlatformAsk::Account
                | PlatformAsk::AccountOfUser { .. }
                | PlatformAsk::DynoSizes
                | PlatformAsk::DynoSize { .. }
                | PlatformAsk::Regions
                | PlatformAsk::Region { .. }
                | PlatformAsk::Stacks
                | PlatformAsk::Stack { .. } => AnyToken,
                PlatformAsk::Usage
                | PlatformAsk::EmptyList
                | PlatformAsk::DynoSizesOfApp { .. }
                | PlatformAsk::StacksOfApp { .. }
                | PlatformAsk::Collaborators { .. }
                | PlatformAsk::Collaborator { .. }
                | PlatformAsk::PipelineCoupling { .. }
                | PlatformAsk::EmptyListOfApp { .. } => Needs::Scope(Read),
                PlatformAsk::CreateAddon { .. } => Needs::Scope(Deploy),
            },
            Self::RateLimits => AnyToken,
            Self::Server(ask) => match ask {
                ServerAsk::Info => AnyToken,
                ServerAsk::Status | ServerAsk::Settings => AllApps(Admin),
                ServerAsk::Listen | ServerAsk::Stop | ServerAsk::Replace => TheSocket,
            },
        }
    }

    /// The app that the request is about, if it is about one.
    pub fn about(&self) -> About<'_> {
        use About::{App, AppOfBuild, NoApp};
        match self {
            Self::Apps(ask) => match ask {
                AppAsk::Info { app }
                | AppAsk::Update { app }
                | AppAsk::Destroy { app }
                | AppAsk::Features { app }
                | AppAsk::Feature { app, .. }
                | AppAsk::UpdateFeature { app, .. }
                | AppAsk::Buildpacks { app }
                | AppAsk::SetBuildpacks { app } => App(app),
                AppAsk::List | AppAsk::ListOfUser { .. } | AppAsk::Create => NoApp,
            },
            Self::Config(ConfigAsk::Info { app } | ConfigAsk::Change { app }) => App(app),
            Self::Slugs(
                SlugAsk::Create { app }
                | SlugAsk::Info { app, .. }
                | SlugAsk::Upload { app, .. }
                | SlugAsk::Download { app, .. },
            ) => App(app),
            Self::Builds(ask) => match ask {
                BuildAsk::List { app }
                | BuildAsk::Create { app }
                | BuildAsk::Info { app, .. }
                | BuildAsk::Cancel { app, .. }
                | BuildAsk::PurgeCache { app }
                | BuildAsk::Result { app: Some(app), .. }
                | BuildAsk::Output { app, .. } => App(app),
                BuildAsk::Result { app: None, build } => AppOfBuild(build),
            },
            Self::Releases(
                ReleaseAsk::List { app }
                | ReleaseAsk::Create { app }
                | ReleaseAsk::Info { app, .. }
                | ReleaseAsk::Config { app, .. }
                | ReleaseAsk::Output { app, .. },
            ) => App(app),
            Self::Formation(
                FormationAsk::List { app }
                | FormationAsk::Scale { app }
                | FormationAsk::Info { app, .. }
                | FormationAsk::ScaleOne { app, .. },
            ) => App(app),
            Self::Dynos(
                DynoAsk::List { app, .. }
                | DynoAsk::Create { app }
                | DynoAsk::Info { app, .. }
                | DynoAsk::End { app, .. }
                | DynoAsk::Stop { app, .. }
                | DynoAsk::Restart { app, .. }
                | DynoAsk::RestartAll { app }
                | DynoAsk::RestartType { app, .. }
                | DynoAsk::Attach { app, .. }
                | DynoAsk::RunInside { app, .. }
                | DynoAsk::MeetInside { app, .. },
            ) => App(app),
            Self::Logs(
                LogAsk::Read { app, .. }
                | LogAsk::CreateSession { app }
                | LogAsk::ReadSession { app, .. },
            ) => App(app),
            Self::Git(
                GitAsk::Locate { app } | GitAsk::Refs { app, .. } | GitAsk::Serve { app, .. },
            ) => App(app),
            Self::Platform(ask) => match ask {
                PlatformAsk::DynoSizesOfApp { app }
                | PlatformAsk::StacksOfApp { app }
                | PlatformAsk::Collaborators { app }
                | PlatformAsk::Collaborator { app, .. }
                | PlatformAsk::PipelineCoupling { app }
                | PlatformAsk::CreateAddon { app }
                | PlatformAsk::EmptyListOfApp { app } => App(app),
                PlatformAsk::Account
                | PlatformAsk::AccountOfUser { .. }
                | PlatformAsk::DynoSizes
                | PlatformAsk::DynoSize { .. }
                | PlatformAsk::Regions
                | PlatformAsk::Region { .. }
                | PlatformAsk::Stacks
                | PlatformAsk::Stack { .. }
                | PlatformAsk::Usage
                | PlatformAsk::EmptyList => NoApp,
            },
            // A source belongs to whoever knows its id, which cannot be guessed.
            Self::Sources(_)
            | Self::Links(_)
            | Self::Sessions(_)
            | Self::Authorizations(_)
            | Self::RateLimits
            | Self::Server(_) => NoApp,
        }
    }
}
