//! What proxies report of the levels they called: `mesh.v1.LevelStatistics` ↔ [`Tally`].

use mesh_core::{lane::guard::Tally, model::lane::LaneRef};

use super::Invalid;
use crate::mesh::v1 as wire;

/// Most levels in one report.
pub const LEVELS_MAX: usize = 1_000;

/// Calls to one level of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// `<name>.<namespace>`.
    pub service: String,
    /// Lane whose instances served; `None` = baseline.
    pub lane: Option<LaneRef>,
    /// What the calls came to.
    pub tally: Tally,
}

impl Level {
    /// The message.
    pub fn to_wire(&self) -> wire::LevelStatistics {
        wire::LevelStatistics {
            service: self.service.clone(),
            lane: self.lane.as_ref().map(ToString::to_string).unwrap_or_default(),
            requests: self.tally.requests,
            failures: self.tally.failures,
            latency: self.tally.latency.to_vec(),
        }
    }

    /// Reads the message. More buckets than are known count in the last.
    ///
    /// # Errors
    /// Names the field.
    pub fn from_wire(message: &wire::LevelStatistics) -> Result<Self, Invalid> {
        let lane = match message.lane.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|error| Invalid::value("level_statistics.lane", error))?),
        };
        let mut tally = Tally { requests: message.requests, failures: message.failures, ..Tally::default() };
        for (at, count) in message.latency.iter().enumerate() {
            let last = tally.latency.len() - 1;
            let bucket = &mut tally.latency[at.min(last)];
            *bucket = bucket.saturating_add(*count);
        }
        Ok(Level { service: message.service.clone(), lane, tally })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_reads_back_as_it_was() {
        let mut tally = Tally { requests: 7, failures: 2, ..Tally::default() };
        tally.latency[3] = 7;
        for lane in [None, Some("shop/canary".parse().unwrap())] {
            let level = Level { service: "b.demo".to_owned(), lane, tally: tally.clone() };
            assert_eq!(Level::from_wire(&level.to_wire()), Ok(level));
        }
    }

    #[test]
    fn what_is_no_lane_is_named_and_surplus_buckets_lose_nothing() {
        let message = wire::LevelStatistics { lane: "no group".to_owned(), ..wire::LevelStatistics::default() };
        assert!(Level::from_wire(&message).unwrap_err().to_string().contains("level_statistics.lane"));
        let message = wire::LevelStatistics { latency: vec![1; 40], ..wire::LevelStatistics::default() };
        assert_eq!(Level::from_wire(&message).unwrap().tally.latency.iter().sum::<u64>(), 40);
    }
}
