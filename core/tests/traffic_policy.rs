//! Kind `TrafficPolicy`: what is written comes out as the data path reads it, a broken one is refused with the field named,
//! and the reference page says what the reader takes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
    time::Duration,
};

use mesh_core::{
    model::{
        model_route::{Credential, LimitMode, LimitStore},
        policy::{
            Backoff, GrpcCode, HashOn, HealthCheck, HttpProbe, Limits, LoadBalancing, OnRateStoreDown,
            OutlierDetection, Probe, RateKey, RateLimit, Retries, RetryBudget, RetryOn, SuccessRate, TcpProbe,
            Timeouts, TrafficPolicy, WarmUp, ZoneFailover, ZoneShares, Zones,
        },
        route::{PathMatch, RouteMatch, ValueCondition, ValueMatch},
    },
    resources::{
        Domains, Problem, compile, parse,
        traffic_policy::{Absent, FIELDS, Field},
    },
};
use serde_yaml_ng::Value;

use self::broken::{BROKEN, BROKEN_PROBES};

#[path = "traffic/broken.rs"]
mod broken;

const FULL: &str = include_str!("traffic/full.yaml");

fn read(text: &str) -> Result<TrafficPolicy, Vec<Problem>> {
    let world = compile(&parse("policy.yaml", text)?, &Domains::default())?;
    Ok(world.traffic["cart.shop"].clone())
}

/// A policy that says this beside its service, in YAML.
fn policy(spec: &str) -> String {
    let (services, _) = FULL.split_once("---\n").expect("two documents");
    format!(
        "{services}---\napiVersion: lanemesh.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: cart, namespace: \
         shop}}\nspec:\n  service: cart\n{spec}"
    )
}

