//! Streams of text that break after their first token and go on at another target: the application has one whole answer, or
//! an error, and never a text twice.

use mesh_tests::models::{
    sdk::{Age, Api, Sdk, Told},
    stand_in::StandIn,
};
use serde_json::{Value, json};

use crate::{
    midstream::breaks,
    world::{CALLER, Served, Virtual, World},
};

/// Words that a target of the stand-in says, however many it was given.
const WORDS: u64 = 20;

/// API of the application, provider that breaks, provider that goes on.
const PAIRS: [(Api, &str, &str); 9] = [
    (Api::Chat, "openai", "openai"),
    (Api::Chat, "openai", "anthropic"),
    (Api::Chat, "vllm", "vllm"),
    (Api::Chat, "openai", "dashscope"),
    (Api::Chat, "anthropic", "gemini"),
    (Api::Messages, "anthropic", "anthropic"),
    (Api::Messages, "openai", "anthropic"),
    (Api::Messages, "anthropic", "openai"),
    (Api::Messages, "gemini", "vllm"),
];

/// A target that is declared able to go on.
fn able(name: &str, provider: &str) -> Served {
    Served::outside(name, provider).with("capabilities", json!({"prefill": true}))
}

/// A model whose streams go on at its second target.
fn model(name: &str, breaks: &str, goes_on: &str) -> Virtual {
    let targets = vec![Served::outside(&format!("{name}-a"), breaks), able(&format!("{name}-b"), goes_on)];
    Virtual::new(name, targets).with("midStream", json!("continue"))
}

/// Every way to break, of every pair, after so many tokens.
async fn whole_after(tokens: u64) {
    let behaviours = breaks(tokens);
    let cases: Vec<_> = PAIRS.iter().flat_map(|pair| behaviours.iter().map(move |broken| (*pair, broken))).collect();
    let models = cases.iter().enumerate().map(|(number, ((_, a, b), _))| model(&format!("m{number}"), a, b));
    let world = World::start(models.collect()).await;
    for (number, (_, broken)) in cases.iter().enumerate() {
        world.stand_in.behave(&format!("m{number}-a"), (*broken).clone()).await;
    }
    for age in [Age::Newest, Age::Earlier] {
        let asks = cases.iter().enumerate().map(|(number, ((api, ..), _))| {
            let ask = world.ask(*api, &format!("m{number}")).stream();
            if number % 2 == 0 { ask } else { ask.asynchronous() }
        });
        let answers = Sdk::of(age).many(asks, 16).await;
        let mut wrong = Vec::new();
        for ((number, (pair, broken)), told) in cases.iter().enumerate().zip(&answers) {
            // Whoever broke may rest when it is asked for the second time: then the other says all.
            let by_other = told.header("x-mesh-model-target") == format!("m{number}-b");
            let words = if by_other { WORDS } else { tokens + WORDS };
            let is_right = told.error.is_none() && told.gapless && told.words == words && told.finish.is_some();
            if !is_right || (by_other && age == Age::Newest) {
                wrong.push(format!("{age:?} {pair:?} {broken}: {told:?}"));
            }
        }
        assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    }
    let (_, billed) = StandIn::sum(&world.stand_in.settled().await);
    let counted: u64 = world.accounted().await.values().map(|(_, output)| output).sum();
    assert_eq!(counted, billed, "tokens of broken streams and of those that went on");
}

#[tokio::test]
async fn streams_that_break_after_one_token_are_whole() {
    whole_after(1).await;
}

#[tokio::test]
async fn streams_that_break_after_fifty_tokens_are_whole() {
    whole_after(50).await;
}

#[tokio::test]
async fn applications_are_told_of_the_tokens_of_both_targets_and_the_break_is_counted() {
    let world = World::start(vec![model("m", "openai", "openai"), model("n", "anthropic", "anthropic")]).await;
    let cut = json!({"cut": 5, "how": "close"});
    for target in ["m-a", "n-a"] {
        world.stand_in.next(target, std::slice::from_ref(&cut)).await;
    }
    let wanted = json!({"stream_options": {"include_usage": true}});
    let chat = Sdk::newest().ask(world.ask(Api::Chat, "m").stream().more(wanted)).await;
    let message = Sdk::newest().ask(world.ask(Api::Messages, "n").stream()).await;
    for told in [&chat, &message] {
        told.assert_whole(5 + WORDS);
        assert_eq!(told.usage().map(|(_, output)| output), Some(5 + WORDS), "{told:?}");
    }
    // What went on read the prompt and the five words.
    assert_eq!(message.usage().map(|(input, _)| input), Some(3 + 3 + 5), "{message:?}");
    let metrics = world.mesh.pod(CALLER).metrics().await;
    for model in ["m", "n"] {
        let (from, to) = (format!("{model}-a"), format!("{model}-b"));
        let counted = metrics.samples.iter().find(|sample| {
            let is = |label: &str, value: &str| sample.labels.get(label).is_some_and(|found| found == value);
            sample.name == "mesh_model_fallback_total" && is("from", &from) && is("to", &to) && is("committed", "true")
        });
        assert_eq!(counted.map(|sample| sample.value), Some(1.0), "{model}");
    }
}

