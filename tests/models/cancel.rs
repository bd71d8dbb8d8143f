//! Applications that go away: their targets are told at once, and what was produced until then is counted.

use std::time::Duration;

use mesh_tests::{
    length,
    models::{
        sdk::{Api, Sdk, Told},
        stand_in::{Bill, StandIn},
    },
    wait::{PATIENCE, until},
};
use serde_json::{Value, json};

use crate::world::{CALLER, Served, Virtual, World};

/// Longest from the application's going away until its target knows, milliseconds.
const NOTICED: f64 = 200.0;

fn models() -> Vec<Virtual> {
    let two = |model: &str, provider: &str| {
        let target = |letter: &str| Served::outside(&format!("{model}-{letter}"), provider);
        Virtual::new(model, vec![target("a"), target("b")])
    };
    vec![two("o", "openai"), two("c", "anthropic")]
}

fn model_of(api: Api) -> &'static str {
    if api == Api::Messages { "c" } else { "o" }
}

/// Bills and what the application saw, matched by the request's own number in the prompt of each.
fn late(bills: &[Bill], answers: &[Told]) -> Vec<String> {
    let mut cancelled: Vec<f64> = answers.iter().filter_map(|told| told.cancelled_ms).collect();
    let mut gone: Vec<f64> = bills.iter().filter_map(|bill| bill.gone_ms).collect();
    cancelled.sort_by(f64::total_cmp);
    gone.sort_by(f64::total_cmp);
    assert_eq!(cancelled.len(), gone.len(), "each going away is noticed");
    // Sorted by time each going away has a notice within the limit of it, if those of the exchanges themselves have.
    let late = cancelled.iter().zip(&gone).filter(|(left, noticed)| **noticed - **left > NOTICED);
    late.map(|(left, noticed)| format!("{:.0} ms", noticed - left)).collect()
}

async fn noticed(streams: usize, concurrency: usize) {
    let world = World::start(models()).await;
    world.stand_in.behave("*", json!({"tokens": 3_000, "delay_ms": 20})).await;
    let apis = [Api::Chat, Api::Responses, Api::Completions, Api::Messages];
    let asks = (0..streams).map(|number| {
        let api = apis[number % apis.len()];
        let ask = world.ask(api, model_of(api)).stream().cancel_after(1 + (number % 20) as u64);
        let ask = ask.more(if api == Api::Responses { json!({}) } else { json!({"max_tokens": 5_000}) });
        if number % 3 == 0 { ask } else { ask.asynchronous() }
    });
    let answers = Sdk::newest().many(asks, concurrency).await;
    let bills = world.stand_in.settled().await;
    assert_eq!(bills.iter().filter(|bill| bill.cancelled).count(), streams);
    let late = late(&bills, &answers);
    assert!(late.is_empty(), "{} of {streams} later than {NOTICED} ms: {late:?}", late.len());
    let (_, billed) = StandIn::sum(&bills);
    let counted: u64 = world.accounted().await.values().map(|(_, output)| output).sum();
    // Of each stream one token may have left its target after the sidecar closed the connection.
    let is_near = counted <= billed && billed - counted <= streams as u64;
    assert!(is_near, "{counted} tokens counted, {billed} billed in {streams} streams");
}

#[tokio::test]
async fn targets_know_within_200_ms_that_the_application_has_gone() {
    noticed(60, 6).await;
}

#[tokio::test]
async fn targets_know_within_200_ms_in_a_thousand_of_a_thousand_full_length() {
    noticed(length::of(200, 1_000), 6).await;
}

/// Gives up while nothing has come yet, or an answer is not a stream.
async fn given_up(behaviour: Value, is_stream: bool) {
    let world = World::start(models()).await;
    world.stand_in.behave("*", behaviour).await;
    for api in [Api::Chat, Api::Messages] {
        let ask = world.ask(api, model_of(api)).cancel_in(Duration::from_millis(500));
        let ask = if is_stream { ask.stream() } else { ask };
        let told = Sdk::newest().ask(ask).await;
        let left = told.cancelled_ms.expect("it gave up");
        let bills = world.stand_in.settled().await;
        let bill = bills.last().expect("it was asked");
        let noticed = bill.gone_ms.unwrap_or_else(|| panic!("nobody noticed: {bill:?}")) - left;
        assert!(bill.cancelled && noticed < NOTICED, "{api:?}: noticed after {noticed} ms");
        assert!(bill.target.ends_with("-a"), "no other target is asked for who has gone: {bill:?}");
    }
}

#[tokio::test]
async fn a_target_without_headers_yet_is_cancelled() {
    given_up(json!({"hang": "headers"}), true).await;
}

#[tokio::test]
async fn a_target_before_its_first_token_is_cancelled() {
    given_up(json!({"hang": "role", "ping_ms": 50}), true).await;
}

#[tokio::test]
async fn a_target_that_works_on_a_whole_answer_is_cancelled() {
    given_up(json!({"first_delay_ms": 20_000}), false).await;
}

#[tokio::test]
async fn a_target_in_the_mesh_is_cancelled_through_both_sidecars() {
    let targets = vec![Served::in_mesh("local", "vllm"), Served::outside("far", "openai")];
    let world = World::start(vec![Virtual::new("m", targets)]).await;
    world.stand_in.behave("local", json!({"tokens": 3_000, "delay_ms": 20})).await;
    for tokens in [1, 10, 30] {
        let told = Sdk::newest().ask(world.ask(Api::Chat, "m").stream().cancel_after(tokens)).await;
        let bills = world.stand_in.settled().await;
        let bill = bills.last().expect("it was asked");
        let noticed = bill.gone_ms.expect("it was noticed") - told.cancelled_ms.expect("it went away");
        assert!(bill.target == "local" && noticed < NOTICED, "noticed after {noticed} ms: {bill:?}");
    }
}

#[tokio::test]
async fn nothing_is_left_open_when_many_went_away() {
    let world = World::start(models()).await;
    world.stand_in.behave("*", json!({"tokens": 3_000, "delay_ms": 20})).await;
    let before = world.mesh.pod(CALLER).sidecar.as_ref().map(mesh_tests::process::Process::descriptors);
    let asks = (0..40).map(|_| world.ask(Api::Chat, "o").stream().asynchronous().cancel_after(2));
    Sdk::newest().many(asks, 40).await;
    let bills = world.stand_in.settled().await;
    assert!(bills.iter().all(|bill| bill.cancelled), "{bills:?}");
    // Idle connections of the SDK and to targets may stay, cancelled ones not.
    until("descriptors of the sidecar are given back", PATIENCE, || async {
        let now = world.mesh.pod(CALLER).sidecar.as_ref().map(mesh_tests::process::Process::descriptors);
        (now? <= before? + 20).then_some(())
    })
    .await;
    world.stand_in.behave("*", json!({})).await;
    Sdk::newest().ask(world.ask(Api::Chat, "o").stream()).await.assert_whole(20);
}
