//! Which target is asked: those that can serve, by lane, priority and weight; who rests comes last.

#[cfg(test)]
mod tests;

use std::{fmt, time::Duration};

use super::standing::{Standings, State};
use crate::{
    lane::Carried,
    model::model_route::{Can, ModelTarget, NamePattern, Reason, VirtualModel},
};

/// What a request needs of a target.
#[derive(Clone, Copy, Debug)]
pub struct Want<'a> {
    /// Name of the model as the caller wrote it.
    pub model: &'a str,
    /// Whether tools are to be called.
    pub tools: Can,
    /// Whether a JSON shape is asked for.
    pub json: Can,
    /// Whether images are sent.
    pub vision: Can,
    /// Tokens of prompt and answer together, estimated; 0 = unknown.
    pub tokens: u64,
    /// Lane of the request.
    pub lane: Option<&'a Carried>,
}

/// Why a target cannot serve a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unable {
    /// It was asked already.
    Tried,
    /// It belongs to a lane of which the request is none.
    Lane,
    /// It does not call tools.
    Tools,
    /// It cannot answer in a given JSON shape.
    Json,
    /// It reads no images.
    Vision,
    /// The request does not fit into its window.
    Window,
    /// Another target found the prompt too long, and this one is not known to take more.
    NoLongContext,
    /// Another target refused the content, and this one is not declared to take it.
    RefusedContent,
    /// It has weight 0.
    NoWeight,
    /// A broken stream is to be gone on with, and it is not declared to do so.
    Prefill,
    /// It cannot be spoken to in this API.
    Api,
    /// A limit of its own is used up.
    Limit,
    /// Its credential cannot be read.
    Credential,
}

impl Unable {
    /// As `explain` and logs write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Unable::Tried => "asked already",
            Unable::Lane => "belongs to another lane",
            Unable::Tools => "cannot call tools",
            Unable::Json => "cannot answer in a JSON shape",
            Unable::Vision => "cannot read images",
            Unable::Window => "the request does not fit its window",
            Unable::NoLongContext => "not known to take longer prompts",
            Unable::RefusedContent => "not declared to take refused content",
            Unable::NoWeight => "has weight 0",
            Unable::Prefill => "not declared to go on with what another began",
            Unable::Api => "cannot be spoken to in this API",
            Unable::Limit => "its limit is used up",
            Unable::Credential => "its credential cannot be read",
        }
    }
}

/// Why a target was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Best by lane, priority and weight.
    Order,
    /// It finds out whether a target that rested serves again.
    Trial,
    /// All rest; it does so for the shortest time.
    LeastBad,
    /// The ones before it are slow.
    Slow,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Order => "first by priority and weight",
            Why::Trial => "tried after a rest",
            Why::LeastBad => "all rest; this one for the shortest time",
            Why::Slow => "the ones before it are slow",
        })
    }
}

/// The target that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Place among the model's targets.
    pub target: usize,
    /// Why.
    pub why: Why,
}

/// What came before in the same exchange, and what only the caller knows.
#[derive(Clone, Copy)]
pub struct Before<'a> {
    /// Targets that were asked.
    pub tried: &'a [usize],
    /// Reason of the last failure.
    pub last: Option<Reason>,
    /// Greatest window of those that found the prompt too long.
    pub window: Option<u64>,
    /// Why else a target cannot serve, if so.
    pub bars: &'a dyn Fn(usize, &ModelTarget) -> Option<Unable>,
}

impl VirtualModel {
    /// Whether it is called `model`; the higher, the more exactly. `None` = it is not.
    pub fn fits(&self, model: &str) -> Option<usize> {
        match &self.name {
            NamePattern::Exact(name) => (name == model).then_some(usize::MAX),
            NamePattern::Prefix(prefix) => model.starts_with(prefix.as_str()).then_some(prefix.len() + 1),
            NamePattern::Any => Some(0),
        }
    }
}

impl ModelTarget {
    /// The model's name at this target, if callers write `model`.
    pub fn model_name<'a>(&'a self, model: &'a str) -> &'a str {
        self.model.as_deref().unwrap_or(model)
    }
}

/// How a target stands.
#[derive(Clone, Copy, Debug)]
pub struct Stands {
    /// Whether it may be asked.
    pub state: State,
    /// Share of its weight that it is worth, 0.05 to 1.
    pub share: f64,
}

/// A target that can serve, and how it stands.
struct Able {
    place: usize,
    /// Lower is asked first: targets of the request's lane, then by priority.
    rank: (bool, u32),
    stands: Stands,
}

impl Able {
    fn is_open(&self) -> bool {
        !matches!(self.stands.state, State::Resting { .. })
    }
}

