//! Behaviour of the module above, with the samples of `sample`.

use serde_json::json;

use super::*;
use crate::{
    model::model_route::{Api, Can, NamePattern, Reason, TokenLimits},
    model_route::sample::{failure, model, target},
};

const NOW: Duration = Duration::from_secs(1_000);

fn nothing(_: usize, _: &ModelTarget) -> Option<Unable> {
    None
}

fn route(name: &str, host: &str, models: Vec<VirtualModel>) -> Arc<ModelRoute> {
    let models = models.into_iter().map(Arc::new).collect();
    Arc::new(ModelRoute {
        name: name.to_owned(),
        hosts: vec![host.to_owned()],
        models,
        tokens: TokenLimits::default(),
        drill: Default::default(),
        body_limit: 0,
    })
}

fn named(name: &str) -> VirtualModel {
    VirtualModel { name: name.parse().unwrap(), ..model(vec![target("a", 0)]) }
}

/// Target, order, share of first requests, verdict.
type Short = (usize, Option<usize>, u32, Verdict);

fn short(rows: &[Row]) -> Vec<Short> {
    rows.iter().map(|row| (row.target, row.order, row.first, row.verdict)).collect()
}

fn explained(model: &VirtualModel, standings: &Standings, question: &Question) -> Vec<Row> {
    let stand = |target: &Arc<ModelTarget>| Stand::of(standings, "r", target, &question.model, NOW);
    let stands: Vec<Stand> = model.targets.iter().map(stand).collect();
    explain(model, &stands, &question.want(), &nothing)
}

#[test]
fn targets_come_in_the_order_in_which_they_would_be_asked_with_their_share_of_first_requests() {
    let (mut heavy, mut out) = (target("heavy", 1), target("out", 0));
    heavy.weight = 3;
    out.weight = 0;
    let mut model = model(vec![out, heavy, target("light", 1), target("spare", 2), target("last", 3)]);
    model.retry.attempts = 3;
    let rows = explained(&model, &Standings::default(), &Question::about("m"));
    let expected = [
        (1, Some(1), 75, Verdict::Asked(Why::Order)),
        (2, Some(2), 25, Verdict::Asked(Why::Order)),
        (3, Some(3), 0, Verdict::Asked(Why::Order)),
        (4, None, 0, Verdict::Beyond(Why::Order)),
        (0, None, 0, Verdict::Unable(Unable::NoWeight)),
    ];
    assert_eq!(short(&rows), expected);
}

#[test]
fn who_rests_comes_behind_with_its_state_and_who_is_on_trial_is_asked_first() {
    let model = model(vec![target("a", 0), target("b", 1)]);
    let mut standings = Standings::default();
    standings.failed("r", &model.targets[0], "a-model", &failure(Reason::Auth), NOW - Duration::from_secs(20));
    let rows = explained(&model, &standings, &Question::about("m"));
    let expected = [(1, Some(1), 100, Verdict::Asked(Why::Order)), (0, Some(2), 0, Verdict::Asked(Why::LeastBad))];
    assert_eq!(short(&rows), expected);
    let rest = State::Resting { until: Duration::from_secs(40), reason: Reason::Auth };
    assert_eq!((rows[1].stand.state, rows[0].stand), (rest, Stand::FRESH));
    let mut over = Standings::default();
    over.failed("r", &model.targets[0], "a-model", &failure(Reason::Auth), NOW - Duration::from_secs(60));
    let rows = explained(&model, &over, &Question::about("m"));
    assert_eq!(short(&rows)[0], (0, Some(1), 100, Verdict::Asked(Why::Trial)));
}

#[test]
fn slow_target_keeps_its_share_of_first_requests() {
    let model = model(vec![target("slow", 0), target("spare", 1)]);
    let stands = [Stand { share: 0.6, ..Stand::FRESH }, Stand::FRESH];
    let rows = explain(&model, &stands, &Question::about("m").want(), &nothing);
    let expected = [(0, Some(1), 60, Verdict::Asked(Why::Order)), (1, Some(2), 40, Verdict::Asked(Why::Order))];
    assert_eq!(short(&rows), expected);
}

#[test]
fn who_cannot_serve_is_listed_with_why() {
    let (mut tools, mut lane, mut small) = (target("tools", 0), target("lane", 0), target("small", 0));
    tools.capabilities.tools = Can::No;
    lane.lane = Some("demo/canary".to_owned());
    small.context_window = Some(100);
    let model = model(vec![tools, lane, small, target("key", 0), target("able", 9)]);
    let question = Question::read("model=m&tools=true&tokens=200").unwrap();
    let bars = |place: usize, _: &ModelTarget| (place == 3).then_some(Unable::Credential);
    let rows = explain(&model, &[], &question.want(), &bars);
    let expected = [
        (4, Some(1), 100, Verdict::Asked(Why::Order)),
        (0, None, 0, Verdict::Unable(Unable::Tools)),
        (1, None, 0, Verdict::Unable(Unable::Lane)),
        (2, None, 0, Verdict::Unable(Unable::Window)),
        (3, None, 0, Verdict::Unable(Unable::Credential)),
    ];
    assert_eq!(short(&rows), expected);
    let question = Question::read("model=m&lane=demo/canary").unwrap();
    assert_eq!(explain(&model, &[], &question.want(), &bars)[0].target, 1, "requests of its lane prefer it");
}

