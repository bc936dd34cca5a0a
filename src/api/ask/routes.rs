//! The tables of the routes: from a method and the parts of a path to what is wanted.

use super::{
    AppAsk, Ask, AuthorizationAsk, BuildAsk, ConfigAsk, DynoAsk, FormationAsk, GitAsk, GitService,
    LinkAsk, LogAsk, PlatformAsk, Query, ReleaseAsk, ServerAsk, SessionAsk, SlugAsk, SourceAsk,
};
use crate::api::ApiError;

/// Lists of the account of which nothing exists here.
const EMPTY: &[&str] = &[
    "addon-attachments",
    "addons",
    "enterprise-accounts",
    "pipeline-couplings",
    "pipelines",
    "spaces",
    "teams",
];

/// Lists of an app of which nothing exists here.
const EMPTY_OF_APP: &[&str] = &[
    "addon-attachments",
    "addons",
    "domains",
    "log-drains",
    "sni-endpoints",
    "webhooks",
];

/// Routes that name no app, and those to all apps.
pub(super) fn of_account(method: &str, path: &[&str], query: &Query) -> Option<Ask> {
    let text = |text: &str| text.to_owned();
    let folder = || query.get("path").map(text);
    Some(match (method, path) {
        ("GET", ["apps"]) => Ask::Apps(AppAsk::List),
        ("POST", ["apps"]) => Ask::Apps(AppAsk::Create),
        ("GET", ["users", user, "apps"]) => Ask::Apps(AppAsk::ListOfUser { user: text(user) }),

        ("GET", ["links"]) => Ask::Links(LinkAsk::Find { path: folder() }),
        ("GET", ["links", "moved"]) => Ask::Links(LinkAsk::FindMoved { path: folder() }),
        ("PUT", ["links"]) => Ask::Links(LinkAsk::Link),
        ("DELETE", ["links"]) => Ask::Links(LinkAsk::Unlink { path: folder() }),

        ("POST", ["sources"]) => Ask::Sources(SourceAsk::Create),
        ("PUT", ["sources", source, "blob"]) => Ask::Sources(SourceAsk::Upload {
            source: text(source),
        }),
        ("GET", ["sources", source, "blob"]) => Ask::Sources(SourceAsk::Download {
            source: text(source),
        }),
        ("DELETE", ["sources", source]) => Ask::Sources(SourceAsk::Forget {
            source: text(source),
        }),

        ("GET", ["builds", build, "result"]) => Ask::Builds(BuildAsk::Result {
            app: None,
            build: text(build),
        }),

        ("POST", ["sessions"]) => Ask::Sessions(SessionAsk::Create),
        ("POST", ["sessions", session, "actions", "stop"]) => Ask::Sessions(SessionAsk::Stop {
            session: text(session),
        }),

        ("GET", ["oauth", "authorizations"]) => Ask::Authorizations(AuthorizationAsk::List),
        ("POST", ["oauth", "authorizations"]) => Ask::Authorizations(AuthorizationAsk::Create),
        ("DELETE", ["oauth", "authorizations", id]) => {
            Ask::Authorizations(AuthorizationAsk::Revoke { id: text(id) })
        }

        ("GET", ["server"]) => Ask::Server(ServerAsk::Info),
        ("GET", ["server", "status"]) => Ask::Server(ServerAsk::Status),
        ("GET", ["server", "settings"]) => Ask::Server(ServerAsk::Settings),
        ("POST", ["server", "actions", "listen"]) => Ask::Server(ServerAsk::Listen),
        ("POST", ["server", "actions", "stop"]) => Ask::Server(ServerAsk::Stop),
        ("POST", ["server", "actions", "replace"]) => Ask::Server(ServerAsk::Replace),

        ("GET", ["account", "rate-limits"]) => Ask::RateLimits,
        (method, path) => Ask::Platform(platform(method, path)?),
    })
}

