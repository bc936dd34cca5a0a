//! The poll loop of every part that waits on more than one thing: the server, a dyno's supervisor,
//! the router.
//!
//! A [`Reactor`] hands out tokens, watches file descriptors, keeps one deadline per token and a list
//! of tokens to call again. It knows nothing of what the tokens stand for: its owner calls
//! [`poll`](Reactor::poll), gets a list of [`Event`]s and matches on its own tables.
//!
//! mio is edge-triggered: an event comes once per change. An owner that stops before the system call said `WouldBlock`
//! (a budget was spent, a queue was full) gets no second event, and must ask for another turn with
//! [`again`](Reactor::again).

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
pub use mio::{Interest, Token};

/// Events taken from the kernel in one turn; the rest comes in the next.
const EVENTS_PER_TURN: usize = 256;

/// The token of the reactor's own waker; [`Reactor::token`] begins after it.
const WAKER: Token = Token(0);

/// What one turn brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A watched file descriptor changed.
    Ready {
        /// The token it was registered with.
        token: Token,
        /// Read until `WouldBlock` or the end. Also set at a hang-up or an error, since a
        /// hang-up often comes without a readable event, with bytes still to be read.
        readable: bool,
        /// Write what is queued.
        writable: bool,
        /// The other side will send nothing after what can be read now. A read that returned less than was asked for
        /// must be repeated until it returns the end: no other event will announce it.
        end: bool,
        /// The other side is gone for good in both directions. Read what is left, then close.
        hangup: bool,
    },
    /// This token asked to be called again.
    Again(Token),
    /// The deadline of this token has passed; it is no longer set.
    Deadline(Token),
    /// Another thread called [`Waker::wake`], once or more often.
    Woken,
}

/// Wakes a reactor from another thread.
#[derive(Debug, Clone)]
pub struct Waker(Arc<mio::Waker>);

impl Waker {
    /// Makes the reactor's current or next [`poll`](Reactor::poll) return [`Event::Woken`].
    ///
    /// The eventfd behind it cannot fail in a way the caller could act on: its counter, once full,
    /// means that the reactor is to be woken already.
    pub fn wake(&self) {
        let _ = self.0.wake();
    }
}

/// Watches descriptors, deadlines and tokens to call again: see the [module](self).
#[derive(Debug)]
pub struct Reactor {
    poll: mio::Poll,
    events: mio::Events,
    waker: Waker,
    last_token: usize,
    deadlines: Deadlines,
    again: BTreeSet<Token>,
}

impl Reactor {
    /// A reactor that watches nothing yet.
    ///
    /// # Errors
    /// When the kernel gives no epoll instance or eventfd (out of descriptors).
    pub fn new() -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let waker = Waker(Arc::new(mio::Waker::new(poll.registry(), WAKER)?));
        Ok(Self {
            poll,
            events: mio::Events::with_capacity(EVENTS_PER_TURN),
            waker,
            last_token: WAKER.0,
            deadlines: Deadlines::default(),
            again: BTreeSet::new(),
        })
    }

    /// A new token, for a descriptor, a deadline or both.
    ///
    /// Tokens are never reused, so an event that was queued for a closed descriptor can never be
    /// taken for one of its successor: the owner finds the token in no table and ignores the event.
    pub fn token(&mut self) -> Token {
        self.last_token += 1;
        Token(self.last_token)
    }

    /// Watches `fd`, which must be non-blocking.
    ///
    /// # Errors
    /// `EEXIST` if it is watched already, `EPERM` for a regular file.
    pub fn register(&self, fd: impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        self.poll
            .registry()
            .register(&mut SourceFd(&fd.as_fd().as_raw_fd()), token, interest)
    }

    /// Stops watching `fd` and [forgets](Self::forget) the token.
    ///
    /// To be called before the descriptor is closed or given away: a duplicate of it elsewhere
    /// would keep the events coming.
    ///
    /// # Errors
    /// `ENOENT` if it is not watched.
    pub fn deregister(&mut self, fd: impl AsFd, token: Token) -> io::Result<()> {
        self.forget(token);
        self.poll
            .registry()
            .deregister(&mut SourceFd(&fd.as_fd().as_raw_fd()))
    }

    /// Cancels the token's deadline, and its [`Event::Again`] if one is due.
    pub fn forget(&mut self, token: Token) {
        self.deadlines.cancel(token);
        self.again.remove(&token);
    }

    /// Sets the one deadline of `token`, instead of the one it had.
    pub fn set_deadline(&mut self, token: Token, at: Instant) {
        self.deadlines.set(token, at);
    }

    /// Takes the deadline of `token` away, if it has one.
    pub fn cancel_deadline(&mut self, token: Token) {
        self.deadlines.cancel(token);
    }

    /// Sets the one deadline of `token`, or takes it away.
    pub fn set_or_cancel_deadline(&mut self, token: Token, at: Option<Instant>) {
        match at {
            Some(at) => self.set_deadline(token, at),
            None => self.cancel_deadline(token),
        }
    }

    /// Has [`Event::Again`] reported for `token` in the next turn, which will not wait.
    pub fn again(&mut self, token: Token) {
        self.again.insert(token);
    }

    /// A handle for other threads.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Waits for the next events and replaces the contents of `events` by them.
    ///
    /// Descriptors come first, then the tokens to call again, then deadlines: bytes that came in time count, even if
    /// the loop was late to look. The list may be empty, after a signal.
    ///
    /// # Errors
    /// When epoll itself fails, which only a bug can cause.
    pub fn poll(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        events.clear();
        let timeout = self.timeout(Instant::now());
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.events.clear(),
            Err(error) => return Err(error),
        }
        events.extend(self.events.iter().map(translate));
        events.extend(
            std::mem::take(&mut self.again)
                .into_iter()
                .map(Event::Again),
        );
        self.deadlines
            .expire(Instant::now(), |token| events.push(Event::Deadline(token)));
        Ok(())
    }

    /// How long the next poll may wait: not at all for a token of the ready list, else until the
    /// nearest deadline. mio rounds up to the next millisecond, so a deadline is never polled early.
    fn timeout(&self, now: Instant) -> Option<Duration> {
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        self.deadlines
            .nearest()
            .map(|at| at.saturating_duration_since(now))
    }
}

