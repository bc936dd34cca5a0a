//! Requests about builds, and what is done when a build comes to its end.

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

use super::Service;
use crate::api::ask::BuildAsk;
use crate::api::build::{Build, BuildResult, CreateBuild};
use crate::api::range::Range;
use crate::api::{ApiError, Sender};
use crate::error::{UserError, tell};
use crate::kernel::fail_point;
use crate::kernel::tree::remove_tree;
use crate::model::app::App;
use crate::model::builder::Builder;
use crate::model::buildpack::address::Buildpack;
use crate::model::config_var::Config;
use crate::model::dyno::{BUILD, Dyno};
use crate::model::formation::{TypeChange, turns};
use crate::model::log_line::{LogSource, Story};
use crate::model::release::build::{self, BuildStatus};
use crate::model::release::{Release, ReleaseStatus, Toolchains};
use crate::model::time_span;
use crate::sandbox::stack::Stack;
use crate::server::api_loop::application::{Ctx, Recipient, Reply, Request};
use crate::server::builds::compile::{Bounds, BuildFailure, BuildLine, Compiled};
use crate::server::builds::install::{BuildDyno, fresh_cache, fresh_layer};
use crate::server::builds::site::BuildSite;
use crate::server::builds::{BuildNews, Work, remove_logs};
use crate::server::records::formation;
use crate::server::records::releases::{announce, new_release, running};
use crate::server::records::{Answer, Asker, part};
use crate::slug::DEFAULT_LEVEL;
use crate::store::{Built, Result as StoreResult, StoreError};
use crate::wire::http::Response;

/// How long the address of a build's log is good.
const OUTPUT_TIME: Duration = Duration::from_secs(24 * 3600);

/// What runs in the dyno of a build.
const COMMAND: &str = "/build/run";

/// The size of such a dyno: what Heroku's have.
const SIZE: &str = "Performance-M";

/// How long a build that is cancelled, or has taken too long, may take to end, in seconds.
const END_GRACE: f64 = 5.0;

/// The config vars that name a buildpack, the older one last: as on Heroku they win over the app's own list.
const NAMED_BY: [&str; 2] = ["BUILDPACK_URL", "LANGUAGE_PACK_URL"];

/// The addresses of the buildpacks that are named for a build beside its source: in the request, else by a config var, else for the app.
fn named_buildpacks(
    asked: &[Buildpack],
    config: &Config,
    app: &App,
) -> Result<Vec<String>, ApiError> {
    if !asked.is_empty() {
        return Ok(asked.iter().map(Buildpack::url).collect());
    }
    // Nobody looks at them.
    if matches!(app.builder, Builder::Native | Builder::None) {
        return Ok(Vec::new());
    }
    let var = NAMED_BY.iter().find_map(|name| {
        let value = config.get(*name).map(String::as_str);
        Some((name, value.filter(|value| !value.is_empty())?))
    });
    let Some((name, value)) = var else {
        return Ok(app.buildpacks.clone());
    };
    let bad = |error: UserError| ApiError::invalid(format!("the config var {name}: {error}"));
    match Buildpack::parse(value).map_err(bad)? {
        // Config vars are set from anywhere.
        Buildpack::Folder(_) => {
            let message = format!("the config var {name} names a folder of this host");
            Err(ApiError::invalid(message).hint("`dyno buildpacks:add FOLDER` does"))
        }
        pack => Ok(vec![pack.url()]),
    }
}

impl Service {
    /// Answers what is asked about builds.
    pub(super) fn build_request(
        &mut self,
        ask: &BuildAsk,
        request: &Request,
        ctx: &mut Ctx<Self>,
    ) -> Result<Reply<Self>, ApiError> {
        let asker = self.records.asker(request.caller());
        let answer = match ask {
            BuildAsk::List { app } => self.list_builds(app, request.range(), &asker),
            BuildAsk::Create { app } => {
                self.create_build(app, &request.body, request.via.sender(), &asker, ctx)
            }
            BuildAsk::Info { app, build } => self.build_info(app, build, &asker),
            BuildAsk::Cancel { app, build } => self.cancel_build(app, build, &asker, ctx),
            BuildAsk::PurgeCache { app } => self.purge_cache(app, ctx),
            BuildAsk::Result { app, build } => self.build_result(app.as_deref(), build, &asker),
            BuildAsk::Output { app, build, from } => {
                return self.build_output(app, build, from.as_deref(), request.recipient());
            }
        };
        answer.map(Reply::Now)
    }

