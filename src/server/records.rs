//! What this host has on record, and how the handlers that need nothing else answer.
//!
//! A handler takes what the request names, calls one verb of the store and makes a resource of what
//! comes back. Dynos and their supervisors are not here: those handlers need the reactor too.

pub mod apps;
pub mod asleep;
pub mod authorizations;
pub mod config;
pub mod file_streams;
pub mod formation;
pub mod platform;
pub mod releases;
pub mod slugs;
pub mod sources;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use serde::Serialize;

use crate::api::account::Identity;
use crate::api::app::{self, Places};
use crate::api::range::Range;
use crate::api::{self, ApiError};
use crate::error::{UserError, tell};
use crate::log_file::LogWriter;
use crate::model::app::App;
use crate::model::log_limits::LogLimits;
use crate::model::log_line::{self, ByUser, LogSource, Story};
use crate::model::release::{RELEASE_PHASE, Release, Slug};
use crate::model::settings::Settings;
use crate::model::token::Token;
use crate::server::access::Access;
use crate::server::api_loop::application::{Application, Caller, Ctx, Reply};
use crate::server::api_loop::body_stream::BodyReader;
use crate::server::api_loop::via::Via;
use crate::server::records::asleep::Asleep;
use crate::slug::{Received, SlugCache, SlugLimits, TreeOwner};
use crate::store::{Store, StoreError};
use crate::wire::http::Response;

/// How long the server, which has others to serve, waits for other processes that write to a log.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the address is good where the output of a release phase can be read.
const OUTPUT_GOOD_FOR: Duration = Duration::from_secs(24 * 3600);

/// What is recorded of this host: its state, slugs, sources and settings, and which clients may use it.
pub struct Records {
    /// The state.
    pub store: Store,
    /// The tarballs and trees. Workers use it too.
    pub slugs: Arc<SlugCache>,
    /// The tarballs of sources.
    pub sources: Arc<SlugCache>,
    /// Limits and times.
    pub settings: Settings,
    /// The apps that got another release since the end of the last turn.
    pub released: Vec<String>,
    /// Who uses this host.
    pub account: Identity,
    /// Who is let in over TCP, and signatures of addresses that need no token.
    pub access: Access,
    /// Where clients find the API over TCP: `http://127.0.0.1:5001`, if they do.
    pub public: Option<String>,
    /// Since when they do.
    pub since: Timestamp,
    /// Where apps are to be found.
    pub places: Places,
    /// The apps whose formations are not looked after for now.
    pub asleep: Asleep,
    /// The folder of the state.
    home: PathBuf,
}

/// Who asks, as far as an answer depends on it: for whom addresses of this server's targets are made, and whose apps it lists.
#[derive(Debug, Clone)]
pub struct Asker {
    /// What they begin with: the name that the request came to, or, from the Unix socket, where the API is reached over
    /// TCP; nothing if it is not.
    base: String,
    /// The token that the request was let in with; None at the Unix socket.
    token: Option<Arc<Token>>,
}

impl Asker {
    /// Whether an app is there for it.
    pub fn sees(&self, app_id: &str) -> bool {
        let token = self.token.as_ref();
        token.is_none_or(|token| token.grant.is_for(app_id))
    }
}

/// What a short handler returns.
pub type Answer = Result<Response, ApiError>;

impl Records {
    /// Opens state and slugs in `home`, for whom `email` stands. Trees will belong to `owner`.
    ///
    /// # Errors
    /// When either cannot be used.
    pub fn open(
        home: &Path,
        settings: Settings,
        email: String,
        owner: Option<TreeOwner>,
    ) -> anyhow::Result<Self> {
        let mut store = Store::open(&home.join("state.db")).map_err(UserError::from)?;
        let (id, since) = store.account(Timestamp::now()).map_err(UserError::from)?;
        let access = Access::open(&mut store, settings.rate_limit).map_err(UserError::from)?;
        let limits = SlugLimits {
            unpacked_bytes: settings.tree_limit,
            ..SlugLimits::default()
        };
        let sources = SlugCache::new(home.join("sources"), None, limits.clone())
            .context("the sources cannot be used")?;
        let slugs = SlugCache::new(home.join("slugs"), owner, limits)
            .context("the slugs cannot be used")?;
        Ok(Self {
            store,
            slugs: Arc::new(slugs),
            sources: Arc::new(sources),
            settings,
            released: Vec::new(),
            account: Identity { id, email },
            access,
            public: None,
            since,
            places: Places::default(),
            asleep: Asleep::read(home.join("asleep")),
            home: home.to_owned(),
        })
    }

