//! Names from DNS: what to ask for, what answers make of a service, when to ask again, and what is kept when an answer says
//! nothing. Pure; the controller's source `dns` asks.
//!
//! The last good answer is kept for as long as none better comes: a name server that fails, or that answers with nothing,
//! never takes a host away that somebody calls.

mod question;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

pub use self::question::{Kind, NAMESPACE, NoQuestion, Question};
use crate::{
    model::endpoint::WEIGHT_ONE,
    names,
    resources::services::{Endpoint, Health, Port, Protocol, Service},
};

/// Shortest time between two questions for one name: a TTL of 0 must not make a loop.
pub const FLOOR: Duration = Duration::from_secs(1);
/// Longest time until a name is asked for again, whatever its TTL: a host that moved in spite of it is found in the end.
pub const CEILING: Duration = Duration::from_secs(300);
/// First pause after a failure; doubled by each further one.
const BACK_OFF_FIRST: Duration = Duration::from_secs(1);
/// Longest pause after failures, and after answers that say nothing.
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// Most addresses of one name that are used.
pub const ADDRESSES_MAX: usize = 256;
/// Most targets of one SRV name that are asked for.
pub const TARGETS_MAX: usize = 32;

/// What came of a question to a name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// Records.
    Records {
        /// What they hold, at least one.
        records: Vec<T>,
        /// How long they may be used: the least over the whole chain of aliases.
        ttl: Duration,
    },
    /// The name exists, without records of the kind.
    Nothing {
        /// How long that is so, where the answer says.
        ttl: Option<Duration>,
    },
    /// There is no such name.
    NoSuchName {
        /// How long that is so, where the answer says.
        ttl: Option<Duration>,
    },
    /// No answer, or that the server failed.
    Failed(String),
}

/// An SRV record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The lowest is used first.
    pub priority: u16,
    /// Share among those of one priority.
    pub weight: u16,
    /// Port at the host.
    pub port: u16,
    /// Host; `.` = the service is not offered.
    pub host: String,
}

/// Answers for the two families of addresses of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// A records.
    pub v4: Answer<IpAddr>,
    /// AAAA records.
    pub v6: Answer<IpAddr>,
}

/// Everything that was answered for a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    /// For a host.
    Host(Addresses),
    /// For an SRV name: its targets, and of those that were asked for ([`to_ask`]) the addresses.
    Targets(Answer<Target>, BTreeMap<String, Addresses>),
}

/// An address that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The address.
    pub ip: IpAddr,
    /// Its port, where the records say one.
    pub port: Option<u16>,
    /// 10,000 = 1.0.
    pub weight: u32,
}

/// What is known of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Last good addresses by host: of the name itself, or of its targets.
    hosts: BTreeMap<String, Vec<IpAddr>>,
    places: Vec<Place>,
    /// Answers in a row that said nothing.
    misses: u32,
}

/// Why what is known is what it is after an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The answer says other addresses than before.
    Changed,
    /// The answer says the same.
    Same,
    /// A part of the answer is missing; what it said before is kept beside the rest.
    Partly(String),
    /// The name has no records of the kind; kept.
    Nothing,
    /// There is no such name; kept.
    NoSuchName,
    /// The service is not offered, says its SRV record; kept.
    NotOffered,
    /// No answer; kept.
    Failed(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Changed => f.write_str("answered: changed"),
            Reason::Same => f.write_str("answered: as before"),
            Reason::Partly(error) => write!(f, "answered in part ({error}); the rest is kept as it was"),
            Reason::Nothing => f.write_str("the name has no address records; the last good answer is kept"),
            Reason::NoSuchName => f.write_str("there is no such name; the last good answer is kept"),
            Reason::NotOffered => f.write_str("the service is not offered there; the last good answer is kept"),
            Reason::Failed(error) => write!(f, "no answer ({error}); the last good answer is kept"),
        }
    }
}

/// What follows from an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// When to ask again, from now.
    pub ask_again: Duration,
    /// Why what is known is what it is.
    pub reason: Reason,
}

/// Hosts whose addresses have to be asked for to use these targets, at most [`TARGETS_MAX`], the first by priority.
pub fn to_ask(targets: &Answer<Target>) -> Vec<&str> {
    let Answer::Records { records, .. } = targets else { return Vec::new() };
    let mut sorted: Vec<&Target> = records.iter().filter(|target| is_offered(target)).collect();
    sorted.sort();
    let mut seen = BTreeSet::new();
    let hosts = sorted.into_iter().map(|target| target.host.as_str()).filter(|host| seen.insert(*host));
    hosts.take(TARGETS_MAX).collect()
}

fn is_offered(target: &Target) -> bool {
    !target.host.is_empty() && target.host != "." && target.port != 0
}

