//! The policy in force for a service, field by field: what somebody wrote, and the defaults of the rest.

use serde::Serialize;
use serde_yaml_ng::Value;

use super::{Absent, FIELDS, Field};

/// A field of the policy in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    /// Path below `spec`.
    pub path: String,
    /// What holds.
    pub value: String,
    /// Where that comes from.
    pub origin: Origin,
}

/// Where the value of a field comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// The policy says it.
    Written,
    /// Nobody said anything.
    Default,
}

/// Parts that do nothing unless they are written.
const OPTIONAL: [&str; 5] =
    ["healthCheck.http", "healthCheck.tcp", "healthCheck.grpc", "healthCheck", "outlierDetection.successRate"];

/// Every field that counts, in the order of the reference page. `document` is the resource as written, if
/// there is one.
pub fn explain(document: Option<&str>) -> Vec<Shown> {
    let document: Value = document.and_then(|text| serde_yaml_ng::from_str(text).ok()).unwrap_or_default();
    let spec = &document["spec"];
    let mut rows: Vec<Shown> = Vec::new();
    let is_shown = |field: &&Field| field.path != "service";
    for field in FIELDS.iter().copied().flatten().filter(is_shown) {
        if let Some(row) = row(spec, field)
            && rows.iter().all(|other| other.path != row.path)
        {
            rows.push(row);
        }
    }
    rows
}

fn row(spec: &Value, field: &Field) -> Option<Shown> {
    // What stands in a list is shown with the list.
    if field.path.contains("[]") {
        return None;
    }
    let shown = |path: &str, value: String, origin| Some(Shown { path: path.to_owned(), value, origin });
    let mut value = spec;
    for (at, key) in field.path.split('.').enumerate() {
        let path = field.path.split('.').take(at).collect::<Vec<_>>().join(".");
        // A part that is one word, as `warmUp: off`.
        if at > 0 && !matches!(value, Value::Mapping(_) | Value::Null) {
            return shown(&path, flow(value), Origin::Written);
        }
        if value.is_null() && OPTIONAL.contains(&path.as_str()) {
            let is_alternative = path.starts_with("healthCheck.");
            return if is_alternative { None } else { shown(&path, "none".to_owned(), Origin::Default) };
        }
        value = value.get(key).unwrap_or(&Value::Null);
    }
    match (value, field.absent) {
        (Value::Null, Absent::Required) => None,
        (Value::Null, Absent::Default(default)) => shown(field.path, default.to_owned(), Origin::Default),
        (Value::Null, Absent::Means(meaning)) => match field.path {
            "loadBalancing.algorithm" => shown(field.path, "peakEwma".to_owned(), Origin::Default),
            "loadBalancing.hashOn" => None,
            path => shown(path, meaning.to_owned(), Origin::Default),
        },
        (written, _) => shown(field.path, flow(written), Origin::Written),
    }
}

/// On one line.
fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'r>(rows: &'r [Shown], path: &str) -> Option<(&'r str, Origin)> {
        rows.iter().find(|row| row.path == path).map(|row| (row.value.as_str(), row.origin))
    }

    #[test]
    fn a_service_without_policy_has_every_default_and_parts_that_do_nothing_are_one_row() {
        let rows = explain(None);
        assert_eq!(value(&rows, "timeouts.connect"), Some(("1s", Origin::Default)));
        assert_eq!(value(&rows, "loadBalancing.algorithm"), Some(("peakEwma", Origin::Default)));
        assert_eq!(value(&rows, "warmUp.duration"), Some(("120s", Origin::Default)));
        assert_eq!(value(&rows, "healthCheck"), Some(("none", Origin::Default)));
        assert_eq!(value(&rows, "outlierDetection.successRate"), Some(("none", Origin::Default)));
        assert_eq!(value(&rows, "panicThreshold"), Some(("50", Origin::Default)));
        assert_eq!(value(&rows, "rateLimits"), Some(("none", Origin::Default)));
        assert!(rows.iter().all(|row| !row.path.starts_with("healthCheck.") && !row.path.contains("[]")));
    }

    #[test]
    fn what_is_written_is_marked_and_the_rest_of_its_part_has_defaults() {
        let text = "spec:\n  service: a\n  warmUp: off\n  healthCheck: {grpc: {}, interval: 5s}\n  \
                    loadBalancing: {algorithm: maglev, hashOn: [sourceIP]}\n";
        let rows = explain(Some(text));
        assert_eq!(value(&rows, "warmUp"), Some(("off", Origin::Written)));
        assert_eq!(value(&rows, "warmUp.duration"), None);
        assert_eq!(value(&rows, "healthCheck.interval"), Some(("5s", Origin::Written)));
        assert_eq!(value(&rows, "healthCheck.timeout"), Some(("1s", Origin::Default)));
        assert_eq!(value(&rows, "healthCheck.grpc.service"), Some(("the server as a whole", Origin::Default)));
        assert_eq!(value(&rows, "healthCheck.http.path"), None);
        assert_eq!(value(&rows, "loadBalancing.hashOn"), Some(("[\"sourceIP\"]", Origin::Written)));
        assert_eq!(value(&rows, "retries.attempts"), Some(("3", Origin::Default)));
    }
}
