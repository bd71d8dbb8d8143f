//! The parts of zones and the instances of each, prepared for one level of a service as it is now.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    RETURN, Reason, STEP,
    shares::{Capacity, Share, shares},
};
use crate::model::policy::Zones;

/// Capacity that is missing by less than this counts as there: rounding.
const NOTHING: f64 = 1e-6;

/// What a plan is made of.
#[derive(Clone, Copy)]
pub struct Level<'a> {
    /// Positions of all registered instances that take traffic, usable or not.
    pub members: &'a [usize],
    /// Positions that may be used, in ascending order.
    pub candidates: &'a [usize],
    /// Weight of a position.
    pub weight: &'a dyn Fn(usize) -> u32,
    /// Zone of a position.
    pub zone: &'a dyn Fn(usize) -> Option<&'a str>,
    /// Whether a candidate can be relied on: it is not one that only stays because too many others are out.
    pub is_sound: &'a dyn Fn(usize) -> bool,
}

/// Where exchanges of callers in one zone go, at one level of a service. Made anew when something of it changes, or when it is
/// [`Plan::is_due`]; a pick allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    groups: Vec<Group>,
    counted: Vec<Counted>,
    made: Duration,
    returning: bool,
}

/// Instances of a zone, or of several.
#[derive(Clone, Debug)]
struct Group {
    /// `None` = of several, or of one that nobody knows.
    zone: Option<String>,
    positions: Vec<usize>,
    /// Draws below this, and not below that of the group before, are its own.
    bound: u64,
    share: Share,
}

/// What of a zone counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Counted {
    /// Its name.
    pub zone: Option<String>,
    /// Sum of weights of all that are registered.
    pub registered: f64,
    /// Of those that can be used.
    pub usable: f64,
    /// What of these counts; less while they come back.
    pub now: f64,
}

/// A zone while a plan is made.
#[derive(Default)]
struct Tally {
    registered: f64,
    usable: f64,
    positions: Vec<usize>,
}

impl Plan {
    /// Makes a plan for callers in `own` at `now`; zones in `drained` are left where others can take over. `before` is the
    /// plan of the same level so far: what has come back since counts bit by bit.
    pub fn new(
        policy: &Zones,
        own: Option<&str>,
        drained: &BTreeSet<String>,
        level: &Level<'_>,
        (before, now): (Option<&Plan>, Duration),
    ) -> Plan {
        let tallies = tally(drained, level);
        let counted: Vec<Counted> = tallies.iter().map(|(zone, tally)| count(*zone, tally, before, now)).collect();
        let returning = counted.iter().any(|zone| zone.now + NOTHING < zone.usable);
        let mut plan = Plan { groups: Vec::new(), counted, made: now, returning };
        if tallies.values().all(|tally| tally.positions.is_empty()) {
            plan.add(None, whoever(level), Share { part: 1.0, reason: Reason::NobodyElse });
            return plan;
        }
        // Where everything comes back at the same time, the parts are those of what is there.
        let is_nothing = plan.counted.iter().all(|zone| zone.now <= 0.0);
        let capacity = |zone: &'_ Counted| if is_nothing { zone.usable } else { zone.now };
        let zones: Vec<Capacity<'_>> = tallies
            .keys()
            .zip(&plan.counted)
            .map(|(zone, counted)| Capacity { zone: *zone, registered: counted.registered, usable: capacity(counted) })
            .collect();
        let shares = shares(policy, own, &zones);
        let is_spread = shares.iter().all(|share| matches!(share.reason, Reason::NotAsked | Reason::OwnUnknown));
        let is_drained = tallies.keys().any(|zone| zone.is_some_and(|zone| drained.contains(zone)));
        let told = |share: &Share| {
            let says_nothing = matches!(share.reason, Reason::NotAsked | Reason::OwnUnknown);
            Share { reason: if says_nothing && is_drained { Reason::Drained } else { share.reason }, ..*share }
        };
        if is_spread && !returning {
            // No zone matters: the balancer sees all of them at once.
            let mut all: Vec<usize> = tallies.values().flat_map(|tally| tally.positions.iter().copied()).collect();
            all.sort_unstable();
            let reason = shares.first().map_or(Reason::NotAsked, |share| told(share).reason);
            plan.add(None, all, Share { part: 1.0, reason });
        }
        for ((zone, tally), share) in tallies.into_iter().zip(&shares) {
            let part = if is_spread && !returning { 0.0 } else { share.part };
            plan.add(zone, tally.positions, Share { part, ..told(share) });
        }
        plan
    }

