//! Bytes that a socket has not taken yet.

/// Bytes that wait to be written, in their order. With none, it keeps no memory.
#[derive(Debug, Default)]
pub struct Unsent {
    bytes: Vec<u8>,
    /// How many of them were written.
    written: usize,
}

impl Unsent {
    /// The buffer to append to what is to be written next.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes with `write`, which returns how many bytes it took, until nothing waits or it takes none; true if any
    /// bytes were taken.
    ///
    /// # Errors
    /// Those of `write`; what it did not take goes on waiting.
    pub fn flush<E>(
        &mut self,
        mut write: impl FnMut(&[u8]) -> Result<usize, E>,
    ) -> Result<bool, E> {
        let mut moved = false;
        while !self.bytes.is_empty() {
            let length = write(&self.bytes[self.written..])?;
            if length == 0 {
                break;
            }
            moved = true;
            self.written += length;
            if self.written == self.bytes.len() {
                *self = Self::default();
            }
        }
        Ok(moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes up to `room` bytes into `taken`.
    fn take(taken: &mut Vec<u8>, room: &mut usize, bytes: &[u8]) -> Result<usize, ()> {
        let length = bytes.len().min(*room).min(3);
        taken.extend_from_slice(&bytes[..length]);
        *room -= length;
        Ok(length)
    }

    #[test]
    fn what_is_not_taken_waits_and_what_is_appended_comes_after_it() {
        let (mut unsent, mut taken) = (Unsent::default(), Vec::new());
        unsent.buffer().extend_from_slice(b"hello ");
        let mut room = 4;
        assert_eq!(unsent.flush(|it| take(&mut taken, &mut room, it)), Ok(true));
        assert!(!unsent.is_empty());
        unsent.buffer().extend_from_slice(b"world");
        assert_eq!(
            unsent.flush(|it| take(&mut taken, &mut room, it)),
            Ok(false)
        );
        room = 100;
        assert_eq!(unsent.flush(|it| take(&mut taken, &mut room, it)), Ok(true));
        assert!(unsent.is_empty());
        assert_eq!(unsent.buffer().capacity(), 0);
        assert_eq!(taken, b"hello world");
    }

    #[test]
    fn an_error_loses_nothing() {
        let mut unsent = Unsent::default();
        unsent.buffer().extend_from_slice(b"abc");
        assert_eq!(unsent.flush(|_| Err(5)), Err(5));
        assert_eq!(unsent.flush(|it| Ok::<_, ()>(it.len())), Ok(true));
        assert!(unsent.is_empty());
    }
}
