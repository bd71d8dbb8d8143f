//! Addresses as providers document them.

use proptest::prelude::*;

use super::*;

#[test]
fn every_provider_is_called_at_its_own_path() {
    use Api::{ChatCompletions as Chat, Completions, Embeddings, GenerateContent, Messages, Responses};
    use Delivery::{Stream, Whole};
    use Provider::{Anthropic, Azure, Dashscope, Gemini, Openai, OpenaiCompatible, Vllm};
    let cases = [
        (Openai, Chat, "", "m", Whole, "/v1/chat/completions"),
        (Openai, Responses, "", "m", Stream, "/v1/responses"),
        (Openai, Completions, "", "m", Whole, "/v1/completions"),
        (Openai, Embeddings, "", "m", Whole, "/v1/embeddings"),
        (Vllm, Chat, "/llm", "m", Stream, "/llm/v1/chat/completions"),
        (Vllm, Messages, "", "m", Stream, "/v1/messages"),
        (OpenaiCompatible, Chat, "/api/v3", "m", Whole, "/api/v3/chat/completions"),
        (OpenaiCompatible, Chat, "/v1beta/openai", "m", Whole, "/v1beta/openai/chat/completions"),
        (OpenaiCompatible, Chat, "/api/v", "m", Whole, "/api/v/v1/chat/completions"),
        (OpenaiCompatible, Chat, "/v1", "m", Whole, "/v1/chat/completions"),
        (Anthropic, Messages, "", "m", Stream, "/v1/messages"),
        (Anthropic, Messages, "/anthropic", "m", Stream, "/anthropic/v1/messages"),
        (Gemini, GenerateContent, "", "m", Whole, "/v1beta/models/m:generateContent"),
        (Gemini, GenerateContent, "", "models/m", Stream, "/v1beta/models/m:streamGenerateContent?alt=sse"),
        (Gemini, GenerateContent, "/v1", "a/b c?", Whole, "/v1/models/a%2Fb%20c%3F:generateContent"),
        (Azure, Chat, "", "d", Stream, "/openai/deployments/d/chat/completions?api-version=2024-10-21"),
        (Azure, Embeddings, "/openai", "d/e", Whole, "/openai/deployments/d%2Fe/embeddings?api-version=2024-10-21"),
        (Azure, Responses, "", "d", Whole, "/openai/v1/responses"),
        (Azure, Chat, "/openai/v1", "d", Whole, "/openai/v1/chat/completions"),
        (Dashscope, Chat, "", "m", Whole, "/compatible-mode/v1/chat/completions"),
        (Dashscope, Embeddings, "/compatible-mode", "m", Whole, "/compatible-mode/v1/embeddings"),
        (Dashscope, Chat, "/compatible-mode/v1", "m", Whole, "/compatible-mode/v1/chat/completions"),
    ];
    for (provider, api, prefix, model, delivery, expected) in cases {
        assert_eq!(path(provider, api, prefix, model, delivery), expected);
    }
}

#[test]
fn realtime_has_its_model_in_the_query() {
    let cases = [
        (Provider::Openai, "", "/v1/realtime?model=m%26x"),
        (Provider::Vllm, "/llm", "/llm/v1/realtime?model=m%26x"),
        (Provider::Azure, "", "/openai/v1/realtime?model=m%26x"),
        (Provider::Dashscope, "", "/api-ws/v1/realtime?model=m%26x"),
        (Provider::Dashscope, "/compatible-mode/v1", "/api-ws/v1/realtime?model=m%26x"),
    ];
    for (provider, prefix, expected) in cases {
        assert_eq!(realtime(provider, prefix, "m&x"), expected);
    }
}

