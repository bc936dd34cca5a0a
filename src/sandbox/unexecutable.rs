//! Explains why the shell could not execute a program, after an exit status of 126 or 127.
//!
//! The shell says `not found` of a script whose interpreter is missing, and `Permission denied` of a folder. [`cause`]
//! is pure: from the command's text and the files that it names it makes the sentence that the platform adds. It
//! returns None where it is not sure: for a program whose name only the running shell knew, and where nothing is wrong
//! with any program. Called by init, which looks at the files as the command saw them ([`look`]).
//! `unexecutable/programs.rs` finds the names of programs in shell text.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod programs;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;

use programs::programs;

/// The exit statuses of a shell that could not execute a program, or did not find it.
const STATUSES: [u8; 2] = [126, 127];

/// How many bytes of a file are read: an interpreter line has at most 255 bytes, and a program's headers are at its beginning.
const HEAD: usize = 4096;

/// How many interpreters of interpreters are looked at.
const DEPTH: usize = 4;

/// How many programs of a command are looked at.
const PROGRAMS: usize = 16;

/// Constants of the ELF format: the machines with names, and the header that names a program's loader.
const MACHINES: [(u16, &str); 7] = [
    (3, "i386"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv64"),
    (21, "ppc64"),
    (22, "s390x"),
];
const PT_INTERP: u32 = 3;

/// This host's machine in the ELF format, if it is one of [`MACHINES`].
const HERE: Option<u16> = if cfg!(target_arch = "x86_64") {
    Some(62)
} else if cfg!(target_arch = "aarch64") {
    Some(183)
} else {
    None
};

/// What [`look`] sees at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeenFile {
    /// No file.
    Nothing,
    /// The caller may not look at it.
    Hidden,
    /// A folder.
    Folder,
    /// A file.
    File {
        /// Its mode allows execution.
        executable: bool,
        /// Its mount forbids execution.
        no_exec: bool,
        /// Its first bytes.
        head: Vec<u8>,
    },
}

/// What a command was run with.
#[derive(Debug, Clone, Copy)]
pub struct ExecutedCommand<'a> {
    /// The shell text.
    pub command: &'a str,
    /// The value of `PATH`. None: it is not known, since the slug's profile may have changed it.
    pub path: Option<&'a str>,
    /// The working directory at its start.
    pub folder: &'a Path,
}

/// Why a command ended with `status`: what is wrong with a program that it names. None if nothing is known to be wrong.
pub fn cause(
    run: ExecutedCommand<'_>,
    status: u8,
    look: impl Fn(&Path) -> SeenFile,
) -> Option<String> {
    if !STATUSES.contains(&status) {
        return None;
    }
    let programs = programs(run.command)?;
    let files = Files { run, look: &look };
    programs
        .iter()
        .take(PROGRAMS)
        .find_map(|program| files.wrong_with(program))
}

/// What this process sees at a path.
pub fn look(path: &Path) -> SeenFile {
    let about = match fs::metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            return SeenFile::Hidden;
        }
        Err(_) => return SeenFile::Nothing,
    };
    if about.is_dir() {
        return SeenFile::Folder;
    }
    let mut head = Vec::new();
    // Reading a FIFO would not end.
    if about.is_file()
        && let Ok(file) = File::open(path)
    {
        let _ = file.take(HEAD as u64).read_to_end(&mut head);
    }
    let mount = rustix::fs::statvfs(path);
    SeenFile::File {
        executable: about.permissions().mode() & 0o111 != 0,
        no_exec: mount.is_ok_and(|it| it.f_flag.contains(StatVfsMountFlags::NOEXEC)),
        head,
    }
}

struct Files<'a> {
    run: ExecutedCommand<'a>,
    look: &'a dyn Fn(&Path) -> SeenFile,
}

