//! Metrics of instances' health and of leaks, over all workers.

use std::{collections::BTreeMap, fmt};

use mesh_core::health::{Cause, Usability};

use super::{Output, Sources};
use crate::telemetry::metrics as m;

/// Label of [`m::PROBES`] by position.
const RESULTS: [&str; 2] = ["succeeded", "failed"];

impl Sources {
    pub(super) fn health(&self, out: &mut Output<'_, '_>) -> fmt::Result {
        let mut leaks: BTreeMap<String, u64> = BTreeMap::new();
        for leak in self.workers.iter().flat_map(|worker| worker.lane_leaks.all().to_vec()) {
            *leaks.entry(leak.0.clone()).or_default() += leak.1.get();
        }
        out.family(m::LANE_LEAKS, leaks.iter().map(|(lane, count)| (vec![("lane", lane.as_str())], *count as f64)))?;
        let mut ejections: BTreeMap<(String, &str), u64> = BTreeMap::new();
        let mut kept: BTreeMap<String, u64> = BTreeMap::new();
        let mut rests: BTreeMap<String, u64> = BTreeMap::new();
        let mut panics: BTreeMap<String, u64> = BTreeMap::new();
        let mut drains: BTreeMap<String, u64> = BTreeMap::new();
        let mut probes: BTreeMap<(String, &str), u64> = BTreeMap::new();
        for series in self.workers.iter().flat_map(|worker| worker.all_health().series().to_vec()) {
            let service = || series.service.to_string();
            for (cause, count) in Cause::ALL.iter().zip(&series.ejections) {
                *ejections.entry((service(), cause.label())).or_default() += count.get();
            }
            *kept.entry(service()).or_default() += series.kept.get();
            *rests.entry(service()).or_default() += series.rests.get();
            *panics.entry(service()).or_default() += series.panics.get();
            *drains.entry(service()).or_default() += series.drains.get();
            for (result, count) in RESULTS.iter().zip(&series.probes) {
                *probes.entry((service(), result)).or_default() += count.get();
            }
        }
        out.family(m::EJECTIONS, ejections.iter().map(|(key, count)| pair(key, "cause", *count)))?;
        out.family(m::EJECTIONS_KEPT, kept.iter().map(by_service))?;
        out.family(m::RESTS, rests.iter().map(by_service))?;
        out.family(m::PANICS, panics.iter().map(by_service))?;
        out.family(m::PEERS_DRAINING, drains.iter().map(by_service))?;
        let unusable = self.unusable();
        out.family(m::UNUSABLE, unusable.iter().map(|(key, count)| pair(key, "reason", *count)))?;
        out.family(m::PROBES, probes.iter().map(|(key, count)| pair(key, "result", *count)))
    }

    /// By service and reason, the greatest count of any worker. Services whose instances are all back stay, with 0.
    fn unusable(&self) -> BTreeMap<(String, &'static str), u64> {
        let mut greatest: BTreeMap<(String, &'static str), u64> = BTreeMap::new();
        for worker in &self.workers {
            for series in worker.all_health().series().iter() {
                let reasons = [Usability::Ejected, Usability::FailingHealth, Usability::Resting, Usability::Draining];
                for reason in reasons {
                    greatest.entry((series.service.to_string(), reason.label())).or_default();
                }
            }
            let mut counts: BTreeMap<(String, &'static str), u64> = BTreeMap::new();
            for one in worker.all_health().unusable().iter() {
                *counts.entry((one.service.label().to_owned(), one.usability.label())).or_default() += 1;
            }
            for (key, count) in counts {
                let most = greatest.entry(key).or_default();
                *most = count.max(*most);
            }
        }
        greatest
    }
}

fn by_service<'a>((service, count): (&'a String, &u64)) -> (Vec<(&'static str, &'a str)>, f64) {
    (vec![("service", service)], *count as f64)
}

fn pair<'a>(
    (service, value): &'a (String, &'static str),
    name: &'static str,
    count: u64,
) -> (Vec<(&'static str, &'a str)>, f64) {
    (vec![("service", service), (name, value)], count as f64)
}
