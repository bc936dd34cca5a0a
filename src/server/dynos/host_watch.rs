//! Notices when a file of the host changes that dynos have a copy of: its names, its name servers.
//!
//! One watch for all dynos, since an ordinary user may have few of them. It only says *that* something may have changed;
//! each supervisor looks for itself. Programs write such a file in several steps, or several files one after the other,
//! so a moment passes before it is said.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mio::{Interest, Token};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use crate::error::tell;
use crate::sandbox::stack::Stack;
use crate::wire::reactor::{Event, Reactor};

/// From a change to the word of it.
const MOMENT: Duration = Duration::from_millis(50);

/// See the [module](self).
#[derive(Debug)]
pub struct HostWatch {
    token: Token,
    /// None if the kernel gives none: files are then what they were when a dyno began.
    inotify: Option<OwnedFd>,
    stack: Stack,
}

impl HostWatch {
    /// Watches the files that dynos on `stack` have copies of.
    pub fn begin(stack: Stack, reactor: &mut Reactor) -> Self {
        let token = reactor.token();
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC);
        let watched = inotify.map_err(Into::into).and_then(|inotify| {
            reactor.register(&inotify, token, Interest::READABLE)?;
            Ok::<_, std::io::Error>(inotify)
        });
        if let Err(error) = &watched {
            tell!("dynos do not hear of changes of /etc/hosts and name servers: {error}");
        }
        let watch = Self {
            token,
            inotify: watched.ok(),
            stack,
        };
        watch.look_at_all();
        // Dynos of an earlier server may have missed something.
        reactor.set_deadline(token, Instant::now() + MOMENT);
        watch
    }

    /// Whether an event of this token is for [`changed`](Self::changed).
    pub fn knows(&self, token: Token) -> bool {
        self.token == token
    }

    /// Takes an event; true if the dynos are to look at the files again.
    pub fn changed(&self, event: Event, reactor: &mut Reactor) -> bool {
        if matches!(event, Event::Deadline(_)) {
            // What is there now may be others than before, by names that were not there.
            self.look_at_all();
            return true;
        }
        if self.drain() {
            reactor.set_deadline(self.token, Instant::now() + MOMENT);
        }
        false
    }

    /// Adds whatever there is to watch; what is watched already stays.
    fn look_at_all(&self) {
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE
            | WatchFlags::MOVE_SELF;
        for path in self.stack.watched() {
            // One that is not there shows in its folder when it comes.
            let _ = self
                .inotify
                .as_ref()
                .map(|inotify| inotify::add_watch(inotify, &path, flags));
        }
    }

    /// Reads all that has happened; whether something concerns a file that dynos have.
    fn drain(&self) -> bool {
        let Some(inotify) = &self.inotify else {
            return false;
        };
        let watched = self.stack.watched();
        let names: Vec<_> = watched.iter().filter_map(|path| path.file_name()).collect();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(inotify, &mut buffer);
        let mut concerns = false;
        while let Ok(event) = reader.next() {
            // Without a name it is the file or folder itself.
            concerns |= event.file_name().is_none_or(|name| {
                names
                    .iter()
                    .any(|known| known.as_encoded_bytes() == name.to_bytes())
            });
        }
        concerns
    }
}