impl Files<'_> {
    fn wrong_with(&self, program: &str) -> Option<String> {
        let shown = shown(program);
        match self.find(program)? {
            Some(file) => self.wrong_with_file(&file, &shown, DEPTH),
            None if program.contains('/') => Some(format!("there is no file {shown}")),
            None => Some(format!("there is no program {shown} on the dyno's PATH")),
        }
    }

    /// The file that a word names: `Some(None)` if there is none, and None if that cannot be told.
    fn find(&self, program: &str) -> Option<Option<PathBuf>> {
        if program.contains('/') {
            let path = self.run.folder.join(program);
            return match (self.look)(&path) {
                SeenFile::Nothing => Some(None),
                SeenFile::Hidden => None,
                SeenFile::Folder | SeenFile::File { .. } => Some(Some(path)),
            };
        }
        let mut found = None;
        for folder in self.run.path?.split(':') {
            let path = self.run.folder.join(folder).join(program);
            match (self.look)(&path) {
                SeenFile::File {
                    executable: true, ..
                } => return Some(Some(path)),
                SeenFile::File { .. } => drop(found.get_or_insert(path)),
                SeenFile::Nothing | SeenFile::Hidden | SeenFile::Folder => {}
            }
        }
        Some(found)
    }

    fn wrong_with_file(&self, path: &Path, shown: &str, depth: usize) -> Option<String> {
        let (executable, no_exec, head) = match (self.look)(path) {
            SeenFile::Folder => return Some(format!("{shown} is a folder")),
            SeenFile::Nothing | SeenFile::Hidden => return None,
            SeenFile::File {
                executable,
                no_exec,
                head,
            } => (executable, no_exec, head),
        };
        if !executable {
            return Some(format!(
                "{shown} is not executable (`chmod +x` makes it so)"
            ));
        }
        if no_exec {
            return Some(format!(
                "{shown} lies on a mount where nothing may be executed (noexec)"
            ));
        }
        if let Some(line) = head.strip_prefix(b"#!") {
            return self.wrong_with_interpreter(line, shown, depth);
        }
        if head.starts_with(b"\xef\xbb\xbf#!") {
            return Some(format!(
                "{shown} begins with a byte order mark, so its `#!` line does not count"
            ));
        }
        if head.starts_with(b"\x7fELF") {
            return self.wrong_with_elf(&head, shown);
        }
        let other = match &head[..] {
            [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => "macOS",
            [b'M', b'Z', ..] => "Windows",
            _ if head.contains(&0) => {
                return Some(format!("{shown} is neither a program nor a script"));
            }
            _ => return None,
        };
        Some(format!("{shown} is a program for {other}"))
    }

    /// What is wrong with the interpreter that a script names; `line` is what follows `#!`.
    fn wrong_with_interpreter(&self, line: &[u8], shown: &str, depth: usize) -> Option<String> {
        let line = line.split(|byte| *byte == b'\n').next()?;
        let line = String::from_utf8_lossy(line);
        let crlf = line.ends_with('\r');
        let mut words = line.trim_end_matches('\r').split_ascii_whitespace();
        let interpreter = words.next()?;
        if crlf {
            return Some(format!(
                "{shown} has Windows line ends (CRLF), so its first line asks for {}",
                self::shown(&format!("{}\\r", line.trim_end_matches('\r').trim()))
            ));
        }
        let rest: Vec<_> = words.collect();
        if interpreter.rsplit('/').next() == Some("env") {
            let wanted = match rest.split_first() {
                Some((&"-S", rest)) => rest.iter().find(|word| !word.contains('='))?,
                Some((first, [])) if !first.starts_with('-') => first,
                Some((first, _)) if !first.starts_with('-') => {
                    let all = crate::error::shown(rest.join(" ").as_bytes(), 200);
                    return Some(format!(
                        "the first line of {shown} asks `env` for one program called `{all}` (`#!/usr/bin/env -S {all}` means its words)"
                    ));
                }
                _ => return None,
            };
            return match self.find(wanted)? {
                Some(_) => None,
                None => Some(format!(
                    "{shown} asks in its first line for {}, which is not on the dyno's PATH",
                    self::shown(wanted)
                )),
            };
        }
        let path = self.run.folder.join(interpreter);
        match (self.look)(&path) {
            SeenFile::Nothing => Some(format!(
                "{shown} asks in its first line for {}, which is not there",
                self::shown(interpreter)
            )),
            _ if depth == 0 => None,
            _ => self
                .wrong_with_file(&path, &self::shown(interpreter), depth.saturating_sub(1))
                .map(|why| format!("{shown} asks in its first line for an interpreter, and {why}")),
        }
    }

    fn wrong_with_elf(&self, head: &[u8], shown: &str) -> Option<String> {
        let little = head.get(5) == Some(&1);
        let number = |at: usize, length: usize| -> Option<u64> {
            let mut bytes = head.get(at..at.checked_add(length)?)?.to_vec();
            if !little {
                bytes.reverse();
            }
            Some(
                bytes
                    .iter()
                    .rev()
                    .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
            )
        };
        let (machine, here) = (number(18, 2)? as u16, HERE?);
        // A 64-bit x86 kernel may run 32-bit programs.
        let foreign = machine != here && (here, machine) != (62, 3);
        if foreign {
            let name = |number| {
                let known = MACHINES.iter().find(|(known, _)| *known == number);
                known.map_or_else(
                    || format!("machine {number}"),
                    |(_, name)| (*name).to_owned(),
                )
            };
            let (built, here) = (name(machine), name(here));
            return Some(format!(
                "{shown} is a program for {built}, and this host is {here}"
            ));
        }
        if head.get(4) != Some(&2) {
            return None;
        }
        let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        let loader = (0..count.min(64)).find_map(|n| {
            // The file may say anything.
            let at = usize::try_from(table.checked_add(n.checked_mul(size)?)?).ok()?;
            (number(at, 4)? == u64::from(PT_INTERP)).then_some(())?;
            let field = |offset: usize| usize::try_from(number(at.checked_add(offset)?, 8)?).ok();
            let (begin, length) = (field(8)?, field(32)?);
            let name = head.get(begin..begin.checked_add(length)?)?;
            Some(
                String::from_utf8_lossy(name)
                    .trim_end_matches('\0')
                    .to_owned(),
            )
        })?;
        match (self.look)(Path::new(&loader)) {
            SeenFile::Nothing => Some(format!(
                "{shown} was built for another C library: its loader {} is not there",
                self::shown(&loader)
            )),
            _ => None,
        }
    }
}