/// What the application has of a stream that breaks after three tokens where `second` is what the next target does, and
/// `more` what it asks besides.
async fn asked(api: Api, second: Served, behaviour: Value, more: Value) -> (World, Told) {
    let provider = if api == Api::Messages { "anthropic" } else { "openai" };
    // Some target has to be able for the route to be accepted; this one has no room for any prompt.
    let no_room = able("m-c", provider).with("contextWindow", json!(1));
    let targets = vec![Served::outside("m-a", provider), second, no_room];
    let world = World::start(vec![Virtual::new("m", targets).with("midStream", json!("continue"))]).await;
    world.stand_in.next("m-a", &[json!({"tokens": 30, "cut": 3})]).await;
    world.stand_in.behave("m-b", behaviour).await;
    let told = Sdk::newest().ask(world.ask(api, "m").stream().more(more)).await;
    (world, told)
}

#[tokio::test]
async fn streams_that_nobody_goes_on_with_end_with_an_error() {
    let tools = json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "tool_choice": "none"});
    let json_wanted = json!({"response_format": {"type": "json_object"}});
    let not_able = || Served::outside("m-b", "openai");
    let cases = [
        ("not declared able", not_able(), json!({}), json!({}), 0),
        ("tools", able("m-b", "openai"), json!({}), tools, 0),
        ("choices", able("m-b", "openai"), json!({}), json!({"n": 2}), 0),
        ("fails", able("m-b", "openai"), json!({"status": 503}), json!({}), 1),
        ("refuses", able("m-b", "openai"), json!({"error": "bad_request"}), json!({}), 1),
        ("begins anew", able("m-b", "openai"), json!({"text": "word0 word1 word2 word3"}), json!({}), 1),
        ("says nothing", able("m-b", "openai"), json!({"instead": "finish"}), json!({}), 1),
        ("breaks before a token", able("m-b", "openai"), json!({"cut": 0}), json!({}), 1),
        ("hangs", able("m-b", "openai"), json!({"hang": "role"}), json!({}), 1),
    ];
    for (title, second, behaviour, more, asks) in cases {
        let (world, told) = asked(Api::Chat, second, behaviour, more).await;
        assert!(told.error.is_some() && told.finish.is_none(), "{title}: {told:?}");
        assert!(told.gapless && told.words == 3, "{title}: {told:?}");
        assert_eq!(world.stand_in.seen_by("m-b").await.len(), asks, "{title}");
    }
    let (_, told) = asked(Api::Chat, able("m-b", "openai"), json!({}), json_wanted).await;
    assert!(told.error.is_some() && told.finish.is_none(), "{told:?}");
}

#[tokio::test]
async fn target_in_the_mesh_goes_on_with_what_a_provider_began_and_the_other_way_round() {
    let in_mesh = |name: &str| Served::in_mesh(name, "vllm").with("capabilities", json!({"prefill": true}));
    let models = [
        Virtual::new("out", vec![Served::outside("out-a", "openai"), in_mesh("out-b")]),
        Virtual::new("in", vec![in_mesh("in-a"), able("in-b", "anthropic")]),
    ];
    let world = World::start(models.map(|model| model.with("midStream", json!("continue"))).into()).await;
    for (model, api) in [("out", Api::Chat), ("in", Api::Messages)] {
        world.stand_in.next(&format!("{model}-a"), &[json!({"cut": 7, "how": "reset"})]).await;
        let told = Sdk::newest().ask(world.ask(api, model).stream()).await;
        told.assert_whole(7 + WORDS);
    }
    let seen = world.last_seen("out-b").await;
    let body: Value = serde_json::from_str(&seen.body.expect("a body")).expect("JSON");
    assert_eq!((&body["continue_final_message"], &body["add_generation_prompt"]), (&json!(true), &json!(false)));
}

#[tokio::test]
async fn streams_that_break_anywhere_are_whole_and_say_nothing_twice() {
    let models: u64 = 6;
    let pair = |number: u64| PAIRS[number as usize % PAIRS.len()];
    let world =
        World::start((0..models).map(|number| model(&format!("m{number}"), pair(number).1, pair(number).2)).collect())
            .await;
    let how = ["close", "reset", "end", "error"];
    let asks = (0..200).map(|number| {
        let (model, tokens, how) = (number % models, 1 + number % 37, how[(number / models % 4) as usize]);
        let prompt = format!("one <<m{model}-a {{\"tokens\": 50, \"cut\": {tokens}, \"how\": \"{how}\"}}>>");
        world.ask(pair(model).0, &format!("m{model}")).prompt(&prompt).stream().asynchronous()
    });
    let answers = Sdk::newest().many(asks, 24).await;
    for (number, told) in (0..200u64).zip(&answers) {
        let began = told.header("x-mesh-model-target").ends_with("-a");
        told.assert_whole(if began { 1 + number % 37 + WORDS } else { WORDS });
    }
}
