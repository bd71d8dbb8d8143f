//! Thresholds and intervals of probes, and verdicts of others.

use Acquaintance::{Known, New};
use ProbeResult::{Failed, Succeeded};

use super::*;
use crate::{
    health::{Exchange, Permission, Seen, Usability},
    model::policy::{OutlierDetection, Probe, TcpProbe},
};

const SECOND: Duration = Duration::from_secs(1);

fn check() -> HealthCheck {
    HealthCheck::new(Probe::Tcp(TcpProbe::default()))
}

/// An instance after these probes, one each second.
fn after(acquaintance: Acquaintance, results: &[ProbeResult]) -> (Instance, Change) {
    let mut instance = Instance::default();
    let mut change = Change::None;
    for (second, result) in (0..).zip(results) {
        let begun = SECOND * second;
        change = instance.probed(Probed { result: *result, begun, acquaintance }, begun, &check());
    }
    (instance, change)
}

#[test]
fn thresholds_decide_both_ways() {
    for (results, change, verdict) in [
        (&[Failed][..], Change::None, Succeeded),
        (&[Failed, Failed], Change::None, Succeeded),
        (&[Failed, Failed, Succeeded, Failed, Failed], Change::None, Succeeded),
        (&[Failed, Failed, Failed], Change::Failing, Failed),
        (&[Failed, Failed, Failed, Failed], Change::None, Failed),
        (&[Failed, Failed, Failed, Succeeded], Change::None, Failed),
        (&[Failed, Failed, Failed, Succeeded, Failed, Succeeded], Change::None, Failed),
        (&[Failed, Failed, Failed, Succeeded, Succeeded], Change::Healthy, Succeeded),
    ] {
        let (instance, changed) = after(Known, results);
        assert_eq!((changed, instance.verdict()), (change, verdict), "{results:?}");
        let is_usable = instance.usability(SECOND * 9) == Usability::Usable;
        assert_eq!(is_usable, verdict == Succeeded, "{results:?}");
    }
}

#[test]
fn first_result_is_enough_at_the_start() {
    assert_eq!(after(New, &[Failed]).1, Change::Failing);
    assert_eq!(after(New, &[Failed, Succeeded]).1, Change::Healthy);
    assert_eq!(after(New, &[Succeeded]).1, Change::None);
}

#[test]
fn verdicts_of_others_count_at_once_and_are_told_once() {
    let mut instance = Instance::default();
    let mut told = |verdict| {
        let change = instance.told(verdict, SECOND, &check());
        (change, instance.usability(SECOND))
    };
    assert_eq!(told(Succeeded), (Change::None, Usability::Usable));
    assert_eq!(told(Failed), (Change::Failing, Usability::FailingHealth));
    assert_eq!(told(Failed), (Change::None, Usability::FailingHealth));
    assert_eq!(told(Succeeded), (Change::Healthy, Usability::Usable));
}

#[test]
fn success_of_others_brings_back_what_was_ejected_once_all_of_them_have_probed_it_since() {
    let policy = OutlierDetection { consecutive_gateway_failures: 1, ..OutlierDetection::default() };
    let mut instance = Instance::default();
    let granted = || Permission::Granted;
    instance.observe(Seen::GatewayFailure, Exchange::Ordinary, (SECOND * 10, 0), &policy, granted);
    // An interval of 10 s with its jitter, the timeout, and a second for the word.
    for (second, change, usability) in
        [(22, Change::None, Usability::Ejected), (24, Change::Returned, Usability::Usable)]
    {
        assert!(instance.heeds(Succeeded));
        assert_eq!(instance.told(Succeeded, SECOND * second, &check()), change, "{second}");
        assert_eq!(instance.usability(SECOND * second), usability, "{second}");
    }
    assert!(!instance.heeds(Succeeded) && instance.heeds(Failed));
}

#[test]
fn interval_is_that_of_the_state_which_the_last_probe_left() {
    let written = HealthCheck {
        interval: SECOND * 10,
        unhealthy_interval: Some(SECOND * 20),
        unhealthy_edge_interval: Some(SECOND * 2),
        healthy_edge_interval: Some(SECOND * 3),
        ..check()
    };
    let no_edges = HealthCheck { unhealthy_edge_interval: None, healthy_edge_interval: None, ..written.clone() };
    let plain = HealthCheck { unhealthy_interval: None, ..no_edges.clone() };
    for (results, seconds) in [
        (&[][..], [10, 10, 10]),
        (&[Succeeded], [10, 10, 10]),
        (&[Failed], [2, 20, 10]),
        (&[Failed, Failed], [2, 20, 10]),
        (&[Failed, Failed, Failed], [20, 20, 10]),
        (&[Failed, Failed, Failed, Succeeded], [3, 10, 10]),
        (&[Failed, Failed, Failed, Succeeded, Failed], [20, 20, 10]),
        (&[Failed, Failed, Failed, Succeeded, Succeeded], [10, 10, 10]),
    ] {
        let (instance, _) = after(Known, results);
        let intervals =
            [&written, &no_edges, &plain].map(|check| instance.next_probe(check, Traffic::Flowing, 0.0).as_secs());
        assert_eq!(intervals, seconds, "{results:?}");
        assert_eq!(instance.next_probe(&written, Traffic::None, 0.0), SECOND * 60, "{results:?}");
    }
}

#[test]
fn chance_lengthens_an_interval_up_to_the_jitter() {
    let instance = Instance::default();
    for (jitter, chance, expected) in
        [(0, 1.0, 10.0), (10, 0.0, 10.0), (10, 0.5, 10.5), (10, 1.0, 11.0), (100, 1.0, 20.0)]
    {
        let check = HealthCheck { jitter, ..check() };
        let interval = instance.next_probe(&check, Traffic::Flowing, chance).as_secs_f64();
        assert!((interval - expected).abs() < 1e-6, "{jitter} {chance}: {interval}");
    }
}

#[test]
fn service_that_was_called_lately_has_traffic() {
    assert_eq!(Traffic::after(SECOND * 59, &check()), Traffic::Flowing);
    assert_eq!(Traffic::after(SECOND * 60, &check()), Traffic::None);
}