impl Known {
    /// Addresses that serve, ordered.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Takes in what was answered. `random` is a uniform draw; it spreads the next question.
    pub fn take(&mut self, answered: &Answered, random: u64) -> Next {
        let Found { hosts, mut places, ttl, miss } = match answered {
            Answered::Host(addresses) => self.host(addresses),
            Answered::Targets(targets, addresses) => self.targets(targets, addresses),
        };
        if places.is_empty() {
            return self.keep(miss.unwrap_or(Reason::Nothing), ttl, random);
        }
        places.truncate(ADDRESSES_MAX);
        let reason = match (miss, places == self.places) {
            (Some(miss), _) => Reason::Partly(miss.to_string()),
            (None, true) => Reason::Same,
            (None, false) => Reason::Changed,
        };
        *self = Known { hosts, places, misses: 0 };
        let ttl = ttl.unwrap_or(FLOOR).clamp(FLOOR, CEILING);
        // Never earlier than allowed; a little later for some, so that thousands of names do not fall together.
        Next { ask_again: ttl + part(ttl / 10, random), reason }
    }

    fn keep(&mut self, reason: Reason, ttl: Option<Duration>, random: u64) -> Next {
        let pause = BACK_OFF_FIRST.saturating_mul(2_u32.saturating_pow(self.misses)).min(BACK_OFF_MAX);
        self.misses = self.misses.saturating_add(1);
        let pause = pause.max(ttl.unwrap_or_default()).clamp(FLOOR, BACK_OFF_MAX);
        // Between half and the whole: askers that failed together do not return together.
        Next { ask_again: (pause / 2 + part(pause / 2, random)).max(FLOOR), reason }
    }

    fn host(&self, addresses: &Addresses) -> Found {
        let Resolved { ips, ttl, miss } = self.resolve("", addresses);
        let place = |ip: &IpAddr| Place { ip: *ip, port: None, weight: WEIGHT_ONE };
        let places = if ttl.is_some() { ips.iter().map(place).collect() } else { Vec::new() };
        Found { ttl: ttl.or_else(|| negative_ttl(addresses)), hosts: [(String::new(), ips)].into(), places, miss }
    }

    fn targets(&self, targets: &Answer<Target>, addresses: &BTreeMap<String, Addresses>) -> Found {
        let none = |miss, ttl| Found { hosts: BTreeMap::new(), places: Vec::new(), ttl, miss: Some(miss) };
        let (records, ttl) = match targets {
            Answer::Records { records, ttl } => (records, *ttl),
            Answer::Nothing { ttl } => return none(Reason::Nothing, *ttl),
            Answer::NoSuchName { ttl } => return none(Reason::NoSuchName, *ttl),
            Answer::Failed(error) => return none(Reason::Failed(error.clone()), None),
        };
        let resolved: BTreeMap<&str, Resolved> =
            addresses.iter().map(|(host, answers)| (host.as_str(), self.resolve(host, answers))).collect();
        let has_address = |target: &&Target| {
            is_offered(target) && resolved.get(target.host.as_str()).is_some_and(|host| !host.ips.is_empty())
        };
        let Some(priority) = records.iter().filter(has_address).map(|target| target.priority).min() else {
            let miss = resolved.values().find_map(|host| host.miss.clone()).unwrap_or(Reason::NotOffered);
            return none(miss, Some(ttl));
        };
        let used = |target: &&Target| target.priority == priority && is_offered(target);
        let group: Vec<(&Target, &Resolved)> = records
            .iter()
            .filter(used)
            .filter_map(|target| Some((target, resolved.get(target.host.as_str())?)))
            .collect();
        let ttl = group.iter().filter_map(|(_, host)| host.ttl).fold(ttl, Duration::min);
        let miss = group.iter().find_map(|(_, host)| host.miss.clone());
        // What is kept for want of an answer is asked for again soon.
        let ttl = if miss.is_some() { ttl.min(BACK_OFF_MAX) } else { ttl };
        let places = weighted(&group);
        let hosts = resolved.into_iter().map(|(host, resolved)| (host.to_owned(), resolved.ips)).collect();
        Found { hosts, places, ttl: Some(ttl), miss }
    }

    /// Addresses of a host: those that were answered, and for a family without answer those from before.
    fn resolve(&self, host: &str, addresses: &Addresses) -> Resolved {
        let before = self.hosts.get(host).map(Vec::as_slice).unwrap_or_default();
        let (mut ips, mut ttl, mut miss) = (BTreeSet::new(), None::<Duration>, None);
        let families = [(&addresses.v4, IpAddr::is_ipv4 as fn(&IpAddr) -> bool), (&addresses.v6, IpAddr::is_ipv6)];
        for (answer, is_of_family) in families {
            if let Answer::Records { records, ttl: least } = answer {
                ips.extend(records.iter().copied().filter(is_somebody));
                ttl = Some(ttl.map_or(*least, |ttl| ttl.min(*least)));
            }
            if let Answer::Failed(error) = answer {
                let kept: Vec<IpAddr> = before.iter().copied().filter(is_of_family).collect();
                if !kept.is_empty() {
                    miss = Some(Reason::Failed(error.clone()));
                }
                ips.extend(kept);
            }
        }
        if ips.is_empty() || ttl.is_none() {
            miss = Some(miss_of(addresses));
            ips = before.iter().copied().collect();
            ttl = None;
        }
        Resolved { ips: ips.into_iter().take(ADDRESSES_MAX).collect(), ttl, miss }
    }
}

