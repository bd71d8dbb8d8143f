//! Every reason × streaming or not × OpenAI, Anthropic, Gemini × a target left or none: what the application sees, and who
//! is billed. One mesh for each dialect; each row has a model and targets of its own, so that no row cools another's.

use mesh_tests::models::{
    sdk::{Api, Sdk, Told},
    stand_in::StandIn,
};
use serde_json::{Value, json};

use crate::world::{Served, Streaming, Virtual, World};

/// What goes wrong at a target before its first token.
struct Fault {
    name: &'static str,
    /// What the stand-in does; null where it refuses connections.
    behaviour: Value,
    /// What the second target must have declared to be asked.
    needs: Option<&'static str>,
    shows: Shows,
    /// Calls to which it can happen.
    asked: &'static [Streaming],
}

/// Status of the answer when nobody is left, or who is left is not asked.
#[derive(Clone, Copy)]
enum Shows {
    /// That of the target: in OpenAI's, Anthropic's and Gemini's words.
    Its([u16; 3]),
    /// The target said none: one that tells the client to come again.
    Unreached,
}

const BOTH: &[Streaming] = &Streaming::BOTH;
const STREAMED: &[Streaming] = &[Streaming::Yes];
const WHOLE: &[Streaming] = &[Streaming::No];

fn fault(name: &'static str, behaviour: Value, shows: Shows) -> Fault {
    Fault { name, behaviour, needs: None, shows, asked: BOTH }
}

fn faults() -> Vec<Fault> {
    use Shows::{Its, Unreached};
    let needing = |needs, fault: Fault| Fault { needs: Some(needs), ..fault };
    let asked = |asked, fault: Fault| Fault { asked, ..fault };
    let embedded = |instead: &str, error: &str| json!({"instead": instead, "error": error});
    vec![
        fault("connect", Value::Null, Unreached),
        fault("reset", json!({"cut": -1, "how": "reset"}), Unreached),
        fault("closed", json!({"cut": 0, "how": "close"}), Unreached),
        fault("ended", json!({"cut": 0, "how": "end"}), Unreached),
        asked(STREAMED, fault("silent", json!({"hang": "headers"}), Unreached)),
        asked(STREAMED, fault("behind-headers", json!({"hang": "body"}), Unreached)),
        asked(STREAMED, fault("behind-pings", json!({"hang": "pings", "ping_ms": 100}), Unreached)),
        asked(STREAMED, fault("behind-role", json!({"hang": "role", "ping_ms": 100}), Unreached)),
        fault("rate", json!({"error": "rate", "headers": {"retry-after": "7"}}), Its([429; 3])),
        fault("rate-unsaid", json!({"error": "rate"}), Its([429; 3])),
        fault("quota", json!({"error": "quota"}), Its([429, 400, 429])),
        fault("overloaded", json!({"error": "overloaded"}), Its([503, 529, 503])),
        fault("server", json!({"error": "server"}), Its([500; 3])),
        fault("auth", json!({"error": "auth"}), Its([401, 401, 400])),
        fault("permission", json!({"error": "permission"}), Its([403; 3])),
        fault("not-found", json!({"error": "not_found"}), Its([404; 3])),
        needing("longContext", fault("context", json!({"error": "context"}), Its([400; 3]))),
        // Gemini's refusal is 200 without an answer: no status that could be shown.
        needing("refusedContent", fault("filter", json!({"error": "content_filter"}), Its([400, 400, 502]))),
        fault("error-first", embedded("error", "rate"), Its([429; 3])),
        fault("error-object", embedded("error_object", "rate"), Its([429; 3])),
        fault("empty", json!({"instead": "empty"}), Unreached),
        fault("only-pings", json!({"instead": "pings"}), Unreached),
        fault("only-done", json!({"instead": "done"}), Unreached),
        fault("only-head", json!({"instead": "head"}), Unreached),
        fault("only-end", json!({"instead": "finish"}), Unreached),
        fault("null-choices", json!({"instead": "null_choices"}), Unreached),
        fault("no-choices", json!({"instead": "empty_choices"}), Unreached),
        fault("html", json!({"instead": "html"}), Unreached),
        asked(WHOLE, fault("half", json!({"cut": 0, "how": "end"}), Unreached)),
    ]
}

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
        let second = Served::outside(&format!("{}-b", row.model), provider);
        let second = match row.fault.needs {
            Some(needs) => second.with("capabilities", json!({ needs: true })),
            None => second,
        };
        Virtual::new(&row.model, vec![Served::outside(&format!("{}-a", row.model), provider), second])
    });
    let world = World::start(models.collect()).await;
    for row in rows {
        let failing: &[&str] = if row.is_one_left { &["a"] } else { &["a", "b"] };
        for target in failing.iter().map(|letter| format!("{}-{letter}", row.model)) {
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
    row: String,
    status: Option<u16>,
    is_whole: bool,
    has_error: bool,
    target: String,
    attempts: String,
    retry_after: String,
}

impl Row<'_> {
    fn title(&self) -> String {
        let left = if self.is_one_left { "one left" } else { "none left" };
        format!("{} {:?} {left}", self.fault.name, self.streaming)
    }

    /// What differs from the table; nothing where all is as it should be.
    fn differs(&self, dialect: usize, saw: &Saw) -> Option<String> {
        let Saw { status, is_whole, has_error, target, attempts, .. } = saw;
        let expected_target = format!("{}-b", self.model);
        let is_right = if self.is_one_left {
            *is_whole && *target == expected_target && attempts == "2"
        } else {
            let shown = match self.fault.shows {
                Shows::Its(statuses) => *status == Some(statuses[dialect]),
                Shows::Unreached => status.is_some_and(|status| (502..=504).contains(&status)),
            };
            let is_repeatable = self.fault.name == "rate";
            shown && *has_error && attempts == "2" && (!is_repeatable || !saw.retry_after.is_empty())
        };
        (!is_right).then(|| {
            format!(
                "{}: status {status:?} whole {is_whole} error {has_error} target {target:?} attempts {attempts:?} \
                 retry-after {:?}",
                saw.row, saw.retry_after
            )
        })
    }
}

