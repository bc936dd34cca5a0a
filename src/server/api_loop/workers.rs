//! A bounded pool of threads for slow work, beside a loop that must not wait.
//!
//! Results come back over a channel and wake the loop. It knows nothing of requests.

use std::thread;

use crossbeam_channel::{Receiver, Sender, TrySendError};

use crate::wire::reactor::Waker;

type Job<T> = Box<dyn FnOnce() -> T + Send>;

/// See the [module](self). Dropping it lets the threads end after what they are doing.
pub struct Workers<T> {
    queue: Sender<Job<T>>,
    jobs: Receiver<Job<T>>,
    done: Sender<T>,
    results: Receiver<T>,
    waker: Waker,
    threads: usize,
    max_threads: usize,
    outstanding: usize,
}

impl<T: Send + 'static> Workers<T> {
    /// A pool of up to `threads` threads, none of which runs yet; `queued` jobs may wait for one.
    pub fn new(threads: usize, queued: usize, waker: Waker) -> Self {
        let (queue, jobs) = crossbeam_channel::bounded(queued);
        // As many results as there may be jobs: the queue bounds them.
        let (done, results) = crossbeam_channel::unbounded();
        Self {
            queue,
            jobs,
            done,
            results,
            waker,
            threads: 0,
            max_threads: threads.max(1),
            outstanding: 0,
        }
    }

    /// Has `job` done, which must not panic (see [`caught`](crate::panics::caught)). False, with the job dropped, if too
    /// many wait already.
    pub fn submit(&mut self, job: Job<T>) -> bool {
        if self.outstanding >= self.threads && self.threads < self.max_threads {
            self.start_thread();
        }
        if self.threads == 0 {
            return false;
        }
        match self.queue.try_send(job) {
            Ok(()) => {
                self.outstanding += 1;
                true
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// A result that has come since.
    pub fn finished(&mut self) -> Option<T> {
        let result = self.results.try_recv().ok()?;
        self.outstanding -= 1;
        Some(result)
    }

    /// Jobs that were taken and whose result has not been.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    fn start_thread(&mut self) {
        let (jobs, done, waker) = (self.jobs.clone(), self.done.clone(), self.waker.clone());
        let work = move || {
            for job in jobs {
                if done.send(job()).is_err() {
                    return;
                }
                waker.wake();
            }
        };
        // Without a thread more the others have more to do; without any, `submit` says no.
        if thread::Builder::new()
            .name("worker".to_owned())
            .spawn(work)
            .is_ok()
        {
            self.threads += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::reactor::{Event, Reactor};

    #[test]
    fn work_is_bounded_and_comes_back() {
        let mut reactor = Reactor::new().unwrap();
        let mut workers = Workers::new(2, 3, reactor.waker());
        let (go, gate) = crossbeam_channel::bounded::<()>(0);
        let mut taken = 0;
        // Two run and three wait; how many run when is up to the threads.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while taken < 5 && std::time::Instant::now() < deadline {
            let gate = gate.clone();
            taken += usize::from(workers.submit(Box::new(move || {
                let _ = gate.recv();
                1
            })));
        }
        assert_eq!((taken, workers.outstanding()), (5, 5));
        assert!(!workers.submit(Box::new(|| 1)));
        drop(go);
        let (mut sum, mut events) = (0, Vec::new());
        while sum < 5 {
            reactor.poll(&mut events).unwrap();
            assert_eq!(events, [Event::Woken]);
            sum += std::iter::from_fn(|| workers.finished()).sum::<usize>();
        }
        assert_eq!(workers.outstanding(), 0);
    }
}
