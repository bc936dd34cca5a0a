//! Handlers of releases.

use jiff::Timestamp;

use crate::api::range::Range;
use crate::api::release::{CreateRelease, Origin, PackedFolder};
use crate::api::{ApiError, LocalField, Sender};
use crate::error::tell;
use crate::kernel::fail_point;
use crate::model::log_line::Story;
use crate::model::release::{self, ReleaseStatus, Version};
use crate::server::builds::compile::Running;
use crate::server::records::formation;
use crate::server::records::slugs::digest;
use crate::server::records::{Answer, Asker, Outcome, Records, Slow, part, worker_error};
use crate::slug::{self, DEFAULT_LEVEL, Lease, ReleaseBefore, SlugCache, SlugId};
use crate::store::{NewRelease, NewSlug, PackedFrom, Store, StoreError};
use crate::wire::http::Response;

/// `GET /apps/A/releases`: the oldest first, as Heroku lists them, unless `range` asks for another
/// order (`version ..; order=desc, max=10`).
pub fn list(records: &Records, app: &str, range: &str, asker: &Asker) -> Answer {
    let app = records.store.app(app)?;
    let range = Range::parse(range)?;
    let (low, high) = range.numbers("version")?;
    let versions = Version(low)..=Version(high);
    let (releases, more) =
        records
            .store
            .release_page(&app.id, versions, range.descending, range.max)?;
    let number = |release: Option<&release::Release>| Some(release?.version.0.to_string());
    let ends = number(releases.first()).zip(number(releases.last()));
    let ends = ends.as_ref().map(|(first, last)| (&**first, &**last));
    let resources: Vec<_> = releases
        .iter()
        .map(|release| records.release_resource(release, asker))
        .collect();
    Ok(part(&range, "version", ends, more, &resources))
}

/// `GET /apps/A/releases/V`
pub fn info(records: &Records, app: &str, release: &str, asker: &Asker) -> Answer {
    let app = records.store.app(app)?;
    let release = records.store.release(&app.id, release)?;
    Ok(Response::json(
        200,
        &records.release_resource(&release, asker),
    ))
}

/// `GET /apps/A/releases/V/config-vars`
pub fn config(records: &Records, app: &str, release: &str) -> Answer {
    let app = records.store.app(app)?;
    let release = records.store.release(&app.id, release)?;
    let config = records.store.release_config(&release.id)?;
    Ok(Response::json(200, &config))
}

/// `POST /apps/A/releases`: a deploy or a rollback.
///
/// The slug is unpacked before the release is made: so a slug that is none never becomes a release,
/// and the first dyno starts as fast as any. Where its files say by their times that visitors need not fetch what is other
/// than it was, as all of a rollback do, the release is of one with other times.
pub fn create(
    records: &Records,
    app: &str,
    body: &[u8],
    sender: Sender,
    asker: Asker,
) -> Result<Slow, ApiError> {
    let request = Wanted::of(CreateRelease::parse(body, sender)?);
    let app = records.store.app(app)?;
    let slug = match &request {
        Wanted::Deploy(new) => records.slug(&new.slug_id, &asker)?,
        Wanted::Rollback(release) => {
            let release = records.store.release(&app.id, release)?;
            if release.status == ReleaseStatus::Expired {
                return Err(StoreError::Expired(release.app_name, release.version).into());
            }
            let (version, slug) = (release.version, release.slug_id);
            let slug = slug.ok_or(StoreError::NotEligible(release.app_name, version))?;
            records.store.slug(&slug)?
        }
    };
    if !slug.uploaded {
        return Err(StoreError::NotUploaded(slug.id).into());
    }
    let digest = digest(slug.digest.as_deref().unwrap_or_default())?;
    let cache = records.slugs.clone();
    let before = running(records, &app.id);
    Ok(Slow::new(move |_| {
        let unpacked = cache.ensure_tree(&digest).map(|lease| {
            let dated = before.and_then(|before| dated_after(&cache, &digest, &before));
            (lease, dated)
        });
        move |records: &mut Records| {
            let dated = match unpacked {
                Ok((_, dated)) => dated,
                Err(error) => {
                    let why = worker_error(error);
                    return Outcome::Slow(discard(records, &slug.id, digest, why));
                }
            };
            let release = || -> Answer {
                let were_wanted = formation::is_wanted(records, &app.id);
                let Records { store, account, .. } = records;
                let now = Timestamp::now();
                let slug = match &dated {
                    Some((packed, _)) => Some(like(store, &app.id, slug, packed, now)?),
                    None => None,
                };
                let release = make(store, &app.id, request, slug, &account.email, now)?;
                announce(records, &release, were_wanted);
                Ok(Response::json(
                    201,
                    &records.release_resource(&release, &asker),
                ))
            };
            Outcome::Answer(release())
        }
    }))
}

