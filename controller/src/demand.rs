//! What proxies ask for, told to sources that follow only what somebody asks for. A want lives as long as one of its
//! guards, and is remembered for a while after; who asked may wait until every source has looked it up.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::timeout};

use crate::compose::SourceName;

/// Longest wait for sources to look something up that nobody asked for before.
pub const LOOKUP_DEADLINE: Duration = Duration::from_secs(3);
/// Wants at the same time; what is asked for beyond that is answered with what is known already.
pub const WANTS_MAX: usize = 20_000;
/// How long a want is remembered after its last guard.
pub const IDLE_KEPT: Duration = Duration::from_secs(24 * 3_600);

/// Something that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Want {
    /// A service, `<name>.<namespace>`.
    Service(String),
    /// Whatever has an instance at this address.
    Address(SocketAddr),
    /// Whatever has instances on this host: a proxy runs there.
    Host(IpAddr),
}

/// How a want stands.
#[derive(Debug)]
struct Interest {
    guards: usize,
    /// When the last guard went.
    idle_since: Option<Instant>,
    /// Sources that have looked it up.
    answered: BTreeSet<SourceName>,
}

/// A want as a source sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What is asked for.
    pub want: Want,
    /// For how long nobody has asked; `None` = somebody does.
    pub idle: Option<Duration>,
}

/// What is asked for.
#[derive(Debug)]
pub struct Demand {
    wants: Mutex<HashMap<Want, Interest>>,
    /// Sources that look up on demand.
    sources: BTreeSet<SourceName>,
    /// Goes up with every new want.
    asked: watch::Sender<u64>,
    /// Goes up with every answer.
    answered: watch::Sender<u64>,
}

impl Demand {
    /// Nobody asks yet.
    pub fn new(sources: BTreeSet<SourceName>) -> Self {
        Demand { wants: Mutex::default(), sources, asked: watch::Sender::new(0), answered: watch::Sender::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Want, Interest>> {
        self.wants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks. Without a source that looks up on demand nothing is kept.
    pub fn want(self: &Arc<Self>, want: Want) -> Option<Guard> {
        if self.sources.is_empty() {
            return None;
        }
        let mut wants = self.lock();
        if wants.len() >= WANTS_MAX && !wants.contains_key(&want) {
            wants.retain(|_, interest| interest.guards > 0);
            if wants.len() >= WANTS_MAX {
                return None;
            }
        }
        let interest = wants.entry(want.clone()).or_insert_with(|| {
            self.asked.send_modify(|count| *count += 1);
            Interest { guards: 0, idle_since: None, answered: BTreeSet::new() }
        });
        interest.guards += 1;
        interest.idle_since = None;
        drop(wants);
        Some(Guard { demand: Arc::clone(self), want })
    }

    /// Everything that is asked for or was not long ago.
    pub fn all(&self) -> Vec<Wanted> {
        let now = Instant::now();
        let mut wants = self.lock();
        let idle = |interest: &Interest| interest.idle_since.map(|since| now.saturating_duration_since(since));
        wants.retain(|_, interest| idle(interest).is_none_or(|idle| idle < IDLE_KEPT));
        wants.iter().map(|(want, interest)| Wanted { want: want.clone(), idle: idle(interest) }).collect()
    }

    /// Changes when something new is asked for.
    pub fn asked(&self) -> watch::Receiver<u64> {
        self.asked.subscribe()
    }

    /// Says that a source has looked something up, and that what it found is published.
    pub fn answer(&self, source: &SourceName, want: &Want) {
        if let Some(interest) = self.lock().get_mut(want)
            && interest.answered.insert(Arc::clone(source))
        {
            self.answered.send_modify(|count| *count += 1);
        }
    }

    /// Forgets that a source has looked something up: it does not follow it any more.
    pub fn forget(&self, source: &SourceName, want: &Want) {
        if let Some(interest) = self.lock().get_mut(want) {
            interest.answered.remove(source);
        }
    }

    fn is_answered(&self, want: &Want) -> bool {
        self.lock().get(want).is_none_or(|interest| interest.answered.is_superset(&self.sources))
    }

    /// Waits until every source has looked these up, at most [`LOOKUP_DEADLINE`].
    pub async fn looked_up(&self, wants: impl IntoIterator<Item = &Want>) {
        let mut answered = self.answered.subscribe();
        let wants: Vec<&Want> = wants.into_iter().collect();
        let all = answered.wait_for(|_| wants.iter().all(|want| self.is_answered(want)));
        // Late answers come as changes.
        let _ = timeout(LOOKUP_DEADLINE, all).await;
    }
}

/// Keeps a want alive.
#[derive(Debug)]
pub struct Guard {
    demand: Arc<Demand>,
    want: Want,
}

impl Guard {
    /// What is wanted.
    pub fn want(&self) -> &Want {
        &self.want
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(interest) = self.demand.lock().get_mut(&self.want) {
            interest.guards = interest.guards.saturating_sub(1);
            if interest.guards == 0 {
                interest.idle_since = Some(Instant::now());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand() -> Arc<Demand> {
        Arc::new(Demand::new(BTreeSet::from([SourceName::from("nacos")])))
    }

    fn service() -> Want {
        Want::Service("order.default".to_owned())
    }

    #[tokio::test]
    async fn who_asks_waits_until_every_source_has_answered() {
        let demand = demand();
        let asked = demand.asked();
        let guard = demand.want(service()).unwrap();
        assert!(asked.has_changed().unwrap());
        let waiting = tokio::spawn({
            let demand = Arc::clone(&demand);
            async move { demand.looked_up([&service()]).await }
        });
        demand.answer(&"other".into(), guard.want());
        assert!(!demand.is_answered(guard.want()));
        demand.answer(&"nacos".into(), guard.want());
        waiting.await.unwrap();
    }

    #[test]
    fn a_want_is_idle_from_its_last_guard_on() {
        let demand = demand();
        let (one, other) = (demand.want(service()), demand.want(service()));
        drop(one);
        assert_eq!(demand.all(), [Wanted { want: service(), idle: None }]);
        drop(other);
        assert!(demand.all()[0].idle.is_some());
        let _again = demand.want(service());
        assert_eq!(demand.all()[0].idle, None);
    }

    #[test]
    fn without_a_source_on_demand_nothing_is_kept() {
        let demand = Arc::new(Demand::new(BTreeSet::new()));
        assert!(demand.want(service()).is_none());
    }
}
