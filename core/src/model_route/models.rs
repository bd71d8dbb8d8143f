//! Answers to `GET /v1/models`: the virtual models, as each dialect lists models.
//!
//! Virtual models have no date of birth; where a dialect insists on one it is the Unix epoch, as Anthropic documents it
//! for an unknown date.

use serde_json::{Value, json};

use crate::model::model_route::Dialect;

/// All models, in the order given. Patterns have no place here: clients take what they find as names.
pub fn list(names: &[&str], dialect: Dialect) -> Vec<u8> {
    let models: Vec<Value> = names.iter().map(|name| model(name, dialect)).collect();
    let answer = match dialect {
        Dialect::Openai => json!({ "object": "list", "data": models }),
        Dialect::Anthropic => json!({
            "data": models,
            "has_more": false,
            "first_id": names.first(),
            "last_id": names.last(),
        }),
        Dialect::Gemini => json!({ "models": models }),
    };
    answer.to_string().into_bytes()
}

/// One model.
pub fn one(name: &str, dialect: Dialect) -> Vec<u8> {
    model(name, dialect).to_string().into_bytes()
}

fn model(name: &str, dialect: Dialect) -> Value {
    match dialect {
        Dialect::Openai => json!({ "id": name, "object": "model", "created": 0, "owned_by": "lanemesh" }),
        Dialect::Anthropic => {
            json!({ "type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z" })
        }
        Dialect::Gemini => json!({
            "name": format!("models/{name}"),
            "displayName": name,
            "supportedGenerationMethods": ["generateContent", "streamGenerateContent"],
        }),
    }
}

#[cfg(test)]
mod tests;
