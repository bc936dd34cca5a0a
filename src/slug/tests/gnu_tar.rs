//! GNU tar reads what we write, and we read what it writes.

use super::*;

use crate::error::tell;

/// The shell runs `script` in a new directory; `None` if there is no GNU tar to ask.
fn with_gnu_tar(script: &str) -> Option<TempDir> {
    let version = Command::new("tar").arg("--version").output().ok()?;
    if !String::from_utf8_lossy(&version.stdout).contains("GNU tar") {
        tell!("skipped: no GNU tar here");
        return None;
    }
    let home = tempfile::tempdir().unwrap();
    let status = Command::new("sh")
        .args(["-ec", script])
        .current_dir(home.path())
        .status()
        .unwrap();
    assert!(status.success(), "{script}");
    Some(home)
}

const ODD_TREE: &str = r#"
    mkdir -p app/dir/empty app/deep
    long=$(printf 'n%.0s' $(seq 200))
    echo one > app/dir/one; chmod 750 app/dir/one
    mkdir -p "app/deep/$long/$long"; echo long > "app/deep/$long/$long/$long"
    ln -s "$long/$long/$long" app/deep/link; ln -s /nowhere app/dir/absolute
    ln app/dir/one app/hard; ln "app/deep/$long/$long/$long" "app/deep/hard-$long"
    printf 'new\nline' > "$(printf 'app/new\nline-%s' "$long")"
    printf 'x' > "$(printf 'app/latin-\351')"
"#;

#[test]
fn gnu_tar_reads_what_is_packed() {
    let Some(home) = with_gnu_tar(ODD_TREE) else {
        return;
    };
    let (_, tarball) = packed(&home.path().join("app"));
    fs::write(home.path().join("slug.tgz"), tarball).unwrap();
    let check = "mkdir out; tar xzf slug.tgz -C out --strip-components=2; tar tzf slug.tgz > list";
    let status = Command::new("sh")
        .args(["-ec", check])
        .current_dir(home.path())
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(
        contents(&home.path().join("out")),
        contents(&home.path().join("app"))
    );
    assert!(
        fs::read_to_string(home.path().join("list"))
            .unwrap()
            .starts_with("./app/\n")
    );
}

#[test]
fn what_gnu_tar_writes_is_unpacked_in_every_format() {
    for format in ["gnu", "posix", "oldgnu"] {
        for names in ["./app", "app"] {
            let script = format!("{ODD_TREE}\n tar --format {format} -czf slug.tgz {names}");
            let Some(home) = with_gnu_tar(&script) else {
                return;
            };
            let tarball = fs::read(home.path().join("slug.tgz")).unwrap();
            let target = Target::new();
            target.unpack(&tarball).unwrap();
            assert_eq!(
                contents(&target.app()),
                contents(&home.path().join("app")),
                "{format}"
            );
            let inode = |name| fs::metadata(target.app().join(name)).unwrap().ino();
            assert_eq!(
                inode("hard"),
                inode("dir/one"),
                "hard links stay hard links"
            );
        }
    }
}
