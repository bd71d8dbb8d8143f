//! What is believed of a registry's lists of one service. A list is believed as it stands, except where experience says
//! that registries lie: an old list that comes late, an empty list after one that was not, instances that are missing
//! after a reconnection (they have not registered again yet), and health where the registry says that it gave up on it.
//!
//! What is missing then is held beside what is listed, until active checks agree that it is gone, or the guard's time is
//! over. Times are since an origin of the caller's choice; which checks to make, [`Guard::to_check`] says.

use std::{collections::BTreeMap, fmt, net::SocketAddr, sync::Arc, time::Duration};

use serde::Serialize;

use super::{Host, Listing};

/// How long what is missing is held, unless configured otherwise.
pub const HOLD: Duration = Duration::from_secs(300);
/// Checks in a row without answer after which a held instance is believed to be gone.
pub const FAILURES: u32 = 2;
/// How long lists are refused as old. A late one comes within this; a clock that was set back stays back.
const OLD_AT_MOST: Duration = Duration::from_secs(30);

/// What is believed of an instance's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Believed {
    /// It is well.
    Healthy,
    /// It is not, and others are.
    Unhealthy,
    /// The registry's word is worth nothing: callers have to check by themselves.
    Unknown,
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The registry says so.
    Registered,
    /// The registry says `healthy` of everyone since too few were.
    Protection,
    /// The registry says `healthy` of nobody; somebody has to serve.
    NobodyHealthy,
    /// Known from an earlier run; the registry has not answered yet.
    Restored,
    /// The registry does not list it any more, and is not believed yet.
    Held(Because),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Registered => f.write_str("as the registry says"),
            Why::Protection => {
                f.write_str("the registry's protection threshold is reached: its health is not believed")
            }
            Why::NobodyHealthy => f.write_str("the registry says that nobody is healthy: its health is not believed"),
            Why::Restored => f.write_str("known from an earlier run; the registry has not answered yet"),
            Why::Held(because) => write!(f, "held: {because}"),
        }
    }
}

/// Why an instance that is not listed any more is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// The whole list is empty.
    EmptyList,
    /// It went missing soon after a reconnection.
    Reconnected,
    /// It is known from an earlier run.
    Restored,
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Because::EmptyList => "the registry's list became empty at once",
            Because::Reconnected => "missing since a reconnection to the registry",
            Because::Restored => "known from an earlier run and not registered again since",
        })
    }
}

/// What was done with a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Believed.
    Believed {
        /// Instances that are new.
        added: usize,
        /// Instances that are gone.
        removed: usize,
    },
    /// Believed as far as it goes; so many instances that it does not have are held.
    Held {
        /// How many in all.
        held: usize,
        /// Why the newest of them are.
        because: Because,
    },
    /// Dropped: made so long before the last one, milliseconds.
    Old {
        /// How long before.
        by: u64,
    },
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Taken::Believed { added, removed } => write!(f, "believed: {added} added, {removed} removed"),
            Taken::Held { held, because } => write!(f, "{held} instances that are not listed are held: {because}"),
            Taken::Old { by } => write!(f, "dropped: made {by} ms before the last list"),
        }
    }
}

/// What an active check showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Somebody answered at the address.
    Alive,
    /// Nobody did, in time.
    Silent,
}

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// The instance is not held: nothing changes.
    NotHeld,
    /// It stays.
    Stays,
    /// It is believed to be gone.
    Gone,
}

/// An instance that is held.
#[derive(Clone, Debug, PartialEq)]
struct Held {
    host: Arc<Host>,
    until: Duration,
    because: Because,
    failures: u32,
}

/// Whether instances that go missing now are held.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Window {
    Closed,
    Until(Duration, Because),
    /// Nothing was listed yet in this run.
    Restored,
}

/// What is believed of one service.
#[derive(Clone, Debug)]
pub struct Guard {
    hold: Duration,
    listed: BTreeMap<SocketAddr, Arc<Host>>,
    held: BTreeMap<SocketAddr, Held>,
    /// Registrations that are not used: no address, or one that another registration has.
    unused: Vec<Unused>,
    reach_protection: bool,
    last_ref_time: i64,
    old_since: Option<Duration>,
    window: Window,
}

