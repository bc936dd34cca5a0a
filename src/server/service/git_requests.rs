//! Requests about the git repositories of apps.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::Service;
use crate::api::ApiError;
use crate::api::ask::{GitAsk, GitService};
use crate::api::repository::Repository;
use crate::error::tell;
use crate::kernel::executable;
use crate::repository::{FROM_AFAR, Repositories, RepositoryLimits};
use crate::server::api_loop::application::{Ctx, Recipient, Reply, Request};
use crate::server::git_http::{GitRequest, GitStart};
use crate::server::records::{self, Answer};
use crate::wire::http::Response;

/// How long it may take to say what branches there are.
const REFS_TIME: Duration = Duration::from_secs(60);

/// How long a fetch may take.
const FETCH_TIME: Duration = Duration::from_secs(3600);

/// What a push may say beside its pack, in bytes.
const ROOM: u64 = 4 << 20;

/// Where programs are if the environment of the server does not say so.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

impl Service {
    /// Answers what is asked about git repositories.
    pub(super) fn git_request(
        &mut self,
        ask: &GitAsk,
        request: &Request,
        ctx: &mut Ctx<Self>,
    ) -> Result<Reply<Self>, ApiError> {
        let (app, service, refs_only) = match ask {
            GitAsk::Locate { app } => return self.repository(app).map(Reply::Now),
            GitAsk::Refs { app, service } => (app, *service, true),
            GitAsk::Serve { app, service } => (app, *service, false),
        };
        let fields = &request.head.fields;
        let asked = GitRequest::new(app.clone(), service, refs_only, fields)?;
        self.serve_git(asked, request.recipient(), ctx)
    }

    /// `POST /apps/A/repository`: where the app's repository is; it is made if there is none.
    fn repository(&self, app: &str) -> Answer {
        let path = self.ensure_repository(app)?.into_os_string().into_string();
        let path = path.map_err(|path| {
            ApiError::internal(format!("`{}` is not UTF-8", path.to_string_lossy()))
        })?;
        Ok(Response::json(200, &Repository { path }))
    }

    fn ensure_repository(&self, app: &str) -> Result<PathBuf, ApiError> {
        let app = self.records.store.app(app)?;
        let bounds = RepositoryLimits {
            pack_bytes: self.records.settings.slug_limit,
        };
        executable::program()
            .and_then(|program| {
                self.repositories()
                    .ensure(app.name.as_str(), &app.id, bounds, &program)
            })
            .map_err(|error| {
                let message = format!("cannot make the repository of `{}`: {error}", app.name);
                ApiError::internal(message)
            })
    }

    /// Has git answer what a git on another host has asked.
    fn serve_git(
        &mut self,
        asked: GitRequest,
        to: Recipient,
        ctx: &mut Ctx<Self>,
    ) -> Result<Reply<Self>, ApiError> {
        let repository = self.ensure_repository(&asked.app)?;
        if asked.refs_only {
            return self.start_git(to, &asked, &repository, None, ctx);
        }
        let most = self.records.settings.slug_limit + ROOM;
        Ok(Reply::worker(move |body| {
            let body = asked.take_body(body, &repository, most);
            move |service: &mut Self, ctx: &mut Ctx<Self>| {
                let reply = body
                    .and_then(|body| service.start_git(to, &asked, &repository, Some(body), ctx));
                records::reply(reply)
            }
        }))
    }

    fn start_git(
        &mut self,
        to: Recipient,
        request: &GitRequest,
        repository: &Path,
        body: Option<File>,
        ctx: &mut Ctx<Self>,
    ) -> Result<Reply<Self>, ApiError> {
        // While its body came, the token may have been revoked.
        let token = to.token.as_deref();
        self.records.access.check_still(token, Timestamp::now())?;
        let settings = &self.records.settings;
        let time = match (request.refs_only, request.service) {
            (true, _) => REFS_TIME,
            (false, GitService::Upload) => FETCH_TIME,
            // The push waits for a build, perhaps for one of another push first, and for a release phase.
            (false, GitService::Receive) => {
                settings.release_timeout + settings.boot_timeout + 2 * settings.build_timeout
            }
        };
        let start = GitStart {
            request,
            repository,
            body,
            env: git_env(),
            time,
        };
        self.gits.start(to, start, ctx)?;
        Ok(Reply::Stream(request.response()))
    }

    pub(super) fn repositories(&self) -> Repositories {
        Repositories::new(&self.this.home)
    }

    /// Has the hooks of all repositories run this program. That it cannot be done is no reason not to serve.
    pub(super) fn take_over_repositories(&self) {
        let taken =
            executable::program().and_then(|program| self.repositories().take_over(&program));
        if let Err(error) = taken {
            tell!("cannot take over the git repositories: {error}");
        }
    }

    /// An app is no more, and so is its repository.
    pub(super) fn remove_repository(&self, app_id: &str, ctx: &mut Ctx<Self>) {
        match self.repositories().set_aside(app_id) {
            Ok(aside) => {
                ctx.work_and_forget(move || drop(aside));
            }
            Err(error) => tell!("cannot remove a git repository: {error}"),
        }
    }
}

/// The variables of a git that the server runs: its own settings, for the hooks, and where programs are.
fn git_env() -> Vec<(OsString, OsString)> {
    let own = std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        matches!(&*name, "PATH" | "HOME" | "LANG" | "TMPDIR") || name.starts_with("DYNO_")
    });
    let mut env: Vec<_> = own.collect();
    if !env.iter().any(|(name, _)| name == "PATH") {
        env.push(("PATH".into(), DEFAULT_PATH.into()));
    }
    env.push((FROM_AFAR.into(), "1".into()));
    env.push(("GIT_TERMINAL_PROMPT".into(), "0".into()));
    env
}
