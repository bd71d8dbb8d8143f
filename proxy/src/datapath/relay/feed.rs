//! A request on its way from the exchange that reads it to the one attempt that sends it. Both are polled by one task, so
//! nobody has to be woken.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
};

use bytes::Bytes;

/// Bytes that wait here before no more is read of the client, besides those that were held before.
const WAITING_MAX: usize = 64 * 1024;

/// What came of a request and was not sent yet.
#[derive(Debug, Default)]
pub struct Feed {
    parts: RefCell<VecDeque<Bytes>>,
    waiting: Cell<usize>,
    is_taken: Cell<bool>,
    is_whole: Cell<bool>,
}

impl Feed {
    /// Gives the next bytes.
    pub fn give(&self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.waiting.set(self.waiting.get() + bytes.len());
            self.parts.borrow_mut().push_back(bytes);
        }
    }

    /// Nothing follows.
    pub fn end(&self) {
        self.is_whole.set(true);
    }

    /// Whether more should be given.
    pub fn has_room(&self) -> bool {
        self.waiting.get() < WAITING_MAX
    }

    /// Whether some of it was taken: it cannot be sent again.
    pub(super) fn is_taken(&self) -> bool {
        self.is_taken.get()
    }

    /// The next bytes, if they are there.
    pub(super) fn take(&self) -> Option<Bytes> {
        let bytes = self.parts.borrow_mut().pop_front()?;
        self.waiting.set(self.waiting.get() - bytes.len());
        self.is_taken.set(true);
        Some(bytes)
    }

    /// Whether all of it was given.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole.get()
    }
}
