//! Requests on builds and on tarballs, and what is done when a build comes to its end.

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

use super::super::application::{Ctx, Reply, Request};
use super::super::builds::{News, Work, remove_logs};
use super::super::formation;
use super::super::host::{self, Answer, part, response};
use super::super::releases::{announce, running};
use super::super::routes::{Path, parameter, range};
use super::super::slugs::digest;
use super::super::sources;
use super::Service;
use crate::api::ApiError;
use crate::api::build::{Build, BuildResult, CreateBuild};
use crate::api::range::Range;
use crate::error::{UserError, tell};
use crate::model::formation::{Turn, turns};
use crate::model::log_line::Source;
use crate::model::release::build::{self, BuildStatus};
use crate::model::release::{Release, ReleaseStatus};
use crate::model::time_span;
use crate::sandbox::stack::Stack;
use crate::server::build::{Bounds, Compiled, Failure, Line};
use crate::slug::DEFAULT_LEVEL;
use crate::store::{Built, Result as StoreResult, StoreError};
use crate::wire::http::Response;

/// How long the address of a build's log is good.
const OUTPUT_TIME: Duration = Duration::from_secs(24 * 3600);

impl Service {
    /// Everything about builds, and tarballs to be downloaded.
    pub(super) fn build_request(&mut self, request: &Request, ctx: &mut Ctx<Self>) -> Reply<Self> {
        let path = Path::of(&request.head);
        let answer = match (request.head.method(), &path.parts()[..]) {
            ("GET", ["apps", app, "builds"]) => self.list_builds(app, request),
            ("POST", ["apps", app, "builds"]) => self.create_build(app, request, ctx),
            ("GET", ["apps", app, "builds", id]) => self.build_info(app, id, request),
            ("DELETE", ["apps", app, "builds", id]) => self.cancel_build(app, id, request, ctx),
            ("GET", ["apps", app, "builds", id, "result"]) => {
                self.build_result(Some(app), id, request)
            }
            ("GET", ["builds", id, "result"]) => self.build_result(None, id, request),
            ("GET", ["apps", app, "builds", id, "output"]) => {
                return host::reply(self.build_output(request, app, id));
            }
            ("DELETE", ["sources", id]) => {
                let answer = sources::remove(&mut self.host, request, id);
                self.sweep_sources(ctx);
                answer
            }
            ("GET", ["apps", app, "slugs", id, "blob"]) => {
                return host::reply(self.slug_tarball(request, app, id));
            }
            ("GET", ["sources", id, "blob"]) => {
                return host::reply(self.source_tarball(request, id));
            }
            (method, _) => Err(ApiError::not_found(format!(
                "there is no {method} {}",
                request.head.path()
            ))),
        };
        Reply::Now(response(answer))
    }

    fn create_build(&mut self, app: &str, request: &Request, ctx: &mut Ctx<Self>) -> Answer {
        let (source, toolchains) = CreateBuild::parse(&request.body)?;
        if self.ending || ctx.is_stopping() {
            return Err(ApiError::new("unavailable", "the server is about to leave"));
        }
        let app = self.host.store.app(app)?;
        let session = self.host.store.session_of(&app.id)?;
        if session.is_some_and(|session| session.live) {
            let message = format!("`{}` runs in its folder itself, without a slug", app.name);
            return Err(ApiError::invalid(message)
                .hint("changes of the folder are seen at once; build it for another app"));
        }
        if !self.builds.has_room(&app.id) {
            let message = format!("too many builds of `{}` wait already", app.name);
            return Err(ApiError::too_many(message).hint("wait for one of them to end"));
        }
        let email = self.host.account.email.clone();
        let store = &mut self.host.store;
        let build = store.create_build(&app.id, &source, &email, Timestamp::now())?;
        self.host.log(&app.id, "Build started");
        if self.builds.push(&build.id, &app.id, toolchains) {
            let text = format!("Waiting for another build of {} to end...", app.name);
            self.builds.conclude(&build.id, &[Line::Step(text)]);
        } else {
            // So that whoever reads it at once finds it.
            self.builds.conclude(&build.id, &[]);
        }
        self.start_builds(ctx);
        self.sweep_build_logs(ctx);
        Ok(Response::json(201, &self.resource(&build, request)))
    }

