//! The layers of the source tree: what a room may know. Values know nothing below them, only the parts know everyone;
//! an import that runs up the layers fails here. (`docs/architecture.md` describes the rooms.)

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::root;

/// From the bottom up. A room may import from its own layer and from those before it.
const LAYERS: &[(&str, &[&str])] = &[
    // What everything else is written in: the one kind of error, and the kernel's calls.
    ("ground", &["error", "fault", "sys", "unix_socket"]),
    (
        "values and rules",
        &[
            "api",
            "app",
            "command_line",
            "config_var",
            "dot_env",
            "dyno",
            "formation",
            "log_line",
            "procfile",
            "release",
            "scheduler",
            "settings",
            "size",
            "time_span",
            "token",
        ],
    ),
    (
        "one resource each",
        &[
            "build",
            "executable",
            "handover",
            "home",
            "listener",
            "log_file",
            "open_files",
            "pty",
            "repository",
            "sandbox",
            "slug",
            "stack",
            "store",
            "tls",
            "toolchain",
            "unexecutable",
        ],
    ),
    (
        "the wire",
        &["control", "frame", "http", "pkt_line", "reactor", "stream"],
    ),
    (
        "parts that know no other part",
        &["bridge", "client", "init", "router", "terminal"],
    ),
    ("the supervisor", &["supervisor"]),
    ("the server", &["server"]),
    ("the command line", &["cli"]),
    ("the program", &["main"]),
];

fn layer(room: &str) -> Option<usize> {
    LAYERS.iter().position(|(_, rooms)| rooms.contains(&room))
}

/// Every Rust file below `folder`.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
    {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Room, imported room, and where, for every `crate::…` outside of tests.
fn imports() -> Vec<(String, String, String)> {
    let src = root().join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut imports = Vec::new();
    for file in files {
        let path = file.strip_prefix(&src).unwrap();
        let is_test = |part: &std::ffi::OsStr| part == "tests" || part == "tests.rs";
        if path.iter().any(is_test) {
            continue;
        }
        let first = path.iter().next().unwrap().to_str().unwrap();
        let room = first.trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&file).unwrap();
        // A room's tests stand last in its file, and may look around.
        let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap();
            for imported in code.split("crate::").skip(1) {
                let end = imported
                    .find(|c: char| !c.is_alphanumeric() && c != '_')
                    .unwrap_or(imported.len());
                let place = format!("src/{}:{}", path.display(), number + 1);
                imports.push((room.clone(), imported[..end].to_owned(), place));
            }
        }
    }
    assert!(imports.len() > 50, "the sources were not found");
    imports
}

#[test]
fn every_room_has_its_layer() {
    let mut rooms = BTreeSet::new();
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        rooms.insert(name.trim_end_matches(".rs").to_owned());
    }
    let homeless: Vec<_> = rooms.iter().filter(|room| layer(room).is_none()).collect();
    assert!(homeless.is_empty(), "give them a layer here: {homeless:?}");
    let gone: Vec<_> = LAYERS
        .iter()
        .flat_map(|(_, rooms)| *rooms)
        .filter(|room| !rooms.contains(**room))
        .collect();
    assert!(gone.is_empty(), "not there any more: {gone:?}");
}

#[test]
fn no_import_runs_up_the_layers() {
    let mut wrong = Vec::new();
    for (room, imported, place) in imports() {
        if let (Some(own), Some(other)) = (layer(&room), layer(&imported))
            && other > own
        {
            wrong.push(format!(
                "{place}: `{room}` ({}) imports `{imported}` ({})",
                LAYERS[own].0, LAYERS[other].0
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_two_rooms_import_each_other() {
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (room, imported, _) in imports() {
        if room != imported && layer(&imported).is_some() {
            known.entry(room).or_default().insert(imported);
        }
    }
    // Takes away rooms that import nothing any more, until only circles are left.
    loop {
        let free: Vec<_> = known
            .iter()
            .filter(|(_, imports)| imports.iter().all(|one| !known.contains_key(one)))
            .map(|(room, _)| room.clone())
            .collect();
        if free.is_empty() {
            break;
        }
        for room in free {
            known.remove(&room);
        }
    }
    assert!(
        known.is_empty(),
        "these import each other in a circle: {known:?}"
    );
}

#[test]
fn unsafe_code_lives_in_one_room() {
    let src = root().join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    for file in files {
        let path = file.strip_prefix(&src).unwrap();
        let allowed = path.starts_with("sys") || path == Path::new("sys.rs");
        let text = fs::read_to_string(&file).unwrap();
        let found = text
            .lines()
            .any(|line| line.split("//").next().unwrap().contains("unsafe {"));
        assert!(allowed || !found, "unsafe code in src/{}", path.display());
    }
}

/// Before Linux 6.4 rustix reads `/proc/self/auxv` for it, and panics in a process that is not dumpable: PID 1 of a dyno.
#[test]
fn the_size_of_a_page_is_not_asked_of_proc() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let found = text
            .lines()
            .any(|line| line.split("//").next().unwrap().contains("rustix::param"));
        assert!(!found, "rustix::param in {}", file.display());
    }
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap_or_default();
    let rustix = manifest.lines().find(|line| line.starts_with("rustix"));
    assert!(rustix.is_none_or(|line| !line.contains("\"param\"")));
}
