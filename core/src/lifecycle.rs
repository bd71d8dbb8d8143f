//! How far the life of sidecars is, as the controller hears it, and what callers are told of their workloads. Pure: time
//! is passed in, every change is returned.
//!
//! A workload whose sidecar drains is marked for every caller at once, whatever its source says of it. The mark goes when a
//! sidecar of the workload says that it is ready, and otherwise some time after the last one was heard.

mod event;
mod instance;
mod standing;

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

pub use self::{
    event::{Kind, Seen, observed},
    instance::{Condition, Facts, Instance, instance},
    standing::{Registration, Standing},
};

/// How long a sidecar that is gone is remembered whose workload its source does not have any more: sources of several kinds
/// may come and go in this time.
pub const FORGOTTEN: Duration = Duration::from_secs(30);
/// How long one is remembered whose workload its source still has: nobody may ever take it out of a file.
pub const FORGOTTEN_LISTED: Duration = Duration::from_secs(600);
/// Sidecars that are gone and remembered; more of them, and those that are gone for the longest time are forgotten.
pub const GONE_MAX: usize = 10_000;

/// Stage of a sidecar's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Something is missing before calls should come.
    NotReady,
    /// Calls may come.
    Ready,
    /// It has the order to stop.
    Draining,
    /// Nothing comes in any more.
    Drained,
}

impl State {
    /// Every stage, in order.
    pub const ALL: [State; 4] = [State::NotReady, State::Ready, State::Draining, State::Drained];

    /// For people and metrics.
    pub fn label(self) -> &'static str {
        match self {
            State::NotReady => "not_ready",
            State::Ready => "ready",
            State::Draining => "draining",
            State::Drained => "drained",
        }
    }

    /// Whether calls should go elsewhere for good.
    pub fn is_leaving(self) -> bool {
        match self {
            State::NotReady | State::Ready => false,
            State::Draining | State::Drained => true,
        }
    }
}

/// What a sidecar said last of its life. Times are Unix seconds, by its own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// The stage.
    pub state: State,
    /// Since when.
    pub since: u64,
    /// When its process was ready for the first time, as far as it has been and says so.
    pub ready_since: Option<u64>,
    /// Address of its pod.
    pub host: IpAddr,
}

impl Said {
    /// What counts of two sidecars of one workload, as there are while one follows the other: a ready one, else one that
    /// leaves, and of two alike the later.
    #[must_use]
    pub fn of_two(self, other: Said) -> Said {
        let rank = |said: &Said| match said.state {
            State::NotReady => 0,
            State::Drained => 1,
            State::Draining => 2,
            State::Ready => 3,
        };
        if (rank(&other), other.since) > (rank(&self), self.since) { other } else { self }
    }
}

/// What callers are told of a workload besides the word of its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// It takes no new exchanges.
    pub draining: bool,
    /// Unix seconds since when it is ready.
    pub ready_since: Option<u64>,
    /// Address of its pod.
    pub host: IpAddr,
}

/// Marks of workloads, by `<namespace>/<pod>`.
pub type Marks = BTreeMap<String, Mark>;

/// What became of a sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It entered a stage.
    Entered(State),
    /// It is not connected any more, after it had said that it drains.
    Left,
    /// It is not connected any more, and had not said why.
    Lost,
}

/// A change, and whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// `<namespace>/<pod>`.
    pub workload: String,
    /// What changed.
    pub change: Change,
    /// When, Unix seconds, where the sidecar says so.
    pub since: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Known {
    said: Said,
    /// A sidecar said that it drains, and none has been ready since.
    marked: bool,
    /// Since when none is connected.
    gone: Option<Duration>,
}

/// All sidecars that are known.
#[derive(Clone, Debug, Default)]
pub struct Sidecars {
    known: BTreeMap<String, Known>,
}

impl Sidecars {
    /// Takes in which sidecars are connected at `now`, by workload; `is_listed` says whether a source has a workload.
    pub fn renew(
        &mut self,
        here: &BTreeMap<String, Said>,
        is_listed: &dyn Fn(&str) -> bool,
        now: Duration,
    ) -> Vec<Changed> {
        let mut changed = Vec::new();
        for (workload, known) in &mut self.known {
            if known.gone.is_none() && !here.contains_key(workload) {
                known.gone = Some(now);
                let change = if known.said.state.is_leaving() { Change::Left } else { Change::Lost };
                changed.push(Changed { workload: workload.clone(), change, since: None });
            }
        }
        for (workload, said) in here {
            let before = self.known.get(workload);
            let same = before.is_some_and(|known| (known.said.state, known.said.since) == (said.state, said.since));
            if !same {
                let change = Change::Entered(said.state);
                changed.push(Changed { workload: workload.clone(), change, since: Some(said.since) });
            }
            let marked = match said.state {
                State::Ready => false,
                State::Draining | State::Drained => true,
                State::NotReady => before.is_some_and(|known| known.marked),
            };
            match self.known.get_mut(workload) {
                Some(known) => *known = Known { said: *said, marked, gone: None },
                None => drop(self.known.insert(workload.clone(), Known { said: *said, marked, gone: None })),
            }
        }
        self.forget(is_listed, now);
        changed
    }

    fn forget(&mut self, is_listed: &dyn Fn(&str) -> bool, now: Duration) {
        self.known.retain(|workload, known| {
            let Some(gone) = known.gone.map(|since| now.saturating_sub(since)) else { return true };
            gone < FORGOTTEN || (gone < FORGOTTEN_LISTED && is_listed(workload))
        });
        let mut gone: Vec<Duration> = self.known.values().filter_map(|known| known.gone).collect();
        if gone.len() > GONE_MAX {
            gone.sort_unstable();
            let oldest = gone[gone.len() - GONE_MAX];
            self.known.retain(|_, known| known.gone.is_none_or(|gone| gone >= oldest));
        }
    }

    /// What callers are told.
    pub fn marks(&self) -> Marks {
        let mark =
            |known: &Known| Mark { draining: known.marked, ready_since: known.said.ready_since, host: known.said.host };
        let says = |known: &&Known| known.marked || known.said.ready_since.is_some();
        let told = self.known.iter().filter(|(_, known)| says(known));
        told.map(|(workload, known)| (workload.clone(), mark(known))).collect()
    }

    /// Whether some are gone and remembered: time alone changes what is known.
    pub fn remembers(&self) -> bool {
        self.known.values().any(|known| known.gone.is_some())
    }
}

#[cfg(test)]
mod tests;