    fn add(&mut self, zone: Option<&str>, positions: Vec<usize>, share: Share) {
        if positions.is_empty() {
            return;
        }
        let before = self.groups.last().map_or(0, |group| group.bound);
        let width = (share.part.clamp(0.0, 1.0) * u64::MAX as f64) as u64;
        let bound = before.saturating_add(width);
        self.groups.push(Group { zone: zone.map(str::to_owned), positions, bound, share });
    }

    /// The instances (positions) among which an exchange is placed, by a uniform draw; `wanted` is the zone that the policy
    /// names for such a request. Empty only where the level has nobody at all.
    pub fn pick(&self, draw: u64, wanted: Option<&str>) -> (&[usize], Reason) {
        if let Some(wanted) = wanted
            && let Some(group) = self.groups.iter().find(|group| group.zone.as_deref() == Some(wanted))
        {
            return (&group.positions, Reason::Matched);
        }
        let drawn = self.groups.iter().find(|group| draw < group.bound);
        // Widths are rounded: the last one that has any takes the rest.
        let group = drawn.or_else(|| self.groups.iter().rev().find(|group| group.share.part > 0.0));
        group.map_or((&[], Reason::NobodyElse), |group| (&group.positions, group.share.reason))
    }

    /// As [`Plan::pick`] where only these candidates are left, in ascending order: those that another attempt has not tried.
    /// Where the zone that is drawn has none of them, the others by their parts.
    pub fn pick_among(&self, draw: u64, wanted: Option<&str>, candidates: &[usize]) -> (Vec<usize>, Reason) {
        let left = |positions: &[usize]| -> Vec<usize> {
            positions.iter().copied().filter(|at| candidates.binary_search(at).is_ok()).collect()
        };
        let (drawn, reason) = self.pick(draw, wanted);
        let found = left(drawn);
        if !found.is_empty() {
            return (found, reason);
        }
        let mut others: Vec<&Group> = self.groups.iter().collect();
        others.sort_by(|one, other| other.share.part.total_cmp(&one.share.part));
        let other = others.into_iter().map(|group| (left(&group.positions), group.share.reason));
        other.into_iter().find(|(found, _)| !found.is_empty()).unwrap_or((candidates.to_vec(), Reason::NobodyElse))
    }

    /// Groups of instances (positions) with their shares: those of one zone each, and of several together where zones do not
    /// matter.
    pub fn groups(&self) -> impl Iterator<Item = (&[usize], Share)> {
        self.groups.iter().map(|group| (group.positions.as_slice(), group.share))
    }

    /// What of each zone counts.
    pub fn counted(&self) -> &[Counted] {
        &self.counted
    }

    /// Whether capacity is coming back: the plan does not stay as it is.
    pub fn is_returning(&self) -> bool {
        self.returning
    }

    /// Whether it is to be made anew because of the time alone.
    pub fn is_due(&self, now: Duration) -> bool {
        self.returning && now.saturating_sub(self.made) >= STEP
    }
}

fn tally<'a>(drained: &BTreeSet<String>, level: &Level<'a>) -> BTreeMap<Option<&'a str>, Tally> {
    let mut tallies: BTreeMap<Option<&str>, Tally> = BTreeMap::new();
    for member in level.members {
        tallies.entry((level.zone)(*member)).or_default().registered += f64::from((level.weight)(*member));
    }
    for candidate in level.candidates {
        let zone = (level.zone)(*candidate);
        let tally = tallies.entry(zone).or_default();
        let is_drained = zone.is_some_and(|zone| drained.contains(zone));
        if !is_drained && (level.is_sound)(*candidate) {
            tally.usable += f64::from((level.weight)(*candidate));
            tally.positions.push(*candidate);
        }
    }
    tallies
}

fn count(zone: Option<&str>, tally: &Tally, before: Option<&Plan>, now: Duration) -> Counted {
    let registered = tally.registered.max(tally.usable);
    let counts = match before {
        None => tally.usable,
        Some(before) => {
            let known = before.counted.iter().find(|counted| counted.zone.as_deref() == zone);
            // What a plan that was whole lacks has come back just now, however long ago that plan was made.
            let begun = if before.returning { before.made } else { now };
            let passed = now.saturating_sub(begun).as_secs_f64() / RETURN.as_secs_f64();
            tally.usable.min(known.map_or(0.0, |counted| counted.now) + registered * passed)
        }
    };
    Counted { zone: zone.map(str::to_owned), registered, usable: tally.usable, now: counts }
}

/// Where nobody can be relied on outside of drained zones: those who can be within them, or everybody.
fn whoever(level: &Level<'_>) -> Vec<usize> {
    let sound: Vec<usize> = level.candidates.iter().copied().filter(|at| (level.is_sound)(*at)).collect();
    if sound.is_empty() { level.candidates.to_vec() } else { sound }
}
