//! Requests.

use super::*;

fn weather() -> Value {
    json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})
}

fn chat() -> Value {
    json!({"model": "virtual", "messages": [{"role": "user", "content": "Hi"}]})
}

fn chat_tools() -> Value {
    let function = json!({"name": "weather", "description": "Tells it", "parameters": weather(), "strict": true});
    json!([{"type": "function", "function": function}])
}

/// A conversation with two calls at once, as OpenAI documents it.
fn chat_conversation() -> Value {
    json!([
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "Use tools."}]},
        {"role": "user", "name": "ann", "content": [
            {"type": "text", "text": "Which is warmer?"},
            {"type": "image_url", "image_url": {"url": "data:image/PNG;base64,iVBORw0=", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg?x=1"}},
        ]},
        {"role": "assistant", "content": "Let me look.", "refusal": null, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Rome\"}"}},
            {"id": "call.2", "type": "function", "function": {"name": "weather", "arguments": ""}},
        ]},
        {"role": "tool", "tool_call_id": "call_1", "content": "21"},
        {"role": "tool", "tool_call_id": "call.2", "content": [{"type": "text", "text": "{\"degrees\": 19}"}]},
        {"role": "user", "content": "And?"},
    ])
}

/// A request with nearly everything in it.
pub(super) fn chat_request() -> Value {
    json!({
        "model": "virtual", "messages": chat_conversation(), "tools": chat_tools(), "tool_choice": "required",
        "parallel_tool_calls": false, "max_completion_tokens": 300, "max_tokens": 200, "temperature": 0.3,
        "stop": ["END"], "user": "u-7", "stream": true, "stream_options": {"include_usage": true}, "seed": 4,
        "frequency_penalty": 0.5, "logit_bias": {}, "n": 1, "store": true, "reasoning_effort": "low",
    })
}

#[test]
fn a_conversation_with_tools_goes_from_openai_to_anthropic() {
    let expected = json!({
        "model": "target-model",
        "max_tokens": 300,
        "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Use tools."}],
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "Which is warmer?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0="}},
                {"type": "image", "source": {"type": "url", "url": "https://example.com/a.jpg?x=1"}},
            ]},
            {"role": "assistant", "content": [
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Rome"}},
                {"type": "tool_use", "id": "call_2", "name": "weather", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": "21"},
                {"type": "tool_result", "tool_use_id": "call_2", "content": "{\"degrees\": 19}"},
                {"type": "text", "text": "And?"},
            ]},
        ],
        "temperature": 0.3,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u-7"},
        "tools": [{"name": "weather", "description": "Tells it", "input_schema": weather()}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
        "stream": true,
    });
    assert_eq!(chat_to(Api::Messages, &chat_request()), Ok(expected));
}

