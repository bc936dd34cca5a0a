//! Handlers of apps and their folders.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use jiff::Timestamp;

use crate::api::app::{CreateApp, UpdateApp};
use crate::api::ask::LinkAsk;
use crate::api::buildpack::{BuildpackInstallation, UpdateBuildpacks};
use crate::api::feature::{AppFeature, RUNTIME_METRICS, UpdateFeature};
use crate::api::link::{CreateLink, Link};
use crate::api::range::Range;
use crate::api::{ApiError, LocalField, Sender};
use crate::error::shown;
use crate::model::app::{App, AppName, Folder};
use crate::model::buildpack::address::Buildpack;
use crate::model::log_line::Story;
use crate::model::network::NetworkChoice;
use crate::model::release::{ReleaseChange, Version};
use crate::server::builds::pack_folder;
use crate::server::records::{Answer, Asker, Records, part};
use crate::store::WantedName;
use crate::wire::http::Response;

/// `GET /apps` and `GET /users/U/apps`, by name: those that are there for the asker.
pub fn list(records: &Records, range: &str, asker: &Asker) -> Answer {
    let range = Range::parse(range)?;
    let apps = records.store.apps()?.into_iter();
    let apps = apps.filter(|app| asker.sees(&app.id));
    let (apps, more) = range.select(apps.collect(), |app| app.name.as_str());
    let resources: Vec<_> = apps.iter().map(|app| records.resource(app)).collect();
    let names = apps.first().zip(apps.last());
    let names = names.map(|(first, last)| (first.name.as_str(), last.name.as_str()));
    Ok(part(&range, "name", names, more, &resources))
}

/// `POST /apps`: named as asked, else after the folder, else anything.
pub fn create(records: &mut Records, body: &[u8], sender: Sender, now: Timestamp) -> Answer {
    let request = CreateApp::parse(body, sender)?;
    let folder = request.folder.map(LocalField::into_inner);
    if let (true, Some(folder)) = (request.unless_linked, &folder)
        && let Some(link) = records.store.linked_app(std::slice::from_ref(folder))?
    {
        return Ok(Response::json(200, &records.resource(&link.app)));
    }
    let wish = match (request.name, &folder) {
        (Some(name), _) => WantedName::Exactly(name),
        (None, Some(folder)) => {
            let name = Path::new(&folder.path).file_name().unwrap_or_default();
            WantedName::Like(AppName::from_folder(&name.to_string_lossy()))
        }
        (None, None) => WantedName::Any,
    };
    let app = records
        .store
        .create_app(&wish, &records.account.email, folder.as_ref(), now)?;
    let initial = ReleaseChange::Initial.to_string();
    records.log(&app.id, Story::Other(initial));
    records.log(&app.id, Story::ReleaseCreated(Version(1)));
    records.released.push(app.id.clone());
    Ok(Response::json(201, &records.resource(&app)))
}

/// `GET /apps/A`
pub fn info(records: &Records, app: &str) -> Answer {
    let app = records.store.app(app)?;
    Ok(Response::json(200, &records.resource(&app)))
}

/// `PATCH /apps/A`: closes it to visitors, or opens it again; gives it another name, its dynos another network, its source
/// another builder.
pub fn update(records: &mut Records, app: &str, body: &[u8], now: Timestamp) -> Answer {
    let app = records.store.app(app)?;
    let UpdateApp {
        maintenance,
        name,
        network,
        builder,
    } = UpdateApp::parse(body)?;
    let old = app.name.clone();
    // The name first: it may be taken, and then nothing is to have changed.
    let mut app = match name {
        Some(name) => records.store.rename_app(&app.id, &name, now)?,
        None => app,
    };
    if app.name != old {
        let (from, to) = (old, app.name.clone());
        records.log(&app.id, Story::Renamed { from, to });
    }
    if let Some(maintenance) = maintenance {
        app = records.store.set_maintenance(&app.id, maintenance, now)?;
        records.log(&app.id, Story::Maintenance(maintenance));
    }
    if let Some(network) = network {
        let own = match network {
            NetworkChoice::Own(network) => Some(network),
            NetworkChoice::Default => None,
        };
        app = records.store.set_network(&app.id, own, now)?;
        let said = format!("Network {}", network.as_str());
        records.log(&app.id, Story::Other(said));
    }
    if let Some(builder) = builder {
        app = records.store.set_builder(&app.id, builder, now)?;
        records.log(&app.id, Story::Other(format!("Builder {builder}")));
    }
    Ok(Response::json(200, &records.resource(&app)))
}

/// `GET /apps/A/features`
pub fn features(records: &Records, app: &str) -> Answer {
    let app = records.store.app(app)?;
    Ok(Response::json(200, &[AppFeature::runtime_metrics(&app)]))
}

/// `GET /apps/A/features/F`: F is its name or id.
pub fn feature(records: &Records, app: &str, feature: &str) -> Answer {
    let app = records.store.app(app)?;
    Ok(Response::json(200, &known_feature(&app, feature)?))
}

/// `PATCH /apps/A/features/F`: dynos that start from now on have it, or no more.
pub fn update_feature(
    records: &mut Records,
    app: &str,
    feature: &str,
    body: &[u8],
    now: Timestamp,
) -> Answer {
    let app = records.store.app(app)?;
    let feature = known_feature(&app, feature)?;
    let UpdateFeature { enabled } = UpdateFeature::parse(body)?;
    let changed = records.store.set_runtime_metrics(&app.id, enabled, now)?;
    if feature.enabled != enabled {
        let done = if enabled { "Enable" } else { "Disable" };
        records.log(&app.id, Story::Other(format!("{done} {}", feature.name)));
    }
    Ok(Response::json(200, &AppFeature::runtime_metrics(&changed)))
}

