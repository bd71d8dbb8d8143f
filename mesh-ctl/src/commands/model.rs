//! `mesh-ctl model`: which models there are and who serves them, why a request would go where it goes, one real request,
//! and what was used. Proxies and controller answer, by the same code as decides; nothing is decided here.

use http::StatusCode;
use serde_json::Value;

use super::proxy;
use crate::{
    args::Model,
    cluster::{self, Controller},
    exit::{Exit, Failure},
    output::{Text, Tone, plain},
};

mod explain;
mod heard;
mod list;
mod once;
mod usage;

/// Carries out one of the commands.
///
/// # Errors
/// When controller or proxy cannot be reached, or refuse.
pub(crate) async fn run(controller: &Controller, model: Model) -> Result<Exit, Failure> {
    match model {
        Model::List { name, admin, output } => list::run(controller, name.as_deref(), admin.as_deref(), output).await,
        Model::Explain(question) => explain::run(controller, &question).await,
        Model::Try(request) => once::run(controller, &request).await,
        Model::Usage(usage) => usage::run(controller, &usage).await,
    }
}

/// Reads a page of a proxy's admin port.
async fn of_proxy(controller: &Controller, name: &str, path: &str) -> Result<Value, Failure> {
    let address = proxy::admin_port(controller, name).await?;
    let answer = cluster::admin(address, path).await.map_err(|error| {
        Failure::unreachable(format!("cannot reach the admin port {address}"), error).advise(proxy::ADVICE)
    })?;
    let page: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match (answer.status, page["detail"].as_str()) {
        (StatusCode::OK, _) => Ok(page),
        (_, Some(detail)) => Err(Failure::plain(detail).advise("`mesh-ctl model list` shows what there is")),
        (status, None) => {
            Err(Failure::plain(format!("the admin port {address} answered {status} to {path}")).advise(proxy::ADVICE))
        }
    }
}

/// A field as text; `-` where there is nothing.
fn text(item: &Value, field: &str) -> String {
    match &item[field] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Object(_)) => other.to_string(),
    }
}

/// How a target stands.
fn state(item: &Value) -> Text {
    match item["state"].as_str() {
        None => plain("-"),
        Some("ready") => ("ready".to_owned(), Tone::Good),
        Some("resting") => {
            let rests_for = item["restsFor"].as_f64().unwrap_or_default().ceil();
            (format!("resting {rests_for}s: {}", text(item, "reason")), Tone::Odd)
        }
        Some(other) => (other.to_owned(), Tone::Odd),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rest_is_shown_with_time_and_reason() {
        let resting = json!({"state": "resting", "restsFor": 41.2, "reason": "rate"});
        assert_eq!(state(&resting), ("resting 42s: rate".to_owned(), Tone::Odd));
        assert_eq!(state(&json!({"state": "ready"})).1, Tone::Good);
        assert_eq!(state(&json!({"state": "trial"})), ("trial".to_owned(), Tone::Odd));
        assert_eq!(state(&json!({})), plain("-"));
    }
}