    /// For whom addresses in the answer to a request are made.
    pub fn asker(&self, caller: Caller<'_>) -> Asker {
        let base = match (caller.via, caller.host) {
            (Via::Tcp { tls: true, .. }, Some(host)) => format!("https://{host}"),
            (Via::Tcp { tls: false, .. }, Some(host)) => format!("http://{host}"),
            _ => self.public.clone().unwrap_or_default(),
        };
        let token = caller.token.cloned();
        Asker { base, token }
    }

    /// The address of a target that needs no token for this method during the time `good_for`, as long as the asker's own
    /// token is good.
    pub fn signed_url(
        &self,
        asker: &Asker,
        method: &str,
        target: &str,
        good_for: Duration,
    ) -> String {
        self.signed_from(asker, method, target, good_for, Timestamp::now())
    }

    /// As [`signed_url`](Self::signed_url), for the time `good_for` from `begin` on.
    fn signed_from(
        &self,
        asker: &Asker,
        method: &str,
        target: &str,
        good_for: Duration,
        begin: Timestamp,
    ) -> String {
        let Asker { base, token } = asker;
        let signer = self.access.signer();
        let token = token.as_ref().map(|token| &*token.id);
        let signed = signer.sign(method, target, token, good_for, begin);
        format!("{base}{signed}")
    }

    /// The resource of a release. Its `output_stream_url` is good for a day, and does not change within an hour: so the
    /// whole resource does not change either.
    pub fn release_resource(&self, release: &Release, asker: &Asker) -> api::release::Release {
        let mut resource = api::release::Release::new(release, &self.account);
        if release.process_types.get(RELEASE_PHASE).is_some() {
            let target = format!("/apps/{}/releases/{}/output", release.app_id, release.id);
            let now = Timestamp::now().as_second();
            let hour = Timestamp::from_second(now - now.rem_euclid(3600)).unwrap_or_default();
            let url = self.signed_from(asker, "GET", &target, OUTPUT_GOOD_FOR, hour);
            resource.output_stream_url = Some(url);
        }
        resource
    }

    /// The slug of this id, if it was made for an app that is there for the asker.
    ///
    /// # Errors
    /// [`StoreError::NoSlug`], and when the state cannot be read.
    pub fn slug(&self, id: &str, asker: &Asker) -> Result<Slug, StoreError> {
        let slug = self.store.slug(id)?;
        let is_for_all = asker
            .token
            .as_ref()
            .is_none_or(|token| token.grant.apps.is_none());
        let is_seen = || -> Result<bool, StoreError> {
            Ok(self
                .store
                .app_of_slug(id)?
                .is_some_and(|app| asker.sees(&app)))
        };
        match is_for_all || is_seen()? {
            true => Ok(slug),
            false => Err(StoreError::NoSlug(id.to_owned())),
        }
    }

    /// The resource of an app.
    pub fn resource(&self, app: &App) -> app::App {
        let mut resource = app::App::new(app, &self.account, &self.places);
        resource.asleep = self.asleep.has(&app.id);
        resource.network_by_default = app.network.is_none();
        resource.network = app.network.or(Some(self.settings.network));
        resource
    }

    /// The folder of an app's log.
    pub fn log_folder(&self, app_id: &str) -> PathBuf {
        self.home.join("logs").join(app_id)
    }

    /// How much of an app's log is kept.
    pub fn log_limits(&self) -> LogLimits {
        LogLimits {
            bytes: self.settings.log_limit,
            age: self.settings.log_age,
        }
    }

    /// Writes what the user did into the app's log, as `app[api]`, with the user's address. An error is told on stderr:
    /// what was done is done.
    pub fn log(&self, app_id: &str, story: Story) {
        let user = self.account.email.clone();
        let text = ByUser { story, user }.to_string();
        self.append_to_log(app_id, LogSource::App, "api", &text);
    }

    /// Writes a line of `process` (a dyno's name, or `api`) into the app's log. An error is told on stderr.
    pub fn log_as(&self, app_id: &str, source: LogSource, process: &str, story: &Story) {
        self.append_to_log(app_id, source, process, &story.to_string());
    }