/// A word in backquotes, without control characters, for a log or a terminal.
fn shown(word: &str) -> String {
    format!("`{}`", crate::error::shown(word.as_bytes(), 200))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn file(mode: u32, head: &[u8]) -> SeenFile {
        SeenFile::File {
            executable: mode & 0o111 != 0,
            no_exec: false,
            head: head.to_vec(),
        }
    }

    /// An ELF program of 64 bits for a machine, with this loader.
    fn elf(machine: u16, loader: &str) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64] = PT_INTERP as u8;
        bytes[72] = 120;
        bytes[96] = loader.len() as u8 + 1;
        bytes.extend(loader.as_bytes());
        bytes.push(0);
        bytes
    }

    fn why(command: &str, status: u8) -> Option<String> {
        let here = HERE.unwrap_or(62);
        let other = if here == 62 { 183 } else { 62 };
        let no_exec = SeenFile::File {
            executable: true,
            no_exec: true,
            head: b"#!/bin/sh\n".to_vec(),
        };
        let seen: HashMap<&str, SeenFile> = [
            ("/bin/sh", file(0o755, &elf(here, "/lib/ld.so"))),
            ("/lib/ld.so", file(0o755, b"\x7fELF")),
            ("/bin/python3", file(0o755, &elf(here, "/lib/ld.so"))),
            ("/usr/bin/env", file(0o755, &elf(here, "/lib/ld.so"))),
            ("/app/ok.sh", file(0o755, b"#!/bin/sh\n")),
            ("/app/plain", file(0o755, b"echo hi\n")),
            ("/app/not-executable", file(0o644, b"#!/bin/sh\n")),
            ("/app/folder", SeenFile::Folder),
            ("/app/no-exec", no_exec),
            ("/app/crlf", file(0o755, b"#!/bin/sh\r\necho\r\n")),
            ("/app/env-crlf", file(0o755, b"#!/usr/bin/env python3\r\n")),
            ("/app/no-such", file(0o755, b"#!/no/such -x\n")),
            ("/app/typo", file(0o755, b"#!/usr/bin/env pyhton\n")),
            ("/app/right", file(0o755, b"#! /usr/bin/env python3")),
            ("/app/words", file(0o755, b"#!/usr/bin/env python3 -u\n")),
            (
                "/app/split",
                file(0o755, b"#!/usr/bin/env -S A=1 ruby -w\n"),
            ),
            ("/app/mark", file(0o755, b"\xef\xbb\xbf#!/bin/sh\n")),
            ("/app/foreign", file(0o755, &elf(other, "/lib/ld.so"))),
            ("/app/musl", file(0o755, &elf(here, "/lib/ld-musl.so.1"))),
            ("/app/mac", file(0o755, b"\xcf\xfa\xed\xfe\x07\0")),
            ("/app/exe", file(0o755, b"MZ\x90\0")),
            ("/app/junk", file(0o755, b"\x01\0\x02")),
            ("/app/nested", file(0o755, b"#!/app/not-executable\n")),
            ("/app/loop", file(0o755, b"#!/app/loop\n")),
            ("/app/hidden", SeenFile::Hidden),
        ]
        .into();
        let look = |path: &Path| {
            // `/app/./file` is `/app/file`.
            let path: PathBuf = path.components().collect();
            let seen = seen.get(path.to_str().unwrap()).cloned();
            seen.unwrap_or(SeenFile::Nothing)
        };
        let run = ExecutedCommand {
            command,
            path: Some("/usr/bin:/bin:bin"),
            folder: Path::new("/app"),
        };
        cause(run, status, look)
    }

    #[test]
    fn a_script_s_first_line_moves_no_cursor() {
        let run = ExecutedCommand {
            command: "./s",
            path: Some("/bin"),
            folder: Path::new("/app"),
        };
        for line in [
            "#!/usr/bin/env a\u{1b}[2J b\u{7}",
            "#!/usr/bin/env a\u{1b}c",
            "#!\u{1b}[2J",
        ] {
            let why = cause(run, 126, |path| match path.starts_with("/app/s") {
                true => file(0o755, line.as_bytes()),
                false => SeenFile::Nothing,
            });
            assert!(!why.unwrap().contains(char::is_control), "{line:?}");
        }
    }

    #[test]
    fn a_program_may_say_anything_of_where_its_headers_are() {
        let run = ExecutedCommand {
            command: "./p",
            path: None,
            folder: Path::new("/app"),
        };
        for at in [32, 54, 72, 96] {
            let mut bytes = elf(HERE.unwrap_or(62), "/lib/ld.so");
            bytes[at..at + 8].fill(0xff);
            assert_eq!(cause(run, 126, |_| file(0o755, &bytes)), None, "{at}");
        }
    }

    #[test]
    fn the_reason_is_what_is_wrong_with_the_file() {
        for (command, words) in [
            ("./nothing", "there is no file `./nothing`"),
            (
                "exec pyhton3 web.py",
                "there is no program `pyhton3` on the dyno's PATH",
            ),
            (
                "./not-executable",
                "`./not-executable` is not executable (`chmod +x` makes it so)",
            ),
            ("./folder", "`./folder` is a folder"),
            ("./no-exec", "nothing may be executed (noexec)"),
            (
                "./crlf",
                "`./crlf` has Windows line ends (CRLF), so its first line asks for `/bin/sh\\r`",
            ),
            (
                "./env-crlf",
                "so its first line asks for `/usr/bin/env python3\\r`",
            ),
            (
                "./no-such",
                "`./no-such` asks in its first line for `/no/such`, which is not there",
            ),
            (
                "./typo",
                "`./typo` asks in its first line for `pyhton`, which is not on the dyno's PATH",
            ),
            (
                "./words",
                "asks `env` for one program called `python3 -u` (`#!/usr/bin/env -S python3 -u` means",
            ),
            ("./split", "for `ruby`, which is not on"),
            ("./mark", "`./mark` begins with a byte order mark"),
            (
                "./musl",
                "another C library: its loader `/lib/ld-musl.so.1` is not there",
            ),
            ("./mac", "`./mac` is a program for macOS"),
            ("./exe", "`./exe` is a program for Windows"),
            ("./junk", "`./junk` is neither a program nor a script"),
            (
                "./nested",
                "for an interpreter, and `/app/not-executable` is not executable",
            ),
            ("./ok.sh && ./typo", "`./typo` asks"),
        ] {
            let said = why(command, 126).unwrap_or_default();
            assert!(said.contains(words), "{command}: {said}");
            assert_eq!(why(command, 127).unwrap(), said);
            assert_eq!(why(command, 1), None, "{command}");
        }
        if HERE.is_some() {
            let said = why("./foreign", 126).unwrap();
            assert!(said.starts_with("`./foreign` is a program for "), "{said}");
        }
        // Whose status it was then, nobody can tell.
        for silent in [
            "./ok.sh",
            "./right",
            "./plain",
            "python3 x",
            "echo x",
            "$X",
            "./loop",
            "./hidden",
        ] {
            assert_eq!(why(silent, 127), None, "{silent}");
        }
    }

    #[test]
    fn nothing_is_said_of_a_path_that_a_profile_may_have_changed() {
        let run = ExecutedCommand {
            command: "tool; ./nothing",
            path: None,
            folder: Path::new("/app"),
        };
        let said = cause(run, 127, |_| SeenFile::Nothing);
        assert_eq!(said.as_deref(), Some("there is no file `./nothing`"));
    }

    #[test]
    fn files_of_this_host_are_looked_at_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("script");
        assert_eq!(look(&path), SeenFile::Nothing);
        fs::write(&path, "#!/bin/sh\n").unwrap();
        assert!(
            matches!(look(&path), SeenFile::File { executable: false, head, .. } if head == b"#!/bin/sh\n")
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(
            look(&path),
            SeenFile::File {
                executable: true,
                ..
            }
        ));
        assert_eq!(look(folder.path()), SeenFile::Folder);
    }
}
