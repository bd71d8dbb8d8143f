//! What probes show of an instance: how many in a row decide, and when the next one is due.

use std::time::Duration;

use super::{Change, Instance, Standing};
use crate::model::policy::HealthCheck;

/// Shortest time between two probes of an instance, whatever a policy says.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// As expected.
    Succeeded,
    /// Not as expected, or not in time.
    Failed,
}

/// Whether a probe of an instance has succeeded before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquaintance {
    /// None has: the first result counts, whatever the thresholds say, since nobody knows that it ever served.
    New,
    /// One has, ours or somebody's who told us.
    Known,
}

/// Whether a service is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Traffic {
    /// Not for as long as the interval without traffic.
    None,
    /// It is.
    Flowing,
}

impl Traffic {
    /// What it is when the last call was so long ago.
    pub fn after(idle: Duration, check: &HealthCheck) -> Self {
        if idle < check.no_traffic_interval { Traffic::Flowing } else { Traffic::None }
    }
}

/// A probe that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probed {
    /// How it ended.
    pub result: ProbeResult,
    /// When it began.
    pub begun: Duration,
    /// What was known before it.
    pub acquaintance: Acquaintance,
}

/// What probes have shown. The default is that of an instance which passes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Probes {
    pub(super) is_failing: bool,
    failed: u32,
    succeeded: u32,
}

impl Instance {
    /// Takes in the result of a probe.
    pub fn probed(&mut self, probed: Probed, now: Duration, check: &HealthCheck) -> Change {
        let enough = |threshold: u32| match probed.acquaintance {
            Acquaintance::New => 1,
            Acquaintance::Known => threshold,
        };
        let probes = &mut self.probes;
        match probed.result {
            ProbeResult::Failed => {
                (probes.failed, probes.succeeded) = (probes.failed.saturating_add(1), 0);
                if !probes.is_failing && probes.failed >= enough(check.unhealthy_threshold) {
                    probes.is_failing = true;
                    return Change::Failing;
                }
                Change::None
            }
            ProbeResult::Succeeded => {
                (probes.failed, probes.succeeded) = (0, probes.succeeded.saturating_add(1));
                if probes.is_failing {
                    if probes.succeeded < enough(check.healthy_threshold) {
                        return Change::None;
                    }
                    return self.passes(now);
                }
                self.probes = Probes::default();
                match self.standing {
                    Standing::Out { since, .. } if probed.begun >= since => {
                        self.come_back(now);
                        Change::Returned
                    }
                    Standing::NeverOut | Standing::In { .. } => {
                        self.kept_until = None;
                        Change::None
                    }
                    Standing::Out { .. } | Standing::OnTrial { .. } => Change::None,
                }
            }
        }
    }

    /// Takes in what others who probe it found out, as often as they say it. Their success brings back an ejected instance
    /// as one's own does, once each of them must have probed it since.
    pub fn told(&mut self, verdict: ProbeResult, now: Duration, check: &HealthCheck) -> Change {
        match (verdict, self.probes.is_failing) {
            (ProbeResult::Failed, false) => {
                self.probes = Probes { is_failing: true, ..Probes::default() };
                Change::Failing
            }
            (ProbeResult::Succeeded, true) => self.passes(now),
            (ProbeResult::Succeeded, false) => match self.standing {
                Standing::Out { since, .. } if now >= since + round(check) => {
                    self.come_back(now);
                    Change::Returned
                }
                Standing::Out { .. } | Standing::OnTrial { .. } | Standing::NeverOut | Standing::In { .. } => {
                    Change::None
                }
            },
            (ProbeResult::Failed, true) => Change::None,
        }
    }

    /// Whether this verdict of others may change anything.
    pub fn heeds(&self, verdict: ProbeResult) -> bool {
        let is_out = match self.standing {
            Standing::Out { .. } => true,
            Standing::OnTrial { .. } | Standing::NeverOut | Standing::In { .. } => false,
        };
        is_out || self.verdict() != verdict
    }

    /// What probes show, all in all.
    pub fn verdict(&self) -> ProbeResult {
        if self.probes.is_failing { ProbeResult::Failed } else { ProbeResult::Succeeded }
    }

    /// Forgets what probes showed: the service is not probed any more.
    pub fn forget_probes(&mut self) {
        self.probes = Probes::default();
    }

    /// Time from the beginning of its last probe to the next one. `chance` is a uniform draw from 0 to 1.
    pub fn next_probe(&self, check: &HealthCheck, traffic: Traffic, chance: f64) -> Duration {
        let Probes { is_failing, failed, succeeded } = self.probes;
        let unhealthy = check.unhealthy_interval.unwrap_or(check.interval);
        let interval = match (traffic, is_failing) {
            (Traffic::None, _) => check.no_traffic_interval,
            (Traffic::Flowing, false) if failed > 0 => check.unhealthy_edge_interval.unwrap_or(unhealthy),
            (Traffic::Flowing, false) => check.interval,
            (Traffic::Flowing, true) if succeeded > 0 => check.healthy_edge_interval.unwrap_or(check.interval),
            (Traffic::Flowing, true) => unhealthy,
        };
        interval.max(INTERVAL_MIN).mul_f64(1.0 + f64::from(check.jitter) / 100.0 * chance)
    }

    fn passes(&mut self, now: Duration) -> Change {
        self.probes = Probes::default();
        self.clear_failures();
        self.come_back(now);
        Change::Healthy
    }
}

/// In such a time everyone who probes an instance has probed it, and the others know.
fn round(check: &HealthCheck) -> Duration {
    check.interval.max(INTERVAL_MIN).mul_f64(1.0 + f64::from(check.jitter) / 100.0) + check.timeout + WORD_MAX
}

/// So long the word of those who probe takes to the others at most.
const WORD_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
