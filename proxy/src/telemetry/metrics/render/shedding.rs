//! Metrics of what was given up for others, and of the memory budget.

use std::fmt;

use mesh_core::{flood::Flood, shedding::Shed};

use super::{Labels, Output, Sources};
use crate::{
    net::{memory, sys},
    telemetry::metrics as m,
};

impl Sources {
    pub(super) fn shedding(&self, out: &mut Output<'_, '_>) -> fmt::Result {
        let reason = |label: &'static str| -> Labels<'static> { vec![("reason", label)] };
        let shed = Shed::ALL.iter().map(|why| (reason(why.label()), self.total(|worker| &worker.shed[*why as usize])));
        let floods =
            Flood::ALL.iter().map(|kind| (reason(kind.label()), self.total(|worker| &worker.floods[*kind as usize])));
        out.family(m::SHED, shed.chain(floods))?;
        out.single(m::BUDGET, memory::budget() as f64)?;
        out.single(m::ASKED_FOR, sys::asked_for() as f64)
    }
}
