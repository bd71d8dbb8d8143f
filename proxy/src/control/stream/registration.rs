//! Readiness waits until the workload is registered where the controller registers it: whoever waits for this pod before
//! the next one is stopped would otherwise leave callers without either. The wait is bounded: a registry that is away keeps
//! nobody from serving.

use std::{collections::BTreeSet, time::Duration};

use mesh_core::lifecycle::Registration;
use tokio::{sync::watch, time::Instant};

/// Missing while the workload is not registered.
pub(super) const MISSING_REGISTRATION: &str = "registration";
/// Longest wait, whatever the controller says.
const WAIT_MAX: Duration = Duration::from_secs(2 * 3_600);

/// Whether readiness waits for the registration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Waiting {
    /// Nobody has registered it, and nobody said that it would be.
    #[default]
    NotYet,
    /// Until then.
    Until(Instant),
    /// Not any more: it was registered once, was ready before, or the time is over. Readiness does not turn with a registry
    /// from then on.
    Over,
}

impl Waiting {
    /// Takes in how the registration stands.
    pub(super) fn take(&mut self, registration: Registration, missing: &watch::Sender<BTreeSet<String>>, now: Instant) {
        let was_ready = missing.borrow().is_empty();
        let next = match (*self, registration) {
            (Waiting::Over, _) | (Waiting::NotYet, Registration::NotOurs) => *self,
            // Rules and weights change while pods serve: readiness of all of them would turn at once.
            (Waiting::NotYet, Registration::Awaited(_)) if was_ready => Waiting::Over,
            (Waiting::NotYet, Registration::Awaited(longest)) => Waiting::Until(now + longest.min(WAIT_MAX)),
            (Waiting::Until(_), Registration::Awaited(_)) => *self,
            (Waiting::Until(_), Registration::NotOurs) => Waiting::NotYet,
            (Waiting::NotYet | Waiting::Until(_), Registration::Visible) => Waiting::Over,
        };
        *self = next;
        missing.send_if_modified(|missing| match next {
            Waiting::Until(_) => missing.insert(MISSING_REGISTRATION.to_owned()),
            Waiting::NotYet | Waiting::Over => missing.remove(MISSING_REGISTRATION),
        });
    }

    /// When the wait is over.
    pub(super) fn until(&self) -> Option<Instant> {
        match self {
            Waiting::Until(end) => Some(*end),
            Waiting::NotYet | Waiting::Over => None,
        }
    }

    /// The time is over.
    pub(super) fn give_up(&mut self, missing: &watch::Sender<BTreeSet<String>>) {
        tracing::warn!("not registered in time; ready without it");
        *self = Waiting::Over;
        missing.send_if_modified(|missing| missing.remove(MISSING_REGISTRATION));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Registration = Registration::Awaited(Duration::from_secs(30));

    fn not_ready() -> watch::Sender<BTreeSet<String>> {
        watch::Sender::new(BTreeSet::from(["policy".to_owned()]))
    }

    fn is_missing(missing: &watch::Sender<BTreeSet<String>>) -> bool {
        missing.borrow().contains(MISSING_REGISTRATION)
    }

    #[tokio::test]
    async fn readiness_waits_until_the_workload_is_registered_for_the_first_time() {
        let (missing, mut waiting, now) = (not_ready(), Waiting::default(), Instant::now());
        for (registration, expected) in [
            (Registration::NotOurs, false),
            (LONGEST, true),
            (Registration::Awaited(Duration::from_secs(90)), true),
            (Registration::Visible, false),
            // The registry was lost, and is back.
            (LONGEST, false),
        ] {
            waiting.take(registration, &missing, now);
            assert_eq!(is_missing(&missing), expected, "{registration:?}");
        }
    }

    #[tokio::test]
    async fn readiness_does_not_wait_longer_than_is_said() {
        let (missing, mut waiting, now) = (not_ready(), Waiting::default(), Instant::now());
        waiting.take(LONGEST, &missing, now);
        waiting.take(LONGEST, &missing, now + Duration::from_secs(20));
        assert_eq!(waiting.until(), Some(now + Duration::from_secs(30)));
        waiting.give_up(&missing);
        assert_eq!((is_missing(&missing), waiting.until()), (false, None));
        waiting.take(LONGEST, &missing, now);
        assert!(!is_missing(&missing));
    }

    #[tokio::test]
    async fn readiness_does_not_turn_when_a_rule_comes_to_name_a_pod_that_serves() {
        let (missing, mut waiting, now) = (not_ready(), Waiting::default(), Instant::now());
        waiting.take(Registration::NotOurs, &missing, now);
        missing.send_replace(BTreeSet::new());
        waiting.take(LONGEST, &missing, now);
        assert_eq!((is_missing(&missing), waiting.until()), (false, None));
    }
}