    /// The oldest first, unless asked for otherwise.
    fn list_builds(&self, app: &str, request: &Request) -> Answer {
        let range = Range::parse(range(&request.head))?;
        let app = self.host.store.app(app)?;
        let builds = self.host.store.builds(&app.id)?.into_iter();
        let builds = builds.map(|build| (build.created_at.to_string(), build));
        let (builds, more) = range.select(builds.collect(), |(started_at, _)| started_at);
        let resources: Vec<_> = builds
            .iter()
            .map(|(_, it)| self.resource(it, request))
            .collect();
        let ends = builds.first().zip(builds.last());
        let ends = ends.map(|(first, last)| (first.0.as_str(), last.0.as_str()));
        Ok(part(&range, "started_at", ends, more, &resources))
    }

    fn build_info(&self, app: &str, id: &str, request: &Request) -> Answer {
        let build = self.find_build(Some(app), id)?;
        Ok(Response::json(200, &self.resource(&build, request)))
    }

    fn build_result(&self, app: Option<&str>, id: &str, request: &Request) -> Answer {
        let build = self.find_build(app, id)?;
        let log = std::fs::read(self.builds.log(&build.id)).unwrap_or_default();
        let result = BuildResult::new(
            self.resource(&build, request),
            &String::from_utf8_lossy(&log),
        );
        Ok(Response::json(200, &result))
    }

    fn cancel_build(
        &mut self,
        app: &str,
        id: &str,
        request: &Request,
        ctx: &mut Ctx<Self>,
    ) -> Answer {
        let build = self.find_build(Some(app), id)?;
        if build.status != BuildStatus::Pending {
            return Err(ApiError::invalid(format!("build `{id}` has ended already")));
        }
        if self.builds.cancel(&build.id) {
            self.build_failed(&build.id, &Failure::Cancelled, ctx);
        }
        self.build_info(app, id, request)
    }

    /// The log of a build, as it is written.
    fn build_output(
        &mut self,
        request: &Request,
        app: &str,
        id: &str,
    ) -> Result<Reply<Self>, ApiError> {
        let build = self.find_build(Some(app), id)?;
        let from = match parameter(&request.head, "from") {
            Some(text) => text
                .parse()
                .map_err(|_| ApiError::invalid(format!("`from={text}` is no number of bytes")))?,
            None => 0,
        };
        let pending = build.status == BuildStatus::Pending;
        let path = self.builds.log(&build.id);
        self.send_file(
            request,
            &path,
            from,
            pending.then_some(build.id),
            "text/plain; charset=utf-8",
        )
    }

    fn slug_tarball(
        &mut self,
        request: &Request,
        app: &str,
        id: &str,
    ) -> Result<Reply<Self>, ApiError> {
        self.host.store.app(app)?;
        let slug = self.host.store.slug(id)?;
        let uploaded = slug.digest.filter(|_| slug.uploaded);
        let uploaded = uploaded.ok_or_else(|| StoreError::NotUploaded(slug.id))?;
        let path = self.host.slugs.tarball(&digest(&uploaded)?);
        self.send_file(request, &path, 0, None, "application/gzip")
    }

    fn source_tarball(&mut self, request: &Request, id: &str) -> Result<Reply<Self>, ApiError> {
        let source = self.host.store.source(id)?;
        let uploaded = source.digest.ok_or(StoreError::SourceNotUploaded)?;
        let path = self.host.sources.tarball(&digest(&uploaded)?);
        self.send_file(request, &path, 0, None, "application/gzip")
    }

