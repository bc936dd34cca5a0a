//! A dyno's `/var`: data that belongs to programs in `/usr`, and folders of its own that they write to.
//!
//! Distributions keep parts of programs in `/var/lib` that are made when a package is installed, and without which the
//! program does not work. What services keep there (databases, containers, mail, keys, the homes of their users) is
//! never shown.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::host_files::resolve;
use super::{MEMORY_FOLDER_MB, Stack};
use crate::sandbox::plan::{MountAccess, MountStep};

/// Data of programs, read-only, where the stack has it.
const DATA: &[&str] = &[
    // Languages and their packages: gems of `gem install` on Debian, package databases of compilers.
    "/var/lib/gems",
    "/var/lib/ghc",
    "/var/lib/haskell-packages",
    "/var/lib/ocaml",
    "/var/lib/coq",
    "/var/lib/emacsen-common",
    "/var/lib/octave",
    // The trusted CAs on openSUSE.
    "/var/lib/ca-certificates",
    // Formats, maps and fonts of TeX; character maps of Ghostscript; catalogs of XML and SGML; LibreOffice's settings.
    "/var/lib/texmf",
    "/var/lib/tex-common",
    "/var/lib/ghostscript",
    "/var/lib/xml-core",
    "/var/lib/sgml-base",
    "/var/lib/libreoffice",
    // Dictionaries and tables.
    "/var/lib/aspell",
    "/var/lib/ispell",
    "/var/lib/dictionaries-common",
    "/var/lib/dictd",
    "/var/lib/mecab",
    "/var/lib/GeoIP",
    "/var/lib/ieee-data",
    "/var/lib/usbutils",
    // Rules and signatures of scanners.
    "/var/lib/clamav",
    "/var/lib/spamassassin",
    // The installed packages, for `dpkg -s`, `rpm -q` and the like.
    "/var/lib/dpkg",
    "/var/lib/rpm",
    "/var/lib/pacman",
    "/var/lib/alternatives",
    // Guix's profiles are links from here into /gnu; its daemon's socket is beside them.
    "/var/guix/profiles",
    // Without it each program that draws text reads all fonts first.
    "/var/cache/fontconfig",
];

/// Folders that the stack's programs write to as any user, with their modes: where the stack has them, a dyno has empty
/// ones of its own.
const OWN: &[(&str, u16)] = &[
    // PHP's sessions, on Debian and Ubuntu, and on Fedora.
    ("/var/lib/php/sessions", 0o700),
    ("/var/lib/php/session", 0o700),
    ("/var/lib/php/wsdlcache", 0o700),
    ("/var/lib/php5", 0o700),
    ("/var/crash", 0o1777),
];

/// Whether a dyno sees what the stack has at `path`, or has a folder of its own there.
pub(super) fn is_shown(path: &Path) -> bool {
    let own = OWN.iter().map(|(path, _)| path);
    DATA.iter().chain(own).any(|shown| path.starts_with(shown))
}

/// Where programs look for trusted CAs.
const TRUST: &[&str] = &["/etc/ssl", "/etc/pki", "/etc/ca-certificates"];

/// How deep below those folders links are looked for, how many entries of a folder are read, and how many targets are
/// kept. This bounds the work at each start of a dyno.
const TRUST_DEPTH: usize = 3;
const MAX_LOOKED_AT: usize = 64;
const MAX_TRUST: usize = 32;

impl Stack {
    /// The steps that make a dyno's `/var`; `/var/run` is `/run`.
    pub(super) fn var(&self) -> Vec<MountStep> {
        let folder = |target: &str, mode| MountStep::Folder {
            target: target.into(),
            mode,
        };
        let mut steps: Vec<_> = ["/var/lib", "/var/log", "/var/cache", "/var/spool"]
            .map(|target| folder(target, 0o755))
            .into();
        let there = |path: &&str| self.at(Path::new(path)).is_dir();
        steps.extend(
            DATA.iter()
                .filter(|path| there(path))
                .map(|path| MountStep::Bind {
                    source: self.at(Path::new(path)),
                    target: path.into(),
                    access: MountAccess::ReadOnly,
                }),
        );
        steps.extend(self.trusted());
        let own = OWN.iter().filter(|(path, _)| there(path));
        steps.extend(own.map(|(path, mode)| MountStep::Memory {
            target: path.into(),
            mode: u32::from(*mode),
            megabytes: MEMORY_FOLDER_MB,
        }));
        steps
    }

