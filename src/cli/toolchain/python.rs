//! Python packages of the user's own, and those that are installed in place.

use std::fs;
use std::path::{Path, PathBuf};

/// How many entries of a folder are looked at at most.
const MAX_LOOKED_AT: usize = 4_096;

/// The most bytes that are read of a file that names another folder.
const MAX_FILE: u64 = 64 * 1024;

/// The folders below `base/lib` with a `site-packages`, such as `~/.local/lib/python3.11`.
pub(super) fn libraries(base: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(base.join("lib")).into_iter().flatten();
    let mut found: Vec<_> = entries
        .flatten()
        .take(MAX_LOOKED_AT)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("python"))
        .map(|entry| entry.path())
        .filter(|path| path.join("site-packages").is_dir())
        .collect();
    found.sort();
    found
}

/// The packages in `library/site-packages` that are installed in place (`pip install -e`): name and folder of each.
pub(super) fn editable(library: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(library.join("site-packages"))
        .into_iter()
        .flatten();
    let mut found = Vec::new();
    for entry in entries.flatten().take(MAX_LOOKED_AT) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(package) = name.strip_suffix(".pth") {
            let text = read(&entry.path());
            let folders = text
                .lines()
                .map(str::trim)
                .filter(|line| line.starts_with('/'));
            found.extend(folders.map(|folder| (package.to_owned(), PathBuf::from(folder))));
        } else if let Some(package) = name.strip_suffix(".dist-info") {
            let text = read(&entry.path().join("direct_url.json"));
            found.extend(in_place(&text).map(|folder| (package.to_owned(), folder)));
        }
    }
    found.sort();
    // A package may be found in both ways.
    found.dedup_by(|a, b| a.1 == b.1);
    found
}

/// The folder of a package by its `direct_url.json`, if it is installed in place.
fn in_place(text: &str) -> Option<PathBuf> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let editable = value.pointer("/dir_info/editable")?.as_bool()?;
    let folder = value.get("url")?.as_str()?.strip_prefix("file://")?;
    (editable && folder.starts_with('/')).then(|| folder.into())
}

fn read(path: &Path) -> String {
    let small = fs::metadata(path).is_ok_and(|it| it.is_file() && it.len() <= MAX_FILE);
    let text = small.then(|| fs::read_to_string(path).ok());
    text.flatten().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_that_are_used_in_place_are_known_by_both_of_their_signs() {
        let base = tempfile::tempdir().unwrap();
        let library = base.path().join("lib/python3.11");
        let packages = library.join("site-packages");
        for (file, text) in [
            ("easy-install.pth", "/home/a/old\nimport x\n"),
            ("distutils-precedence.pth", "import os; x = '/no'\n"),
            (
                "new-1.dist-info/direct_url.json",
                r#"{"dir_info": {"editable": true}, "url": "file:///home/a/new"}"#,
            ),
            (
                "copied-1.dist-info/direct_url.json",
                r#"{"dir_info": {}, "url": "file:///home/a/copied"}"#,
            ),
        ] {
            fs::create_dir_all(packages.join(file).parent().unwrap()).unwrap();
            fs::write(packages.join(file), text).unwrap();
        }
        assert_eq!(libraries(base.path()), std::slice::from_ref(&library));
        let found = editable(&library);
        let found: Vec<_> = found
            .iter()
            .map(|(_, folder)| folder.to_str().unwrap())
            .collect();
        assert_eq!(found, ["/home/a/old", "/home/a/new"]);
    }
}
