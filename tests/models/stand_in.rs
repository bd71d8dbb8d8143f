//! The stand-in for providers is one for the SDKs of OpenAI and Anthropic, and what they do with errors within streams,
//! which is why the mesh ends broken streams as it does. No mesh here.

use std::net::SocketAddr;

use mesh_tests::{
    addresses::Block,
    models::{
        events::{self, Ended},
        sdk::{Age, Api, Ask, Sdk, Told},
        stand_in::{StandIn, Target},
    },
    raw::{Step, Upstream},
};
use serde_json::{Value, json};

const AGES: [Age; 2] = [Age::Newest, Age::Earlier];

/// A stand-in with one target of each provider.
struct World {
    stand_in: StandIn,
    _block: Block,
}

impl World {
    async fn start() -> World {
        let block = Block::reserve();
        let address = |last: u8| SocketAddr::from((block.address(last), 9000));
        let targets = vec![
            Target::new("openai", "openai", address(1)),
            Target::new("anthropic", "anthropic", address(2)),
            Target::new("gemini", "gemini", address(3)),
            Target::new("azure", "azure", address(4)),
            Target::new("dashscope", "dashscope", address(5)),
            Target::new("vllm", "vllm", address(6)),
        ];
        World { stand_in: StandIn::start(targets).await, _block: block }
    }

    /// A call of the provider whose API it is.
    fn ask(&self, api: Api) -> Ask {
        let name = if api == Api::Messages { "anthropic" } else { "openai" };
        Ask::new(api, &self.stand_in.url(name)).key(&self.stand_in.target(name).key)
    }
}

#[tokio::test]
async fn sdks_read_every_api_whole_and_in_streams() {
    let world = World::start().await;
    for age in AGES {
        for api in Api::TEXT {
            let ask = world.ask(api);
            let asks = [ask.clone(), ask.clone().stream(), ask.clone().asynchronous(), ask.asynchronous().stream()];
            for told in Sdk::of(age).many(asks, 4).await {
                told.assert_whole(20);
            }
        }
        let embedded = Sdk::of(age).ask(world.ask(Api::Embeddings)).await;
        assert_eq!(embedded.result[0].as_array().map(Vec::len), Some(8), "{embedded:?}");
        let listed = Sdk::of(age).ask(world.ask(Api::Models)).await;
        assert_eq!(listed.result, json!(["small", "large"]), "{listed:?}");
    }
    for bill in world.stand_in.settled().await.iter().filter(|bill| bill.api != "embeddings") {
        assert_eq!((bill.input, bill.output, bill.outcome.as_str()), (3, 20, "finished"), "{bill:?}");
    }
}

