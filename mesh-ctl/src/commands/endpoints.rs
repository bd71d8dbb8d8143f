//! `mesh-ctl endpoints`: how each instance of a service stands now, by the word of its source, its sidecar and its callers.

use std::time::{SystemTime, UNIX_EPOCH};

use mesh_core::query;
use serde_json::Value;

use crate::{
    args,
    cluster::Controller,
    exit::{Exit, Failure},
    output::{self, Text, Tone, plain},
};

const HEADINGS: &[&str] =
    &["PORT", "ADDRESS", "POD", "ZONE", "LANES", "STATE", "WEIGHT", "SINCE", "REASON", "SEEN BY", "PROBED BY"];

/// Shows every instance.
///
/// # Errors
/// When the controller cannot be reached, or knows no such service.
pub(crate) async fn run(controller: &Controller, asked: &args::Endpoints) -> Result<Exit, Failure> {
    let query = query::query([("service", asked.service.as_str())]);
    let whole = controller.read(&format!("/api/v1/endpoints/explain?{query}")).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let text = match output::structured(&whole, asked.output)? {
        Some(text) => text,
        None => {
            let rows = whole["items"].as_array().into_iter().flatten().map(|item| row(item, now));
            output::lines(&output::table(HEADINGS, rows))
        }
    };
    output::print(&text);
    Ok(Exit::Well)
}

fn row(item: &Value, now: u64) -> Vec<Text> {
    let text = |field: &str| match &item[field] {
        Value::String(text) if !text.is_empty() => plain(text),
        Value::Number(number) => plain(number.to_string()),
        Value::Array(items) if !items.is_empty() => {
            plain(items.iter().map(|item| item.as_str().unwrap_or("?")).collect::<Vec<_>>().join(","))
        }
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => plain("-"),
    };
    let since = item["since"].as_u64().map_or_else(|| "-".to_owned(), |since| age(now.saturating_sub(since)));
    let by = item["seenBy"].as_array().into_iter().flatten();
    let by: Vec<String> = by
        .map(|one| format!("{} ({})", one["proxy"].as_str().unwrap_or("?"), one["state"].as_str().unwrap_or("?")))
        .collect();
    let by = if by.is_empty() { "-".to_owned() } else { by.join(", ") };
    let before = ["port", "address", "pod", "zone", "lanes"].map(text);
    let after = [text("weight"), plain(since), text("reason"), plain(by), text("probedBy")];
    before.into_iter().chain([state(item)]).chain(after).collect()
}

/// The state, with the part of its weight that a new instance has.
fn state(item: &Value) -> Text {
    let word = item["state"].as_str().unwrap_or("-").replace('_', " ");
    let shown = match item["percent"].as_u64() {
        Some(percent) => format!("{word} {percent} %"),
        None => word,
    };
    let tone = match item["state"].as_str() {
        Some("usable") => Tone::Good,
        Some("ejected" | "failing_health") => Tone::Bad,
        Some(_) | None => Tone::Odd,
    };
    (shown, tone)
}

/// A time that has passed, in its two greatest units.
pub(super) fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{}m", seconds / 3_600, seconds % 3_600 / 60),
        86_400.. => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_new_instance_is_shown_with_its_part_and_who_says_so() {
        let item = json!({
            "port": 80, "address": "10.0.0.1:8080", "pod": "b-1", "zone": null, "lanes": ["shop/gray"],
            "state": "warming", "percent": 37, "weight": 0.37, "reason": "it is new", "since": 1_000,
            "seenBy": [{ "proxy": "demo/a", "state": "warming", "since": 1_000 }],
        });
        let cells = row(&item, 1_073);
        let cells: Vec<&str> = cells.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(
            cells,
            [
                "80",
                "10.0.0.1:8080",
                "b-1",
                "-",
                "shop/gray",
                "warming 37 %",
                "0.37",
                "1m13s",
                "it is new",
                "demo/a (warming)",
                "-"
            ]
        );
        assert_eq!(state(&json!({ "state": "failing_health" })), ("failing health".to_owned(), Tone::Bad));
    }

    #[test]
    fn ages_have_two_units() {
        for (seconds, expected) in [(7, "7s"), (61, "1m1s"), (7_260, "2h1m"), (90_000, "1d1h")] {
            assert_eq!(age(seconds), expected);
        }
    }
}
