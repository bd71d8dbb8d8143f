//! Lists as each dialect's clients read them.

use super::*;

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn models_are_listed_in_the_shape_of_the_dialect() {
    let names = ["small", "big"];
    let openai = parsed(&list(&names, Dialect::Openai));
    assert_eq!(openai["object"], "list");
    assert_eq!(openai["data"][1], json!({ "id": "big", "object": "model", "created": 0, "owned_by": "lanemesh" }));
    let anthropic = parsed(&list(&names, Dialect::Anthropic));
    assert_eq!((&anthropic["first_id"], &anthropic["last_id"]), (&json!("small"), &json!("big")));
    assert_eq!((&anthropic["has_more"], &anthropic["data"][0]["type"]), (&json!(false), &json!("model")));
    let gemini = parsed(&list(&names, Dialect::Gemini));
    assert_eq!(gemini["models"][0]["name"], "models/small");
}

#[test]
fn a_list_may_be_empty() {
    assert_eq!(parsed(&list(&[], Dialect::Openai)), json!({ "object": "list", "data": [] }));
    assert_eq!(parsed(&list(&[], Dialect::Anthropic))["first_id"], Value::Null);
}

#[test]
fn one_model_is_an_entry_of_the_list() {
    for dialect in [Dialect::Openai, Dialect::Anthropic, Dialect::Gemini] {
        let all = parsed(&list(&["a\"b"], dialect));
        let entry = all.get("data").or(all.get("models")).and_then(|list| list.get(0)).unwrap();
        assert_eq!(&parsed(&one("a\"b", dialect)), entry);
    }
}
