//! Behaviour of the module above, with the samples of `sample`.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    model::model_route::{Can, NamePattern, Reason, VirtualModel},
    model_route::{
        sample::{failure, model, target},
        standing::State,
    },
};

fn want() -> Want<'static> {
    Want { model: "m", tools: Can::No, json: Can::No, vision: Can::No, tokens: 0, lane: None }
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// An exchange with everything around it.
struct Run {
    attempts: Attempts,
    standings: Standings,
    now: Duration,
}

impl Run {
    fn new(model: VirtualModel, delivery: Delivery) -> Run {
        let (mut standings, now) = (Standings::default(), seconds(1_000));
        let route = (Arc::from("r"), Arc::new(model));
        let attempts = Attempts::new(route, "m", delivery, Replay::Whole, &mut standings, now);
        Run { attempts, standings, now }
    }

    fn next(&mut self) -> Result<(usize, String), Failure> {
        let (slot, _) = self.attempts.next(&mut self.standings, &want(), &|_, _| None, 0, self.now)?;
        Ok((slot, self.attempts.target(slot).unwrap().name.clone()))
    }

    fn saw(&mut self, slot: usize, what: Saw) -> Reaction {
        self.attempts.saw(slot, what, &mut self.standings, self.now)
    }

    fn failed(&mut self, slot: usize, reason: Reason) -> After {
        self.attempts.failed(slot, failure(reason), &mut self.standings, self.now)
    }

    fn due(&mut self) -> Option<Due> {
        self.attempts.due(&mut self.standings, self.now)
    }
}

fn three() -> VirtualModel {
    model(vec![target("a", 0), target("b", 1), target("c", 2)])
}

#[test]
fn nothing_reaches_the_client_before_the_first_token_and_everything_after_it() {
    let mut run = Run::new(three(), Delivery::Stream);
    let (slot, _) = run.next().unwrap();
    assert_eq!(run.saw(slot, Saw::Head), Reaction::Hold);
    assert_eq!(run.saw(slot, Saw::Event), Reaction::Hold);
    assert_eq!(run.saw(slot, Saw::Token), Reaction::Commit);
    assert_eq!(run.saw(slot, Saw::Event), Reaction::Forward);
    assert_eq!(run.failed(slot, Reason::Reset), After::EndStream(failure(Reason::Reset)));
}

#[test]
fn every_reason_but_bad_request_switches_target() {
    for reason in Reason::ALL {
        let mut able = target("able", 1);
        (able.capabilities.long_context, able.capabilities.refused_content) = (Can::Yes, Can::Yes);
        let mut run = Run::new(model(vec![target("a", 0), able]), Delivery::Whole);
        let (slot, first) = run.next().unwrap();
        assert_eq!(first, "a");
        let after = run.failed(slot, reason);
        if reason == Reason::BadRequest {
            assert_eq!(after, After::GiveUp(failure(reason)));
            assert_eq!(run.attempts.spent(), Some(Spent::Reason));
        } else {
            assert_eq!(after, After::Next, "{reason:?}");
            assert_eq!(run.next().unwrap().1, "able", "{reason:?}");
        }
    }
}

#[test]
fn the_last_failure_is_what_the_client_is_told_once_nobody_is_left() {
    let mut run = Run::new(model(vec![target("a", 0), target("b", 1)]), Delivery::Stream);
    let (slot, _) = run.next().unwrap();
    assert_eq!(run.failed(slot, Reason::Server), After::Next);
    let (slot, _) = run.next().unwrap();
    assert_eq!(run.failed(slot, Reason::Rate), After::GiveUp(failure(Reason::Rate)));
    assert_eq!(run.attempts.spent(), Some(Spent::Targets));
    let mut unavailable = model(vec![target("a", 0)]);
    unavailable.on_exhausted = OnExhausted::Unavailable;
    let mut run = Run::new(unavailable, Delivery::Stream);
    let (slot, _) = run.next().unwrap();
    let After::GiveUp(told) = run.failed(slot, Reason::Rate) else { panic!("nobody is left") };
    assert_eq!((told.status, told.reason), (503, Reason::Rate));
}

