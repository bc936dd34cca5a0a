//! Signals: dispositions, the mask, and a signal to all other processes of a PID namespace.

use std::io;
use std::time::Duration;

/// A signal number; always a valid one, real-time signals included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signal(i32);

impl Signal {
    /// A child has ended. The kernel reaps the children of a process that ignores it.
    pub const CHLD: Self = Self(libc::SIGCHLD);
    /// Wrote to a terminal from the background.
    pub const TTOU: Self = Self(libc::SIGTTOU);
    /// Wrote more to a file than the limit on its size allows.
    pub const XFSZ: Self = Self(libc::SIGXFSZ);
    /// `number`, if there is such a signal.
    pub fn new(number: i32) -> Option<Self> {
        (1..=libc::SIGRTMAX())
            .contains(&number)
            .then_some(Self(number))
    }
}

/// Sends `signal` to every process in this PID namespace but the caller, those with a session of their own included. An
/// error in any process but PID 1: on the host, the signal would reach everything that its user runs.
pub fn signal_all_others(signal: Signal) -> io::Result<()> {
    if std::process::id() != 1 {
        return Err(io::Error::other("only PID 1 may signal processes"));
    }
    // SAFETY: kill has no memory preconditions; pid 1 of a namespace reaches only that namespace.
    match unsafe { libc::kill(-1, signal.0) } {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            // No other process is left.
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            error => Err(error),
        },
    }
}

/// Gives every signal its default action and unblocks all of them: ignored signals and the mask
/// survive exec, and a dyno's program must not inherit this program's. Call in the child, before exec.
pub fn reset_all() {
    for number in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL is a valid action for any signal; those that cannot be set (KILL, STOP, the
        // C library's own) fail with EINVAL, which is what we want.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    unblock_all();
}

/// Unblocks all signals in this thread.
pub fn unblock_all() {
    // SAFETY: an all-zero sigset_t is made valid by sigemptyset before it is read.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Whether this process ignores `signal`, as its parent may have set it up.
fn is_ignored(signal: Signal) -> bool {
    // SAFETY: an all-zero sigaction is a valid one.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: with a null pointer for the new action the call only writes the present one.
    let asked = unsafe { libc::sigaction(signal.0, std::ptr::null(), &raw mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Those of `numbers` that this process does not ignore. What was ignored from the start, as by `nohup` or a script's
/// `&`, is to stay ignored.
pub fn unless_ignored(numbers: impl IntoIterator<Item = i32>) -> impl Iterator<Item = i32> {
    let ignored = |number: &i32| Signal::new(*number).is_some_and(is_ignored);
    numbers.into_iter().filter(move |number| !ignored(number))
}

/// Signals that wait for somebody to take them, instead of being acted on: in the thread that has made this, and in those that it starts.
/// What came and was not taken is acted on when this is dropped.
#[derive(Debug)]
pub struct Held {
    numbers: Vec<i32>,
    before: libc::sigset_t,
}

/// Signals that are [held](Held).
#[derive(Debug, Clone)]
pub struct HeldSignals(Vec<i32>);

impl Held {
    /// Holds these from now on.
    ///
    /// # Errors
    /// When a number is none of a signal's.
    pub fn new(numbers: impl IntoIterator<Item = i32>) -> io::Result<Self> {
        let numbers: Vec<_> = numbers.into_iter().collect();
        let set = set_of(&numbers);
        // SAFETY: an all-zero sigset_t is one, and is written before it is used.
        let mut before: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: both sets are valid and outlive the call.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut before) } {
            0 => Ok(Self { numbers, before }),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Those that are held, for the thread that takes them.
    pub fn signals(&self) -> HeldSignals {
        HeldSignals(self.numbers.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: the mask is the one that this thread had.
        unsafe {
            libc::pthread_sigmask(
                libc::SIG_SETMASK,
                &raw const self.before,
                std::ptr::null_mut(),
            )
        };
    }
}

impl HeldSignals {
    /// The number of one that has come, if one comes in time.
    pub fn wait(&self, time: Duration) -> Option<i32> {
        let set = set_of(&self.0);
        let time = libc::timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        // SAFETY: the set and the time are valid and outlive the call; nothing is asked about the sender.
        let number =
            unsafe { libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const time) };
        (number > 0).then_some(number)
    }
}

fn set_of(numbers: &[i32]) -> libc::sigset_t {
    // SAFETY: an all-zero sigset_t is made valid by sigemptyset before it is read; a number that is none is left out.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for number in numbers {
            libc::sigaddset(&raw mut set, *number);
        }
        set
    }
}

/// Gives `signal` its default action in this process, whatever it was started with.
pub fn reset(signal: Signal) {
    // SAFETY: SIG_DFL is a valid action and installs no code.
    unsafe { libc::signal(signal.0, libc::SIG_DFL) };
}

/// Ignores `signal` in this process; children of exec inherit that unless they [`reset_all`].
pub fn ignore(signal: Signal) {
    // SAFETY: SIG_IGN is a valid action and installs no code.
    unsafe { libc::signal(signal.0, libc::SIG_IGN) };
}
