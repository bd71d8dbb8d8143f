//! `mesh-ctl policy explain`: the traffic policy in force for a service, as the controller tells it.

use mesh_core::query;
use serde_json::Value;

use crate::{
    cluster::Controller,
    exit::{Exit, Failure},
    output::{self, Format, Text, Tone, plain},
};

/// Shows every field that counts, and where it comes from.
///
/// # Errors
/// When the controller cannot be reached, or knows no such service.
pub(crate) async fn explain(controller: &Controller, service: &str, format: Format) -> Result<Exit, Failure> {
    let query = query::query([("service", service)]);
    let whole = controller.read(&format!("/api/v1/policies/explain?{query}")).await?;
    let text = match output::structured(&whole, format)? {
        Some(text) => text,
        None => shown(&whole),
    };
    output::print(&text);
    Ok(Exit::Well)
}

fn shown(whole: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let row = |field: &Value| -> Vec<Text> {
        let tone = if field["origin"] == "written" { Tone::Good } else { Tone::Plain };
        vec![plain(text(&field["path"])), (text(&field["value"]), tone), plain(text(&field["origin"]))]
    };
    let rows = whole["fields"].as_array().into_iter().flatten().map(row);
    let table = output::lines(&output::table(&["FIELD", "VALUE", "FROM"], rows));
    format!("service {}, policy {}\n\n{table}", text(&whole["service"]), text(&whole["policy"]))
}