#[test]
fn a_conversation_with_tools_goes_from_openai_to_gemini() {
    let request = json!({
        "model": "virtual", "messages": chat_conversation(), "tools": chat_tools(),
        "tool_choice": {"type": "function", "function": {"name": "weather"}}, "max_tokens": 200, "temperature": 1.5,
        "top_p": 0.9, "stop": "END", "seed": 4, "presence_penalty": 0.5, "stream": true,
        "response_format": {"type": "json_schema", "json_schema": {"name": "w", "strict": true, "schema": weather()}},
    });
    let expected = json!({
        "systemInstruction": {"parts": [{"text": "Be brief."}, {"text": "Use tools."}]},
        "contents": [
            {"role": "user", "parts": [
                {"text": "Which is warmer?"},
                {"inlineData": {"mimeType": "image/png", "data": "iVBORw0="}},
                {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://example.com/a.jpg?x=1"}},
            ]},
            {"role": "model", "parts": [
                {"text": "Let me look."},
                {"functionCall": {"id": "call_1", "name": "weather", "args": {"city": "Rome"}},
                 "thoughtSignature": "skip_thought_signature_validator"},
                {"functionCall": {"id": "call.2", "name": "weather", "args": {}}},
            ]},
            {"role": "user", "parts": [
                {"functionResponse": {"id": "call_1", "name": "weather", "response": {"output": "21"}}},
                {"functionResponse": {"id": "call.2", "name": "weather", "response": {"degrees": 19}}},
            ]},
            {"role": "user", "parts": [{"text": "And?"}]},
        ],
        "tools": [{"functionDeclarations": [
            {"name": "weather", "description": "Tells it", "parametersJsonSchema": weather()},
        ]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}},
        "generationConfig": {
            "maxOutputTokens": 200, "temperature": 1.5, "topP": 0.9, "seed": 4, "presencePenalty": 0.5,
            "stopSequences": ["END"], "responseMimeType": "application/json", "responseJsonSchema": weather(),
        },
    });
    assert_eq!(chat_to(Api::GenerateContent, &request), Ok(expected));
}

pub(super) fn messages_conversation() -> Value {
    json!({
        "model": "virtual", "max_tokens": 500, "temperature": 0.2, "top_p": 0.9, "top_k": 40, "stream": true,
        "stop_sequences": ["END"], "metadata": {"user_id": "u-7"}, "thinking": {"type": "enabled", "budget_tokens": 1024},
        "system": [
            {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "Use tools."},
        ],
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "Which?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0="}},
                {"type": "image", "source": {"type": "url", "url": "https://example.com/a.jpg"}},
                {"type": "document", "title": "d.pdf",
                 "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "plain"}},
            ]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "eHg="},
                {"type": "text", "text": "Let me "},
                {"type": "text", "text": "look."},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": true,
                 "content": [{"type": "text", "text": "No "}, {"type": "text", "text": "data"}]},
                {"type": "text", "text": "And?"},
            ]},
        ],
        "tools": [{"type": "custom", "name": "weather", "description": "Tells it", "input_schema": weather(),
                   "cache_control": {"type": "ephemeral"}}],
        "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": true},
    })
}

#[test]
fn a_conversation_with_tools_goes_from_anthropic_to_openai() {
    let file = json!({"filename": "d.pdf", "file_data": "data:application/pdf;base64,JVBERi0="});
    let call = json!({"name": "weather", "arguments": "{\"city\":\"Rome\"}"});
    let expected = json!({
        "model": "target-model",
        "messages": [
            {"role": "system", "content": "Be brief.\n\nUse tools."},
            {"role": "user", "content": [
                {"type": "text", "text": "Which?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0="}},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}},
                {"type": "file", "file": file},
                {"type": "text", "text": "plain"},
            ]},
            {"role": "assistant", "content": "Let me look.",
             "tool_calls": [{"id": "toolu_1", "type": "function", "function": call}]},
            {"role": "tool", "tool_call_id": "toolu_1", "content": "No data"},
            {"role": "user", "content": "And?"},
        ],
        "max_tokens": 500, "temperature": 0.2, "top_p": 0.9, "stop": ["END"], "user": "u-7",
        "tools": [{"type": "function",
                   "function": {"name": "weather", "description": "Tells it", "parameters": weather()}}],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": false,
        "stream": true,
    });
    assert_eq!(messages_to(Api::ChatCompletions, &messages_conversation()), Ok(expected));
}

#[test]
fn a_failed_tool_is_told_to_gemini_as_an_error() {
    let request = with(&messages_conversation(), json!({"tool_choice": {"type": "auto"}}));
    let translated = messages_to(Api::GenerateContent, &request).expect("translates");
    let response = json!({"id": "toolu_1", "name": "weather", "response": {"error": "No data"}});
    assert_eq!(translated["contents"][2]["parts"], json!([{"functionResponse": response}]));
    assert_eq!(translated["contents"][3]["parts"], json!([{"text": "And?"}]));
    assert_eq!(translated["generationConfig"]["topK"], json!(40));
}

