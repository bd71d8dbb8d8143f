//! `mesh-ctl proxy`: which revision each proxy serves, and what one proxy decides by.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    args::admin_address,
    cluster::{self, Controller},
    exit::{Exit, Failure},
    output::{self, Format, Text, Tone, plain},
};

/// Less life than this makes a certificate worth a look: renewal happens long before.
pub(crate) const SHORT_LIFE: Duration = Duration::from_secs(600);

/// How a proxy stands against the controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Standing {
    /// Namespace of the workload.
    pub(crate) namespace: String,
    /// Pod.
    pub(crate) pod: String,
    /// Service account.
    service_account: String,
    /// sidecar or gateway.
    role: String,
    /// Version of the proxy.
    pub(crate) version: String,
    /// Revision that the controller publishes to it now.
    pub(crate) current: String,
    /// Revision that it serves.
    applied: String,
    /// Why it refused the last revision that it refused.
    pub(crate) refused: Option<String>,
    /// End of its certificate, Unix seconds.
    certificate_not_after: Option<u64>,
    /// When its snapshot was written to disk, Unix seconds.
    snapshot_written: Option<u64>,
    /// Whether it drains.
    draining: bool,
    /// Admin port.
    admin: Option<SocketAddr>,
}

impl Standing {
    /// As the console shows it.
    pub(crate) fn read(item: &Value) -> Standing {
        let text = |field: &str| item[field].as_str().unwrap_or_default().to_owned();
        Standing {
            namespace: text("namespace"),
            pod: text("pod"),
            service_account: text("serviceAccount"),
            role: text("role"),
            version: text("version"),
            current: text("currentRevision"),
            applied: text("appliedRevision"),
            refused: item["refusedReason"].as_str().filter(|reason| !reason.is_empty()).map(str::to_owned),
            certificate_not_after: item["certificateNotAfter"].as_u64(),
            snapshot_written: item["snapshotWritten"].as_u64(),
            draining: item["draining"].as_bool().unwrap_or_default(),
            admin: item["adminAddress"].as_str().and_then(|address| address.parse().ok()),
        }
    }

    /// Whether it serves what the controller publishes.
    pub(crate) fn is_current(&self) -> bool {
        !self.current.is_empty() && self.current == self.applied
    }

    /// How long its certificate is good from `now` (since 1970) on, zero = it has ended; `None` where it said nothing.
    pub(crate) fn certificate_life(&self, now: Duration) -> Option<Duration> {
        self.certificate_not_after.map(|end| Duration::from_secs(end).saturating_sub(now))
    }

    fn is_named(&self, name: &str) -> bool {
        match name.split_once('/') {
            Some((namespace, pod)) => self.namespace == namespace && self.pod == pod,
            None => self.pod == name,
        }
    }

    fn state(&self) -> Text {
        match (self.is_current(), &self.refused) {
            (true, _) if self.draining => ("draining".to_owned(), Tone::Odd),
            (true, _) => ("current".to_owned(), Tone::Good),
            (false, Some(reason)) => (format!("refused: {reason}"), Tone::Bad),
            (false, None) => ("behind".to_owned(), Tone::Bad),
        }
    }
}

/// How every connected proxy stands, by namespace and pod.
///
/// # Errors
/// When the controller cannot be reached.
pub(crate) async fn standings(controller: &Controller) -> Result<Vec<Standing>, Failure> {
    let mut standings: Vec<Standing> = controller.items("proxies").await?.iter().map(Standing::read).collect();
    standings.sort_by(|one, other| (&one.namespace, &one.pod).cmp(&(&other.namespace, &other.pod)));
    Ok(standings)
}

/// `proxy status`.
///
/// # Errors
/// When the controller cannot be reached or knows no such proxy.
pub(crate) async fn status(controller: &Controller, name: Option<&str>, format: Format) -> Result<Exit, Failure> {
    let mut standings = standings(controller).await?;
    if let Some(name) = name {
        standings.retain(|standing| standing.is_named(name));
        if standings.is_empty() {
            return Err(unknown(name));
        }
    }
    let text = match output::structured(&json!({ "items": standings }), format)? {
        Some(text) => text,
        None if standings.is_empty() => "no proxy is connected\n".to_owned(),
        None => shown(&standings, SystemTime::now()),
    };
    output::print(&text);
    let well = standings.iter().all(Standing::is_current);
    Ok(if well { Exit::Well } else { Exit::NotWell })
}

