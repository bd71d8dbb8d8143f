//! Whether an instance can be used, as one worker found out: by its own calls (outlier detection) and by probing it
//! (active health check). Pure: time and chance are passed in, every change says why.
//!
//! Deliberately not here: warm-up, shared probing, success rates over windows.

mod limit;

use std::time::Duration;

pub use self::limit::{Permission, permission};
use crate::{
    drain::AVOIDED,
    model::policy::{HealthCheck, OutlierDetection},
    outcome::Outcome,
    retry::Failure,
};

/// What a call showed of the instance that took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It answered, and not with a gateway failure.
    Success,
    /// It answered 502, 503, 504 or gRPC UNAVAILABLE.
    GatewayFailure,
    /// It did not answer: no connection, reset, or too late.
    LocalOriginFailure,
}

/// What an attempt waited for when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// For the head of the answer, with the request sent.
    ForTheAnswer,
    /// For anything else.
    ForSomethingElse,
}

impl Seen {
    /// What a failed attempt shows, if it was the instance's fault.
    pub fn of_failure(outcome: Outcome, failure: Option<Failure>, waited: Waited) -> Option<Self> {
        match failure {
            // A connection that was closed while it was idle, or in order, says nothing; a status was seen already.
            Some(Failure::ReusedClosed | Failure::NotProcessed | Failure::Status(_)) => return None,
            Some(Failure::Connect | Failure::Reset | Failure::Lost | Failure::TryTimeout) | None => {}
        }
        match outcome {
            Outcome::ConnectFailed
            | Outcome::UpstreamReset
            | Outcome::UpstreamProtocol
            | Outcome::UpstreamIncomplete => Some(Seen::LocalOriginFailure),
            Outcome::Timeout => (waited == Waited::ForTheAnswer).then_some(Seen::LocalOriginFailure),
            Outcome::Success
            | Outcome::Closed
            | Outcome::Denied
            | Outcome::UnknownPolicy
            | Outcome::TlsRefused
            | Outcome::BadRequest
            | Outcome::HeadersTooLarge
            | Outcome::NoRoute
            | Outcome::NoEndpoints
            | Outcome::LaneMissing
            | Outcome::LaneUnhealthy
            | Outcome::ClientTimeout
            | Outcome::ClientGone
            | Outcome::Overloaded
            | Outcome::RateLimited
            | Outcome::NotReady
            | Outcome::Loop
            | Outcome::Filtered
            | Outcome::Internal => None,
        }
    }

    /// What an answer shows; `grpc_status` where the answer has one.
    pub fn of_answer(status: u16, grpc_status: Option<&[u8]>) -> Self {
        /// `UNAVAILABLE` of google.rpc.Code.
        const UNAVAILABLE: &[u8] = b"14";
        match (status, grpc_status) {
            (502..=504, _) | (_, Some(UNAVAILABLE)) => Seen::GatewayFailure,
            (_, None | Some(_)) => Seen::Success,
        }
    }
}

/// Whether an instance may be picked, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usability {
    /// Yes.
    Usable,
    /// By one exchange, which shows whether it is back: its time out is over.
    HalfOpen,
    /// No: that exchange is under way.
    OnTrial,
    /// No: calls to it failed.
    Ejected,
    /// No: probes of it fail.
    FailingHealth,
    /// No, while another can be used: its sidecar said that it drains.
    Draining,
}

impl Usability {
    /// Every state, in order of declaration.
    pub const ALL: [Usability; 6] = [
        Usability::Usable,
        Usability::HalfOpen,
        Usability::OnTrial,
        Usability::Ejected,
        Usability::FailingHealth,
        Usability::Draining,
    ];

    /// Whether a further exchange may pick it.
    pub fn allows(self) -> bool {
        match self {
            Usability::Usable | Usability::HalfOpen => true,
            Usability::OnTrial | Usability::Ejected | Usability::FailingHealth | Usability::Draining => false,
        }
    }

    /// Label for metrics and the admin page.
    pub fn label(self) -> &'static str {
        match self {
            Usability::Usable => "usable",
            Usability::HalfOpen => "half_open",
            Usability::OnTrial => "on_trial",
            Usability::Ejected => "ejected",
            Usability::FailingHealth => "failing_health",
            Usability::Draining => "draining",
        }
    }
}

/// Why an instance was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Answers that are gateway failures, in a row.
    GatewayFailures,
    /// Calls without answer, in a row.
    LocalOriginFailures,
    /// The exchange that tried it after its time out failed.
    TrialFailed,
}

impl Cause {
    /// Every cause, in order of declaration.
    pub const ALL: [Cause; 3] = [Cause::GatewayFailures, Cause::LocalOriginFailures, Cause::TrialFailed];