/// `GET /apps/A/buildpack-installations`.
pub fn buildpacks(records: &Records, app: &str) -> Answer {
    let app = records.store.app(app)?;
    Ok(Response::json(
        200,
        &BuildpackInstallation::all(&app.buildpacks),
    ))
}

/// `PUT /apps/A/buildpack-installations`: for builds from now on.
pub fn set_buildpacks(
    records: &mut Records,
    app: &str,
    body: &[u8],
    sender: Sender,
    now: Timestamp,
) -> Answer {
    let app = records.store.app(app)?;
    let packs = UpdateBuildpacks::parse(body, sender, &app.buildpacks)?;
    for folder in packs.iter().filter_map(Buildpack::folder) {
        // What is there already a build looks at.
        if !app.buildpacks.iter().any(|it| it == folder) {
            pack_folder::check(Path::new(folder), &records.home).map_err(ApiError::from)?;
        }
    }
    let urls: Vec<_> = packs.iter().map(Buildpack::url).collect();
    let changed = records.store.set_buildpacks(&app.id, &urls, now)?;
    if changed.buildpacks != app.buildpacks {
        let names: Vec<_> = packs.iter().map(Buildpack::name).collect();
        let names = match names.is_empty() {
            true => "(none)".to_owned(),
            false => names.join(", "),
        };
        records.log(&app.id, Story::Other(format!("Buildpacks {names}")));
    }
    buildpacks(records, &app.id)
}

fn known_feature(app: &App, feature: &str) -> Result<AppFeature, ApiError> {
    let known = AppFeature::runtime_metrics(app);
    match known.is(feature) {
        true => Ok(known),
        false => {
            let feature = shown(feature.as_bytes(), 100);
            Err(ApiError::not_found(format!("no feature `{feature}`"))
                .hint(format!("there is `{RUNTIME_METRICS}`")))
        }
    }
}

/// `DELETE /apps/A`: once its dynos have ended.
pub fn destroy(records: &mut Records, app: &str) -> Answer {
    let app = records.store.app(app)?;
    if !records.store.live_dynos(Some(&app.id))?.is_empty() {
        return Err(
            ApiError::invalid(format!("dynos of `{}` are still alive", app.name))
                .hint(format!("`dyno ps -a {}` lists them", app.name)),
        );
    }
    records.store.destroy_app(&app.id)?;
    Ok(Response::json(200, &records.resource(&app)))
}

/// Answers what is asked about the folders of apps.
pub fn answer_links(records: &mut Records, ask: &LinkAsk, body: &[u8], now: Timestamp) -> Answer {
    match ask {
        LinkAsk::Find { path } => linked(records, path.as_deref()),
        LinkAsk::FindMoved { path } => moved(records, path.as_deref()),
        LinkAsk::Link => link(records, body, now),
        LinkAsk::Unlink { path } => unlink(records, path.as_deref()),
    }
}

/// `GET /links?path=…`: the app of a folder, given as a canonical path, or of the nearest one above.
fn linked(records: &Records, path: Option<&str>) -> Answer {
    let path = path
        .filter(|path| path.starts_with('/'))
        .ok_or_else(|| ApiError::invalid("`path` is not an absolute path"))?;
    let folders: Vec<_> = Path::new(path).ancestors().filter_map(folder_at).collect();
    // No link is an answer: `null`.
    let link = records.store.linked_app(&folders)?;
    let link = link.map(|link| Link::new(&link, &records.account, &records.places));
    Ok(Response::json(200, &link))
}

/// `GET /links/moved?path=…`: the link that a folder had under another path, before it was moved or renamed.
fn moved(records: &Records, path: Option<&str>) -> Answer {
    let found = || -> Option<_> {
        let path = Path::new(path?);
        let here = folder_at(path)?;
        let born = fs::symlink_metadata(path).ok()?.created().ok()?;
        let links = records.store.links_of_number(&here).ok()?;
        let moved = links.into_iter().find(|(_, old, linked_at)| {
            // Numbers are used again: a folder that was made after the link is another.
            let is_gone = folder_at(Path::new(&old.path)).as_ref() != Some(old);
            is_gone && born <= SystemTime::from(*linked_at)
        });
        moved.map(|(link, ..)| Link::new(&link, &records.account, &records.places))
    };
    Ok(Response::json(200, &found()))
}

/// `PUT /links`: links a folder to an app, and to no other.
fn link(records: &mut Records, body: &[u8], now: Timestamp) -> Answer {
    let request = CreateLink::parse(body)?;
    let app = records.store.app(&request.app)?;
    records.store.link_folder(&app.id, &request.folder, now)?;
    Ok(Response::json(200, &records.resource(&app)))
}

/// `DELETE /links?path=…`: links the folder of this path to no app.
fn unlink(records: &mut Records, path: Option<&str>) -> Answer {
    let path = path.ok_or_else(|| ApiError::invalid("`path` is missing"))?;
    match records.store.unlink_folder(path)? {
        true => Ok(Response::json(200, &())),
        false => Err(ApiError::not_found(format!("`{path}` is linked to no app"))),
    }
}

/// The folder at `path`; none if there is none, or none to be seen.
fn folder_at(path: &Path) -> Option<Folder> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some(Folder {
        path: path.to_str()?.to_owned(),
        device: metadata.dev(),
        inode: metadata.ino(),
    })
}
