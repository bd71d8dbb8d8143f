//! What of its weight each candidate has for one exchange, while some of them warm up.

use super::{applies, cap, share, weighed};
use crate::{
    model::{endpoint::WEIGHT_ONE, policy::WarmUp},
    pick::scale,
};

/// Candidates whose exchanges are counted to know how many others have.
const SAMPLE: usize = 16;

/// Whether candidates have parts of their weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No candidate is new.
    NobodyNew,
    /// Half of them are new, or more: all have their whole weight.
    HalfNew,
    /// New ones have a part.
    Warming,
}

/// What parts are worked out from, for one exchange.
pub struct Level<'a> {
    /// Positions that may be used, in ascending order.
    pub candidates: &'a [usize],
    /// Weight of a position.
    pub weight: &'a dyn Fn(usize) -> u32,
    /// Exchanges under way at a position.
    pub in_flight: &'a dyn Fn(usize) -> u32,
    /// A uniform draw.
    pub random: u64,
}

/// Parts of new candidates, in order of positions; the room is used again for the next exchange.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    new: Vec<Part>,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    position: usize,
    share: u32,
    room: Room,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// It may have a further exchange.
    Left,
    /// It has as many as it may have.
    None,
}

impl Parts {
    /// Works the parts out at `now`; `warming` are positions with their starts, in order (Unix milliseconds).
    pub fn work_out(&mut self, policy: &WarmUp, warming: &[(usize, u64)], now: u64, level: &Level<'_>) -> Reason {
        self.new.clear();
        // Shares cost a power each: none is needed where too many are new.
        let length = u64::try_from(policy.duration.as_millis()).unwrap_or(u64::MAX);
        let is_new = |(position, start): &&(usize, u64)| {
            now.saturating_sub(*start) < length && level.candidates.binary_search(position).is_ok()
        };
        let count = warming.iter().filter(is_new).count();
        if count > 0 && !applies(count, level.candidates.len()) {
            return Reason::HalfNew;
        }
        for (position, start) in warming.iter().filter(is_new) {
            let share = share(policy, now.saturating_sub(*start));
            if share < WEIGHT_ONE {
                self.new.push(Part { position: *position, share, room: Room::Left });
            }
        }
        if self.new.is_empty() {
            return Reason::NobodyNew;
        }
        let per_weight = self.per_weight(level);
        for part in &mut self.new {
            let most = cap((level.weight)(part.position), part.share, per_weight);
            part.room = if (level.in_flight)(part.position) < most { Room::Left } else { Room::None };
        }
        Reason::Warming
    }

    /// Weight of a position now; 0 where it has as many exchanges as it may have.
    pub fn weight(&self, position: usize, weight: u32) -> u32 {
        match self.find(position) {
            Some(Part { room: Room::None, .. }) => 0,
            Some(Part { share, room: Room::Left, .. }) => weighed(weight, *share),
            None => weight,
        }
    }

    /// As [`Parts::weight`], however many exchanges it has.
    pub fn weight_without_cap(&self, position: usize, weight: u32) -> u32 {
        self.find(position).map_or(weight, |part| weighed(weight, part.share))
    }

    /// Whether a position has part of its weight only.
    pub fn is_new(&self, position: usize) -> bool {
        self.find(position).is_some()
    }

    fn find(&self, position: usize) -> Option<&Part> {
        self.new.binary_search_by_key(&position, |part| part.position).ok().map(|at| &self.new[at])
    }

    /// Exchanges under way at candidates that are not new, for each 1.0 of weight, by a sample. The one that is to be placed
    /// counts, so that a quiet level leaves room.
    fn per_weight(&self, level: &Level<'_>) -> f64 {
        let start = scale(level.random, level.candidates.len() as u64).unwrap_or(0) as usize;
        let around = level.candidates.iter().cycle().skip(start).take(level.candidates.len());
        let (mut under_way, mut weight) = (1.0, 0.0);
        for position in around.filter(|position| !self.is_new(**position)).take(SAMPLE) {
            under_way += f64::from((level.in_flight)(*position));
            weight += f64::from((level.weight)(*position)) / f64::from(WEIGHT_ONE);
        }
        if weight > 0.0 { under_way / weight } else { 0.0 }
    }
}
