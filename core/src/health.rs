//! Whether an instance can be used, as one worker found out: by its own calls (outlier detection) and by probing it
//! (active health check). Pure: time and chance are passed in, every change says why.
//!
//! Deliberately not here: warm-up.

mod limit;
mod panic;
mod probes;
mod rate;
mod seen;
pub mod sharing;
mod usability;

use std::time::Duration;

use self::probes::Probes;
pub use self::{
    limit::{Permission, permission},
    panic::{Panic, widen},
    probes::{Acquaintance, ProbeResult, Probed, Traffic},
    rate::{Calls, Verdict, Window, judge},
    seen::{REST_MAX, Seen, Waited, wanted_rest},
    usability::Usability,
};
use crate::{drain::AVOIDED, model::policy::OutlierDetection};

/// Why an instance was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Answers that are gateway failures, in a row.
    GatewayFailures,
    /// Calls without answer, in a row.
    LocalOriginFailures,
    /// The exchange that tried it after its time out failed.
    TrialFailed,
    /// It succeeded clearly less often than the others.
    SuccessRate,
}

impl Cause {
    /// Every cause, in order of declaration.
    pub const ALL: [Cause; 4] =
        [Cause::GatewayFailures, Cause::LocalOriginFailures, Cause::TrialFailed, Cause::SuccessRate];

    /// Label for metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Cause::GatewayFailures => "gateway_failures",
            Cause::LocalOriginFailures => "local_origin_failures",
            Cause::TrialFailed => "trial_failed",
            Cause::SuccessRate => "success_rate",
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
    /// Left alone for so long, as it asked.
    Resting(Duration),
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
    /// Until when it counts as one that should be out and is not.
    kept_until: Option<Duration>,
    /// Until when it wants to be left alone.
    rests_until: Option<Duration>,
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
        /// When another exchange may try it.
        until: Duration,
    },
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
            Standing::NeverOut | Standing::In { .. } if lasts(self.rests_until, now) => Usability::Resting,
            Standing::NeverOut | Standing::In { .. } if lasts(self.kept_until, now) => Usability::Kept,
            Standing::NeverOut | Standing::In { .. } => Usability::Usable,
            Standing::Out { until, .. } if now >= until => Usability::HalfOpen,
            Standing::Out { .. } => Usability::Ejected,
            Standing::OnTrial { until, .. } if now >= until => Usability::HalfOpen,
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
        is_calm && is_in && stays && !lasts(self.rests_until, now) && !lasts(self.kept_until, now)
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

    /// Begins the trial of an instance that is [`Usability::HalfOpen`]; nobody else gets it until that ends, or has shown
    /// nothing for [`TRIAL_MAX`].
    pub fn begin_trial(&mut self, now: Duration) {
        if let Standing::Out { since, .. } | Standing::OnTrial { since, .. } = self.standing {
            self.standing = Standing::OnTrial { since, until: now + TRIAL_MAX };
        }
    }

    /// The trial ended without showing anything (its client went away): the next exchange is one.
    pub fn abandon_trial(&mut self, now: Duration) {
        if let Standing::OnTrial { since, .. } = self.standing {
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
                self.eject_if(permission(), cause, (now, jitter), policy)
            }
        }
    }

    /// It succeeds clearly less often than the others. `jitter` and `permission` as in [`Instance::observe`].
    pub fn falls_behind(
        &mut self,
        moment: (Duration, u64),
        policy: &OutlierDetection,
        permission: impl FnOnce() -> Permission,
    ) -> Change {
        match self.standing {
            Standing::Out { .. } | Standing::OnTrial { .. } => Change::None,
            Standing::NeverOut | Standing::In { .. } => self.eject_if(permission(), Cause::SuccessRate, moment, policy),
        }
    }

    /// It asks to be left alone for so long ([`wanted_rest`]); `permission` is asked as for an ejection.
    pub fn asks_for_rest(
        &mut self,
        now: Duration,
        length: Duration,
        permission: impl FnOnce() -> Permission,
    ) -> Change {
        match self.standing {
            // It is left alone already, and tried when that is over.
            Standing::Out { .. } | Standing::OnTrial { .. } => return Change::None,
            Standing::NeverOut | Standing::In { .. } => {}
        }
        let until = now + length;
        if lasts(self.rests_until, now) {
            self.rests_until = self.rests_until.max(Some(until));
            return Change::None;
        }
        match permission() {
            Permission::Granted => {
                self.rests_until = Some(until);
                Change::Resting(length)
            }
            Permission::Refused => Change::None,
        }
    }

    fn tried(&mut self, seen: Seen, moment: (Duration, u64), policy: &OutlierDetection) -> Change {
        match seen {
            Seen::Success | Seen::ServerError => {
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
        (self.gateway_failures, self.local_origin_failures, self.kept_until) = (0, 0, None);
    }

    /// The cause to eject it, if there are enough failures in a row now.
    fn count(&mut self, seen: Seen, policy: &OutlierDetection) -> Option<Cause> {
        let reached = |count: u32, limit: u32| limit > 0 && count >= limit;
        match seen {
            Seen::Success | Seen::ServerError => {
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

    fn eject_if(
        &mut self,
        permission: Permission,
        cause: Cause,
        moment: (Duration, u64),
        policy: &OutlierDetection,
    ) -> Change {
        match permission {
            Permission::Granted => self.eject(cause, moment, policy),
            Permission::Refused => {
                self.kept_until = Some(moment.0 + policy.base_ejection_time);
                Change::Kept(cause)
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

/// Whether what ends then goes on at `now`.
fn lasts(until: Option<Duration>, now: Duration) -> bool {
    until.is_some_and(|until| now < until)
}

/// So long one exchange alone tries an instance: one that waits for ever, or a stream that lasts for hours, must not keep it
/// out of traffic.
pub const TRIAL_MAX: Duration = Duration::from_secs(30);

/// Greatest part by which chance lengthens a time out, so that many callers do not come back at once.
const JITTER: f64 = 0.1;

#[cfg(test)]
mod tests;