fn platform(method: &str, path: &[&str]) -> Option<PlatformAsk> {
    let text = |text: &str| text.to_owned();
    Some(match (method, path) {
        ("GET", ["account"]) => PlatformAsk::Account,
        ("GET", ["users", user]) => PlatformAsk::AccountOfUser { user: text(user) },
        ("GET", ["dyno-sizes"]) => PlatformAsk::DynoSizes,
        ("GET", ["dyno-sizes", size]) => PlatformAsk::DynoSize { size: text(size) },
        ("GET", ["regions"]) => PlatformAsk::Regions,
        ("GET", ["regions", region]) => PlatformAsk::Region {
            region: text(region),
        },
        ("GET", ["stacks"]) => PlatformAsk::Stacks,
        ("GET", ["stacks", stack]) => PlatformAsk::Stack { stack: text(stack) },
        ("GET", ["usage"]) => PlatformAsk::Usage,
        ("GET", ["account", "features" | "keys"]) => PlatformAsk::EmptyList,
        ("GET", [list]) if EMPTY.contains(list) => PlatformAsk::EmptyList,
        _ => return None,
    })
}

/// Routes below `/apps/A`.
pub(super) fn of_app(method: &str, app: String, path: &[&str], query: Query) -> Option<Ask> {
    let text = |text: &str| text.to_owned();
    let ask = match (method, path) {
        ("GET", []) => Ask::Apps(AppAsk::Info { app }),
        ("PATCH", []) => Ask::Apps(AppAsk::Update { app }),
        ("DELETE", []) => Ask::Apps(AppAsk::Destroy { app }),
        ("GET", ["features"]) => Ask::Apps(AppAsk::Features { app }),
        ("GET", ["features", feature]) => Ask::Apps(AppAsk::Feature {
            app,
            feature: text(feature),
        }),
        ("PATCH", ["features", feature]) => Ask::Apps(AppAsk::UpdateFeature {
            app,
            feature: text(feature),
        }),

        ("GET", ["buildpack-installations"]) => Ask::Apps(AppAsk::Buildpacks { app }),
        ("PUT", ["buildpack-installations"]) => Ask::Apps(AppAsk::SetBuildpacks { app }),

        ("GET", ["config-vars"]) => Ask::Config(ConfigAsk::Info { app }),
        ("PATCH", ["config-vars"]) => Ask::Config(ConfigAsk::Change { app }),

        ("DELETE", ["build-cache"]) => Ask::Builds(BuildAsk::PurgeCache { app }),
        (_, ["slugs", path @ ..]) => Ask::Slugs(slugs(method, app, path)?),
        ("POST", ["sources"]) => Ask::Sources(SourceAsk::Create),
        (_, ["builds", path @ ..]) => Ask::Builds(builds(method, app, path, &query)?),
        (_, ["releases", path @ ..]) => Ask::Releases(releases(method, app, path)?),

        ("GET", ["formation"]) => Ask::Formation(FormationAsk::List { app }),
        ("PATCH", ["formation"]) => Ask::Formation(FormationAsk::Scale { app }),
        ("GET", ["formation", process_type]) => Ask::Formation(FormationAsk::Info {
            app,
            process_type: text(process_type),
        }),
        ("PATCH", ["formation", process_type]) => Ask::Formation(FormationAsk::ScaleOne {
            app,
            process_type: text(process_type),
        }),
        ("DELETE", ["formations", process_type])
        | ("POST", ["formations", process_type, "actions", "stop"]) => {
            Ask::Dynos(DynoAsk::RestartType {
                app,
                process_type: text(process_type),
            })
        }
        (_, ["dynos", path @ ..]) => Ask::Dynos(dynos(method, app, path, &query)?),

        ("GET", ["logs"]) => Ask::Logs(LogAsk::Read { app, query }),
        ("POST", ["log-sessions"]) => Ask::Logs(LogAsk::CreateSession { app }),
        ("GET", ["log-stream"]) => Ask::Logs(LogAsk::ReadSession { app, query }),

        ("POST", ["repository"]) => Ask::Git(GitAsk::Locate { app }),
        (method, path) => Ask::Platform(platform_of_app(method, app, path)?),
    };
    Some(ask)
}

fn slugs(method: &str, app: String, path: &[&str]) -> Option<SlugAsk> {
    let text = |text: &str| text.to_owned();
    Some(match (method, path) {
        ("POST", []) => SlugAsk::Create { app },
        ("GET", [slug]) => SlugAsk::Info {
            app,
            slug: text(slug),
        },
        ("PUT", [slug, "blob"]) => SlugAsk::Upload {
            app,
            slug: text(slug),
        },
        ("GET", [slug, "blob"]) => SlugAsk::Download {
            app,
            slug: text(slug),
        },
        _ => return None,
    })
}