/// A registration that is not used.
#[derive(Clone, Debug, PartialEq)]
pub struct Unused {
    /// The registration.
    pub host: Host,
    /// Cluster of the registration that has its address; `None` where it has no usable one.
    pub instead: Option<String>,
}

impl Guard {
    /// Nothing known yet. `hold` is how long what goes missing may be held, see [`HOLD`].
    pub fn new(hold: Duration) -> Guard {
        Guard {
            hold,
            listed: BTreeMap::new(),
            held: BTreeMap::new(),
            unused: Vec::new(),
            reach_protection: false,
            last_ref_time: 0,
            old_since: None,
            window: Window::Closed,
        }
    }

    /// Known from an earlier run: all of it stays until a registry answers, whenever that is, and what the answer does not
    /// have is held.
    pub fn restored(hold: Duration, hosts: Vec<Host>) -> Guard {
        let (listed, unused) = by_address(hosts);
        Guard { listed, unused, window: Window::Restored, ..Guard::new(hold) }
    }

    /// Takes in a list.
    pub fn take(&mut self, listing: Listing, now: Duration) -> Taken {
        if let Some(by) = self.older(&listing, now) {
            return Taken::Old { by };
        }
        self.close_window(now);
        self.last_ref_time = listing.last_ref_time;
        self.reach_protection = listing.reach_protection;
        let (listed, unused) = by_address(listing.hosts);
        self.unused = unused;
        let became_empty = listed.is_empty() && !self.listed.is_empty();
        let hold = match (self.window, became_empty) {
            (Window::Restored, _) => Some((now + self.hold, Because::Restored)),
            (Window::Closed | Window::Until(..), true) => Some((now + self.hold, Because::EmptyList)),
            (Window::Until(until, because), false) => Some((until, because)),
            (Window::Closed, false) => None,
        };
        if self.window == Window::Restored {
            self.window = Window::Until(now + self.hold, Because::Restored);
        }
        let before = std::mem::replace(&mut self.listed, listed);
        let added = self.listed.keys().filter(|address| !before.contains_key(address)).count();
        self.held.retain(|address, held| held.until > now && !self.listed.contains_key(address));
        let missing = before.into_iter().filter(|(address, _)| !self.listed.contains_key(address));
        let missing: Vec<_> = missing.collect();
        match hold {
            Some((until, because)) if !missing.is_empty() => {
                let hold = |(address, host)| (address, Held { host, until, because, failures: 0 });
                self.held.extend(missing.into_iter().map(hold));
                Taken::Held { held: self.held.len(), because }
            }
            Some(_) | None => Taken::Believed { added, removed: missing.len() },
        }
    }

    /// How many milliseconds the list is older than the last one, where it is refused for that.
    fn older(&mut self, listing: &Listing, now: Duration) -> Option<u64> {
        let by = self.last_ref_time.saturating_sub(listing.last_ref_time);
        if by <= 0 || listing.last_ref_time <= 0 {
            self.old_since = None;
            return None;
        }
        let since = *self.old_since.get_or_insert(now);
        if now.saturating_sub(since) >= OLD_AT_MOST {
            self.old_since = None;
            return None;
        }
        u64::try_from(by).ok()
    }

    /// The connection to the registry was made anew, perhaps to another server, whose clock may be another.
    pub fn reconnected(&mut self, now: Duration) {
        self.last_ref_time = 0;
        self.old_since = None;
        if self.window != Window::Restored {
            self.window = Window::Until(now + self.hold, Because::Reconnected);
        }
    }

    /// Takes in what a check of an instance showed.
    pub fn checked(&mut self, address: SocketAddr, answer: Answer) -> Checked {
        let Some(held) = self.held.get_mut(&address) else { return Checked::NotHeld };
        held.failures = match answer {
            Answer::Alive => 0,
            Answer::Silent => held.failures + 1,
        };
        if held.failures < FAILURES {
            return Checked::Stays;
        }
        self.held.remove(&address);
        Checked::Gone
    }

