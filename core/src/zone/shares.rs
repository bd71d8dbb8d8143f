//! Which part of the exchanges of callers in one zone goes to which zone.
//!
//! The unit is capacity: the sum of weights. Callers are taken to be as many in one zone as in another, since no proxy knows
//! how many there are: those of one zone need the capacity of the whole, divided by the number of zones. While every zone
//! agrees on what there is, no instance gets more than `100 / threshold` of its fair share: 1.43 times, with the default.

use super::Reason;
use crate::model::policy::Zones;

/// What is enough of a zone that has a fixed part, percent: as for [`Zones::threshold`] by default.
const ENOUGH: u32 = 70;

/// What one zone has at a level of a service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Capacity<'z> {
    /// Its name; `None` = of instances whose zone nobody knows.
    pub zone: Option<&'z str>,
    /// Sum of weights of all that are registered.
    pub registered: f64,
    /// Of those that can be used, as far as they count.
    pub usable: f64,
}

/// Part of a caller's exchanges that goes to a zone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// From 0 to 1.
    pub part: f64,
    /// Why.
    pub reason: Reason,
}

/// Shares of `zones`, in their order, for callers in `own`. They add up to 1, unless nothing is usable: then all are 0.
pub fn shares(policy: &Zones, own: Option<&str>, zones: &[Capacity<'_>]) -> Vec<Share> {
    let Some(own) = own else { return by_capacity(zones, Reason::OwnUnknown) };
    if policy.prefer_same {
        return near(policy, own, zones);
    }
    match policy.distribute.iter().find(|entry| entry.from == own) {
        Some(fixed) => {
            let percent = |zone: Option<&str>| zone.and_then(|zone| fixed.to.get(zone)).copied().unwrap_or(0);
            let parts: Vec<f64> = zones.iter().map(|zone| f64::from(percent(zone.zone)) * able(zone)).collect();
            let total: f64 = parts.iter().sum();
            if total <= 0.0 {
                return by_capacity(zones, Reason::Spill);
            }
            parts.into_iter().map(|part| Share { part: part / total, reason: Reason::Share }).collect()
        }
        None => by_capacity(zones, Reason::NotAsked),
    }
}

/// Which part of a fixed share a zone can bear: what is missing goes to the others.
fn able(zone: &Capacity<'_>) -> f64 {
    let enough = zone.registered * f64::from(ENOUGH) / 100.0;
    if zone.usable <= 0.0 { 0.0 } else { (zone.usable / enough.max(f64::MIN_POSITIVE)).min(1.0) }
}

/// As if there were no zones.
fn by_capacity(zones: &[Capacity<'_>], reason: Reason) -> Vec<Share> {
    let total: f64 = zones.iter().map(|zone| zone.usable).sum();
    let part = |zone: &Capacity<'_>| if total > 0.0 { zone.usable / total } else { 0.0 };
    zones.iter().map(|zone| Share { part: part(zone), reason }).collect()
}

/// A zone while loads are worked out; in units of capacity.
struct Bearer<'z> {
    zone: Option<&'z str>,
    usable: f64,
    /// What all callers together put on it.
    load: f64,
    /// What its own callers need from elsewhere.
    lack: f64,
}

/// The own zone as long as it has enough, and for the rest those that are named, then those that have some to spare. Every
/// caller works out what callers of all zones do, so that spills of several zones together do not overload another one.
fn near(policy: &Zones, own: &str, zones: &[Capacity<'_>]) -> Vec<Share> {
    let bearer = |zone, usable| Bearer { zone, usable, load: 0.0, lack: 0.0 };
    let mut all: Vec<Bearer<'_>> = zones.iter().map(|zone| bearer(zone.zone, zone.usable)).collect();
    let at = zones.iter().position(|zone| zone.zone == Some(own)).unwrap_or(all.len());
    if at == all.len() {
        all.push(bearer(Some(own), 0.0));
    }
    let total: f64 = all.iter().map(|zone| zone.usable).sum();
    if total <= 0.0 {
        return by_capacity(zones, Reason::Spill);
    }
    let fair = total / all.iter().filter(|zone| zone.zone.is_some()).count().max(1) as f64;
    let most = 100.0 / f64::from(policy.threshold.max(1));
    for zone in all.iter_mut().filter(|zone| zone.zone.is_some()) {
        zone.load = (zone.usable * most).min(fair);
        zone.lack = fair - zone.load;
    }
    let mut shares = vec![Share { part: 0.0, reason: Reason::Spill }; all.len()];
    shares[at] = Share { part: all[at].load / fair, reason: Reason::Own };
    fail_over(policy, &mut all, most, |from, to, moved| {
        if from == at {
            shares[to] = Share { part: shares[to].part + moved / fair, reason: Reason::Failover };
        }
    });
    let spare: Vec<f64> = all.iter().map(|zone| (zone.usable - zone.load).max(0.0)).collect();
    let spare_of_all: f64 = spare.iter().sum();
    let lack = all[at].lack;
    for ((share, zone), spare) in shares.iter_mut().zip(&all).zip(spare) {
        // There is as much to spare as is lacking; but for rounding.
        let part = if spare_of_all > 0.0 { spare / spare_of_all } else { zone.usable / total };
        share.part += lack / fair * part;
    }
    shares.truncate(zones.len());
    shares
}

/// Moves what zones lack to those that the policy names for them, the first named first, as far as these can bear it;
/// `moved` is told from which zone to which, and how much.
fn fail_over(policy: &Zones, all: &mut [Bearer<'_>], most: f64, mut moved: impl FnMut(usize, usize, f64)) {
    let named = |from: Option<&str>, rank: usize, all: &[Bearer<'_>]| {
        let entry = policy.failover.iter().filter(|entry| Some(entry.from.as_str()) == from).nth(rank)?;
        all.iter().position(|zone| zone.zone == Some(entry.to.as_str()))
    };
    for rank in 0..policy.failover.len() {
        let targets: Vec<Option<usize>> = all.iter().map(|zone| named(zone.zone, rank, all)).collect();
        for to in 0..all.len() {
            let askers = || (0..targets.len()).filter(|from| *from != to && targets[*from] == Some(to));
            let asked: f64 = askers().map(|from| all[from].lack).sum();
            let room = (all[to].usable * most - all[to].load).max(0.0);
            if asked <= 0.0 || room <= 0.0 {
                continue;
            }
            let part = (room / asked).min(1.0);
            for from in askers() {
                let moves = all[from].lack * part;
                moved(from, to, moves);
                all[from].lack -= moves;
                all[to].load += moves;
            }
        }
    }
}
