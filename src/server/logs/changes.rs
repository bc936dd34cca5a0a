//! Which logs have changed, as the kernel tells it (inotify). Where it does not, because the user has used up what it
//! gives to one, logs are looked at every now and then instead.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use crate::wire::reactor::{Event, Interest, Reactor, Token};

/// Between two looks at logs that the kernel does not watch for us.
const LOOK: Duration = Duration::from_millis(200);

/// Events that are taken in one turn.
const EVENTS: usize = 256;

/// See the [module](self).
pub struct Changes {
    /// None until it is needed, and where the kernel gives none.
    inotify: Option<(Token, OwnedFd)>,
    /// The app whose folder a watch is on.
    watched: HashMap<i32, String>,
    /// The deadline of this one is the next look.
    look: Option<Token>,
    /// Apps whose logs are not watched.
    unwatched: Vec<String>,
}

/// What has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changed {
    apps: Vec<String>,
    /// More than the kernel could tell.
    all: bool,
}

impl Changed {
    /// Whether the log of this app may have.
    pub fn concerns(&self, app_id: &str) -> bool {
        self.all || self.apps.iter().any(|changed| changed == app_id)
    }
}

impl Changes {
    /// Nothing is watched yet.
    pub fn new() -> Self {
        Self {
            inotify: None,
            watched: HashMap::new(),
            look: None,
            unwatched: Vec::new(),
        }
    }

    /// Watches the log of an app from now on, if it does not already.
    pub fn watch(&mut self, app_id: &str, folder: &Path, reactor: &mut Reactor) {
        let known = |other: &String| other == app_id;
        if self.watched.values().any(known) || self.unwatched.iter().any(known) {
            return;
        }
        match self.add_watch(folder, reactor) {
            Ok(watch) => {
                self.watched.insert(watch, app_id.to_owned());
            }
            Err(_) => {
                self.unwatched.push(app_id.to_owned());
                let look = *self.look.get_or_insert_with(|| reactor.token());
                reactor.set_deadline(look, Instant::now() + LOOK);
            }
        }
    }

    fn add_watch(&mut self, folder: &Path, reactor: &mut Reactor) -> std::io::Result<i32> {
        if self.inotify.is_none() {
            let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
            let token = reactor.token();
            reactor.register(&inotify, token, Interest::READABLE)?;
            self.inotify = Some((token, inotify));
        }
        let Some((_, inotify)) = &self.inotify else {
            return Err(std::io::ErrorKind::Unsupported.into());
        };
        // A segment that is dropped was sealed long ago, and its reader finds the next.
        let wanted = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::ONLYDIR;
        Ok(inotify::add_watch(inotify, folder, wanted)?)
    }

    /// Forgets an app whose log has no reader any more.
    pub fn forget(&mut self, app_id: &str, reactor: &mut Reactor) {
        self.unwatched.retain(|other| other != app_id);
        let watch = self.watched.iter().find(|(_, other)| *other == app_id);
        if let Some(watch) = watch.map(|(watch, _)| *watch) {
            self.watched.remove(&watch);
            if let Some((_, inotify)) = &self.inotify {
                // It is gone already if the folder is.
                let _ = inotify::remove_watch(inotify, watch);
            }
        }
        if self.watched.is_empty()
            && let Some((token, inotify)) = self.inotify.take()
        {
            // A watch that is not needed is left to other readers.
            let _ = reactor.deregister(&inotify, token);
        }
    }

    /// What has changed, if this is an event of ours.
    pub fn came(&mut self, event: Event, reactor: &mut Reactor) -> Option<Changed> {
        match event {
            Event::Deadline(token) if self.look == Some(token) => {
                if !self.unwatched.is_empty() {
                    reactor.set_deadline(token, Instant::now() + LOOK);
                }
                Some(Changed {
                    apps: self.unwatched.clone(),
                    all: false,
                })
            }
            Event::Ready { token, .. } | Event::Again(token)
                if self.inotify.as_ref().is_some_and(|(own, _)| *own == token) =>
            {
                Some(self.read(token, reactor))
            }
            _ => None,
        }
    }

    fn read(&mut self, token: Token, reactor: &mut Reactor) -> Changed {
        let mut changed = Changed::default();
        let Some((_, inotify)) = &self.inotify else {
            return changed;
        };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(inotify, &mut buffer);
        for _ in 0..EVENTS {
            match events.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => {
                    changed.all = true;
                }
                Ok(event) => {
                    let gone = event.events().contains(ReadFlags::IGNORED);
                    let app = match gone {
                        true => self.watched.remove(&event.wd()),
                        false => self.watched.get(&event.wd()).cloned(),
                    };
                    if let Some(app) = app
                        && !changed.apps.contains(&app)
                    {
                        changed.apps.push(app);
                    }
                }
                Err(Errno::INTR) => {}
                Err(_) => return changed,
            }
        }
        reactor.again(token);
        changed
    }
}
