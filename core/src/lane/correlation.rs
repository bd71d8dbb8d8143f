//! Which lane a trace id means: the requests of lanes that are in flight at this workload, and those that just ended.
//!
//! Time is passed in. An entry lives while a request of its trace is in flight and a linger beyond the end of the last
//! one, whatever is asked meanwhile; then its id is remembered as stale, so that a context which an application keeps
//! for ever can be told from a fresh one. Everything is bounded: at most `capacity` ids in all, of which a quarter may
//! be stale; beyond that the least recently used goes, stale ones first. An id costs 56 bytes and at most 16 more to
//! find it and its place again, so that 100,000 take 7 MB; labels are shared.

#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use ahash::RandomState;
use hashbrown::{HashSet, HashTable};

use super::{
    Carried, Source,
    links::{List, Pair},
    trace::TraceId,
};
use crate::model::lane::LaneName;

/// Ids that a table holds unless it is told otherwise.
pub const CAPACITY: usize = 100_000;
/// Share of the capacity that stale ids may take: one in so many.
const STALE_SHARE: usize = 4;
/// How long an id is remembered as stale after it was last seen.
pub const STALE_KEPT: Duration = Duration::from_secs(3_600);
/// Labels that are shared before those that no entry uses are looked for.
const LABELS_MIN: usize = 1_024;

/// A lane as labels name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Label {
    /// Group, where the label named one.
    pub group: Option<LaneName>,
    /// Lane.
    pub lane: LaneName,
}

impl Label {
    /// The label as found by `source`.
    pub fn carried(&self, source: Source) -> Carried {
        Carried { group: self.group.clone(), lane: self.lane.clone(), source }
    }
}

impl From<&Carried> for Label {
    fn from(carried: &Carried) -> Label {
        Label { group: carried.group.clone(), lane: carried.lane.clone() }
    }
}

/// What an id means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The lane of a request in flight, or just ended.
    Lane(Arc<Label>),
    /// Its request ended longer than the linger ago; this was its lane.
    Stale(Arc<Label>),
}

/// What happened to the table since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests whose trace was in flight, or just ended, in another lane; the first lane stayed.
    pub ambiguous: u64,
    /// Ids that went before their time because the table was full; stale ones are not counted.
    pub evicted: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Requests of the trace are in flight.
    InFlight,
    /// None is; the id means its lane until [`Entry::until`].
    Lingering,
    /// It means nothing; remembered until [`Entry::until`].
    Stale,
}

struct Entry {
    id: TraceId,
    /// `None` in places that are free.
    label: Option<Arc<Label>>,
    /// Microseconds, on the clock of the caller.
    until: u64,
    in_flight: u32,
    state: State,
    /// Requests of other lanes had the same trace.
    ambiguous: bool,
    /// Place in the order of use: of live ids, or of stale ones.
    used: Pair,
    /// Place in the order of ends, while lingering.
    ended: Pair,
}

/// The table of one worker.
pub struct Correlation {
    index: HashTable<u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    live: List,
    stale: List,
    ended: List,
    labels: HashSet<Arc<Label>, RandomState>,
    labels_limit: usize,
    hasher: RandomState,
    capacity: usize,
    counts: Counts,
}

impl Correlation {
    /// An empty table for at most `capacity` ids (at least 1); `hasher` keeps peers from choosing ids that collide.
    pub fn new(capacity: usize, hasher: RandomState) -> Self {
        Correlation {
            index: HashTable::new(),
            entries: Vec::new(),
            free: Vec::new(),
            live: List::default(),
            stale: List::default(),
            ended: List::default(),
            labels: HashSet::with_hasher(hasher.clone()),
            labels_limit: LABELS_MIN,
            hasher,
            capacity: capacity.clamp(1, u32::MAX as usize - 1),
            counts: Counts::default(),
        }
    }

    /// Ids that mean a lane now, or did at the last [`sweep`](Correlation::sweep).
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether nothing is known of any id: a question need not be asked.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Ids remembered as stale.
    pub fn stale_len(&self) -> usize {
        self.stale.len()
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Memory that ids take, bytes; labels come to it.
    pub fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
            + self.free.capacity() * size_of::<u32>()
            + self.index.allocation_size()
    }

    /// The one copy of a label that all entries share.
    pub fn share(&mut self, label: &Label) -> Arc<Label> {
        if let Some(known) = self.labels.get(label) {
            return Arc::clone(known);
        }
        if self.labels.len() >= self.labels_limit {
            self.labels.retain(|label| Arc::strong_count(label) > 1);
            self.labels_limit = LABELS_MIN.max(2 * self.labels.len());
        }
        let added = Arc::new(label.clone());
        self.labels.insert(Arc::clone(&added));
        added
    }

