//! What is counted of limits, of models and of services; the numbers are the ledger's, which has one for all workers.

use std::{collections::BTreeMap, fmt, sync::Arc};

use mesh_core::limits::{Decision, Decisions, Store, Why, shares::Shares, store::Reach};

use super::{Labels, Output, Sources};
use crate::telemetry::{control::ControlCounters, metrics as m};

impl Sources {
    pub(super) fn limits(&self, out: &mut Output<'_, '_>) -> fmt::Result {
        let ledger = self.shared.limits.ledger();
        let counters = ledger.counters();
        out.single(m::LIMIT_RESERVED, ControlCounters::get(&counters.reserved) as f64)?;
        out.single(m::LIMIT_SETTLED, ControlCounters::get(&counters.settled) as f64)?;
        let decisions = ledger.decisions();
        let counted = decisions.iter().flat_map(|limit| {
            let labels = |decision: Decision| -> Labels<'_> {
                let named = [("route", &limit.route), ("target", &limit.target), ("limit", &limit.limit)];
                let named = named.into_iter().map(|(name, value)| (name, value.as_str()));
                named.chain([("decision", decision.as_str())]).collect()
            };
            Decision::ALL.map(|decision| (labels(decision), limit.count(decision) as f64))
        });
        out.family(m::LIMIT_DECISIONS, counted)?;
        let all = ledger.stores();
        let stores: Vec<&Arc<Store>> = all.iter().filter(|store| store.place.sharing.is_empty()).collect();
        let most = |count: fn(&Shares) -> u64| stores.iter().map(|store| count(&store.shares())).max().unwrap_or(0);
        let proxies = [("known", most(|shares| shares.proxies)), ("sharing", most(|shares| shares.sharers))];
        out.family(m::LIMIT_PROXIES, proxies.map(|(part, count)| (vec![("part", part)], count as f64)))?;
        out.single(m::LIMIT_FORGOTTEN, ledger.forgotten() as f64)?;
        let down = stores.iter().filter(|store| store.reach() == Reach::Down).count();
        out.single(m::LIMIT_STORES_DOWN, down as f64)?;
        self.rates(out)
    }

    fn rates(&self, out: &mut Output<'_, '_>) -> fmt::Result {
        let ledger = self.shared.limits.ledger();
        let decisions = ledger.rate_decisions();
        let counted = decisions.iter().flat_map(|limit| {
            // No request alone is more than a limit.
            let all = Decision::ALL.into_iter().filter(|decision| *decision != Decision::Refused(Why::TooLarge));
            all.map(|decision| (of_rate(limit, decision), limit.count(decision) as f64))
        });
        out.family(m::RATE_DECISIONS, counted)?;
        let stores = ledger.stores();
        // A service has several stores where some of its limits are closed when they are down.
        let mut services: BTreeMap<&str, (Shares, bool)> = BTreeMap::new();
        for store in stores.iter().filter(|store| !store.place.sharing.is_empty()) {
            let (most, is_down) = services.entry(&store.place.sharing).or_default();
            let shares = store.shares();
            (most.proxies, most.sharers) = (most.proxies.max(shares.proxies), most.sharers.max(shares.sharers));
            *is_down |= store.reach() == Reach::Down;
        }
        let proxies = services.iter().flat_map(|(service, (shares, _))| {
            [("known", shares.proxies), ("sharing", shares.sharers)]
                .map(|(part, count)| (vec![("service", *service), ("part", part)], count as f64))
        });
        out.family(m::RATE_PROXIES, proxies)?;
        out.family(
            m::RATE_STORE_DOWN,
            services.iter().map(|(service, (_, down))| (vec![("service", *service)], f64::from(u8::from(*down)))),
        )?;
        out.single(m::RATE_FORGOTTEN, ledger.rate_keys_forgotten() as f64)
    }
}

fn of_rate(limit: &Decisions, decision: Decision) -> Labels<'_> {
    vec![("service", limit.route.as_str()), ("limit", limit.limit.as_str()), ("decision", decision.as_str())]
}
