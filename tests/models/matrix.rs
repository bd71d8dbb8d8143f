//! Every reason × streaming or not × OpenAI, Anthropic, Gemini × a target left or none: what the application sees, what the
//! reason is called where people look for it, and who is billed. One mesh for each dialect; each row has a model and targets
//! of its own, so that no row cools another's.

use mesh_tests::{
    metrics::Metrics,
    models::{
        sdk::{Api, Sdk, Told},
        stand_in::StandIn,
    },
};
use serde_json::{Value, json};

use crate::{
    faults::{Fault, Next, REASONS, faults},
    world::{CALLER, Served, Streaming, Virtual, World},
};

/// A row of the table.
struct Row<'a> {
    fault: &'a Fault,
    streaming: Streaming,
    is_one_left: bool,
    model: String,
}

fn rows(faults: &[Fault]) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for fault in faults {
        for streaming in fault.asked {
            for is_one_left in [true, false] {
                let model = format!("m{}", rows.len());
                rows.push(Row { fault, streaming: *streaming, is_one_left, model });
            }
        }
    }
    rows
}

/// Two targets for each row: the first fails; the second does not, or fails in the same way.
async fn start(provider: &str, rows: &[Row<'_>]) -> World {
    let models = rows.iter().map(|row| {
        let second = Served::outside(&row.target("b"), provider);
        let second = match row.fault.next {
            Next::Able(needs) => second.with("capabilities", json!({ needs: true })),
            Next::Other | Next::Nobody => second,
        };
        let mut timers = json!({"connect": "1s", "firstToken": "2s", "idle": "2s", "total": "60s"});
        for (name, time) in row.fault.timers.as_object().into_iter().flatten() {
            timers[name] = time.clone();
        }
        Virtual::new(&row.model, vec![Served::outside(&row.target("a"), provider), second]).with("timers", timers)
    });
    let world = World::start(models.collect()).await;
    for row in rows {
        let failing: &[&str] = if row.is_one_left { &["a"] } else { &["a", "b"] };
        for target in failing.iter().map(|letter| row.target(letter)) {
            match &row.fault.behaviour {
                Value::Null => world.stand_in.refuse_connections(&target).await,
                behaviour => world.stand_in.behave(&target, behaviour.clone()).await,
            }
        }
    }
    world
}

/// What an application saw of one call, by whichever client.
struct Saw {
    status: Option<u16>,
    is_whole: bool,
    has_error: bool,
    target: String,
    attempts: String,
    reason: String,
    retry_after: String,
    should_retry: String,
}

impl Row<'_> {
    fn title(&self) -> String {
        let left = if self.is_one_left { "one left" } else { "none left" };
        format!("{} {:?} {left}", self.fault.name, self.streaming)
    }

    fn target(&self, letter: &str) -> String {
        format!("{}-{letter}", self.model)
    }

    /// Whether the second target serves.
    fn is_served(&self) -> bool {
        self.is_one_left && self.fault.next != Next::Nobody
    }

    /// Targets that are asked.
    fn asked(&self) -> &'static str {
        if self.fault.next == Next::Nobody { "1" } else { "2" }
    }

    /// What differs from the table in what the application saw.
    fn differs(&self, dialect: usize, saw: &Saw) -> Option<String> {
        let Saw { status, is_whole, has_error, target, attempts, reason, retry_after, should_retry } = saw;
        let is_repeatable =
            !matches!(self.fault.reason, "quota" | "auth" | "not_found" | "context" | "content_filter" | "bad_request");
        let is_right = if self.is_served() {
            *is_whole && *target == self.target("b")
        } else {
            *status == Some(self.fault.status(dialect))
                && *has_error
                && *reason == format!("model_{}", self.fault.reason)
                && (should_retry == "false") != is_repeatable
                && (self.fault.reason != "rate" || !retry_after.is_empty())
        };
        (!is_right || attempts != self.asked()).then(|| {
            format!(
                "{}: status {status:?} whole {is_whole} error {has_error} target {target:?} attempts {attempts:?} \
                 reason {reason:?} retry-after {retry_after:?} x-should-retry {should_retry:?}",
                self.title()
            )
        })
    }

    /// What differs from the table in what is counted.
    fn counts_differ(&self, metrics: &Metrics) -> Vec<String> {
        let (a, b, reason) = (self.target("a"), self.target("b"), self.fault.reason);
        let is_other_asked = self.fault.next != Next::Nobody;
        let mut expected = vec![(a.clone(), reason)];
        let mut fallbacks = vec![(a.clone(), if is_other_asked { b.clone() } else { String::new() })];
        if is_other_asked {
            expected.push((b.clone(), if self.is_served() { "success" } else { reason }));
        }
        if is_other_asked && !self.is_served() {
            fallbacks.push((b.clone(), String::new()));
        }
        let mut wrong = Vec::new();
        let attempts = sums(metrics, "mesh_model_attempts_total", &["target", "reason"], &[&a, &b]);
        let named: Vec<(Vec<&str>, f64)> =
            expected.iter().map(|(target, reason)| (vec![target.as_str(), *reason], 1.0)).collect();
        if attempts != named {
            wrong.push(format!("{}: attempts {attempts:?}, not {named:?}", self.title()));
        }
        let counted = sums(metrics, "mesh_model_fallback_total", &["from", "to", "reason", "committed"], &[&a, &b]);
        let named: Vec<(Vec<&str>, f64)> =
            fallbacks.iter().map(|(from, to)| (vec![from.as_str(), to, reason, "false"], 1.0)).collect();
        if counted != named {
            wrong.push(format!("{}: fallbacks {counted:?}, not {named:?}", self.title()));
        }
        wrong
    }
}