    /// A request of a lane began.
    pub fn begin(&mut self, id: TraceId, label: &Label, now: Duration) {
        if let Some(place) = self.place(id, now) {
            return self.begin_again(place, label);
        }
        let label = self.share(label);
        self.make_room();
        let entry = Entry {
            id,
            label: Some(label),
            until: 0,
            in_flight: 1,
            state: State::InFlight,
            ambiguous: false,
            used: Pair::default(),
            ended: Pair::default(),
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.entries[place as usize] = entry;
                place
            }
            None => {
                if self.entries.len() == self.entries.capacity() {
                    let more = self.entries.len().max(16).min(self.capacity - self.entries.len());
                    self.entries.reserve_exact(more);
                }
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        let Correlation { index, entries, hasher, .. } = self;
        index.insert_unique(hasher.hash_one(id), place, |place| hasher.hash_one(entries[*place as usize].id));
        self.live.push(&mut self.entries, place, used);
    }

    fn begin_again(&mut self, place: u32, label: &Label) {
        let shared = self.share(label);
        let entry = &mut self.entries[place as usize];
        let list = match entry.state {
            State::InFlight => &mut self.live,
            State::Lingering => {
                self.ended.remove(&mut self.entries, place, ended);
                &mut self.live
            }
            State::Stale => {
                entry.label = Some(Arc::clone(&shared));
                entry.ambiguous = false;
                &mut self.stale
            }
        };
        list.remove(&mut self.entries, place, used);
        self.live.push(&mut self.entries, place, used);
        let entry = &mut self.entries[place as usize];
        entry.state = State::InFlight;
        entry.in_flight = entry.in_flight.saturating_add(1);
        if entry.label.as_ref() != Some(&shared) {
            entry.ambiguous = true;
            self.counts.ambiguous += 1;
        }
    }

    /// A request that began has ended; its lane's group lets ids linger for so long.
    pub fn end(&mut self, id: TraceId, linger: Duration, now: Duration) {
        let Some(place) = self.place(id, now) else { return };
        let entry = &mut self.entries[place as usize];
        if entry.state != State::InFlight {
            // It was put out while it was in flight, and what is here now is another.
            return;
        }
        entry.in_flight -= 1;
        if entry.in_flight > 0 {
            return;
        }
        entry.state = State::Lingering;
        entry.until = micros(now + linger);
        self.ended.push(&mut self.entries, place, ended);
        self.live.touch(&mut self.entries, place, used);
    }

    /// What an id means. Using it keeps it from being put out, but lets no entry live longer.
    pub fn find(&mut self, id: TraceId, now: Duration) -> Option<Meaning> {
        let place = self.place(id, now)?;
        let entry = &mut self.entries[place as usize];
        let label = Arc::clone(entry.label.as_ref()?);
        match entry.state {
            State::InFlight | State::Lingering => {
                self.live.touch(&mut self.entries, place, used);
                Some(Meaning::Lane(label))
            }
            State::Stale => {
                entry.until = micros(now + STALE_KEPT);
                self.stale.touch(&mut self.entries, place, used);
                Some(Meaning::Stale(label))
            }
        }
    }

    /// Whether requests of other lanes had the same trace as those whose lane the id means.
    pub fn is_ambiguous(&self, id: TraceId) -> bool {
        let found = self.index.find(self.hasher.hash_one(id), |place| self.entries[*place as usize].id == id);
        found.is_some_and(|place| self.entries[*place as usize].ambiguous)
    }

    /// Lets go what has had its time. To be called now and then; what is asked for is looked at anyway.
    pub fn sweep(&mut self, now: Duration) {
        while let Some(place) = self.ended.first().filter(|place| self.is_over(*place, now)) {
            self.settle(place, now);
        }
        while let Some(place) = self.stale.first().filter(|place| self.is_over(*place, now)) {
            self.drop_stale(place);
        }
        if self.index.is_empty() {
            // Peaks are given back.
            *self = Correlation { counts: self.counts, ..Correlation::new(self.capacity, self.hasher.clone()) };
        }
    }

    fn is_over(&self, place: u32, now: Duration) -> bool {
        self.entries[place as usize].until < micros(now)
    }

    /// Where an id stands, after its time was looked at.
    fn place(&mut self, id: TraceId, now: Duration) -> Option<u32> {
        let Correlation { index, entries, hasher, .. } = self;
        let place = *index.find(hasher.hash_one(id), |place| entries[*place as usize].id == id)?;
        self.settle(place, now).then_some(place)
    }

    /// What the time has made of an entry; false where it is gone.
    fn settle(&mut self, place: u32, now: Duration) -> bool {
        if self.entries[place as usize].state == State::Lingering && self.is_over(place, now) {
            self.ended.remove(&mut self.entries, place, ended);
            self.live.remove(&mut self.entries, place, used);
            let entry = &mut self.entries[place as usize];
            entry.state = State::Stale;
            entry.until += micros(STALE_KEPT);
            self.stale.push(&mut self.entries, place, used);
            let most = (self.capacity / STALE_SHARE).max(1);
            if self.stale.len() > most
                && let Some(oldest) = self.stale.first()
            {
                self.drop_stale(oldest);
                if oldest == place {
                    return false;
                }
            }
        }
        if self.entries[place as usize].state == State::Stale && self.is_over(place, now) {
            self.drop_stale(place);
            return false;
        }
        true
    }

    /// Makes room for one more id.
    fn make_room(&mut self) {
        if self.index.len() < self.capacity {
            return;
        }
        if let Some(oldest) = self.stale.first() {
            return self.drop_stale(oldest);
        }
        if let Some(oldest) = self.live.first() {
            self.counts.evicted += 1;
            self.live.remove(&mut self.entries, oldest, used);
            if self.entries[oldest as usize].state == State::Lingering {
                self.ended.remove(&mut self.entries, oldest, ended);
            }
            self.release(oldest);
        }
    }

    fn drop_stale(&mut self, place: u32) {
        self.stale.remove(&mut self.entries, place, used);
        self.release(place);
    }

    fn release(&mut self, place: u32) {
        let entry = &mut self.entries[place as usize];
        entry.label = None;
        let hash = self.hasher.hash_one(entry.id);
        if let Ok(found) = self.index.find_entry(hash, |known| *known == place) {
            found.remove();
        }
        self.free.push(place);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn used(entry: &mut Entry) -> &mut Pair {
    &mut entry.used
}

fn ended(entry: &mut Entry) -> &mut Pair {
    &mut entry.ended
}

impl fmt::Debug for Correlation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (live, stale) = (self.len(), self.stale_len());
        f.debug_struct("Correlation").field("live", &live).field("stale", &stale).finish_non_exhaustive()
    }
}
