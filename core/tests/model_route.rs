//! Kind `ModelRoute`: what is written comes out as the data path reads it; a broken one is refused with the field named.

use std::{sync::Arc, time::Duration};

use mesh_core::{
    model::model_route::{
        Can, Counted, Credential, Escalate, Hedge, KeyPart, Limit, LimitMode, LimitStore, MidStream, ModelEndpoint,
        ModelRetry, ModelRoute, ModelTarget, ModelTimers, OnExhausted, OnStoreDown, Price, Reason, Security,
        UsageInStreams, VirtualModel,
    },
    resources::{Compiled, Domains, Input, Problem, Resource, compile_all, parse},
    schema::Schema,
};

use self::broken::{BROKEN, MODELS};

#[path = "models/broken.rs"]
mod broken;

fn compiled(text: &str) -> Result<Compiled, Vec<Problem>> {
    let resources = parse("models.yaml", text)?;
    let resources: Vec<&Resource> = resources.iter().collect();
    compile_all(&Input { resources: &resources, ..Input::default() }, &Domains::default())
}

fn route(text: &str) -> Arc<ModelRoute> {
    Arc::clone(&compiled(text).expect("nothing is wrong").world.model_routes[0])
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn target<'m>(model: &'m VirtualModel, name: &str) -> &'m ModelTarget {
    model.targets.iter().find(|target| target.name == name).expect("there is such a target")
}

const DRILLERS: &str = "shop/tester ops/* spiffe://cluster.local/ns/ai/sa/chaos";