#[tokio::test]
async fn sdks_read_calls_of_tools() {
    let world = World::start().await;
    world.stand_in.behave("*", json!({"calls": 2, "tokens": 5})).await;
    let arguments: Value = json!({"words": "word0 word1 word2 word3 word4"});
    for age in AGES {
        for api in [Api::Chat, Api::Responses, Api::Messages] {
            for ask in [world.ask(api).tools(), world.ask(api).tools().stream()] {
                let told = Sdk::of(age).ask(ask).await;
                assert!(told.error.is_none(), "{told:?}");
                let read = |text: &str| serde_json::from_str::<Value>(text).expect("arguments are JSON");
                let calls: Vec<_> =
                    told.calls.iter().map(|call| (call.name.as_deref(), read(&call.arguments))).collect();
                assert_eq!(
                    calls,
                    [(Some("lookup"), arguments.clone()), (Some("lookup"), arguments.clone())],
                    "{api:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn usage_is_told_as_asked_and_equals_the_bill() {
    let world = World::start().await;
    let counted = json!({"stream_options": {"include_usage": true}});
    let asks = [
        (world.ask(Api::Chat).stream(), None),
        (world.ask(Api::Chat).stream().more(counted.clone()), Some((3, 20))),
        (world.ask(Api::Chat), Some((3, 20))),
        (world.ask(Api::Completions).stream().more(counted), Some((3, 20))),
        (world.ask(Api::Responses).stream(), Some((3, 20))),
        (world.ask(Api::Messages).stream(), Some((3, 20))),
    ];
    for (ask, usage) in asks {
        let told = Sdk::newest().ask(ask).await;
        told.assert_whole(20);
        assert_eq!(told.usage(), usage, "{told:?}");
    }
    world.stand_in.behave("*", json!({"usage": "absent"})).await;
    let told = Sdk::newest().ask(world.ask(Api::Chat)).await;
    assert_eq!(told.usage(), None);
}

#[tokio::test]
async fn wrong_keys_are_refused_in_the_providers_words() {
    let world = World::start().await;
    for api in Api::TEXT {
        let told = Sdk::newest().ask(world.ask(api).key("wrong")).await;
        assert_eq!((told.raised().class.as_str(), told.raised().status), ("AuthenticationError", Some(401)));
    }
    let address = world.stand_in.target("gemini").address;
    let body = json!({"contents": [{"parts": [{"text": "one"}]}]});
    let path = "/v1beta/models/small:generateContent";
    let answers = [(vec![("x-goog-api-key", "wrong")], 400, "INVALID_ARGUMENT"), (vec![], 403, "PERMISSION_DENIED")];
    for (headers, status, word) in answers {
        let answer = events::post(address, "gemini", path, &headers, &body).await;
        assert_eq!((answer.status, &answer.json()["error"]["status"]), (status, &json!(word)), "{}", answer.text());
    }
    assert!(world.stand_in.settled().await.is_empty(), "nothing was billed");
}

#[tokio::test]
async fn refusals_raise_what_sdks_have_for_them() {
    let world = World::start().await;
    // What goes wrong; what OpenAI's SDK raises; what Anthropic's does.
    let cases = [
        ("bad_request", "BadRequestError", "BadRequestError"),
        ("auth", "AuthenticationError", "AuthenticationError"),
        ("permission", "PermissionDeniedError", "PermissionDeniedError"),
        ("not_found", "NotFoundError", "NotFoundError"),
        ("rate", "RateLimitError", "RateLimitError"),
        ("quota", "RateLimitError", "BadRequestError"),
        ("server", "InternalServerError", "InternalServerError"),
        ("overloaded", "InternalServerError", "OverloadedError"),
        ("context", "BadRequestError", "BadRequestError"),
        ("content_filter", "BadRequestError", "BadRequestError"),
    ];
    for (error, openai, anthropic) in cases {
        world.stand_in.behave("*", json!({"error": error, "headers": {"retry-after": "7"}})).await;
        for (api, class) in [(Api::Chat, openai), (Api::Responses, openai), (Api::Messages, anthropic)] {
            for ask in [world.ask(api), world.ask(api).stream()] {
                let told = Sdk::newest().ask(ask).await;
                assert_eq!(told.raised().class, class, "{error} {api:?}: {told:?}");
                assert_eq!(told.header("retry-after"), "7");
            }
        }
    }
}

/// What an SDK makes of a stream of these events, whose bytes end properly, or with the connection.
async fn streamed(age: Age, api: Api, events: &[&str], last_chunk: &str) -> Told {
    let block = Block::reserve();
    let address = SocketAddr::from((block.address(1), 9000));
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunks: String = events.iter().map(|event| format!("{:x}\r\n{event}\r\n", event.len())).collect();
    let script = vec![Step::Request, Step::send(&format!("{head}{chunks}{last_chunk}")), Step::Close];
    let _upstream = Upstream::start(address, script).await;
    Sdk::of(age).ask(Ask::new(api, &format!("http://{address}")).stream()).await
}

const PROPER: &str = "0\r\n\r\n";
const CUT: &str = "";
const CHAT: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\
    \"choices\":[{\"index\":0,\"delta\":{\"content\":\"word0\"},\"finish_reason\":null}]}\n\n";
const COMPLETION: &str = "data: {\"id\":\"c\",\"object\":\"text_completion\",\"created\":1,\"model\":\"m\",\
    \"choices\":[{\"index\":0,\"text\":\"word0\",\"finish_reason\":null}]}\n\n";
const RESPONSE: &str = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\
    \"sequence_number\":4,\"item_id\":\"i\",\"output_index\":0,\"content_index\":0,\"delta\":\"word0\"}\n\n";
const MESSAGE: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\
    \"delta\":{\"type\":\"text_delta\",\"text\":\"word0\"}}\n\n";
const OPENAI_ERROR: &str = "data: {\"error\":{\"message\":\"it broke\",\"type\":\"server_error\",\"code\":\"stall\",\
    \"param\":null}}\n\n";
const RESPONSE_ERROR: &str = "event: error\ndata: {\"type\":\"error\",\"code\":\"stall\",\"message\":\"it broke\",\
    \"param\":null,\"sequence_number\":5,\"error\":{\"message\":\"it broke\",\"type\":\"server_error\",\
    \"code\":\"stall\",\"param\":null}}\n\n";
const FLAT_RESPONSE_ERROR: &str = "event: error\ndata: {\"type\":\"error\",\"code\":\"stall\",\
    \"message\":\"it broke\",\"param\":null,\"sequence_number\":5}\n\n";
const MESSAGE_ERROR: &str = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\
    \"message\":\"it broke\"}}\n\n";
const UNNAMED_MESSAGE_ERROR: &str = "data: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\
    \"message\":\"it broke\"}}\n\n";

#[tokio::test]
async fn every_terminal_error_of_the_mesh_is_raised_by_the_sdks() {
    let forms = [
        (Api::Chat, CHAT, OPENAI_ERROR),
        (Api::Completions, COMPLETION, OPENAI_ERROR),
        (Api::Responses, RESPONSE, RESPONSE_ERROR),
        (Api::Messages, MESSAGE, MESSAGE_ERROR),
    ];
    for age in AGES {
        for (api, event, error) in forms {
            for last_chunk in [PROPER, CUT] {
                let told = streamed(age, api, &[event, error], last_chunk).await;
                assert_eq!(told.text.as_deref(), Some("word0"), "{age:?} {api:?}: {told:?}");
                assert!(told.raised().message.contains("it broke"), "{age:?} {api:?}: {told:?}");
            }
        }
    }
}

#[tokio::test]
async fn forms_that_sdks_pass_over_are_known() {
    for age in AGES {
        let flat = streamed(age, Api::Responses, &[RESPONSE, FLAT_RESPONSE_ERROR], PROPER).await;
        assert!(flat.error.is_none(), "{age:?} raises the flat form by now: {flat:?}");
        let unnamed = streamed(age, Api::Messages, &[MESSAGE, UNNAMED_MESSAGE_ERROR], PROPER).await;
        assert!(unnamed.error.is_none(), "{age:?} raises the unnamed form by now: {unnamed:?}");
    }
}

#[tokio::test]
async fn sdks_take_a_proper_end_without_a_final_event_for_an_end_and_a_cut_for_an_error() {
    for age in AGES {
        for (api, event) in
            [(Api::Chat, CHAT), (Api::Completions, COMPLETION), (Api::Responses, RESPONSE), (Api::Messages, MESSAGE)]
        {
            let proper = streamed(age, api, &[event], PROPER).await;
            assert!(proper.error.is_none() && proper.finish.is_none(), "{age:?} {api:?}: {proper:?}");
            let cut = streamed(age, api, &[event], CUT).await;
            assert!(cut.error.is_some(), "{age:?} {api:?}: {cut:?}");
        }
    }
}

#[tokio::test]
async fn streams_break_after_as_many_tokens_as_wanted() {
    let world = World::start().await;
    for (how, ended) in
        [("close", Ended::Cut), ("reset", Ended::Reset), ("end", Ended::Properly), ("error", Ended::Properly)]
    {
        for tokens in [0, 1, 50] {
            world.stand_in.behave("*", json!({"tokens": 100, "cut": tokens, "how": how})).await;
            for (name, path, header) in [
                ("openai", "/v1/chat/completions", "authorization"),
                ("openai", "/v1/completions", "authorization"),
                ("openai", "/v1/responses", "authorization"),
                ("anthropic", "/v1/messages", "x-api-key"),
                ("gemini", "/v1beta/models/small:streamGenerateContent?alt=sse", "x-goog-api-key"),
            ] {
                let target = world.stand_in.target(name);
                let key = if name == "openai" { format!("Bearer {}", target.key) } else { target.key.clone() };
                let headers = [(header, key.as_str()), ("anthropic-version", "2023-06-01")];
                let answer = events::post(target.address, name, path, &headers, &everybodys_body()).await;
                assert_eq!(answer.status, 200, "{}", answer.text());
                assert_eq!(answer.ended, ended, "{path} {how} after {tokens}");
                assert_eq!(answer.generated().split_whitespace().count(), tokens, "{path} {how}: {}", answer.text());
            }
        }
    }
    for bill in world.stand_in.settled().await {
        assert_eq!(bill.outcome, "broken");
        let is_begun = bill.output > 0 || bill.api == "messages";
        assert_eq!(bill.input > 0, is_begun, "a prompt is billed from the first token on: {bill:?}");
    }
}

/// A request that every API understands.
fn everybodys_body() -> Value {
    json!({
        "model": "small", "stream": true, "max_tokens": 1000, "prompt": "one two three", "input": "one two three",
        "messages": [{"role": "user", "content": "one two three"}],
        "contents": [{"role": "user", "parts": [{"text": "one two three"}]}],
    })
}

#[tokio::test]
async fn a_client_that_goes_away_is_noticed_at_once_and_billed_for_what_it_had() {
    let world = World::start().await;
    world.stand_in.behave("*", json!({"tokens": 1000, "delay_ms": 10})).await;
    for api in Api::TEXT {
        for ask in [world.ask(api).stream().cancel_after(5), world.ask(api).stream().asynchronous().cancel_after(5)] {
            let told = Sdk::newest().ask(ask).await;
            let bills = world.stand_in.settled().await;
            let bill = bills.last().expect("it was received");
            let gone = bill.gone_ms.expect("it was noticed") - told.cancelled_ms.expect("it went away");
            // Of the stand-in alone, on a machine that may be busy; through the mesh it is less (`cancel.rs`).
            assert!(bill.cancelled && gone < 1_000.0, "noticed after {gone} ms: {bill:?}");
            assert!((5..500).contains(&bill.output) && bill.input == 3, "{bill:?}");
        }
    }
}

#[tokio::test]
async fn sixty_streams_keep_their_pace() {
    let world = World::start().await;
    world.stand_in.behave("*", json!({"tokens": 100, "delay_ms": 20})).await;
    let asks = (0..60).map(|_| world.ask(Api::Chat).stream().asynchronous());
    for told in Sdk::newest().many(asks, 60).await {
        told.assert_whole(100);
        assert!(told.elapsed_ms > 1_900.0, "{}", told.elapsed_ms);
        assert!(told.elapsed_ms < 8_000.0, "{} ms for 2 s of events", told.elapsed_ms);
    }
}

#[tokio::test]
async fn split_events_are_the_same_events() {
    let world = World::start().await;
    for behaviour in
        [json!({"split": 1}), json!({"split": 7}), json!({"split_at": [1, 50, 333]}), json!({"comments": true})]
    {
        world.stand_in.behave("*", behaviour).await;
        for api in Api::TEXT {
            Sdk::newest().ask(world.ask(api).stream()).await.assert_whole(20);
        }
    }
}
