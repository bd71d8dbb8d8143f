//! Which instances of a service are new to a caller, and since when.

use std::{net::SocketAddr, time::Duration};

use crate::model::{policy::WarmUp, service::Service};

/// How a caller came to know the instances of a service.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// All at once: how long they have been there it knows from the controller alone.
    AtOnce,
    /// After these.
    After(&'a Service),
}

/// Starts of instances, by address: of those that came, or came back, while the caller watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Newcomers {
    /// In order of addresses; Unix milliseconds.
    seen: Vec<(SocketAddr, u64)>,
}

impl Newcomers {
    /// What is known once the instances of a service are others than before, at `now` (Unix milliseconds). What has warmed
    /// up is forgotten.
    #[must_use]
    pub fn renewed(&self, before: Seen<'_>, service: &Service, policy: &WarmUp, now: u64) -> Self {
        let Seen::After(before) = before else { return Newcomers::default() };
        let length = millis(policy.duration);
        let mut seen = Vec::new();
        for endpoint in service.endpoints() {
            let address = endpoint.address;
            let known = self.since(address);
            let earlier = before.endpoints().binary_search_by_key(&address, |endpoint| endpoint.address);
            let was_open = earlier.ok().map(|position| before.endpoints()[position].is_open());
            let start = match (was_open, endpoint.is_open()) {
                // It comes, or takes traffic for the first time.
                (None, true) => Some(now),
                (Some(false), true) if policy.after_recovery || known == Some(NEVER) => Some(now),
                // It is there, and takes no traffic yet.
                (None, false) => Some(NEVER),
                (Some(true | false), _) => known,
            };
            let is_over = |start: u64| start != NEVER && now.saturating_sub(start) >= length;
            seen.extend(start.filter(|start| !is_over(*start)).map(|start| (address, start)));
        }
        Newcomers { seen }
    }

    /// An instance has come back that its caller had found unhealthy.
    pub fn recovered(&mut self, address: SocketAddr, now: u64) {
        match self.seen.binary_search_by_key(&address, |(known, _)| *known) {
            Ok(at) => self.seen[at].1 = now,
            Err(at) => self.seen.insert(at, (address, now)),
        }
    }

    /// Positions (in [`Service::endpoints`]) of the instances that warm up at `now`, in order, with the start of each.
    pub fn warming(&self, service: &Service, policy: &WarmUp, now: u64) -> Vec<(usize, u64)> {
        let length = millis(policy.duration);
        let starts = service.endpoints().iter().enumerate().filter_map(|(position, endpoint)| {
            // A moment that has not come says nothing: its clock goes before ours, or it is no moment.
            let ready = endpoint.ready_since.map(|seconds| seconds.saturating_mul(1_000)).filter(|ready| *ready <= now);
            let seen = self.since(endpoint.address).filter(|start| *start != NEVER);
            // Our own clock may have been set back.
            ready.max(seen).map(|start| (position, start.min(now)))
        });
        starts.filter(|(_, start)| now.saturating_sub(*start) < length).collect()
    }

    fn since(&self, address: SocketAddr) -> Option<u64> {
        let at = self.seen.binary_search_by_key(&address, |(known, _)| *known).ok()?;
        Some(self.seen[at].1)
    }
}

/// Start of an instance that was seen and has not taken traffic yet.
const NEVER: u64 = u64::MAX;

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}
