//! The entry rules evaluated again on a call that an application makes, by what applications forward of the request that
//! they serve: headers, cookies, claims of the token. Only where a group asks for it.
//!
//! A guess that could differ from the entry's decision is not made: nothing is taken from what is absent, and nothing
//! from rules that come after one which needs more than is forwarded.

use super::{
    Prepared, Table, by_share_of, request,
    seen::{Look, Seen, Value},
    stains,
};
use crate::{
    fields::Fields,
    lane::{correlation::Label, entry::Asked},
    model::lane::{Condition, KeySource, Lane, LaneGroup, LaneState, Match, Subject},
    route::RequestParts,
};

/// The lane that the entry of the group at `position` gave the request to which a call with these fields belongs, at `now`
/// (Unix milliseconds); `None` = not known, or baseline.
pub fn again(
    (position, group): (usize, &LaneGroup),
    prepared: &Prepared,
    fields: &dyn Fields,
    now: u64,
) -> Option<Label> {
    let parts = RequestParts { method: "", host: "", path: "", query: None, fields };
    let asked = Asked::new(parts, None, None, None);
    let table = prepared.table(position, group);
    let lane = match by_rule(group, &table, &asked, now) {
        Answer::Lane(lane) => lane,
        Answer::Baseline => by_share(group, &table, &asked, now)?,
        Answer::Unknown => return None,
    };
    Some(Label { group: Some(group.name.clone()), lane: lane.name.clone() })
}

enum Answer<'g> {
    Lane(&'g Lane),
    Baseline,
    Unknown,
}

fn by_rule<'g>(group: &'g LaneGroup, table: &Table, asked: &Asked<'_>, now: u64) -> Answer<'g> {
    let seen = Seen::default();
    for (lane, looks) in table.rules(group) {
        let Some(rule) = lane.rule.as_ref().filter(|_| stains(lane, now)) else { continue };
        let (Match::Any(conditions) | Match::All(conditions)) = rule;
        let mut each = conditions.iter().zip(looks);
        let is_forwarded =
            |(condition, how): (&Condition, &Look)| is_forwarded(condition, || seen.value(*how, condition, asked));
        if !each.clone().all(is_forwarded) {
            return Answer::Unknown;
        }
        let holds = |one: (&Condition, &Look)| seen.holds(one, (group, lane), asked);
        let matched = match rule {
            Match::Any(_) => each.any(holds),
            Match::All(conditions) => !conditions.is_empty() && each.all(holds),
        };
        if matched {
            return Answer::Lane(lane);
        }
    }
    Answer::Baseline
}

/// Whether what the condition looks at stands in the call: an absent value may have been there at the entry.
fn is_forwarded<'r>(condition: &Condition, value: impl FnOnce() -> Value<'r>) -> bool {
    match condition.subject {
        Subject::Header | Subject::Cookie | Subject::Claim => match value() {
            Value::Absent => false,
            Value::One(_) | Value::Anew => true,
        },
        Subject::Query | Subject::Path | Subject::Method | Subject::SourceIp | Subject::Identity => false,
    }
}

/// As at the entry, where the first of the lane's keys is one that applications forward, and stands in the call.
fn by_share<'g>(group: &'g LaneGroup, table: &Table, asked: &Asked<'_>, now: u64) -> Option<&'g Lane> {
    let first_key = |lane: &'g Lane| {
        let key = lane.share.as_ref().and_then(|share| share.keys.first())?;
        match key {
            KeySource::Header(_) | KeySource::Cookie(_) | KeySource::Claim(_) => {
                request::key_value(key, asked).map(|value| (Some(key), value))
            }
            KeySource::Query(_) | KeySource::SourceIp | KeySource::TraceId => None,
        }
    };
    // With several sets of keys the order of rules decided among them; one that is not forwarded leaves that open.
    let shared = group.lanes.iter().filter(|lane| lane.share.is_some() && lane.state == LaneState::Active);
    if shared.clone().any(|lane| first_key(lane).is_none()) {
        return None;
    }
    by_share_of(group, table, now, &first_key).map(|(lane, ..)| lane)
}