fn shown(standings: &[Standing], now: SystemTime) -> String {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let short = |revision: &str| plain(revision.chars().take(12).collect::<String>());
    let rows = standings.iter().map(|standing| {
        let certificate = match standing.certificate_not_after {
            None => plain("unknown"),
            Some(end) if end <= now => ("expired".to_owned(), Tone::Bad),
            Some(end) if end - now < SHORT_LIFE.as_secs() => (span(end - now), Tone::Odd),
            Some(end) => plain(span(end - now)),
        };
        let snapshot = standing.snapshot_written.map_or("none".to_owned(), |at| span(now.saturating_sub(at)));
        vec![
            plain(&standing.namespace),
            plain(&standing.pod),
            plain(&standing.role),
            standing.state(),
            short(&standing.applied),
            short(&standing.current),
            certificate,
            plain(snapshot),
            plain(&standing.version),
        ]
    });
    let headings = ["NAMESPACE", "POD", "ROLE", "STATE", "APPLIED", "CURRENT", "CERTIFICATE", "SNAPSHOT", "VERSION"];
    output::lines(&output::table(&headings, rows))
}

/// Seconds in their two largest units.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

fn unknown(name: &str) -> Failure {
    Failure::plain(format!("no proxy called {name} is connected")).advise("`mesh-ctl get proxies` lists those that are")
}

/// What to do when an admin port cannot be read.
pub(crate) const ADVICE: &str = "the admin port answers clients on the proxy's own loopback; run mesh-ctl where the proxy \
    runs, for example with `kubectl exec` or `ip netns exec`";

/// The admin port of a proxy: pod, namespace/pod, or the address itself.
///
/// # Errors
/// When the controller cannot be reached, or knows no such proxy or not where its admin port is.
pub(crate) async fn admin_port(controller: &Controller, proxy: &str) -> Result<SocketAddr, Failure> {
    if let Some(address) = admin_address(proxy) {
        return Ok(address);
    }
    let standings = standings(controller).await?;
    let named = standings.iter().find(|standing| standing.is_named(proxy)).ok_or_else(|| unknown(proxy))?;
    named.admin.ok_or_else(|| Failure::plain(format!("{proxy} did not say where its admin port is")))
}

/// `proxy dump`.
///
/// # Errors
/// When there is no such proxy or its admin port cannot be reached.
pub(crate) async fn dump(controller: &Controller, proxy: &str, format: Format) -> Result<Exit, Failure> {
    let address = admin_port(controller, proxy).await?;
    let answer = cluster::admin(address, "/config_dump").await.map_err(|error| {
        Failure::unreachable(format!("cannot reach the admin port {address}"), error).advise(ADVICE)
    })?;
    if answer.status != StatusCode::OK {
        return Err(Failure::plain(format!("the admin port {address} answered {}", answer.status)).advise(ADVICE));
    }
    let dump: Value = serde_json::from_slice(&answer.body)
        .map_err(|error| Failure::not_well(format!("the answer of {address} is not JSON"), error))?;
    let text = match output::structured(&dump, format)? {
        Some(text) => text,
        None => parts(&dump),
    };
    output::print(&text);
    Ok(Exit::Well)
}

fn parts(dump: &Value) -> String {
    let size = |value: &Value| match value {
        Value::Array(items) => items.len().to_string(),
        Value::Object(fields) => fields.len().to_string(),
        Value::Null => "-".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    };
    let mut rows = Vec::new();
    for (name, value) in dump.as_object().into_iter().flatten() {
        match value {
            Value::Object(fields) => rows
                .extend(fields.iter().map(|(field, value)| vec![plain(format!("{name}.{field}")), plain(size(value))])),
            other => rows.push(vec![plain(name), plain(size(other))]),
        }
    }
    output::lines(&output::table(&["PART", "SIZE"], rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(applied: &str, refused: Option<&str>) -> Standing {
        Standing::read(&json!({
            "namespace": "demo", "pod": "b", "role": "sidecar", "version": "0.1.0", "serviceAccount": "b",
            "currentRevision": "r2", "appliedRevision": applied, "refusedReason": refused,
            "certificateNotAfter": 1_000_100, "snapshotWritten": 999_000, "adminAddress": "127.0.0.1:4191",
        }))
    }

    #[test]
    fn proxy_that_serves_another_revision_is_behind() {
        assert!(standing("r2", None).is_current());
        assert_eq!(standing("r1", None).state(), ("behind".to_owned(), Tone::Bad));
        assert_eq!(standing("r1", Some("no lane x")).state(), ("refused: no lane x".to_owned(), Tone::Bad));
    }

    #[test]
    fn table_shows_life_of_certificate_and_age_of_snapshot() {
        let text = shown(&[standing("r2", None)], UNIX_EPOCH + Duration::from_secs(1_000_000));
        let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row, ["demo", "b", "sidecar", "current", "r2", "r2", "1m40s", "16m40s", "0.1.0"]);
    }

    #[test]
    fn proxies_are_named_with_or_without_namespace() {
        let standing = standing("r2", None);
        assert!(standing.is_named("b") && standing.is_named("demo/b"));
        assert!(!standing.is_named("other/b") && !standing.is_named("demo"));
    }
}
