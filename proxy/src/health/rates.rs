//! How often calls to instances succeeded, for services whose policy wants those ejected that succeed less often than the
//! others. Core counts and judges; this keeps the windows of one worker.

use std::{cell::RefCell, net::SocketAddr, sync::Arc, time::Duration};

use ahash::AHashMap;
use mesh_core::{
    health::{Change, Seen, Window, judge},
    model::{
        policy::{SuccessRate, TrafficPolicy},
        service::{Service, ServiceKey},
    },
    snapshot::Snapshot,
};

use super::{Health, Judged, permitted, position};
use crate::worker::Worker;

/// Windows by service and instance. At most as many as the services have instances: others are forgotten within a second.
#[derive(Debug, Default)]
pub(super) struct Rates(RefCell<AHashMap<ServiceKey, AHashMap<SocketAddr, Window>>>);

impl Rates {
    /// Takes in what a call showed.
    pub(super) fn count(&self, key: &ServiceKey, address: SocketAddr, now: Duration, seen: Seen) {
        let mut services = self.0.borrow_mut();
        if !services.contains_key(key) {
            services.insert(key.clone(), AHashMap::new());
        }
        if let Some(windows) = services.get_mut(key) {
            windows.entry(address).or_default().count(now, seen);
        }
    }

    fn forget(&self, key: &ServiceKey, address: SocketAddr) {
        if let Some(windows) = self.0.borrow_mut().get_mut(key) {
            windows.remove(&address);
        }
    }

    /// Forgets services and instances that are gone, and services that are not judged any more.
    fn sweep(&self, snapshot: &Snapshot) {
        self.0.borrow_mut().retain(|key, windows| {
            let Some((service, ..)) = asked(snapshot, key) else { return false };
            windows.retain(|address, _| position(service, *address).is_some());
            !windows.is_empty()
        });
    }
}

/// The service, its policy and how it is judged, if it is to be.
fn asked<'s>(
    snapshot: &'s Snapshot,
    key: &ServiceKey,
) -> Option<(&'s Arc<Service>, &'s Arc<TrafficPolicy>, &'s SuccessRate)> {
    let (service, traffic) = snapshot.services.get(key).zip(snapshot.traffic.get(key.label()))?;
    Some((service, traffic, traffic.outlier_detection.success_rate.as_ref()?))
}

impl Health {
    /// Ejects instances that succeeded clearly less often than the others of their service.
    pub(super) fn judge_rates(&self, worker: &Worker, now: Duration) {
        if self.rates.0.borrow().is_empty() {
            return;
        }
        let snapshot = worker.shared.load();
        self.rates.sweep(&snapshot);
        let keys: Vec<ServiceKey> = self.rates.0.borrow().keys().cloned().collect();
        for key in &keys {
            let Some((service, traffic, policy)) = asked(&snapshot, key) else { continue };
            let judged = Judged { service, groups: &snapshot.lanes, traffic };
            for address in self.behind(key, now, policy) {
                let moment = (now, worker.random());
                let change = self.change(key, address, (now, &traffic.outlier_detection), |instance, instances| {
                    let permission = || permitted(judged, address, now, instances);
                    instance.falls_behind(moment, &traffic.outlier_detection, permission)
                });
                if matches!(change, Change::Ejected(..)) {
                    // What it did before does not count against it when it is back.
                    self.rates.forget(key, address);
                }
                self.tell(worker, key, address, change);
            }
        }
    }

    /// Instances in traffic that are behind, the worst first.
    fn behind(&self, key: &ServiceKey, now: Duration, policy: &SuccessRate) -> Vec<SocketAddr> {
        let mut services = self.rates.0.borrow_mut();
        let Some(windows) = services.get_mut(key) else { return Vec::new() };
        let in_traffic = |address: &SocketAddr| self.usability(key, *address, now).is_in_traffic();
        let (addresses, calls): (Vec<_>, Vec<_>) = windows
            .iter_mut()
            .filter(|(address, _)| in_traffic(address))
            .map(|(address, window)| (*address, window.calls(now)))
            .unzip();
        let Some(verdict) = judge(&calls, policy) else { return Vec::new() };
        if !verdict.behind.is_empty() {
            let (mean, threshold) = (verdict.mean, verdict.threshold);
            tracing::debug!(service = %key, mean, threshold, behind = verdict.behind.len(), "success rates were judged");
        }
        verdict.behind.into_iter().map(|at| addresses[at]).collect()
    }
}
