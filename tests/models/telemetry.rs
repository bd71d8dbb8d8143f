//! What calls to models leave behind: spans at a collector, lines of the access log, metrics; and nothing of what was said.

use mesh_tests::{
    addresses::Block,
    collector::{Collector, attribute, hex},
    models::{
        events::{self, Answer, Ended},
        stand_in::StandIn,
    },
    wait::{PATIENCE, until},
};
use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode};
use serde_json::{Value, json};

use crate::world::{CALLER, HOST, Served, Virtual, World};

/// Span of the application that calls.
const PARENT: &str = "b7ad6b7169203331";
/// Words of every prompt, and the first of every answer of the stand-in.
const SAID: [&str; 2] = ["one two three", "word0"];

/// A world whose caller's sidecar tells everything to a collector.
struct Told {
    world: World,
    collector: Collector,
    _block: Block,
}

impl Told {
    async fn start(targets: &[&str]) -> Told {
        let block = Block::reserve();
        let address = block.address(1);
        let (collector, _serving) = Collector::start((address, 4317).into()).await;
        let targets = targets.iter().map(|name| Served::outside(name, "openai").with("model", json!("gpt")));
        let world = World::start_with(vec![Virtual::new("m", targets.collect())], |pod| {
            pod.setting("LANEMESH_OTLP_ENDPOINT", format!("http://{address}:4317"))
                .setting("LANEMESH_ACCESS_LOG", "all")
        });
        Told { world: world.await, collector, _block: block }
    }

    /// Calls the model in a trace of its own.
    async fn call(&self, trace: &str, more: Value) -> Answer {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": SAID[0]}]});
        for (name, value) in more.as_object().expect("fields are an object") {
            body[name] = value.clone();
        }
        let parent = format!("00-{trace}-{PARENT}-01");
        events::post(self.world.outbound(), HOST, "/v1/chat/completions", &[("traceparent", &parent)], &body).await
    }

    /// The span of the call and those of its attempts, in their order, once all of them have come.
    async fn spans(&self, trace: &str, attempts: usize) -> (Span, Vec<Span>) {
        let what = format!("a call and {attempts} attempts at the collector");
        let spans = until(&what, PATIENCE, || async {
            Some(self.collector.of_trace(trace)).filter(|spans| spans.len() > attempts)
        })
        .await;
        assert_eq!(spans.len(), 1 + attempts, "{spans:?}");
        for span in &spans {
            let text = format!("{span:?}");
            assert!(SAID.iter().all(|said| !text.contains(said)), "nothing of what was said: {text}");
        }
        let (calls, mut rest): (Vec<Span>, Vec<Span>) =
            spans.into_iter().partition(|span| hex(&span.parent_span_id) == PARENT);
        let [call] = <[Span; 1]>::try_from(calls).expect("one span below the caller's");
        assert!(rest.iter().all(|attempt| attempt.parent_span_id == call.span_id), "attempts are below their call");
        rest.sort_by_key(|attempt| attribute(attempt, "mesh.model.attempt"));
        (call, rest)
    }

    /// Lines of the access log of a trace: of the call, and of its attempts.
    async fn lines(&self, trace: &str, count: usize) -> Vec<Value> {
        let all = || -> Vec<Value> {
            let log = self.world.mesh.pod(CALLER).log();
            let lines = log.lines().filter(|line| line.contains(trace));
            lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
        };
        let mut lines =
            until("lines of the trace", PATIENCE, || async { Some(all()).filter(|lines| lines.len() >= count) }).await;
        lines.sort_by_key(|line| line["attempt"].as_u64());
        assert_eq!(lines.len(), count, "{lines:?}");
        self.assert_nothing_of_what_was_said().await;
        lines
    }

    async fn assert_nothing_of_what_was_said(&self) {
        let pod = self.world.mesh.pod(CALLER);
        let (_, metrics) = pod.fetch("/metrics").await.expect("the sidecar answers /metrics");
        for (place, text) in [("log", pod.log()), ("/metrics", metrics)] {
            assert!(SAID.iter().all(|said| !text.contains(said)), "something of what was said is in the {place}");
        }
    }

    async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.world.mesh.pod(CALLER).metrics().await.sum(name, labels)
    }
}

fn assert_attributes(span: &Span, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(attribute(span, name), *value, "{name} of {span:?}");
    }
}

fn failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
}