/// Chooses; `None` where nobody is left. `random` is a uniform number.
pub fn choose(
    (route, model): (&str, &VirtualModel),
    standings: &Standings,
    want: &Want<'_>,
    before: Before<'_>,
    random: u64,
    now: Duration,
) -> Option<Choice> {
    let stands = |place: usize| {
        let target = &model.targets[place];
        let state = standings.state(target, target.model_name(want.model), now);
        Stands { state, share: standings.share(route, target) }
    };
    choose_by(model, &stands, want, before, random, now)
}

/// As [`choose`], of targets that stand so at `now`: each that can serve is asked for once, by its place.
pub fn choose_by(
    model: &VirtualModel,
    stands: &dyn Fn(usize) -> Stands,
    want: &Want<'_>,
    before: Before<'_>,
    random: u64,
    now: Duration,
) -> Option<Choice> {
    let able: Vec<Able> = model
        .targets
        .iter()
        .enumerate()
        .filter(|(place, _)| unable(model, *place, want, before).is_none())
        .map(|(place, target)| Able { place, rank: (target.lane.is_none(), target.priority), stands: stands(place) })
        .collect();
    let open = || able.iter().filter(|one| one.is_open());
    let (mut why, mut rank) = (Why::Order, open().map(|one| one.rank).min());
    while let Some(current) = rank {
        let group = || open().filter(|one| one.rank == current);
        if let Some(trial) = group().find(|one| one.stands.state == State::Trial) {
            return Some(Choice { target: trial.place, why: Why::Trial });
        }
        let best = group().map(|one| one.stands.share).fold(0.0, f64::max);
        let next = open().map(|one| one.rank).filter(|rank| *rank > current).min();
        if next.is_some() && unit(random) >= best {
            (why, rank) = (Why::Slow, next);
            continue;
        }
        let weighed = group().map(|one| (one.place, f64::from(model.targets[one.place].weight) * one.stands.share));
        return draw(weighed, unit(random.rotate_left(32))).map(|target| Choice { target, why });
    }
    let until = |one: &&Able| match one.stands.state {
        State::Resting { until, .. } => (until, one.rank),
        State::Ready | State::Trial => (now, one.rank),
    };
    able.iter().min_by_key(until).map(|one| Choice { target: one.place, why: Why::LeastBad })
}

/// Why a target cannot serve, if so.
pub fn unable(model: &VirtualModel, place: usize, want: &Want<'_>, before: Before<'_>) -> Option<Unable> {
    let target = &model.targets[place];
    let can = target.capabilities;
    let lacks = |needed: Can, able: Can| needed == Can::Yes && able == Can::No;
    if before.tried.contains(&place) {
        return Some(Unable::Tried);
    }
    if target.lane.as_deref().is_some_and(|lane| !want.lane.is_some_and(|carried| is_of(carried, lane))) {
        return Some(Unable::Lane);
    }
    let missing = [
        (lacks(want.tools, can.tools), Unable::Tools),
        (lacks(want.json, can.json), Unable::Json),
        (lacks(want.vision, can.vision), Unable::Vision),
        (target.weight == 0, Unable::NoWeight),
        (target.context_window.is_some_and(|window| want.tokens > window), Unable::Window),
    ];
    if let Some((_, unable)) = missing.into_iter().find(|(is_missing, _)| *is_missing) {
        return Some(unable);
    }
    match before.last {
        Some(Reason::Context) => {
            let wider = target.context_window.is_some_and(|window| before.window.is_some_and(|least| window > least));
            if can.long_context == Can::No && !wider {
                return Some(Unable::NoLongContext);
            }
        }
        Some(Reason::ContentFilter) if can.refused_content == Can::No => return Some(Unable::RefusedContent),
        Some(_) | None => {}
    }
    (before.bars)(place, target)
}

/// Whether a request's label is the lane `<group>/<lane>`.
fn is_of(carried: &Carried, lane: &str) -> bool {
    let (group, name) = lane.split_once('/').unwrap_or(("", lane));
    let is_group = |of: &crate::model::lane::LaneName| group.is_empty() || of.as_str() == group;
    carried.lane.as_str() == name && carried.group.as_ref().is_none_or(is_group)
}

/// A number of `[0, 1)` out of a uniform one.
fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1u64 << 53) as f64
}

/// One of these places, by its weight.
fn draw(weighed: impl Iterator<Item = (usize, f64)> + Clone, at: f64) -> Option<usize> {
    let total: f64 = weighed.clone().map(|(_, weight)| weight).sum();
    let mut left = at * total;
    for (place, weight) in weighed.clone() {
        if left < weight {
            return Some(place);
        }
        left -= weight;
    }
    weighed.map(|(place, _)| place).last()
}
