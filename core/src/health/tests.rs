//! Life of an instance: ejected, tried, back.

use Seen::{GatewayFailure, LocalOriginFailure, ServerError, Success};

use super::*;
use crate::model::policy::{HealthCheck, Probe, TcpProbe};

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: u32) -> (Duration, u64) {
    (SECOND * seconds, 0)
}

/// What an instance has been through.
#[derive(Default)]
struct Life {
    instance: Instance,
    policy: OutlierDetection,
}

impl Life {
    fn sees(&mut self, seen: Seen, second: u32) -> Change {
        self.instance.observe(seen, Exchange::Ordinary, at(second), &self.policy, || Permission::Granted)
    }

    fn ejected_at(second: u32) -> Life {
        let mut life = Life::default();
        for _ in 0..4 {
            assert_eq!(life.sees(LocalOriginFailure, second), Change::None);
        }
        let change = life.sees(LocalOriginFailure, second);
        assert_eq!(change, Change::Ejected(Cause::LocalOriginFailures, SECOND * 30));
        life
    }

    fn tried(&mut self, seen: Seen, second: u32) -> Change {
        assert_eq!(self.instance.usability(at(second).0), Usability::HalfOpen);
        self.instance.begin_trial(at(second).0);
        assert_eq!(self.instance.usability(at(second).0), Usability::OnTrial);
        self.instance.observe(seen, Exchange::Trial, at(second), &self.policy, || panic!("nobody is asked"))
    }
}

#[test]
fn only_failures_in_a_row_eject() {
    let mut life = Life::default();
    for round in 0..20 {
        for _ in 0..4 {
            assert_eq!(life.sees(GatewayFailure, round), Change::None);
        }
        assert_eq!(life.sees(Success, round), Change::None);
    }
    assert!(life.instance.is_blank(SECOND, &life.policy));
    for _ in 0..4 {
        life.sees(GatewayFailure, 21);
    }
    assert_eq!(life.sees(GatewayFailure, 21), Change::Ejected(Cause::GatewayFailures, SECOND * 30));
}

#[test]
fn answers_that_are_gateway_failures_are_told_from_others() {
    for (status, grpc, seen) in [
        (200, None, Success),
        (500, None, ServerError),
        (501, Some(&b"0"[..]), ServerError),
        (404, None, Success),
        (502, None, GatewayFailure),
        (503, None, GatewayFailure),
        (504, None, GatewayFailure),
        (200, Some(&b"0"[..]), Success),
        (200, Some(b"14"), GatewayFailure),
        (200, Some(b"4"), ServerError),
        (200, Some(b"13"), ServerError),
        (200, Some(b"5"), Success),
        (429, None, Success),
    ] {
        assert_eq!(Seen::of_answer(status, grpc), seen, "{status} {grpc:?}");
    }
}

#[test]
fn limits_of_zero_never_eject() {
    let mut life = Life::default();
    life.policy.consecutive_gateway_failures = 0;
    life.policy.consecutive_local_origin_failures = 0;
    for _ in 0..100 {
        assert_eq!(life.sees(GatewayFailure, 0), Change::None);
        assert_eq!(life.sees(LocalOriginFailure, 0), Change::None);
    }
}

#[test]
fn time_out_grows_with_every_ejection_up_to_its_maximum() {
    let mut life = Life::ejected_at(0);
    let mut now = 30;
    for expected in [60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300] {
        let change = life.tried(LocalOriginFailure, now);
        assert_eq!(change, Change::Ejected(Cause::TrialFailed, SECOND * expected));
        now += expected;
    }
}

#[test]
fn one_exchange_tries_an_instance_whose_time_is_over_and_its_success_brings_it_back() {
    let mut life = Life::ejected_at(0);
    assert_eq!(life.instance.usability(SECOND * 29), Usability::Ejected);
    assert_eq!(life.tried(Success, 30), Change::Returned);
    assert_eq!(life.instance.usability(SECOND * 30), Usability::Usable);
}

#[test]
fn exchanges_that_began_before_the_ejection_show_nothing() {
    let mut life = Life::ejected_at(0);
    for seen in [Success, LocalOriginFailure, GatewayFailure] {
        assert_eq!(life.sees(seen, 1), Change::None);
        assert_eq!(life.instance.usability(SECOND), Usability::Ejected);
    }
}

#[test]
fn trial_whose_client_leaves_gives_its_place_to_the_next() {
    let mut life = Life::ejected_at(0);
    life.instance.begin_trial(SECOND * 30);
    life.instance.abandon_trial(SECOND * 31);
    assert_eq!(life.instance.usability(SECOND * 31), Usability::HalfOpen);
}

