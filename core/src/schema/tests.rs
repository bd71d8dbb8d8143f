//! What passes a schema, and what is no schema.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn check(schema: Value, value: Value) -> Result<(), String> {
    let read = Schema::new(schema.clone()).unwrap_or_else(|problems| panic!("{schema}: {problems:?}"));
    read.check(&value).map_err(|unfit| unfit.to_string())
}

fn problems(schema: Value) -> Vec<String> {
    Schema::new(schema).map_or_else(|problems| problems.iter().map(ToString::to_string).collect(), |_| Vec::new())
}

#[test]
fn each_keyword_lets_pass_and_refuses() {
    let cases = [
        (json!({}), json!([1, "a"]), json!(null), None),
        (json!({"type": "integer"}), json!(1.0), json!(1.5), Some("`type`")),
        (json!({"type": "number"}), json!(1.5), json!("1"), Some("`type`")),
        (json!({"type": ["string", "null"]}), json!(null), json!(0), Some("`type`")),
        (json!({"type": "boolean"}), json!(false), json!(0), Some("`type`")),
        (json!({"type": "array"}), json!([]), json!({}), Some("`type`")),
        (json!({"type": "object"}), json!({}), json!([]), Some("`type`")),
        (json!({"enum": ["a", 1, {"x": [1, 2]}]}), json!({"x": [1.0, 2]}), json!("b"), Some("`enum`")),
        (
            json!({"const": 9_007_199_254_740_993_u64}),
            json!(9_007_199_254_740_993_u64),
            json!(9_007_199_254_740_992_u64),
            Some("`enum`"),
        ),
        (json!({"const": 1, "enum": [1, 2]}), json!(1), json!(2), Some("`enum`")),
        (json!({"anyOf": [{"type": "string"}, {"minimum": 3}]}), json!("a"), json!(2), Some("`anyOf`")),
        (json!({"minimum": 2}), json!(2), json!(1.9), Some("`minimum`")),
        (json!({"minimum": 0}), json!(-0.0), json!(-0.1), Some("`minimum`")),
        (json!({"enum": [-0.0]}), json!(0), json!(1), Some("`enum`")),
        (json!({"maximum": 2.5}), json!("text"), json!(3), Some("`maximum`")),
        (json!({"exclusiveMinimum": 2}), json!(2.1), json!(2), Some("`exclusiveMinimum`")),
        (json!({"exclusiveMaximum": 2}), json!(-1), json!(2.0), Some("`exclusiveMaximum`")),
        (json!({"minLength": 2}), json!("\u{e9}\u{e9}"), json!("\u{1f600}"), Some("`minLength`")),
        (json!({"maxLength": 2}), json!("\u{1f600}\u{1f600}"), json!("abc"), Some("`maxLength`")),
        (json!({"minItems": 1}), json!([1]), json!([]), Some("`minItems`")),
        (json!({"maxItems": 1}), json!([1]), json!([1, 2]), Some("`maxItems`")),
        (json!({"items": {"type": "string"}}), json!(["a"]), json!(["a", 1]), Some("`type` of [1]")),
        (json!({"required": ["a"]}), json!({"a": null}), json!({"b": 1}), Some("`required`")),
        (json!({"properties": {"a": {"type": "string"}}}), json!({"b": 1}), json!({"a": 1}), Some("`type` of a")),
        (
            json!({"properties": {"a": {}}, "additionalProperties": false}),
            json!({"a": 1}),
            json!({"a": 1, "secret": 2}),
            Some("`additionalProperties`"),
        ),
        (
            json!({"properties": {"a": {}}, "additionalProperties": {"type": "number"}}),
            json!({"a": "x", "b": 1}),
            json!({"secret": "x"}),
            Some("`type` of *"),
        ),
        (
            json!({"properties": {"rooms": {"items": {"properties": {"name": {"minLength": 1}}}}}}),
            json!({"rooms": [{"name": "a"}, {}]}),
            json!({"rooms": [{"name": "a"}, {"name": ""}]}),
            Some("`minLength` of rooms[1].name"),
        ),
    ];
    for (schema, good, bad, says) in cases {
        assert_eq!(check(schema.clone(), good), Ok(()), "{schema}");
        assert_eq!(check(schema.clone(), bad).err().as_deref(), says, "{schema}");
    }
}