#[test]
fn attempts_time_budget_and_a_body_that_is_gone_end_the_search() {
    let change = |change: &dyn Fn(&mut VirtualModel)| {
        let mut model = three();
        change(&mut model);
        model
    };
    let cases: [(VirtualModel, u64, Spent); 3] = [
        (change(&|model| model.retry.attempts = 1), 0, Spent::Attempts),
        (three(), 16, Spent::Window),
        (
            change(&|model| (model.timers.min_remaining, model.timers.total) = (seconds(8), seconds(10))),
            3,
            Spent::Remaining,
        ),
    ];
    for (model, passes, expected) in cases {
        let mut run = Run::new(model, Delivery::Stream);
        let (slot, _) = run.next().unwrap();
        run.now += seconds(passes);
        assert!(matches!(run.failed(slot, Reason::Server), After::GiveUp(_)), "{expected:?}");
        assert_eq!(run.attempts.spent(), Some(expected));
    }
    let mut run = Run::new(change(&|model| model.retry.budget_percent = 0), Delivery::Stream);
    let name = three().name;
    while run.standings.repeat("r", &name, 0, run.now) {}
    let (slot, _) = run.next().unwrap();
    assert!(matches!(run.failed(slot, Reason::Server), After::GiveUp(_)));
    assert_eq!(run.attempts.spent(), Some(Spent::Budget));
}

#[test]
fn late_targets_are_left_at_their_own_limits() {
    let mut run = Run::new(three(), Delivery::Stream);
    let (slot, _) = run.next().unwrap();
    assert_eq!(run.attempts.deadline(), run.now + seconds(8));
    run.saw(slot, Saw::Head);
    run.now += seconds(7);
    // Pings do not defeat the limit.
    run.saw(slot, Saw::Event);
    assert_eq!(run.due(), None);
    run.now += seconds(1);
    let Some(Due::Late(late, failure)) = run.due() else { panic!("late") };
    assert_eq!((late, failure.reason, failure.status), (slot, Reason::TimeoutFirstToken, 504));
    run.attempts.failed(slot, failure, &mut run.standings, run.now);
    let (slot, _) = run.next().unwrap();
    run.saw(slot, Saw::Token);
    run.now += seconds(29);
    run.saw(slot, Saw::Token);
    run.now += seconds(29);
    assert_eq!(run.due(), None);
    run.now += seconds(1);
    assert!(matches!(run.due(), Some(Due::Late(_, Failure { reason: Reason::Stall, .. }))));
}

#[test]
fn whole_answers_have_until_the_total_unless_a_limit_for_heads_is_written() {
    let mut run = Run::new(three(), Delivery::Whole);
    run.next().unwrap();
    run.now += seconds(599);
    assert_eq!(run.due(), None);
    let mut model = three();
    model.timers.headers_whole = seconds(2);
    let mut run = Run::new(model, Delivery::Whole);
    run.next().unwrap();
    run.now += seconds(2);
    assert!(matches!(run.due(), Some(Due::Late(_, Failure { reason: Reason::TimeoutHeaders, .. }))));
}

#[test]
fn hedge_asks_a_second_target_and_the_first_token_decides() {
    let hedging = || VirtualModel { hedge: Hedge::After(seconds(2)), ..three() };
    let mut run = Run::new(hedging(), Delivery::Stream);
    let (first, _) = run.next().unwrap();
    assert_eq!(run.attempts.deadline(), run.now + seconds(2));
    run.now += seconds(2);
    assert_eq!(run.due(), Some(Due::Hedge));
    assert_eq!(run.due(), None);
    let (second, name) = run.next().unwrap();
    assert_eq!(name, "b");
    assert_eq!(run.saw(second, Saw::Token), Reaction::Commit);
    // The first was given up: whatever still comes of it counts no more.
    assert_eq!(run.saw(first, Saw::Token), Reaction::Hold);
    assert_eq!(run.failed(first, Reason::Reset), After::Wait);
    let mut run = Run::new(hedging(), Delivery::Stream);
    let (first, _) = run.next().unwrap();
    run.now += seconds(2);
    assert_eq!(run.due(), Some(Due::Hedge));
    let (second, _) = run.next().unwrap();
    assert_eq!(run.failed(first, Reason::Server), After::Wait);
    assert_eq!(run.failed(second, Reason::Server), After::Next);
    assert_eq!(run.next().unwrap().1, "c");
}

