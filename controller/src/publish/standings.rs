//! What proxies are told of themselves besides what they serve: orders to drain, and whether their workloads are registered
//! with registries on their behalf. An order is for one process: the next one in the same pod begins without.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use mesh_core::{
    discovery::nacos::registration::concerns,
    lifecycle::{Registration, Standing},
    resources::{World, nacos::Register},
};

use crate::{compose::SourceName, index::Key};

/// How long readiness waits for the registration, besides what its rule says: a registry that is away keeps nobody from
/// serving.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Orders that are remembered; the oldest goes when one more is given.
pub const ORDERS_MAX: usize = 10_000;

/// The table.
#[derive(Debug, Default)]
pub struct Standings(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// By workload.
    orders: BTreeMap<String, Order>,
    /// Rules by who registers.
    rules: BTreeMap<SourceName, Vec<Register>>,
    /// Workloads that are registered, by who registers.
    visible: BTreeMap<SourceName, BTreeSet<String>>,
}

#[derive(Clone, Copy, Debug)]
struct Order {
    /// When the process began that it is for, as it says.
    started: u64,
    given: Instant,
}

impl Standings {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody registers workloads by these rules.
    pub fn registers(&self, source: &SourceName, rules: Vec<Register>) {
        self.lock().rules.insert(SourceName::clone(source), rules);
    }

    /// These workloads are registered by `source`, and no others. Returns what is to be told because of it.
    pub fn visible(&self, source: &SourceName, workloads: BTreeSet<String>) -> BTreeSet<Key> {
        let before = self.lock().visible.insert(SourceName::clone(source), workloads.clone()).unwrap_or_default();
        before.symmetric_difference(&workloads).map(|workload| Key::Workload(workload.clone())).collect()
    }

    /// Orders the process of a workload's proxy that began at `started` to drain. Returns what is to be told.
    pub fn order(&self, workload: &str, started: u64) -> Key {
        let mut known = self.lock();
        if known.orders.len() >= ORDERS_MAX
            && let Some((oldest, _)) = known.orders.iter().min_by_key(|(_, order)| order.given)
        {
            let oldest = oldest.clone();
            known.orders.remove(&oldest);
        }
        known.orders.insert(workload.to_owned(), Order { started, given: Instant::now() });
        Key::Workload(workload.to_owned())
    }

    /// Whether that process is ordered to drain.
    pub fn is_ordered(&self, workload: &str, started: u64) -> bool {
        self.lock().orders.get(workload).is_some_and(|order| order.started == started)
    }

    /// How the process of a workload's proxy stands that began at `started`.
    pub fn of(&self, workload: &str, started: u64, world: &World) -> Standing {
        let drain = self.is_ordered(workload, started);
        let known = self.lock();
        let mut longest = None;
        for (source, rules) in &known.rules {
            let Some(delay) = concerns(rules, world, workload) else { continue };
            let is_visible = known.visible.get(source).is_some_and(|visible| visible.contains(workload));
            let wait = if is_visible { Duration::ZERO } else { PATIENCE + delay };
            longest = longest.max(Some(wait));
        }
        let registration = match longest {
            None => Registration::NotOurs,
            Some(longest) if longest.is_zero() => Registration::Visible,
            Some(longest) => Registration::Awaited(longest),
        };
        Standing { drain, registration }
    }
}

#[cfg(test)]
mod tests {
    use mesh_core::resources::{Domains, compile, nacos, parse};

    use super::*;

    const SERVICES: &str = "\
apiVersion: lanemesh.io/v1alpha1
kind: Services
services:
- name: b
  namespace: shop
  ports: [{port: 80}]
  endpoints:
  - {address: '10.0.0.1:8080', pod: b-1, identity: {serviceAccount: b}}
";

    fn rules(more: &str) -> Vec<Register> {
        let text = format!("servers: [{{addresses: [a], register: [{{services: [shop/b]{more}}}]}}]");
        nacos::parse("", &text).unwrap().remove(0).register
    }

    #[test]
    fn a_workload_is_visible_when_everybody_has_registered_it_who_is_to() {
        let world = compile(&parse("", SERVICES).unwrap(), &Domains::default()).unwrap();
        let standings = Standings::default();
        let registration = || standings.of("shop/b-1", 7, &world).registration;
        assert_eq!(registration(), Registration::NotOurs);
        let (one, other) = (SourceName::from("nacos/one/public"), SourceName::from("nacos/other/public"));
        standings.registers(&one, rules(""));
        assert_eq!(registration(), Registration::Awaited(PATIENCE));
        standings.registers(&other, rules(", delay: 1m"));
        let workloads = || BTreeSet::from(["shop/b-1".to_owned()]);
        let key = BTreeSet::from([Key::Workload("shop/b-1".to_owned())]);
        assert_eq!(standings.visible(&one, workloads()), key);
        assert_eq!(registration(), Registration::Awaited(PATIENCE + Duration::from_secs(60)));
        standings.visible(&other, workloads());
        assert_eq!(registration(), Registration::Visible);
        assert_eq!(standings.visible(&one, workloads()), BTreeSet::new());
        assert_eq!(standings.visible(&one, BTreeSet::new()), key);
        assert_eq!(registration(), Registration::Awaited(PATIENCE));
    }

    #[test]
    fn an_order_is_for_the_process_that_was_there() {
        let standings = Standings::default();
        let drains = |started| standings.of("shop/b-1", started, &World::default()).drain;
        assert!(!drains(7));
        assert_eq!(standings.order("shop/b-1", 7), Key::Workload("shop/b-1".to_owned()));
        assert_eq!((drains(7), drains(8)), (true, false));
    }

    #[test]
    fn orders_are_bounded() {
        let standings = Standings::default();
        for number in 0..ORDERS_MAX {
            standings.lock().orders.insert(number.to_string(), Order { started: 1, given: Instant::now() });
        }
        standings.order("shop/b-1", 7);
        assert_eq!(standings.lock().orders.len(), ORDERS_MAX);
        assert!(standings.is_ordered("shop/b-1", 7) && !standings.is_ordered("0", 1));
    }
}
