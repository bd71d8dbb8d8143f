//! Requests through the mesh and what the applications say about them.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Request, StatusCode, header::HOST};
use http_body_util::Full;
use serde_json::Value;

use super::topology::{LANE, NAMESPACE, PORT};
use crate::cluster::{self, Answer};

/// Longest wait for one answer.
pub(crate) const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// Largest answer, bytes.
const ANSWER_MAX: usize = 1 << 20;

/// Which instances a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// No label.
    Plain,
    /// The demo's lane.
    Lane,
}

/// What one application said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Visit {
    /// Service.
    pub(crate) service: String,
    /// `baseline` or the lane of the instance.
    pub(crate) version: String,
    /// Lane header that reached it.
    pub(crate) lane: Option<String>,
    /// Identity of the caller, as its sidecar proved it.
    pub(crate) peer: Option<String>,
}

/// Sends one request for service a through the gateway and gives what each application of the chain said.
///
/// # Errors
/// When the answer is not 200 with the whole chain in it.
pub(crate) async fn walk(entry: SocketAddr, wish: Wish) -> anyhow::Result<Vec<Visit>> {
    let answer = get(entry, "a", "/", wish).await?;
    let said = String::from_utf8_lossy(&answer.body[..answer.body.len().min(300)]).trim().to_owned();
    ensure!(answer.status == StatusCode::OK, "{}: {said}", answer.status);
    let whole: Value = serde_json::from_slice(&answer.body).with_context(|| format!("no JSON: {said}"))?;
    Ok(visits(&whole))
}

/// Sends one GET to a service, over a connection of its own to `address`.
///
/// # Errors
/// When there is no whole answer in time.
pub(crate) async fn get(address: SocketAddr, service: &str, path: &str, wish: Wish) -> anyhow::Result<Answer> {
    let mut request = Request::get(path).header(HOST, authority(service));
    if wish == Wish::Lane {
        request = request.header("x-mesh-lane", LANE);
    }
    let request = request.body(Full::new(Bytes::new()))?;
    let host = address.ip().to_string();
    let sent = cluster::send(&host, address.port(), request, ANSWER_MAX);
    tokio::time::timeout(ANSWER_WAIT, sent)
        .await
        .with_context(|| format!("no whole answer within {} s", ANSWER_WAIT.as_secs()))?
}

/// How callers outside the namespace name a service.
pub(crate) fn authority(service: &str) -> String {
    format!("{service}.{NAMESPACE}:{PORT}")
}

fn visits(whole: &Value) -> Vec<Visit> {
    let text = |value: &Value, field: &str| value[field].as_str().map(str::to_owned);
    let mut visits = Vec::new();
    let mut at = whole;
    while at.is_object() {
        visits.push(Visit {
            service: text(at, "service").unwrap_or_default(),
            version: text(at, "version").unwrap_or_default(),
            lane: text(at, "lane"),
            peer: text(at, "peer"),
        });
        at = &at["next"];
    }
    visits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_answers_are_read_in_the_order_of_the_chain() {
        let whole = serde_json::json!({
            "service": "a", "version": "baseline", "lane": "canary", "peer": null,
            "next": {"service": "b", "version": "canary", "lane": null, "peer": "a.demo", "next": null},
        });
        let said: Vec<_> = visits(&whole).into_iter().map(|visit| (visit.service, visit.version, visit.peer)).collect();
        assert_eq!(
            said,
            [
                ("a".to_owned(), "baseline".to_owned(), None),
                ("b".to_owned(), "canary".to_owned(), Some("a.demo".to_owned())),
            ]
        );
    }
}