fn of(spec: &str) -> TrafficPolicy {
    read(&policy(spec)).unwrap_or_else(|problems| panic!("{spec}: {problems:?}"))
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn value(name: &str, value: &str) -> ValueMatch {
    ValueMatch { name: name.to_owned(), value: ValueCondition::Exact(value.to_owned()) }
}

#[test]
fn times_retries_limits_and_balancing_come_out_as_written() {
    let policy = read(FULL).unwrap();
    let timeouts = Timeouts {
        connect: millis(300),
        request: Some(millis(10_000)),
        per_try: Some(millis(2_000)),
        response_headers: Some(millis(5_000)),
        idle: millis(600_000),
    };
    assert_eq!(policy.timeouts, timeouts);
    let deadline_exceeded = GrpcCode::try_from(4).unwrap();
    let retries = Retries {
        attempts: 4,
        on: vec![
            RetryOn::ConnectFailure,
            RetryOn::GatewayError,
            RetryOn::Status(503),
            RetryOn::Status(429),
            RetryOn::Grpc(deadline_exceeded),
        ],
        methods: vec!["POST".to_owned(), "LOCK".to_owned()],
        budget: RetryBudget { percent: 10, min_per_second: 5 },
        backoff: Backoff { base: millis(50), max: millis(1_000) },
        body_limit: 262_144,
    };
    assert_eq!(policy.retries, retries);
    assert_eq!(policy.limits, Limits { connections: 100, pending: 50, requests: 1_000 });
    let on = vec![
        HashOn::Header("x-user-id".to_owned()),
        HashOn::Cookie { name: "session".to_owned(), ttl: Some(millis(3_600_000)) },
        HashOn::Cookie { name: "legacy".to_owned(), ttl: None },
        HashOn::Query("user".to_owned()),
        HashOn::SourceIp,
    ];
    assert_eq!(policy.load_balancing, LoadBalancing::RingHash { on });
    let warm_up = WarmUp { duration: millis(180_000), curve: 150, floor: 5, after_recovery: true };
    assert_eq!(policy.warm_up, Some(warm_up));
}

#[test]
fn what_is_said_about_health_comes_out_as_written() {
    let policy = read(FULL).unwrap();
    let rate = SuccessRate { minimum_hosts: 4, request_volume: 50, standard_deviation_factor: 2_500 };
    let outlier = OutlierDetection {
        consecutive_gateway_failures: 3,
        consecutive_local_origin_failures: 2,
        base_ejection_time: millis(10_000),
        max_ejection_time: millis(100_000),
        max_ejection_percent: 40,
        success_rate: Some(rate),
        honour_retry_after: false,
    };
    assert_eq!(policy.outlier_detection, outlier);
    let probe = HttpProbe {
        path: "/healthz?full=1".to_owned(),
        host: Some("cart.internal".to_owned()),
        method: "HEAD".to_owned(),
        headers: vec![("x-probe".to_owned(), "mesh".to_owned())],
        statuses: vec![(200, 204), (301, 301)],
    };
    let check = HealthCheck {
        probe: Probe::Http(probe),
        interval: millis(5_000),
        timeout: millis(500),
        jitter: 20,
        unhealthy_threshold: 4,
        healthy_threshold: 1,
        unhealthy_interval: Some(millis(2_000)),
        unhealthy_edge_interval: Some(millis(1_000)),
        healthy_edge_interval: Some(millis(3_000)),
        no_traffic_interval: millis(30_000),
        shared_by: 0,
    };
    assert_eq!((policy.health_check, policy.panic_threshold), (Some(check), 30));
    let tcp = of("  healthCheck: {tcp: {send: \"PING\\r\\n\", receive: {hex: 2b504F}}}\n");
    let probe = Probe::Tcp(TcpProbe { send: b"PING\r\n".to_vec(), receive: b"+PO".to_vec() });
    assert_eq!(tcp.health_check, Some(HealthCheck::new(probe)));
    let grpc = of("  healthCheck: {grpc: {service: shop.Cart}}\n");
    assert_eq!(grpc.health_check, Some(HealthCheck::new(Probe::Grpc { service: "shop.Cart".to_owned() })));
}

#[test]
fn zones_and_rate_limits_come_out_as_written() {
    let policy = read(FULL).unwrap();
    let request = RouteMatch {
        path: Some(PathMatch::Exact("/report".to_owned())),
        method: Some("POST".to_owned()),
        headers: vec![value("x-region", "eu")],
        query: vec![value("big", "1")],
    };
    let failover = |to: &str| ZoneFailover { from: "a".to_owned(), to: to.to_owned() };
    assert_eq!((policy.zones.prefer_same, policy.zones.threshold), (true, 80));
    assert_eq!(policy.zones.failover, [failover("b"), failover("c")]);
    assert_eq!((&policy.zones.matches[0].request, policy.zones.matches[0].zone.as_str()), (&request, "c"));
    let shares = of("  zones: {distribute: [{from: a, to: {a: 80%, b: 20}}]}\n").zones;
    let to = BTreeMap::from([("a".to_owned(), 80), ("b".to_owned(), 20)]);
    assert_eq!(shares, Zones { distribute: vec![ZoneShares { from: "a".to_owned(), to }], ..Zones::default() });
    let password = Credential::Secret { name: "redis".to_owned(), key: "password".to_owned() };
    let each = RateLimit {
        name: "each-caller".to_owned(),
        matches: vec![RouteMatch {
            path: Some(PathMatch::Prefix("/buy".to_owned())),
            method: Some("POST".to_owned()),
            headers: vec![value("x-tier", "free")],
            query: vec![value("try", "1")],
        }],
        key: vec![
            RateKey::Identity,
            RateKey::Namespace,
            RateKey::Route,
            RateKey::Lane,
            RateKey::Header("x-tenant".to_owned()),
        ],
        requests: 100,
        per: millis(60_000),
        burst: 20,
        store: LimitStore::Redis { url: "redis://mesh@redis.infra:6379/2".to_owned(), password: Some(password) },
        on_store_down: OnRateStoreDown::Closed,
        mode: LimitMode::Shadow,
    };
    let all = RateLimit {
        name: "all".to_owned(),
        matches: Vec::new(),
        key: Vec::new(),
        requests: 1_000,
        per: millis(1_000),
        burst: 1_000,
        store: LimitStore::Local,
        on_store_down: OnRateStoreDown::Local,
        mode: LimitMode::Enforce,
    };
    assert_eq!(policy.rate_limits, [each, all]);
}

#[test]
fn policy_that_says_nothing_is_the_default_and_no_warm_up_can_be_said_in_three_ways() {
    assert_eq!(of(""), TrafficPolicy::default());
    let parts = "  timeouts: {}\n  retries: {}\n  limits: {}\n  warmUp: {}\n  outlierDetection: {}\n  zones: {}\n";
    assert_eq!(of(parts), TrafficPolicy::default());
    for none in ["off", "false", "{duration: 0s}"] {
        assert_eq!(of(&format!("  warmUp: {none}\n")).warm_up, None, "{none}");
    }
}

#[test]
fn each_broken_policy_is_refused_with_the_field_named() {
    let http = FULL.find("    http:\n").unwrap()..FULL.find("    interval: 5s").unwrap();
    let probe = |probe: &str| {
        let mut text = FULL.to_owned();
        text.replace_range(http.clone(), &format!("    {probe}\n"));
        text.replace("    interval: 5s\n", "")
    };
    let documents = BROKEN.iter().map(|(what, by, path, says)| {
        assert!(FULL.contains(what), "{what:?} is not there");
        (FULL.replacen(what, by, 1), *by, *path, *says)
    });
    let probes = BROKEN_PROBES.iter().map(|(_, by, path, says)| (probe(by), *by, *path, *says));
    for (text, by, path, says) in documents.chain(probes) {
        let problems = read(&text).expect_err(by);
        let is_named = problems.iter().any(|problem| {
            problem.path == format!("TrafficPolicy shop/cart: {path}") && problem.message.contains(says)
        });
        assert!(is_named, "{by:?} must be refused at {path} because {says:?}: {problems:#?}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let parts = "  timeouts: {connect: 0s}\n  retries: {on: [never]}\n  limits: {pending: 0}\n  loadBalancing: {}\n  \
                 warmUp: {floor: 0}\n  outlierDetection: {successRate: 5}\n  healthCheck: {interval: 1ms}\n  \
                 panicThreshold: 200\n  zones: {threshold: 50}\n  rateLimits: [{}]\n";
    let problems = read(&policy(parts)).unwrap_err();
    let paths: BTreeSet<&str> = problems.iter().filter_map(|problem| problem.path.split(": spec.").nth(1)).collect();
    let expected = [
        "healthCheck",
        "healthCheck.interval",
        "limits.pending",
        "loadBalancing.algorithm",
        "outlierDetection.successRate",
        "panicThreshold",
        "rateLimits[0].name",
        "rateLimits[0].per",
        "rateLimits[0].requests",
        "retries.on[0]",
        "timeouts.connect",
        "warmUp.floor",
        "zones.threshold",
    ];
    assert_eq!(paths, BTreeSet::from(expected));
}

/// Documents that together have every mapping of a policy.
fn everything() -> Vec<Value> {
    let others = [
        "  healthCheck: {tcp: {send: {hex: aa}, receive: {hex: bb}}}\n",
        "  healthCheck: {grpc: {service: a}}\n  zones: {distribute: [{from: a, to: {a: 100}}]}\n",
        "  rateLimits: [{name: a, requests: 1, per: 1s, store: {redis: {url: redis://a:1, password: {file: /a}}}}]\n",
    ];
    let texts = std::iter::once(FULL.to_owned()).chain(others.map(policy));
    let policy = |text: String| {
        let (_, policy) = text.split_once("---\n").expect("two documents");
        serde_yaml_ng::from_str(policy).expect("YAML")
    };
    texts.map(policy).collect()
}

/// Paths of all mappings below `value`, as the table writes them.
fn mappings(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Mapping(map) => {
            found.insert(path.to_owned());
            for (key, value) in map {
                let key = key.as_str().expect("a name");
                let below = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                mappings(value, &below, found);
            }
        }
        Value::Sequence(list) => list.iter().for_each(|value| mappings(value, &format!("{path}[]"), found)),
        _ => {}
    }
}

/// The mappings at `path`.
fn at<'v>(value: &'v mut Value, path: &str) -> Vec<&'v mut serde_yaml_ng::Mapping> {
    let Some((first, rest)) = path.split_once('.').or((!path.is_empty()).then_some((path, ""))) else {
        return value.as_mapping_mut().into_iter().collect();
    };
    match first.strip_suffix("[]") {
        Some(list) => {
            let elements = value.get_mut(list).and_then(Value::as_sequence_mut).into_iter().flatten();
            elements.flat_map(|element| at(element, rest)).collect()
        }
        None => value.get_mut(first).into_iter().flat_map(|value| at(value, rest)).collect(),
    }
}