#[test]
fn callers_cannot_make_budgets_by_inventing_names_and_endless_times_never_pass() {
    let mut any = three();
    any.name = NamePattern::Any;
    (any.retry.budget_percent, any.timers.total, any.timers.idle) = (0, Duration::MAX, Duration::MAX);
    let (any, mut standings) = (Arc::new(any), Standings::default());
    let mut repeated = 0;
    for name in 0..30 {
        let (route, name) = ((Arc::from("r"), Arc::clone(&any)), format!("invented-{name}"));
        let mut attempts = Attempts::new(route, &name, Delivery::Stream, Replay::Whole, &mut standings, seconds(1));
        let (slot, _) = attempts.next(&mut standings, &want(), &|_, _| None, 0, seconds(1)).unwrap();
        repeated +=
            usize::from(attempts.failed(slot, failure(Reason::Context), &mut standings, seconds(1)) == After::Next);
        assert_eq!(attempts.due(&mut standings, seconds(1)), None);
    }
    assert_eq!(repeated, 10, "the ten that are always allowed, for all names together");
}

proptest! {
    /// Whatever happens: no target twice, one commit at most, and while attempts are left one that lives serves.
    #[test]
    fn living_target_serves_whatever_the_others_do(
        fates in proptest::collection::vec(0..20usize, 1..6), living in 0..6usize, streamed in any::<bool>(),
    ) {
        let mut targets: Vec<_> = (0..fates.len()).map(|place| target(&format!("t{place}"), place as u32)).collect();
        for target in &mut targets {
            (target.capabilities.long_context, target.capabilities.refused_content) = (Can::Yes, Can::Yes);
        }
        let mut model = model(targets);
        model.retry.attempts = 10;
        let delivery = if streamed { Delivery::Stream } else { Delivery::Whole };
        let mut run = Run::new(model, delivery);
        let mut asked = Vec::new();
        let served = loop {
            let Ok((slot, name)) = run.next() else { break false };
            prop_assert!(!asked.contains(&name));
            let place: usize = name[1..].parse().unwrap();
            asked.push(name);
            if place == living {
                prop_assert_eq!(run.saw(slot, Saw::Token), Reaction::Commit);
                break true;
            }
            let reasons: Vec<_> = Reason::ALL.into_iter().filter(|reason| *reason != Reason::BadRequest).collect();
            run.saw(slot, Saw::Event);
            match run.failed(slot, reasons[fates[place] % reasons.len()]) {
                After::Next => {}
                After::GiveUp(_) => break false,
                other => prop_assert!(false, "{other:?}"),
            }
        };
        prop_assert_eq!(served, living < fates.len());
    }
}

