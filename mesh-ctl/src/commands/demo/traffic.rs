//! Traffic of the demo: a few callers outside, most requests plain and some with the label of the lane.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::answers::{Visit, Wish, walk};

/// Callers at the same time.
const CALLERS: u32 = 4;
/// Time between two requests of a caller.
const EVERY: Duration = Duration::from_millis(40);
/// One request in so many carries the label.
const LANE_SHARE: u64 = 3;

/// What the callers saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Answers with the whole chain in them.
    pub(crate) answered: u64,
    /// Everything else.
    pub(crate) failed: u64,
    /// Why the last one failed.
    pub(crate) last_failure: Option<String>,
    /// Answers from an instance that the request's label does not lead to.
    pub(crate) astray: u64,
    /// Caller's identity that an instance saw last, by service and version.
    pub(crate) peers: BTreeMap<(String, String), String>,
}

impl Seen {
    fn note(&mut self, wish: Wish, outcome: anyhow::Result<Vec<Visit>>) {
        match outcome {
            Ok(visits) => {
                self.answered += 1;
                self.astray += u64::from(!as_wished(wish, &visits));
                for visit in visits {
                    if let Some(peer) = visit.peer {
                        self.peers.insert((visit.service, visit.version), peer);
                    }
                }
            }
            Err(error) => {
                self.failed += 1;
                self.last_failure = Some(format!("{error:#}"));
            }
        }
    }
}

/// Whether each service of the chain was served by the instance that the label leads to.
pub(crate) fn as_wished(wish: Wish, visits: &[Visit]) -> bool {
    let expected = match wish {
        Wish::Plain => [("a", "baseline"), ("b", "baseline"), ("c", "baseline"), ("d", "baseline")],
        Wish::Lane => [("a", "baseline"), ("b", "canary"), ("c", "baseline"), ("d", "canary")],
    };
    visits.iter().map(|visit| (visit.service.as_str(), visit.version.as_str())).eq(expected)
}

/// Callers at work; they end when this is dropped.
pub(crate) struct Traffic {
    seen: Arc<Mutex<Seen>>,
    _callers: JoinSet<()>,
}

impl Traffic {
    /// Starts the callers.
    pub(crate) fn start(entry: SocketAddr) -> Traffic {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            callers.spawn(call(entry, seen.clone()));
        }
        Traffic { seen, _callers: callers }
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> Seen {
        locked(&self.seen).clone()
    }
}

async fn call(entry: SocketAddr, seen: Arc<Mutex<Seen>>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0_u64.. {
        ticks.tick().await;
        let wish = if number % LANE_SHARE == 0 { Wish::Lane } else { Wish::Plain };
        let outcome = walk(entry, wish).await;
        locked(&seen).note(wish, outcome);
    }
}

/// Counters are whole after a panic of another holder, too.
fn locked(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit(service: &str, version: &str) -> Visit {
        Visit { service: service.to_owned(), version: version.to_owned(), lane: None, peer: Some("x".to_owned()) }
    }

    #[test]
    fn answer_of_a_wrong_instance_or_a_short_chain_is_astray() {
        let baseline: Vec<Visit> = ["a", "b", "c", "d"].map(|service| visit(service, "baseline")).into();
        assert!(as_wished(Wish::Plain, &baseline));
        assert!(!as_wished(Wish::Lane, &baseline));
        assert!(!as_wished(Wish::Plain, &baseline[..3]));
        let mut seen = Seen::default();
        seen.note(Wish::Lane, Ok(baseline));
        assert_eq!((seen.answered, seen.astray, seen.failed), (1, 1, 0));
    }
}
