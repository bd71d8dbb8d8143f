//! What the calls of this proxy came to, by service and level, for the guards of lanes: read from the counters of the
//! workers on the control thread; the data path does nothing for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use mesh_core::{
    lane::{self, guard::Tally},
    model::lane::LaneRef,
    outcome::Outcome,
};
use mesh_proto::{
    convert::statistics::{LEVELS_MAX, Level},
    mesh::v1::LaneStatistics,
};

use crate::{
    shared::Shared,
    telemetry::worker::{Direction, Series, WorkerMetrics},
};

/// Service and level (`None` = baseline).
type Key = (Arc<str>, Option<LaneRef>);

/// The counters, and what of them was reported.
pub(super) struct Statistics {
    workers: Vec<Arc<WorkerMetrics>>,
    shared: Arc<Shared>,
    told: BTreeMap<Key, Tally>,
}

impl Statistics {
    /// Nothing is reported yet.
    pub(super) fn new(workers: Vec<Arc<WorkerMetrics>>, shared: Arc<Shared>) -> Self {
        Statistics { workers, shared, told: BTreeMap::new() }
    }

    /// What came since the last report; `None` where there was no call to a service that has lanes.
    pub(super) fn report(&mut self) -> Option<LaneStatistics> {
        let laned = self.services_with_lanes();
        if laned.is_empty() {
            return None;
        }
        let mut levels = Vec::new();
        for (key, tally) in self.counted(&laned) {
            let told = self.told.entry(key.clone()).or_default();
            let grown = tally.since(told);
            if grown.requests == 0 || levels.len() >= LEVELS_MAX {
                continue;
            }
            *told = tally;
            let (service, lane) = key;
            levels.push(Level { service: service.to_string(), lane, tally: grown }.to_wire());
        }
        (!levels.is_empty()).then_some(LaneStatistics { levels })
    }

    fn services_with_lanes(&self) -> BTreeSet<String> {
        let snapshot = self.shared.load();
        let laned = snapshot.services.values().filter(|service| service.lanes().next().is_some());
        laned.map(|service| service.key().label().to_owned()).collect()
    }

    fn counted(&self, laned: &BTreeSet<String>) -> BTreeMap<Key, Tally> {
        let mut counted: BTreeMap<Key, Tally> = BTreeMap::new();
        for worker in &self.workers {
            for series in worker.series().iter() {
                let key = &series.key;
                if key.direction != Direction::Outbound || !laned.contains(&*key.service) {
                    continue;
                }
                if let Some(level) = level(&key.level) {
                    counted.entry((Arc::clone(&key.service), level)).or_default().add(&tally(series));
                }
            }
        }
        counted
    }
}

/// The level that a series is about; `None` where nothing was picked.
fn level(text: &str) -> Option<Option<LaneRef>> {
    if text == lane::Level::Baseline.to_string() {
        return Some(None);
    }
    text.parse().ok().map(Some)
}

fn tally(series: &Series) -> Tally {
    let mut tally = Tally::default();
    for (bucket, count) in tally.latency.iter_mut().zip(&series.latency) {
        *bucket = count.get();
    }
    tally.requests = tally.latency.iter().sum();
    // An answer that broke off had its status before it did.
    let [_, _, _, _, _, server_errors] = &series.classes;
    let broken = series.outcomes.get(Outcome::UpstreamIncomplete as usize).map_or(0, |count| count.get());
    tally.failures = server_errors.get().saturating_add(broken).min(tally.requests);
    tally
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use arc_swap::{ArcSwap, ArcSwapOption};
    use mesh_core::{
        lane::guard::LATENCY_BOUNDS,
        model::{
            endpoint::{Endpoint, ProtocolHint},
            service::{Service, ServiceKey},
        },
        snapshot::Snapshot,
    };
    use tokio::sync::{mpsc, watch};

    use super::*;
    use crate::telemetry::worker::{self, SeriesKey};

    fn shared() -> Arc<Shared> {
        let key = ServiceKey("b.demo.svc.cluster.local:80".into());
        let endpoint = Endpoint {
            address: SocketAddr::from(([10, 0, 0, 1], 80)),
            weight: 1,
            identity: None,
            server_name: None,
            inbound_port: None,
            hint: ProtocolHint::Unknown,
            lanes: vec!["shop/canary".parse().unwrap()],
            zone: None,
            ready_since: None,
            draining: false,
            healthy: true,
            labels: BTreeMap::new(),
        };
        let service = Arc::new(Service::new(key.clone(), true, vec![Arc::new(endpoint)]));
        let snapshot = Snapshot { services: BTreeMap::from([(key, service)]), ..Snapshot::default() };
        Arc::new(Shared {
            snapshot: ArcSwap::from_pointee(snapshot),
            tls: ArcSwapOption::empty(),
            outside_tls: ArcSwapOption::empty(),
            ask: mpsc::channel(1).0,
            revision: watch::channel(0).1,
            draining: watch::channel(false).1,
            limits: crate::limits::Limits::new().0,
            probing: Default::default(),
        })
    }

    fn series(worker: &WorkerMetrics, service: &str, level: &str) -> Arc<Series> {
        let (service, level) = (service.into(), level.into());
        worker.register(SeriesKey { service, level, ..SeriesKey::overflow(Direction::Outbound) })
    }

    #[test]
    fn buckets_are_those_that_guards_reckon_with() {
        assert_eq!(worker::LATENCY_BOUNDS, LATENCY_BOUNDS);
    }

    #[test]
    fn report_tells_what_came_since_the_last_and_nothing_where_nothing_did() {
        let workers = [Arc::new(WorkerMetrics::new(0)), Arc::new(WorkerMetrics::new(1))];
        let mut statistics = Statistics::new(workers.to_vec(), shared());
        assert_eq!(statistics.report(), None);
        let took = Duration::from_millis(1);
        for worker in &workers {
            series(worker, "b.demo", "shop/canary").finish(Outcome::Success, 500, took);
            series(worker, "b.demo", "shop/canary").finish(Outcome::UpstreamIncomplete, 200, took);
            series(worker, "b.demo", "baseline").finish(Outcome::Success, 200, took);
            series(worker, "c.demo", "baseline").finish(Outcome::Success, 200, took);
            series(worker, "b.demo", "").finish(Outcome::LaneMissing, 503, took);
        }
        let rows = |report: Option<LaneStatistics>| -> Vec<(String, String, u64, u64)> {
            let levels = report.map(|report| report.levels).unwrap_or_default();
            levels.into_iter().map(|row| (row.service, row.lane, row.requests, row.failures)).collect()
        };
        let row = |lane: &str, requests, failures| ("b.demo".to_owned(), lane.to_owned(), requests, failures);
        assert_eq!(rows(statistics.report()), [row("", 2, 0), row("shop/canary", 4, 4)]);
        assert_eq!(statistics.report(), None);
        series(&workers[0], "b.demo", "baseline").finish(Outcome::ConnectFailed, 503, took);
        assert_eq!(rows(statistics.report()), [row("", 1, 1)]);
    }
}
