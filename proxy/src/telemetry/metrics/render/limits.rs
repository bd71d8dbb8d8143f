//! What is counted of limits of models; the numbers are the ledger's, which has one for all workers.

use std::fmt;

use mesh_core::model_route::limits::{Decision, shares::Shares, store::Reach};

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
        let stores = ledger.stores();
        let most = |count: fn(&Shares) -> u64| stores.iter().map(|store| count(&store.shares())).max().unwrap_or(0);
        let proxies = [("known", most(|shares| shares.proxies)), ("sharing", most(|shares| shares.sharers))];
        out.family(m::LIMIT_PROXIES, proxies.map(|(part, count)| (vec![("part", part)], count as f64)))?;
        out.single(m::LIMIT_FORGOTTEN, ledger.forgotten() as f64)?;
        let down = stores.iter().filter(|store| store.reach() == Reach::Down).count();
        out.single(m::LIMIT_STORES_DOWN, down as f64)
    }
}
