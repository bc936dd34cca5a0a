//! What `ps` and `top` call this process.

use std::ffi::{CString, OsString};
use std::sync::OnceLock;

/// Where the kernel looks for this process's arguments: the first byte, and how many there are.
static ARGUMENTS: OnceLock<Option<(usize, usize)>> = OnceLock::new();

/// The arguments that the process was started with.
static STARTED_WITH: OnceLock<Vec<OsString>> = OnceLock::new();

/// Bytes of the short name, without its zero (prctl(2), `PR_SET_NAME`).
const SHORT: usize = 15;

/// Sets this process's title: in full over its arguments, if there is room, and its first bytes as the short name. From
/// then on only [`arguments`] has the arguments. A fork inherits the title.
pub fn set(title: &str) {
    let mut end = title.len().min(SHORT);
    while !title.is_char_boundary(end) {
        end -= 1;
    }
    if let Ok(short) = CString::new(&title[..end]) {
        let _ = rustix::thread::set_name(&short);
    }
    arguments();
    let Some((start, length)) = *ARGUMENTS.get_or_init(area) else {
        return;
    };
    // If the last byte is not zero, the kernel reads on into the environment.
    if title.len() >= length || title.contains('\0') {
        return;
    }
    // SAFETY: the kernel says that these bytes are the process's arguments, which are on the stack above all frames, and
    // writable; no reference to them is kept: `std::env::args` copies them, and is not called any more.
    unsafe {
        let area = start as *mut u8;
        std::ptr::copy_nonoverlapping(title.as_ptr(), area, title.len());
        std::ptr::write_bytes(area.add(title.len()), 0, length - title.len());
    }
}

/// An argument 0 for a program that will [`set`] its title, with room for a longer one.
pub fn with_room(title: &str) -> String {
    format!("{title:<150}")
}

/// The arguments that the process was started with, also after [`set`].
pub fn arguments() -> &'static [OsString] {
    STARTED_WITH.get_or_init(|| std::env::args_os().collect())
}

fn area() -> Option<(usize, usize)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    area_in(&stat)
}

/// `arg_start` and the length up to `arg_end`, fields 48 and 49 of `/proc/self/stat` (proc_pid_stat(5)).
fn area_in(stat: &str) -> Option<(usize, usize)> {
    // The name, field 2, may have anything in it.
    let mut rest = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let start: usize = rest.nth(45)?.parse().ok()?;
    let end: usize = rest.next()?.parse().ok()?;
    (start > 0 && end > start).then_some((start, end - start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_the_arguments_is_found() {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let (_, length) = area_in(&stat).unwrap();
        let line = std::fs::read("/proc/self/cmdline").unwrap();
        assert_eq!(length, line.len());
        assert_eq!(area_in("7 (a) b) S 1"), None);
        assert_eq!(with_room("dyno: x").trim_end(), "dyno: x");
    }
}