/// Samples of a metric that are not 0 and whose first label is one of these, by labels, in order.
fn sums<'a>(metrics: &'a Metrics, name: &str, labels: &[&str], first: &[&str]) -> Vec<(Vec<&'a str>, f64)> {
    let of =
        |label: &&str, sample: &'a mesh_tests::metrics::Sample| sample.labels.get(*label).map_or("", String::as_str);
    let wanted = metrics.samples.iter().filter(|sample| sample.name == name && sample.value != 0.0);
    let named = wanted.map(|sample| (labels.iter().map(|label| of(label, sample)).collect::<Vec<_>>(), sample.value));
    let mut found: Vec<_> = named.filter(|(labels, _)| first.contains(&labels[0])).collect();
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    found
}

fn told(told: &Told) -> Saw {
    let header = |name| told.header(name).to_owned();
    Saw {
        status: told.status,
        is_whole: told.error.is_none() && told.gapless && told.words == 20 && told.finish.is_some(),
        has_error: told.error.as_ref().is_some_and(|error| error.status.is_some()),
        target: header("x-mesh-model-target"),
        attempts: header("x-mesh-model-attempts"),
        reason: header("x-mesh-error"),
        retry_after: header("retry-after"),
        should_retry: header("x-should-retry"),
    }
}

async fn by_sdk(api: Api, provider: &str, dialect: usize) {
    let faults = faults();
    let rows = rows(&faults);
    let world = start(provider, &rows).await;
    let asks = rows.iter().enumerate().map(|(number, row)| {
        let ask = row.streaming.of(world.ask(api, &row.model));
        if number % 2 == 0 { ask } else { ask.asynchronous() }
    });
    let answers = Sdk::newest().many(asks, 8).await;
    let saw: Vec<Saw> = answers.iter().map(told).collect();
    compare(&world, &rows, dialect, &saw).await;
}

async fn compare(world: &World, rows: &[Row<'_>], dialect: usize, saw: &[Saw]) {
    let mut wrong: Vec<String> = rows.iter().zip(saw).filter_map(|(row, saw)| row.differs(dialect, saw)).collect();
    let metrics = world.mesh.pod(CALLER).metrics().await;
    wrong.extend(rows.iter().flat_map(|row| row.counts_differ(&metrics)));
    assert!(wrong.is_empty(), "{} differences in {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    let bills = world.stand_in.settled().await;
    for row in rows.iter().filter(|row| row.is_served()) {
        let of = |letter: &str| {
            let name = row.target(letter);
            StandIn::sum(bills.iter().filter(|bill| bill.target == name))
        };
        // Nothing is billed before the first token, but by Anthropic for the prompt of a stream that began.
        let (prompt, output) = of("a");
        let is_free = prompt == 0 || (dialect == 1 && row.streaming == Streaming::Yes && prompt == 3);
        assert!(is_free && output == 0, "{}: billed {:?}", row.title(), of("a"));
        assert_eq!(of("b"), (3, 20), "{}", row.title());
    }
    world.assert_accounted().await;
}

#[test]
fn every_reason_has_a_row_for_streams_and_one_for_whole_answers_unless_it_cannot_happen_there() {
    let faults = faults();
    for reason in REASONS {
        for streaming in Streaming::BOTH {
            let is_there = faults.iter().any(|fault| fault.reason == reason && fault.asked.contains(&streaming));
            let is_possible = match (reason, streaming) {
                // A stream stops in the middle only behind its first token; see `midstream`.
                ("stall", Streaming::Yes) => false,
                // A whole answer has no first token.
                ("timeout_first_token", Streaming::No) => false,
                _ => true,
            };
            assert_eq!(is_there, is_possible, "{reason} {streaming:?}");
        }
    }
}

#[tokio::test]
async fn openai_chat() {
    by_sdk(Api::Chat, "openai", 0).await;
}

#[tokio::test]
async fn openai_responses() {
    by_sdk(Api::Responses, "openai", 0).await;
}

#[tokio::test]
async fn anthropic_messages() {
    by_sdk(Api::Messages, "anthropic", 1).await;
}

#[tokio::test]
async fn gemini_generate_content() {
    let faults = faults();
    // Gemini says its refusal of a whole answer's shape in the same way; it has no other API to be asked by.
    let rows = rows(&faults);
    let world = start("gemini", &rows).await;
    let mut saw = Vec::new();
    for chunk in rows.chunks(8) {
        let calls = chunk.iter().map(|row| async {
            let answer = world.gemini(&row.model, row.streaming).await;
            let text = match row.streaming {
                Streaming::Yes => answer.generated(),
                Streaming::No => answer.body_text(),
            };
            let header = |name| answer.header(name).to_owned();
            Saw {
                status: Some(answer.status),
                is_whole: answer.status == 200 && text == words(20),
                has_error: answer.status != 200 && answer.json()["error"]["message"].is_string(),
                target: header("x-mesh-model-target"),
                attempts: header("x-mesh-model-attempts"),
                reason: header("x-mesh-error"),
                retry_after: header("retry-after"),
                should_retry: header("x-should-retry"),
            }
        });
        saw.extend(futures_util::future::join_all(calls).await);
    }
    compare(&world, &rows, 2, &saw).await;
}

fn words(count: usize) -> String {
    (0..count).map(|number| format!("word{number}")).collect::<Vec<_>>().join(" ")
}
