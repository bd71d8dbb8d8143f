//! What the conditions of a group look at in a request, looked up once, however many conditions look at it.

use std::cell::Cell;

use super::{
    condition,
    request::{self, Asked},
};
use crate::model::lane::{Condition, Lane, LaneGroup, Match, Subject};

/// Places that are remembered for a request; conditions that look at further ones look by themselves.
const KEPT: usize = 8;

/// The different places at which the rules of some lanes look, and which of them each condition looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// For each rule, how its conditions look.
    rules: Vec<Box<[Look]>>,
}

/// How a condition looks at a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// Number of the place.
    place: u32,
    /// Its bit; none for places beyond those that are remembered.
    bit: u32,
    /// Whether it holds where nothing is there.
    holds_for_none: bool,
}

impl Places {
    /// Numbers the places at which these lanes look; a lane without rule looks at none.
    pub(super) fn new<'l>(lanes: impl Iterator<Item = &'l Lane>) -> Self {
        let mut known: Vec<(Subject, &str)> = Vec::new();
        let mut number = |condition: &'l Condition| {
            let place = (condition.subject, condition.name.as_str());
            let at = known.iter().position(|one| *one == place).unwrap_or(known.len());
            if at == known.len() {
                known.push(place);
            }
            let bit = if at < KEPT { 1 << at } else { 0 };
            Look { place: at as u32, bit, holds_for_none: condition::holds_for_none(condition) }
        };
        let of_rule = |lane: &'l Lane| match &lane.rule {
            Some(Match::Any(conditions) | Match::All(conditions)) => conditions.iter().map(&mut number).collect(),
            None => Box::default(),
        };
        Places { rules: lanes.map(of_rule).collect() }
    }

    /// How the conditions of each rule look, in the order of the lanes.
    pub(super) fn rules(&self) -> impl Iterator<Item = &[Look]> {
        self.rules.iter().map(AsRef::as_ref)
    }
}

/// What stands at a place of a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'r> {
    /// Nothing.
    Absent,
    /// This alone.
    One(&'r [u8]),
    /// Several values, or one that has to be worked out again for whoever looks at it.
    Anew,
}

/// What stands at the places of one request, as far as somebody has looked.
#[derive(Default)]
pub(super) struct Seen<'r> {
    /// Places where nothing is, one bit each: most conditions of most groups end here.
    absent: Cell<u32>,
    values: [Cell<Option<Value<'r>>>; KEPT],
}

impl<'r> Seen<'r> {
    /// Whether a condition that looks in this way is worth a look.
    #[inline]
    pub(super) fn may_hold(&self, how: Look) -> bool {
        self.absent.get() & how.bit == 0 || how.holds_for_none
    }

    /// Whether a condition of this lane's rule holds.
    pub(super) fn holds(
        &self,
        (condition, how): (&Condition, &Look),
        lane: (&LaneGroup, &Lane),
        asked: &'r Asked<'_>,
    ) -> bool {
        if self.absent.get() & how.bit != 0 {
            return how.holds_for_none;
        }
        condition::holds(condition, lane, asked, self.value(*how, condition, asked))
    }

    /// What a condition finds that looks in this way.
    pub(super) fn value(&self, how: Look, condition: &Condition, asked: &'r Asked<'_>) -> Value<'r> {
        let Some(kept) = self.values.get(how.place as usize) else { return look(condition, asked) };
        if let Some(value) = kept.get() {
            return value;
        }
        let value = look(condition, asked);
        if let Value::Absent = value {
            self.absent.set(self.absent.get() | how.bit);
        }
        kept.set(Some(value));
        value
    }
}

fn look<'r>(condition: &Condition, asked: &'r Asked<'_>) -> Value<'r> {
    let name = condition.name.as_str();
    let mut value = Value::Absent;
    let mut found = |one: &'r [u8]| {
        value = match value {
            Value::Absent => Value::One(one),
            Value::One(_) | Value::Anew => Value::Anew,
        };
    };
    match condition.subject {
        Subject::Header => asked.parts.fields.each(name, &mut |one| found(one.trim_ascii())),
        Subject::Cookie => request::cookies(asked.parts.fields, name, &mut found),
        Subject::Path => found(asked.path().as_bytes()),
        Subject::Method => found(asked.parts.method.as_bytes()),
        Subject::Query | Subject::SourceIp | Subject::Identity | Subject::Claim => {
            let mut present = false;
            request::values(condition, asked, &mut |_| present = true);
            return if present { Value::Anew } else { Value::Absent };
        }
    }
    value
}