fn builds(method: &str, app: String, path: &[&str], query: &Query) -> Option<BuildAsk> {
    let text = |text: &str| text.to_owned();
    Some(match (method, path) {
        ("GET", []) => BuildAsk::List { app },
        ("POST", []) => BuildAsk::Create { app },
        ("GET", [build]) => BuildAsk::Info {
            app,
            build: text(build),
        },
        ("DELETE", [build]) => BuildAsk::Cancel {
            app,
            build: text(build),
        },
        ("GET", [build, "result"]) => BuildAsk::Result {
            app: Some(app),
            build: text(build),
        },
        ("GET", [build, "output"]) => BuildAsk::Output {
            app,
            build: text(build),
            from: query.get("from").map(text),
        },
        _ => return None,
    })
}

fn releases(method: &str, app: String, path: &[&str]) -> Option<ReleaseAsk> {
    let text = |text: &str| text.to_owned();
    Some(match (method, path) {
        ("GET", []) => ReleaseAsk::List { app },
        ("POST", []) => ReleaseAsk::Create { app },
        ("GET", [release]) => ReleaseAsk::Info {
            app,
            release: text(release),
        },
        ("GET", [release, "config-vars"]) => ReleaseAsk::Config {
            app,
            release: text(release),
        },
        ("GET", [release, "output"]) => ReleaseAsk::Output {
            app,
            release: text(release),
        },
        _ => return None,
    })
}

fn dynos(method: &str, app: String, path: &[&str], query: &Query) -> Option<DynoAsk> {
    let (dyno, path) = match path {
        [] => {
            return Some(match method {
                "GET" => DynoAsk::List {
                    app,
                    ended: query.flag("ended"),
                    extended: query.flag("extended"),
                },
                "POST" => DynoAsk::Create { app },
                "DELETE" => DynoAsk::RestartAll { app },
                _ => return None,
            });
        }
        [dyno, path @ ..] => ((*dyno).to_owned(), path),
    };
    Some(match (method, path) {
        ("GET", []) => DynoAsk::Info { app, dyno },
        ("DELETE", []) => DynoAsk::Restart { app, dyno },
        ("POST", []) => DynoAsk::MeetInside { app, dyno },
        ("POST", ["actions", "stop"]) => DynoAsk::Stop { app, dyno },
        ("GET", ["end"]) => DynoAsk::End {
            app,
            dyno,
            seconds: query.get("seconds").map(str::to_owned),
        },
        ("GET", ["attach"]) => DynoAsk::Attach { app, dyno },
        ("POST", ["inside"]) => DynoAsk::RunInside { app, dyno },
        _ => return None,
    })
}

fn platform_of_app(method: &str, app: String, path: &[&str]) -> Option<PlatformAsk> {
    Some(match (method, path) {
        ("GET", ["available-dyno-sizes"]) => PlatformAsk::DynoSizesOfApp { app },
        ("GET", ["available-stacks"]) => PlatformAsk::StacksOfApp { app },
        ("GET", ["collaborators"]) => PlatformAsk::Collaborators { app },
        ("GET", ["collaborators", user]) => PlatformAsk::Collaborator {
            app,
            user: (*user).to_owned(),
        },
        ("GET", ["pipeline-couplings"]) => PlatformAsk::PipelineCoupling { app },
        ("POST", ["addons"]) => PlatformAsk::CreateAddon { app },
        ("GET", [list]) if EMPTY_OF_APP.contains(list) => PlatformAsk::EmptyListOfApp { app },
        _ => return None,
    })
}

impl GitAsk {
    /// A request below `/A.git`, which git sends (gitprotocol-http(5)).
    pub(super) fn over_http(
        method: &str,
        app: &str,
        path: &[&str],
        query: &Query,
    ) -> Result<Self, ApiError> {
        let app = app.to_owned();
        let ask = match (method, path) {
            ("GET", ["info", "refs"]) => query
                .get("service")
                .and_then(GitService::named)
                .map(|service| (service, true)),
            ("POST", [service]) => GitService::named(service).map(|service| (service, false)),
            _ => None,
        };
        match ask {
            Some((service, true)) => Ok(Self::Refs { app, service }),
            Some((service, false)) => Ok(Self::Serve { app, service }),
            None => Err(ApiError::forbidden("this is for git alone")
                .hint("`git push`, `git fetch` and `git clone` know how to ask")),
        }
    }
}