#[test]
fn keys_and_own_parameters_of_a_query_stay_here() {
    let cases = [
        (None, "/p"),
        (Some(""), "/p"),
        (Some("beta=true"), "/p?beta=true"),
        (Some("key=secret&beta=true&&x"), "/p?beta=true&x"),
        (Some("KEY=secret"), "/p"),
        (Some("%6bey=secret&alt=sse&api-version=1"), "/p"),
    ];
    for (query, expected) in cases {
        assert_eq!(with_query("/p".to_owned(), query), expected);
    }
    assert_eq!(with_query("/p?alt=sse".to_owned(), Some("a=b")), "/p?alt=sse&a=b");
}

#[test]
fn keys_are_shown_as_each_provider_wants_them() {
    for (_, provider) in Provider::ALL {
        let (name, value) = credential(provider, "k");
        assert!(is_credential(name), "what is shown there is stripped from callers: {name}");
        assert_eq!(value, if name == "authorization" { "Bearer k" } else { "k" });
    }
    assert_eq!(credential(Provider::Anthropic, "k").0, "x-api-key");
    assert_eq!(credential(Provider::Gemini, "k").0, "x-goog-api-key");
    assert_eq!(credential(Provider::Azure, "k").0, "api-key");
    assert_eq!(defaults(Provider::Anthropic), [("anthropic-version", "2023-06-01")]);
}

#[test]
fn fields_pass_by_dialect_and_place() {
    use Crossing::{OtherDialect as Other, SameDialect as Same};
    use Place::{Mesh, Outside};
    // Same dialect in the mesh and outside, other dialect in the mesh and outside.
    let cases = [
        ("Authorization", [false; 4]),
        ("X-Api-Key", [false; 4]),
        ("openai-organization", [false; 4]),
        ("Cookie", [false; 4]),
        ("accept-encoding", [false; 4]),
        ("Host", [false; 4]),
        ("content-length", [false; 4]),
        ("Content-Type", [true; 4]),
        ("traceparent", [true; 4]),
        ("anthropic-version", [true, true, false, false]),
        ("anthropic-beta", [true, true, false, false]),
        ("X-Stainless-Lang", [true, true, false, false]),
        ("idempotency-key", [true, true, true, false]),
        ("x-tenant", [true, true, true, false]),
        ("x-forwarded-for", [true, false, true, false]),
        ("x-mesh-lane", [true, false, true, false]),
        ("baggage", [true, false, true, false]),
        ("é", [true, true, true, false]),
    ];
    for (name, expected) in cases {
        let found = [(Same, Mesh), (Same, Outside), (Other, Mesh), (Other, Outside)]
            .map(|(crossing, place)| passes(name, crossing, place));
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn keys_of_browsers_do_not_pass_as_protocols() {
    let cases = [
        ("realtime, openai-insecure-api-key.sk-1, openai-beta.realtime-v1", Some("realtime, openai-beta.realtime-v1")),
        ("OpenAI-Insecure-Api-Key.sk-1", None),
        ("realtime,openai-project.p,openai-organization.o", Some("realtime")),
        ("", None),
    ];
    for (value, expected) in cases {
        assert_eq!(protocols(value).as_deref(), expected, "{value}");
    }
}

proptest! {
    #[test]
    fn paths_stay_one_request_target(
        provider in prop::sample::select(Provider::ALL.map(|(_, provider)| provider).to_vec()),
        api in prop::sample::select(Api::ALL.to_vec()),
        model in ".{1,20}",
    ) {
        for delivery in [Delivery::Stream, Delivery::Whole] {
            let path = path(provider, api, "", &model, delivery);
            prop_assert!(path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'), "{}", path);
            prop_assert!(path.matches('?').count() <= 1);
        }
    }

    #[test]
    fn arbitrary_names_and_queries_are_judged(name in ".{0,20}", query in ".{0,30}") {
        for place in [Place::Mesh, Place::Outside] {
            passes(&name, Crossing::OtherDialect, place);
            passes(&name, Crossing::SameDialect, place);
        }
        prop_assert!(with_query("/p".to_owned(), Some(&query)).starts_with("/p"));
        protocols(&query);
    }
}
