//! Owns what all sources say and the index made of it: takes news in, compiles, publishes. News that came meanwhile is
//! taken in one go, so that the cost of a world is paid once for all of it; and where news never ends, the follower rests
//! between two worlds.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mesh_core::resources::{Compiled, Problem, Resource};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::{
    compose::{News, Said, SourceName},
    index::{Event, Index},
    publish::Published,
    sources::Change,
    telemetry::Metrics,
    workshop::Workshop,
};

/// How often lanes are looked at that drain or end by time alone.
const TICK: Duration = Duration::from_secs(1);
/// Longest rest after a world: how much later than otherwise a change may be in force.
const REST_MAX: Duration = Duration::from_millis(500);
/// Sources that wait for the next world; more news is taken in only after it.
const WAITING_MAX: usize = 1_024;

/// Told when news is published, or why it is refused.
type Answer = oneshot::Sender<Result<(), Vec<Problem>>>;

/// What was taken in and is in no world yet.
#[derive(Default)]
struct Pending {
    is_stale: bool,
    /// Who waits for it.
    done: Vec<Answer>,
}

/// How long to rest after a world that took so long to make: whatever comes, half a core is the most that worlds cost.
fn rest(took: Duration) -> Duration {
    took.min(REST_MAX)
}

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
    /// Where worlds are made.
    pub workshop: Workshop,
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
        let (mut pending, mut rested) = (Pending::default(), Instant::now());
        loop {
            let has_room = pending.done.len() < WAITING_MAX;
            let made = tokio::select! {
                () = stopping.cancelled() => return,
                _ = tick.tick() => {
                    self.apply(Event::Tick(unix_milliseconds()));
                    continue;
                }
                change = incoming.recv(), if has_room => match change {
                    Some(first) => {
                        let mut batch = vec![first];
                        while let Ok(change) = incoming.try_recv() {
                            batch.push(change);
                        }
                        self.take(batch, &mut pending).await
                    }
                    None => return,
                },
                () = sleep_until(rested), if pending.is_stale => Some(self.compile_again(&mut pending).await),
            };
            if let Some(took) = made {
                self.metrics.world(took);
                rested = Instant::now() + rest(took);
            }
            if self.waiting.is_empty() && !pending.is_stale && !*self.ready.borrow() {
                self.ready.send_replace(true);
            }
        }
    }

    /// Takes news in. What registries say is always taken, and is in force with the next world; the resources of a source
    /// are compiled at once, with whatever was taken in. Says how long the last world took to make, if one was made.
    async fn take(&mut self, batch: Vec<Change>, pending: &mut Pending) -> Option<Duration> {
        let mut written = Vec::new();
        for Change { news, done: answer } in batch {
            match news {
                News::Services { source, services } => {
                    self.note(|said| {
                        services.into_iter().for_each(|(name, service)| said.register(&source, name, service));
                    });
                    pending.is_stale = true;
                }
                News::Meshed(connected) => {
                    self.note(|said| said.mesh(connected));
                    pending.is_stale = true;
                }
                News::Marks(marks) => {
                    // Needs no compiling, and callers wait for it.
                    self.apply(Event::Marks(marks));
                    // Who asked may have gone.
                    let _ = answer.map(|answer| answer.send(Ok(())));
                    continue;
                }
                News::TrustAnchors(anchors) => self.apply(Event::TrustAnchors(anchors)),
                News::Ready(source) => {
                    self.waiting.remove(&source);
                    pending.is_stale = true;
                }
                News::Resources { source, resources } => {
                    written.push((source, resources, answer));
                    continue;
                }
            }
            pending.done.extend(answer);
        }
        let mut took = None;
        for (source, resources, answer) in written {
            let began = Instant::now();
            match self.resources(source, resources).await {
                Ok(()) => {
                    pending.done.extend(answer);
                    pending.in_force();
                }
                Err(problems) => {
                    // Who asked may have gone.
                    let _ = answer.map(|answer| answer.send(Err(problems)));
                }
            }
            took = Some(began.elapsed());
        }
        if !pending.is_stale {
            pending.in_force();
        }
        took
    }

    /// Changes what is said without waking who waits for other resources.
    fn note(&self, change: impl FnOnce(&mut Said)) {
        self.said.send_if_modified(|said| {
            change(Arc::make_mut(said));
            false
        });
    }

    /// Takes the resources of a source in if everything compiles with them.
    async fn resources(&mut self, source: SourceName, resources: Arc<Vec<Resource>>) -> Result<(), Vec<Problem>> {
        let said = Arc::clone(&self.said.borrow());
        let (name, list) = (Arc::clone(&source), Arc::clone(&resources));
        let compiled = self.workshop.run(move || said.compiled_with(&name, &list)).await?;
        self.said.send_modify(|said| Arc::make_mut(said).take(Arc::clone(&source), resources));
        self.waiting.remove(&source);
        self.publish(compiled);
        Ok(())
    }

    /// Makes a world of everything that was taken in; how long that took.
    async fn compile_again(&mut self, pending: &mut Pending) -> Duration {
        let began = Instant::now();
        let said = Arc::clone(&self.said.borrow());
        match self.workshop.run(move || said.compiled()).await {
            Ok(compiled) => self.publish(compiled),
            Err(problems) => {
                // What registries say refuses nothing; should it, the last good world stays in force.
                for problem in problems {
                    error!(%problem, "what registries say does not fit together with resources");
                }
            }
        }
        pending.in_force();
        began.elapsed()
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

impl Pending {
    /// Everything that was taken in is in the world that is published.
    fn in_force(&mut self) {
        self.is_stale = false;
        for answer in self.done.drain(..) {
            // Who asked may have gone.
            let _ = answer.send(Ok(()));
        }
    }
}

fn unix_milliseconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
