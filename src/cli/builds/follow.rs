//! Shows a build until it has ended.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::api::build::Build;
use crate::cli::client::patience::PUSH;
use crate::cli::client::{Client, is_lost};
use crate::cli::context::{Context, app_path};
use crate::error::{UserError, tell};
use crate::kernel::sys::signal::{Held, unless_ignored};
use crate::model::release::build::BuildStatus;

/// The pause between two looks at a build whose log has ended.
const PAUSE: Duration = Duration::from_millis(50);

/// How often it is looked whether a build is still followed.
const LOOK: Duration = Duration::from_millis(100);

/// Where a build is in the API.
pub fn path(app: &str, build: &str) -> String {
    app_path(app, &format!("/builds/{build}"))
}

/// Holds the signals that would end this program, so that none ends it between the request for a build and its being followed.
///
/// # Errors
/// When the kernel refuses.
pub fn hold() -> io::Result<Held> {
    Held::new(unless_ignored([SIGHUP, SIGINT, SIGTERM]))
}

/// A build that has ended.
#[derive(Debug)]
pub struct Followed {
    /// As it is in the end.
    pub build: Build,
    /// The signal that came meanwhile, if the build has succeeded before it could be cancelled.
    pub signal: Option<i32>,
}

/// Gives what the build at `path` prints to `show`, across restarts of the server, until it has ended. It is cancelled if `show` fails,
/// since nobody is there any more, and by a signal of those [held](hold).
///
/// # Errors
/// There is no such build, or no server; a signal has cancelled it.
pub fn follow(
    context: &mut Context,
    path: &str,
    held: Held,
    show: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<Followed> {
    let interrupts = Interrupts::watch(context.client()?.another(), path, held)?;
    let mut output = Output {
        path,
        shown: 0,
        show,
        heard: true,
    };
    let mut tries = PUSH.tries();
    loop {
        let before = output.shown;
        let followed = output.show_rest(context).and_then(|()| {
            let build: Build = context.client()?.get(path)?;
            Ok(build)
        });
        match followed {
            Ok(build) if build.status == BuildStatus::Succeeded => {
                let signal = interrupts.signal();
                return Ok(Followed { build, signal });
            }
            Ok(build) if build.status == BuildStatus::Failed => {
                let Some(signal) = interrupts.signal() else {
                    return Ok(Followed {
                        build,
                        signal: None,
                    });
                };
                let error = UserError::new("the build was cancelled");
                let code = 128 + u8::try_from(signal).unwrap_or(0);
                return Err(error.hint("nothing was released").exit_code(code).into());
            }
            Ok(_) => thread::sleep(PAUSE),
            Err(error) if is_lost(&error) => {
                if output.shown > before {
                    tries.succeeded();
                }
                if !tries.again() {
                    return Err(error);
                }
                context.forget_client();
            }
            Err(error) => return Err(error),
        }
    }
}

/// The output of a build, and how much of it was shown.
struct Output<'a> {
    path: &'a str,
    /// In bytes.
    shown: usize,
    show: &'a mut dyn FnMut(&[u8]) -> io::Result<()>,
    /// Whether somebody is there.
    heard: bool,
}

impl Output<'_> {
    fn show_rest(&mut self, context: &mut Context) -> Result<()> {
        let target = format!("{}/output?from={}", self.path, self.shown);
        let mut output = context.client()?.stream(&target)?;
        let mut bytes = Vec::new();
        while output.read(&mut bytes)? {
            self.shown += bytes.len();
            if self.heard && (self.show)(&bytes).is_err() {
                self.heard = false;
                // It may have ended just now, which the end of its log tells.
                let _: Result<Build> = context.client()?.delete(self.path);
            }
            bytes.clear();
        }
        Ok(())
    }
}

/// Cancels a build when a signal comes that would end this program; at the second one it ends.
struct Interrupts {
    /// The first one; 0 before it.
    signal: Arc<AtomicI32>,
    /// Gone once nobody waits for the build.
    _follows: Arc<()>,
    /// What the attachment does later with the same signals is its own affair, so nothing is registered for them.
    _held: Held,
}

impl Interrupts {
    fn watch(client: Client, build: &str, held: Held) -> Result<Self> {
        let (signal, follows) = (Arc::new(AtomicI32::new(0)), Arc::new(()));
        let (noted, still) = (Arc::clone(&signal), Arc::downgrade(&follows));
        let mut unused = Some((client, build.to_owned()));
        let signals = held.signals();
        let wait = move || {
            while still.strong_count() > 0 {
                let Some(number) = signals.wait(LOOK) else {
                    continue;
                };
                let Some((mut client, build)) = unused.take() else {
                    std::process::exit(128 + number);
                };
                noted.store(number, Ordering::Relaxed);
                tell!("\nCancelling the build...");
                // Beside this thread, which is for the next signal. If it fails, the build tells how it ends, or the server that it is not there.
                let cancel = move || {
                    let _: Result<Build> = client.delete(&build);
                };
                let _ = spawn("cancel", cancel);
            }
        };
        spawn("interrupt", wait)?;
        Ok(Self {
            signal,
            _follows: follows,
            _held: held,
        })
    }

    /// The first one that has come.
    fn signal(&self) -> Option<i32> {
        Some(self.signal.load(Ordering::Relaxed)).filter(|number| *number != 0)
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let named = thread::Builder::new().name(name.to_owned());
    named.spawn(work).map(drop)
}
