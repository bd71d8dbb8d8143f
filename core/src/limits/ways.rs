//! A bounded table that all workers read and write without a lock. What is held has its place among the few ways of one
//! set; when all are taken, what is worth least is forgotten.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use arc_swap::ArcSwapOption;

/// Held at most; beyond them what is worth least is forgotten, and counted anew.
pub(super) const HELD_MAX: usize = SETS * WAYS;
const SETS: usize = 2_048;
const WAYS: usize = 8;
/// Attempts to put something in while others change its set; then it counts for whoever asks alone.
const ATTEMPTS: usize = 16;

/// What can be held.
pub(super) trait Held {
    /// By which the least of a set is found: what is lost with it, then when it was used.
    fn worth(&self) -> (u64, u64);
}

type Way<T> = ArcSwapOption<T>;

/// See the head of this file.
pub(super) struct Ways<T> {
    /// Made when the first is held: many proxies never count anything.
    ways: OnceLock<Box<[Way<T>]>>,
    /// Those that were forgotten for others.
    pub(super) forgotten: AtomicU64,
    /// Changes when one joins.
    pub(super) joined: AtomicU64,
}

impl<T> Default for Ways<T> {
    fn default() -> Self {
        Ways { ways: OnceLock::new(), forgotten: AtomicU64::default(), joined: AtomicU64::default() }
    }
}

impl<T> fmt::Debug for Ways<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ways").field("joined", &self.joined).field("forgotten", &self.forgotten).finish_non_exhaustive()
    }
}

fn of_set<T>(ways: &[Way<T>], hash: u64) -> &[Way<T>] {
    let set = (hash as usize) % SETS;
    &ways[set * WAYS..][..WAYS]
}

impl<T: Held> Ways<T> {
    /// Everything that is held.
    pub(super) fn all(&self) -> impl Iterator<Item = Arc<T>> {
        self.ways.get().into_iter().flatten().filter_map(ArcSwapOption::load_full)
    }

    /// What `is` knows again, used in place.
    pub(super) fn with<R>(&self, hash: u64, is: impl Fn(&T) -> bool, used: impl FnOnce(&T) -> R) -> Option<R> {
        let set = of_set(self.ways.get()?, hash);
        let held = set.iter().find_map(|way| Some(way.load()).filter(|held| held.as_deref().is_some_and(&is)))?;
        held.as_deref().map(used)
    }

    /// What `is` knows again, and leaves the table as it is.
    pub(super) fn find(&self, hash: u64, is: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        let set = of_set(self.ways.get()?, hash);
        set.iter().filter_map(ArcSwapOption::load_full).find(|held| is(held))
    }

    /// What `is` knows again and `fits`, made if need be, of what was held before if there was something.
    pub(super) fn entry(
        &self,
        hash: u64,
        is: impl Fn(&T) -> bool,
        fits: impl Fn(&T) -> bool,
        make: impl Fn(Option<&T>) -> Arc<T>,
    ) -> Arc<T> {
        let set = of_set(self.ways.get_or_init(|| (0..HELD_MAX).map(|_| Way::default()).collect()), hash);
        for _ in 0..ATTEMPTS {
            let found = set.iter().position(|way| way.load().as_deref().is_some_and(&is));
            let (way, before) = match found {
                Some(at) => (&set[at], set[at].load_full()),
                None => least(set),
            };
            let own = before.as_ref().filter(|held| is(held));
            match own {
                Some(held) if fits(held) => return Arc::clone(held),
                // Another one took the place meanwhile.
                None if found.is_some() => continue,
                Some(_) | None => {}
            }
            let made = make(own.map(Arc::as_ref));
            let seen = way.compare_and_swap(&before, Some(Arc::clone(&made)));
            let put = seen.as_ref().map(Arc::as_ptr) == before.as_ref().map(Arc::as_ptr);
            if put && is_first(set, &made, &is) {
                self.joined.fetch_add(1, SeqCst);
                self.forgotten.fetch_add(u64::from(before.is_some_and(|before| !is(&before))), SeqCst);
                return made;
            }
        }
        make(None)
    }
}

/// Whether no other way before it holds the same; else it is taken out again.
fn is_first<T>(set: &[Way<T>], made: &Arc<T>, is: impl Fn(&T) -> bool) -> bool {
    let first = set.iter().find_map(|way| way.load_full().filter(|held| is(held)));
    if first.is_some_and(|first| Arc::ptr_eq(&first, made)) {
        return true;
    }
    for way in set {
        way.compare_and_swap(&Some(Arc::clone(made)), None);
    }
    false
}

/// The way to be given to something new, and what stands there.
fn least<T: Held>(set: &[Way<T>]) -> (&Way<T>, Option<Arc<T>>) {
    let rank = |(_, held): &(&Way<T>, Option<Arc<T>>)| held.as_ref().map(|held| held.worth());
    let ranked = set.iter().map(|way| (way, way.load_full())).min_by_key(rank);
    ranked.expect("a set has ways")
}
