//! Owns what all sources say and the index made of it: takes news in, compiles, publishes. News that came meanwhile is
//! taken in one go, so that the cost of a world is paid once for all of it.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mesh_core::resources::{Compiled, Problem, Resource};
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::{
    compose::{News, Said, SourceName},
    index::{Event, Index},
    publish::Published,
    sources::Change,
    telemetry::Metrics,
};

/// How often lanes are looked at that drain or end by time alone.
const TICK: Duration = Duration::from_secs(1);

/// The owner.
pub struct Follower {
    /// The index.
    pub index: Index,
    /// What all sources say.
    pub said: watch::Sender<Arc<Said>>,
    /// Sources that have not said anything yet.
    pub waiting: BTreeSet<SourceName>,
    /// Where it is published.
    pub published: Arc<Published>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Becomes true when every source has said something.
    pub ready: watch::Sender<bool>,
}

impl Follower {
    /// Runs until `stopping`.
    pub async fn run(mut self, mut incoming: mpsc::Receiver<Change>, stopping: CancellationToken) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let first = tokio::select! {
                () = stopping.cancelled() => return,
                _ = tick.tick() => {
                    self.apply(Event::Tick(unix_milliseconds()));
                    continue;
                }
                change = incoming.recv() => match change {
                    Some(change) => change,
                    None => return,
                },
            };
            let mut batch = vec![first];
            while let Ok(change) = incoming.try_recv() {
                batch.push(change);
            }
            self.take(batch).await;
        }
    }

    /// Takes news in. What registries say first, since it is always taken; then the resources of each source.
    async fn take(&mut self, batch: Vec<Change>) {
        let mut done = Vec::new();
        let mut written = Vec::new();
        let mut is_stale = false;
        for Change { news, done: answer } in batch {
            match news {
                News::Services { source, services } => {
                    self.said.send_modify(|said| {
                        let said = Arc::make_mut(said);
                        services.into_iter().for_each(|(name, service)| said.register(&source, name, service));
                    });
                    is_stale = true;
                    done.extend(answer);
                }
                News::Meshed(connected) => {
                    self.said.send_modify(|said| Arc::make_mut(said).mesh(connected));
                    is_stale = true;
                    done.extend(answer);
                }
                News::Marks(marks) => {
                    // Needs no compiling, and callers wait for it.
                    self.apply(Event::Marks(marks));
                    done.extend(answer);
                }
                News::TrustAnchors(anchors) => {
                    self.apply(Event::TrustAnchors(anchors));
                    done.extend(answer);
                }
                News::Ready(source) => {
                    self.waiting.remove(&source);
                    is_stale = true;
                    done.extend(answer);
                }
                News::Resources { source, resources } => written.push((source, resources, answer)),
            }
        }
        for (source, resources, answer) in written {
            match self.resources(source, resources).await {
                Ok(()) => {
                    is_stale = false;
                    done.extend(answer);
                }
                Err(problems) => {
                    // Who asked may have gone.
                    let _ = answer.map(|answer| answer.send(Err(problems)));
                }
            }
        }
        if is_stale {
            self.compile_again().await;
        }
        if self.waiting.is_empty() && !*self.ready.borrow() {
            self.ready.send_replace(true);
        }
        for answer in done {
            // Who asked may have gone.
            let _ = answer.send(Ok(()));
        }
    }

    /// Takes the resources of a source in if everything compiles with them.
    async fn resources(&mut self, source: SourceName, resources: Arc<Vec<Resource>>) -> Result<(), Vec<Problem>> {
        let said = Arc::clone(&self.said.borrow());
        let (name, list) = (Arc::clone(&source), Arc::clone(&resources));
        let compiled = blocking(move || said.compiled_with(&name, &list)).await?;
        self.said.send_modify(|said| Arc::make_mut(said).take(Arc::clone(&source), resources));
        self.waiting.remove(&source);
        self.publish(compiled);
        Ok(())
    }

    async fn compile_again(&mut self) {
        let said = Arc::clone(&self.said.borrow());
        match blocking(move || said.compiled()).await {
            Ok(compiled) => self.publish(compiled),
            Err(problems) => {
                // What registries say refuses nothing; should it, the last good world stays in force.
                for problem in problems {
                    error!(%problem, "what registries say does not fit together with resources");
                }
            }
        }
    }

    fn publish(&mut self, Compiled { world, notes }: Compiled) {
        self.published.note(notes);
        self.apply(Event::World(Arc::new(world)));
    }

    fn apply(&mut self, event: Event) {
        let changed = self.index.apply(event);
        if changed.is_empty() {
            return;
        }
        let view = self.index.view();
        let woken = self.published.publish(Arc::clone(&view), &changed);
        self.metrics.published(view.world(), changed.len(), woken);
    }
}

/// Compiles on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_blocking(work).await.expect("compiling resources does not panic")
}

fn unix_milliseconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
