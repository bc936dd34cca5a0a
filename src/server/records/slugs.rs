//! Handlers of slugs.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::ApiError;
use crate::api::slug::{CreateSlug, Slug};
use crate::model::release;
use crate::server::records::{Answer, Asker, Records, Slow};
use crate::slug::SlugId;
use crate::store::NewSlug;
use crate::wire::http::Response;

/// How long the address of a tarball is good.
pub const BLOB_TIME: Duration = Duration::from_secs(3600);

/// `POST /apps/A/slugs`
pub fn create(
    records: &mut Records,
    app: &str,
    body: &[u8],
    asker: &Asker,
    now: Timestamp,
) -> Answer {
    let request = CreateSlug::parse(body)?;
    let app = records.store.app(app)?;
    let session = records.store.session_of(&app.id)?;
    if session.is_some_and(|session| session.live) {
        let message = format!("`{}` runs in its folder itself, without a slug", app.name);
        return Err(ApiError::invalid(message).hint(
            "changes of the folder are seen at once; `dyno deploy -a NAME` deploys it to another app",
        ));
    }
    let new = NewSlug {
        process_types: request.process_types,
        digest: request.digest,
        commit: request.commit,
        commit_description: request.commit_description,
    };
    let slug = records.store.create_slug(&app.id, &new, now)?;
    Ok(Response::json(
        201,
        &resource(records, asker, &slug, &app.id),
    ))
}

/// `GET /apps/A/slugs/ID`
pub fn info(records: &Records, app: &str, id: &str, asker: &Asker) -> Answer {
    let (app, slug) = (records.store.app(app)?, records.slug(id, asker)?);
    Ok(Response::json(
        200,
        &resource(records, asker, &slug, &app.id),
    ))
}

/// `PUT /apps/A/slugs/ID/blob`: takes the tarball in, and is answered when it is safe on disk.
pub fn upload(records: &Records, app: &str, id: &str, asker: &Asker) -> Result<Slow, ApiError> {
    let (app, slug) = (records.store.app(app)?, records.slug(id, asker)?);
    // Where it can be downloaded from then on.
    let url = blob(records, asker, "GET", &app.id, &slug.id);
    let (cache, expected) = (&records.slugs, slug.digest.as_deref());
    records.take_tarball(cache, expected, move |store, received| {
        let (digest, now) = (received.id.to_string(), Timestamp::now());
        let slug = store.slug_uploaded(&slug.id, &digest, received.bytes, now)?;
        Ok(Response::json(200, &Slug::new(&slug, url)))
    })
}

/// A digest of the store, as the slugs' files know it.
pub fn digest(text: &str) -> Result<SlugId, ApiError> {
    text.parse()
        .map_err(|error| ApiError::internal(format!("the state has a bad digest: {error}")))
}

fn resource(records: &Records, asker: &Asker, slug: &release::Slug, app_id: &str) -> Slug {
    let method = if slug.uploaded { "GET" } else { "PUT" };
    Slug::new(slug, blob(records, asker, method, app_id, &slug.id))
}

/// The address to which a slug's tarball is uploaded, or from which it is downloaded.
fn blob(records: &Records, asker: &Asker, method: &str, app_id: &str, slug: &str) -> String {
    let target = format!("/apps/{app_id}/slugs/{slug}/blob");
    records.signed_url(asker, method, &target, BLOB_TIME)
}