#[test]
fn parameters_of_openai_have_their_counterparts_in_anthropic() {
    let tools = json!({"tools": chat_tools()});
    let choice = |choice: Value| with(&tools, json!({"tool_choice": choice}));
    let named = json!({"type": "function", "function": {"name": "weather"}});
    let schema = json!({"type": "json_schema", "json_schema": {"name": "w", "schema": weather()}});
    for (members, expected) in [
        (json!({}), json!({"max_tokens": 4096})),
        (json!({"max_tokens": 7}), json!({"max_tokens": 7})),
        (json!({"max_tokens": null}), json!({"max_tokens": 4096})),
        (json!({"temperature": 0}), json!({"temperature": 0})),
        (json!({"temperature": 1.7}), json!({"temperature": null})),
        (json!({"temperature": 1, "top_p": 0.5}), json!({"temperature": null, "top_p": 0.5})),
        (json!({"temperature": 0.5, "top_p": 0.5}), json!({"temperature": 0.5, "top_p": null})),
        (json!({"top_p": 1}), json!({"top_p": null})),
        (json!({"top_k": 5}), json!({"top_k": 5})),
        (json!({"stop": "a"}), json!({"stop_sequences": ["a"]})),
        (json!({"safety_identifier": "s", "user": "u"}), json!({"metadata": {"user_id": "s"}})),
        (json!({"response_format": {"type": "text"}}), json!({"output_config": null})),
        (
            json!({"response_format": schema}),
            json!({"output_config": {"format": {"type": "json_schema", "schema": weather()}}}),
        ),
        (choice(json!("auto")), json!({"tool_choice": {"type": "auto"}})),
        (choice(json!("none")), json!({"tool_choice": {"type": "none"}})),
        (choice(json!("required")), json!({"tool_choice": {"type": "any"}})),
        (choice(named), json!({"tool_choice": {"type": "tool", "name": "weather"}})),
        (json!({"tool_choice": "auto", "parallel_tool_calls": false}), json!({"tool_choice": null, "tools": null})),
        (with(&tools, json!({"parallel_tool_calls": true})), json!({"tool_choice": null})),
        (
            with(&tools, json!({"parallel_tool_calls": false})),
            json!({"tool_choice": {"type": "auto", "disable_parallel_tool_use": true}}),
        ),
        (with(&choice(json!("none")), json!({"parallel_tool_calls": false})), json!({"tool_choice": {"type": "none"}})),
        (json!({"stream": false}), json!({"stream": null})),
    ] {
        let translated = chat_to(Api::Messages, &with(&chat(), members.clone())).expect("translates");
        let names: Vec<&str> = expected.as_object().expect("members").keys().map(String::as_str).collect();
        assert_eq!(only(&translated, &names), expected, "{members}");
    }
}

