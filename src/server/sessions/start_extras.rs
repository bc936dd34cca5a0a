//! What the dynos of a `dyno start` have that no other app's have: ports that are known beforehand, the variables of
//! `.env`, and, unless a slug is wanted, the folder itself.
//!
//! In memory alone. A server that comes after this one is told anew by the command, which has read the file.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::api::ApiError;
use crate::api::session::fixed_port;
use crate::model::dyno::{DynoName, Isolation};
use crate::sandbox::offer::{ChosenIsolation, DynoIds};
use crate::server::builds::site::BuildSite;
use crate::wire::control::LiveTree;

/// See the [module](self).
#[derive(Debug)]
pub struct StartExtras {
    /// Variables for every dyno of the app.
    pub env: BTreeMap<String, String>,
    /// The first port.
    pub port: u16,
    /// The process types in the order of the Procfile.
    pub order: Vec<String>,
    /// The folder that the dynos work in; none if it is a slug.
    pub live: Option<PathBuf>,
}

impl StartExtras {
    /// The port of a dyno of the formation. None for those that get any.
    pub fn port_of(&self, name: &DynoName) -> Option<u16> {
        fixed_port(self.port, &self.order, name)
    }
}

/// Who a dyno is that works in a user's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveOwner {
    /// These host ids: the folder's, or the server's own if it has no others.
    Ids((u32, u32)),
    /// One of those that dynos have anyway; the mount shows root's files as its own.
    MappedFromRoot,
}

impl LiveOwner {
    /// What the dyno's supervisor is told of it, with the folders and their places inside, and the site if they are a build's.
    pub fn live(self, places: Vec<(PathBuf, PathBuf)>, site: Option<&BuildSite>) -> LiveTree {
        LiveTree {
            of_root: self == Self::MappedFromRoot,
            places,
            counted: site.map(BuildSite::folder),
            layer: site.and_then(|site| site.layer.clone()),
        }
    }
}

/// Where a dyno has the user's `folder` that it works in: at `/app`, and also at its own path, which programs installed in it, as in
/// a virtual environment, contain.
pub fn places_of(folder: &Path) -> Vec<(PathBuf, PathBuf)> {
    // Below `/app` it would make a mount point in the user's own folder.
    let own = Some(folder).filter(|folder| !folder.starts_with("/app"));
    let targets = own.into_iter().chain([Path::new("/app")]);
    targets
        .map(|target| (folder.to_owned(), target.to_owned()))
        .collect()
}

/// Who a dyno in `folder` is to be, so that it can write there and is not root.
///
/// # Errors
/// When it would have to be root, with advice; when there is no such folder.
pub fn live_owner(folder: &Path, chosen: &ChosenIsolation) -> Result<LiveOwner, ApiError> {
    let shown = folder.display();
    let metadata = fs::metadata(folder)
        .map_err(|error| ApiError::invalid(format!("cannot look at `{shown}`: {error}")))?;
    if !metadata.is_dir() {
        return Err(ApiError::invalid(format!("`{shown}` is no folder")));
    }
    let owner = owner_of((metadata.uid(), metadata.gid()), chosen).map_err(|why| {
        ApiError::invalid(format!("`{shown}` {why}")).hint(
            "give it to a user with `chown -R USER:GROUP`, or have a copy run with `dyno start --slug`",
        )
    })?;
    // Behind walls the folder is mounted, and who has made it is asked nothing. A server that gives its dynos its own ids got
    // here as one of them would.
    if let (LiveOwner::Ids(ids), Isolation::Tempdir, false) = (
        owner,
        chosen.isolation,
        matches!(chosen.ids, DynoIds::Own(_)),
    ) && let Some(closed) = closed_to(ids, folder)
    {
        let (closed, (uid, _)) = (closed.display(), ids);
        let message = format!("user {uid}, whose `{shown}` is, cannot go through `{closed}`");
        return Err(ApiError::invalid(message).hint(format!(
            "`chmod o+x {closed}` lets users pass, or have a copy run with `dyno start --slug`"
        )));
    }
    Ok(owner)
}

/// The folder on the way to `folder` that a user without other groups may not go through, by its mode. One with a list of
/// its own is taken to let them.
fn closed_to((uid, gid): (u32, u32), folder: &Path) -> Option<PathBuf> {
    let is_closed = |folder: &Path| {
        let Ok(metadata) = fs::metadata(folder) else {
            return true;
        };
        let bit = match (metadata.uid() == uid, metadata.gid() == gid) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        let has_list = rustix::fs::getxattr(folder, c"system.posix_acl_access", &mut [0; 0]);
        metadata.mode() & bit == 0 && has_list.is_err()
    };
    let mut way: Vec<_> = folder.ancestors().collect();
    way.reverse();
    way.into_iter()
        .find(|folder| is_closed(folder))
        .map(Path::to_owned)
}

