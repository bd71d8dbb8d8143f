//! What was used of models, by who used it: the table behind `mesh-ctl model usage`, in all and by windows of time. Each
//! replica counts the proxies that are connected to it, and keeps what it counted in the state directory.

mod kept;
mod table;
mod windows;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mesh_core::model_route::usage::{Used, UsedOf};
use mesh_proto::{
    convert::usage::{TARGETS_MAX, from_wire},
    mesh::v1::ModelUsage,
};
use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::{kept::Place, table::Table};

/// Between two writes of what changed; what came since the last one is lost when the process is killed.
const WRITE_INTERVAL: Duration = Duration::from_secs(30);

/// The table.
#[derive(Debug)]
pub struct Usage {
    table: Mutex<Table>,
    place: Option<Place>,
}

impl Default for Usage {
    /// Empty, and kept in memory alone.
    fn default() -> Self {
        Usage { table: Mutex::new(Table::new(unix_now())), place: None }
    }
}

/// What was used from some moment on.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// That moment, seconds since 1970.
    pub since: u64,
    /// By caller, route, model, target and lane.
    pub rows: Vec<(String, UsedOf, Used)>,
}

impl Usage {
    /// Goes on where an earlier process on this state directory ended; starts empty where it cannot.
    pub fn open(state_directory: &Path) -> Self {
        let now = unix_now();
        let Some(place) = Place::claim(state_directory) else { return Usage::default() };
        let table = match place.read(now) {
            Ok(Some(table)) => table,
            Ok(None) => Table::new(now),
            Err(error) => {
                match place.set_aside() {
                    Ok(aside) => {
                        let aside = aside.display();
                        warn!(%error, %aside, "what was used of models before is not known; its file was set aside");
                    }
                    Err(failed) => warn!(%error, %failed, "what was used of models before is not known"),
                }
                Table::new(now)
            }
        };
        Usage { table: Mutex::new(table), place: Some(place) }
    }

    /// Adds what a proxy reports whose callers are `caller`.
    pub fn note(&self, caller: &str, usage: &ModelUsage) {
        let (now, mut table) = (unix_now(), self.table());
        for (of, used) in usage.targets.iter().take(TARGETS_MAX).map(from_wire) {
            table.add(now, caller, of, &used);
        }
    }

    /// Everything since it counts.
    pub fn all(&self) -> Reading {
        self.table().all()
    }

    /// What was used within the last `length`, rounded up to whole minutes or hours, as far back as is known.
    pub fn within(&self, length: Duration) -> Reading {
        self.table().within(unix_now(), length)
    }

    /// Writes what changed, now and then and at the end.
    pub async fn keep(self: Arc<Self>, stopping: CancellationToken) {
        let mut ticks = interval(WRITE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stopping.cancelled() => break,
                _ = ticks.tick() => self.write().await,
            }
        }
        self.write().await;
    }

    /// Beside the runtime, whose only thread serves all proxies.
    async fn write(self: &Arc<Self>) {
        let usage = Arc::clone(self);
        spawn_blocking(move || usage.write_now()).await.expect("writing what was used does not panic");
    }

    fn write_now(&self) {
        let Some(place) = &self.place else { return };
        // Copied, because reports wait for the lock.
        let Some(table) = self.table().take_changes() else { return };
        if let Err(error) = place.write(&kept::text(&table)) {
            warn!(%error, "what was used of models cannot be kept for the next start");
        }
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use mesh_proto::mesh::v1::TargetUsage;

    use super::*;

    fn report(served: u64) -> ModelUsage {
        let target = TargetUsage { model: "chat".to_owned(), served, input: 10, ..TargetUsage::default() };
        ModelUsage { targets: vec![target] }
    }

    #[tokio::test]
    async fn what_was_used_is_there_after_a_restart_and_a_second_replica_keeps_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let first = Arc::new(Usage::open(folder.path()));
        let second = Arc::new(Usage::open(folder.path()));
        first.note("a", &report(1));
        second.note("b", &report(2));
        let stopped = CancellationToken::new();
        stopped.cancel();
        Arc::clone(&first).keep(stopped.clone()).await;
        Arc::clone(&second).keep(stopped).await;
        let (all, hour) = (first.all(), first.within(Duration::from_secs(3_600)));
        assert_eq!(all.rows, hour.rows);
        drop((first, second));
        let (first, second) = (Usage::open(folder.path()), Usage::open(folder.path()));
        assert_eq!(first.all(), all);
        assert_eq!(first.within(Duration::from_secs(3_600)).rows, hour.rows);
        assert_eq!(second.all().rows[0].0, "b");
    }

    #[test]
    fn damaged_file_is_a_fresh_start() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "{", "[]", r#"{"version": 99}"#] {
            std::fs::write(folder.path().join("usage-0.json"), text).unwrap();
            assert_eq!(Usage::open(folder.path()).all().rows, [], "{text}");
            assert_eq!(std::fs::read_to_string(folder.path().join("usage-0.json.bad")).unwrap(), text);
            assert!(!folder.path().join("usage-0.json").exists());
        }
        assert_eq!(Usage::open(Path::new("/nonexistent")).all().rows, []);
    }
}
