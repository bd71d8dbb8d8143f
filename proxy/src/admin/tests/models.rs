//! Targets of model routes, and how they stand.

use mesh_core::{
    limits::{Ask, Caller, Key, Quota},
    model::model_route::{
        Capabilities, Counted, Credential, Failure, Limit, LimitMode, ModelEndpoint, ModelRoute, ModelTarget,
        NamePattern, Provider, Reason, Security, TokenLimits, VirtualModel,
    },
    model_route::standing::Standings,
    snapshot::Snapshot,
};
use serde_json::Value;
use tokio::time::Instant;

use super::*;
use crate::telemetry::models::Learned;

fn target(name: &str, priority: u32, credential: Option<&std::path::Path>) -> Arc<ModelTarget> {
    Arc::new(ModelTarget {
        name: name.to_owned(),
        provider: Provider::Openai,
        endpoint: ModelEndpoint::External {
            security: Security::SystemRoots,
            host: format!("{name}.example"),
            port: 443,
            prefix: "/v1".to_owned(),
            proxy: None,
        },
        model: Some(format!("{name}-1")),
        credential: credential.map(|path| Credential::File(path.display().to_string())),
        priority,
        weight: 1,
        lane: None,
        context_window: None,
        capabilities: Capabilities::default(),
        limits: Vec::new(),
    })
}

fn with_route(shared: &Shared, targets: Vec<Arc<ModelTarget>>) -> Arc<ModelRoute> {
    with_limits(shared, targets, Vec::new())
}

fn with_limits(shared: &Shared, targets: Vec<Arc<ModelTarget>>, limits: Vec<Limit>) -> Arc<ModelRoute> {
    let model = VirtualModel {
        name: NamePattern::Exact("chat".to_owned()),
        targets,
        timers: Default::default(),
        retry: Default::default(),
        hedge: Default::default(),
        escalate: Default::default(),
        on_exhausted: Default::default(),
        mid_stream: Default::default(),
    };
    let route = Arc::new(ModelRoute {
        name: "chat.ai".to_owned(),
        hosts: vec!["models.internal".to_owned()],
        models: vec![Arc::new(model)],
        tokens: TokenLimits { limits, ..TokenLimits::default() },
        drill: Default::default(),
        body_limit: 0,
    });
    shared.snapshot.store(Arc::new(Snapshot { model_routes: [Arc::clone(&route)].into(), ..Snapshot::default() }));
    route
}

/// A worker that saw this fail for this reason now.
fn failed(route: &ModelRoute, target: &ModelTarget, reason: Reason) -> Learned {
    let mut standings = Standings::default();
    let failure = Failure { reason, status: 401, message: String::new(), code: None, retry_after: None };
    standings.failed(&route.name, target, target.model_name("chat"), &failure, Duration::ZERO);
    Learned { standings, started: Instant::now() }
}

async fn json(port: &Port, path: &str) -> (u16, Value) {
    let (status, body) = port.get(path).await;
    (status, serde_json::from_str(&body).unwrap())
}

