//! The storeys of the source tree, from the bottom up: a file may use what is on its own storey and below, never what is
//! above. This list is the only place that says the order; `docs/architecture.md` says what each storey is for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::root;

/// Entries of `src`, without `.rs`.
const STOREYS: &[&[&str]] = &[
    &["error", "panics"],
    &["model"],
    &["api"],
    &["kernel", "pty"],
    &["wire"],
    &["home", "log_file", "repository", "slug", "store"],
    &["sandbox"],
    &["supervisor"],
    &["router"],
    &["bridge", "static_site"],
    &["server"],
    &["cli"],
    &["main"],
];

/// Entries of `src/server`, without `.rs`: the server's own storeys.
const SERVER_STOREYS: &[&[&str]] = &[
    &["api_loop", "builds"],
    &["access", "git_http", "process", "sessions"],
    &["records"],
    &["dynos", "logs"],
    &["service"],
];

/// What a file of `model` must not name: the disk, the kernel, a clock, a socket, a process.
const NOT_IN_THE_MODEL: &[&str] = &[
    "std::fs",
    "std::os",
    "std::process",
    "rustix",
    "mio::",
    "::now()",
    "TcpStream",
    "TcpListener",
    "UnixStream",
    "UdpSocket",
];

/// A folder whose entries have an order, and how its entries are imported.
struct House {
    folder: &'static str,
    prefix: &'static str,
    storeys: &'static [&'static [&'static str]],
}

const HOUSES: [House; 2] = [
    House {
        folder: "",
        prefix: "crate::",
        storeys: STOREYS,
    },
    House {
        folder: "server",
        prefix: "crate::server::",
        storeys: SERVER_STOREYS,
    },
];

impl House {
    fn storey(&self, room: &str) -> Option<usize> {
        let mut storeys = self.storeys.iter();
        storeys.position(|rooms| rooms.contains(&room))
    }

