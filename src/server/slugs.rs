//! Handlers of slugs.

use jiff::Timestamp;

use super::application::{Application, Ctx, Reply};
use super::host::{Answer, Host, response, worker_error};
use crate::api::ApiError;
use crate::api::slug::{CreateSlug, Slug};
use crate::http::Response;
use crate::release;
use crate::slug::SlugId;
use crate::store::NewSlug;

/// `POST /apps/A/slugs`
pub fn create(host: &mut Host, app: &str, body: &[u8], now: Timestamp) -> Answer {
    let request = CreateSlug::parse(body)?;
    let app = host.store.app(app)?;
    let session = host.store.session_of(&app.id)?;
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
    let slug = host.store.create_slug(&app.id, &new, now)?;
    Ok(Response::json(201, &resource(&slug, &app.id)))
}

/// `GET /apps/A/slugs/ID`
pub fn info(host: &Host, app: &str, id: &str) -> Answer {
    let (app, slug) = (host.store.app(app)?, host.store.slug(id)?);
    Ok(Response::json(200, &resource(&slug, &app.id)))
}

/// `PUT /apps/A/slugs/ID/blob`: takes the tarball in, and is answered when it is safe on disk.
pub fn upload<A: Application + AsMut<Host>>(
    host: &mut Host,
    app: &str,
    id: &str,
) -> Result<Reply<A>, ApiError> {
    let (app, slug) = (host.store.app(app)?, host.store.slug(id)?);
    let expected: Option<SlugId> = slug.digest.as_deref().map(digest).transpose()?;
    let (cache, limit) = (host.slugs.clone(), host.settings.slug_limit);
    Ok(Reply::worker(move |body| {
        let received = cache.receive(body, expected.as_ref(), limit);
        move |server: &mut A, _: &mut Ctx<A>| {
            let answer = received.map_err(worker_error).and_then(|received| {
                let digest = received.id.to_string();
                let store = &mut server.as_mut().store;
                let slug =
                    store.slug_uploaded(&slug.id, &digest, received.bytes, Timestamp::now())?;
                Ok(Response::json(200, &resource(&slug, &app.id)))
            });
            Reply::Now(response(answer))
        }
    }))
}

/// A digest of the store, as the slugs' files know it.
pub(super) fn digest(text: &str) -> Result<SlugId, ApiError> {
    text.parse()
        .map_err(|error| ApiError::internal(format!("the state has a bad digest: {error}")))
}

fn resource(slug: &release::Slug, app_id: &str) -> Slug {
    Slug::new(slug, format!("/apps/{app_id}/slugs/{}/blob", slug.id))
}