    fn create_build(
        &mut self,
        app: &str,
        body: &[u8],
        sender: Sender,
        asker: &Asker,
        ctx: &mut Ctx<Self>,
    ) -> Answer {
        let (source, named, origin) = CreateBuild::parse(body, sender)?;
        if self.leaving.after_dynos || ctx.is_stopping() {
            return Err(ApiError::unavailable("the server is about to leave"));
        }
        let app = self.records.store.app(app)?;
        let session = self.records.store.session_of(&app.id)?;
        if session.is_some_and(|session| session.live) {
            let message = format!("`{}` runs in its folder itself, without a slug", app.name);
            return Err(ApiError::invalid(message)
                .hint("changes of the folder are seen at once; build it for another app"));
        }
        if !self.builds.has_room(&app.id) {
            let message = format!("too many builds of `{}` wait already", app.name);
            return Err(ApiError::too_many(message).hint("wait for one of them to end"));
        }
        let email = self.records.account.email.clone();
        let store = &mut self.records.store;
        let config = store.config(&app.id)?;
        let named = named_buildpacks(&named, &config, &app)?;
        let now = Timestamp::now();
        let build = store.create_build(&app.id, &source, &named, &email, now)?;
        self.records.log(&app.id, Story::BuildStarted);
        if self.builds.push(&build.id, &app.id, new_release(origin)) {
            let text = format!("Waiting for another build of {} to end...", app.name);
            self.builds.conclude(&build.id, &[BuildLine::Step(text)]);
        } else {
            // So that a client that reads it at once finds it.
            self.builds.conclude(&build.id, &[]);
        }
        self.start_builds(ctx);
        self.sweep_build_logs(ctx);
        Ok(Response::json(201, &self.resource(&build, asker)))
    }

    /// The oldest first, unless asked for otherwise.
    fn list_builds(&self, app: &str, range: &str, asker: &Asker) -> Answer {
        let range = Range::parse(range)?;
        let app = self.records.store.app(app)?;
        let builds = self.records.store.builds(&app.id)?.into_iter();
        let builds = builds.map(|build| (build.created_at.to_string(), build));
        let (builds, more) = range.select(builds.collect(), |(started_at, _)| started_at);
        let resources: Vec<_> = builds
            .iter()
            .map(|(_, it)| self.resource(it, asker))
            .collect();
        let ends = builds.first().zip(builds.last());
        let ends = ends.map(|(first, last)| (first.0.as_str(), last.0.as_str()));
        Ok(part(&range, "started_at", ends, more, &resources))
    }

    fn build_info(&self, app: &str, id: &str, asker: &Asker) -> Answer {
        let build = self.find_build(Some(app), id)?;
        Ok(Response::json(200, &self.resource(&build, asker)))
    }

    fn build_result(&self, app: Option<&str>, id: &str, asker: &Asker) -> Answer {
        let build = self.find_build(app, id)?;
        let log = std::fs::read(self.builds.log(&build.id)).unwrap_or_default();
        let result = BuildResult::new(self.resource(&build, asker), &String::from_utf8_lossy(&log));
        Ok(Response::json(200, &result))
    }

    fn cancel_build(&mut self, app: &str, id: &str, asker: &Asker, ctx: &mut Ctx<Self>) -> Answer {
        let build = self.find_build(Some(app), id)?;
        if build.status != BuildStatus::Pending {
            return Err(ApiError::invalid(format!("build `{id}` has ended already")));
        }
        if self.builds.cancel(&build.id) {
            self.build_failed(&build.id, &BuildFailure::Cancelled, ctx);
        }
        self.build_info(app, id, asker)
    }

