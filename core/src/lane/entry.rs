//! The entry: whether a request that carries no label is stained, and to which lane.
//!
//! Rules first, in order of priority (greater first, then name), the first that matches wins; then the shares. Nothing is
//! drawn at random: every proxy, in every version and after every restart, decides the same request in the same way.
//! Only lanes that are active at the moment stain. [`Prepared`] is what is worked out once per change of the groups.

mod again;
mod bucket;
mod condition;
mod ramp;
mod request;
mod seen;
mod shares;

use std::{borrow::Cow, cmp::Reverse, fmt};

pub use self::{
    again::again,
    bucket::{BUCKETS, bucket, hash},
    ramp::share_at,
    request::Asked,
};
use self::{
    request::key_value,
    seen::{Look, Places, Seen},
    shares::Shares,
};
pub(crate) use self::{
    request::{cookies, parameters},
    shares::greatest,
};
use super::{Carried, Source};
use crate::model::lane::{Condition, KeySource, Lane, LaneGroup, LaneName, LaneState, Match};

/// Where a request is decided.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// At a gateway: for groups of which it is an entry itself (`own`, its services), of which the called service is
    /// one, and for those that name no entry.
    Gateway {
        /// Services (`<name>.<namespace>`) of the gateway.
        own: &'a [String],
        /// Service that is called.
        called: &'a str,
    },
    /// At the sidecar of an entry service, for what reaches its application. `decided` are the groups that the caller's
    /// proxy has decided already, names separated by commas: they are never decided twice.
    Service {
        /// Services of the workload.
        own: &'a [String],
        /// Value of [`crate::names::DECIDED_HEADER`]; empty where there is none.
        decided: &'a str,
    },
}

impl Place<'_> {
    /// Whether requests of the group are decided here.
    pub fn decides(&self, group: &LaneGroup) -> bool {
        let is_entry = |label: &String| group.entries.contains(label);
        match self {
            Place::Gateway { own, called } => {
                group.entries.is_empty() || group.entries.contains(*called) || own.iter().any(is_entry)
            }
            Place::Service { own, decided } => {
                own.iter().any(is_entry)
                    && !decided.split(',').any(|name| name.trim_matches(' ') == group.name.as_str())
            }
        }
    }
}

/// Names of the groups that are decided here, for the next proxy; `None` where there are none.
pub fn decided(groups: &[LaneGroup], place: Place<'_>) -> Option<String> {
    let names: Vec<&str> =
        groups.iter().filter(|group| place.decides(group)).map(|group| group.name.as_str()).collect();
    (!names.is_empty()).then(|| names.join(","))
}

/// A request that is stained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stained<'g> {
    /// The label that it gets.
    pub carried: Carried,
    /// Why.
    pub why: Why<'g>,
}

/// Why a request is stained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why<'g> {
    /// The rule of the lane holds.
    Rule {
        /// The lane.
        lane: &'g LaneName,
        /// The condition that did, of a rule of which any is enough; `None` = all of them.
        condition: Option<&'g Condition>,
    },
    /// The user falls into the share of the lane.
    Share {
        /// The lane.
        lane: &'g LaneName,
        /// Where the user's key stood; `None` = none of the lane's keys was there, the trace id stood in.
        key: Option<&'g KeySource>,
        /// Bucket of the user, below [`BUCKETS`].
        bucket: u16,
        /// Share of the lane at that moment, hundredths of a percent.
        share: u32,
    },
}

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Rule { lane, condition: None } => write!(f, "rule of {lane}: all conditions hold"),
            Why::Rule { lane, condition: Some(condition) } => write!(f, "rule of {lane}: {condition}"),
            Why::Share { lane, key, bucket, share } => {
                write!(f, "share of {lane}: ")?;
                match key {
                    Some(key) => write!(f, "key {key}")?,
                    None => write!(f, "no key, trace id instead")?,
                }
                write!(f, ", bucket {bucket}, share {}.{:02} %", share / 100, share % 100)
            }
        }
    }
}

/// What is worked out once for the groups of a snapshot: order of rules, and which buckets belong to which lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    groups: Vec<Table>,
}

/// What is worked out for one group.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Table {
    group: LaneName,
    revision: u64,
    /// Positions of the lanes that have a rule or a share, in the order in which they are asked.
    order: Vec<u32>,
    /// At what their rules look, in the same order.
    places: Places,
    shares: Shares,
}

impl Prepared {
    /// Works out the tables.
    pub fn new(groups: &[LaneGroup]) -> Self {
        Prepared { groups: groups.iter().map(Table::new).collect() }
    }

    /// The table of the group at `position`, worked out now where it was made for another revision.
    fn table(&self, position: usize, group: &LaneGroup) -> Cow<'_, Table> {
        let fits = |table: &&Table| table.revision == group.revision && table.group == group.name;
        match self.groups.get(position).filter(fits) {
            Some(table) => Cow::Borrowed(table),
            None => Cow::Owned(Table::new(group)),
        }
    }
}

impl Table {
    /// The lanes in the order in which they are asked, and how the conditions of their rules look.
    fn rules<'g, 't>(&'t self, group: &'g LaneGroup) -> impl Iterator<Item = (&'g Lane, &'t [Look])> {
        let lanes = self.order.iter().map(|position| group.lanes.get(*position as usize));
        lanes.zip(self.places.rules()).filter_map(|(lane, looks)| Some((lane?, looks)))
    }

