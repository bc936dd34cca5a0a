//! What a dyno's programs print on the user's terminal: pieces are understood as the whole, and after what is printed in the end
//! every mode is off, which is said in few bytes. And why a program could not be executed, from its command and its first bytes:
//! one short line.

#![no_main]

use std::path::Path;

use dyno::bounds::within;
use dyno::modes::Modes;
use dyno::pieces::{first, pieces};
use dyno::sandbox::unexecutable::{ExecutedCommand, SeenFile, cause};
use libfuzzer_sys::fuzz_target;

fn printed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Modes {
    let mut modes = Modes::default();
    pieces.for_each(|piece| modes.feed(piece));
    modes
}

fn modes(seed: u8, bytes: &[u8]) {
    let mut modes = within(64 * 1024, || printed(std::iter::once(bytes)));
    assert_eq!(printed(pieces(seed, bytes)), modes);
    let off = modes.off();
    assert!(off.len() < 4096, "{} bytes", off.len());
    modes.feed(&off);
    assert_eq!(
        String::from_utf8_lossy(&modes.off()),
        "",
        "after {}",
        String::from_utf8_lossy(&off).escape_debug()
    );
}

fn executed(how: u8, bytes: &[u8]) {
    // The command ends with the first line; what follows is what its files begin with.
    let (command, head) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => bytes.split_at(end),
        None => (bytes, &[][..]),
    };
    let Ok(command) = std::str::from_utf8(command) else {
        return;
    };
    let head = head.strip_prefix(b"\n").unwrap_or(head);
    let run = ExecutedCommand {
        command,
        path: (how & 1 == 0).then_some("/bin:/usr/bin"),
        folder: Path::new("/app"),
    };
    let look = |path: &Path| match path.to_str() {
        Some(path) if path.contains('x') => SeenFile::Nothing,
        Some("/app") => SeenFile::Folder,
        _ => SeenFile::File {
            executable: how & 2 == 0,
            no_exec: how & 4 == 4,
            head: head.to_vec(),
        },
    };
    let why = within(32 * bytes.len() + 64 * 1024, || cause(run, 126, look));
    if let Some(why) = why {
        assert!(
            why.len() < 4096 && !why.contains(char::is_control),
            "{why:?}"
        );
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((how, rest)) = first(data) else {
        return;
    };
    match how & 1 {
        0 => first(rest).map_or((), |(seed, bytes)| modes(seed, bytes)),
        _ => executed(how >> 1, rest),
    }
});
