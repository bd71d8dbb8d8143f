//! Memory for requests to models that are held until their answer begins: one amount for all workers of a process.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// How much may be held, and how much is.
#[derive(Debug)]
pub struct Room {
    limit: usize,
    taken: AtomicUsize,
}

impl Room {
    /// Room for so many bytes.
    pub fn new(limit: usize) -> Arc<Room> {
        Arc::new(Room { limit, taken: AtomicUsize::new(0) })
    }

    /// Takes room for so many more bytes; false where there is none.
    pub fn take(&self, bytes: usize) -> bool {
        let more = |taken: usize| taken.checked_add(bytes).filter(|taken| *taken <= self.limit);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Bytes that are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Gives room back that was taken.
    pub fn give(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is_and_what_is_given_back_may_be_taken_again() {
        let room = Room::new(10);
        assert!(room.take(6) && !room.take(5) && room.take(4) && !room.take(1) && !room.take(usize::MAX));
        room.give(6);
        assert!(!room.take(7) && room.take(6));
    }
}
