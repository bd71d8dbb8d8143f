//! Behaviour of the module above, with the samples of `sample`.

use std::time::Duration;

use super::*;
use crate::{
    lane::Source,
    model::{lane::LaneName, model_route::Reason},
    model_route::sample::{failure, model, target},
};

const NOW: Duration = Duration::from_secs(1_000);

fn want() -> Want<'static> {
    Want { model: "m", tools: Can::No, json: Can::No, vision: Can::No, tokens: 0, lane: None }
}

fn nothing(_: usize, _: &ModelTarget) -> Option<Unable> {
    None
}

fn before<'a>() -> Before<'a> {
    Before { tried: &[], last: None, window: None, bars: &nothing }
}

fn chosen(model: &VirtualModel, standings: &Standings, want: &Want<'_>, before: Before<'_>) -> Option<(String, Why)> {
    let choice = choose(("r", model), standings, want, before, 1 << 62, NOW)?;
    Some((model.targets[choice.target].name.clone(), choice.why))
}

#[test]
fn lower_priority_number_is_asked_first_and_weights_share_among_equals() {
    let mut heavy = target("heavy", 1);
    heavy.weight = 3;
    let model = model(vec![target("spare", 2), heavy, target("light", 1)]);
    let standings = Standings::default();
    let mut counts = [0; 3];
    for step in 0..4_000u64 {
        let random = step.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        counts[choose(("r", &model), &standings, &want(), before(), random, NOW).unwrap().target] += 1;
    }
    assert_eq!(counts[0], 0);
    assert!((2_900..3_100).contains(&counts[1]), "{counts:?}");
}

#[test]
fn who_rests_comes_last_and_of_all_that_rest_the_one_for_the_shortest_time() {
    let model = model(vec![target("a", 0), target("b", 1)]);
    let mut standings = Standings::default();
    standings.failed("r", &model.targets[0], "a-model", &failure(Reason::Auth), NOW);
    assert_eq!(chosen(&model, &standings, &want(), before()), Some(("b".to_owned(), Why::Order)));
    standings.failed("r", &model.targets[1], "b-model", &failure(Reason::Rate), NOW);
    assert_eq!(chosen(&model, &standings, &want(), before()), Some(("b".to_owned(), Why::LeastBad)));
    let tried = Before { tried: &[1], ..before() };
    assert_eq!(chosen(&model, &standings, &want(), tried), Some(("a".to_owned(), Why::LeastBad)));
    assert_eq!(chosen(&model, &standings, &want(), Before { tried: &[0, 1], ..before() }), None);
}

#[test]
fn targets_that_cannot_are_not_asked() {
    let mut plain = target("plain", 0);
    (plain.capabilities.tools, plain.capabilities.vision, plain.context_window) = (Can::No, Can::No, Some(1_000));
    let model = model(vec![plain, target("able", 1)]);
    let standings = Standings::default();
    let cases = [
        (want(), "plain"),
        (Want { tools: Can::Yes, ..want() }, "able"),
        (Want { vision: Can::Yes, ..want() }, "able"),
        (Want { json: Can::Yes, ..want() }, "plain"),
        (Want { tokens: 1_000, ..want() }, "plain"),
        (Want { tokens: 1_001, ..want() }, "able"),
    ];
    for (want, expected) in cases {
        assert_eq!(chosen(&model, &standings, &want, before()).unwrap().0, expected, "{want:?}");
    }
    let unable = unable(&model, 0, &Want { tools: Can::Yes, ..want() }, before());
    assert_eq!(unable, Some(Unable::Tools));
}

#[test]
fn long_prompts_and_refused_content_go_to_declared_targets_only() {
    let (mut wide, mut brave, mut small) = (target("wide", 2), target("brave", 3), target("small", 1));
    (wide.context_window, small.context_window) = (Some(1_000_000), Some(8_000));
    (brave.capabilities.refused_content, brave.capabilities.long_context) = (Can::Yes, Can::No);
    let model = model(vec![target("first", 0), small, wide, brave]);
    let standings = Standings::default();
    let after = |reason, window| Before { tried: &[0], last: Some(reason), window, ..before() };
    let name = |before| chosen(&model, &standings, &want(), before).map(|(name, _)| name);
    assert_eq!(name(after(Reason::Context, Some(8_000))).as_deref(), Some("wide"));
    assert_eq!(name(after(Reason::Context, None)), None);
    assert_eq!(name(after(Reason::ContentFilter, None)).as_deref(), Some("brave"));
    assert_eq!(name(after(Reason::Server, None)).as_deref(), Some("small"));
}

#[test]
fn target_of_a_lane_serves_that_lane_alone_and_first() {
    let mut canary = target("canary", 5);
    canary.lane = Some("models/canary".to_owned());
    let model = model(vec![target("stable", 0), canary]);
    let standings = Standings::default();
    let carried = |group: Option<&str>, lane: &str| Carried {
        group: group.map(|name| name.parse::<LaneName>().unwrap()),
        lane: lane.parse::<LaneName>().unwrap(),
        source: Source::Header,
    };
    let cases = [
        (None, "stable"),
        (Some(carried(Some("models"), "canary")), "canary"),
        (Some(carried(None, "canary")), "canary"),
        (Some(carried(Some("other"), "canary")), "stable"),
        (Some(carried(Some("models"), "green")), "stable"),
    ];
    for (lane, expected) in cases {
        let want = Want { lane: lane.as_ref(), ..want() };
        assert_eq!(chosen(&model, &standings, &want, before()).unwrap().0, expected, "{lane:?}");
    }
}

#[test]
fn slow_target_leaves_requests_to_the_next_one_as_far_as_it_lost_share() {
    let model = model(vec![target("slow", 0), target("next", 1)]);
    let mut standings = Standings::default();
    (0..40).for_each(|_| standings.served("r", &model.targets[0], "slow-model", NOW, NOW));
    let mut slow = 0;
    for step in 0..1_000u64 {
        let random = step.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let choice = choose(("r", &model), &standings, &want(), before(), random, NOW).unwrap();
        slow += usize::from(choice.target == 0);
        assert_eq!(choice.why, if choice.target == 0 { Why::Order } else { Why::Slow });
    }
    assert!((30..80).contains(&slow), "{slow}");
}

#[test]
fn names_of_models_fit_by_their_pattern_and_the_most_exact_one_counts() {
    let named = |name| VirtualModel { name, ..model(vec![target("a", 0)]) };
    let exact = named(NamePattern::Exact("gpt-4o".to_owned()));
    let prefix = named(NamePattern::Prefix("gpt-4".to_owned()));
    let any = named(NamePattern::Any);
    assert!(exact.fits("gpt-4o") > prefix.fits("gpt-4o"));
    assert!(prefix.fits("gpt-4o") > any.fits("gpt-4o"));
    assert_eq!((exact.fits("gpt-4"), prefix.fits("gpt-3")), (None, None));
}

#[test]
fn each_target_is_asked_once_how_it_stands() {
    let model = model(vec![target("a", 0), target("b", 0), target("c", 1), target("d", 2)]);
    let resting = State::Resting { until: NOW * 2, reason: Reason::Rate };
    for states in [[State::Ready; 4], [resting; 4], [resting, State::Trial, State::Ready, resting]] {
        let asked = std::cell::RefCell::new(Vec::new());
        let stands = |place: usize| {
            asked.borrow_mut().push(place);
            Stands { state: states[place], share: 0.05 }
        };
        choose_by(&model, &stands, &want(), Before { tried: &[2], ..before() }, u64::MAX, NOW).unwrap();
        assert_eq!(*asked.borrow(), [0, 1, 3]);
    }
}