#[test]
fn hosts_models_and_targets_come_out_as_written_and_in_order_of_priority() {
    let route = route(MODELS);
    assert_eq!((route.name.as_str(), route.hosts.join(" ").as_str()), ("chat.ai", "models.internal llm.ai"));
    assert_eq!(route.drill.allow.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "), DRILLERS);
    assert_eq!(route.body_limit, 2 * 1024 * 1024);
    let names: Vec<String> = route.models.iter().map(|model| model.name.to_string()).collect();
    assert_eq!(names, ["chat-large", "*"]);
    let model = &route.models[0];
    let order: Vec<&str> = model.targets.iter().map(|target| target.name.as_str()).collect();
    assert_eq!(order, ["small", "small-next", "gpt", "claude"]);
    let small = target(model, "small");
    let service = ModelEndpoint::Service { authority: "small.ai:8000".to_owned(), prefix: "/v1".to_owned() };
    assert_eq!(small.endpoint, service);
    assert_eq!((small.weight, small.context_window, small.credential.as_ref()), (90, Some(32_768), None));
    assert_eq!((small.capabilities.vision, small.capabilities.tools), (Can::No, Can::Yes));
    assert_eq!(small.capabilities.usage, UsageInStreams::Continuous);
    assert_eq!(target(model, "small-next").lane.as_deref(), Some("demo/canary"));
    let claude = target(model, "claude");
    assert_eq!(claude.endpoint, external(Security::SystemRoots, "api.anthropic.com", 443, "/v1", None));
    let key = Credential::Secret { name: "providers".to_owned(), key: "anthropic".to_owned() };
    assert_eq!((claude.credential.clone(), claude.capabilities.prefill), (Some(key), Can::Yes));
    assert_eq!(claude.limits[0], limit(Counted::Concurrent, 20, 0));
    assert_eq!(claude.limits[1], limit(Counted::Money, 12_500_000, 86_400));
    let gpt = target(model, "gpt");
    let security = Security::Roots("/etc/roots.pem".to_owned());
    assert_eq!(gpt.endpoint, external(security, "api.openai.com", 8443, "/eu", Some("proxy.internal:3128")));
    assert_eq!(gpt.credential, Some(Credential::File("/etc/keys/openai".to_owned())));
    let two = target(&route.models[1], "any-two");
    assert_eq!(two.endpoint, external(Security::None, "::1", 8081, "/base", None));
}

fn external(security: Security, host: &str, port: u16, prefix: &str, proxy: Option<&str>) -> ModelEndpoint {
    let (host, prefix) = (host.to_owned(), prefix.to_owned());
    ModelEndpoint::External { security, host, port, prefix, proxy: proxy.map(str::to_owned) }
}

fn limit(of: Counted, amount: u64, window: u64) -> Limit {
    Limit { of, amount, window: seconds(window), mode: LimitMode::Enforce }
}

#[test]
fn attempts_are_as_written_and_else_the_defaults() {
    let route = route(MODELS);
    let model = &route.models[0];
    let timers = ModelTimers {
        connect: Duration::from_millis(500),
        headers: seconds(9),
        headers_whole: seconds(9),
        first_token: seconds(4),
        idle: seconds(20),
        total: seconds(300),
        min_remaining: seconds(2),
    };
    let retry = ModelRetry {
        attempts: 4,
        only_within: seconds(12),
        budget_percent: 30,
        on: vec![Reason::Rate, Reason::Overloaded, Reason::TimeoutFirstToken],
    };
    let escalate = Escalate {
        on_length: true,
        refusals: vec!["i'm sorry".to_owned()],
        json: Some(vec!["answer".to_owned()]),
        schema: Schema::new(serde_json::json!({"required": ["answer"], "properties": {"answer": {"type": "string"}}}))
            .ok(),
    };
    assert_eq!((model.timers, &model.retry, &model.escalate), (timers, &retry, &escalate));
    assert_eq!(model.hedge, Hedge::AfterP95);
    assert_eq!((model.on_exhausted, model.mid_stream), (OnExhausted::Unavailable, MidStream::Continue));
    let model = &route.models[1];
    assert_eq!((model.timers, &model.retry), (ModelTimers::default(), &ModelRetry::default()));
    assert_eq!((model.hedge, &model.escalate), (Hedge::Off, &Escalate::default()));
    assert_eq!((model.on_exhausted, model.mid_stream), (OnExhausted::LastError, MidStream::Terminate));
    assert_eq!((model.targets[0].weight, model.targets[0].priority), (1, 0));
}

#[test]
fn tokens_are_as_written() {
    let tokens = &route(MODELS).tokens;
    let shadow = Limit { mode: LimitMode::Shadow, ..limit(Counted::Requests, 60, 60) };
    assert_eq!(tokens.limits, [limit(Counted::Total, 1_000_000, 3_600), shadow]);
    assert_eq!(tokens.key, [KeyPart::Namespace, KeyPart::Header("x-tenant".to_owned())]);
    let password = Some(Credential::File("/etc/keys/redis".to_owned()));
    assert_eq!(tokens.store, LimitStore::Redis { url: "redis://mesh@redis.ai:6379/2".to_owned(), password });
    assert_eq!(tokens.on_store_down, OnStoreDown::Closed);
    let price = |model: &str, input, cached, output| Price { model: model.parse().unwrap(), input, cached, output };
    let expected =
        [price("gpt-4*", 2_500_000, 1_250_000, 10_000_000), price("claude-*", 3_000_000, 3_000_000, 15_000_000)];
    assert_eq!(tokens.prices, expected);
}

#[test]
fn defaults_shrink_to_a_shorter_total() {
    let text = MODELS.replace("    - name: any-one", "    - name: any-one\n      weight: 2");
    let text = text.replace(
        "  - name: \"*\"\n",
        "  - name: \"*\"\n    timers: {total: 6s}\n    retry: {onlyWithin: 6s, on: [server]}\n",
    );
    let route = route(&text);
    let model = &route.models[1];
    assert_eq!(
        (model.timers.first_token, model.timers.headers, model.timers.connect),
        (seconds(6), seconds(6), seconds(1))
    );
}

#[test]
fn one_target_is_accepted_where_one_attempt_is_written() {
    let text = MODELS.replace(
        "    - name: any-two\n      provider: openai-compatible\n      endpoint: \"http://[::1]:8081/base\"\n",
        "    retry: {attempts: 1}\n",
    );
    assert_eq!(route(&text).models[1].targets.len(), 1);
}

#[test]
fn key_in_the_clear_is_a_note_except_on_the_own_machine() {
    let with_key = |host: &str| {
        let endpoint = format!("\"http://{host}\"\n      credential: {{file: /k}}");
        compiled(&MODELS.replacen("\"http://127.0.0.1:8080\"", &endpoint, 1)).expect("no problem").notes
    };
    assert_eq!(with_key("127.0.0.1:8080"), []);
    let notes = with_key("gateway.internal");
    assert!(notes[0].path.ends_with("spec.models[1].targets[0].endpoint"), "{notes:?}");
}

#[test]
fn what_registries_may_still_know_is_a_note() {
    let text = MODELS.replace("small.ai:8000", "other.ai:8000");
    let resources = parse("models.yaml", &text).unwrap();
    let resources: Vec<&Resource> = resources.iter().collect();
    let input = Input { resources: &resources, open: true, ..Input::default() };
    let compiled = compile_all(&input, &Domains::default()).expect("no problem");
    assert_eq!(compiled.notes.len(), 1, "{:?}", compiled.notes);
    assert!(compiled.notes[0].path.ends_with("spec.models[0].targets[1].endpoint.service"));
}

#[test]
fn broken_route_is_refused_with_the_field_named() {
    for (good, bad, path, message) in BROKEN {
        assert!(MODELS.contains(good), "{good} stands in the file");
        let problems = compiled(&MODELS.replacen(good, bad, 1)).expect_err(bad);
        let expected = format!("ModelRoute ai/chat: {path}");
        let found = problems.iter().any(|problem| problem.path == expected && problem.message.contains(message));
        assert!(found, "{good} → {bad}: {expected}: {message} is not in {problems:#?}");
        let text = problems.iter().map(Problem::to_string).collect::<String>();
        assert!(!text.contains("secret@") && !text.contains("sk-secret") && !text.contains("pw@"), "{text}");
    }
}

#[test]
fn all_problems_of_a_route_are_reported_together() {
    let mut text = MODELS.to_owned();
    for (good, bad) in [
        ("provider: vllm", "provider: vlm"),
        ("idle: 20s", "idle: soon"),
        ("mode: shadow", "mode: dry"),
        ("llm.ai]", "\"l:1\"]"),
    ] {
        text = text.replacen(good, bad, 1);
    }
    let mut paths: Vec<String> = compiled(&text).unwrap_err().into_iter().map(|problem| problem.path).collect();
    paths.sort();
    let expected = ["hosts[1]", "models[0].targets[0].provider", "models[0].timers.idle", "tokens.limits[1].mode"];
    assert_eq!(paths, expected.map(|path| format!("ModelRoute ai/chat: spec.{path}")));
}

#[test]
fn host_in_two_routes_is_refused_and_the_same_model_at_another_host_is_not() {
    let other = |host: &str| {
        let route = format!(
            "---\napiVersion: lanemesh.io/v1alpha1\nkind: ModelRoute\nmetadata: {{name: other}}\nspec:\n  hosts: [{host}]\n  \
             models:\n  - name: chat-large\n    retry: {{attempts: 1}}\n    targets:\n    - {{name: t, provider: vllm, \
             endpoint: \"http://localhost:1\"}}\n"
        );
        compiled(&format!("{MODELS}{route}"))
    };
    let problems = other("llm.ai").unwrap_err();
    assert_eq!(problems[0].path, "ModelRoute default/other: spec.hosts[0]");
    assert!(problems[0].message.starts_with("llm.ai already has ModelRoute ai/chat at models.yaml:"), "{problems:?}");
    let routes = other("elsewhere.ai").unwrap().world.model_routes;
    assert_eq!(routes.iter().map(|route| route.name.as_str()).collect::<Vec<_>>(), ["chat.ai", "other.default"]);
}
