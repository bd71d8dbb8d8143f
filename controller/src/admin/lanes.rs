//! Lanes: what the console shows of them, and `POST lane`, by which one is changed. Times are Unix milliseconds.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{SystemTime, UNIX_EPOCH},
};

use http::StatusCode;
use mesh_core::{
    lane::{entry::share_at, guard::Tally},
    model::{
        endpoint::Endpoint,
        lane::{Lane, LaneGroup, LaneRef, LaneState},
    },
    resources::{Resource, World, lane::Lane as Written},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::{Answer, Console, ask, not_applied, refused};
use crate::{
    publish::statistics::{RATE_WINDOW, Statistics},
    sources::{
        file::{LaneError, Request},
        lanes::{Order, OrderError},
    },
};

/// Longest reason that a history takes, characters.
const REASON_MAX: usize = 300;

pub(super) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Every group with its lanes.
pub(super) fn groups(console: &Console) -> Vec<Value> {
    let view = console.published.view();
    let state = console.state.get();
    let written = written(&state.resources);
    let members = Members::of(view.world());
    let now = now();
    let group = |group: &LaneGroup| {
        let lane = |lane: &Lane| {
            let name = LaneRef { group: group.name.clone(), lane: lane.name.clone() };
            let mut shown = shown(group, lane, now);
            members.show(&name, &mut shown);
            if let Some(written) = written.get(&name) {
                more(written, &mut shown);
            }
            traffic(&console.reported.statistics, &name, now, &mut shown);
            shown
        };
        json!({
            "name": group.name,
            "revision": group.revision,
            "entries": group.entries,
            "members": group.members,
            "carrier": group.carrier,
            "baseline": group.baseline,
            "salt": group.salt,
            "trusted": group.trusted,
            "propagation": group.propagation,
            "zoneFirst": group.zone_first,
            "maxRequestAge": group.max_request_age.as_millis() as u64,
            "lanes": group.lanes.iter().map(lane).collect::<Vec<_>>(),
        })
    };
    view.world().groups.iter().map(group).collect()
}

fn shown(group: &LaneGroup, lane: &Lane, now: u64) -> Value {
    json!({
        "name": lane.name,
        "parent": group.parent_of(lane).map(|parent| &parent.name),
        "state": lane.state,
        "effectiveState": lane.state_at(now, group.max_request_age),
        "stateSince": lane.state_since,
        "created": lane.created,
        "ends": lane.ends,
        "onMissing": lane.on_missing,
        "onUnhealthy": lane.on_unhealthy,
        "minHealthy": lane.min_healthy,
        "priority": lane.priority,
        "rule": lane.rule,
        "share": lane.share,
        "shareNow": lane.share.as_ref().map(|share| f64::from(share_at(share, now)) / 100.0),
    })
}

/// What only the resource says.
fn more(lane: &Written, shown: &mut Value) {
    let past = |past: &mesh_core::resources::lane::Past| json!({ "state": past.state, "until": past.until, "reason": past.reason });
    shown["history"] = lane.history.iter().map(past).collect();
    shown["guard"] = lane.guard.map_or(Value::Null, |guard| {
        json!({
            "window": guard.window.as_millis() as u64,
            "minRequests": guard.min_requests,
            "maxErrorRatio": guard.max_error_ratio,
            "maxLatencyFactor": guard.max_latency_factor,
        })
    });
}

/// What proxies that are connected here reported of it.
fn traffic(statistics: &Statistics, lane: &LaneRef, now: u64, shown: &mut Value) {
    let window = RATE_WINDOW.as_millis() as u64;
    let (own, baseline) = statistics.compare(lane, now.saturating_sub(window));
    let side = |tally: &Tally| {
        json!({
            "requestsPerSecond": tally.requests as f64 / RATE_WINDOW.as_secs_f64(),
            "errorRatio": tally.error_ratio(),
            "p99Milliseconds": tally.percentile_99().map(|time| time.as_secs_f64() * 1_000.0),
        })
    };
    shown["traffic"] = match own.requests {
        0 => Value::Null,
        _ => json!({ "lane": side(&own), "baseline": side(&baseline) }),
    };
    shown["verdict"] = json!(statistics.verdict(lane).map(|verdict| verdict.to_string()));
}

/// Lanes as written.
pub(super) fn written(resources: &[Resource]) -> BTreeMap<LaneRef, &Written> {
    let name = |lane: &Written| LaneRef { group: lane.group.clone(), lane: lane.name.clone() };
    let lanes = resources.iter().filter_map(|resource| resource.spec.lane());
    lanes.map(|lane| (name(lane), lane)).collect()
}

/// Instances of every lane.
struct Members<'w>(BTreeMap<&'w LaneRef, BTreeMap<&'w str, Vec<&'w Endpoint>>>);

