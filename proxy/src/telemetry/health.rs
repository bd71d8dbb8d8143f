//! What data workers count and show of the health of instances, by service; and counts by other labels of few values.

use std::{net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use mesh_core::{
    health::{Cause, Usability},
    model::service::ServiceKey,
};

use super::worker::Count;

/// Services of which health is counted one by one, per worker; those beyond share the series `other`.
const SERVICES_MAX: usize = 1_024;

/// Counters of one service.
#[derive(Debug)]
pub struct HealthSeries {
    /// `<name>.<namespace>`.
    pub service: Arc<str>,
    /// Ejections, in the order of [`Cause::ALL`].
    pub ejections: [Count; Cause::ALL.len()],
    /// Instances that were to be ejected and were not, because their level needs them.
    pub kept: Count,
    /// Instances that were left alone because they asked for it.
    pub rests: Count,
    /// Picks among all instances of a level because too few of them were usable.
    pub panics: Count,
    /// Probes that succeeded, and that failed.
    pub probes: [Count; 2],
    /// Instances that said that they drain.
    pub drains: Count,
}

impl HealthSeries {
    fn new(service: Arc<str>) -> Self {
        let (ejections, probes) = Default::default();
        let (kept, rests, panics, drains) = Default::default();
        HealthSeries { service, ejections, kept, rests, panics, probes, drains }
    }
}

/// An instance that a worker does not use as any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// Its service.
    pub service: ServiceKey,
    /// Its address.
    pub address: SocketAddr,
    /// Why.
    pub usability: Usability,
}

/// An instance to which a worker gives part of its weight, because it is new.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warming {
    /// Its service.
    pub service: ServiceKey,
    /// Its address.
    pub address: SocketAddr,
    /// When that began, Unix milliseconds.
    pub start: u64,
}

/// Health as one worker counts and shows it.
#[derive(Debug, Default)]
pub struct HealthMetrics {
    series: ArcSwap<Vec<Arc<HealthSeries>>>,
    unusable: ArcSwap<Vec<Unusable>>,
    warming: ArcSwap<Vec<Warming>>,
}

impl HealthMetrics {
    /// Every series, for rendering.
    pub fn series(&self) -> Arc<Vec<Arc<HealthSeries>>> {
        self.series.load_full()
    }

    /// What is not usable now.
    pub fn unusable(&self) -> Arc<Vec<Unusable>> {
        self.unusable.load_full()
    }

    /// What warms up now.
    pub fn warming(&self) -> Arc<Vec<Warming>> {
        self.warming.load_full()
    }

    /// Shows what warms up now. Only the owning worker may call it.
    pub fn show_warming(&self, warming: Vec<Warming>) {
        if **self.warming.load() != warming {
            self.warming.store(Arc::new(warming));
        }
    }

    /// Shows what is not usable now. Only the owning worker may call it.
    pub fn show(&self, unusable: Vec<Unusable>) {
        if **self.unusable.load() != unusable {
            self.unusable.store(Arc::new(unusable));
        }
    }

    /// The counters of a service, added if it is new. Only the owning worker may call it.
    pub fn of(&self, service: &Arc<str>) -> Arc<HealthSeries> {
        let known = self.series.load();
        if let Some(series) = known.iter().find(|series| series.service == *service) {
            return Arc::clone(series);
        }
        let other = "other";
        if known.len() + 1 >= SERVICES_MAX && &**service != other {
            return self.of(&other.into());
        }
        let added = Arc::new(HealthSeries::new(Arc::clone(service)));
        self.series.store(Arc::new(known.iter().cloned().chain([Arc::clone(&added)]).collect()));
        added
    }
}

/// Counts by a label of few values, such as the lanes of one pod.
#[derive(Debug, Default)]
pub struct Keyed(ArcSwap<Vec<Arc<(String, Count)>>>);

impl Keyed {
    /// Counts one more. Only the owning worker may call it.
    pub fn add(&self, label: &str) {
        let known = self.0.load();
        if let Some(found) = known.iter().find(|one| one.0 == label) {
            found.1.add(1);
            return;
        }
        let added = Arc::new((label.to_owned(), Count::default()));
        added.1.add(1);
        self.0.store(Arc::new(known.iter().cloned().chain([added]).collect()));
    }

    /// Every label with its count, for rendering.
    pub fn all(&self) -> Arc<Vec<Arc<(String, Count)>>> {
        self.0.load_full()
    }
}
