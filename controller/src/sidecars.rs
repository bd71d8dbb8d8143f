//! Follows how far the lives of sidecars are, and has callers told of their workloads: who drains is marked for everybody at
//! once, beside whatever the sources say. Decided in `mesh_core::lifecycle`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_core::{
    lifecycle::{Change, Changed, Kind, Marks, Sidecars, State},
    resources::World,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    compose::News,
    publish::{
        Published,
        events::{Events, What},
        proxies::Proxies,
    },
    sources::Change as SourceChange,
    telemetry::Metrics,
};

/// How often those that are gone are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The task.
pub struct Watcher {
    /// Connected proxies.
    pub proxies: Arc<Proxies>,
    /// Whether sources still have a workload.
    pub published: Arc<Published>,
    /// To where the world is marked.
    pub changes: mpsc::Sender<SourceChange>,
    /// Where it is noted what happens.
    pub events: Arc<Events>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl Watcher {
    /// Runs until `stopping`.
    pub async fn run(self, stopping: CancellationToken) {
        let (started, mut changes) = (Instant::now(), self.proxies.changes());
        let mut views = self.published.views();
        let (mut sidecars, mut told) = (Sidecars::default(), Marks::new());
        loop {
            let view = self.published.view();
            let here = self.proxies.said(view.world());
            let is_listed = |workload: &str| is_listed(view.world(), workload);
            for changed in sidecars.renew(&here, &is_listed, started.elapsed()) {
                self.note(&changed);
            }
            let marks = sidecars.marks();
            if marks != told {
                if !self.tell(marks.clone()).await {
                    return;
                }
                told = marks;
            }
            tokio::select! {
                () = stopping.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                // Whose a workload is may be known only now.
                changed = views.changed() => if changed.is_err() { return },
                () = sleep(LOOK), if sidecars.remembers() => {}
            }
        }
    }

    fn note(&self, changed: &Changed) {
        let kind = match changed.change {
            Change::Entered(State::NotReady) => Kind::NotReady,
            Change::Entered(State::Ready) => Kind::Ready,
            Change::Entered(State::Draining) => Kind::Draining,
            Change::Entered(State::Drained) => Kind::Drained,
            Change::Left => Kind::Left,
            Change::Lost => Kind::Lost,
        };
        let what = What::of_workload(kind, &changed.workload);
        match changed.since {
            Some(since) => self.events.note_at(&self.metrics, since.saturating_mul(1_000), what),
            None => self.events.note(&self.metrics, what),
        }
    }

    /// Tells the marks, and waits until callers are told: what changes meanwhile is one further change. False when
    /// everything stops.
    async fn tell(&self, marks: Marks) -> bool {
        let (done, taken) = oneshot::channel();
        let change = SourceChange { news: News::Marks(marks), done: Some(done) };
        self.changes.send(change).await.is_ok() && taken.await.is_ok()
    }
}

fn is_listed(world: &World, workload: &str) -> bool {
    world.workloads.contains_key(workload)
}
