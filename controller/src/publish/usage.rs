//! What was used of models, by who used it: the table behind `mesh-ctl model usage`. It counts from the start of this
//! controller on; each replica counts the proxies that are connected to it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use mesh_core::model_route::usage::{Used, UsedOf};
use mesh_proto::{
    convert::usage::{TARGETS_MAX, from_wire},
    mesh::v1::ModelUsage,
};

/// Rows that are kept at most; what is used beyond them counts in one row `other`.
pub const ROWS_MAX: usize = 20_000;
/// What stands in every name of that row.
const OTHER: &str = "other";

/// The table.
#[derive(Debug)]
pub struct Usage {
    since: SystemTime,
    rows: Mutex<BTreeMap<(String, UsedOf), Used>>,
}

impl Default for Usage {
    fn default() -> Self {
        Usage { since: SystemTime::now(), rows: Mutex::default() }
    }
}

impl Usage {
    /// Adds what a proxy reports whose callers are `caller`.
    pub fn note(&self, caller: &str, usage: &ModelUsage) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        for (of, used) in usage.targets.iter().take(TARGETS_MAX).map(from_wire) {
            let key = (caller.to_owned(), of);
            let is_full = rows.len() + 1 >= ROWS_MAX && !rows.contains_key(&key);
            rows.entry(if is_full { other() } else { key }).or_default().add(&used);
        }
    }

    /// Every row, by caller, route, model and target.
    pub fn all(&self) -> Vec<(String, UsedOf, Used)> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.iter().map(|((caller, of), used)| (caller.clone(), of.clone(), *used)).collect()
    }

    /// Since when it counts.
    pub fn since(&self) -> SystemTime {
        self.since
    }
}

fn other() -> (String, UsedOf) {
    let name = || OTHER.to_owned();
    let of = UsedOf { route: name(), model: name(), target: name(), target_model: name(), lane: String::new() };
    (name(), of)
}

#[cfg(test)]
mod tests {
    use mesh_proto::mesh::v1::TargetUsage;

    use super::*;

    fn report(models: impl Iterator<Item = String>) -> ModelUsage {
        let target = |model| TargetUsage { model, served: 1, input: 10, ..TargetUsage::default() };
        ModelUsage { targets: models.map(target).collect() }
    }

    #[test]
    fn table_is_bounded_and_loses_no_token() {
        let usage = Usage::default();
        for round in 0..21 {
            usage.note("a", &report((0..1_000).map(|number| format!("{round}-{number}"))));
        }
        let all = usage.all();
        assert_eq!(all.len(), ROWS_MAX);
        assert_eq!(all.iter().map(|(_, _, used)| used.input).sum::<u64>(), 210_000);
        let (_, _, beyond) = all.iter().find(|(caller, _, _)| caller == OTHER).unwrap();
        assert_eq!(beyond.served, 1_001);
    }
}
