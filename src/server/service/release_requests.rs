//! Requests about releases, and about the tarballs that they are made of.

use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;

use super::Service;
use crate::api::ApiError;
use crate::api::ask::{ReleaseAsk, SlugAsk, SourceAsk};
use crate::error::tell;
use crate::server::api_loop::application::{Ctx, Recipient, Reply, Request};
use crate::server::logs;
use crate::server::records::Asker;
use crate::server::records::releases;
use crate::server::records::slugs;
use crate::server::records::slugs::digest;
use crate::server::records::sources;
use crate::store::StoreError;

/// The media type of a tarball.
const TARBALL: &str = "application/gzip";

impl Service {
    /// Answers what is asked about releases.
    pub(super) fn release_request(
        &mut self,
        ask: &ReleaseAsk,
        request: &Request,
        ctx: &mut Ctx<Self>,
    ) -> Result<Reply<Self>, ApiError> {
        let records = &self.records;
        let asker = records.asker(request.caller());
        let answer = match ask {
            ReleaseAsk::List { app } => releases::list(records, app, request.range(), &asker),
            ReleaseAsk::Info { app, release } => releases::info(records, app, release, &asker),
            ReleaseAsk::Config { app, release } => releases::config(records, app, release),
            ReleaseAsk::Output { app, release } => {
                let to = request.recipient();
                let reading = logs::read_output(records, &self.logs, to, app, release)?;
                return Ok(self.begin_to_read(reading, ctx));
            }
            ReleaseAsk::Create { app } => {
                let sender = request.via.sender();
                let slow = releases::create(records, app, &request.body, sender, asker)?;
                self.evict(ctx);
                return Ok(slow.reply(Self::records));
            }
        };
        answer.map(Reply::Now)
    }

    /// Answers what is asked about slugs.
    pub(super) fn slug_request(
        &mut self,
        ask: &SlugAsk,
        request: &Request,
    ) -> Result<Reply<Self>, ApiError> {
        let records = &mut self.records;
        let asker = records.asker(request.caller());
        let answer = match ask {
            SlugAsk::Create { app } => {
                slugs::create(records, app, &request.body, &asker, Timestamp::now())
            }
            SlugAsk::Info { app, slug } => slugs::info(records, app, slug, &asker),
            SlugAsk::Upload { app, slug } => {
                let slow = slugs::upload(records, app, slug, &asker)?;
                return Ok(slow.reply(Self::records));
            }
            SlugAsk::Download { app, slug } => {
                return self.slug_tarball(app, slug, &asker, request.recipient());
            }
        };
        answer.map(Reply::Now)
    }

    /// Answers what is asked about sources.
    pub(super) fn source_request(
        &mut self,
        ask: &SourceAsk,
        request: &Request,
        ctx: &mut Ctx<Self>,
    ) -> Result<Reply<Self>, ApiError> {
        let records = &mut self.records;
        let asker = records.asker(request.caller());
        let answer = match ask {
            SourceAsk::Create => sources::create(records, &asker, Timestamp::now()),
            SourceAsk::Upload { source } => {
                let slow = sources::upload(records, source, &asker)?;
                return Ok(slow.reply(Self::records));
            }
            SourceAsk::Download { source } => {
                return self.source_tarball(source, request.recipient());
            }
            SourceAsk::Forget { source } => {
                let answer = sources::forget(records, source, &asker);
                self.sweep_sources(ctx);
                answer
            }
        };
        answer.map(Reply::Now)
    }

    fn slug_tarball(
        &mut self,
        app: &str,
        id: &str,
        asker: &Asker,
        to: Recipient,
    ) -> Result<Reply<Self>, ApiError> {
        self.records.store.app(app)?;
        let slug = self.records.slug(id, asker)?;
        let uploaded = slug.digest.filter(|_| slug.uploaded);
        let uploaded = uploaded.ok_or_else(|| StoreError::NotUploaded(slug.id))?;
        let path = self.records.slugs.tarball(&digest(&uploaded)?);
        self.send_file(to, &path, 0, None, TARBALL)
    }

    fn source_tarball(&mut self, id: &str, to: Recipient) -> Result<Reply<Self>, ApiError> {
        let source = self.records.store.source(id)?;
        let uploaded = source.digest.ok_or(StoreError::SourceNotUploaded)?;
        let path = self.records.sources.tarball(&digest(&uploaded)?);
        self.send_file(to, &path, 0, None, TARBALL)
    }

    /// Removes the slugs that belong to no release any more.
    pub(super) fn sweep_slugs(&self, ctx: &mut Ctx<Self>) {
        let (cache, kept) = (
            Arc::clone(&self.records.slugs),
            self.records.store.kept_digests(),
        );
        let as_of = SystemTime::now();
        ctx.work_and_forget(move || {
            if let Ok(kept) = kept
                && let Err(error) = cache.remove_all_but(&kept, as_of)
            {
                tell!("cannot remove slugs that belong to nobody: {error:#}");
            }
        });
    }

    /// Removes the tarballs of sources that are not needed any more.
    pub(super) fn sweep_sources(&mut self, ctx: &mut Ctx<Self>) {
        let (cache, as_of) = (Arc::clone(&self.records.sources), SystemTime::now());
        let kept = sources::kept(&mut self.records, Timestamp::now());
        ctx.work_and_forget(move || {
            if let Ok(kept) = kept
                && let Err(error) = cache.remove_all_but(&kept, as_of)
            {
                tell!("cannot remove sources that are too old: {error:#}");
            }
        });
    }

    /// Removes trees that no dyno runs on, so that newer ones have room.
    pub(super) fn evict(&mut self, ctx: &mut Ctx<Self>) {
        // Nor does one that has only been prepared.
        self.dynos.forget_next(ctx.reactor());
        let (cache, limit) = (
            Arc::clone(&self.records.slugs),
            self.records.settings.cache_limit,
        );
        ctx.work_and_forget(move || {
            if let Err(error) = cache.evict(limit) {
                tell!("cannot make room among the slugs: {error:#}");
            }
        });
    }

    /// Lets the app's releases expire that are too old to keep, and removes what was theirs alone.
    pub(super) fn expire_releases(&mut self, app_id: &str, ctx: &mut Ctx<Self>) {
        match self.records.expire_releases(app_id) {
            Ok(false) => {}
            Ok(true) => self.sweep_slugs(ctx),
            Err(error) => tell!("cannot let old releases expire: {error}"),
        }
    }
}