fn owner_of(ids: (u32, u32), chosen: &ChosenIsolation) -> Result<LiveOwner, &'static str> {
    match (ids, chosen.ids) {
        (_, DynoIds::Own(own)) => Ok(LiveOwner::Ids(own)),
        ((0, _), DynoIds::Each(_))
            if chosen.isolation == Isolation::Namespaces && chosen.id_mapped =>
        {
            Ok(LiveOwner::MappedFromRoot)
        }
        ((0, _), _) => Err("belongs to root, which no dyno runs as"),
        ((_, 0), _) => Err("belongs to root's group, which no dyno runs as"),
        (ids, _) => Ok(LiveOwner::Ids(ids)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_folder_is_at_app_and_where_it_is_outside() {
        let targets = |folder: &str| -> Vec<PathBuf> {
            let places = places_of(Path::new(folder)).into_iter();
            places.map(|(_, target)| target).collect()
        };
        assert_eq!(
            targets("/home/a/shop"),
            [Path::new("/home/a/shop"), Path::new("/app")]
        );
        for inside in ["/app", "/app/shop"] {
            assert_eq!(targets(inside), [Path::new("/app")]);
        }
    }

    #[test]
    fn a_process_type_has_a_hundred_ports_from_its_place_in_the_procfile() {
        let extras = StartExtras {
            env: BTreeMap::new(),
            port: 5000,
            order: ["release", "web", "worker"].map(str::to_owned).into(),
            live: None,
        };
        let port = |name: &str| extras.port_of(&name.parse().unwrap());
        for (name, wanted) in [
            ("web.1", Some(5100)),
            ("web.2", Some(5101)),
            ("worker.100", Some(5299)),
            ("worker.101", None),
            ("run.1", None),
        ] {
            assert_eq!(port(name), wanted, "{name}");
        }
        let high = StartExtras {
            port: 65_500,
            ..extras
        };
        assert_eq!(high.port_of(&"web.1".parse().unwrap()), None);
    }

    #[test]
    fn the_way_to_a_folder_is_open_or_it_is_said_where_it_is_not() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let open = |mode| fs::set_permissions(root.path(), fs::Permissions::from_mode(mode));
        let folder = root.path().join("a");
        fs::create_dir(&folder).unwrap();
        let own = fs::metadata(&folder).unwrap();
        let (own, other) = ((own.uid(), own.gid()), (own.uid() + 1, own.gid() + 1));
        open(0o700).unwrap();
        assert_eq!(closed_to(own, &folder), None);
        assert_eq!(closed_to(other, &folder).as_deref(), Some(root.path()));
        open(0o701).unwrap();
        assert_eq!(closed_to(other, &folder), None);
        assert_eq!(
            closed_to((other.0, own.1), &folder).as_deref(),
            Some(root.path())
        );
    }

    #[test]
    fn a_dyno_in_a_folder_is_its_owner_and_never_root() {
        use Isolation::{Namespaces, Tempdir};
        let owner = |ids, isolation, of_server| {
            let id_mapped = isolation == Namespaces && matches!(of_server, DynoIds::Each(_));
            owner_of(
                ids,
                &ChosenIsolation {
                    isolation,
                    ids: of_server,
                    id_mapped,
                    because: None,
                },
            )
        };
        let ada = (1001, 1002);
        for isolation in [Namespaces, Tempdir] {
            assert_eq!(
                owner(ada, isolation, DynoIds::Own(ada)),
                Ok(LiveOwner::Ids(ada))
            );
            assert_eq!(
                owner(ada, isolation, DynoIds::Each(7)),
                Ok(LiveOwner::Ids(ada))
            );
            assert!(owner((1001, 0), isolation, DynoIds::Each(7)).is_err());
            assert!(owner((0, 0), isolation, DynoIds::Shared((7, 7))).is_err());
        }
        let mapped = owner((0, 0), Namespaces, DynoIds::Each(7));
        assert_eq!(mapped, Ok(LiveOwner::MappedFromRoot));
        assert!(owner((0, 0), Tempdir, DynoIds::Each(7)).is_err());
    }
}
