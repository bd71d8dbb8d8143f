//! What the controller is told of this proxy's life: ready, draining, drained, each at once.

use std::{collections::BTreeSet, time::SystemTime};

use mesh_core::lifecycle::State;
use mesh_proto::{convert::lifecycle, mesh::v1 as wire};
use tokio::sync::watch;

use super::registration::MISSING_REGISTRATION;
use crate::{drain::Order, worker::Notice};

/// What the stage is known from, and what was said of it.
pub(super) struct Life {
    missing: watch::Receiver<BTreeSet<String>>,
    draining: watch::Receiver<bool>,
    order: Order,
    /// Withheld: the controller does not hear that the proxy drains.
    notice: Notice,
    /// The stage, and when it began.
    now: (State, SystemTime),
    ready_since: Option<SystemTime>,
    said: Option<State>,
}

impl Life {
    /// Nothing is said yet.
    pub(super) fn new(
        missing: watch::Receiver<BTreeSet<String>>,
        draining: watch::Receiver<bool>,
        order: Order,
        notice: Notice,
    ) -> Self {
        let now = (State::NotReady, SystemTime::now());
        Life { missing, draining, order, notice, now, ready_since: None, said: None }
    }

    /// A new stream knows nothing yet.
    pub(super) fn begin(&mut self) {
        self.said = None;
    }

    /// The stage as it is now.
    pub(super) fn state(&self) -> State {
        let is_told = self.notice == Notice::Given;
        if is_told && self.order.is_inbound_finished() {
            return State::Drained;
        }
        if is_told && *self.draining.borrow() {
            return State::Draining;
        }
        // The registration waits for everything else, and readiness for the registration.
        match self.missing.borrow().iter().all(|missing| missing == MISSING_REGISTRATION) {
            true => State::Ready,
            false => State::NotReady,
        }
    }

    /// The stage, where it was not said on this stream.
    pub(super) fn report(&mut self) -> Option<wire::Lifecycle> {
        self.missing.mark_unchanged();
        self.draining.mark_unchanged();
        let state = self.state();
        if state != self.now.0 {
            self.now = (state, SystemTime::now());
        }
        if state == State::Ready {
            self.ready_since = self.ready_since.or(Some(self.now.1));
        }
        let is_new = self.said.replace(state) != Some(state);
        let life = lifecycle::Life { state, since: self.now.1, ready_since: self.ready_since };
        is_new.then(|| life.to_wire())
    }

    /// Returns when the stage may be another one.
    pub(super) async fn changed(&mut self) {
        // What has happened already and was not said counts, too.
        let is_over = self.notice == Notice::Withheld || self.said == Some(State::Drained);
        tokio::select! {
            () = moved(&mut self.missing) => {}
            () = moved(&mut self.draining) => {}
            () = self.order.inbound_finished(), if !is_over => {}
        }
    }
}

/// Returns when the value may be another one. What has no owner any more does not change.
async fn moved<T>(watched: &mut watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::drain::Cause;

    struct World {
        missing: watch::Sender<BTreeSet<String>>,
        order: Order,
        life: Life,
    }

    fn world(notice: Notice) -> World {
        let missing = watch::Sender::new(BTreeSet::from(["application".to_owned()]));
        let (order, draining) = Order::new();
        let life = Life::new(missing.subscribe(), draining, order.clone(), notice);
        World { missing, order, life }
    }

    /// Longest wait; only a failing test waits that long.
    const PATIENCE: Duration = Duration::from_secs(10);

    async fn changed(life: &mut Life) {
        timeout(PATIENCE, life.changed()).await.expect("the stage is another one");
    }

    fn said(life: &mut Life) -> Option<State> {
        life.report().map(|wire| lifecycle::Life::from_wire(&wire).unwrap().state)
    }

    #[tokio::test]
    async fn each_stage_is_said_once_and_again_to_a_new_stream() {
        let World { missing, order, mut life } = world(Notice::Given);
        assert_eq!((said(&mut life), said(&mut life)), (Some(State::NotReady), None));
        missing.send_replace(BTreeSet::from([MISSING_REGISTRATION.to_owned()]));
        changed(&mut life).await;
        assert_eq!((said(&mut life), said(&mut life)), (Some(State::Ready), None));
        order.give(Cause::Admin);
        changed(&mut life).await;
        assert_eq!(said(&mut life), Some(State::Draining));
        order.finish_inbound();
        changed(&mut life).await;
        assert_eq!((said(&mut life), said(&mut life)), (Some(State::Drained), None));
        life.begin();
        let again = lifecycle::Life::from_wire(&life.report().unwrap()).unwrap();
        assert!(again.ready_since.is_some_and(|ready| ready <= again.since), "{again:?}");
    }

    #[tokio::test]
    async fn a_proxy_that_tells_callers_in_other_ways_says_nothing_of_draining() {
        let World { missing, order, mut life } = world(Notice::Withheld);
        missing.send_replace(BTreeSet::new());
        assert_eq!(said(&mut life), Some(State::Ready));
        order.give(Cause::Admin);
        order.finish_inbound();
        assert_eq!(said(&mut life), None);
    }
}