    /// Believes what the time is over for; the instances that are gone thereby.
    pub fn tick(&mut self, now: Duration) -> Vec<SocketAddr> {
        self.close_window(now);
        let over: Vec<SocketAddr> =
            self.held.iter().filter(|(_, held)| held.until <= now).map(|(address, _)| *address).collect();
        self.held.retain(|_, held| held.until > now);
        over
    }

    fn close_window(&mut self, now: Duration) {
        if let Window::Until(until, _) = self.window
            && until <= now
        {
            self.window = Window::Closed;
        }
    }

    /// When [`Guard::tick`] has something to do; `None` = never, as things are.
    pub fn next_tick(&self) -> Option<Duration> {
        self.held.values().map(|held| held.until).min()
    }

    /// Instances to check: those that are held.
    pub fn to_check(&self) -> impl Iterator<Item = SocketAddr> {
        self.held.keys().copied()
    }

    /// Whether nobody is believed to be there.
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty() && self.held.is_empty()
    }

    /// Every instance that is believed to be there, ordered by address, with what is believed of its health, and why.
    pub fn instances(&self) -> impl Iterator<Item = (SocketAddr, &Host, Believed, Why)> {
        let all: BTreeMap<SocketAddr, (&Host, Option<Because>)> = self
            .listed
            .iter()
            .map(|(address, host)| (*address, (&**host, None)))
            .chain(self.held.iter().map(|(address, held)| (*address, (&*held.host, Some(held.because)))))
            .collect();
        let is_well = |host: &Host| host.takes_traffic() && host.healthy;
        let somebody_is_well = self.listed.values().any(|host| is_well(host));
        all.into_iter().map(move |(address, (host, held))| {
            let why = match held {
                Some(because) => Why::Held(because),
                None if self.window == Window::Restored => Why::Restored,
                None if self.reach_protection => Why::Protection,
                None if somebody_is_well || !host.takes_traffic() => Why::Registered,
                None => Why::NobodyHealthy,
            };
            let believed = match (why, host.healthy) {
                (Why::Registered, true) => Believed::Healthy,
                (Why::Registered, false) => Believed::Unhealthy,
                // It was not well when it was last heard of, and others are.
                (Why::Held(_), false) if somebody_is_well && !self.reach_protection => Believed::Unhealthy,
                (Why::Protection | Why::NobodyHealthy | Why::Restored | Why::Held(_), _) => Believed::Unknown,
            };
            (address, host, believed, why)
        })
    }

    /// Registrations that are not used.
    pub fn unused(&self) -> &[Unused] {
        &self.unused
    }
}

/// Registrations by address. Where several have one, the one that serves best is used: enabled, healthy, the heaviest, the
/// first by cluster.
fn by_address(hosts: Vec<Host>) -> (BTreeMap<SocketAddr, Arc<Host>>, Vec<Unused>) {
    let (mut used, mut unused) = (BTreeMap::<SocketAddr, Host>::new(), Vec::new());
    for host in hosts {
        let Ok(address) = host.address() else {
            unused.push(Unused { host, instead: None });
            continue;
        };
        let Some(other) = used.remove(&address) else {
            used.insert(address, host);
            continue;
        };
        let (better, worse) = if serves_better(&host, &other) { (host, other) } else { (other, host) };
        unused.push(Unused { host: worse, instead: Some(better.cluster.clone()) });
        used.insert(address, better);
    }
    (used.into_iter().map(|(address, host)| (address, Arc::new(host))).collect(), unused)
}

fn serves_better(host: &Host, other: &Host) -> bool {
    let rank = |host: &Host| (host.takes_traffic(), host.healthy);
    let by_weight = host.weight.total_cmp(&other.weight);
    let order = rank(host).cmp(&rank(other)).then(by_weight).then_with(|| other.cluster.cmp(&host.cluster));
    order.is_gt()
}

#[cfg(test)]
mod tests;
