//! A time limit that is moved with every message at the price of a store: the timer behind it is only set anew when it
//! fires early or the limit moves before it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A movable time limit, polled by one task.
#[derive(Debug, Default)]
pub struct Deadline {
    at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// Moves the limit to `after` from now.
    pub fn set(&mut self, after: Duration) {
        self.at = Instant::now().checked_add(after);
    }

    /// Moves the limit to `at`; `None` = unlimited.
    pub fn set_at(&mut self, at: Option<Instant>) {
        self.at = at;
    }

    /// Takes the limit away.
    pub fn clear(&mut self) {
        self.at = None;
    }

    /// Ready once the limit has passed.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        loop {
            if timer.deadline() > at || (timer.is_elapsed() && timer.deadline() < at) {
                timer.as_mut().reset(at);
            }
            match timer.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) if Instant::now() >= at => return Poll::Ready(()),
                // Fired for an earlier limit: the next turn sets it for this one.
                Poll::Ready(()) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn limit_moved_later_passes_later_and_moved_earlier_passes_earlier() {
        let begin = Instant::now();
        let mut deadline = Deadline::default();
        deadline.set(Duration::from_secs(10));
        assert!(futures_util::poll!(std::future::poll_fn(|cx| deadline.poll(cx))).is_pending());
        deadline.set(Duration::from_secs(60));
        std::future::poll_fn(|cx| deadline.poll(cx)).await;
        assert_eq!(begin.elapsed().as_secs(), 60);
        deadline.set(Duration::from_secs(100));
        assert!(futures_util::poll!(std::future::poll_fn(|cx| deadline.poll(cx))).is_pending());
        deadline.set(Duration::from_secs(5));
        std::future::poll_fn(|cx| deadline.poll(cx)).await;
        assert_eq!(begin.elapsed().as_secs(), 65);
    }
}
