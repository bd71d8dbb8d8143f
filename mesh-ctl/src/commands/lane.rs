//! `mesh-ctl lane`: see lanes, change them, and find out why a request goes where it goes. Everything is asked of the
//! controller, which decides by the same code as a proxy.

use mesh_core::model::lane::LaneRef;
use serde_json::Value;

use crate::{
    args::{self, Lane},
    cluster::Controller,
    exit::{Exit, Failure},
};

mod change;
mod explain;
mod probe;
mod show;
mod watch;

/// Carries out one of the commands.
///
/// # Errors
/// When the controller cannot be reached, or refuses.
pub(crate) async fn run(controller: &Controller, lane: Lane) -> Result<Exit, Failure> {
    match lane {
        Lane::List { group, output } => show::list(controller, group.as_ref(), output).await,
        Lane::Show { lane, output } => show::one(controller, &lane, output).await,
        Lane::Explain(question) => explain::run(controller, &question).await,
        Lane::Probe(probe) => probe::run(controller, &probe).await,
        Lane::Set(set) => change::set(controller, &set).await,
        Lane::Activate(change) => change::stage(controller, "activate", &change).await,
        Lane::Drain(change) => change::stage(controller, "drain", &change).await,
        Lane::Close(change) => change::stage(controller, "close", &change).await,
        Lane::Promote(change) => change::stage(controller, "promote", &change).await,
        Lane::Rollback(change) => change::stage(controller, "rollback", &change).await,
        Lane::Watch(watch) => watch::run(controller, &watch).await,
    }
}

/// Lanes with the name of their group.
async fn lanes(controller: &Controller, group: Option<&args::Group>) -> Result<Vec<(String, Value)>, Failure> {
    let mut found = Vec::new();
    let groups = controller.items("lanes").await?;
    if let Some(group) = group
        && !groups.iter().any(|known| known["name"] == group.as_str())
    {
        let known: Vec<&str> = groups.iter().filter_map(|group| group["name"].as_str()).collect();
        return Err(Failure::plain(format!("the controller knows no lane group {}", group.as_str()))
            .advise(format!("it knows: {}", if known.is_empty() { "none".to_owned() } else { known.join(", ") })));
    }
    for shown in groups {
        let name = shown["name"].as_str().unwrap_or_default();
        if group.is_some_and(|group| group.as_str() != name) {
            continue;
        }
        let of_group = shown["lanes"].as_array().into_iter().flatten();
        found.extend(of_group.map(|lane| (name.to_owned(), lane.clone())));
    }
    Ok(found)
}

fn unknown(lane: &LaneRef) -> Failure {
    Failure::plain(format!("the controller knows no lane {lane}")).advise("`mesh-ctl lane list` shows what there is")
}

/// Stage as written, and the one that time has made of it.
fn stage(lane: &Value) -> String {
    let (written, now) = (&lane["state"], &lane["effectiveState"]);
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    if now.is_null() || written == now { word(written) } else { format!("{}, {} by time", word(written), word(now)) }
}
