//! What is counted of limits of models; the numbers are the ledger's, which has one for all workers.

use std::fmt;

use mesh_core::model_route::limits::store::Reach;

use super::{Output, Sources};
use crate::telemetry::{control::ControlCounters, metrics as m};

impl Sources {
    pub(super) fn limits(&self, out: &mut Output<'_, '_>) -> fmt::Result {
        let ledger = self.shared.limits.ledger();
        let counters = ledger.counters();
        out.single(m::LIMIT_RESERVED, ControlCounters::get(&counters.reserved) as f64)?;
        out.single(m::LIMIT_SETTLED, ControlCounters::get(&counters.settled) as f64)?;
        out.single(m::LIMIT_REFUSED, ControlCounters::get(&counters.refused) as f64)?;
        out.single(m::LIMIT_SHADOWED, ControlCounters::get(&counters.shadowed) as f64)?;
        out.single(m::LIMIT_FORGOTTEN, ledger.forgotten() as f64)?;
        let down = ledger.stores().iter().filter(|store| store.reach() == Reach::Down).count();
        out.single(m::LIMIT_STORES_DOWN, down as f64)
    }
}
