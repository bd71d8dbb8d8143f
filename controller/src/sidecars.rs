//! Follows how far the lives of sidecars are, and has callers told of their workloads: who drains is marked for everybody at
//! once, beside whatever the sources say. Decided in `mesh_core::lifecycle`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_core::{
    lifecycle::{Change, Changed, Marks, Sidecars},
    resources::World,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    compose::News,
    publish::{Published, proxies::Proxies},
    sources::Change as SourceChange,
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
}

impl Watcher {
    /// Runs until `stopping`.
    pub async fn run(self, stopping: CancellationToken) {
        let (started, mut changes) = (Instant::now(), self.proxies.changes());
        let (mut sidecars, mut told) = (Sidecars::default(), Marks::new());
        loop {
            let here = self.proxies.said();
            let view = self.published.view();
            let is_listed = |workload: &str| is_listed(view.world(), workload);
            for changed in sidecars.renew(&here, &is_listed, started.elapsed()) {
                note(&changed);
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
                () = sleep(LOOK), if sidecars.remembers() => {}
            }
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

fn note(changed: &Changed) {
    let what = match changed.change {
        Change::Entered(state) => state.label(),
        Change::Left => "left",
        Change::Lost => "lost",
    };
    info!(workload = changed.workload, what, "life of a sidecar");
}
