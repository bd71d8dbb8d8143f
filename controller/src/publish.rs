//! From the index to proxies: every stream watches the keys it depends on, and when one changes computes what it has to
//! say from the newest view. A stream that is slow skips states; nothing is queued, so cost follows the change and the
//! number of streams that watch it.

pub mod discovery;
pub mod events;
pub mod follow;
pub mod health;
pub mod identity;
pub mod inbound;
pub mod mesh;
pub mod outbound;
pub mod peer;
pub mod probes;
pub mod profile;
pub mod proxies;
pub mod standings;
pub mod statistics;
pub mod usage;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::future::select_all;
use mesh_core::resources::Problem;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use self::{
    events::Events, health::Sharing, probes::Probes, proxies::Proxies, standings::Standings, statistics::Statistics,
    usage::Usage,
};
use crate::{
    demand::{Demand, Guard, Want},
    index::{Key, View},
};

/// What proxies say of themselves, in tables.
#[derive(Clone, Debug, Default)]
pub struct Reported {
    /// Who is connected.
    pub proxies: Arc<Proxies>,
    /// What calls to lanes came to.
    pub statistics: Arc<Statistics>,
    /// What was seen of probes.
    pub probes: Arc<Probes>,
    /// What was used of models.
    pub usage: Arc<Usage>,
    /// What happened to instances.
    pub events: Arc<Events>,
    /// What proxies are told of themselves: orders, registrations.
    pub standings: Arc<Standings>,
    /// Who probes which instances, and what they say of them.
    pub sharing: Arc<Sharing>,
}

/// Keys that are remembered after their last watcher left, before they are swept out.
const IDLE_KEYS: usize = 1_024;

/// The newest view, and who waits for which part of it.
pub struct Published {
    view: watch::Sender<Arc<View>>,
    watched: Mutex<Watched>,
    demand: Arc<Demand>,
    notes: Mutex<Arc<Vec<Problem>>>,
    stopping: CancellationToken,
}

#[derive(Default)]
struct Watched {
    keys: HashMap<Key, watch::Sender<()>>,
    sweep_at: usize,
}

impl Published {
    /// Publishes `view` first.
    pub fn new(view: Arc<View>, demand: Arc<Demand>, stopping: CancellationToken) -> Self {
        Published {
            view: watch::Sender::new(view),
            watched: Mutex::default(),
            demand,
            notes: Mutex::default(),
            stopping,
        }
    }

    /// The newest view, and whenever there is a newer one.
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    /// The newest view.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// What is wrong with the newest view without refusing anything.
    pub fn notes(&self) -> Arc<Vec<Problem>> {
        Arc::clone(&self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps what is wrong, for the console.
    pub fn note(&self, notes: Vec<Problem>) {
        *self.notes.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(notes);
    }

    /// What proxies ask for.
    pub fn demand(&self) -> &Arc<Demand> {
        &self.demand
    }

    /// Publishes a view and wakes whoever watches one of `changed`. Returns how many streams that were.
    pub fn publish(&self, view: Arc<View>, changed: &BTreeSet<Key>) -> usize {
        self.view.send_replace(view);
        self.wake(changed)
    }

    /// Wakes whoever watches one of `changed`. Returns how many streams that were.
    pub fn wake(&self, changed: &BTreeSet<Key>) -> usize {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut woken = 0;
        for sender in changed.iter().filter_map(|key| watched.keys.get(key)) {
            woken += sender.receiver_count();
            sender.send_replace(());
        }
        woken
    }

    /// Watches keys, and asks sources for what they name as long as the watch lives. Take the view after this call, and
    /// again after each [`Watch::changed`].
    pub fn watch(&self, keys: impl IntoIterator<Item = Key>) -> Watch {
        let keys: Vec<Key> = keys.into_iter().collect();
        let wants = keys.iter().filter_map(want).filter_map(|want| self.demand.want(want)).collect();
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.keys.len() > watched.sweep_at + IDLE_KEYS {
            watched.keys.retain(|_, sender| sender.receiver_count() > 0);
            watched.sweep_at = watched.keys.len();
        }
        let receivers = keys.into_iter().map(|key| watched.keys.entry(key).or_default().subscribe()).collect();
        Watch { receivers, wants, demand: Arc::clone(&self.demand), stopping: self.stopping.clone() }
    }

    /// Keys that somebody watches.
    pub fn watched(&self) -> usize {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.keys.values().filter(|sender| sender.receiver_count() > 0).count()
    }
}

/// What sources are asked for, for a key.
fn want(key: &Key) -> Option<Want> {
    match key {
        Key::Service(label) => Some(Want::Service(label.clone())),
        Key::Address(address) => Some(Want::Address(*address)),
        Key::Workload(_) | Key::Mesh => None,
    }
}

/// A watch on some keys.
pub struct Watch {
    receivers: Vec<watch::Receiver<()>>,
    wants: Vec<Guard>,
    demand: Arc<Demand>,
    stopping: CancellationToken,
}

impl Watch {
    /// Waits, for a bounded time, until every source has looked up what the keys name.
    pub async fn looked_up(&self) {
        self.demand.looked_up(self.wants.iter().map(Guard::want)).await;
    }

    /// Waits until one of the keys changed. Changes between two calls are one.
    ///
    /// # Errors
    /// `Unavailable` when the controller stops: the proxy goes to another replica.
    pub async fn changed(&mut self) -> Result<(), Status> {
        let stopping = self.stopping.clone();
        let wake = async {
            if self.receivers.is_empty() {
                return std::future::pending().await;
            }
            let waits = self.receivers.iter_mut().map(|receiver| Box::pin(receiver.changed()));
            // The sender lives as long as a receiver does: sweeping spares watched keys.
            drop(select_all(waits).await);
        };
        tokio::select! {
            () = stopping.cancelled() => Err(Status::unavailable("this controller is stopping")),
            () = wake => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand() -> Arc<Demand> {
        Arc::new(Demand::new(BTreeSet::new()))
    }

    #[tokio::test]
    async fn only_watchers_of_a_changed_key_wake() {
        let published = Published::new(Arc::default(), demand(), CancellationToken::new());
        let key = |name: &str| Key::Service(name.to_owned());
        let mut one = published.watch([key("a"), key("b")]);
        let mut other = published.watch([key("c")]);
        assert_eq!(published.publish(Arc::default(), &BTreeSet::from([key("b"), key("x")])), 1);
        assert!(one.changed().await.is_ok());
        tokio::select! {
            biased;
            _ = other.changed() => panic!("c did not change"),
            () = std::future::ready(()) => (),
        }
        drop(one);
        assert_eq!(published.watched(), 1);
    }

    #[tokio::test]
    async fn a_stop_ends_every_watch() {
        let stopping = CancellationToken::new();
        let published = Published::new(Arc::default(), demand(), stopping.clone());
        let mut watch = published.watch([Key::Mesh]);
        stopping.cancel();
        assert_eq!(watch.changed().await.unwrap_err().code(), tonic::Code::Unavailable);
    }
}