#[test]
fn parameters_of_anthropic_have_their_counterparts_in_openai() {
    let base = json!({"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]});
    let tools = json!({"tools": [{"name": "weather", "input_schema": weather()}]});
    let choice = |choice: Value| with(&tools, json!({"tool_choice": choice}));
    let format = json!({"type": "json_schema", "schema": weather()});
    let shape = json!({"type": "json_schema",
        "json_schema": {"name": "answer", "strict": true, "schema": weather()}});
    for (members, expected) in [
        (json!({}), json!({"max_tokens": 9, "tools": null, "user": null})),
        (choice(json!({"type": "auto"})), json!({"tool_choice": "auto", "parallel_tool_calls": null})),
        (choice(json!({"type": "any"})), json!({"tool_choice": "required"})),
        (choice(json!({"type": "none"})), json!({"tool_choice": "none"})),
        (
            choice(json!({"type": "auto", "disable_parallel_tool_use": true})),
            json!({"tool_choice": "auto", "parallel_tool_calls": false}),
        ),
        (json!({"metadata": {"user_id": "u".repeat(65)}}), json!({"user": null})),
        (json!({"output_config": {"effort": "low", "format": format}}), json!({"response_format": shape})),
        (json!({"output_format": format}), json!({"response_format": shape})),
        (
            json!({"system": "S"}),
            json!({"messages": [
                {"role": "system", "content": "S"}, {"role": "user", "content": "Hi"},
            ]}),
        ),
        (json!({"container": null, "mcp_servers": []}), json!({"stream": null})),
    ] {
        let translated = messages_to(Api::ChatCompletions, &with(&base, members.clone())).expect("translates");
        let names: Vec<&str> = expected.as_object().expect("members").keys().map(String::as_str).collect();
        assert_eq!(only(&translated, &names), expected, "{members}");
    }
}

#[test]
fn the_limit_of_tokens_is_called_as_the_model_knows_it() {
    let body = br#"{"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}"#;
    for (model, name) in [
        ("gpt-4o", "max_completion_tokens"),
        ("o3-mini", "max_completion_tokens"),
        ("chatgpt-4o-latest", "max_completion_tokens"),
        ("qwen-plus", "max_tokens"),
        ("olmo-2", "max_tokens"),
        ("deepseek-chat", "max_tokens"),
    ] {
        let value = translated(request(Api::Messages, Api::ChatCompletions, body, model)).expect("translates");
        assert_eq!((&value[name], &value["model"]), (&json!(9), &json!(model)));
    }
}

#[test]
fn what_changes_the_meaning_and_has_no_counterpart_is_refused_by_name() {
    let user =
        |part: Value| json!({"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": [part]}]});
    let spoken = |message: Value| json!({"messages": [message]});
    let arguments = json!({"role": "assistant", "tool_calls": [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        {"id": "b", "type": "function", "function": {"name": "f", "arguments": "{\"city\": "}},
    ]});
    let orphan = json!({"role": "tool", "tool_call_id": "nobody", "content": "x"});
    let one = json!({"tools": chat_tools(), "parallel_tool_calls": false});
    let everywhere = [Api::Messages, Api::GenerateContent];
    let cases: &[(&[Api], Value, &str)] = &[
        (&everywhere, json!({"n": 2}), "n"),
        (&everywhere, json!({"logprobs": true}), "logprobs"),
        (&everywhere, json!({"top_logprobs": 3}), "top_logprobs"),
        (&everywhere, json!({"logit_bias": {"50256": -100}}), "logit_bias"),
        (&everywhere, json!({"functions": [{"name": "f"}]}), "functions"),
        (&everywhere, json!({"function_call": "auto"}), "function_call"),
        (&everywhere, json!({"modalities": ["text", "audio"]}), "modalities"),
        (&everywhere, json!({"web_search_options": {"user_location": {}}}), "web_search_options"),
        (&everywhere, json!({"response_format": {"type": "grammar"}}), "response_format.type"),
        (&everywhere, json!({"tools": [{"type": "custom", "custom": {"name": "c"}}]}), "tools[0].type"),
        (&everywhere, json!({"tool_choice": {"type": "allowed_tools"}}), "tool_choice.type"),
        (
            &everywhere,
            user(json!({"type": "video_url", "video_url": {"url": "https://x/"}})),
            "messages[1].content[0].type",
        ),
        (
            &everywhere,
            user(json!({"type": "image_url", "image_url": {"url": "ftp://x/"}})),
            "messages[1].content[0].image_url.url",
        ),
        (&everywhere, user(json!({"type": "file", "file": {"file_id": "f"}})), "messages[1].content[0].file.file_id"),
        (&everywhere, spoken(json!({"role": "function", "name": "f", "content": "x"})), "messages[0].role"),
        (
            &everywhere,
            spoken(json!({"role": "assistant", "function_call": {"name": "f"}})),
            "messages[0].function_call",
        ),
        (&everywhere, spoken(arguments), "messages[0].tool_calls[1].function.arguments"),
        (
            &[Api::Messages],
            user(json!({"type": "input_audio", "input_audio": {"data": "eA==", "format": "wav"}})),
            "messages[1].content[0].input_audio",
        ),
        (
            &[Api::Messages],
            user(json!({"type": "image_url", "image_url": {"url": "data:image/tiff;base64,eA=="}})),
            "messages[1].content[0].image_url",
        ),
        (
            &[Api::Messages],
            user(json!({"type": "file", "file": {"file_data": "data:text/csv;base64,eA=="}})),
            "messages[1].content[0].file",
        ),
        (&[Api::Messages], json!({"response_format": {"type": "json_object"}}), "response_format"),
        (&[Api::Messages], json!({"stop": ["x", "\n"]}), "stop"),
        (&[Api::GenerateContent], one, "parallel_tool_calls"),
        (&[Api::GenerateContent], spoken(orphan), "messages[0].tool_call_id"),
    ];
    for (targets, members, member) in cases {
        for to in *targets {
            let refused = chat_to(*to, &with(&chat(), members.clone())).expect_err("is refused");
            assert_eq!(refused.member, *member, "{members} to {to:?}");
        }
    }
}