#[test]
fn forced_failures_send_the_request_on_and_leave_no_trace_at_the_target() {
    struct Line(&'static str);
    impl crate::fields::Fields for Line {
        fn each<'a>(&'a self, _: &str, visit: &mut dyn FnMut(&'a [u8])) {
            visit(self.0.as_bytes());
        }
    }
    let tester = "spiffe://cluster.local/ns/shop/sa/tester".parse().unwrap();
    let drill = crate::model::model_route::Drill { allow: vec!["shop/*".parse().unwrap()] };
    for reason in Reason::ALL.into_iter().filter(|reason| *reason != Reason::BadRequest) {
        let mut model = three();
        // Nothing of the budget is left; drills need none.
        model.retry.budget_percent = 0;
        let name = model.name.clone();
        model.targets.iter_mut().for_each(|target| {
            let capabilities = &mut Arc::make_mut(target).capabilities;
            (capabilities.long_context, capabilities.refused_content) = (Can::Yes, Can::Yes);
        });
        let line: &'static str = format!("{}@*, server@b", reason.as_str()).leak();
        let faults = Faults::read(&Line(line), &drill, &model, Some(&tester)).unwrap();
        let mut run = Run::new(model, Delivery::Stream);
        while run.standings.repeat("r", &name, 0, run.now) {}
        run.attempts = run.attempts.drilled(faults);
        let fresh = run.standings.clone();
        for (expected, is_last) in [("a", false), ("b", false), ("c", true)] {
            let (slot, name) = run.next().unwrap();
            assert_eq!(name, expected);
            let failure = run.attempts.forced(slot).unwrap();
            assert!(!run.attempts.is_forced(), "nothing is told yet of the attempt that began");
            assert_eq!(failure.reason, if name == "b" { Reason::Server } else { reason });
            let after = run.attempts.failed(slot, failure.clone(), &mut run.standings, run.now);
            assert_eq!(after, if is_last { After::GiveUp(failure) } else { After::Next }, "{reason:?} {name}");
        }
        assert!(run.attempts.is_forced());
        assert_eq!(run.standings.changes(), fresh.changes());
        for target in &three().targets {
            let model = target.model_name("m");
            assert_eq!(run.standings.state(target, model, run.now), fresh.state(target, model, run.now));
            assert_eq!(run.standings.share("r", target), 1.0, "{reason:?}");
        }
    }
}

#[test]
fn trial_is_free_again_once_its_exchange_is_over_without_an_answer() {
    let mut run = Run::new(model(vec![target("a", 0)]), Delivery::Stream);
    let target = Arc::clone(&run.attempts.model.targets[0]);
    let name = target.model_name("m");
    run.standings.failed("r", &target, name, &failure(Reason::Connect), run.now);
    run.now += seconds(10);
    run.next().unwrap();
    assert!(matches!(run.standings.state(&target, name, run.now), State::Resting { .. }), "it is being tried");
    run.attempts.withdrawn(&mut run.standings);
    assert_eq!(run.standings.state(&target, name, run.now), State::Trial);
    assert_eq!(run.attempts.made(), 1);
}

/// An exchange whose first target broke behind its first token.
fn broken(change: impl FnOnce(&mut VirtualModel)) -> Run {
    let mut model = three();
    model.mid_stream = MidStream::Continue;
    for target in &mut model.targets {
        Arc::make_mut(target).capabilities.prefill = Can::Yes;
    }
    change(&mut model);
    let mut run = Run::new(model, Delivery::Stream);
    let (slot, _) = run.next().unwrap();
    run.saw(slot, Saw::Token);
    assert_eq!(run.failed(slot, Reason::Reset), After::EndStream(failure(Reason::Reset)));
    run
}

impl Run {
    fn resume(&mut self, fit: Result<(), NotResumed>) -> Result<(), NotResumed> {
        self.attempts.resume(&failure(Reason::Reset), fit, &mut self.standings, self.now)
    }
}

#[test]
fn broken_stream_goes_on_at_a_target_that_is_declared_able() {
    let mut run = broken(|model| Arc::make_mut(&mut model.targets[1]).capabilities.prefill = Can::No);
    // Long after the request: what counts is when it broke.
    run.now += seconds(120);
    assert_eq!(run.resume(Ok(())), Ok(()));
    let (slot, name) = run.next().unwrap();
    assert_eq!(name, "c");
    assert_eq!(run.saw(slot, Saw::Event), Reaction::Hold);
    assert_eq!(run.saw(slot, Saw::Token), Reaction::Commit);
    assert_eq!(run.saw(slot, Saw::Token), Reaction::Forward);
    assert!(run.attempts.is_committed());
}

#[test]
fn stream_ends_with_why_it_broke_where_nobody_goes_on() {
    let mut run = broken(|model| model.retry.attempts = 3);
    run.resume(Ok(())).unwrap();
    let (slot, _) = run.next().unwrap();
    assert_eq!(run.failed(slot, Reason::Server), After::Next);
    let (slot, _) = run.next().unwrap();
    assert_eq!(run.failed(slot, Reason::Rate), After::EndStream(failure(Reason::Reset)));
    assert_eq!(run.attempts.spent(), Some(Spent::Attempts));
    let mut run = broken(|model| {
        model.targets.iter_mut().for_each(|target| {
            Arc::make_mut(target).capabilities.prefill = Can::No;
        })
    });
    run.resume(Ok(())).unwrap();
    assert_eq!(run.next().unwrap_err(), failure(Reason::Reset));
}

#[test]
fn stream_is_not_gone_on_with_unless_the_model_the_text_and_the_limits_allow_it() {
    assert_eq!(broken(|model| model.mid_stream = MidStream::Terminate).resume(Ok(())), Err(NotResumed::Terminate));
    assert_eq!(broken(|_| ()).resume(Err(NotResumed::Long)), Err(NotResumed::Long));
    let spent = |change: &dyn Fn(&mut VirtualModel)| broken(change).resume(Ok(()));
    assert_eq!(spent(&|model| model.retry.attempts = 1), Err(NotResumed::Spent(Spent::Attempts)));
    assert_eq!(spent(&|model| model.targets.truncate(1)), Err(NotResumed::Spent(Spent::Targets)));
    assert_eq!(spent(&|model| model.retry.on.clear()), Err(NotResumed::Spent(Spent::Reason)));
    let mut run = broken(|model| model.retry.budget_percent = 0);
    let name = three().name;
    while run.standings.repeat("r", &name, 0, run.now) {}
    assert_eq!(run.resume(Ok(())), Err(NotResumed::Spent(Spent::Budget)));
    let mut run = broken(|_| ());
    run.now += seconds(601);
    assert_eq!(run.resume(Ok(())), Err(NotResumed::Spent(Spent::Remaining)));
}

#[test]
fn target_that_is_to_go_on_is_left_at_its_limits_and_a_second_break_goes_on_too() {
    let mut run = broken(|_| ());
    run.resume(Ok(())).unwrap();
    let (slot, _) = run.next().unwrap();
    run.now += seconds(8);
    let Some(Due::Late(late, why)) = run.due() else { panic!("late") };
    assert_eq!((late, why.reason), (slot, Reason::TimeoutFirstToken));
    assert_eq!(run.failed(slot, Reason::TimeoutFirstToken), After::Next);
    let (slot, _) = run.next().unwrap();
    run.saw(slot, Saw::Token);
    assert_eq!(run.failed(slot, Reason::Stall), After::EndStream(failure(Reason::Stall)));
    assert_eq!(run.resume(Ok(())), Err(NotResumed::Spent(Spent::Attempts)));
}

#[test]
fn request_that_is_sent_once_is_late_only_when_it_was_sent_and_goes_nowhere_else() {
    let mut model = three();
    model.hedge = Hedge::After(seconds(1));
    let (mut standings, now) = (Standings::default(), seconds(1_000));
    let route = (Arc::from("r"), Arc::new(model));
    let attempts = Attempts::new(route, "m", Delivery::Whole, Replay::Once, &mut standings, now);
    let mut run = Run { attempts, standings, now };
    let (slot, _) = run.next().unwrap();
    run.now += seconds(300);
    assert_eq!(run.due(), None);
    run.attempts.sent(slot, Delivery::Stream, run.now);
    run.now += seconds(7);
    assert_eq!(run.due(), None);
    run.now += seconds(1);
    let Some(Due::Late(_, failure)) = run.due() else { panic!("late") };
    assert_eq!(failure.reason, Reason::TimeoutFirstToken);
    assert_eq!(run.failed(slot, Reason::TimeoutFirstToken), After::GiveUp(self::failure(Reason::TimeoutFirstToken)));
    assert_eq!(run.attempts.spent(), Some(Spent::Body));
}
