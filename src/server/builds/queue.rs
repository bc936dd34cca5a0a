//! Which build runs next: those of one app one after the other, those of different apps side by side, up to a number.

use std::collections::VecDeque;

/// How many builds of an app may wait.
pub const MOST_WAITING_OF_APP: usize = 10;

/// How many builds may wait.
pub const MOST_WAITING: usize = 100;

/// A build and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    build: String,
    app: String,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Queue {
    most_at_once: usize,
    /// In the order in which they came.
    waiting: VecDeque<Entry>,
    running: Vec<Entry>,
}

impl Queue {
    /// Nothing waits, and so many may run at once.
    pub fn new(most_at_once: usize) -> Self {
        Self {
            most_at_once,
            waiting: VecDeque::new(),
            running: Vec::new(),
        }
    }

    /// Whether no build runs or waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Whether another build of an app may wait.
    pub fn has_room(&self, app: &str) -> bool {
        let of_app = self.waiting.iter().filter(|entry| entry.app == app).count();
        of_app < MOST_WAITING_OF_APP && self.waiting.len() < MOST_WAITING
    }

    /// Whether a build of an app waits or runs.
    pub fn is_busy(&self, app: &str) -> bool {
        let mut all = self.waiting.iter().chain(&self.running);
        all.any(|entry| entry.app == app)
    }

    /// Has a build wait.
    pub fn push(&mut self, build: String, app: String) {
        self.waiting.push_back(Entry { build, app });
    }

    /// The build that runs from now on, if one may.
    pub fn next(&mut self) -> Option<String> {
        if self.running.len() >= self.most_at_once {
            return None;
        }
        let is_free = |entry: &Entry| self.running.iter().all(|other| other.app != entry.app);
        let at = self.waiting.iter().position(is_free)?;
        let entry = self.waiting.remove(at)?;
        let build = entry.build.clone();
        self.running.push(entry);
        Some(build)
    }

    /// A build has ended.
    pub fn ended(&mut self, build: &str) {
        self.running.retain(|entry| entry.build != build);
    }

    /// A build need not wait any more; whether it did.
    pub fn withdraw(&mut self, build: &str) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|entry| entry.build != build);
        self.waiting.len() < before
    }

    /// The builds of an app that wait or run.
    pub fn of_app(&self, app: &str) -> Vec<String> {
        let all = self.waiting.iter().chain(&self.running);
        all.filter(|entry| entry.app == app)
            .map(|entry| entry.build.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(most_at_once: usize, builds: &[(&str, &str)]) -> Queue {
        let mut queue = Queue::new(most_at_once);
        for (build, app) in builds {
            queue.push((*build).to_owned(), (*app).to_owned());
        }
        queue
    }

    fn startable(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.next()).collect()
    }

    #[test]
    fn builds_of_one_app_run_one_after_the_other_in_their_order() {
        let mut queue = queue(9, &[("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a")]);
        assert_eq!(startable(&mut queue), ["a1", "b1"]);
        queue.ended("b1");
        assert_eq!(startable(&mut queue), [""; 0]);
        queue.ended("a1");
        assert_eq!(startable(&mut queue), ["a2"]);
        assert!(queue.is_busy("a") && !queue.is_busy("b"));
        assert_eq!(queue.of_app("a"), ["a3", "a2"]);
        assert!(queue.withdraw("a3") && !queue.withdraw("a2"));
        queue.ended("a2");
        assert!(queue.is_empty());
    }

    #[test]
    fn so_many_run_at_once_and_so_many_wait() {
        let mut queue = queue(2, &[("a1", "a"), ("b1", "b"), ("c1", "c")]);
        assert_eq!(startable(&mut queue), ["a1", "b1"]);
        queue.ended("a1");
        assert_eq!(startable(&mut queue), ["c1"]);
        for number in 0..MOST_WAITING_OF_APP {
            assert!(queue.has_room("a"));
            queue.push(format!("a-{number}"), "a".to_owned());
        }
        assert!(!queue.has_room("a") && queue.has_room("b"));
        for number in MOST_WAITING_OF_APP..MOST_WAITING {
            queue.push(format!("{number}"), format!("app-{number}"));
        }
        assert!(!queue.has_room("b"));
    }
}