/// One event of mio, with `readable` set at end of file, hang-up and error, which are found by reading, and `writable`
/// after a failed connect, which is found by writing.
fn translate(event: &mio::event::Event) -> Event {
    if event.token() == WAKER {
        return Event::Woken;
    }
    Event::Ready {
        token: event.token(),
        readable: event.is_readable() || event.is_read_closed() || event.is_error(),
        writable: event.is_writable() || event.is_write_closed() || event.is_error(),
        end: event.is_read_closed() || event.is_error(),
        hangup: event.is_write_closed() && event.is_read_closed(),
    }
}

/// At most one deadline per token, the nearest first.
#[derive(Debug, Default)]
struct Deadlines {
    by_time: BTreeSet<(Instant, Token)>,
    by_token: HashMap<Token, Instant>,
}

impl Deadlines {
    fn set(&mut self, token: Token, at: Instant) {
        let before = self.by_token.insert(token, at);
        if before == Some(at) {
            return;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before, token));
        }
        self.by_time.insert((at, token));
    }

    fn cancel(&mut self, token: Token) {
        if let Some(at) = self.by_token.remove(&token) {
            self.by_time.remove(&(at, token));
        }
    }

    fn nearest(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    fn expire(&mut self, now: Instant, mut expired: impl FnMut(Token)) {
        while let Some((at, token)) = self.by_time.first().copied()
            && at <= now
        {
            self.cancel(token);
            expired(token);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (ours, theirs)
    }

    fn poll(reactor: &mut Reactor) -> Vec<Event> {
        let mut events = Vec::new();
        reactor.poll(&mut events).unwrap();
        events
    }

    #[test]
    fn a_token_is_never_given_twice() {
        let mut reactor = Reactor::new().unwrap();
        let first = reactor.token();
        reactor.forget(first);
        assert_ne!(reactor.token(), first);
    }

    #[test]
    fn bytes_make_a_descriptor_readable_once() {
        let mut reactor = Reactor::new().unwrap();
        let (mut ours, mut theirs) = pair();
        let token = reactor.token();
        reactor.register(&ours, token, Interest::READABLE).unwrap();
        theirs.write_all(b"ab").unwrap();
        let ready = Event::Ready {
            token,
            readable: true,
            writable: false,
            end: false,
            hangup: false,
        };
        assert_eq!(poll(&mut reactor), [ready]);

        // Not read to the end: no second event, unless asked for.
        ours.read_exact(&mut [0]).unwrap();
        reactor.again(token);
        reactor.again(token);
        assert_eq!(poll(&mut reactor), [Event::Again(token)]);
        reactor.set_deadline(token, Instant::now());
        assert_eq!(poll(&mut reactor), [Event::Deadline(token)]);
    }

    #[test]
    fn a_closed_peer_is_readable_and_hung_up_a_half_closed_one_only_readable() {
        let mut reactor = Reactor::new().unwrap();
        let (ours, theirs) = pair();
        let token = reactor.token();
        reactor.register(&ours, token, Interest::READABLE).unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(
            poll(&mut reactor),
            [Event::Ready {
                token,
                readable: true,
                writable: false,
                end: true,
                hangup: false
            }]
        );
        drop(theirs);
        assert!(matches!(
            poll(&mut reactor)[..],
            [Event::Ready {
                readable: true,
                hangup: true,
                ..
            }]
        ));
    }

    #[test]
    fn a_deregistered_token_is_silent() {
        let mut reactor = Reactor::new().unwrap();
        let (ours, mut theirs) = pair();
        let token = reactor.token();
        reactor.register(&ours, token, Interest::READABLE).unwrap();
        reactor.set_deadline(token, Instant::now());
        reactor.again(token);
        theirs.write_all(b"a").unwrap();
        reactor.deregister(&ours, token).unwrap();
        let other = reactor.token();
        reactor.set_deadline(other, Instant::now() + Duration::from_millis(5));
        assert_eq!(poll(&mut reactor), [Event::Deadline(other)]);
    }

    #[test]
    fn the_nearest_deadline_comes_first_and_not_early() {
        let mut reactor = Reactor::new().unwrap();
        let (late, early, moved, cancelled) = (
            reactor.token(),
            reactor.token(),
            reactor.token(),
            reactor.token(),
        );
        let start = Instant::now();
        reactor.set_deadline(late, start + Duration::from_secs(3600));
        reactor.set_deadline(early, start + Duration::from_millis(10));
        reactor.set_deadline(moved, start);
        reactor.set_deadline(moved, start + Duration::from_secs(3600));
        reactor.set_deadline(cancelled, start);
        reactor.cancel_deadline(cancelled);
        assert_eq!(poll(&mut reactor), [Event::Deadline(early)]);
        assert!(start.elapsed() >= Duration::from_millis(10));
    }

    #[test]
    fn another_thread_wakes_it() {
        let mut reactor = Reactor::new().unwrap();
        let waker = reactor.waker();
        let thread = std::thread::spawn(move || waker.wake());
        assert_eq!(poll(&mut reactor), [Event::Woken]);
        thread.join().unwrap();
    }
}
