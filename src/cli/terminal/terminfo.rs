//! The terminfo entry of a terminal that a dyno would not know, as the value of a variable that ncurses reads
//! (`TERMINFO=b64:…`, terminfo(5)).

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::OFlags;

/// The largest entry that is sent, in bytes. Large terminals have entries of four thousand.
const LARGEST: u64 = 16 * 1024;

/// The first bytes of entries with numbers of two and of four bytes.
const BEGINNINGS: [[u8; 2]; 2] = [[0x1a, 0x01], [0x1e, 0x02]];

/// The system's terminfo folders, which a dyno on this host has, too.
const SYSTEM: [&str; 5] = [
    "/etc/terminfo",
    "/lib/terminfo",
    "/usr/lib/terminfo",
    "/usr/share/terminfo",
    "/usr/local/share/terminfo",
];

/// The value of `TERMINFO` for `term`: its entry, if it is in the user's own database, or if the dyno is `far`, on a
/// host that may lack it. `variable` reads the user's environment. Searched in ncurses's order.
pub fn value(term: &str, far: bool, variable: impl Fn(&str) -> Option<OsString>) -> Option<String> {
    let initial = term.chars().next().filter(char::is_ascii_alphanumeric)?;
    if term.contains('/') {
        return None;
    }
    let named = variable("TERMINFO").unwrap_or_default();
    if [&b"b64:"[..], b"hex:"]
        .iter()
        .any(|it| named.as_bytes().starts_with(it))
    {
        let value = named.into_string().ok();
        return value.filter(|value| value.len() as u64 <= 2 * LARGEST);
    }
    let mut folders = vec![PathBuf::from(named)];
    let home = variable("HOME").map(PathBuf::from);
    folders.extend(home.map(|home| home.join(".terminfo")));
    let more = variable("TERMINFO_DIRS").unwrap_or_default();
    folders.extend(std::env::split_paths(&more));
    let folders = folders.into_iter().filter(|folder| folder.is_absolute());
    for folder in folders.chain(SYSTEM.map(PathBuf::from)) {
        let letters = [initial.to_string(), format!("{:x}", initial as u32)];
        let entry = letters
            .iter()
            .find_map(|letter| entry(&folder.join(letter).join(term)));
        let Some(entry) = entry else { continue };
        // The entry that ncurses would use.
        let is_known = !far && SYSTEM.iter().any(|system| folder == Path::new(system));
        return (!is_known).then(|| format!("b64:{}", STANDARD.encode(entry)));
    }
    None
}

/// The entry in this file, if it can be sent.
fn entry(path: &Path) -> Option<Vec<u8>> {
    let file = File::options()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(path);
    let mut entry = Vec::new();
    file.ok()?.take(LARGEST + 1).read_to_end(&mut entry).ok()?;
    let begins_so = BEGINNINGS.iter().any(|it| entry.starts_with(it));
    (begins_so && entry.len() as u64 <= LARGEST).then_some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Path, letter: &str, term: &str, bytes: &[u8]) {
        std::fs::create_dir_all(folder.join(letter)).unwrap();
        std::fs::write(folder.join(letter).join(term), bytes).unwrap();
    }

    #[test]
    fn the_users_own_entry_goes_along_wherever_ncurses_finds_it() {
        let home = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let own = home.path().join(".terminfo");
        put(&own, "x", "xterm-own", b"\x1a\x01own");
        put(other.path(), "x", "xterm-own", b"\x1e\x02other");
        put(other.path(), "66", "foot-own", b"\x1e\x02foot");
        put(&own, "x", "xterm-odd", b"no entry");
        put(
            &own,
            "x",
            "xterm-big",
            &[&BEGINNINGS[0][..], &[0; 1 << 15]].concat(),
        );
        let value = |term: &str, named: &str, more: &str| {
            value(term, false, |name| {
                let value: OsString = match name {
                    "HOME" => home.path().into(),
                    "TERMINFO" => named.into(),
                    "TERMINFO_DIRS" => more.into(),
                    _ => return None,
                };
                (!value.is_empty()).then_some(value)
            })
        };
        let of = |bytes: &[u8]| Some(format!("b64:{}", STANDARD.encode(bytes)));
        let elsewhere = other.path().to_str().unwrap();
        assert_eq!(value("xterm-own", "", ""), of(b"\x1a\x01own"));
        assert_eq!(value("xterm-own", elsewhere, ""), of(b"\x1e\x02other"));
        let dirs = format!(":/nowhere:{elsewhere}");
        assert_eq!(value("foot-own", "", &dirs), of(b"\x1e\x02foot"));
        assert_eq!(value("foot-own", "", ""), None);
        for none in ["xterm-odd", "xterm-big", "", "../x", "x/../xterm-own", "é"] {
            assert_eq!(value(none, "", ""), None, "{none}");
        }
        // One that is in the variable itself.
        assert_eq!(value("xterm-own", "b64:GgE=", ""), Some("b64:GgE=".into()));
        let long = format!("hex:{}", "0".repeat(1 << 20));
        assert_eq!(value("xterm-own", &long, ""), None);
    }

    #[test]
    fn what_every_host_has_stays_here_unless_the_dyno_is_elsewhere() {
        let there = ["linux", "xterm", "vt100"].into_iter().find(|term| {
            SYSTEM
                .iter()
                .any(|it| Path::new(it).join(&term[..1]).join(term).exists())
        });
        let Some(term) = there else { return };
        assert_eq!(value(term, false, |_| None), None);
        assert!(value(term, true, |_| None).unwrap().starts_with("b64:"));
    }
}