#[test]
fn trial_that_shows_nothing_for_long_lets_another_exchange_try() {
    let mut life = Life::ejected_at(0);
    life.instance.begin_trial(SECOND * 30);
    assert_eq!(life.instance.usability(SECOND * 30 + TRIAL_MAX - SECOND), Usability::OnTrial);
    assert_eq!(life.instance.usability(SECOND * 30 + TRIAL_MAX), Usability::HalfOpen);
    assert_eq!(life.tried(Success, 60), Change::Returned);
}

#[test]
fn ejections_are_forgiven_one_for_every_longest_time_in_traffic() {
    let mut life = Life::ejected_at(0);
    assert_eq!(life.tried(LocalOriginFailure, 30), Change::Ejected(Cause::TrialFailed, SECOND * 60));
    assert_eq!(life.tried(Success, 90), Change::Returned);
    assert!(!life.instance.is_blank(SECOND * 689, &life.policy));
    assert!(life.instance.is_blank(SECOND * 690, &life.policy));
    for _ in 0..4 {
        life.sees(GatewayFailure, 395);
    }
    // Twice before, one forgiven, one more.
    assert_eq!(life.sees(GatewayFailure, 395), Change::Ejected(Cause::GatewayFailures, SECOND * 60));
}

#[test]
fn chance_lengthens_a_time_out_by_a_tenth_at_most() {
    for (jitter, expected) in [(0, 30.0), (u64::MAX / 2, 31.5), (u64::MAX, 33.0)] {
        let mut instance = Instance::default();
        let policy = OutlierDetection { consecutive_gateway_failures: 1, ..OutlierDetection::default() };
        let granted = || Permission::Granted;
        let change = instance.observe(GatewayFailure, Exchange::Ordinary, (SECOND, jitter), &policy, granted);
        let Change::Ejected(_, length) = change else { panic!("{change:?}") };
        assert!((length.as_secs_f64() - expected).abs() < 0.01, "{length:?}");
    }
}

#[test]
fn instance_that_its_level_needs_stays_and_is_asked_about_again() {
    let mut life = Life::default();
    for _ in 0..4 {
        life.sees(GatewayFailure, 0);
    }
    let refused = || Permission::Refused;
    let change = life.instance.observe(GatewayFailure, Exchange::Ordinary, at(0), &life.policy, refused);
    assert_eq!(change, Change::Kept(Cause::GatewayFailures));
    // It takes calls, and is no capacity: until it succeeds, or for as long as it would have been out.
    assert_eq!(life.instance.usability(SECOND), Usability::Kept);
    assert_eq!(life.instance.usability(SECOND * 30), Usability::Usable);
    let mut other = life.instance;
    other.observe(Success, Exchange::Ordinary, at(1), &life.policy, || panic!("nobody is asked"));
    assert_eq!(other.usability(SECOND), Usability::Usable);
    assert!(matches!(life.sees(GatewayFailure, 1), Change::Ejected(..)));
}

#[test]
fn successful_probe_brings_back_what_was_ejected_before_it_began() {
    let check = HealthCheck::new(Probe::Tcp(TcpProbe::default()));
    let mut life = Life::ejected_at(10);
    let passed =
        |second| Probed { result: ProbeResult::Succeeded, begun: SECOND * second, acquaintance: Acquaintance::Known };
    let early = life.instance.probed(passed(9), SECOND * 11, &check);
    assert_eq!((early, life.instance.usability(SECOND * 11)), (Change::None, Usability::Ejected));
    let late = life.instance.probed(passed(11), SECOND * 12, &check);
    assert_eq!((late, life.instance.usability(SECOND * 12)), (Change::Returned, Usability::Usable));
}

#[test]
fn instance_that_fails_every_other_second_changes_less_and_less_often() {
    let mut life =
        Life { policy: OutlierDetection { base_ejection_time: SECOND, ..Default::default() }, ..Life::default() };
    let mut changes = 0;
    for tenth in 0..6_000_u64 {
        let now = Duration::from_millis(tenth * 100);
        let seen = if tenth / 20 % 2 == 0 { LocalOriginFailure } else { Success };
        let exchange = match life.instance.usability(now) {
            Usability::Usable => Exchange::Ordinary,
            Usability::HalfOpen => {
                life.instance.begin_trial(now);
                Exchange::Trial
            }
            Usability::OnTrial
            | Usability::Ejected
            | Usability::FailingHealth
            | Usability::Kept
            | Usability::Resting
            | Usability::Draining => continue,
        };
        let change = life.instance.observe(seen, exchange, (now, 0), &life.policy, || Permission::Granted);
        changes += u32::from(matches!(change, Change::Ejected(..) | Change::Returned));
    }
    // Ten minutes in which it went up and down 300 times.
    assert!(changes < 80, "{changes}");
}

