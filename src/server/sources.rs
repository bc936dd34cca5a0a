//! Handlers of sources: places for tarballs that are to be built.
//!
//! Each is kept for an hour, or longer if its build is still to run. The files are named by their digests, as slugs' are.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::application::{Application, Ctx, Reply, Request};
use super::host::{Answer, Host, response, worker_error};
use super::slugs::{BLOB_TIME, digest as parsed};
use crate::api::ApiError;
use crate::api::build::source_path;
use crate::api::source::Source;
use crate::slug::SlugId;
use crate::store::Result as StoreResult;
use crate::wire::http::Response;

/// How long a source is kept (Heroku's).
const KEPT: SignedDuration = SignedDuration::from_hours(1);

/// How many sources are kept at once.
const MOST: u32 = 200;

/// `POST /sources`
pub fn create(host: &mut Host, asked: &Request, now: Timestamp) -> Answer {
    host.store.forget_sources_before(now - KEPT)?;
    let source = host.store.create_source(MOST, now)?;
    Ok(Response::json(201, &resource(host, asked, &source.id)))
}

/// `PUT /sources/ID/blob`: takes the tarball in, and is answered when it is safe on disk.
pub fn upload<A: Application + AsMut<Host>>(
    host: &mut Host,
    asked: &Request,
    id: &str,
) -> Result<Reply<A>, ApiError> {
    let source = host.store.source(id)?;
    let resource = resource(host, asked, &source.id);
    let expected: Option<SlugId> = source.digest.as_deref().map(parsed).transpose()?;
    let (cache, limit) = (host.sources.clone(), host.settings.slug_limit);
    Ok(Reply::worker(move |body| {
        let received = cache.receive(body, expected.as_ref(), limit);
        move |server: &mut A, _: &mut Ctx<A>| {
            let answer = received
                .map_err(worker_error)
                .and_then(|(received, _lease)| {
                    let digest = received.id.to_string();
                    let store = &mut server.as_mut().store;
                    store.source_uploaded(&source.id, &digest)?;
                    Ok(Response::json(200, &resource))
                });
            Reply::Now(response(answer))
        }
    }))
}

/// The digests of the tarballs that are still to be kept; sources that are too old are forgotten.
pub fn kept(host: &mut Host, now: Timestamp) -> StoreResult<BTreeSet<String>> {
    host.store.forget_sources_before(now - KEPT)?;
    host.store.source_digests()
}

/// `DELETE /sources/ID`: whoever made it needs it no more. One that is still to be built stays.
pub fn remove(host: &mut Host, asked: &Request, id: &str) -> Answer {
    let source = host.store.source(id)?;
    host.store.forget_source(id)?;
    Ok(Response::json(200, &resource(host, asked, &source.id)))
}

fn resource(host: &Host, asked: &Request, id: &str) -> Source {
    let target = source_path(id);
    let url = |method| host.signed_url(asked, method, &target, BLOB_TIME);
    Source::new(url("PUT"), url("GET"))
}
