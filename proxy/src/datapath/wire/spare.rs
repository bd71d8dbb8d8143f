//! Buffers of this worker that no connection needs at the moment. The one given back last is taken first: it is still in
//! the processor's cache, and connections that rest own none.

use std::cell::RefCell;

use bytes::BytesMut;

/// Size of a buffer, bytes: most heads and small bodies fit.
pub(super) const SIZE: usize = 8 * 1024;
/// Buffers that grew beyond this are not kept, bytes.
const SIZE_MAX: usize = 2 * SIZE;
/// Buffers kept by a worker: half a MiB, enough for the exchanges that are moved between two looks at the sockets.
const KEPT_MAX: usize = 64;

thread_local! {
    static KEPT: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer with room for [`SIZE`] bytes at least.
pub(super) fn take() -> BytesMut {
    KEPT.with_borrow_mut(Vec::pop).unwrap_or_else(|| BytesMut::with_capacity(SIZE))
}

/// Takes an empty buffer back. One whose memory is still in use elsewhere, or which grew, is let go.
pub(super) fn give(mut buffer: BytesMut) {
    debug_assert!(buffer.is_empty(), "what is in a buffer belongs to its connection");
    if buffer.try_reclaim(SIZE) && buffer.capacity() <= SIZE_MAX {
        KEPT.with_borrow_mut(|kept| {
            if kept.len() < KEPT_MAX {
                kept.push(buffer);
            }
        });
    }
}

/// Lets one buffer go: called now and then, so that a worker without traffic keeps none.
pub(super) fn shed() {
    drop(KEPT.with_borrow_mut(Vec::pop));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffer_comes_back_whole_unless_part_of_it_is_in_use() {
        while !KEPT.with_borrow(Vec::is_empty) {
            shed();
        }
        let mut buffer = take();
        buffer.extend_from_slice(b"head and body");
        let head = buffer.split_to(4).freeze();
        buffer.clear();
        give(buffer);
        assert_eq!(KEPT.with_borrow(Vec::len), 0);
        assert_eq!(&head[..], b"head");

        let mut buffer = take();
        buffer.extend_from_slice(b"head");
        drop(buffer.split_to(4).freeze());
        give(buffer);
        assert_eq!(KEPT.with_borrow(Vec::len), 1);
        assert!(take().capacity() >= SIZE);
    }
}