fn parent_and_name(field: &Field) -> (&'static str, &'static str) {
    field.path.rsplit_once('.').unwrap_or(("", field.path))
}

fn fields() -> impl Iterator<Item = &'static Field> {
    FIELDS.iter().copied().flatten()
}

#[test]
fn the_table_of_fields_has_exactly_what_the_reader_takes() {
    // Names that one chooses are no fields, and what stands in conditions is HTTPRoute's.
    let free = |path: &str| {
        let inside = path.split_once("matches[].").is_some_and(|(_, rest)| !rest.is_empty());
        inside || path.ends_with("http.headers") || path.ends_with("distribute[].to")
    };
    let mut seen = BTreeSet::new();
    for document in everything() {
        let mut paths = BTreeSet::new();
        mappings(&document["spec"], "", &mut paths);
        for path in paths.into_iter().filter(|path| !free(path)) {
            let mut broken = document.clone();
            for map in at(broken.get_mut("spec").unwrap(), &path) {
                map.insert("zzz".into(), 1.into());
            }
            let text = serde_yaml_ng::to_string(&broken).unwrap();
            let problems = parse("a.yaml", &text).unwrap_err();
            let unknown = problems.iter().find(|problem| problem.path.ends_with("zzz")).expect(&path);
            let (_, allowed) = unknown.message.split_once("(allowed: ").expect(&unknown.message);
            let allowed: BTreeSet<&str> = allowed.trim_end_matches(')').split(", ").collect();
            // A part is in the table by its fields, a list by itself or its elements' fields.
            let below = |field: &'static Field| {
                let rest = if path.is_empty() { field.path } else { field.path.strip_prefix(&format!("{path}."))? };
                rest.split(['.', '[']).next()
            };
            let listed: BTreeSet<&str> = fields().filter_map(below).collect();
            assert_eq!(listed, allowed, "{path:?}");
            seen.insert(path);
        }
    }
    for field in fields() {
        let (parent, _) = parent_and_name(field);
        assert!(seen.contains(parent), "{} stands in no document", field.path);
    }
}

