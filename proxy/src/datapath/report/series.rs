//! Finds the counters of an exchange without building their labels anew.

use std::{cell::RefCell, sync::Arc};

use ahash::AHashMap;
use mesh_core::{
    lane::{Carried, Level, Reason},
    model::service::ServiceKey,
};

use crate::telemetry::worker::{Direction, Series, SeriesKey, WorkerMetrics};

/// Services of which series are remembered here; more are looked up in the metrics each time.
const SERVICES_MAX: usize = 4_096;

/// Series of one worker by what an exchange knows of itself.
pub struct SeriesCache {
    metrics: Arc<WorkerMetrics>,
    none: Arc<str>,
    outside: Arc<str>,
    ports: RefCell<AHashMap<u16, Arc<str>>>,
    services: RefCell<AHashMap<ServiceKey, Arc<str>>>,
    known: RefCell<AHashMap<Arc<str>, Vec<Known>>>,
}

struct Known {
    direction: Direction,
    carried: Option<Carried>,
    level: Option<(Level, Reason)>,
    series: Arc<Series>,
}

impl Known {
    fn fits(&self, direction: Direction, carried: Option<&Carried>, level: Option<&(Level, Reason)>) -> bool {
        let same_lane = match (&self.carried, carried) {
            (None, None) => true,
            (Some(known), Some(carried)) => known.lane == carried.lane && known.group == carried.group,
            (None, Some(_)) | (Some(_), None) => false,
        };
        self.direction == direction && same_lane && self.level.as_ref() == level
    }
}

impl SeriesCache {
    /// Remembers series of `metrics`.
    pub fn new(metrics: Arc<WorkerMetrics>) -> Self {
        SeriesCache {
            metrics,
            none: "".into(),
            outside: "outside".into(),
            ports: RefCell::default(),
            services: RefCell::default(),
            known: RefCell::default(),
        }
    }

    /// Label of an exchange whose service is not known.
    pub fn no_service(&self) -> Arc<str> {
        Arc::clone(&self.none)
    }

    /// Label of calls to what is no service: one for all, since addresses are without bound.
    pub fn outside(&self) -> Arc<str> {
        Arc::clone(&self.outside)
    }

    /// Label of an inbound port; ports come from policies, so they are few.
    pub fn port(&self, port: u16) -> Arc<str> {
        let mut ports = self.ports.borrow_mut();
        Arc::clone(ports.entry(port).or_insert_with(|| port.to_string().into()))
    }

    /// Label of a service.
    pub fn service(&self, key: &ServiceKey) -> Arc<str> {
        let mut services = self.services.borrow_mut();
        if let Some(label) = services.get(key) {
            return Arc::clone(label);
        }
        let label: Arc<str> = key.label().into();
        if services.len() < SERVICES_MAX {
            services.insert(key.clone(), Arc::clone(&label));
        }
        label
    }

    /// The series of these labels.
    pub fn find(
        &self,
        direction: Direction,
        service: &Arc<str>,
        carried: Option<&Carried>,
        level: Option<&(Level, Reason)>,
    ) -> Arc<Series> {
        let mut known = self.known.borrow_mut();
        if let Some(list) = known.get(service)
            && let Some(found) = list.iter().find(|known| known.fits(direction, carried, level))
        {
            return Arc::clone(&found.series);
        }
        let series = self.metrics.register(SeriesKey {
            direction,
            service: Arc::clone(service),
            lane: carried.map(|carried| carried.to_string().into()).unwrap_or_else(|| self.no_service()),
            level: level.map(|(level, _)| level.to_string().into()).unwrap_or_else(|| self.no_service()),
            reason: level.map_or("", |(_, reason)| reason.label()),
        });
        // The lane is the caller's text: only combinations that got a series of their own are remembered.
        if known.len() < SERVICES_MAX && series.key.service == *service {
            let entry =
                Known { direction, carried: carried.cloned(), level: level.cloned(), series: Arc::clone(&series) };
            known.entry(Arc::clone(service)).or_default().push(entry);
        }
        series
    }
}
