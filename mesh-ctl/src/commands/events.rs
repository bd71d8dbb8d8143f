//! `mesh-ctl events`: what happened to instances, as the controller has it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mesh_core::query;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::endpoints::age;
use crate::{
    args,
    cluster::Controller,
    exit::{Exit, Failure},
    output::{self, Text, Tone, plain},
};

const HEADINGS: &[&str] = &["AGO", "EVENT", "POD", "SERVICE", "ADDRESS", "SEEN BY", "DETAIL"];
/// Pause between two looks at what is new.
const LOOK: Duration = Duration::from_secs(1);

/// Shows events, and goes on with new ones if it is to.
///
/// # Errors
/// When the controller cannot be reached.
pub(crate) async fn run(controller: &Controller, asked: &args::Events) -> Result<Exit, Failure> {
    let mut after = 0;
    loop {
        let whole = read(controller, asked, after).await?;
        let items = whole["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        show(items, asked)?;
        if !asked.follow {
            return Ok(Exit::Well);
        }
        after = whole["last"].as_u64().unwrap_or(after);
        sleep(LOOK).await;
    }
}

async fn read(controller: &Controller, asked: &args::Events, after: u64) -> Result<Value, Failure> {
    let (after, limit) = (after.to_string(), asked.limit.to_string());
    let service = asked.service.as_deref();
    // As everywhere, a bare name is one of the default namespace.
    let service = service.map(|name| match name.contains('.') {
        true => name.to_owned(),
        false => format!("{name}.{}", mesh_core::names::DEFAULT_NAMESPACE),
    });
    let fields = [
        ("after", Some(after.as_str())),
        ("limit", Some(limit.as_str())),
        ("service", service.as_deref()),
        ("workload", asked.pod.as_deref()),
        ("kind", asked.kind.as_deref()),
    ];
    let query = query::query(fields.into_iter().filter_map(|(name, value)| Some((name, value?))));
    controller.read(&format!("/api/v1/events?{query}")).await
}

fn show(items: &[Value], asked: &args::Events) -> Result<(), Failure> {
    if items.is_empty() && asked.follow {
        return Ok(());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let text = match output::structured(&json!({ "items": items }), asked.output)? {
        Some(text) => text,
        None if items.is_empty() => "no events\n".to_owned(),
        None => output::lines(&output::table(HEADINGS, items.iter().map(|item| row(item, now)))),
    };
    output::print(&text);
    Ok(())
}

fn row(item: &Value, now: u64) -> Vec<Text> {
    let text = |field: &str| plain(item[field].as_str().filter(|text| !text.is_empty()).unwrap_or("-"));
    let kind = item["kind"].as_str().unwrap_or("-");
    let tone = match kind {
        "ready" | "registered" | "recovered" | "warm_up_ended" => Tone::Good,
        "ejected" | "failing_health" | "lost" => Tone::Bad,
        _ => Tone::Odd,
    };
    let ago = age(now.saturating_sub(item["time"].as_u64().unwrap_or_default() / 1_000));
    let after = ["workload", "service", "address", "by", "detail"].map(text);
    [plain(ago), (kind.replace('_', " "), tone)].into_iter().chain(after).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_row_with_its_age() {
        let item = json!({
            "number": 3, "time": 1_000_000, "kind": "warm_up_started", "workload": "demo/b-1", "service": "b.demo",
            "address": "10.0.0.1:80", "by": "demo/a", "detail": "",
        });
        let cells = row(&item, 1_002);
        let cells: Vec<&str> = cells.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(cells, ["2s", "warm up started", "demo/b-1", "b.demo", "10.0.0.1:80", "demo/a", "-"]);
    }
}