#[test]
fn what_anthropic_alone_has_is_refused_by_name() {
    let base = json!({"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]});
    let said = |role: &str, block: Value| json!({"messages": [{"role": role, "content": [block]}]});
    let picture = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "eA=="}});
    for (members, member) in [
        (json!({"mcp_servers": [{"name": "m"}]}), "mcp_servers"),
        (json!({"container": "c"}), "container"),
        (json!({"inference_geo": "us"}), "inference_geo"),
        (json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}), "tools[0].type"),
        (json!({"tool_choice": {"type": "else"}}), "tool_choice.type"),
        (json!({"stop_sequences": ["1", "2", "3", "4", "5"]}), "stop_sequences"),
        (said("user", json!({"type": "search_result"})), "messages[0].content[0].type"),
        (
            said("user", json!({"type": "image", "source": {"type": "file", "file_id": "f"}})),
            "messages[0].content[0].source.type",
        ),
        (
            said("user", json!({"type": "document", "source": {"type": "url", "url": "https://x/"}})),
            "messages[0].content[0].source",
        ),
        (
            said("user", json!({"type": "tool_result", "tool_use_id": "t", "content": [picture]})),
            "messages[0].content[0].content[0].type",
        ),
        (said("assistant", json!({"type": "server_tool_use", "id": "s"})), "messages[0].content[0].type"),
    ] {
        let refused = messages_to(Api::ChatCompletions, &with(&base, members.clone())).expect_err("is refused");
        assert_eq!((refused.member.as_str(), refused.cause), (member, Cause::Unsupported), "{members}");
    }
}

