//! What must be known of a request before it is answered: whether it may come over TCP, and how its body is taken.
//!
//! Each match names every variant, without a wildcard: a new route does not compile before both are decided.

use super::{
    AppAsk, Ask, AuthorizationAsk, BuildAsk, ConfigAsk, DynoAsk, FormationAsk, GitAsk, LinkAsk,
    LogAsk, PlatformAsk, ReleaseAsk, ServerAsk, SessionAsk, SlugAsk, SourceAsk,
};

/// Whether a request with a token may come over TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverTcp {
    /// No: it is about folders or processes of this host, and comes by the Unix socket alone.
    Refused,
    /// If its `Accept` says version 3 of the API, as Heroku's clients do.
    Versioned,
    /// Whatever its `Accept` says: git speaks a protocol of its own.
    Unversioned,
}

/// How the body of a request is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskBody {
    /// As a whole, in memory: JSON, or nothing.
    Whole,
    /// Bit by bit, by a worker: a tarball or a pack, which may be as large as a slug.
    Upload,
}

impl Ask {
    /// Whether the request may come over TCP.
    pub fn over_tcp(&self) -> OverTcp {
        use OverTcp::{Refused, Unversioned, Versioned};
        match self {
            Self::Apps(
                AppAsk::List
                | AppAsk::ListOfUser { .. }
                | AppAsk::Create
                | AppAsk::Info { .. }
                | AppAsk::Update { .. }
                | AppAsk::Destroy { .. }
                | AppAsk::Features { .. }
                | AppAsk::Feature { .. }
                | AppAsk::UpdateFeature { .. }
                | AppAsk::Buildpacks { .. }
                | AppAsk::SetBuildpacks { .. },
            ) => Versioned,
            Self::Links(
                LinkAsk::Find { .. }
                | LinkAsk::FindMoved { .. }
                | LinkAsk::Link
                | LinkAsk::Unlink { .. },
            ) => Refused,
            Self::Config(ConfigAsk::Info { .. } | ConfigAsk::Change { .. }) => Versioned,
            Self::Slugs(
                SlugAsk::Create { .. }
                | SlugAsk::Info { .. }
                | SlugAsk::Upload { .. }
                | SlugAsk::Download { .. },
            ) => Versioned,
            Self::Sources(
                SourceAsk::Create
                | SourceAsk::Upload { .. }
                | SourceAsk::Download { .. }
                | SourceAsk::Forget { .. },
            ) => Versioned,
            Self::Builds(
                BuildAsk::List { .. }
                | BuildAsk::Create { .. }
                | BuildAsk::Info { .. }
                | BuildAsk::Cancel { .. }
                | BuildAsk::PurgeCache { .. }
                | BuildAsk::Result { .. }
                | BuildAsk::Output { .. },
            ) => Versioned,
            Self::Releases(
                ReleaseAsk::List { .. }
                | ReleaseAsk::Create { .. }
                | ReleaseAsk::Info { .. }
                | ReleaseAsk::Config { .. }
                | ReleaseAsk::Output { .. },
            ) => Versioned,
            Self::Formation(
                FormationAsk::List { .. }
                | FormationAsk::Scale { .. }
                | FormationAsk::Info { .. }
                | FormationAsk::ScaleOne { .. },
            ) => Versioned,
            Self::Dynos(
                DynoAsk::List { .. }
                | DynoAsk::Create { .. }
                | DynoAsk::Info { .. }
                | DynoAsk::End { .. }
                | DynoAsk::Stop { .. }
                | DynoAsk::Restart { .. }
                | DynoAsk::RestartAll { .. }
                | DynoAsk::RestartType { .. }
                | DynoAsk::Attach { .. }
                | DynoAsk::RunInside { .. }
                | DynoAsk::MeetInside { .. },
            ) => Versioned,
            Self::Logs(
                LogAsk::Read { .. } | LogAsk::CreateSession { .. } | LogAsk::ReadSession { .. },
            ) => Versioned,
            Self::Git(GitAsk::Locate { .. }) => Refused,
            Self::Git(GitAsk::Refs { .. } | GitAsk::Serve { .. }) => Unversioned,
            Self::Sessions(SessionAsk::Create | SessionAsk::Stop { .. }) => Refused,
            Self::Authorizations(
                AuthorizationAsk::List | AuthorizationAsk::Create | AuthorizationAsk::Revoke { .. },
            ) => Versioned,
            Self::Platform(
                PlatformAsk::Account
                | PlatformAsk::AccountOfUser { .. }
                | PlatformAsk::DynoSizes
                | PlatformAsk::DynoSize { .. }
                | PlatformAsk::Regions
                | PlatformAsk::Region { .. }
                | PlatformAsk::Stacks
                | PlatformAsk::Stack { .. }
                | PlatformAsk::Usage
                | PlatformAsk::EmptyList
                | PlatformAsk::DynoSizesOfApp { .. }
                | PlatformAsk::StacksOfApp { .. }
                | PlatformAsk::Collaborators { .. }
                | PlatformAsk::Collaborator { .. }
                | PlatformAsk::PipelineCoupling { .. }
                | PlatformAsk::CreateAddon { .. }
                | PlatformAsk::EmptyListOfApp { .. },
            ) => Versioned,
            Self::RateLimits => Versioned,
            Self::Server(ServerAsk::Info | ServerAsk::Status | ServerAsk::Settings) => Versioned,
            Self::Server(ServerAsk::Listen | ServerAsk::Stop | ServerAsk::Replace) => Refused,
        }
    }

    /// How the body of the request is taken.
    pub fn body(&self) -> AskBody {
        use AskBody::{Upload, Whole};
        match self {
            Self::Slugs(ask) => match ask {
                SlugAsk::Upload { .. } => Upload,
                SlugAsk::Create { .. } | SlugAsk::Info { .. } | SlugAsk::Download { .. } => Whole,
            },
            Self::Sources(ask) => match ask {
                SourceAsk::Upload { .. } => Upload,
                SourceAsk::Create | SourceAsk::Download { .. } | SourceAsk::Forget { .. } => Whole,
            },
            Self::Git(ask) => match ask {
                GitAsk::Serve { .. } => Upload,
                GitAsk::Locate { .. } | GitAsk::Refs { .. } => Whole,
            },
            // Of these nouns nothing is uploaded; a verb that is belongs to one of those above.
            Self::Apps(_)
            | Self::Links(_)
            | Self::Config(_)
            | Self::Builds(_)
            | Self::Releases(_)
            | Self::Formation(_)
            | Self::Dynos(_)
            | Self::Logs(_)
            | Self::Sessions(_)
            | Self::Authorizations(_)
            | Self::Platform(_)
            | Self::RateLimits
            | Self::Server(_) => Whole,
        }
    }
}
