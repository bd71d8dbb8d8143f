//! The request, taken whole: its model stands in it, and another target may need all of it.

use std::{future::poll_fn, rc::Rc, task::Poll};

use bytes::{Bytes, BytesMut};
use mesh_core::outcome::Outcome;

use crate::{
    datapath::relay::{Downstream, Failed, Part},
    net::deadline::Deadline,
    worker::Worker,
};

/// Longest request to a model, bytes.
pub(super) const LENGTH_MAX: usize = 32 * 1024 * 1024;
/// Bytes of all requests to models that one worker holds at a time; more are asked to come back.
const HELD_MAX: usize = 256 * 1024 * 1024;
/// Longest wait for the next bytes of a request.
const IDLE_LIMIT: std::time::Duration = std::time::Duration::from_secs(30);

/// Why there is no request.
pub(super) enum NoBody {
    /// The client is gone, or what it sends is malformed.
    Failed(Failed),
    /// Longer than [`LENGTH_MAX`].
    TooLong,
    /// The worker holds too many bytes of others.
    Full,
}

/// A request held whole.
pub(super) struct Held {
    worker: Rc<Worker>,
    /// Its bytes.
    pub(super) bytes: Bytes,
    length: usize,
}

impl Held {
    fn grow(&mut self, by: usize) -> Result<(), NoBody> {
        let held = &self.worker.providers.held;
        if self.length + by > LENGTH_MAX {
            return Err(NoBody::TooLong);
        }
        if held.get() + by > HELD_MAX {
            return Err(NoBody::Full);
        }
        held.set(held.get() + by);
        self.length += by;
        Ok(())
    }
}

impl Held {
    /// Lets its bytes go.
    pub(super) fn release(&mut self) {
        let held = &self.worker.providers.held;
        held.set(held.get() - self.length);
        (self.bytes, self.length) = (Bytes::new(), 0);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release();
    }
}

/// Takes the body of the client's request.
pub(super) async fn take(worker: &Rc<Worker>, down: &mut Downstream<'_>, timer: &mut Deadline) -> Result<Held, NoBody> {
    let mut held = Held { worker: Rc::clone(worker), bytes: Bytes::new(), length: 0 };
    if down.is_bodiless() {
        return Ok(held);
    }
    // Mostly a request comes in one piece, and is not copied.
    let (mut first, mut all) = (Bytes::new(), BytesMut::new());
    loop {
        timer.set(IDLE_LIMIT);
        let part = poll_fn(|cx| match down.poll_part(cx) {
            Poll::Ready(part) => Poll::Ready(part),
            Poll::Pending => {
                timer.poll(cx).map(|()| Err(Failed::ended(Outcome::ClientTimeout, "the request fell silent")))
            }
        });
        let part = part.await.map_err(NoBody::Failed)?;
        let is_last = part.is_last();
        if let Part::Data(bytes, _) = part {
            held.grow(bytes.len())?;
            if all.is_empty() && first.is_empty() {
                first = bytes;
            } else {
                if all.is_empty() {
                    all.extend_from_slice(&first);
                }
                all.extend_from_slice(&bytes);
            }
        }
        if is_last {
            break;
        }
    }
    timer.clear();
    held.bytes = if all.is_empty() { first } else { all.freeze() };
    Ok(held)
}