#[test]
fn what_its_own_api_does_not_document_is_called_malformed() {
    for (body, member) in [
        (&b"{"[..], "body"),
        (b"[]", "body"),
        (b"\xff", "body"),
        (b"{}", "messages"),
        (br#"{"messages": {}}"#, "messages"),
        (br#"{"messages": [7]}"#, "messages[0]"),
        (br#"{"messages": [{"role": 7}]}"#, "messages[0].role"),
        (br#"{"messages": [{"role": "user", "content": [{"type": "text"}]}]}"#, "messages[0].content[0].text"),
        (br#"{"messages": [{"role": "tool", "content": "x"}]}"#, "messages[0].tool_call_id"),
        (br#"{"messages": [{"role": "user", "content": "x"}], "temperature": "hot"}"#, "temperature"),
        (br#"{"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function"}]}"#, "tools[0].function"),
    ] {
        let refused = request(Api::ChatCompletions, Api::Messages, body, "m").expect_err("is refused");
        assert_eq!((refused.member.as_str(), refused.cause), (member, Cause::Malformed));
    }
}

#[test]
fn schemas_and_arguments_keep_their_order_and_digits() {
    let schema = r#"{"type":"object","properties":{"z":{"maximum":12345678901234567890123},"a":{}}}"#;
    let arguments = r#"{\"z\":0.10000000000000000001,\"a\":1}"#;
    let body = format!(
        r#"{{"messages":[{{"role":"assistant","tool_calls":[{{"id":"c","function":{{"name":"f","arguments":"{arguments}"}}}}]}}],
            "tools":[{{"type":"function","function":{{"name":"f","parameters":{schema}}}}}]}}"#
    );
    for to in [Api::Messages, Api::GenerateContent] {
        let out = request(Api::ChatCompletions, to, body.as_bytes(), "gemini-2.5-pro").expect("translates");
        let out = String::from_utf8(out).expect("text");
        assert!(out.contains(schema), "{out}");
        assert!(out.contains(&arguments.replace('\\', "")), "{out}");
    }
}

#[test]
fn schemas_that_do_not_say_object_are_completed_for_anthropic() {
    for (given, expected) in [
        (json!({}), json!({"type": "object"})),
        (json!({"properties": {}}), json!({"type": "object", "properties": {}})),
        (Value::Null, json!({"type": "object"})),
    ] {
        let tools = json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": given}}]});
        let translated = chat_to(Api::Messages, &with(&chat(), tools)).expect("translates");
        assert_eq!(translated["tools"][0]["input_schema"], expected);
    }
}

#[test]
fn tools_called_before_are_declared_to_anthropic_though_none_may_be_called_any_more() {
    let request = json!({"messages": chat_conversation()});
    let translated = chat_to(Api::Messages, &request).expect("translates");
    assert_eq!(translated["tools"], json!([{"name": "weather", "input_schema": {"type": "object"}}]));
    assert_eq!(translated["tool_choice"], json!({"type": "none"}));
}

#[test]
fn messages_of_one_role_become_one_for_anthropic_and_empty_ones_none() {
    let request = json!({"messages": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": [{"type": "text", "text": ""}, {"type": "text", "text": "b"}]},
    ]});
    let translated = chat_to(Api::Messages, &request).expect("translates");
    let content = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
    assert_eq!(translated["messages"], json!([{"role": "user", "content": content}]));
}

#[test]
fn signatures_of_thoughts_come_back_to_gemini() {
    let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"},
        "extra_content": {"google": {"thought_signature": "c2ln"}}});
    let request = json!({"messages": [{"role": "assistant", "content": null, "tool_calls": [call]}]});
    let translated = chat_to(Api::GenerateContent, &request).expect("translates");
    assert_eq!(translated["contents"][0]["parts"][0]["thoughtSignature"], json!("c2ln"));

    let body = request.to_string().replace("extra_content", "other");
    let old = super::translated(super::request(
        Api::ChatCompletions,
        Api::GenerateContent,
        body.as_bytes(),
        "gemini-2.5-flash",
    ));
    assert_eq!(old.expect("translates")["contents"][0]["parts"][0]["thoughtSignature"], Value::Null);
}

#[test]
fn gemini_hears_and_reads_what_anthropic_cannot() {
    let request = json!({"messages": [{"role": "user", "content": [
        {"type": "input_audio", "input_audio": {"data": "eA==", "format": "wav"}},
        {"type": "file", "file": {"filename": "t.csv", "file_data": "data:text/csv;charset=utf-8;base64,eA=="}},
    ]}], "response_format": {"type": "json_object"}});
    let translated = chat_to(Api::GenerateContent, &request).expect("translates");
    let parts = json!([
        {"inlineData": {"mimeType": "audio/wav", "data": "eA=="}},
        {"inlineData": {"mimeType": "text/csv", "data": "eA=="}},
    ]);
    assert_eq!(translated["contents"][0]["parts"], parts);
    assert_eq!(translated["generationConfig"], json!({"responseMimeType": "application/json"}));
}

#[test]
fn halves_of_surrogate_pairs_do_no_harm() {
    let body = br#"{"messages": [{"role": "user", "content": "a\ud83d b \ud83d\ude00"}]}"#;
    let value = translated(request(Api::ChatCompletions, Api::Messages, body, "m")).expect("translates");
    let text = value["messages"][0]["content"][0]["text"].as_str().expect("text");
    assert!(text.starts_with('a') && text.ends_with(" b \u{1f600}"), "{text}");
}