#[test]
fn instance_that_said_it_drains_is_avoided_until_that_is_old_or_another_has_taken_its_place() {
    let (now, policy) = (SECOND * 50, OutlierDetection::default());
    let mut instance = Instance::default();
    assert_eq!(instance.leaves(now, Some(7)), Change::Draining);
    assert_eq!(instance.leaves(now + SECOND, Some(7)), Change::None);
    assert_eq!(instance.usability(now + AVOIDED), Usability::Draining);
    assert!(!instance.is_blank(now + AVOIDED, &policy));
    assert_eq!(instance.usability(now + SECOND + AVOIDED), Usability::Usable);
    assert!(instance.is_blank(now + SECOND + AVOIDED, &policy));
    instance.is_there(Some(7));
    assert_eq!(instance.usability(now + SECOND), Usability::Draining);
    instance.is_there(Some(8));
    assert_eq!(instance.usability(now + SECOND), Usability::Usable);
}

#[test]
fn instance_that_asks_for_rest_is_left_alone_that_long_unless_its_level_needs_it() {
    let mut life = Life::default();
    let rest = |instance: &mut Instance, second, length, permission| {
        instance.asks_for_rest(SECOND * second, SECOND * length, || permission)
    };
    assert_eq!(rest(&mut life.instance, 0, 5, Permission::Refused), Change::None);
    assert_eq!(life.instance.usability(SECOND), Usability::Usable);
    assert_eq!(rest(&mut life.instance, 0, 5, Permission::Granted), Change::Resting(SECOND * 5));
    // An answer that was under way may make it longer, never shorter.
    assert_eq!(rest(&mut life.instance, 1, 1, Permission::Refused), Change::None);
    assert_eq!(life.instance.usability(SECOND * 4), Usability::Resting);
    assert!(!life.instance.is_blank(SECOND * 4, &life.policy));
    assert_eq!(rest(&mut life.instance, 4, 3, Permission::Refused), Change::None);
    assert_eq!(life.instance.usability(SECOND * 6), Usability::Resting);
    // No trial: it said itself when.
    assert_eq!(life.instance.usability(SECOND * 7), Usability::Usable);
    assert!(life.instance.is_blank(SECOND * 7, &life.policy));
}

#[test]
fn rest_is_asked_for_by_retry_after_of_two_statuses_and_bounded() {
    let now = SECOND * 784_111_777;
    for (status, value, expected) in [
        (503, "7", Some(7)),
        (429, " 7 ", Some(7)),
        (429, "Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
        (429, "Sun, 06 Nov 1994 08:00:00 GMT", None),
        (429, "0", None),
        (429, "-1", None),
        (429, "soon", None),
        (429, "99999999999999999999", Some(300)),
        (500, "7", None),
        (200, "7", None),
    ] {
        let fields: &[(&str, &str)] = &[("retry-after", value)];
        let found = wanted_rest(status, &fields, now, SECOND * 900);
        assert_eq!(found, expected.map(|seconds| SECOND * seconds), "{status} {value}");
    }
    let fields: &[(&str, &str)] = &[("Retry-After", "60")];
    assert_eq!(wanted_rest(503, &fields, now, SECOND * 20), Some(SECOND * 20));
    let none: &[(&str, &str)] = &[];
    assert_eq!(wanted_rest(503, &none, now, SECOND * 20), None);
    let limited: &[(&str, &str)] = &[("retry-after", "60"), ("x-mesh-error", "rate_limited")];
    assert_eq!(
        wanted_rest(429, &limited, now, SECOND * 20),
        None,
        "a limit of the service says nothing of an instance"
    );
}

#[test]
fn instance_that_falls_behind_is_out_like_one_that_fails() {
    let mut life = Life::default();
    let policy = life.policy;
    let change = life.instance.falls_behind(at(3), &policy, || Permission::Granted);
    assert_eq!(change, Change::Ejected(Cause::SuccessRate, SECOND * 30));
    assert_eq!(life.instance.falls_behind(at(4), &policy, || panic!("nobody is asked")), Change::None);
    assert_eq!(life.tried(Success, 33), Change::Returned);
    let refused = life.instance.falls_behind(at(40), &policy, || Permission::Refused);
    assert_eq!((refused, life.instance.usability(SECOND * 41)), (Change::Kept(Cause::SuccessRate), Usability::Kept));
}

mod histories;