/// What an app runs when a release is about to be made, if anything.
pub fn running(records: &Records, app_id: &str) -> Option<Running> {
    let release = records.store.current_release(app_id).ok()?;
    Some(Running {
        slug: release.digest?.parse().ok()?,
        released_at: u64::try_from(release.created_at.as_second()).unwrap_or(0),
        has_dynos: formation::quantities(records, app_id)
            .iter()
            .any(|(_, quantity)| *quantity > 0),
    })
}

/// See [`SlugCache::dated_after`]. A slug that cannot be packed with other times runs with its own: visitors may see old
/// pages then, which is better than no release.
fn dated_after(
    cache: &SlugCache,
    slug: &SlugId,
    before: &Running,
) -> Option<(slug::Packed, Lease)> {
    if before.slug == *slug {
        return None;
    }
    let dated = cache.ensure_tree(&before.slug).and_then(|lease| {
        let released = ReleaseBefore {
            tree: lease.tree(),
            at: before.released_at,
        };
        cache.dated_after(slug, released, DEFAULT_LEVEL)
    });
    dated.unwrap_or_else(|error| {
        tell!("cannot date the files of a release: {error:#}");
        None
    })
}

/// A slug that is as `slug` but for its tarball. Returns its id.
fn like(
    store: &mut Store,
    app_id: &str,
    slug: release::Slug,
    tarball: &slug::Packed,
    now: Timestamp,
) -> Result<String, StoreError> {
    let digest = tarball.id.to_string();
    let new = NewSlug {
        process_types: slug.process_types,
        digest: Some(digest.clone()),
        commit: slug.commit,
        commit_description: slug.commit_description,
    };
    let slug = store.create_slug(app_id, &new, now)?;
    store.slug_uploaded(&slug.id, &digest, tarball.packed_bytes, now)?;
    Ok(slug.id)
}

/// Logs a release that was just made, and has the rest of the server take notice of it. `were_wanted`: whether the app
/// had dynos before.
pub fn announce(records: &mut Records, release: &release::Release, were_wanted: bool) {
    fail_point::reach("release.made");
    let app_id = &release.app_id;
    records.log(app_id, Story::parse(&release.description));
    records.log(app_id, Story::ReleaseCreated(release.version));
    formation::log_first(records, app_id, were_wanted);
    records.released.push(app_id.clone());
}

/// What could not be unpacked is no slug, and nothing of it stays when that is told; unless it was one when another
/// release was made of it, and only the disk is full now.
fn discard(records: &mut Records, slug: &str, digest: SlugId, why: ApiError) -> Slow {
    let kept = records
        .store
        .discard_slug(slug)
        .and_then(|()| records.store.kept_digests());
    let unused = kept.is_ok_and(|kept| !kept.contains(&digest.to_string()));
    let cache = records.slugs.clone();
    Slow::new(move |_| {
        if unused && let Err(error) = cache.remove(&digest) {
            tell!("cannot remove what was no slug: {error:#}");
        }
        move |_: &mut Records| Outcome::Answer(Err(why))
    })
}

/// The release that is to be made of a deploy that comes from there; its slug is not known yet.
pub fn new_release(origin: Origin) -> NewRelease {
    NewRelease {
        toolchains: origin.toolchains.map(LocalField::into_inner),
        without_web: origin.without_web,
        packed: origin.folder.map(|packed| {
            let PackedFolder { folder, packed_at } = packed.into_inner();
            let at = packed_at.0;
            PackedFrom { folder, at }
        }),
        ..NewRelease::default()
    }
}

/// What a request for a release wants.
enum Wanted {
    /// A release of a slug.
    Deploy(NewRelease),
    /// One like the release of this id or version.
    Rollback(String),
}

impl Wanted {
    fn of(request: CreateRelease) -> Self {
        match request {
            CreateRelease::Rollback { release } => Self::Rollback(release),
            CreateRelease::Deploy(deploy) => {
                let new = new_release(deploy.origin);
                Self::Deploy(NewRelease {
                    slug_id: deploy.slug,
                    description: deploy.description,
                    toolchains: Some(new.toolchains.unwrap_or_default()),
                    ..new
                })
            }
        }
    }
}

/// Makes the release that is wanted; of the slug `other` rather, if there is one.
fn make(
    store: &mut Store,
    app_id: &str,
    wanted: Wanted,
    other: Option<String>,
    user: &str,
    now: Timestamp,
) -> Result<release::Release, StoreError> {
    match wanted {
        Wanted::Rollback(release) => store.rollback(app_id, &release, other, user, now),
        Wanted::Deploy(new) => {
            let new = NewRelease {
                slug_id: other.unwrap_or(new.slug_id),
                ..new
            };
            store.create_release(app_id, &new, user, now)
        }
    }
}
