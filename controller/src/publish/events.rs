//! What happened to instances, the newest last: transitions that sidecars tell of themselves, that callers observe, and
//! registrations. Bounded; who wants to keep more collects them.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use mesh_core::lifecycle::Kind;

use crate::telemetry::Metrics;

/// Events that are kept; the oldest goes when one more joins.
pub const EVENTS_MAX: usize = 10_000;

/// What happened, without when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct What {
    /// What happened.
    pub kind: Kind,
    /// `<namespace>/<pod>`, empty where it is not known.
    pub workload: String,
    /// `<name>.<namespace>`, empty where it is about the workload as a whole.
    pub service: String,
    /// Address of the instance, where it is about one.
    pub address: Option<SocketAddr>,
    /// Who observed it, `<namespace>/<pod>`; empty where that is the controller, or the workload itself.
    pub by: String,
    /// More, for people.
    pub detail: String,
}

impl What {
    /// Something about a workload as a whole.
    pub fn of_workload(kind: Kind, workload: &str) -> Self {
        let (service, by, detail) = Default::default();
        What { kind, workload: workload.to_owned(), service, address: None, by, detail }
    }
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Counts up from 1.
    pub number: u64,
    /// When, Unix milliseconds.
    pub time: u64,
    /// What happened.
    pub what: What,
}

/// The list.
#[derive(Debug, Default)]
pub struct Events(Mutex<List>);

#[derive(Debug, Default)]
struct List {
    events: VecDeque<Event>,
    last: u64,
}

impl Events {
    fn lock(&self) -> MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes and counts something that happened now.
    pub fn note(&self, metrics: &Metrics, what: What) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.note_at(metrics, u64::try_from(now.as_millis()).unwrap_or(u64::MAX), what);
    }

    /// Notes and counts something that happened at a time, Unix milliseconds.
    pub fn note_at(&self, metrics: &Metrics, time: u64, what: What) {
        metrics.event(what.kind.label());
        let mut list = self.lock();
        list.last += 1;
        let number = list.last;
        if list.events.len() >= EVENTS_MAX {
            list.events.pop_front();
        }
        list.events.push_back(Event { number, time, what });
    }

    /// Those after a number, oldest first; all where the number was not given yet: who has it from an earlier process has
    /// heard none of these.
    pub fn after(&self, number: u64) -> Vec<Event> {
        let list = self.lock();
        let number = if number > list.last { 0 } else { number };
        let first = list.events.partition_point(|event| event.number <= number);
        list.events.iter().skip(first).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_numbered() {
        let (events, metrics) = (Events::default(), Metrics::default());
        for _ in 0..EVENTS_MAX + 3 {
            events.note(&metrics, What::of_workload(Kind::Ready, "demo/b-1"));
        }
        let numbers: Vec<u64> = events.after(0).iter().map(|event| event.number).collect();
        assert_eq!((numbers.len(), numbers[0]), (EVENTS_MAX, 4));
        let last = events.after(EVENTS_MAX as u64 + 2);
        assert_eq!(last.len(), 1);
        assert!(events.after(EVENTS_MAX as u64 + 3).is_empty());
        assert_eq!(events.after(EVENTS_MAX as u64 + 4).len(), EVENTS_MAX);
        let counted = format!("_events_total{{kind=\"ready\"}} {}", EVENTS_MAX + 3);
        assert!(metrics.expose().contains(&counted), "{}", metrics.expose());
    }
}
