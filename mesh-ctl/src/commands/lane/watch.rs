//! `mesh-ctl lane watch`: lanes and their traffic as they change; drawn anew on a terminal, a line per change in a pipe.

use std::{
    collections::BTreeMap,
    io::IsTerminal as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mesh_core::resources::edit::moment;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::{lanes, show, stage};
use crate::{
    args,
    cluster::Controller,
    exit::{Exit, Failure},
    output::{self, Format},
};

/// How often the controller is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// Puts the cursor at the top and deletes what is below.
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

/// Follows until the time given is over, or for ever.
///
/// # Errors
/// When the controller cannot be reached, now or later.
pub(super) async fn run(controller: &Controller, watch: &args::Watch) -> Result<Exit, Failure> {
    let mut tick = interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let drawn = watch.output == Format::Table && std::io::stdout().is_terminal();
    let mut known = BTreeMap::new();
    let follow = async {
        loop {
            tick.tick().await;
            let lanes = lanes(controller, watch.group.as_ref()).await?;
            if drawn {
                output::print(&format!(
                    "{CLEAR}{}  lanes, every second; end with Ctrl-C\n\n{}",
                    now(),
                    show::table(&lanes)
                ));
                continue;
            }
            for line in changes(&mut known, &lanes, watch.output)? {
                output::print(&line);
            }
        }
    };
    match watch.duration {
        None => follow.await,
        Some(duration) => match tokio::time::timeout(duration, follow).await {
            Ok(ended) => ended,
            Err(_) => Ok(Exit::Well),
        },
    }
}

fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    moment(now.as_secs() * 1_000)
}

/// What is shown of a lane in a line: other fields change all the time.
fn summary(lane: &Value) -> Value {
    json!({
        "state": stage(lane),
        "share": lane["shareNow"],
        "endpoints": lane["endpoints"],
        "traffic": lane["traffic"]["lane"],
        "verdict": lane["verdict"],
    })
}

fn changes(
    known: &mut BTreeMap<String, Value>,
    lanes: &[(String, Value)],
    format: Format,
) -> Result<Vec<String>, Failure> {
    let mut lines = Vec::new();
    let mut seen = BTreeMap::new();
    for (group, lane) in lanes {
        let name = format!("{group}/{}", lane["name"].as_str().unwrap_or_default());
        let summary = summary(lane);
        if known.get(&name) != Some(&summary) {
            lines.push(line(&name, &summary, format)?);
        }
        seen.insert(name, summary);
    }
    for name in known.keys().filter(|name| !seen.contains_key(*name)) {
        lines.push(line(name, &json!({ "state": "gone" }), format)?);
    }
    *known = seen;
    Ok(lines)
}

fn line(name: &str, summary: &Value, format: Format) -> Result<String, Failure> {
    let whole = json!({ "time": now(), "lane": name, "is": summary });
    match format {
        // One document per line, so that a program can read them one by one.
        Format::Json => Ok(format!("{whole}\n")),
        Format::Yaml => Ok(format!("---\n{}", output::structured(&whole, format)?.unwrap_or_default())),
        Format::Table => {
            let number = |value: &Value, unit: &str| value.as_f64().map(|number| format!(" {number:.2}{unit}"));
            let rate = number(&summary["traffic"]["requestsPerSecond"], " requests/s").unwrap_or_default();
            let share = number(&summary["share"], " %").unwrap_or_default();
            let errors = summary["traffic"]["errorRatio"].as_f64();
            let errors = errors.map(|ratio| format!(" {:.2} % errors", ratio * 100.0)).unwrap_or_default();
            let state = summary["state"].as_str().unwrap_or("-");
            Ok(format!("{} {name} {state}{share}{rate}{errors}\n", now()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_for_what_changed_and_for_what_went() {
        let lane = |state: &str| vec![("shop".to_owned(), json!({"name": "canary", "state": state}))];
        let mut known = BTreeMap::new();
        let mut lines = |lanes: &[(String, Value)]| changes(&mut known, lanes, Format::Table).unwrap().concat();
        assert!(lines(&lane("active")).contains("shop/canary active"));
        assert_eq!(lines(&lane("active")), "");
        assert!(lines(&lane("draining")).contains("shop/canary draining"));
        assert!(lines(&[]).contains("shop/canary gone"));
    }
}