#[test]
fn worst_of_several_workers_counts() {
    let rest = |seconds| State::Resting { until: Duration::from_secs(seconds), reason: Reason::Rate };
    let stand = |state, share, p95: Option<u64>| Stand { state, share, p95: p95.map(Duration::from_millis) };
    let one = stand(rest(5), 1.0, Some(80));
    assert_eq!(one.worse(stand(State::Trial, 0.5, None)), stand(rest(5), 0.5, Some(80)));
    assert_eq!(one.worse(stand(rest(9), 0.5, Some(120))), stand(rest(9), 0.5, Some(120)));
    assert_eq!(Stand::FRESH.worse(stand(State::Trial, 1.0, None)).state, State::Trial);
}

#[test]
fn name_that_rests_under_a_pattern_shows_in_the_list() {
    let mut any = target("any", 0);
    any.model = None;
    let model = VirtualModel { name: NamePattern::Prefix("gpt-".to_owned()), ..model(vec![any]) };
    let target = &model.targets[0];
    let mut standings = Standings::default();
    standings.failed("r", target, "other", &failure(Reason::Rate), NOW);
    assert_eq!(Stand::of_any(&standings, "r", (&model, target), NOW).state, State::Ready);
    standings.failed("r", target, "gpt-4o", &failure(Reason::Rate), NOW);
    let state = Stand::of_any(&standings, "r", (&model, target), NOW).state;
    assert!(matches!(state, State::Resting { reason: Reason::Rate, .. }), "{state:?}");
}

#[test]
fn most_exact_model_at_the_host_is_found_and_what_is_not_there_is_said() {
    let routes = [
        route("one.ai", "one", vec![named("*"), named("gpt-*")]),
        route("two.ai", "two", vec![named("gpt-4o"), named("small")]),
    ];
    let found = |host, model| match find(&routes, host, model) {
        Ok((route, model)) => format!("{} {}", route.name, model.name),
        Err(error) => error.to_string(),
    };
    assert_eq!(found(Some("ONE"), "gpt-4o"), "one.ai gpt-*");
    assert_eq!(found(None, "gpt-4o"), "two.ai gpt-4o");
    assert_eq!(found(None, "claude"), "one.ai *");
    assert_eq!(found(Some("three"), "x"), "no model route has the host three");
    assert_eq!(found(Some("two"), "x"), "there is no model x at two; there are: gpt-4o, small");
}

#[test]
fn questions_read_back_and_what_is_wrong_is_named() {
    let text = "model=a%2Fb&host=models.internal&lane=demo%2Fcanary&api=messages&tools=true&vision=true&tokens=9";
    let question = Question::read(text).unwrap();
    assert_eq!((question.api, question.tools, question.json), (Some(Api::Messages), Can::Yes, Can::No));
    assert_eq!(question.to_query(), text);
    assert_eq!(Question::read(&Question::about("m").to_query()), Ok(Question::about("m")));
    for (text, said) in [
        ("", "expected ?model="),
        ("model=m&tool=true", "tool is no field"),
        ("model=m&tools=maybe", "tools: expected true or false"),
        ("model=m&tokens=many", "tokens: expected a number"),
        ("model=m&api=chat", "api: expected chatCompletions"),
        ("model=m&lane=a%20b", "lane: "),
    ] {
        let error = Question::read(text).unwrap_err().to_string();
        assert!(error.starts_with(said), "{error}");
    }
}

#[test]
fn answer_names_targets_states_and_reasons_and_no_key() {
    let mut standings = Standings::default();
    let virtual_model = model(vec![target("a", 0), target("b", 1)]);
    standings.failed("r", &virtual_model.targets[0], "a-model", &failure(Reason::Auth), NOW);
    let question = Question::about("m");
    let rows = explained(&virtual_model, &standings, &question);
    let route = route("chat.ai", "models.internal", vec![virtual_model.clone()]);
    let answer = answer(&question, (&route, &virtual_model), &rows, Known::Workers(2));
    for (field, expected) in [
        ("route", "chat.ai"),
        ("virtualModel", "m"),
        ("states", "as 2 workers of the proxy see them; where they differ, the worst"),
    ] {
        assert_eq!(answer[field], expected);
    }
    let (first, second) = (&answer["targets"][0], &answer["targets"][1]);
    assert_eq!((&first["target"], &first["chosen"], &first["model"]), (&json!("b"), &json!(true), &json!("b-model")));
    assert_eq!((&second["state"], &second["reason"]), (&json!("resting"), &json!("auth")));
    assert_eq!(second["restsFor"], 60.0);
    assert_eq!(second["why"], "rests; only when those before it fail");
    assert_eq!(second["endpoint"], "https://a.example:443");
    assert!(!answer.to_string().contains("/keys/"), "{answer}");
    let alone = super::answer(&question, (&route, &virtual_model), &rows, Known::Nothing);
    assert!(alone["targets"][0]["state"].is_null() && alone["targets"][0]["order"] == 1, "{alone}");
}
