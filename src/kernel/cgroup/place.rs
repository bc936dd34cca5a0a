//! Which control groups this process is in, as folders: parsed from `/proc/self/cgroup` and `/proc/self/mountinfo`.

use std::path::{Path, PathBuf};

/// The control groups of this process.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// Version 1: a controller, and the folder of the process's group in its tree.
    pub v1: Vec<(String, PathBuf)>,
    /// Version 2, if it is mounted.
    pub v2: Option<V2>,
}

/// The group of this process in version 2.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct V2 {
    /// The folder of the tree's root, as far as it is visible here.
    pub mount: PathBuf,
    /// The folder of the process's own group.
    pub own: PathBuf,
}

/// A mounted tree of groups.
struct Mount<'a> {
    /// Which group of the tree is mounted there.
    root: &'a str,
    at: PathBuf,
    is_v2: bool,
    /// The controllers of a tree of version 1, among other words.
    options: Vec<&'a str>,
}

/// Finds the groups from the texts of `/proc/self/cgroup` and `/proc/self/mountinfo`. Lines that are not understood are
/// left out.
pub(super) fn find(memberships: &str, mounts: &str) -> Places {
    let mounts: Vec<_> = mounts.lines().filter_map(mount).collect();
    let mut places = Places::default();
    for line in memberships.lines() {
        // `4:memory:/path`; version 2 has no controller in its line, a path may have a colon.
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        if controllers.is_empty() {
            let mount = mounts.iter().find(|mount| mount.is_v2);
            let own = mount.and_then(|mount| folder(mount, path));
            places.v2 = mount.zip(own).map(|(mount, own)| V2 {
                mount: mount.at.clone(),
                own,
            });
        }
        for controller in controllers.split(',').filter(|it| !it.is_empty()) {
            let mount = mounts
                .iter()
                .find(|mount| mount.options.contains(&controller));
            if let Some(own) = mount.and_then(|mount| folder(mount, path)) {
                places.v1.push((controller.to_owned(), own));
            }
        }
    }
    places
}

/// The folder of a group. None if the mount does not show it, as in a container that sees a part of the host's tree.
fn folder(mount: &Mount<'_>, path: &str) -> Option<PathBuf> {
    let path = Path::new(path).strip_prefix(mount.root).ok()?;
    let is_inside = path
        .components()
        .all(|it| matches!(it, std::path::Component::Normal(_)));
    is_inside.then(|| mount.at.join(path))
}

/// Parses a line of mountinfo, if it is of control groups.
fn mount(line: &str) -> Option<Mount<'_>> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (root, at) = (mount.next()?, mount.next()?);
    let mut file_system = file_system.split(' ');
    let kind = file_system.next()?;
    let options = file_system.nth(1).unwrap_or_default();
    let options = match kind {
        "cgroup" => options.split(',').collect(),
        "cgroup2" => Vec::new(),
        _ => return None,
    };
    // A place with a space, which is written as \040, is not worth a decoder.
    (!at.contains('\\')).then(|| Mount {
        root,
        at: at.into(),
        is_v2: kind == "cgroup2",
        options,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_a_service_in_version_2() {
        let mounts = "24 30 0:27 / /proc rw - proc proc rw\n\
            30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let places = find("0::/system.slice/dyno.service\n", mounts);
        let v2 = places.v2.unwrap();
        assert_eq!(
            v2.own,
            Path::new("/sys/fs/cgroup/system.slice/dyno.service")
        );
        assert_eq!(v2.mount, Path::new("/sys/fs/cgroup"));
        assert_eq!(places.v1, []);
    }

    #[test]
    fn trees_of_version_1_beside_an_empty_one_of_version_2() {
        let mounts = "31 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            32 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            33 30 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
            34 30 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let own = "9:name=systemd:/\n4:memory:/a:b/c\n1:cpu,cpuacct:/\n0::/\n";
        let places = find(own, mounts);
        let found = |name: &str| {
            let mut all = places.v1.iter();
            all.find(|(known, _)| known == name)
                .map(|(_, folder)| folder.to_str().unwrap())
        };
        assert_eq!(found("memory"), Some("/sys/fs/cgroup/memory/a:b/c"));
        assert_eq!(found("cpu"), Some("/sys/fs/cgroup/cpu,cpuacct/"));
        assert_eq!(found("pids"), None);
        assert_eq!(places.v2.unwrap().own, Path::new("/sys/fs/cgroup/unified/"));
    }

    #[test]
    fn a_container_sees_the_part_of_the_tree_that_is_its_own() {
        let mounts = "1 2 0:3 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let places = find("4:memory:/docker/abc/inner\n", mounts);
        let own = Path::new("/sys/fs/cgroup/memory/inner");
        assert_eq!(places.v1, [("memory".to_owned(), own.to_owned())]);
        // A group that the mount does not show, or that lies outside of the namespace.
        assert_eq!(find("4:memory:/docker/other\n", mounts), Places::default());
        let whole = "1 2 0:3 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(find("0::/../other\n", whole), Places::default());
        assert_eq!(
            find("nonsense\n0:\n", "nonsense\n1 2 3 - cgroup\n"),
            Places::default()
        );
    }
}
