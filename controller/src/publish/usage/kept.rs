//! Usage in the state directory: one file per replica, replaced whole. Replicas share the directory; each holds the lock of
//! one place as long as it lives, and the next process goes on in the first place that is free.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use mesh_core::model_route::usage::{Used, UsedOf};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::warn;

use super::{
    table::{ROWS_MAX, Table},
    windows::{Key, Ring, Slot},
};
use crate::sign::files::{self, FileError};

/// Replicas on one state directory that keep what they count; more count in memory alone.
const PLACES: usize = 8;
/// Form of the file.
const VERSION: u32 = 1;
/// Longest file that is read, bytes; two full rings are less.
const FILE_MAX: u64 = 64 << 20;

/// Why usage is not read or written.
#[derive(Debug, Error)]
pub(super) enum NotKept {
    /// The file cannot be read.
    #[error("{}: cannot read", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// It is none of ours.
    #[error("{}: is no file of usage", .0.display())]
    Malformed(PathBuf, #[source] serde_json::Error),
    /// It is of another version.
    #[error("{}: has form {version}, not {}", path.display(), VERSION)]
    Form {
        /// The file.
        path: PathBuf,
        /// What it says of itself.
        version: u32,
    },
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] FileError),
}

/// A place that this process holds.
#[derive(Debug)]
pub(super) struct Place {
    file: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

impl Place {
    /// Takes the first place that nobody holds; `None` where there is none, which is said.
    pub(super) fn claim(directory: &Path) -> Option<Place> {
        for number in 0..PLACES {
            let path = directory.join(format!("usage-{number}.lock"));
            let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
            let lock = match opened {
                Ok(lock) => lock,
                Err(error) => {
                    warn!(file = %path.display(), %error, "what is used of models is kept in memory alone");
                    return None;
                }
            };
            if lock.try_lock().is_ok() {
                return Some(Place { file: directory.join(format!("usage-{number}.json")), _lock: lock });
            }
        }
        warn!(places = PLACES, "too many replicas on one state directory: usage of models is kept in memory alone");
        None
    }

    /// What was kept there, if anything was.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(super) fn read(&self, now: u64) -> Result<Option<Table>, NotKept> {
        let mut text = String::new();
        let read = File::open(&self.file).and_then(|file| file.take(FILE_MAX).read_to_string(&mut text));
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(NotKept::Read(self.file.clone(), error)),
        }
        let kept: Kept = serde_json::from_str(&text).map_err(|error| NotKept::Malformed(self.file.clone(), error))?;
        if kept.version != VERSION {
            return Err(NotKept::Form { path: self.file.clone(), version: kept.version });
        }
        Ok(Some(kept.table(now)))
    }

    /// Keeps what cannot be used out of the way of the next write, under the name that is returned.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub(super) fn set_aside(&self) -> io::Result<PathBuf> {
        let aside = self.file.with_extension("json.bad");
        fs::rename(&self.file, &aside)?;
        Ok(aside)
    }

    /// Replaces what is kept.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&self, text: &[u8]) -> Result<(), NotKept> {
        Ok(files::replace(&self.file, text, files::SECRET)?)
    }
}

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    since: u64,
    rows: Vec<KeptRow>,
    fine: KeptRing,
    coarse: KeptRing,
}

/// Names once; slots refer to them by place.
#[derive(Serialize, Deserialize)]
struct KeptRow {
    caller: String,
    route: String,
    model: String,
    target: String,
    target_model: String,
    lane: String,
    used: [u64; 7],
}

/// Place of a row, and what was used of it.
type KeptUse = (usize, [u64; 7]);

#[derive(Serialize, Deserialize)]
struct KeptRing {
    complete_from: u64,
    slots: Vec<(u64, Vec<KeptUse>)>,
}

/// A table as its file has it.
pub(super) fn text(table: &Table) -> Vec<u8> {
    // Slots may still have rows that were swept out of the table.
    let slots = table.fine.slots().chain(table.coarse.slots());
    let mut sums: BTreeMap<&Key, Used> =
        slots.flat_map(|slot| slot.used.keys()).map(|key| (key, Used::default())).collect();
    sums.extend(table.rows.iter().map(|(key, used)| (key, *used)));
    let places: BTreeMap<&Key, usize> = sums.keys().copied().zip(0..).collect();
    let row = |(key, used): (&&Key, &Used)| {
        let (caller, UsedOf { route, model, target, target_model, lane }) = &***key;
        KeptRow {
            caller: caller.clone(),
            route: route.clone(),
            model: model.clone(),
            target: target.clone(),
            target_model: target_model.clone(),
            lane: lane.clone(),
            used: used.amounts(),
        }
    };
    let ring = |ring: &Ring| KeptRing {
        complete_from: ring.complete_from(),
        slots: ring.slots().map(|slot| (slot.from, used_of(slot, &places))).collect(),
    };
    let kept = Kept {
        version: VERSION,
        since: table.since,
        rows: sums.iter().map(row).collect(),
        fine: ring(&table.fine),
        coarse: ring(&table.coarse),
    };
    serde_json::to_vec(&kept).expect("usage is made of texts and numbers")
}

fn used_of(slot: &Slot, places: &BTreeMap<&Key, usize>) -> Vec<KeptUse> {
    slot.used.iter().filter_map(|(key, used)| Some((*places.get(key)?, used.amounts()))).collect()
}

impl Kept {
    fn table(self, now: u64) -> Table {
        let mut table = Table::new(now);
        table.since = self.since.min(now);
        let rows: Vec<(Key, Used)> = self.rows.into_iter().map(KeptRow::row).collect();
        let slots = |ring: KeptRing| {
            let used = |(place, used): KeptUse| Some((Arc::clone(&rows.get(place)?.0), Used::of_amounts(used)));
            let slot = |(from, all): (u64, Vec<_>)| Slot { from, used: all.into_iter().filter_map(used).collect() };
            ring.slots.into_iter().map(slot).collect::<Vec<Slot>>()
        };
        let complete = (self.fine.complete_from, self.coarse.complete_from);
        table.fine.restore(complete.0, slots(self.fine), now);
        table.coarse.restore(complete.1, slots(self.coarse), now);
        table.rows = rows.into_iter().filter(|(_, used)| *used != Used::default()).take(ROWS_MAX).collect();
        table
    }
}

impl KeptRow {
    fn row(self) -> (Key, Used) {
        let KeptRow { caller, route, model, target, target_model, lane, used } = self;
        (Arc::new((caller, UsedOf { route, model, target, target_model, lane })), Used::of_amounts(used))
    }
}