    fn new(group: &LaneGroup) -> Self {
        let lanes = || group.lanes.iter().zip(0_u32..);
        let mut order: Vec<(Reverse<u32>, &LaneName, u32)> = lanes()
            .filter(|(lane, _)| lane.rule.is_some() || lane.share.is_some())
            .map(|(lane, position)| (Reverse(lane.priority), &lane.name, position))
            .collect();
        order.sort_unstable();
        let order: Vec<u32> = order.into_iter().map(|(_, _, position)| position).collect();
        Table {
            group: group.name.clone(),
            revision: group.revision,
            places: Places::new(order.iter().map(|position| &group.lanes[*position as usize])),
            order,
            shares: Shares::new(&group.lanes),
        }
    }
}

/// Decides for a request without label, at `now` (Unix milliseconds): the first group that stains it does. `None` =
/// baseline. A request that has none of the keys of a lane's share, and no trace id either, is not in the share.
pub fn decide<'g>(
    groups: &'g [LaneGroup],
    prepared: &Prepared,
    place: Place<'_>,
    asked: &Asked<'_>,
    now: u64,
) -> Option<Stained<'g>> {
    let stain = |(position, group): (usize, &'g LaneGroup)| {
        let table = prepared.table(position, group);
        let why = by_rule(group, &table, asked, now).or_else(|| by_share(group, &table, asked, now))?;
        let lane = match why {
            Why::Rule { lane, .. } | Why::Share { lane, .. } => lane.clone(),
        };
        let group = (groups.len() > 1).then(|| group.name.clone());
        Some(Stained { carried: Carried { group, lane, source: Source::Entry }, why })
    };
    groups.iter().enumerate().filter(|(_, group)| place.decides(group)).find_map(stain)
}

/// Whether the lane takes new requests at `now`.
fn stains(lane: &Lane, now: u64) -> bool {
    lane.state == LaneState::Active && lane.ends.is_none_or(|end| now < end)
}

fn by_rule<'g>(group: &'g LaneGroup, table: &Table, asked: &Asked<'_>, now: u64) -> Option<Why<'g>> {
    let seen = Seen::default();
    table.rules(group).find_map(|(lane, looks)| {
        let rule = lane.rule.as_ref().filter(|_| stains(lane, now))?;
        let holds = |one: (&Condition, &Look)| seen.holds(one, (group, lane), asked);
        let condition = match rule {
            Match::Any(conditions) => {
                let mut looks = looks.iter().zip(conditions);
                Some(looks.find(|&(how, condition)| seen.may_hold(*how) && holds((condition, how)))?.1)
            }
            Match::All(conditions) if conditions.is_empty() || !conditions.iter().zip(looks).all(holds) => {
                return None;
            }
            Match::All(_) => None,
        };
        Some(Why::Rule { lane: &lane.name, condition })
    })
}

fn by_share<'g>(group: &'g LaneGroup, table: &Table, asked: &Asked<'_>, now: u64) -> Option<Why<'g>> {
    let (lane, key, bucket) = by_share_of(group, table, now, &|lane| user(lane, asked))?;
    Some(Why::Share { lane: &lane.name, key, bucket, share: share_of(lane, now) })
}

fn share_of(lane: &Lane, now: u64) -> u32 {
    lane.share.as_ref().map_or(0, |share| share_at(share, now))
}

/// Where a user's key stood, and the key.
type User<'g, 'r> = (Option<&'g KeySource>, Cow<'r, [u8]>);

/// The lane in whose share the user is, whose key `user` finds as a lane looks for it, with place and bucket of the key.
fn by_share_of<'g, 'r>(
    group: &'g LaneGroup,
    table: &Table,
    now: u64,
    user: &dyn Fn(&'g Lane) -> Option<User<'g, 'r>>,
) -> Option<(&'g Lane, Option<&'g KeySource>, u16)> {
    let user = |position: usize| {
        let (key, value) = user(group.lanes.get(position)?)?;
        Some((key, bucket(&group.salt, &value)))
    };
    let takes = |position: usize, before: u32| {
        group.lanes.get(position).is_some_and(|lane| before < share_of(lane, now) && stains(lane, now))
    };
    // Lanes that look for the key in different places may both want the request: the order of rules decides.
    let rank = |position: usize| table.order.iter().position(|one| *one as usize == position);
    let found = table.shares.find(user, takes);
    let (position, (key, bucket)) = found.into_iter().min_by_key(|(position, _)| rank(*position))?;
    Some((group.lanes.get(position)?, key, bucket))
}

/// Key of the user, as the lane's share looks for it.
fn user<'g, 'r>(lane: &'g Lane, asked: &'r Asked<'_>) -> Option<User<'g, 'r>> {
    let keys = lane.share.as_ref().map_or(&[][..], |share| &share.keys);
    let found = keys.iter().find_map(|key| key_value(key, asked).map(|value| (Some(key), value)));
    found.or_else(|| key_value(&KeySource::TraceId, asked).map(|value| (None, value)))
}