#[tokio::test]
async fn call_that_succeeds_is_told_with_what_its_target_billed() {
    let told = Told::start(&["a", "b"]).await;
    for (trace, streamed) in [("0af7651916cd43dd8448eb211c803101", false), ("0af7651916cd43dd8448eb211c803102", true)] {
        let answer = told.call(trace, json!({"stream": streamed})).await;
        assert_eq!((answer.status, answer.ended), (200, Ended::Properly), "{}", answer.text());
        let bills = told.world.bills_of("a").await;
        let (input, output) = StandIn::sum(bills.last());
        let (call, attempts) = told.spans(trace, 1).await;
        assert_eq!((call.name.as_str(), failed(&call)), ("chat m", false));
        let (input, output) = (input.to_string(), output.to_string());
        let expected = [
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", "openai"),
            ("gen_ai.request.model", "m"),
            ("gen_ai.response.model", "gpt"),
            ("gen_ai.usage.input_tokens", &input),
            ("gen_ai.usage.output_tokens", &output),
            ("mesh.model.target", "a"),
            ("mesh.model.attempts", "1"),
            ("mesh.model.fallback.reasons", ""),
            ("mesh.model.usage_source", "reported"),
            ("error.type", ""),
        ];
        assert_attributes(&call, &expected);
        assert_attributes(&attempts[0], &[("mesh.model.target", "a"), ("error.type", "")]);
        assert!(attempts[0].attributes.iter().all(|attribute| !attribute.key.starts_with("gen_ai.")));
        let lines = told.lines(trace, 2).await;
        let line = &lines[0];
        let fields =
            ["model", "target", "target_model", "usage_source"].map(|field| line[field].as_str().unwrap_or(""));
        assert_eq!(fields, ["m", "a", "gpt", "reported"], "{line}");
        assert_eq!((line["tokens_in"].to_string(), line["tokens_out"].to_string()), (input, output), "{line}");
        assert!(line["first_token_ms"].is_number() && line["overhead_ms"].is_number(), "{line}");
    }
    let of_streams = [("target", "a")];
    let count = async |name: &str| told.metric(&format!("{name}_count"), &of_streams).await;
    assert_eq!(count("gen_ai_client_operation_time_to_first_chunk_seconds").await, 1.0);
    assert_eq!(count("gen_ai_server_time_to_first_token_seconds").await, 1.0);
    assert_eq!(count("gen_ai_server_time_per_output_token_seconds").await, 1.0);
    assert_eq!(count("gen_ai_client_operation_duration_seconds").await, 2.0);
}

#[tokio::test]
async fn fallback_over_two_reasons_is_told_with_both_and_each_target_that_was_asked() {
    let told = Told::start(&["a", "b", "c"]).await;
    told.world.stand_in.next("a", &[json!({"status": 429, "headers": {"retry-after": "60"}})]).await;
    told.world.stand_in.next("b", &[json!({"hang": "role", "ping_ms": 100})]).await;
    let trace = "0af7651916cd43dd8448eb211c803103";
    let answer = told.call(trace, json!({"stream": true})).await;
    assert_eq!((answer.status, answer.header("x-mesh-model-target")), (200, "c"), "{}", answer.text());
    let resting = [("target", "a"), ("reason", "rate")];
    until("the rest of a target is a metric", PATIENCE, || async {
        (told.metric("mesh_model_target_resting", &resting).await > 0.0).then_some(())
    })
    .await;
    assert_eq!(told.metric("mesh_model_rests_total", &resting).await, 1.0);
    let (call, attempts) = told.spans(trace, 3).await;
    assert!(!failed(&call), "its client has an answer");
    let expected = [
        ("mesh.model.target", "c"),
        ("mesh.model.attempts", "3"),
        ("mesh.model.fallback.reasons", "rate,timeout_first_token"),
        ("error.type", ""),
    ];
    assert_attributes(&call, &expected);
    for (attempt, (target, error)) in attempts.iter().zip([("a", "rate"), ("b", "timeout_first_token"), ("c", "")]) {
        assert_attributes(attempt, &[("mesh.model.target", target), ("error.type", error)]);
        assert_eq!(failed(attempt), !error.is_empty(), "{attempt:?}");
    }
    let lines = told.lines(trace, 4).await;
    assert_eq!(lines[0]["reasons"], json!(["rate", "timeout_first_token"]));
    assert_eq!((&lines[0]["attempts"], &lines[0]["outcome"]), (&json!(3), &json!("success")));
    let outcomes: Vec<&Value> = lines[1..].iter().map(|line| &line["outcome"]).collect();
    assert_eq!(outcomes, ["overloaded", "timeout", "success"]);
}

#[tokio::test]
async fn stream_that_breaks_is_told_with_its_reason_and_what_came_until_then() {
    let told = Told::start(&["a", "b"]).await;
    told.world.stand_in.next("a", &[json!({"tokens": 100, "cut": 3, "how": "close"})]).await;
    let trace = "0af7651916cd43dd8448eb211c803104";
    let answer = told.call(trace, json!({"stream": true})).await;
    assert_eq!((answer.status, answer.ended), (200, Ended::Cut), "{}", answer.text());
    let (call, attempts) = told.spans(trace, 1).await;
    assert!(failed(&call) && failed(&attempts[0]));
    let expected = [
        ("error.type", "reset"),
        ("mesh.model.target", "a"),
        ("mesh.model.usage_source", "estimated"),
        ("gen_ai.usage.output_tokens", "3"),
    ];
    assert_attributes(&call, &expected);
    assert_attributes(&attempts[0], &[("error.type", "reset"), ("mesh.model.output_tokens", "3")]);
    let lines = told.lines(trace, 2).await;
    assert_eq!((&lines[0]["reasons"], &lines[0]["tokens_out"]), (&json!(["reset"]), &json!(3)));
}
