//! Handlers of sources: places for tarballs that are to be built.
//!
//! Each is kept for an hour, or longer if its build is still to run. The files are named by their digests, as slugs' are.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::api::ApiError;
use crate::api::build::source_path;
use crate::api::source::Source;
use crate::server::records::slugs::BLOB_TIME;
use crate::server::records::{Answer, Asker, Records, Slow};
use crate::store::Result as StoreResult;
use crate::wire::http::Response;

/// How long a source is kept (Heroku's).
const KEPT: SignedDuration = SignedDuration::from_hours(1);

/// How many sources are kept at once.
const MOST: u32 = 200;

/// `POST /sources`
pub fn create(records: &mut Records, asker: &Asker, now: Timestamp) -> Answer {
    records.store.forget_sources_before(now - KEPT)?;
    let source = records.store.create_source(MOST, now)?;
    Ok(Response::json(201, &resource(records, asker, &source.id)))
}

/// `PUT /sources/ID/blob`: takes the tarball in, and is answered when it is safe on disk.
pub fn upload(records: &Records, id: &str, asker: &Asker) -> Result<Slow, ApiError> {
    let source = records.store.source(id)?;
    let resource = resource(records, asker, &source.id);
    let (cache, expected) = (&records.sources, source.digest.as_deref());
    records.take_tarball(cache, expected, move |store, received| {
        store.source_uploaded(&source.id, &received.id.to_string())?;
        Ok(Response::json(200, &resource))
    })
}

/// The digests of the tarballs that are still to be kept; sources that are too old are forgotten.
pub fn kept(records: &mut Records, now: Timestamp) -> StoreResult<BTreeSet<String>> {
    records.store.forget_sources_before(now - KEPT)?;
    records.store.source_digests()
}

/// `DELETE /sources/ID`: it is forgotten, unless it is still to be built.
pub fn forget(records: &mut Records, id: &str, asker: &Asker) -> Answer {
    let source = records.store.source(id)?;
    records.store.forget_source(id)?;
    Ok(Response::json(200, &resource(records, asker, &source.id)))
}

fn resource(records: &Records, asker: &Asker, id: &str) -> Source {
    let target = source_path(id);
    let url = |method| records.signed_url(asker, method, &target, BLOB_TIME);
    Source::new(url("PUT"), url("GET"))
}
