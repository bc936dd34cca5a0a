//! Symlinks of an app's folder that will be broken in a dyno, where the folder is `/app` and its siblings do not exist.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

/// How many symlinks the kernel follows in resolving one path.
const MAX_HOPS: usize = 40;

/// The symlinks of an app's folder: the target of each, by its path in the folder.
#[derive(Debug, Default)]
pub(super) struct Symlinks(BTreeMap<Vec<u8>, Vec<u8>>);

/// Where a symlink leads in a dyno.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LinkTarget {
    /// To this path below `/app`, which is no symlink itself, and need not exist.
    InApp(Vec<u8>),
    /// To this absolute path; symlinks on its way outside of `/app` are not followed.
    Outside(PathBuf),
}

impl FromIterator<(Vec<u8>, Vec<u8>)> for Symlinks {
    fn from_iter<T: IntoIterator<Item = (Vec<u8>, Vec<u8>)>>(links: T) -> Self {
        Self(links.into_iter().collect())
    }
}

impl Symlinks {
    /// Each symlink's path and target.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(path, target)| (&**path, &**target))
    }

    /// The target of the symlink at `path`.
    pub(super) fn target(&self, path: &[u8]) -> Option<&[u8]> {
        self.0.get(path).map(Vec::as_slice)
    }

    /// Where the symlink at `path` leads in a dyno, in which the folder is `/app`. None if it leads in a circle.
    pub(super) fn place(&self, path: &[u8]) -> Option<LinkTarget> {
        let parts = |path: &[u8]| -> Vec<Vec<u8>> {
            path.split(|&byte| byte == b'/')
                .map(<[u8]>::to_vec)
                .collect()
        };
        let mut at: Vec<Vec<u8>> = Vec::new();
        let mut ahead: VecDeque<_> = [b"app".to_vec()].into_iter().chain(parts(path)).collect();
        let mut hops = 0;
        while let Some(name) = ahead.pop_front() {
            match &*name {
                b"" | b"." => continue,
                b".." => {
                    at.pop();
                    continue;
                }
                _ => at.push(name),
            }
            let Some(target) = below_app(&at).and_then(|path| self.0.get(&path)) else {
                continue;
            };
            hops += 1;
            if hops > MAX_HOPS {
                return None;
            }
            at.pop();
            if target.starts_with(b"/") {
                at.clear();
            }
            for name in parts(target).into_iter().rev() {
                ahead.push_front(name);
            }
        }
        Some(match below_app(&at) {
            Some(path) => LinkTarget::InApp(path),
            None => {
                let path = [b"/", &*at.join(&b'/')].concat();
                LinkTarget::Outside(PathBuf::from(OsStr::from_bytes(&path)))
            }
        })
    }
}

/// The path below `/app` with these components.
fn below_app(names: &[Vec<u8>]) -> Option<Vec<u8>> {
    let (first, rest) = names.split_first()?;
    (first == b"app").then(|| rest.join(&b'/'))
}

/// A symlink that leads out of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeadsOut {
    /// Its path in the folder.
    pub path: PathBuf,
    /// Its target, as written in the link.
    pub target: PathBuf,
    /// The absolute path that the target means in a dyno.
    pub place: PathBuf,
    /// The target is relative and leaves the folder, so it means different places here and in a dyno.
    pub strays: bool,
}

/// How many links are named at most.
const SHOWN: usize = 5;

/// A warning for each link that is broken in a dyno, for the user who deploys the folder.
pub fn link_warnings(links: &[LeadsOut]) -> Vec<String> {
    let path = |path: &Path| super::messages::shown(path.as_os_str().as_encoded_bytes());
    let line = |link: &LeadsOut| {
        format!(
            "`{}` is a symlink out of the folder, to `{}`, which no dyno has",
            path(&link.path),
            path(&link.target)
        )
    };
    let mut lines: Vec<_> = links.iter().take(SHOWN).map(line).collect();
    if links.len() > SHOWN {
        let more = links.len() - SHOWN;
        lines.push(format!("{more} more symlinks lead out of the folder"));
    }
    lines
}

/// The symlink at `path` if it leads out of the folder `root`, perhaps to a file that a dyno has, too. `root` is absolute.
pub(super) fn leads_out(root: &Path, links: &Symlinks, path: &[u8]) -> Option<LeadsOut> {
    let LinkTarget::Outside(place) = links.place(path)? else {
        return None;
    };
    let target = Path::new(OsStr::from_bytes(links.target(path)?));
    let path = Path::new(OsStr::from_bytes(path));
    // `..` above `/` stays outside.
    let here = normalized(&root.join(path.parent()?), target);
    let here = here.unwrap_or_else(|| PathBuf::from("/"));
    Some(LeadsOut {
        path: path.to_owned(),
        target: target.to_owned(),
        strays: !target.is_absolute() && !here.starts_with(root) && here != place,
        place,
    })
}

/// The path of `target`, seen from the folder `from`, without looking at any file.
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
    fn a_link_leads_where_it_does_in_a_dyno() {
        let links = [
            ("page", "pages/a"),
            ("pages", "content/v2"),
            ("content/v3", "./v2/../v2//"),
            ("own", "/app/content"),
            ("self", "../app/x"),
            ("here", "."),
            ("name", "../shop/x"),
            ("up", "../../../../etc"),
            ("zone", "/usr/share/zone"),
            ("through", "zone/x"),
            ("round", "trip"),
            ("trip", "round"),
        ];
        let own = |(path, target): (&str, &str)| (path.into(), target.into());
        let links: Symlinks = links.into_iter().map(own).collect();
        let inside = |path: &str| Some(LinkTarget::InApp(path.into()));
        let outside = |path: &str| Some(LinkTarget::Outside(path.into()));
        for (path, expected) in [
            ("page", inside("content/v2/a")),
            ("content/v3", inside("content/v2")),
            ("own", inside("content")),
            ("self", inside("x")),
            ("here", inside("")),
            ("name", outside("/shop/x")),
            ("up", outside("/etc")),
            ("zone", outside("/usr/share/zone")),
            ("through", outside("/usr/share/zone/x")),
            ("round", None),
        ] {
            assert_eq!(links.place(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn a_link_leads_out_if_it_does_in_a_dyno() {
        let out = |path: &str, target: &str| {
            let links: Symlinks = [(path.into(), target.into())].into_iter().collect();
            let out = leads_out(Path::new("/home/ada/shop"), &links, path.as_bytes());
            out.map(|out| (out.place.display().to_string(), out.strays))
        };
        for (path, target, expected) in [
            ("node_modules/lib", "../../lib", Some(("/lib", true))),
            ("lib", "../shop-lib", Some(("/shop-lib", true))),
            ("lib", "../shop/lib", Some(("/shop/lib", false))),
            ("a/b", "../../../../../../../etc", Some(("/etc", true))),
            (
                "lib",
                "/home/ada/shop/lib",
                Some(("/home/ada/shop/lib", false)),
            ),
            ("data", "/srv/data", Some(("/srv/data", false))),
            ("zone", "/usr/share/zone", Some(("/usr/share/zone", false))),
            ("a/b", "../c", None),
            ("node_modules/.bin/x", "../x/cli.js", None),
            ("a", "nowhere", None),
            ("a", ".", None),
            ("a", "/app/b", None),
            ("a/b", "..", None),
        ] {
            let expected = expected.map(|(place, strays)| (place.to_owned(), strays));
            assert_eq!(out(path, target), expected, "{path} -> {target}");
        }
    }
}
