//! Transitions of instances, as events: those that sidecars tell of themselves, and those that callers observe.

use crate::health::Usability;

/// What happened to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It was registered with a registry on its behalf.
    Registered,
    /// Its registration was taken back.
    Deregistered,
    /// Its sidecar is not ready, or its application.
    NotReady,
    /// Its sidecar is ready.
    Ready,
    /// Its sidecar was ordered to drain by somebody at the console.
    DrainOrdered,
    /// Its sidecar drains.
    Draining,
    /// Nothing comes in at its sidecar any more.
    Drained,
    /// Its sidecar has ended after it drained.
    Left,
    /// Its sidecar is not connected any more and had not said why.
    Lost,
    /// A caller ejected it.
    Ejected,
    /// Probes of a caller fail.
    FailingHealth,
    /// A caller uses it again.
    Recovered,
    /// A caller gives it part of its weight.
    WarmUpStarted,
    /// A caller gives it its whole weight.
    WarmUpEnded,
}

impl Kind {
    /// Every kind, in order of declaration.
    pub const ALL: [Kind; 14] = [
        Kind::Registered,
        Kind::Deregistered,
        Kind::NotReady,
        Kind::Ready,
        Kind::DrainOrdered,
        Kind::Draining,
        Kind::Drained,
        Kind::Left,
        Kind::Lost,
        Kind::Ejected,
        Kind::FailingHealth,
        Kind::Recovered,
        Kind::WarmUpStarted,
        Kind::WarmUpEnded,
    ];

    /// For people and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Registered => "registered",
            Kind::Deregistered => "deregistered",
            Kind::NotReady => "not_ready",
            Kind::Ready => "ready",
            Kind::DrainOrdered => "drain_ordered",
            Kind::Draining => "draining",
            Kind::Drained => "drained",
            Kind::Left => "left",
            Kind::Lost => "lost",
            Kind::Ejected => "ejected",
            Kind::FailingHealth => "failing_health",
            Kind::Recovered => "recovered",
            Kind::WarmUpStarted => "warm_up_started",
            Kind::WarmUpEnded => "warm_up_ended",
        }
    }
}

/// How a caller has an instance that it does not use as any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// It has part of its weight.
    Warming,
    /// It is used although calls to it fail: its level needs it.
    Kept,
    /// It asked to be left alone for a while.
    Resting,
    /// It is tried by one exchange.
    Trying,
    /// Its sidecar said that it drains.
    Draining,
    /// Calls to it failed.
    Ejected,
    /// Probes of it fail.
    FailingHealth,
}

impl Seen {
    /// What a usability means to whoever looks on; `None` = it is used as any other.
    pub fn of(usability: Usability) -> Option<Seen> {
        match usability {
            Usability::Usable => None,
            Usability::Kept => Some(Seen::Kept),
            Usability::HalfOpen | Usability::OnTrial => Some(Seen::Trying),
            Usability::Resting => Some(Seen::Resting),
            Usability::Ejected => Some(Seen::Ejected),
            Usability::FailingHealth => Some(Seen::FailingHealth),
            Usability::Draining => Some(Seen::Draining),
        }
    }

    /// For people.
    pub fn label(self) -> &'static str {
        match self {
            Seen::Warming => "warming",
            Seen::Kept => "kept",
            Seen::Resting => "resting",
            Seen::Trying => "on_trial",
            Seen::Draining => "draining",
            Seen::Ejected => "ejected",
            Seen::FailingHealth => "failing_health",
        }
    }

    fn is_out(self) -> bool {
        match self {
            Seen::Kept | Seen::Ejected | Seen::Trying | Seen::FailingHealth => true,
            Seen::Warming | Seen::Resting | Seen::Draining => false,
        }
    }
}

/// What it means that a caller has an instance otherwise than before; `None` = as any other. Who drains says so itself.
pub fn observed(before: Option<Seen>, after: Option<Seen>) -> Vec<Kind> {
    if before == after {
        return Vec::new();
    }
    let was_out = before.is_some_and(Seen::is_out);
    match after {
        Some(Seen::Ejected) => vec![Kind::Ejected],
        Some(Seen::FailingHealth) => vec![Kind::FailingHealth],
        Some(Seen::Kept | Seen::Resting | Seen::Trying | Seen::Draining) => Vec::new(),
        Some(Seen::Warming) if was_out => vec![Kind::Recovered, Kind::WarmUpStarted],
        Some(Seen::Warming) => vec![Kind::WarmUpStarted],
        None if was_out => vec![Kind::Recovered],
        None if before == Some(Seen::Warming) => vec![Kind::WarmUpEnded],
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_callers_observe_becomes_events() {
        use Seen::{Draining, Ejected, FailingHealth, Trying, Warming};
        for (before, after, expected) in [
            (None, Some(Ejected), vec![Kind::Ejected]),
            (Some(Ejected), Some(Trying), vec![]),
            (Some(Trying), Some(Ejected), vec![Kind::Ejected]),
            (Some(Trying), None, vec![Kind::Recovered]),
            (None, Some(FailingHealth), vec![Kind::FailingHealth]),
            (Some(FailingHealth), Some(Warming), vec![Kind::Recovered, Kind::WarmUpStarted]),
            (None, Some(Warming), vec![Kind::WarmUpStarted]),
            (Some(Warming), Some(Warming), vec![]),
            (Some(Warming), None, vec![Kind::WarmUpEnded]),
            (Some(Warming), Some(Draining), vec![]),
            (Some(Draining), None, vec![]),
        ] {
            assert_eq!(observed(before, after), expected, "{before:?} {after:?}");
        }
    }
}
