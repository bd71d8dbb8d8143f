//! Waits of an exchange in which nothing moves: for a connection, and before another attempt. Both end with its time limits.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use mesh_core::{outcome::Outcome, retry::Failure};
use tokio::time::Instant;

use crate::{
    datapath::{
        enforce::TimeLimits,
        reach,
        relay::{Downstream, Failed, Progress},
    },
    net::deadline::Deadline,
};

/// Waits before another attempt, no longer than `length` and than the exchange, which began at `started`, may last.
///
/// # Errors
/// The client went away.
pub(super) async fn pause(
    down: &mut Downstream<'_>,
    timer: &mut Deadline,
    limits: TimeLimits,
    (started, length): (Instant, Duration),
) -> Result<(), Failed> {
    let end = Instant::now().checked_add(length);
    timer.set_at([end, after(started, limits.request)].into_iter().flatten().min());
    poll_fn(|cx| {
        let gone = match down.progress() {
            Progress::Whole => down.poll_gone(cx),
            // Parts of the body are left where they are.
            Progress::Partial => down.poll_reset(cx),
        };
        match gone {
            Poll::Ready(gone) => Poll::Ready(Err(gone)),
            Poll::Pending => timer.poll(cx).map(Ok),
        }
    })
    .await
}

/// What `reaching` finds, if it does within the limits of the exchange, which began at `started`, and of its attempt, which
/// began at `begun`.
///
/// # Errors
/// Those of `reaching`, or that it is too late.
pub(super) async fn in_time<T>(
    reaching: impl Future<Output = Result<T, Failed>>,
    timer: &mut Deadline,
    (limits, started, begun): (TimeLimits, Instant, Instant),
    upstream: &reach::Upstream,
) -> Result<T, Failed> {
    let (whole, attempt) = (after(started, limits.request), after(begun, limits.attempt));
    timer.set_at([whole, attempt].into_iter().flatten().min());
    let mut reaching = pin!(reaching);
    poll_fn(|cx| {
        if let Poll::Ready(reached) = reaching.as_mut().poll(cx) {
            return Poll::Ready(reached);
        }
        timer.poll(cx).map(|()| match whole {
            Some(whole) if whole <= Instant::now() => {
                Err(Failed::ended(Outcome::Timeout, "the request's time limit passed before there was a connection"))
            }
            Some(_) | None => Err(no_connection(upstream)),
        })
    })
    .await
}

/// An attempt whose limit passed before anything was sent.
fn no_connection(upstream: &reach::Upstream) -> Failed {
    let outcome = if upstream.queue.is_empty() { Outcome::ConnectFailed } else { Outcome::Overloaded };
    let detail = format!("no connection to {} within the time limit of one attempt", upstream.address);
    Failed { outcome, failure: Some(Failure::Connect), detail, status: None }
}

fn after(from: Instant, limit: Option<Duration>) -> Option<Instant> {
    limit.and_then(|limit| from.checked_add(limit))
}