/// What an answer makes of a name, before it is decided whether that is used.
struct Found {
    hosts: BTreeMap<String, Vec<IpAddr>>,
    /// Empty = the answer says nothing.
    places: Vec<Place>,
    ttl: Option<Duration>,
    miss: Option<Reason>,
}

/// What an answer makes of a host.
struct Resolved {
    ips: Vec<IpAddr>,
    /// `None` = nothing of it is answered: kept.
    ttl: Option<Duration>,
    /// What was not answered.
    miss: Option<Reason>,
}

/// Why a host has no address.
fn miss_of(addresses: &Addresses) -> Reason {
    match (&addresses.v4, &addresses.v6) {
        (Answer::Failed(error), _) | (_, Answer::Failed(error)) => Reason::Failed(error.clone()),
        (Answer::NoSuchName { .. }, _) | (_, Answer::NoSuchName { .. }) => Reason::NoSuchName,
        (Answer::Nothing { .. } | Answer::Records { .. }, Answer::Nothing { .. } | Answer::Records { .. }) => {
            Reason::Nothing
        }
    }
}

fn negative_ttl(addresses: &Addresses) -> Option<Duration> {
    let ttl = |answer: &Answer<IpAddr>| match answer {
        Answer::Nothing { ttl } | Answer::NoSuchName { ttl } => *ttl,
        Answer::Records { .. } | Answer::Failed(_) => None,
    };
    ttl(&addresses.v4).into_iter().chain(ttl(&addresses.v6)).min()
}

/// Whether something can be reached at an address: block lists answer with the one that is nobody's.
fn is_somebody(ip: &IpAddr) -> bool {
    !ip.is_unspecified() && !ip.is_multicast()
}

/// Addresses of targets of one priority, by weight. Where no target has weight they are equal; one without among others
/// with gets as little as there is (RFC 2782). Addresses of one target share its weight.
fn weighted(group: &[(&Target, &Resolved)]) -> Vec<Place> {
    let most = group.iter().map(|(target, _)| target.weight).max().unwrap_or_default();
    let mut places: BTreeMap<(IpAddr, u16), u32> = BTreeMap::new();
    for (target, host) in group {
        let weight = match most {
            0 => WEIGHT_ONE,
            1.. => u32::from(target.weight) * WEIGHT_ONE / u32::from(most),
        };
        let each = (weight / (host.ips.len().max(1) as u32)).max(1);
        for ip in &host.ips {
            *places.entry((*ip, target.port)).or_default() += each;
        }
    }
    places.into_iter().map(|((ip, port), weight)| Place { ip, port: Some(port), weight }).collect()
}

/// A random part of a duration.
fn part(whole: Duration, random: u64) -> Duration {
    let nanos = (whole.as_nanos() * u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Service port of an SRV name that says none.
const SRV_PORT: u16 = 80;
/// Port of TLS.
const TLS_PORT: u16 = 443;

/// The service that a question is in the mesh: instances without sidecar at the places that are known.
pub fn service(question: &Question, places: &[Place]) -> Service {
    let numbers = match (question.kind(), question.port()) {
        (_, Some(port)) => vec![port],
        (Kind::Service, None) => vec![SRV_PORT],
        // Whatever its callers write.
        (Kind::Host, None) => vec![SRV_PORT, TLS_PORT],
    };
    let protocol = |port| if port == TLS_PORT { Protocol::Tls } else { Protocol::Detect };
    let ports = numbers.iter().map(|port| Port { port: *port, protocol: protocol(*port) }).collect();
    let endpoint = |(place, port): (&Place, u16)| {
        let address = SocketAddr::new(place.ip, place.port.unwrap_or(port));
        Endpoint {
            address,
            port,
            weight: place.weight,
            zone: None,
            labels: BTreeMap::new(),
            pod: address.to_string(),
            identity: None,
            inbound_port: names::INBOUND_PORT,
            enabled: true,
            draining: false,
            ready_since: None,
            health: Health::Healthy,
        }
    };
    let each = places.iter().flat_map(|place| numbers.iter().map(move |port| (place, *port)));
    let (name, namespace) = question.service();
    let namespace = namespace.to_owned();
    let (address_calls, any_port) = Default::default();
    let endpoints = each.map(endpoint).collect();
    Service { name, namespace, addresses: Vec::new(), ports, endpoints, address_calls, any_port }
}

#[cfg(test)]
mod tests;
