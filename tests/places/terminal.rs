//! Runs a command in a terminal of 30 rows and 100 columns, where no program that does so is installed.
//!
//! `terminal TEXT ANSWER COMMAND...` types ANSWER and Return once the terminal shows TEXT, prints all that it shows, and
//! exits with the command's status.

use std::io::{Read, Write};

use portable_pty::{CommandBuilder, PtySize, native_pty_system};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(text), Some(answer)) = (args.next(), args.next()) else {
        return Err("terminal TEXT ANSWER COMMAND...".into());
    };
    let size = PtySize {
        rows: 30,
        cols: 100,
        ..PtySize::default()
    };
    let pair = native_pty_system().openpty(size)?;
    let mut command = CommandBuilder::from_argv(args.map(Into::into).collect());
    command.cwd(std::env::current_dir()?);
    let mut child = pair.slave.spawn_command(command)?;
    // The terminal ends when its last user leaves: that is not to be this process.
    drop(pair.slave);
    let mut reader = pair.master.try_clone_reader()?;
    let mut keys = pair.master.take_writer()?;

    let (mut shown, mut typed) = (Vec::new(), false);
    let mut buffer = [0; 4096];
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        shown.extend_from_slice(&buffer[..count]);
        std::io::stdout().write_all(&buffer[..count])?;
        if !typed && String::from_utf8_lossy(&shown).contains(&text) {
            keys.write_all(format!("{answer}\r").as_bytes())?;
            typed = true;
        }
    }
    std::process::exit(child.wait()?.exit_code().try_into()?);
}