#[test]
fn the_defaults_of_the_table_are_those_of_the_reader() {
    let base = policy(
        "  timeouts: {}\n  retries: {budget: {}, backoff: {}}\n  limits: {}\n  warmUp: {}\n  outlierDetection: \
         {successRate: {}}\n  healthCheck: {http: {}}\n  zones: {preferSame: true}\n  rateLimits: [{name: a, requests: 1, \
         per: 1s, store: {redis: {url: redis://a:1}}}]\n",
    );
    let (services, text) = base.split_once("---\n").unwrap();
    let document: Value = serde_yaml_ng::from_str(text).unwrap();
    for field in fields() {
        let Absent::Default(default) = field.absent else { continue };
        let (parent, name) = parent_and_name(field);
        let (mut with, mut without) = (document.clone(), document.clone());
        let default: Value = serde_yaml_ng::from_str(default).unwrap();
        for map in at(with.get_mut("spec").unwrap(), parent) {
            map.insert(name.into(), default.clone());
        }
        for map in at(without.get_mut("spec").unwrap(), parent) {
            map.remove(name);
        }
        assert!(with != without, "{} is nowhere", field.path);
        let read = |value: &Value| read(&format!("{services}---\n{}", serde_yaml_ng::to_string(value).unwrap()));
        assert_eq!(read(&with).expect(field.path), read(&without).unwrap(), "{}", field.path);
    }
}

#[test]
fn state_of_an_earlier_version_keeps_its_attempts_and_its_probe() {
    let second = r#"{"secs":1,"nanos":0}"#;
    let text = format!(
        r#"{{"timeouts":{{"connect":{second},"request":null,"response_headers":null,"idle":{second}}},"attempts":1,
        "limits":{{"connections":7,"requests":9}},"health_check":{{"probe":"tcp","interval":{second},"timeout":{second},
        "unhealthy_threshold":3,"healthy_threshold":2}},"zones":{{"prefer_same":true}},"labels":{{}}}}"#
    );
    let policy: TrafficPolicy = serde_json::from_str(&text).unwrap();
    assert_eq!((policy.retries.attempts, policy.limits.connections), (1, 7));
    assert_eq!(policy.health_check.as_ref().map(|check| &check.probe), Some(&Probe::Tcp(TcpProbe::default())));
    let full = read(FULL).unwrap();
    for policy in [policy, full] {
        let text = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<TrafficPolicy>(&text).unwrap(), policy);
    }
}

#[test]
fn the_reference_page_is_the_table() {
    let cell = |text: &str| text.replace('|', "\\|");
    let mut page =
        "# Fields of a TrafficPolicy\n\nEvery field below `spec`; `docs/traffic-policy.md` explains them with \
                    examples. `[]` stands for each element of a list. Durations are written as `500ms`, `2s`, `1m30s`, \
                    `1h`, percentages as `70` or `70%`.\n"
            .to_owned();
    let mut part = None;
    for field in fields() {
        let of = field.path.split(['.', '[']).next().unwrap_or_default();
        let is_part =
            |other: &Field| other.path.starts_with(&format!("{of}.")) || other.path.starts_with(&format!("{of}["));
        let of = if fields().any(is_part) { of } else { "" };
        if part != Some(of) {
            let title = if of.is_empty() { "The policy".to_owned() } else { format!("`{of}`") };
            write!(page, "\n## {title}\n\n| field | value | if absent | meaning |\n|---|---|---|---|\n").unwrap();
            part = Some(of);
        }
        let absent = match field.absent {
            Absent::Required => "required".to_owned(),
            Absent::Default(default) => format!("`{default}`"),
            Absent::Means(text) => cell(text),
        };
        let meaning = cell(field.meaning);
        writeln!(page, "| `{}` | {} | {absent} | {meaning} |", field.path, cell(field.value)).unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/traffic-policy.md");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&path, &page).expect("the page can be written");
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == page,
        "docs/reference/traffic-policy.md is not what the table says; \
         run: UPDATE_GENERATED=1 cargo test -p mesh-core --test traffic_policy"
    );
}
