//! An answer on its way from an attempt to the exchange that made it. Both are polled by one task, the exchange after the
//! attempt, so nobody has to be woken.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
};

use bytes::Bytes;
use http::response::Parts;

use crate::net::http1;

/// Bytes that wait here before the attempt reads no more.
const WAITING_MAX: usize = 64 * 1024;

/// Pieces up to this length, bytes, are copied: each would keep the whole buffer into which it was read, while who waits for
/// the next piece needs none. Events of models are hardly ever longer.
const COPY_MAX: usize = 1024;

/// What came of an attempt and was not taken yet.
#[derive(Debug, Default)]
pub struct Pipe {
    head: RefCell<Option<Parts>>,
    switched: RefCell<Option<http1::ResponseHead>>,
    parts: RefCell<VecDeque<Bytes>>,
    waiting: Cell<usize>,
    begun: Cell<bool>,
    ended: Cell<bool>,
}

impl Pipe {
    /// The head, once.
    pub fn take_head(&self) -> Option<Parts> {
        self.head.take()
    }

    /// The head of an answer that made a tunnel, once.
    pub fn take_switched(&self) -> Option<http1::ResponseHead> {
        self.switched.take()
    }

    /// The next bytes.
    pub fn take(&self) -> Option<Bytes> {
        let bytes = self.parts.borrow_mut().pop_front()?;
        self.waiting.set(self.waiting.get() - bytes.len());
        Some(bytes)
    }

    /// Whether the answer is whole and all of it was taken.
    pub fn is_drained(&self) -> bool {
        self.ended.get() && self.parts.borrow().is_empty()
    }

    /// Whether the attempt may go on reading.
    pub fn has_room(&self) -> bool {
        self.waiting.get() < WAITING_MAX
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.get()
    }

    pub(super) fn begin(&self, head: Parts) {
        self.head.replace(Some(head));
        self.begun.set(true);
    }

    pub(super) fn switch(&self, head: http1::ResponseHead) {
        self.switched.replace(Some(head));
        self.begun.set(true);
    }

    pub(super) fn has_switched(&self) -> bool {
        self.switched.borrow().is_some()
    }

    pub(super) fn give(&self, bytes: Bytes) {
        if !bytes.is_empty() {
            let bytes = if bytes.len() <= COPY_MAX { Bytes::copy_from_slice(&bytes) } else { bytes };
            self.waiting.set(self.waiting.get() + bytes.len());
            self.parts.borrow_mut().push_back(bytes);
        }
    }

    pub(super) fn end(&self) {
        self.ended.set(true);
    }
}
