//! The order to go down: given once, by whomever. Workers see it through `Shared`, `/ready` turns false at the same moment,
//! and whoever tells the controller watches it, too.

mod port;

use std::sync::Arc;

use mesh_core::drain::application::Ended;
use tokio::sync::watch;

pub use self::port::ApplicationPort;

/// Who ordered to drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// SIGTERM or SIGINT.
    Signal(&'static str),
    /// `POST /drain`.
    Admin,
    /// `POST /shutdown`: the application has ended.
    Shutdown,
    /// The controller.
    Controller,
    /// A worker ended although nobody ordered it.
    WorkerLost,
}

impl Cause {
    /// For the log.
    pub fn label(self) -> &'static str {
        match self {
            Cause::Signal(name) => name,
            Cause::Admin => "admin",
            Cause::Shutdown => "shutdown",
            Cause::Controller => "controller",
            Cause::WorkerLost => "worker lost",
        }
    }
}

/// Gives the order, and knows how far it was followed.
#[derive(Clone, Debug)]
pub struct Order(Arc<Known>);

#[derive(Debug)]
struct Known {
    draining: watch::Sender<bool>,
    application: watch::Sender<Ended>,
    inbound: watch::Sender<Inbound>,
}

/// Whether anything comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inbound {
    Open,
    Finished,
}

impl Order {
    /// An order not yet given, and what the workers watch.
    pub fn new() -> (Self, watch::Receiver<bool>) {
        let (draining, watched) = watch::channel(false);
        let (application, inbound) = (watch::Sender::new(Ended::NotSaid), watch::Sender::new(Inbound::Open));
        (Order(Arc::new(Known { draining, application, inbound })), watched)
    }

    /// Gives it. True the first time.
    pub fn give(&self, cause: Cause) -> bool {
        let first = self.0.draining.send_if_modified(|draining| !std::mem::replace(draining, true));
        if first {
            tracing::info!(cause = cause.label(), "draining: callers are told, exchanges under way may finish");
        }
        first
    }

    /// Returns once it was given.
    pub async fn given(&self) {
        // The sender is held here: the channel cannot close meanwhile.
        let _ = self.0.draining.subscribe().wait_for(|draining| *draining).await;
    }

    /// The application has ended: nothing is kept for it.
    pub fn end_application(&self) {
        self.0.application.send_replace(Ended::Said);
    }

    /// Whether somebody said that the application has ended.
    pub fn application(&self) -> Ended {
        *self.0.application.borrow()
    }

    /// Nothing comes in any more, by the word of all workers. True the first time.
    pub fn finish_inbound(&self) -> bool {
        self.0.inbound.send_if_modified(|inbound| std::mem::replace(inbound, Inbound::Finished) == Inbound::Open)
    }

    /// Whether nothing comes in any more.
    pub fn is_inbound_finished(&self) -> bool {
        *self.0.inbound.borrow() == Inbound::Finished
    }

    /// Returns once nothing comes in any more.
    pub async fn inbound_finished(&self) {
        // As above.
        let _ = self.0.inbound.subscribe().wait_for(|inbound| *inbound == Inbound::Finished).await;
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

    #[tokio::test]
    async fn whoever_waits_learns_that_nothing_comes_in_any_more() {
        let (order, _watched) = Order::new();
        let waiting = tokio::spawn({
            let order = order.clone();
            async move { order.inbound_finished().await }
        });
        assert!(order.finish_inbound());
        assert!(!order.finish_inbound());
        waiting.await.unwrap();
        assert_eq!(order.application(), Ended::NotSaid);
        order.end_application();
        assert_eq!(order.application(), Ended::Said);
    }
}
