//! Toolchains in homes that the tests make.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::deploying_user::home_in;
use super::*;

fn home(folders: &[&str]) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    for folder in folders {
        std::fs::create_dir_all(home.path().join(folder)).unwrap();
    }
    home
}

fn find(path: &str, home: &Path, app: Option<&Path>) -> FoundToolchains {
    let person = DeployingUser {
        path: path.into(),
        home: home.to_owned(),
        python: Some(home.join(".local")),
    };
    super::find(&person, app)
}

fn found(home: &Path, entries: &[&str]) -> Toolchains {
    let entries: Vec<_> = entries.iter().map(|entry| home.join(entry)).collect();
    let path = std::env::join_paths(entries)
        .unwrap()
        .into_string()
        .unwrap();
    find(&format!("/usr/bin:{path}:/bin"), home, None).toolchains
}

fn relative(home: &Path, paths: &[String]) -> Vec<String> {
    let relative = |path: &String| {
        Path::new(path)
            .strip_prefix(home)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    paths.iter().map(relative).collect()
}

#[test]
fn what_the_path_names_under_the_home_is_taken_and_nothing_else() {
    let home = home(&[
        ".pyenv/shims",
        ".pyenv/bin",
        ".ssh",
        "bin",
        "venvs/a/bin",
        ".nvm",
    ]);
    let entries = [
        ".pyenv/shims",
        ".pyenv/bin",
        "bin",
        "venvs/a/bin",
        "gone/bin",
    ];
    let toolchains = found(home.path(), &entries);
    assert_eq!(relative(home.path(), &toolchains.path), &entries[..4]);
    assert_eq!(
        relative(home.path(), &toolchains.folders),
        [".pyenv", "bin", "venvs/a/bin"]
    );
    let root = home.path().join(".pyenv").to_str().unwrap().to_owned();
    assert_eq!(
        toolchains.env,
        BTreeMap::from([("PYENV_ROOT".to_owned(), root)])
    );
}

#[test]
fn credentials_beside_cargo_stay_out() {
    let home = home(&[".cargo/bin", ".cargo/registry", ".rustup"]);
    let toolchains = found(home.path(), &[".cargo/bin"]);
    assert_eq!(
        relative(home.path(), &toolchains.folders),
        [".cargo/bin", ".rustup"]
    );
}

#[test]
fn neither_the_home_itself_nor_a_way_out_of_it_is_taken() {
    let home = home(&["a"]);
    assert!(found(home.path(), &["", "a/../../etc"]).is_empty());
    let none = |path: &str, home: &Path| find(path, home, None).toolchains.is_empty();
    assert!(none("/usr/bin::", home.path()));
    assert!(none("/usr/bin:..:../bin:a/../../b", home.path()));
    assert!(none("/usr/bin:/usr/sbin", Path::new("/")));
}

fn link(home: &Path, at: &str, to: &str) {
    std::os::unix::fs::symlink(home.join(to), home.join(at)).unwrap();
}

#[test]
fn a_link_of_the_path_is_recorded_where_it_leads() {
    let home = home(&[
        ".local/share/fnm/node-versions/v9/installation/bin",
        ".local/state/fnm_multishells",
        ".nvm/versions/v1/bin",
    ]);
    let node = ".local/share/fnm/node-versions/v9/installation";
    link(home.path(), ".local/state/fnm_multishells/1_2", node);
    link(home.path(), ".nvm/current", ".nvm/versions/v1");
    let toolchains = found(
        home.path(),
        &[".local/state/fnm_multishells/1_2/bin", ".nvm/current/bin"],
    );
    assert_eq!(
        relative(home.path(), &toolchains.path),
        // A link that dynos see, too, stays one: what it leads to may change.
        [&format!("{node}/bin"), ".nvm/current/bin"]
    );
    assert_eq!(
        relative(home.path(), &toolchains.folders),
        [".local/share/fnm", ".nvm"]
    );
}

#[test]
fn programs_that_are_links_bring_their_toolchain() {
    let home = home(&[
        ".local/bin",
        "opt/node/bin",
        "venvs/a/bin",
        ".pyenv/versions/3/bin",
        "notes",
    ]);
    for file in [
        "opt/node/bin/node",
        ".pyenv/versions/3/bin/python",
        "notes/secret",
    ] {
        std::fs::write(home.path().join(file), "").unwrap();
    }
    link(home.path(), ".local/bin/node", "opt/node/bin/node");
    link(home.path(), ".local/bin/note", "notes/secret");
    link(
        home.path(),
        "venvs/a/bin/python",
        ".pyenv/versions/3/bin/python",
    );
    let toolchains = found(home.path(), &[".local/bin", "venvs/a/bin"]);
    assert_eq!(
        relative(home.path(), &toolchains.folders),
        [".local/bin", "opt/node/bin", "venvs/a/bin", ".pyenv"]
    );
}

#[test]
fn packages_of_the_users_own_are_found_by_variables() {
    let home = home(&[
        ".local/bin",
        ".local/lib/python3.11/site-packages",
        ".local/share/gem/ruby/3.1.0/bin",
    ]);
    let toolchains = found(
        home.path(),
        &[".local/bin", ".local/share/gem/ruby/3.1.0/bin"],
    );
    let at = |path: &str| home.path().join(path).to_str().unwrap().to_owned();
    assert_eq!(toolchains.env["PYTHONUSERBASE"], at(".local"));
    let gems = format!("{}:", at(".local/share/gem/ruby/3.1.0"));
    assert_eq!(toolchains.env["GEM_PATH"], gems);
    assert!(
        toolchains
            .folders
            .contains(&at(".local/share/gem/ruby/3.1.0/bin"))
    );
    assert!(!toolchains.folders.contains(&at(".local")));
}

#[test]
fn folders_outside_of_the_home_are_taken_or_told() {
    let home = home(&["a"]);
    let finder = Finder {
        home: Some("/home/ada".into()),
        real_home: None,
        app: None,
        found: FoundToolchains::default(),
    };
    for (entry, why) in [
        ("/home/linuxbrew/.linuxbrew/bin", None),
        ("/srv/tools/bin", None),
        ("/home/ada/x", None),
        ("/srv", Some(false)),
        ("/home", Some(true)),
        ("/home/bob/bin", Some(true)),
        ("/root/.cargo/bin", Some(true)),
        ("/snap/bin", Some(true)),
        ("/mnt/c/Windows", Some(true)),
        ("/mnt/disk/bin", None),
        ("/run/user/1/bin", Some(false)),
    ] {
        let usual = finder
            .why_not(Path::new(entry), false)
            .map(|(_, usual)| usual);
        assert_eq!(usual, why, "{entry}");
    }
    for entry in [
        "/home/linuxbrew/.linuxbrew/bin",
        "/srv/tools/bin",
        "/srv/bin",
        "/srv/tools",
        "/home/ada/bin",
        "/home/ada/x/bin",
    ] {
        let needs = finder.needs(Path::new(entry));
        assert_eq!(needs[0].0, Path::new(entry), "{entry}");
    }
    // Programs of the system that are not in every dyno's path are found there, and nothing is mounted.
    let system = find("/usr/lib:/usr/sbin:/usr/bin", home.path(), None);
    assert_eq!(system.toolchains.path, ["/usr/lib"]);
    assert!(system.toolchains.folders.is_empty() && system.left_out.is_empty());
}

#[test]
fn a_virtual_environment_in_the_app_has_it_at_its_own_path() {
    let home = home(&["shop/backend/venv/bin", "shop/lib", "other/bin"]);
    let app = home.path().join("shop");
    let text = app.to_str().unwrap().to_owned();
    assert_eq!(find("", home.path(), Some(&app)).toolchains.app, None);
    // However deep it is.
    std::fs::create_dir_all(app.join("a/b/c/d")).unwrap();
    std::fs::write(app.join("a/b/c/d/pyvenv.cfg"), "").unwrap();
    assert!(find("", home.path(), Some(&app)).toolchains.app.is_some());
    std::fs::remove_file(app.join("a/b/c/d/pyvenv.cfg")).unwrap();
    std::fs::write(app.join("backend/venv/pyvenv.cfg"), "").unwrap();
    assert_eq!(
        find("", home.path(), Some(&app)).toolchains.app,
        Some(text.clone())
    );
    let path = format!("{text}/backend/venv/bin:{text}");
    let toolchains = find(&path, home.path(), Some(&app)).toolchains;
    assert_eq!(
        toolchains.path,
        [format!("{text}/backend/venv/bin"), text.clone()]
    );
    // Never the app's folder itself: it is the slug that is there.
    let own = |name: &str| format!("{text}/backend/venv/{name}");
    assert_eq!(toolchains.folders, [own("bin"), own("pyvenv.cfg")]);
}

#[test]
fn a_relative_entry_is_of_the_apps_folder() {
    let home = home(&["shop/node_modules/.bin"]);
    let path = "node_modules/.bin:./gone:.:/usr/bin";
    let app = home.path().join("shop");
    let paths = |app| find(path, home.path(), app).toolchains.path;
    assert_eq!(paths(Some(&*app)), ["/app/node_modules/.bin", "/app"]);
    assert_eq!(paths(None), ["/app/node_modules/.bin", "/app/gone", "/app"]);
}

#[test]
fn an_entry_that_is_no_text_leaves_the_others() {
    use std::os::unix::ffi::OsStringExt;
    let home = home(&["tools/bin"]);
    let tools = home.path().join("tools/bin");
    let mut path = b"/odd\xff:".to_vec();
    path.extend(tools.as_os_str().as_encoded_bytes());
    path.extend(b"/");
    let person = DeployingUser {
        path: OsString::from_vec(path),
        home: home.path().to_owned(),
        python: None,
    };
    let found = super::find(&person, None);
    // Without the slash.
    assert_eq!(found.toolchains.path, [tools.to_str().unwrap()]);
    assert_eq!(found.left_out[0].why, "its name is not UTF-8");
    // What git has put there is not the user's.
    let none = super::find(&person.without(&tools), None).toolchains;
    assert!(none.is_empty());
}

#[test]
fn packages_of_the_users_own_need_no_entry_of_the_path() {
    let home = home(&[
        ".local/lib/python3.11/site-packages",
        "own/lib/python3.9/site-packages",
        "dev",
    ]);
    let at = |path: &str| home.path().join(path);
    let pth = at("own/lib/python3.9/site-packages/dev.pth");
    std::fs::write(pth, at("dev").to_str().unwrap()).unwrap();
    for (base, library) in [
        (Some(".local"), ".local/lib/python3.11"),
        (Some("own"), "own/lib/python3.9"),
        (None, ""),
    ] {
        let person = DeployingUser {
            path: "/usr/bin".into(),
            home: home.path().to_owned(),
            python: base.map(at),
        };
        let found = super::find(&person, None);
        let Some(base) = base else {
            assert!(found.toolchains.is_empty());
            continue;
        };
        assert_eq!(relative(home.path(), &found.toolchains.folders), [library]);
        let told = found.toolchains.env["PYTHONUSERBASE"].as_str();
        assert_eq!(told, at(base).to_str().unwrap());
        assert_eq!(found.broken_links.len(), usize::from(base == "own"));
    }
}

#[test]
fn a_home_is_the_systems_word_where_no_variable_names_one() {
    let users = "root:x:0:0::/root:/bin/sh\nodd\nada:x:1000:1000:Ada,:/home/ada:/bin/sh\n";
    assert_eq!(home_in(users, 1000), Some("/home/ada".into()));
    assert_eq!(home_in(users, 7), None);
}

#[test]
fn programs_that_lead_where_dynos_see_nothing_are_told() {
    let home = home(&[".local/bin", "dev/tool"]);
    std::fs::write(home.path().join("dev/tool/run.sh"), "").unwrap();
    link(home.path(), ".local/bin/devtool", "dev/tool/run.sh");
    let path = home.path().join(".local/bin");
    let broken_links = find(path.to_str().unwrap(), home.path(), None).broken_links;
    assert_eq!(
        (&*broken_links[0].name, broken_links[0].kind),
        ("devtool", BrokenLinkKind::Program)
    );
}