#[test]
fn what_would_not_be_checked_or_makes_no_sense_is_refused_with_its_place() {
    let cases = [
        (json!(true), ": expected a mapping"),
        (json!({"pattern": "a"}), "pattern: this keyword is not checked"),
        (json!({"$ref": "#/x"}), "$ref: this keyword is not checked"),
        (json!({"properties": {"a": {"format": "date"}}}), "properties.a.format: this keyword"),
        (json!({"properties": []}), "properties: expected a mapping"),
        (json!({"properties": {"a": 1}}), "properties.a: expected a mapping"),
        (json!({"type": "text"}), "type: expected null, boolean"),
        (json!({"type": []}), "type: expected null, boolean"),
        (json!({"enum": []}), "enum: expected a list"),
        (json!({"anyOf": [{}, {"type": 1}]}), "anyOf[1].type: expected null"),
        (json!({"anyOf": []}), "anyOf: expected a list"),
        (json!({"required": "a"}), "required: expected a list of names"),
        (json!({"required": [1]}), "required: expected a list of names"),
        (json!({"items": [{}]}), "items: expected a mapping"),
        (json!({"additionalProperties": 1}), "additionalProperties: expected a mapping"),
        (json!({"minimum": "1"}), "minimum: expected a number"),
        (json!({"minLength": -1}), "minLength: expected a whole number"),
        (json!({"minItems": 3, "maxItems": 2}), "maxItems: is less than minItems"),
    ];
    for (schema, says) in cases {
        let found = problems(schema.clone());
        assert!(matches!(&found[..], [one] if one.starts_with(says)), "{schema}: {found:?}");
    }
    assert_eq!(
        problems(json!({"title": "t", "description": "d", "$schema": "s", "default": 1, "examples": []})),
        [""; 0]
    );
    assert_eq!(problems(json!({"a": 1, "b": 2})).len(), 2, "all problems are told together");
}

#[test]
fn depth_and_size_are_bounded() {
    let nested = |depth: usize| (0..depth).fold(json!({}), |inner, _| json!({ "items": inner }));
    assert!(problems(nested(15)).is_empty());
    assert!(problems(nested(16))[0].contains("inside each other"));
    assert!(problems(nested(100))[0].contains("inside each other"));
    let wide = |count: usize| {
        let properties: serde_json::Map<String, Value> = (0..count).map(|at| (format!("p{at}"), json!({}))).collect();
        json!({ "properties": properties })
    };
    assert!(problems(wide(NODES_MAX - 1)).is_empty());
    assert!(problems(wide(NODES_MAX))[0].contains("more than 1000"));
    assert!(problems(json!({"enum": vec![1; NODES_MAX]}))[0].contains("more than 1000"));
}

#[test]
fn schema_is_kept_as_it_was_written() {
    let source = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let schema = Schema::new(source.clone()).unwrap();
    let text = serde_json::to_string(&schema).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), source);
    assert_eq!(serde_json::from_str::<Schema>(&text).unwrap(), schema);
    assert!(serde_json::from_str::<Schema>(r#"{"pattern":"a"}"#).is_err());
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        "[a-z]{0,3}".prop_map(Value::from),
    ];
    let names = prop::sample::select(vec!["type", "enum", "properties", "required", "items", "anyOf", "a", "minimum"]);
    leaf.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..5).prop_map(|members| {
                Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn anything_is_read_and_checked_without_panic_and_always_alike(source in value(), of in value()) {
        if let Ok(schema) = Schema::new(source) {
            prop_assert_eq!(schema.check(&of), schema.check(&of));
        }
    }

    #[test]
    fn a_value_passes_the_schema_that_names_it_alone(of in value()) {
        let schema = Schema::new(json!({ "const": of })).unwrap();
        prop_assert!(schema.check(&of).is_ok());
    }
}
