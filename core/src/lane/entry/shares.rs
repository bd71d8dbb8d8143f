//! Which buckets belong to which lane of a group: disjoint, and laid out so that raising a share only adds users.
//!
//! Lanes with a share stand in order of (created, name), so that a new lane comes last. Each has a sequence of all buckets
//! that its rank alone decides: the first counts up from 0, the second down from 9,999, the third up from the middle, the
//! fourth down from a quarter, and so on (bit-reversed positions, directions in turn, round the end). In order of rank each
//! reserves the first free buckets of its sequence, up to the greatest share it will have (over its ramp); at a moment it
//! has as many of them, from the first on, as its share is.
//!
//! So a share that moves within its greatest one only adds or only gives back users, and one or two lanes never move a
//! user to another lane, whatever their shares, as long as both fit. With three and more, a greater greatest share may take
//! buckets on which a later lane had counted: that lane's users move, and only as many as collide. A lane that is closed
//! or promoted keeps its rank but reserves nothing.

use std::collections::BTreeSet;

use super::bucket::BUCKETS;
use crate::model::lane::{KeySource, Lane, LaneState, Share};

/// Greatest share of a lane, hundredths of a percent: over its whole ramp.
pub(crate) fn greatest(share: &Share) -> u32 {
    share.ramp.as_ref().map_or(share.value, |ramp| ramp.from.max(ramp.to))
}

/// Reserved buckets of every lane of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shares {
    /// Runs of buckets, disjoint, in order.
    runs: Vec<Run>,
    /// One lane of each set of lanes that look for the user's key in the same places, with the other lanes of the set.
    keys: Vec<(usize, BTreeSet<usize>)>,
}

/// Neighbouring buckets that one lane reserved one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: u16,
    last: u16,
    lane: u32,
    /// Buckets that the lane takes before those of this run.
    before: u16,
    direction: Direction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

impl Shares {
    pub(super) fn new(lanes: &[Lane]) -> Self {
        let mut ranked: Vec<(u64, &str, usize, &Share)> = lanes
            .iter()
            .enumerate()
            .filter_map(|(position, lane)| Some((lane.created, lane.name.as_str(), position, lane.share.as_ref()?)))
            .collect();
        ranked.sort_unstable_by_key(|(created, name, _, _)| (*created, *name));
        let (mut runs, mut free) = (Vec::new(), Free::default());
        let mut keys: Vec<(usize, BTreeSet<usize>)> = Vec::new();
        for (rank, (_, _, position, share)) in ranked.into_iter().enumerate() {
            match lanes[position].state {
                LaneState::Draft | LaneState::Active | LaneState::Draining => {}
                LaneState::Closed | LaneState::Promoted => continue,
            }
            free.reserve(rank, position as u32, greatest(share), &mut runs);
            let same = |lane: &usize| keys_of(&lanes[*lane]) == share.keys.as_slice();
            match keys.iter_mut().find(|(first, _)| same(first)) {
                Some((_, set)) => drop(set.insert(position)),
                None => keys.push((position, BTreeSet::from([position]))),
            }
        }
        runs.sort_unstable_by_key(|run| run.first);
        Shares { runs, keys }
    }

    /// Lanes that have the request in their share: `user` gives a key and its bucket as the lane at a position looks for
    /// it; `takes` says whether a lane takes as many buckets as lie before the user's.
    pub(super) fn find<K: Copy>(
        &self,
        user: impl Fn(usize) -> Option<(K, u16)>,
        takes: impl Fn(usize, u32) -> bool,
    ) -> Vec<(usize, (K, u16))> {
        let of_set = |(first, set): &(usize, BTreeSet<usize>)| {
            let (key, bucket) = user(*first)?;
            let (lane, offset) = self.owner(bucket)?;
            (set.contains(&lane) && takes(lane, offset)).then_some((lane, (key, bucket)))
        };
        self.keys.iter().filter_map(of_set).collect()
    }

    /// The lane that reserved a bucket, and how many of its buckets come before it.
    fn owner(&self, bucket: u16) -> Option<(usize, u32)> {
        let at = self.runs.partition_point(|run| run.last < bucket);
        let run = self.runs.get(at).filter(|run| run.first <= bucket)?;
        let within = match run.direction {
            Direction::Up => bucket - run.first,
            Direction::Down => run.last - bucket,
        };
        Some((run.lane as usize, u32::from(run.before) + u32::from(within)))
    }
}

fn keys_of(lane: &Lane) -> &[KeySource] {
    lane.share.as_ref().map_or(&[], |share| &share.keys)
}

/// Where the sequence of a rank begins, and which way it goes.
fn sequence(rank: usize) -> (u16, Direction) {
    let direction = if rank.is_multiple_of(2) { Direction::Up } else { Direction::Down };
    let start = match rank {
        0 => 0,
        1 => BUCKETS - 1,
        // 1/2, 1/4, 3/4, 1/8, … of the way: the bits of 1, 2, 3, 4, … behind the point, in reverse.
        rank => {
            let reversed = u64::from(((rank - 1) as u32).reverse_bits());
            ((reversed * u64::from(BUCKETS)) >> 32) as u16
        }
    };
    (start, direction)
}

/// Buckets that nobody has reserved.
struct Free {
    is_taken: Vec<bool>,
    left: u32,
}

impl Default for Free {
    fn default() -> Self {
        Free { is_taken: vec![false; usize::from(BUCKETS)], left: u32::from(BUCKETS) }
    }
}

impl Free {
    fn reserve(&mut self, rank: usize, lane: u32, count: u32, runs: &mut Vec<Run>) {
        let (start, direction) = sequence(rank);
        let (mut bucket, mut taken) = (start, 0);
        let count = count.min(self.left);
        while u32::from(taken) < count {
            if !std::mem::replace(&mut self.is_taken[usize::from(bucket)], true) {
                append(runs, Run { first: bucket, last: bucket, lane, before: taken, direction });
                taken += 1;
            }
            bucket = match direction {
                Direction::Up if bucket == BUCKETS - 1 => 0,
                Direction::Up => bucket + 1,
                Direction::Down if bucket == 0 => BUCKETS - 1,
                Direction::Down => bucket - 1,
            };
        }
        self.left -= count;
    }
}

/// Appends one bucket: to the last run of the lane where it is its neighbour.
fn append(runs: &mut Vec<Run>, one: Run) {
    let follows = |run: &&mut Run| {
        run.lane == one.lane
            && match one.direction {
                Direction::Up => run.last + 1 == one.first,
                Direction::Down => one.last + 1 == run.first,
            }
    };
    match runs.last_mut().filter(follows) {
        Some(run) => (run.first, run.last) = (run.first.min(one.first), run.last.max(one.last)),
        None => runs.push(one),
    }
}