    /// The targets of links among the certificates in `/etc` that are outside of what a dyno sees, if every user may
    /// read them. Distributions collect the certificates of packages and of the administrator there.
    fn trusted(&self) -> Vec<MountStep> {
        let mut found: Vec<PathBuf> = Vec::new();
        // Most lead into one and the same folder, or to each other.
        let mut links: HashMap<PathBuf, Option<PathBuf>> = HashMap::new();
        let mut folders: Vec<_> = TRUST.iter().map(|path| (PathBuf::from(path), 0)).collect();
        while let Some((folder, depth)) = folders.pop() {
            let entries = fs::read_dir(self.at(&folder)).into_iter().flatten();
            for entry in entries.flatten().take(MAX_LOOKED_AT) {
                let path = folder.join(entry.file_name());
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() && depth < TRUST_DEPTH => {
                        folders.push((path, depth + 1));
                    }
                    Ok(kind) if kind.is_symlink() => {
                        let target = resolve(&path, |path| {
                            if let Some(known) = links.get(path) {
                                return known.clone();
                            }
                            let link = self.shown_link(path);
                            links.insert(path.to_owned(), link.clone());
                            link
                        });
                        // Hardly any; what else is asked takes longer.
                        if !target.starts_with("/var") {
                            continue;
                        }
                        let known = DATA.iter().map(Path::new);
                        let known = known.chain(found.iter().map(PathBuf::as_path));
                        let seen = super::is_shown(&target)
                            || known.into_iter().any(|known| target.starts_with(known));
                        if !seen && self.is_public(&target) {
                            found.push(target);
                        }
                    }
                    _ => {}
                }
            }
        }
        found.sort();
        found.truncate(MAX_TRUST);
        let bind = |target: PathBuf| MountStep::Bind {
            source: self.at(&target),
            target,
            access: MountAccess::ReadOnly,
        };
        found.into_iter().map(bind).collect()
    }

    /// Whether there is a file or folder at `path` that every user may read.
    fn is_public(&self, path: &Path) -> bool {
        let metadata = fs::metadata(self.at(path));
        metadata.is_ok_and(|it| {
            let needed = if it.is_dir() { 0o005 } else { 0o004 };
            (it.is_dir() || it.is_file()) && it.permissions().mode() & needed == needed
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn data_of_programs_is_there_and_that_of_services_is_not() {
        let root = tempfile::tempdir().unwrap();
        for folder in [
            "lib/gems/3.1.0",
            "lib/texmf",
            "lib/mysql",
            "lib/docker",
            "lib/php/sessions",
            "cache/fontconfig",
            "cache/debconf",
            "spool/cron",
        ] {
            fs::create_dir_all(root.path().join("var").join(folder)).unwrap();
        }
        let stack = Stack {
            root: root.path().to_owned(),
            names: false,
        };
        let steps = stack.var();
        let targets = |wanted: fn(&MountStep) -> bool| -> Vec<&Path> {
            let steps = steps.iter().filter(|step| wanted(step));
            steps.map(MountStep::target).collect()
        };
        assert_eq!(
            targets(|step| matches!(
                step,
                MountStep::Bind {
                    access: MountAccess::ReadOnly,
                    ..
                }
            )),
            ["/var/lib/gems", "/var/lib/texmf", "/var/cache/fontconfig"].map(Path::new)
        );
        assert_eq!(
            targets(|step| matches!(step, MountStep::Memory { .. })),
            [Path::new("/var/lib/php/sessions")]
        );
    }

    #[test]
    fn certificates_are_there_wherever_the_links_to_them_lead() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for folder in [
            "etc/ssl/private",
            "etc/pki/tls",
            "usr/share/ca",
            "var/lib/ca-certificates/pem",
            "var/lib/trust/pem",
            "var/lib/keys",
            "run/trust",
        ] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        fs::set_permissions(at("var/lib/keys"), fs::Permissions::from_mode(0o700)).unwrap();
        for (link, to) in [
            ("etc/ssl/certs", "../../var/lib/ca-certificates/pem"),
            ("etc/pki/tls/certs", "/var/lib/trust/pem"),
            ("etc/pki/tls/again", "/var/lib/trust/pem"),
            ("etc/ssl/ca", "/usr/share/ca"),
            ("etc/ssl/private/keys", "/var/lib/keys"),
            ("etc/ssl/gone", "/var/lib/gone"),
            ("etc/ssl/run", "/run/trust"),
        ] {
            symlink(to, at(link)).unwrap();
        }
        let stack = Stack {
            root: root.path().to_owned(),
            names: false,
        };
        let steps = stack.var();
        let bound = steps
            .iter()
            .filter(|step| matches!(step, MountStep::Bind { .. }));
        let bound: Vec<_> = bound.map(MountStep::target).collect();
        let wanted = ["/var/lib/ca-certificates", "/var/lib/trust/pem"].map(Path::new);
        assert_eq!(bound, wanted);
    }
}