#[tokio::test]
async fn models_show_every_target_with_its_state_and_whether_its_key_can_be_read_but_no_key() {
    let folder = tempfile::TempDir::new().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "sk-very-secret").unwrap();
    let port = port().await;
    let targets =
        vec![target("a", 0, Some(&key)), target("b", 1, Some(&folder.path().join("none"))), target("c", 2, None)];
    let route = with_route(&port.shared, targets.clone());
    let (status, page) = json(&port, "/models").await;
    assert_eq!(status, 200);
    let states = |page: &Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|item| format!("{} {}", item["target"], item["state"])).collect()
    };
    assert_eq!(states(&page), [r#""a" "ready""#, r#""b" "ready""#, r#""c" "ready""#]);
    let (first, second) = (&page["items"][0], &page["items"][1]);
    assert_eq!((&first["credential"], &page["items"][2]["credential"]), (&"readable".into(), &Value::Null));
    assert!(second["credential"].as_str().unwrap().starts_with("cannot read the credential"), "{second}");
    assert_eq!(
        (&first["endpoint"], &first["hosts"][0]),
        (&"https://a.example:443/v1".into(), &"models.internal".into())
    );
    assert!(!page.to_string().contains("sk-very-secret"), "{page}");
    port.worker.models.show(failed(&route, &targets[0], Reason::Auth));
    let (_, page) = json(&port, "/models").await;
    assert_eq!(states(&page)[0], r#""a" "resting""#);
    assert_eq!(page["items"][0]["reason"], "auth");
    assert!(page["items"][0]["restsFor"].as_f64().unwrap() <= 60.0, "{page}");
    assert_eq!(port.ask("GET /models", "pages.example", "").await.0, 403, "for this machine only");
}

#[tokio::test]
async fn explain_answers_whom_a_request_would_ask_and_why_not_the_others() {
    let port = port().await;
    let nowhere = std::path::Path::new("/nonexistent/key");
    let targets = vec![target("a", 0, None), target("b", 1, None), target("keyless", 0, Some(nowhere))];
    let route = with_route(&port.shared, targets.clone());
    let order = async |query: &str| -> Vec<(String, Option<u64>, String)> {
        let (status, told) = json(&port, &format!("/models/explain?{query}")).await;
        assert_eq!(status, 200, "{told}");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let rows = told["targets"].as_array().unwrap().iter();
        rows.map(|row| (text(&row["target"]), row["order"].as_u64(), text(&row["why"]))).collect()
    };
    let row = |target: &str, order, why: &str| (target.to_owned(), order, why.to_owned());
    let keyless = row("keyless", None, "its credential cannot be read");
    let expected = [
        row("a", Some(1), "first by priority and weight"),
        row("b", Some(2), "when those before it fail"),
        keyless.clone(),
    ];
    assert_eq!(order("model=chat&host=models.internal").await, expected);
    port.worker.models.show(failed(&route, &targets[0], Reason::Connect));
    let expected = [
        row("b", Some(1), "first by priority and weight"),
        row("a", Some(2), "rests; only when those before it fail"),
        keyless,
    ];
    assert_eq!(order("model=chat").await, expected);
    let unable = order("model=chat&api=generateContent").await;
    assert!(
        unable.iter().all(|(_, order, why)| order.is_none() && why == "cannot be spoken to in this API"),
        "{unable:?}"
    );
    assert_eq!(json(&port, "/models/explain?model=other").await.0, 404);
    assert_eq!(json(&port, "/models/explain?model=chat&host=elsewhere").await.0, 404);
    assert_eq!(json(&port, "/models/explain").await.0, 400);
}

#[tokio::test]
async fn metrics_tell_which_targets_rest_and_what_all_of_them_are_worth() {
    let port = port().await;
    let targets = vec![target("a", 0, None), target("b", 1, None)];
    let route = with_route(&port.shared, targets.clone());
    let lines = async |beginning: &str| -> Vec<String> {
        let page = port.get("/metrics").await.1;
        page.lines().filter(|line| line.starts_with(beginning)).map(str::to_owned).collect()
    };
    assert_eq!(lines("mesh_model_target_resting{").await, Vec::<String>::new());
    port.worker.models.show(failed(&route, &targets[0], Reason::Quota));
    let resting = r#"mesh_model_target_resting{route="chat.ai",target="a",reason="quota"} 1"#;
    let told = lines("mesh_model_target_resting{").await;
    assert!(matches!(&told[..], [line] if line.starts_with(resting)), "{told:?}");
    assert_eq!(lines("mesh_model_target_share{").await.len(), 2);
}

#[tokio::test]
async fn explain_says_which_limit_would_refuse() {
    let port = port().await;
    let limit = |of, mode| Limit { of, amount: 1, window: Duration::from_secs(86_400), mode };
    let mut limited = (*target("a", 0, None)).clone();
    limited.limits = vec![limit(Counted::Concurrent, LimitMode::Enforce)];
    let limits = vec![limit(Counted::Requests, LimitMode::Enforce), limit(Counted::Total, LimitMode::Shadow)];
    let route = with_limits(&port.shared, vec![Arc::new(limited)], limits);
    let says = async |query: &str| -> Vec<String> {
        let (_, told) = json(&port, &format!("/models/explain?{query}")).await;
        let shown = |limit: &Value| format!("{} {} {}", limit["target"], limit["limit"], limit["refuses"]);
        told["limits"].as_array().unwrap().iter().map(shown).collect()
    };
    let (requests, total) = (r#"null "requests/1d""#, r#"null "total/1d/shadow""#);
    let concurrent = r#""a" "concurrent" null"#.to_owned();
    let expected = [format!("{requests} null"), format!("{total} \"too_large\""), concurrent.clone()];
    assert_eq!(says("model=chat&tokens=2").await, expected);
    let key = Key::of_caller(&route.name, &[], &Caller::default(), |_| None);
    let held = port.shared.limits.reserve(&Quota::of_callers(&route), &key, &Ask::default());
    let expected = [format!("{requests} \"used\""), format!("{total} \"used\""), concurrent];
    assert_eq!(says("model=chat").await, expected);
    drop(held);
}