    /// Lets the app's releases expire that are too old to keep, and says in its log what is freed. Whether something is.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub fn expire_releases(&mut self, app_id: &str) -> Result<bool, StoreError> {
        let keep = self.settings.keep_releases;
        let expired = self.store.expire_releases(app_id, keep, Timestamp::now())?;
        let Some(expired) = expired else {
            return Ok(false);
        };
        let (oldest, newest) = expired.versions;
        let which = match oldest == newest {
            true => format!("Release {oldest} has expired"),
            false => format!("Releases from {oldest} to {newest} have expired"),
        };
        let freed = match expired.slugs {
            0 => String::new(),
            _ => format!(", and {} kB of slugs with it", expired.bytes.div_ceil(1024)),
        };
        let text = format!("{which} (keep_releases is {keep}){freed}");
        self.log_as(app_id, LogSource::Heroku, "api", &Story::Other(text));
        Ok(expired.slugs > 0)
    }

    /// Takes the tarball of a request's body into `cache`, at most `slug_limit` bytes with the `expected` digest if there is
    /// one; `stored` notes in the store what has come, and answers. Until then nothing removes the tarball.
    ///
    /// # Errors
    /// When the expected digest is none.
    fn take_tarball(
        &self,
        cache: &Arc<SlugCache>,
        expected: Option<&str>,
        stored: impl FnOnce(&mut Store, Received) -> Answer + Send + 'static,
    ) -> Result<Slow, ApiError> {
        let expected = expected.map(slugs::digest).transpose()?;
        let (cache, limit) = (Arc::clone(cache), self.settings.slug_limit);
        Ok(Slow::new(move |body| {
            let received = cache.receive(body, expected.as_ref(), limit);
            move |records: &mut Self| {
                let received = received.map_err(worker_error);
                let answer = received.and_then(|(it, _lease)| stored(&mut records.store, it));
                Outcome::Answer(answer)
            }
        }))
    }

    fn append_to_log(&self, app_id: &str, source: LogSource, process: &str, text: &str) {
        let mut line = Vec::new();
        log_line::append(
            &mut line,
            Timestamp::now(),
            source,
            process,
            text.as_bytes(),
        );
        let folder = self.log_folder(app_id);
        if let Err(error) = LogWriter::open(&folder, self.log_limits())
            .and_then(|log| log.with_patience(PATIENCE).append(&line))
        {
            tell!("cannot log to `{}`: {error}", folder.display());
        }
    }
}

/// A part of a list that is ordered by `attribute`: which members it begins and ends with is in `ends`. It says how to
/// go on if there are `more`.
pub fn part(
    range: &Range<'_>,
    attribute: &str,
    ends: Option<(&str, &str)>,
    more: bool,
    members: &impl Serialize,
) -> Response {
    let response = Response::json(if more { 206 } else { 200 }, members)
        .with("Accept-Ranges", attribute.to_owned());
    let Some((first, last)) = ends else {
        return response;
    };
    let content = format!("{attribute} {first}..{last}; max={}", range.max);
    let response = response.with("Content-Range", content);
    match more {
        true => response.with("Next-Range", range.after(attribute, last).to_string()),
        false => response,
    }
}

/// Slow work on the state or the slugs: a worker performs it, and then the loop ends it and answers.
pub struct Slow(Box<dyn FnOnce(&mut BodyReader) -> SlowEnd + Send>);

/// What the loop does when a worker has done its part.
type SlowEnd = Box<dyn FnOnce(&mut Records) -> Outcome + Send>;

/// What comes of slow work.
pub enum Outcome {
    /// The answer.
    Answer(Answer),
    /// More of it.
    Slow(Slow),
}

impl Slow {
    /// Work on the rest of a request's body, which returns what the loop does then.
    pub fn new<D>(work: impl FnOnce(&mut BodyReader) -> D + Send + 'static) -> Self
    where
        D: FnOnce(&mut Records) -> Outcome + Send + 'static,
    {
        Self(Box::new(move |body| Box::new(work(body))))
    }

    /// The work as a reply of an application whose records `records` finds.
    pub fn reply<A: Application>(self, records: fn(&mut A) -> &mut Records) -> Reply<A> {
        Reply::worker(move |body| {
            let end = (self.0)(body);
            move |app: &mut A, _: &mut Ctx<A>| match end(records(app)) {
                Outcome::Answer(answer) => Reply::Now(response(answer)),
                Outcome::Slow(more) => more.reply(records),
            }
        })
    }
}

/// The response to a request, done or failed.
pub fn response(answer: Answer) -> Response {
    answer.unwrap_or_else(|error| Response::json(error.status(), &error))
}

/// The reply to a request that may have failed before it came to the slow part.
pub fn reply<A: Application>(result: Result<Reply<A>, ApiError>) -> Reply<A> {
    result.unwrap_or_else(|error| Reply::Now(response(Err(error))))
}

/// What a worker's failure is to the client: its own fault if there is advice for it.
pub fn worker_error(error: anyhow::Error) -> ApiError {
    match error.downcast::<UserError>() {
        Ok(error) => error.into(),
        Err(error) => ApiError::internal(format!("{error:#}")),
    }
}
