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

/// Gives what the build at `path` prints to `show`, across restarts of the server, until it has ended. It is cancelled if `show` fails,
/// since nobody is there any more, and by a signal that would end this program.
///
/// # Errors
/// There is no such build, or no server; a signal has cancelled it.
pub fn follow(
    context: &mut Context,
    path: &str,
    show: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<Build> {
    let interrupts = Interrupts::watch(context.client()?.another(), path)?;
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
            Ok(build) if build.status != BuildStatus::Pending => {
                interrupts.check()?;
                return Ok(build);
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
    /// 0 before the first one.
    signal: Arc<AtomicI32>,
    /// Gone once nobody waits for the build.
    _follows: Arc<()>,
    /// What the attachment does later with the same signals is its own affair, so nothing is registered for them.
    _held: Held,
}

impl Interrupts {
    fn watch(mut client: Client, build: &str) -> Result<Self> {
        let held = Held::new(unless_ignored([SIGHUP, SIGINT, SIGTERM]))?;
        let (signal, follows) = (Arc::new(AtomicI32::new(0)), Arc::new(()));
        let (noted, still, build) = (
            Arc::clone(&signal),
            Arc::downgrade(&follows),
            build.to_owned(),
        );
        let signals = held.signals();
        let wait = move || {
            while still.strong_count() > 0 {
                let Some(number) = signals.wait(LOOK) else {
                    continue;
                };
                let before = noted.swap(number, Ordering::Relaxed);
                let cancelled: Result<Build> = client.delete(&build);
                if before != 0 || cancelled.is_err() {
                    std::process::exit(128 + number);
                }
                tell!("\nCancelling the build...");
            }
        };
        thread::Builder::new()
            .name("interrupt".to_owned())
            .spawn(wait)?;
        Ok(Self {
            signal,
            _follows: follows,
            _held: held,
        })
    }

    fn check(&self) -> Result<(), UserError> {
        match self.signal.load(Ordering::Relaxed) {
            0 => Ok(()),
            number => Err(UserError::new("the build was cancelled")
                .hint("nothing was released")
                .exit_code(128 + u8::try_from(number).unwrap_or(0))),
        }
    }
}