    /// Room, imported room, and where, for every import outside of tests.
    fn imports(&self) -> Vec<(String, String, String)> {
        let mut imports = Vec::new();
        for source in program() {
            let Ok(below) = source.path.strip_prefix(self.folder) else {
                continue;
            };
            let Some(first) = below.iter().next() else {
                continue;
            };
            let room = first.to_str().unwrap().trim_end_matches(".rs");
            let text = source.code.join("\n");
            // The folder is also reached from within.
            let up = "super::".repeat(below.iter().count());
            for prefix in [self.prefix, &up] {
                for (at, _) in text.match_indices(prefix) {
                    let line = text[..at].matches('\n').count() + 1;
                    let place = format!("src/{}:{line}", source.path.display());
                    for imported in names(&text[at + prefix.len()..]) {
                        imports.push((room.to_owned(), imported, place.clone()));
                    }
                }
            }
        }
        assert!(imports.len() > 50, "the imports were not found");
        imports
    }
}

/// Every Rust file below `folder`.
pub fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
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

/// A file of the program without its comments and its tests.
struct Source {
    /// Below `src`.
    path: PathBuf,
    /// Line by line.
    code: Vec<String>,
}

fn program() -> Vec<Source> {
    let src = root().join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let is_test = |part: &std::ffi::OsStr| part == "tests" || part == "tests.rs";
    let read = |file: PathBuf| {
        let path = file.strip_prefix(&src).unwrap().to_owned();
        let text = fs::read_to_string(&file).unwrap();
        // A file's tests stand last in it, and may look around.
        let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
        let code = text
            .lines()
            .map(|line| line.split("//").next().unwrap().to_owned());
        Source {
            path,
            code: code.collect(),
        }
    };
    let program: Vec<_> = files.into_iter().map(read).collect();
    assert!(program.len() > 100, "the sources were not found");
    let tests = |source: &Source| source.path.iter().any(is_test);
    program
        .into_iter()
        .filter(|source| !tests(source))
        .collect()
}

/// The first names of what follows a `prefix` such as `crate::` in `text`: one, or those of a group in braces.
fn names(text: &str) -> Vec<String> {
    let word = |text: &str| {
        let letters = text
            .trim_start()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_');
        letters.collect::<String>()
    };
    let Some(group) = text.strip_prefix('{') else {
        return vec![word(text)];
    };
    let (mut depth, mut found, mut begins) = (0, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            c if begins && !c.is_whitespace() => {
                found.push(word(&group[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    found
}

#[test]
fn the_names_of_an_import_are_found_in_a_group_too() {
    assert_eq!(names("model::app;"), ["model"]);
    assert_eq!(
        names("{\n    api::{self, app},\n    model,\n};"),
        ["api", "model"]
    );
}

#[test]
fn every_room_has_its_storey() {
    for house in HOUSES {
        let mut rooms = BTreeSet::new();
        for entry in fs::read_dir(root().join("src").join(house.folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            rooms.insert(name.trim_end_matches(".rs").to_owned());
        }
        if !house.folder.is_empty() {
            // Its face, and its tests.
            rooms.remove("mod");
            rooms.remove("tests");
        }
        let homeless: Vec<_> = rooms
            .iter()
            .filter(|room| house.storey(room).is_none())
            .collect();
        assert!(homeless.is_empty(), "give them a storey here: {homeless:?}");
        let gone: Vec<_> = house
            .storeys
            .iter()
            .flat_map(|rooms| *rooms)
            .filter(|room| !rooms.contains(**room))
            .collect();
        assert!(gone.is_empty(), "not there any more: {gone:?}");
    }
}

#[test]
fn no_import_runs_up_the_storeys() {
    let mut wrong = Vec::new();
    for house in HOUSES {
        for (room, imported, place) in house.imports() {
            if let (Some(own), Some(other)) = (house.storey(&room), house.storey(&imported))
                && other > own
            {
                wrong.push(format!("{place}: `{room}` imports `{imported}` from above"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_two_rooms_import_each_other() {
    HOUSES.iter().for_each(has_no_circle);
}

fn has_no_circle(house: &House) {
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (room, imported, _) in house.imports() {
        if room != imported && house.storey(&imported).is_some() {
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
fn the_model_knows_neither_disk_nor_kernel_nor_clock() {
    let mut wrong = Vec::new();
    for source in program() {
        if !source.path.starts_with("model") {
            continue;
        }
        for (number, line) in source.code.iter().enumerate() {
            for name in NOT_IN_THE_MODEL.iter().filter(|name| line.contains(**name)) {
                let place = format!("src/{}:{}", source.path.display(), number + 1);
                wrong.push(format!("{place}: `{name}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_lives_in_one_room() {
    let src = root().join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    for file in files {
        let path = file.strip_prefix(&src).unwrap();
        let allowed = path.starts_with("kernel/sys") || path == Path::new("kernel/sys.rs");
        let text = fs::read_to_string(&file).unwrap();
        let found = text
            .lines()
            .any(|line| line.split("//").next().unwrap().contains("unsafe {"));
        assert!(allowed || !found, "unsafe code in src/{}", path.display());
    }
}

/// Steps of a walk begin with a file and name functions of it: "1. `cli/run.rs`: `perform` posts …".
#[test]
fn each_step_of_the_walks_is_a_function_that_exists() {
    let page = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let walks = page.split("\n## Five walks\n").nth(1).expect("the walks");
    let walks = walks.split("\n## ").next().unwrap();
    let (mut steps, mut wrong) = (0, Vec::new());
    for line in walks.lines() {
        let Some((number, step)) = line.split_once(". `") else {
            continue;
        };
        let Ok(number) = number.parse::<usize>() else {
            continue;
        };
        steps += 1;
        let (file, rest) = step.split_once("`: `").expect("a file and a function");
        let function = rest.split('`').next().unwrap();
        let text = fs::read_to_string(root().join("src").join(file)).unwrap_or_default();
        let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
        let exists = [format!("fn {function}("), format!("fn {function}<")]
            .iter()
            .any(|head| text.contains(head));
        if number > 7 || !exists {
            wrong.push(format!("{file}: {function}"));
        }
    }
    assert!(steps > 25, "{steps} steps");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
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
