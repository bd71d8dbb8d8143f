//! What limits decided, for metrics: by limit as routes name it. Nothing that callers write is told apart.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use arc_swap::ArcSwap;

use super::{
    ledger::{Quota, Why},
    tally::Shape,
};
use crate::model::model_route::{Counted, LimitMode, Word as _};

/// Limits that are told apart at most; what further ones decide is counted as that of `other`.
const LIMITS_MAX: usize = 1_024;
const OTHER: &str = "other";

/// What a limit decided about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It and all others let the call through.
    Allowed,
    /// It would have refused, if it were not in shadow mode.
    Shadowed,
    /// It refused.
    Refused(Why),
}

impl Decision {
    /// All, in the order of their counts.
    pub const ALL: [Decision; 6] = [
        Decision::Allowed,
        Decision::Shadowed,
        Decision::Refused(Why::Used),
        Decision::Refused(Why::TooLarge),
        Decision::Refused(Why::Unleased),
        Decision::Refused(Why::StoreDown),
    ];

    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Decision::Allowed => "allowed",
            Decision::Shadowed => "shadowed",
            Decision::Refused(why) => why.as_str(),
        }
    }

    fn place(self) -> usize {
        match self {
            Decision::Allowed => 0,
            Decision::Shadowed => 1,
            Decision::Refused(Why::Used) => 2,
            Decision::Refused(Why::TooLarge) => 3,
            Decision::Refused(Why::Unleased) => 4,
            Decision::Refused(Why::StoreDown) => 5,
        }
    }
}

/// What one limit decided, of all keys together.
#[derive(Debug)]
pub struct Decisions {
    /// `<name>.<namespace>` of the model route, or of the service.
    pub route: String,
    /// Target whose limit it is; empty = of callers.
    pub target: String,
    /// Of models what is counted and in which window, as `total/1m`, of services its name; and `/shadow` where it refuses
    /// nothing.
    pub limit: String,
    counts: [AtomicU64; Decision::ALL.len()],
}

impl Decisions {
    pub(super) fn new(route: &str, target: &str, limit: String) -> Arc<Decisions> {
        Arc::new(Decisions { route: route.to_owned(), target: target.to_owned(), limit, counts: Default::default() })
    }

    /// How often it decided so.
    pub fn count(&self, decision: Decision) -> u64 {
        self.counts[decision.place()].load(Relaxed)
    }

    pub(super) fn add(&self, decision: Decision) {
        self.counts[decision.place()].fetch_add(1, Relaxed);
    }
}

/// Every limit that decided something.
#[derive(Debug, Default)]
pub(super) struct Register(ArcSwap<Vec<Arc<Decisions>>>);

impl Register {
    pub(super) fn all(&self) -> Arc<Vec<Arc<Decisions>>> {
        self.0.load_full()
    }

    /// Of a limit of a quota, added if it is new. Asked once for every key, not for every call.
    pub(super) fn of(&self, quota: &Quota<'_>, shape: &Shape) -> Arc<Decisions> {
        self.named(quota.route, quota.target.unwrap_or_default(), name(shape))
    }

    /// As [`Register::of`], by name.
    pub(super) fn named(&self, route: &str, target: &str, limit: String) -> Arc<Decisions> {
        let find = |known: &Vec<Arc<Decisions>>, (route, target, limit): (&str, &str, &str)| {
            let is_it = |one: &&Arc<Decisions>| one.route == route && one.target == target && one.limit == limit;
            known.iter().find(is_it).map(Arc::clone)
        };
        if let Some(found) = find(&self.0.load(), (route, target, &limit)) {
            return found;
        }
        self.0.rcu(|known| {
            let has_place = known.len() + 1 < LIMITS_MAX;
            let (route, target, limit) = if has_place { (route, target, limit.as_str()) } else { (OTHER, "", OTHER) };
            match find(known, (route, target, limit)) {
                Some(_) => Arc::clone(known),
                None => {
                    let added = Decisions::new(route, target, limit.to_owned());
                    Arc::new(known.iter().cloned().chain([added]).collect())
                }
            }
        });
        let known = self.0.load();
        let found = find(&known, (route, target, &limit)).or_else(|| find(&known, (OTHER, "", OTHER)));
        found.unwrap_or_else(|| Decisions::new(route, target, limit))
    }
}

/// As metrics and explanations name a limit.
pub(super) fn name(shape: &Shape) -> String {
    let of = shape.of.word();
    let window = match shape.window {
        _ if shape.of == Counted::Concurrent => String::new(),
        1_000 => "/1s".to_owned(),
        60_000 => "/1m".to_owned(),
        3_600_000 => "/1h".to_owned(),
        86_400_000 => "/1d".to_owned(),
        other => format!("/{other}ms"),
    };
    let mode = match shape.mode {
        LimitMode::Enforce => "",
        LimitMode::Shadow => "/shadow",
    };
    format!("{of}{window}{mode}")
}
