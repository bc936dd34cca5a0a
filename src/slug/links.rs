//! Symlinks of an app's folder that will lead nowhere in a dyno, where the folder is `/app` and what was beside it is not.

use std::path::{Component, Path, PathBuf};

/// Folders that hold what is this host's alone: a dyno sees others of this name, or nothing.
const ELSEWHERE: [&str; 8] = [
    "/home", "/root", "/tmp", "/var/tmp", "/mnt", "/media", "/srv", "/app",
];

/// A symlink that leads out of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeadsOut {
    /// Where it is in the folder.
    pub path: PathBuf,
    /// What it says.
    pub target: PathBuf,
    /// Where that is on this host.
    pub place: PathBuf,
}

/// How many links are named at most.
const SHOWN: usize = 5;

/// A line for each link that leads out, for whoever deploys the folder they are in.
pub fn told(links: &[LeadsOut]) -> Vec<String> {
    let path = |path: &Path| super::shown(path.as_os_str().as_encoded_bytes());
    let line = |link: &LeadsOut| {
        format!(
            "`{}` is a symlink out of the folder, to `{}`, which no dyno has",
            path(&link.path),
            path(&link.place)
        )
    };
    let mut lines: Vec<_> = links.iter().take(SHOWN).map(line).collect();
    if links.len() > SHOWN {
        let more = links.len() - SHOWN;
        lines.push(format!("{more} more symlinks lead out of the folder"));
    }
    lines
}

/// Whether the symlink at `path`, relative to the folder `root`, leads where a dyno cannot follow. `root` is absolute.
pub(super) fn leads_out(root: &Path, path: &Path, target: &Path) -> Option<LeadsOut> {
    let (place, is_out) = if target.is_absolute() {
        let place = normalized(Path::new("/"), target)?;
        let is_out = place.starts_with(root) || ELSEWHERE.iter().any(|it| place.starts_with(it));
        (place, is_out)
    } else {
        let from = root.join(path.parent()?);
        // Above the root of all there is nothing: what is left stays out.
        let place = normalized(&from, target).unwrap_or_else(|| PathBuf::from("/"));
        let is_out = !place.starts_with(root);
        (place, is_out)
    };
    is_out.then(|| LeadsOut {
        path: path.to_owned(),
        target: target.to_owned(),
        place,
    })
}

/// The path that `target` is from the folder `from`, without looking at any file.
fn normalized(from: &Path, target: &Path) -> Option<PathBuf> {
    let mut at = from.to_owned();
    for part in target.components() {
        match part {
            Component::RootDir => at = PathBuf::from("/"),
            Component::ParentDir => {
                if !at.pop() {
                    return None;
                }
            }
            Component::Normal(name) => at.push(name),
            Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_out_if_a_dyno_has_nothing_there() {
        let place = |path: &str, target: &str| {
            let out = leads_out(
                Path::new("/home/ada/shop"),
                Path::new(path),
                Path::new(target),
            );
            out.map(|out| out.place.display().to_string())
        };
        for (path, target, expected) in [
            ("node_modules/lib", "../../lib", Some("/home/ada/lib")),
            ("lib", "../shop-lib", Some("/home/ada/shop-lib")),
            ("a/b", "../../../../../../../etc", Some("/")),
            (
                "lib",
                "/home/ada/shop/vendor/lib",
                Some("/home/ada/shop/vendor/lib"),
            ),
            ("data", "/srv/data", Some("/srv/data")),
            ("a/b", "../c", None),
            ("node_modules/.bin/x", "../x/cli.js", None),
            ("a", "nowhere", None),
            ("a", ".", None),
            ("a/b", "..", None),
            ("zone", "/usr/share/zoneinfo", None),
            ("homely", "/homely/x", None),
        ] {
            assert_eq!(
                place(path, target).as_deref(),
                expected,
                "{path} -> {target}"
            );
        }
    }
}
