//! The order to stop: given by a signal or by the admin interface, once. Workers see it through `Shared`; `/ready` turns
//! false at the same moment.

use tokio::sync::watch;

/// Who ordered to drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// SIGTERM or SIGINT.
    Signal(&'static str),
    /// `POST /drain`.
    Admin,
    /// A worker ended although nobody ordered it.
    WorkerLost,
}

impl Cause {
    /// For the log.
    pub fn label(self) -> &'static str {
        match self {
            Cause::Signal(name) => name,
            Cause::Admin => "admin",
            Cause::WorkerLost => "worker lost",
        }
    }
}

/// Gives the order.
#[derive(Clone, Debug)]
pub struct Order {
    draining: std::sync::Arc<watch::Sender<bool>>,
}

impl Order {
    /// An order not yet given, and what the workers watch.
    pub fn new() -> (Self, watch::Receiver<bool>) {
        let (draining, watched) = watch::channel(false);
        (Order { draining: std::sync::Arc::new(draining) }, watched)
    }

    /// Gives it. True the first time.
    pub fn give(&self, cause: Cause) -> bool {
        let first = self.draining.send_if_modified(|draining| !std::mem::replace(draining, true));
        if first {
            tracing::info!(cause = cause.label(), "draining: exchanges under way may finish");
        }
        first
    }

    /// Returns once it was given.
    pub async fn given(&self) {
        // The sender is held here: the channel cannot close meanwhile.
        let _ = self.draining.subscribe().wait_for(|draining| *draining).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn order_is_given_once_and_seen_by_all() {
        let (order, mut watched) = Order::new();
        assert!(!*watched.borrow());
        assert!(order.give(Cause::Admin));
        assert!(!order.give(Cause::Signal("SIGTERM")));
        order.given().await;
        assert!(watched.wait_for(|draining| *draining).await.is_ok());
    }
}
