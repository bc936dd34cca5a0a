//! Any tree comes back as it was.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::kernel::tree::remove_tree;

/// One entry of a made-up tree.
#[derive(Debug, Clone)]
enum Node {
    File {
        mode: u32,
        data: Vec<u8>,
    },
    Symlink(OsString),
    Directory {
        mode: u32,
        entries: BTreeMap<OsString, Node>,
    },
}

impl Node {
    fn make(&self, path: &Path) {
        match self {
            Self::File { mode, data } => {
                fs::write(path, data).unwrap();
                // Times are content, too: two trees that are alike have the same ones.
                let file = fs::File::options().write(true).open(path).unwrap();
                file.set_modified(UNIX_EPOCH + Duration::from_secs(1_700_000_000))
                    .unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(*mode)).unwrap();
            }
            Self::Symlink(target) => symlink(target, path).unwrap(),
            Self::Directory { mode, entries } => {
                fs::create_dir(path).unwrap();
                for (name, node) in entries {
                    node.make(&path.join(name));
                }
                fs::set_permissions(path, fs::Permissions::from_mode(*mode)).unwrap();
            }
        }
    }
}

/// Names as they may be: any bytes but `/` and NUL, often long, and never what is left out.
fn any_name() -> impl Strategy<Value = OsString> {
    let byte = prop_oneof![4 => b'a'..=b'c', 1 => 1u8..=255];
    prop_oneof![3 => 1..4usize, 1 => 90..130usize, 1 => 255..256usize]
        .prop_flat_map(move |length| prop::collection::vec(byte.clone(), length))
        .prop_map(|bytes| {
            bytes
                .into_iter()
                .map(|b| if b == b'/' { b'_' } else { b })
                .collect()
        })
        .prop_filter("not a name, or one with a meaning", |bytes: &Vec<u8>| {
            !matches!(bytes.as_slice(), b"." | b".." | b".git" | b".slugignore")
        })
        .prop_map(OsString::from_vec)
}

fn any_node() -> impl Strategy<Value = Node> {
    // Readable by us, writable or not, and with bits that are to be dropped.
    let file_mode = prop::sample::select(vec![0o400, 0o644, 0o755, 0o777, 0o4755, 0o2644, 0o600]);
    let dir_mode = prop::sample::select(vec![0o755, 0o700, 0o555, 0o1777, 0o2750]);
    let size = prop_oneof![
        Just(0..1usize),
        Just(1..600),
        Just(511..514),
        Just(9000..9001)
    ];
    let leaf = prop_oneof![
        3 => (file_mode, size.prop_flat_map(|size| prop::collection::vec(any::<u8>(), size)))
            .prop_map(|(mode, data)| Node::File { mode, data }),
        1 => any_name().prop_map(Node::Symlink),
        1 => any_name().prop_map(|name| Node::Symlink([OsStr::new("../.."), &name].iter().collect::<PathBuf>().into())),
    ];
    leaf.prop_recursive(4, 24, 5, move |node| {
        (
            dir_mode.clone(),
            prop::collection::btree_map(any_name(), node, 0..5),
        )
            .prop_map(|(mode, entries)| Node::Directory { mode, entries })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_is_packed_comes_back(entries in prop::collection::btree_map(any_name(), any_node(), 0..6)) {
        let tree = Node::Directory { mode: 0o755, entries };
        let home = tempfile::tempdir().unwrap();
        let (first, second) = (home.path().join("first"), home.path().join("second"));
        tree.make(&first);
        tree.make(&second);
        let (packed_first, tarball) = packed(&first);
        prop_assert_eq!(packed_first.id, packed(&second).0.id, "the same tree, another digest");

        let target = Target::new();
        let unpacked = target.unpack(&tarball).unwrap();
        let mut expected = contents(&first);
        for (_, mode, _) in expected.values_mut() {
            *mode &= 0o777;
        }
        prop_assert_eq!(contents(&target.app()), expected);
        prop_assert_eq!(unpacked.content_bytes, packed_first.content_bytes);
        // And `./app/` itself.
        prop_assert_eq!(unpacked.entries, packed_first.entries + 1);
        for tree in [first, second, target.app()] {
            remove_tree(&tree).unwrap();
        }
    }
}