fn told(row: &Row<'_>, told: &Told) -> Saw {
    Saw {
        row: row.title(),
        status: told.status,
        is_whole: told.error.is_none() && told.gapless && told.words == 20 && told.finish.is_some(),
        has_error: told.error.as_ref().is_some_and(|error| error.status.is_some()),
        target: told.header("x-mesh-model-target").to_owned(),
        attempts: told.header("x-mesh-model-attempts").to_owned(),
        retry_after: told.header("retry-after").to_owned(),
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
    let saw: Vec<Saw> = rows.iter().zip(&answers).map(|(row, answer)| told(row, answer)).collect();
    compare(&world, &rows, dialect, &saw).await;
}

async fn compare(world: &World, rows: &[Row<'_>], dialect: usize, saw: &[Saw]) {
    let wrong: Vec<String> = rows.iter().zip(saw).filter_map(|(row, saw)| row.differs(dialect, saw)).collect();
    assert!(wrong.is_empty(), "{} of {} rows differ:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    let bills = world.stand_in.settled().await;
    for row in rows.iter().filter(|row| row.is_one_left) {
        let of = |letter: &str| {
            let name = format!("{}-{letter}", row.model);
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
            Saw {
                row: row.title(),
                status: Some(answer.status),
                is_whole: answer.status == 200 && text == words(20),
                has_error: answer.status != 200 && answer.json()["error"]["message"].is_string(),
                target: answer.header("x-mesh-model-target").to_owned(),
                attempts: answer.header("x-mesh-model-attempts").to_owned(),
                retry_after: answer.header("retry-after").to_owned(),
            }
        });
        saw.extend(futures_util::future::join_all(calls).await);
    }
    compare(&world, &rows, 2, &saw).await;
}

fn words(count: usize) -> String {
    (0..count).map(|number| format!("word{number}")).collect::<Vec<_>>().join(" ")
}