impl<'w> Members<'w> {
    fn of(world: &'w World) -> Self {
        let mut members: BTreeMap<_, BTreeMap<_, Vec<&Endpoint>>> = BTreeMap::new();
        for (label, service) in &world.services {
            for endpoint in service.ports.values().flat_map(|port| &port.endpoints) {
                for lane in &endpoint.lanes {
                    members.entry(lane).or_default().entry(label.as_str()).or_default().push(endpoint.as_ref());
                }
            }
        }
        Members(members)
    }

    fn show(&self, lane: &LaneRef, shown: &mut Value) {
        let services = self.0.get(lane).into_iter().flatten();
        let mut total = 0;
        let service = |(label, endpoints): (&&str, &Vec<&Endpoint>)| {
            total += endpoints.len();
            let takes_traffic = |endpoint: &&&Endpoint| endpoint.is_open();
            json!({
                "service": label,
                "instances": endpoints.iter().map(|one| one.address).collect::<BTreeSet<_>>(),
                "inTraffic": endpoints.iter().filter(takes_traffic).count(),
            })
        };
        shown["services"] = services.map(service).collect();
        shown["endpoints"] = json!(total);
    }
}

/// What `POST lane` takes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Change {
    /// `<group>/<lane>`.
    lane: LaneRef,
    /// activate, drain, close, promote, rollback or set.
    verb: String,
    /// For the history.
    #[serde(default)]
    reason: String,
    /// For `set`: fields of the specification.
    #[serde(default)]
    fields: Map<String, Value>,
}

/// Changes a lane; answered when the change is in force here, and proxies are being told.
pub(super) async fn change(console: &Console, text: &str) -> Answer {
    let order = match read(text) {
        Ok(read) => read,
        Err(reason) => return refused(StatusCode::BAD_REQUEST, &reason),
    };
    let (lane, order) = order;
    let (answer, answered) = oneshot::channel();
    match ask(console, Request::Lane { lane: lane.clone(), order, answer }, answered).await {
        Err(answer) => answer,
        Ok(Ok(())) => super::json(StatusCode::OK, &in_force(console, &lane)),
        Ok(Err(LaneError::Apply(error))) => not_applied(error),
        Ok(Err(LaneError::Order(error))) => {
            let status = match error {
                OrderError::Unknown(_) => StatusCode::NOT_FOUND,
                OrderError::Refused(_) => StatusCode::CONFLICT,
                OrderError::Edit(_) => StatusCode::BAD_REQUEST,
            };
            refused(status, &error.to_string())
        }
    }
}

fn in_force(console: &Console, lane: &LaneRef) -> Value {
    let groups = groups(console);
    let group = groups.iter().find(|group| group["name"] == lane.group.as_str());
    let lanes = group.and_then(|group| group["lanes"].as_array());
    let shown = lanes.into_iter().flatten().find(|shown| shown["name"] == lane.lane.as_str());
    json!({ "group": lane.group, "revision": group.map(|group| &group["revision"]), "lane": shown })
}

fn read(text: &str) -> Result<(LaneRef, Order), String> {
    let change: Change = serde_json::from_str(text)
        .map_err(|error| format!("expected JSON with lane, verb and, if wanted, reason, fields: {error}"))?;
    let reason: String = change.reason.chars().take(REASON_MAX).collect();
    let reason = if reason.is_empty() { change.verb.clone() } else { reason };
    let mut fields = change.fields;
    if change.verb != "set" {
        if !fields.is_empty() {
            return Err(format!("fields go with the verb set, not with {}", change.verb));
        }
        let verb = change.verb.parse().map_err(|error| format!("verb: {error}, set"))?;
        return Ok((change.lane, Order::Move { verb, reason }));
    }
    let state: Option<LaneState> = match fields.remove("state") {
        None => None,
        Some(state) => Some(serde_json::from_value(state).map_err(|error| format!("state: {error}"))?),
    };
    if state.is_none() && fields.is_empty() {
        return Err("nothing to set: fields is empty".to_owned());
    }
    Ok((change.lane, Order::Set { fields, state, reason }))
}