    fn send_file(
        &mut self,
        request: &Request,
        path: &FilePath,
        from: u64,
        build: Option<String>,
        content_type: &'static str,
    ) -> Result<Reply<Self>, ApiError> {
        if !self.file_streams.has_room() {
            let message = "as many files are being sent as can be at once";
            return Err(ApiError::too_many(message).hint("try again in a moment"));
        }
        self.file_streams
            .begin(request.ticket, path, from, build)
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => {
                    ApiError::not_found("there is no such file any more")
                }
                _ => ApiError::internal(format!("cannot read `{}`: {error}", path.display())),
            })?;
        Ok(Reply::Stream(
            Response::new(200).with("Content-Type", content_type),
        ))
    }

    fn find_build(&self, app: Option<&str>, id: &str) -> StoreResult<build::Build> {
        let app = app.map(|app| self.host.store.app(app)).transpose()?;
        let build = self.host.store.build(id)?;
        match app {
            Some(app) if app.id != build.app_id => Err(StoreError::NoBuild(id.to_owned())),
            _ => Ok(build),
        }
    }

    fn resource(&self, build: &build::Build, request: &Request) -> Build {
        let output = format!("/apps/{}/builds/{}/output", build.app_id, build.id);
        let output = self.host.signed_url(request, "GET", &output, OUTPUT_TIME);
        Build::new(build, &self.host.account, output)
    }

    /// Starts the builds whose turn it is.
    fn start_builds(&mut self, ctx: &mut Ctx<Self>) {
        while let Some(build) = self.builds.next() {
            let started = self.work_of(&build).and_then(|work| {
                let started = self.builds.start(&build, work);
                started.map_err(anyhow::Error::from)
            });
            if let Err(error) = started {
                self.build_failed(&build, &Failure::Host(error), ctx);
            }
        }
    }

    fn work_of(&self, build: &str) -> anyhow::Result<Work> {
        let build = self.host.store.build(build).map_err(UserError::from)?;
        let source = self.host.store.source(&build.source.id);
        let source = source.map_err(UserError::from)?.digest;
        let settings = &self.host.settings;
        Ok(Work {
            tarball: self
                .host
                .sources
                .tarball(&source.unwrap_or_default().parse()?),
            cache: Arc::clone(&self.host.slugs),
            before: running(&self.host, &build.app_id),
            bounds: Bounds {
                level: DEFAULT_LEVEL,
                slug_bytes: settings.slug_limit,
                has: |path| Stack::host().has(path),
                deadline: Instant::now() + settings.build_timeout,
            },
        })
    }

    /// Takes what the builds' threads have told.
    pub(super) fn hear_builds(&mut self, ctx: &mut Ctx<Self>) {
        while let Some(news) = self.builds.heard() {
            match news {
                News::Said(build) => self.file_streams.build_wrote(&build, false, ctx),
                News::Ended(build, Ok(compiled)) => self.release_build(&build, compiled, ctx),
                News::Ended(build, Err(failure)) => self.build_failed(&build, &failure, ctx),
            }
        }
    }

    fn release_build(&mut self, id: &str, compiled: Compiled, ctx: &mut Ctx<Self>) {
        let Compiled {
            digest,
            size,
            process_types,
            lease,
        } = compiled;
        let built = Built {
            digest: digest.to_string(),
            size,
            process_types,
            toolchains: self.builds.ended(id),
        };
        let app_id = self.host.store.build(id).map(|build| build.app_id);
        let app_id = app_id.unwrap_or_default();
        let were_wanted = formation::is_wanted(&self.host, &app_id);
        let before = formation::quantities(&self.host, &app_id);
        match self.host.store.release_build(id, &built, Timestamp::now()) {
            Ok((_, release)) => {
                announce(&mut self.host, &release, were_wanted);
                self.host
                    .log_as(&release.app_id, Source::App, "api", "Build succeeded");
                self.builds.conclude(id, &self.launching(&release, &before));
                self.after_build(id, ctx);
                self.evict(ctx);
            }
            Err(error) => {
                let why = UserError::from(error);
                drop(lease);
                self.build_failed(id, &Failure::Host(why.into()), ctx);
            }
        }
    }

    /// What the log says of a release that a build has led to.
    fn launching(&self, release: &Release, before: &[(String, u32)]) -> Vec<Line> {
        let mut lines = vec![Line::Step("Launching...".to_owned())];
        if release.status == ReleaseStatus::Pending {
            lines.push(Line::Warning(
                "Release command declared: this new release will not be available until the command succeeds."
                    .to_owned(),
            ));
        }
        lines.push(Line::Detail(format!("Released {}", release.version)));
        // Until its release phase has succeeded, the formation is what it was.
        let after = match release.current {
            true => formation::quantities(&self.host, &release.app_id),
            false => Vec::new(),
        };
        for turn in turns(before, &after, &release.process_types) {
            lines.push(match turn {
                Turn::Ends { .. } => Line::Warning(turn.to_string()),
                Turn::Returns { .. } => Line::Detail(turn.to_string()),
            });
        }
        let name = release.app_name.as_str();
        let address = self.host.places.web_url(name);
        let place = address.as_deref().unwrap_or(name);
        lines.push(Line::Detail(format!("{place} deployed to dyno")));
        lines.push(Line::Plain(String::new()));
        lines
    }

    fn build_failed(&mut self, id: &str, failure: &Failure, ctx: &mut Ctx<Self>) {
        self.builds.ended(id);
        match self.host.store.fail_build(id, Timestamp::now()) {
            Ok(build) => {
                let timeout = self.host.settings.build_timeout;
                self.builds.conclude(id, &last_words(failure, timeout));
                self.host
                    .log_as(&build.app_id, Source::App, "api", "Build failed");
            }
            // Of an app that was destroyed.
            Err(StoreError::NoBuild(_)) => self.sweep_build_logs(ctx),
            Err(error) => tell!("cannot note that a build failed: {error}"),
        }
        // There may be a slug already.
        self.sweep_slugs(ctx);
        self.after_build(id, ctx);
    }

    fn after_build(&mut self, id: &str, ctx: &mut Ctx<Self>) {
        self.file_streams.build_wrote(id, true, ctx);
        self.start_builds(ctx);
    }

    /// Builds that an earlier server had not brought to their end.
    pub(super) fn fail_lost_builds(&mut self) {
        let pending = self.host.store.pending_builds().unwrap_or_default();
        for build in pending {
            let why = UserError::new("the server was stopped in the middle of it")
                .hint("nothing was released; try again");
            let lines = last_words(&Failure::Source(why), self.host.settings.build_timeout);
            self.builds.conclude(&build.id, &lines);
            if let Err(error) = self.host.store.fail_build(&build.id, Timestamp::now()) {
                tell!("cannot note that a build failed: {error}");
            }
        }
    }

    /// An app is no more, and so are its builds.
    pub(super) fn end_builds_of(&mut self, app_id: &str, ctx: &mut Ctx<Self>) {
        for build in self.builds.of_app(app_id) {
            if self.builds.cancel(&build) {
                self.file_streams.build_wrote(&build, true, ctx);
            }
        }
        self.sweep_build_logs(ctx);
    }

    fn sweep_build_logs(&self, ctx: &mut Ctx<Self>) {
        let (kept, as_of) = (self.host.store.build_ids(), SystemTime::now());
        let folder = self.builds.folder().to_owned();
        ctx.work(move || {
            if let Ok(kept) = kept
                && let Err(error) = remove_logs(&folder, &kept, as_of)
            {
                tell!("cannot remove the logs of builds that are forgotten: {error}");
            }
            |_: &mut Self, _: &mut Ctx<Self>| {}
        });
    }

    /// Removes the tarballs of sources that nobody needs any more.
    pub(super) fn sweep_sources(&mut self, ctx: &mut Ctx<Self>) {
        let (cache, as_of) = (Arc::clone(&self.host.sources), SystemTime::now());
        let kept = sources::kept(&mut self.host, Timestamp::now());
        ctx.work(move || {
            if let Ok(kept) = kept
                && let Err(error) = cache.remove_all_but(&kept, as_of)
            {
                tell!("cannot remove sources that are too old: {error:#}");
            }
            |_: &mut Self, _: &mut Ctx<Self>| {}
        });
    }
}

/// What a log says of a build that failed.
fn last_words(failure: &Failure, timeout: Duration) -> Vec<Line> {
    let warning = |text: &str| Line::Warning(text.to_owned());
    let mut lines = match failure {
        Failure::Source(error) => {
            let hint = error.hint.as_ref().map(|hint| format!("hint: {hint}"));
            let lines = std::iter::once(error.message.clone()).chain(hint);
            lines.map(Line::Warning).collect()
        }
        Failure::TooLong => vec![Line::Warning(format!(
            "the build took longer than the {} that it may take (`build_timeout`)",
            time_span::exact(timeout)
        ))],
        Failure::Cancelled => vec![warning("the build was cancelled")],
        Failure::Host(error) => vec![Line::Warning(format!("the host failed: {error:#}"))],
    };
    lines.push(warning("Build failed"));
    lines.push(Line::Plain(String::new()));
    lines
}
