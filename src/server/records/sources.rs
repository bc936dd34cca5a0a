//! Handlers of sources: places for tarballs that are to be built.
//!
//! Each is kept for an hour, or longer if its build is still to run. The files are named by their digests, as slugs' are.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::api::ApiError;
use crate::api::build::source_path;
use crate::api::source::Source;
use crate::server::records::slugs::{BLOB_TIME, digest as parsed};
use crate::server::records::{Answer, Host, Outcome, Slow, worker_error};
use crate::slug::SlugId;
use crate::store::Result as StoreResult;
use crate::wire::http::Response;

/// How long a source is kept (Heroku's).
const KEPT: SignedDuration = SignedDuration::from_hours(1);

/// How many sources are kept at once.
const MOST: u32 = 200;

/// `POST /sources`
pub fn create(host: &mut Host, base: &str, now: Timestamp) -> Answer {
    host.store.forget_sources_before(now - KEPT)?;
    let source = host.store.create_source(MOST, now)?;
    Ok(Response::json(201, &resource(host, base, &source.id)))
}

/// `PUT /sources/ID/blob`: takes the tarball in, and is answered when it is safe on disk.
pub fn upload(host: &Host, id: &str, base: &str) -> Result<Slow, ApiError> {
    let source = host.store.source(id)?;
    let resource = resource(host, base, &source.id);
    let expected: Option<SlugId> = source.digest.as_deref().map(parsed).transpose()?;
    let (cache, limit) = (host.sources.clone(), host.settings.slug_limit);
    Ok(Slow::new(move |body| {
        let received = cache.receive(body, expected.as_ref(), limit);
        move |host: &mut Host| {
            let answer = received
                .map_err(worker_error)
                .and_then(|(received, _lease)| {
                    let digest = received.id.to_string();
                    let store = &mut host.store;
                    store.source_uploaded(&source.id, &digest)?;
                    Ok(Response::json(200, &resource))
                });
            Outcome::Answer(answer)
        }
    }))
}

/// The digests of the tarballs that are still to be kept; sources that are too old are forgotten.
pub fn kept(host: &mut Host, now: Timestamp) -> StoreResult<BTreeSet<String>> {
    host.store.forget_sources_before(now - KEPT)?;
    host.store.source_digests()
}

/// `DELETE /sources/ID`: it is forgotten, unless it is still to be built.
pub fn forget(host: &mut Host, id: &str, base: &str) -> Answer {
    let source = host.store.source(id)?;
    host.store.forget_source(id)?;
    Ok(Response::json(200, &resource(host, base, &source.id)))
}

fn resource(host: &Host, base: &str, id: &str) -> Source {
    let target = source_path(id);
    let url = |method| host.signed_url(base, method, &target, BLOB_TIME);
    Source::new(url("PUT"), url("GET"))
}
