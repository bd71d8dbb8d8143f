//! The request, taken whole: its model stands in it, and another target may need all of it. Of what is longer than what
//! may be held its beginning.

use std::{future::poll_fn, rc::Rc, task::Poll, time::Duration};

use bytes::{Bytes, BytesMut};
use mesh_core::outcome::Outcome;

use crate::{
    datapath::relay::{Downstream, Failed, Part},
    net::deadline::Deadline,
    worker::Worker,
};

/// Longest wait for the next bytes of a request.
pub(super) const IDLE_LIMIT: Duration = Duration::from_secs(30);

/// A request, or its beginning.
pub(super) enum Taken {
    /// All of it.
    Whole(Held),
    /// More than what may be held.
    Longer(Beginning),
}

/// The beginning of a request that is not held.
pub(super) struct Beginning {
    /// What is held of it.
    pub(super) held: Held,
    /// What came behind that.
    pub(super) next: Part,
    /// Why it is not held.
    pub(super) why: Why,
}

/// Why a request is not held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It is longer than the route says.
    Length,
    /// The process holds too many bytes of others.
    Room,
}

impl Why {
    /// As metrics and the client are told.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Why::Length => "length",
            Why::Room => "room",
        }
    }
}

/// Bytes of a request that are held.
pub(super) struct Held {
    worker: Rc<Worker>,
    /// They.
    pub(super) bytes: Bytes,
    length: usize,
}

impl Held {
    fn grow(&mut self, by: usize, limit: usize) -> Result<(), Why> {
        if self.length + by > limit {
            return Err(Why::Length);
        }
        if !self.worker.config.model_room.take(by) {
            return Err(Why::Room);
        }
        self.length += by;
        Ok(())
    }

    /// Lets its bytes go.
    pub(super) fn release(&mut self) {
        self.worker.config.model_room.give(self.length);
        (self.bytes, self.length) = (Bytes::new(), 0);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release();
    }
}

/// Takes the body of the client's request, up to `limit` bytes.
///
/// # Errors
/// When the client is gone, or what it sends is malformed.
pub(super) async fn take(
    worker: &Rc<Worker>,
    down: &mut Downstream<'_>,
    timer: &mut Deadline,
    limit: usize,
) -> Result<Taken, Failed> {
    let mut held = Held { worker: Rc::clone(worker), bytes: Bytes::new(), length: 0 };
    if down.is_bodiless() {
        return Ok(Taken::Whole(held));
    }
    // Mostly a request comes in one piece, and is not copied.
    let (mut first, mut all) = (Bytes::new(), BytesMut::new());
    let longer = loop {
        timer.set(IDLE_LIMIT);
        let part = poll_fn(|cx| match down.poll_part(cx) {
            Poll::Ready(part) => Poll::Ready(part),
            Poll::Pending => timer.poll(cx).map(|()| Err(silent())),
        });
        let part = part.await?;
        let is_last = part.is_last();
        if let Part::Data(bytes, _) = &part {
            if let Err(why) = held.grow(bytes.len(), limit) {
                break Some((part, why));
            }
            if all.is_empty() && first.is_empty() {
                first = bytes.clone();
            } else {
                if all.is_empty() {
                    all.extend_from_slice(&first);
                }
                all.extend_from_slice(bytes);
            }
        }
        if is_last {
            break None;
        }
    };
    timer.clear();
    held.bytes = if all.is_empty() { first } else { all.freeze() };
    Ok(match longer {
        None => Taken::Whole(held),
        Some((next, why)) => Taken::Longer(Beginning { held, next, why }),
    })
}

/// How an exchange ends whose client stops in the middle of its request.
pub(super) fn silent() -> Failed {
    Failed::ended(Outcome::ClientTimeout, "the request fell silent")
}
