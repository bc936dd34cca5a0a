//! Folders of the host that are buildpacks: which ones may be copied into a build's dyno.
//!
//! The server copies them, as a root server with root's rights. So it takes none that somebody else could have lead to other files
//! meanwhile.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{UserError, shown};
use crate::slug::{SlugLimits, is_within};

/// The most bytes of one.
const MOST: u64 = 256 << 20;

/// The most files and folders of one.
const MOST_ENTRIES: u64 = 20_000;

/// Looks at the folder. `home` is that of the server's state, which is no buildpack.
///
/// # Errors
/// It is none, or others than root could have changed where it leads, or it is too big.
pub fn check(folder: &Path, home: &Path) -> Result<(), UserError> {
    let shown = shown(folder.as_os_str().as_encoded_bytes(), 200);
    let bad = |why: &str, hint: &str| {
        Err(UserError::new(format!("`{shown}` cannot be a buildpack: {why}")).hint(hint))
    };
    let real = match folder.canonicalize() {
        Ok(real) => real,
        Err(error) => return bad(&error.to_string(), "name a folder of this host"),
    };
    if real != folder {
        let real = real.display();
        return bad(
            "its path leads elsewhere",
            &format!("that is `{real}`: name it so"),
        );
    }
    let has = |name: &str| folder.join("bin").join(name).is_file();
    if !(has("detect") && has("compile")) {
        return bad(
            "it has no bin/detect and bin/compile",
            "`dyno buildpacks:eject python` writes one that has",
        );
    }
    let home = home.canonicalize();
    let home = home.as_deref().unwrap_or(Path::new("/"));
    if folder.starts_with(home) || home.starts_with(folder) {
        return bad(
            "dyno's own state is there",
            "copy it to a folder of its own",
        );
    }
    if rustix::process::geteuid().is_root()
        && let Some(others) = folder.ancestors().find(|it| !is_roots(it))
    {
        let others = others.display();
        return bad(
            &format!("others than root can change `{others}`, and the server is root's"),
            "copy it to where only root can write, as `/opt`",
        );
    }
    let limits = SlugLimits {
        unpacked_bytes: MOST,
        entries: MOST_ENTRIES,
        ..SlugLimits::default()
    };
    if !is_within(folder, &limits) {
        let most = format!("it has more than {} MB or {MOST_ENTRIES} files", MOST >> 20);
        return bad(&most, "name the buildpack's own folder");
    }
    Ok(())
}

/// Whether only root can put something else there.
fn is_roots(folder: &Path) -> bool {
    const STICKY: u32 = 0o1000;
    fs::symlink_metadata(folder)
        .is_ok_and(|it| it.uid() == 0 && (it.mode() & 0o022 == 0 || it.mode() & STICKY != 0))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_folder_is_a_buildpack_by_what_is_in_it_and_by_whose_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let (pack, home) = (dir.join("pack"), dir.join("home"));
        fs::create_dir_all(pack.join("bin")).unwrap();
        fs::create_dir(&home).unwrap();
        let refused = |folder: &Path| check(folder, &home).unwrap_err().message;
        assert!(refused(&pack).contains("bin/detect"));
        for name in ["detect", "compile"] {
            fs::write(pack.join("bin").join(name), "").unwrap();
        }
        check(&pack, &home).unwrap();
        assert!(refused(&dir.join("none")).contains("No such file"));
        symlink(&pack, dir.join("link")).unwrap();
        assert!(refused(&dir.join("link")).contains("elsewhere"));
        for within in [&home, &pack] {
            fs::create_dir_all(within.join("a/bin")).unwrap();
        }
        assert!(
            check(&pack, &pack.join("a"))
                .unwrap_err()
                .message
                .contains("state")
        );
        assert!(check(&pack, &dir).unwrap_err().message.contains("state"));
        if rustix::process::geteuid().is_root() {
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
            assert!(refused(&pack).contains("others than root"));
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
        }
        let big = fs::File::create(pack.join("big")).unwrap();
        big.set_len(MOST + 1).unwrap();
        assert!(refused(&pack).contains("more than 256 MB"));
    }
}