    /// Label for metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Cause::GatewayFailures => "gateway_failures",
            Cause::LocalOriginFailures => "local_origin_failures",
            Cause::TrialFailed => "trial_failed",
        }
    }
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing that matters to a pick.
    None,
    /// Out of traffic for so long.
    Ejected(Cause, Duration),
    /// It would have been ejected, but must stay: too many of its level are out, or nobody else would serve.
    Kept(Cause),
    /// Back after a successful trial or probe.
    Returned,
    /// Probes made it unhealthy.
    Failing,
    /// Probes made it healthy.
    Healthy,
    /// Its sidecar said that it drains.
    Draining,
}

/// Which exchange showed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// Any that was picked while the instance was usable.
    Ordinary,
    /// The one that tries an instance whose time out is over.
    Trial,
}

/// What is known of one instance. The default knows nothing: usable.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Instance {
    gateway_failures: u32,
    local_origin_failures: u32,
    standing: Standing,
    /// How often it was ejected lately.
    times: u32,
    probes: Probes,
    leaving: Option<Leaving>,
}

/// What the sidecar of an instance said of its end.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Leaving {
    /// Not believed any longer than this.
    until: Duration,
    /// Since when the instance was ready that said so; another time is another instance.
    ready_since: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Standing {
    #[default]
    NeverOut,
    In {
        since: Duration,
    },
    Out {
        since: Duration,
        until: Duration,
    },
    OnTrial {
        since: Duration,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Probes {
    is_failing: bool,
    failed: u32,
    succeeded: u32,
}

impl Instance {
    /// Whether it may be picked at `now`.
    pub fn usability(&self, now: Duration) -> Usability {
        if self.probes.is_failing {
            return Usability::FailingHealth;
        }
        if self.leaving.is_some_and(|leaving| now < leaving.until) {
            return Usability::Draining;
        }
        match self.standing {
            Standing::NeverOut | Standing::In { .. } => Usability::Usable,
            Standing::Out { until, .. } if now >= until => Usability::HalfOpen,
            Standing::Out { .. } => Usability::Ejected,
            Standing::OnTrial { .. } => Usability::OnTrial,
        }
    }

    /// Whether there is nothing to remember of it: forgetting it changes nothing.
    pub fn is_blank(&self, now: Duration, policy: &OutlierDetection) -> bool {
        let is_calm = self.gateway_failures == 0 && self.local_origin_failures == 0 && self.probes == Probes::default();
        let is_in = match self.standing {
            Standing::NeverOut => true,
            Standing::In { since } => self.forgiven(since, now, policy) >= self.times,
            Standing::Out { .. } | Standing::OnTrial { .. } => false,
        };
        let stays = self.leaving.is_none_or(|leaving| now >= leaving.until);
        is_calm && is_in && stays
    }

    /// Its sidecar said, in an answer, that it drains: no new exchange for [`AVOIDED`], as long as others can be used.
    /// `ready_since` is what the controller says of the instance.
    pub fn leaves(&mut self, now: Duration, ready_since: Option<u64>) -> Change {
        let is_known = self.leaving.is_some_and(|leaving| now < leaving.until);
        self.leaving = Some(Leaving { until: now + AVOIDED, ready_since });
        if is_known { Change::None } else { Change::Draining }
    }

    /// The controller says that an instance is there which is ready since then: what another one at the same address said
    /// of its end is forgotten.
    pub fn is_there(&mut self, ready_since: Option<u64>) {
        self.leaving = self.leaving.filter(|leaving| leaving.ready_since == ready_since);
    }

    /// Begins the trial of an instance that is [`Usability::HalfOpen`]; nobody else gets it until that ends.
    pub fn begin_trial(&mut self) {
        if let Standing::Out { since, .. } = self.standing {
            self.standing = Standing::OnTrial { since };
        }
    }

    /// The trial ended without showing anything (its client went away): the next exchange is one.
    pub fn abandon_trial(&mut self, now: Duration) {
        if let Standing::OnTrial { since } = self.standing {
            self.standing = Standing::Out { since, until: now };
        }
    }

    /// Takes in what a call showed. `jitter` is a uniform draw that lengthens a time out by up to a tenth; `permission`
    /// is asked when the instance is to be ejected.
    pub fn observe(
        &mut self,
        seen: Seen,
        exchange: Exchange,
        (now, jitter): (Duration, u64),
        policy: &OutlierDetection,
        permission: impl FnOnce() -> Permission,
    ) -> Change {
        match (self.standing, exchange) {
            (Standing::OnTrial { .. }, Exchange::Trial) => self.tried(seen, (now, jitter), policy),
            // Began before it was ejected, or ended after another trial: shows nothing new.
            (Standing::Out { .. } | Standing::OnTrial { .. }, _) => Change::None,
            (Standing::NeverOut | Standing::In { .. }, _) => {
                let Some(cause) = self.count(seen, policy) else { return Change::None };
                match permission() {
                    Permission::Granted => self.eject(cause, (now, jitter), policy),
                    Permission::Refused => Change::Kept(cause),
                }
            }
        }
    }

    /// Takes in the result of a probe that began at `begun`.
    pub fn probed(&mut self, result: ProbeResult, begun: Duration, now: Duration, check: &HealthCheck) -> Change {
        let probes = &mut self.probes;
        match result {
            ProbeResult::Failed => {
                (probes.failed, probes.succeeded) = (probes.failed.saturating_add(1), 0);
                if !probes.is_failing && probes.failed >= check.unhealthy_threshold {
                    probes.is_failing = true;
                    return Change::Failing;
                }
                Change::None
            }
            ProbeResult::Succeeded => {
                (probes.failed, probes.succeeded) = (0, probes.succeeded.saturating_add(1));
                if probes.is_failing {
                    if probes.succeeded < check.healthy_threshold {
                        return Change::None;
                    }
                    self.probes = Probes::default();
                    self.clear_failures();
                    self.come_back(now);
                    return Change::Healthy;
                }
                self.probes = Probes::default();
                match self.standing {
                    Standing::Out { since, .. } if begun >= since => {
                        self.come_back(now);
                        Change::Returned
                    }
                    Standing::Out { .. } | Standing::OnTrial { .. } | Standing::NeverOut | Standing::In { .. } => {
                        Change::None
                    }
                }
            }
        }
    }

    /// Forgets what probes showed: the service is not probed any more.
    pub fn forget_probes(&mut self) {
        self.probes = Probes::default();
    }

    fn tried(&mut self, seen: Seen, moment: (Duration, u64), policy: &OutlierDetection) -> Change {
        match seen {
            Seen::Success => {
                self.come_back(moment.0);
                Change::Returned
            }
            // It was out before: that it stays out takes nothing from its level.
            Seen::GatewayFailure | Seen::LocalOriginFailure => self.eject(Cause::TrialFailed, moment, policy),
        }
    }

    fn come_back(&mut self, now: Duration) {
        self.clear_failures();
        if matches!(self.standing, Standing::Out { .. } | Standing::OnTrial { .. }) {
            self.standing = Standing::In { since: now };
        }
    }

    fn clear_failures(&mut self) {
        (self.gateway_failures, self.local_origin_failures) = (0, 0);
    }

    /// The cause to eject it, if there are enough failures in a row now.
    fn count(&mut self, seen: Seen, policy: &OutlierDetection) -> Option<Cause> {
        let reached = |count: u32, limit: u32| limit > 0 && count >= limit;
        match seen {
            Seen::Success => {
                self.clear_failures();
                None
            }
            // An answer ends a row of calls without one.
            Seen::GatewayFailure => {
                self.local_origin_failures = 0;
                self.gateway_failures = self.gateway_failures.saturating_add(1);
                reached(self.gateway_failures, policy.consecutive_gateway_failures).then_some(Cause::GatewayFailures)
            }
            Seen::LocalOriginFailure => {
                self.local_origin_failures = self.local_origin_failures.saturating_add(1);
                reached(self.local_origin_failures, policy.consecutive_local_origin_failures)
                    .then_some(Cause::LocalOriginFailures)
            }
        }
    }

    fn eject(&mut self, cause: Cause, (now, jitter): (Duration, u64), policy: &OutlierDetection) -> Change {
        if let Standing::In { since } = self.standing {
            self.times = self.times.saturating_sub(self.forgiven(since, now, policy));
        }
        self.times = self.times.saturating_add(1);
        let length = policy.base_ejection_time.saturating_mul(self.times).min(policy.max_ejection_time);
        let length = length + length.mul_f64(JITTER * (jitter as f64 / u64::MAX as f64));
        self.clear_failures();
        self.standing = Standing::Out { since: now, until: now + length };
        Change::Ejected(cause, length)
    }

    /// One ejection is forgiven for every longest time out that it spent in traffic: what fails now and then is out ever
    /// longer, so that its level does not change all the time.
    fn forgiven(&self, since: Duration, now: Duration, policy: &OutlierDetection) -> u32 {
        let longest = policy.max_ejection_time.as_millis().max(1);
        u32::try_from(now.saturating_sub(since).as_millis() / longest).unwrap_or(u32::MAX)
    }
}

/// Greatest part by which chance lengthens a time out, so that many callers do not come back at once.
const JITTER: f64 = 0.1;

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// As expected.
    Succeeded,
    /// Not as expected, or not in time.
    Failed,
}

#[cfg(test)]
mod tests;