    /// A build that runs has its own copy, and keeps that if it succeeds.
    fn purge_cache(&mut self, app: &str, ctx: &mut Ctx<Self>) -> Answer {
        let app = self.records.store.app(app)?;
        for kept in [self.builds.cache(&app.id), self.builds.layer(&app.id)] {
            let aside = self.builds.purged_cache()?;
            match std::fs::rename(&kept, &aside) {
                Ok(()) => self.remove_later(vec![aside], ctx),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    let message = format!("cannot remove `{}`: {error}", kept.display());
                    return Err(ApiError::internal(message));
                }
            }
        }
        Ok(Response::json(200, &serde_json::json!({})))
    }

    /// The log of a build from byte `from` on, as it is written.
    fn build_output(
        &mut self,
        app: &str,
        id: &str,
        from: Option<&str>,
        to: Recipient,
    ) -> Result<Reply<Self>, ApiError> {
        let build = self.find_build(Some(app), id)?;
        let from = match from {
            Some(text) => text
                .parse()
                .map_err(|_| ApiError::invalid(format!("`from={text}` is no number of bytes")))?,
            None => 0,
        };
        let pending = build.status == BuildStatus::Pending;
        let path = self.builds.log(&build.id);
        let build = pending.then_some(build.id);
        self.send_file(to, &path, from, build, "text/plain; charset=utf-8")
    }

    /// Answers with the file at `path` from byte `from` on, and with what `build` writes to it until it ends.
    pub(super) fn send_file(
        &mut self,
        to: Recipient,
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
            .begin(to, path, from, build)
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
        let app = app.map(|app| self.records.store.app(app)).transpose()?;
        let build = self.records.store.build(id)?;
        match app {
            Some(app) if app.id != build.app_id => Err(StoreError::NoBuild(id.to_owned())),
            _ => Ok(build),
        }
    }

    fn resource(&self, build: &build::Build, asker: &Asker) -> Build {
        let output = format!("/apps/{}/builds/{}/output", build.app_id, build.id);
        let output = self.records.signed_url(asker, "GET", &output, OUTPUT_TIME);
        Build::new(build, &self.records.account, output)
    }

    /// Starts the builds whose turn it is.
    fn start_builds(&mut self, ctx: &mut Ctx<Self>) {
        while let Some(build) = self.builds.next() {
            let started = self.work_of(&build).and_then(|work| {
                let started = self.builds.start(&build, work);
                started.map_err(anyhow::Error::from)
            });
            if let Err(error) = started {
                self.build_failed(&build, &BuildFailure::Host(error), ctx);
            }
        }
    }

    fn work_of(&self, build: &str) -> anyhow::Result<Work> {
        let build = self.records.store.build(build).map_err(UserError::from)?;
        let source = self.records.store.source(&build.source.id);
        let source = source.map_err(UserError::from)?.digest;
        let settings = &self.records.settings;
        let toolchains = self.toolchains_of(&build.id, &build.app_id)?;
        Ok(Work {
            tarball: self
                .records
                .sources
                .tarball(&source.unwrap_or_default().parse()?),
            cache: Arc::clone(&self.records.slugs),
            before: running(&self.records, &build.app_id),
            bounds: Bounds {
                level: DEFAULT_LEVEL,
                slug_bytes: settings.slug_limit,
                has: |path| Stack::host().has(path),
                toolchains: toolchains.folders.iter().map(Into::into).collect(),
                deadline: Instant::now() + settings.build_timeout,
            },
            builder: self
                .records
                .store
                .app(&build.app_id)
                .map_err(UserError::from)?
                .builder,
            config: self
                .records
                .store
                .config(&build.app_id)
                .map_err(UserError::from)?,
            buildpacks: build.buildpacks,
            version: build.source.commit,
            cache_folder: self.builds.cache(&build.app_id),
            layer_folder: self.builds.layer(&build.app_id),
            logs: self.records.log_folder(&build.app_id),
            log_limits: self.records.log_limits(),
        })
    }

    /// The toolchains of a build: its deployer's, or those of the release that the app runs.
    fn toolchains_of(&self, build: &str, app_id: &str) -> anyhow::Result<Toolchains> {
        if let Some(toolchains) = self.builds.toolchains(build) {
            return Ok(toolchains);
        }
        let release = self.records.store.current_release(app_id);
        Ok(release.map_err(UserError::from)?.toolchains)
    }

    /// Starts the dyno of a build, which is on the app's newest release: what is built has none yet.
    fn start_build_dyno(
        &mut self,
        build: &str,
        site: &BuildSite,
        ctx: &mut Ctx<Self>,
    ) -> anyhow::Result<BuildDyno> {
        let app_id = self
            .records
            .store
            .build(build)
            .map_err(UserError::from)?
            .app_id;
        self.dynos.check_site(site)?;
        if self.destroying.include(&app_id) || ctx.is_stopping() {
            anyhow::bail!("the app or the server is about to end");
        }
        let release = self.records.store.current_release(&app_id);
        let release = Release {
            toolchains: self.toolchains_of(build, &app_id)?,
            ..release.map_err(UserError::from)?
        };
        let dyno = self
            .records
            .store
            .create_build_dyno(&app_id, COMMAND, SIZE, Timestamp::now());
        let dyno = dyno.map_err(UserError::from)?;
        self.records.log(&app_id, Story::starting(COMMAND));
        let time = self.records.settings.build_timeout;
        let ended = self.builds.dyno_began(build, &dyno.id);
        let reactor = ctx.reactor();
        let started =
            self.dynos
                .start_build(&mut self.records, &dyno, &release, site, time, reactor);
        Ok(BuildDyno {
            name: dyno.name.to_string(),
            connection: started?,
            ended,
        })
    }

    /// Takes what the builds' threads have told.
    pub(super) fn hear_builds(&mut self, ctx: &mut Ctx<Self>) {
        while let Some(news) = self.builds.heard() {
            match news {
                BuildNews::WantsDyno(build, site, answer) => {
                    let started = self.start_build_dyno(&build, &site, ctx);
                    let _ = answer.send(started);
                }
                BuildNews::EndDyno(build) => {
                    if let Some(dyno) = self.builds.dyno_of(&build) {
                        self.dynos.stop(dyno, END_GRACE);
                    }
                }
                BuildNews::Said(build) => {
                    self.builds.hears(&build);
                    self.file_streams.build_wrote(&build, false, ctx);
                }
                // After its thread has looked for the last time.
                BuildNews::Ended(build, Ok(unwanted)) if self.builds.is_cancelled(&build) => {
                    // Its tree is in use until then.
                    drop(unwanted);
                    self.build_failed(&build, &BuildFailure::Cancelled, ctx);
                }
                BuildNews::Ended(build, Ok(compiled)) => self.release_build(&build, compiled, ctx),
                BuildNews::Ended(build, Err(failure)) => self.build_failed(&build, &failure, ctx),
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
            release: self.builds.ended(id),
        };
        fail_point::reach("build.compiled");
        let app_id = self.records.store.build(id).map(|build| build.app_id);
        let app_id = app_id.unwrap_or_default();
        let were_wanted = formation::is_wanted(&self.records, &app_id);
        let before = formation::quantities(&self.records, &app_id);
        match self
            .records
            .store
            .release_build(id, &built, Timestamp::now())
        {
            Ok((_, release)) => {
                fail_point::reach("build.released");
                announce(&mut self.records, &release, were_wanted);
                self.records.log_as(
                    &release.app_id,
                    LogSource::App,
                    "api",
                    &Story::BuildSucceeded,
                );
                self.builds.conclude(id, &self.launching(&release, &before));
                let replaced = self.builds.keep_cache(id, &release.app_id);
                self.remove_later(replaced, ctx);
                self.after_build(id, ctx);
                self.evict(ctx);
            }
            Err(error) => {
                let why = UserError::from(error);
                drop(lease);
                self.build_failed(id, &BuildFailure::Host(why.into()), ctx);
            }
        }
    }

    /// What the log says of a release that a build has led to.
    fn launching(&self, release: &Release, before: &[(String, u32)]) -> Vec<BuildLine> {
        let mut lines = vec![BuildLine::Step("Launching...".to_owned())];
        if release.status == ReleaseStatus::Pending {
            lines.push(BuildLine::Warning(
                "Release command declared: this new release will not be available until the command succeeds."
                    .to_owned(),
            ));
        }
        lines.push(BuildLine::Detail(format!("Released {}", release.version)));
        // Until its release phase has succeeded, the formation is what it was.
        let after = match release.current {
            true => formation::quantities(&self.records, &release.app_id),
            false => Vec::new(),
        };
        for turn in turns(before, &after, &release.process_types) {
            lines.push(match turn {
                TypeChange::Ends { .. } => BuildLine::Warning(turn.to_string()),
                TypeChange::Returns { .. } => BuildLine::Detail(turn.to_string()),
            });
        }
        let name = release.app_name.as_str();
        let address = self.records.places.web_url(name);
        let place = address.as_deref().unwrap_or(name);
        lines.push(BuildLine::Detail(format!("{place} deployed to dyno")));
        lines.push(BuildLine::Plain(String::new()));
        lines
    }

    fn build_failed(&mut self, id: &str, failure: &BuildFailure, ctx: &mut Ctx<Self>) {
        self.builds.ended(id);
        let folder = self.builds.folder().join(id);
        self.remove_later(vec![fresh_cache(&folder), fresh_layer(&folder)], ctx);
        match self.records.store.fail_build(id, Timestamp::now()) {
            Ok(build) => {
                let timeout = self.records.settings.build_timeout;
                self.builds.conclude(id, &last_words(failure, timeout));
                self.records
                    .log_as(&build.app_id, LogSource::App, "api", &Story::BuildFailed);
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

    /// The live dynos of builds. Apps may have process types of that name, too.
    fn build_dynos(&self) -> Vec<Dyno> {
        let live = self.records.store.live_dynos(None).unwrap_or_default();
        let is_builds = |dyno: &Dyno| {
            dyno.name.process_type == BUILD && !dyno.formation && dyno.command == COMMAND
        };
        live.into_iter().filter(is_builds).collect()
    }

    /// Removes what builds of an earlier server, and apps that are no more, have left, once no such build lives.
    pub(super) fn sweep_builds(&mut self, ctx: &mut Ctx<Self>) {
        let builds = &self.builds;
        if self
            .build_dynos()
            .iter()
            .any(|dyno| !builds.has_dyno(&dyno.id))
        {
            return;
        }
        let Ok(apps) = self.records.store.apps() else {
            return;
        };
        let apps = apps.into_iter().map(|app| app.id).collect();
        self.remove_later(self.builds.left_over(&apps), ctx);
    }

    fn remove_later(&self, paths: Vec<std::path::PathBuf>, ctx: &mut Ctx<Self>) {
        ctx.work_and_forget(move || {
            for path in paths {
                // What cannot be removed now is swept when a server starts.
                let _ = remove_tree(&path);
            }
        });
    }

    /// Builds that an earlier server had not brought to their end.
    pub(super) fn fail_lost_builds(&mut self) {
        for dyno in self.build_dynos() {
            self.dynos.stop(&dyno.id, END_GRACE);
        }
        let pending = self.records.store.pending_builds().unwrap_or_default();
        for build in pending {
            let why = UserError::new("the server was stopped in the middle of it")
                .hint("nothing was released; try again");
            let lines = last_words(
                &BuildFailure::Source(why),
                self.records.settings.build_timeout,
            );
            self.builds.conclude(&build.id, &lines);
            if let Err(error) = self.records.store.fail_build(&build.id, Timestamp::now()) {
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
        let kept = vec![self.builds.cache(app_id), self.builds.layer(app_id)];
        self.remove_later(kept, ctx);
        self.sweep_build_logs(ctx);
    }

    fn sweep_build_logs(&self, ctx: &mut Ctx<Self>) {
        let (kept, as_of) = (self.records.store.build_ids(), SystemTime::now());
        let folder = self.builds.folder().to_owned();
        ctx.work_and_forget(move || {
            if let Ok(kept) = kept
                && let Err(error) = remove_logs(&folder, &kept, as_of)
            {
                tell!("cannot remove the logs of builds that are forgotten: {error}");
            }
        });
    }
}

/// What a log says of a build that failed.
fn last_words(failure: &BuildFailure, timeout: Duration) -> Vec<BuildLine> {
    let warning = |text: &str| BuildLine::Warning(text.to_owned());
    let mut lines = match failure {
        BuildFailure::Source(error) => {
            let hint = error.hint.as_ref().map(|hint| format!("hint: {hint}"));
            let lines = std::iter::once(error.message.clone()).chain(hint);
            lines.map(BuildLine::Warning).collect()
        }
        BuildFailure::TooLong => vec![BuildLine::Warning(format!(
            "the build took longer than the {} that it may take (`build_timeout`)",
            time_span::exact(timeout)
        ))],
        BuildFailure::Cancelled => vec![warning("the build was cancelled")],
        BuildFailure::Host(error) => {
            vec![BuildLine::Warning(format!("the host failed: {error:#}"))]
        }
    };
    lines.push(warning("Build failed"));
    lines.push(BuildLine::Plain(String::new()));
    lines
}
