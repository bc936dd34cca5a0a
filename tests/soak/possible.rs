//! What something may be after changes of which not all were acknowledged.

/// The value that was acknowledged last, and those that were tried since, with and without success.
#[derive(Debug)]
pub struct Possible<T>(Vec<T>);

impl<T: PartialEq> Possible<T> {
    /// What it is for sure.
    pub fn new(value: T) -> Self {
        Self(vec![value])
    }

    /// A change to `value` began; what comes of it is not known.
    pub fn tried(&mut self, value: T) {
        self.0.push(value);
    }

    /// The change that was tried last is done.
    pub fn acknowledged(&mut self) {
        let last = self.0.pop();
        self.0 = last.into_iter().collect();
    }

    /// Whether it may be `value`.
    pub fn allows(&self, value: &T) -> bool {
        self.0.contains(value)
    }
}
