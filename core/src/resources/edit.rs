//! Changes the text of a `Lane` resource: its stage with history, when it was made, and the fields that can be set
//! alone. What the text says otherwise stays; comments and layout do not.

use serde_json::{Map, Value as Json};
use serde_yaml_ng::{Mapping, Value};
use thiserror::Error;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{lane::transition::Moved, resources::lane::Past};

/// Fields of the specification that can be set alone. The stage can, too, and leaves its history.
pub const SETTABLE: &[&str] = &["percentage", "ramp", "match", "priority", "ttl", "guard"];

/// What becomes of a lane's text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LaneEdit {
    /// Unix milliseconds for `metadata.creationTimestamp`, where the text has none.
    pub created: Option<u64>,
    /// New stage.
    pub moved: Option<Moved>,
    /// Fields of [`SETTABLE`] with their new value; null takes the field away. Members of `percentage` that are not
    /// given stay; a new percentage ends a ramp, and a ramp without start begins at `now`.
    pub fields: Map<String, Json>,
    /// Unix milliseconds.
    pub now: u64,
}

/// Why a text cannot be changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EditError {
    /// The text is no resource.
    #[error("the text is no resource with metadata and spec")]
    NoResource,
    /// Not in [`SETTABLE`].
    #[error("{field:?} cannot be set alone; there are state, {}", SETTABLE.join(", "))]
    NotSettable {
        /// The field.
        field: String,
    },
}

/// The text with the changes.
///
/// # Errors
/// When the text is no resource, or a field cannot be set.
pub fn lane(text: &str, edit: &LaneEdit) -> Result<String, EditError> {
    let mut document: Value = serde_yaml_ng::from_str(text).map_err(|_| EditError::NoResource)?;
    let metadata = section(&mut document, "metadata")?;
    if let Some(created) = edit.created.filter(|_| !metadata.contains_key(CREATED)) {
        metadata.insert(CREATED.into(), moment(created).into());
    }
    let spec = section(&mut document, "spec")?;
    set(spec, edit)?;
    if let Some(moved) = &edit.moved {
        spec.insert("state".into(), moved.state.label().into());
        spec.insert("stateSince".into(), moment(moved.since).into());
        spec.insert("history".into(), moved.history.iter().map(past).collect());
    }
    serde_yaml_ng::to_string(&document).map_err(|_| EditError::NoResource)
}

/// Field of `metadata` that says when a resource was made.
pub const CREATED: &str = "creationTimestamp";

fn section<'d>(document: &'d mut Value, name: &str) -> Result<&'d mut Mapping, EditError> {
    document.get_mut(name).and_then(Value::as_mapping_mut).ok_or(EditError::NoResource)
}

fn past(past: &Past) -> Value {
    let mut written = Mapping::new();
    written.insert("state".into(), past.state.label().into());
    written.insert("until".into(), moment(past.until).into());
    if !past.reason.is_empty() {
        written.insert("reason".into(), past.reason.as_str().into());
    }
    Value::Mapping(written)
}

fn set(spec: &mut Mapping, edit: &LaneEdit) -> Result<(), EditError> {
    if let Some(field) = edit.fields.keys().find(|field| !SETTABLE.contains(&field.as_str())) {
        return Err(EditError::NotSettable { field: field.chars().take(80).collect() });
    }
    if edit.fields.contains_key("percentage") {
        spec.remove("ramp");
    }
    for (field, value) in &edit.fields {
        let value = match (field.as_str(), value) {
            (_, Json::Null) => {
                spec.remove(field.as_str());
                continue;
            }
            ("percentage", Json::Object(given)) => {
                let mut all = spec.get("percentage").and_then(Value::as_mapping).cloned().unwrap_or_default();
                all.extend(given.iter().map(|(key, value)| (key.as_str().into(), yaml(value))));
                Value::Mapping(all)
            }
            ("ramp", Json::Object(given)) => {
                let mut ramp: Mapping =
                    given.iter().map(|(key, value)| (Value::from(key.as_str()), yaml(value))).collect();
                if !ramp.contains_key("startTime") {
                    ramp.insert("startTime".into(), moment(edit.now).into());
                }
                Value::Mapping(ramp)
            }
            (_, other) => yaml(other),
        };
        spec.insert(field.as_str().into(), value);
    }
    Ok(())
}

fn yaml(value: &Json) -> Value {
    serde_yaml_ng::to_value(value).unwrap_or(Value::Null)
}

/// A moment (Unix milliseconds) as RFC 3339 writes it.
pub fn moment(milliseconds: u64) -> String {
    let nanoseconds = i128::from(milliseconds) * 1_000_000;
    let moment = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    moment.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        lane::transition::{Verb, transition},
        model::lane::LaneState,
        resources::{Spec, lane::Lane, parse},
    };

    const TEXT: &str = "\
# the canary of the shop
apiVersion: lanemesh.io/v1alpha1
kind: Lane
metadata: {name: canary, labels: {team: a}}
spec:
  group: shop
  percentage: {value: 10, key: ['header:x-user']}
  onMissing: reject
";

    fn read(text: &str) -> Lane {
        match parse("lane.yaml", text).unwrap_or_else(|problems| panic!("{problems:?}\n{text}")).remove(0).spec {
            Spec::Lane(lane) => *lane,
            other => panic!("{other:?}"),
        }
    }

    fn edited(fields: Json) -> Result<String, EditError> {
        let Json::Object(fields) = fields else { panic!("{fields}") };
        lane(TEXT, &LaneEdit { fields, now: 1_764_072_000_000, ..LaneEdit::default() })
    }

    #[test]
    fn change_of_stage_reads_back_with_its_history() {
        let before = read(TEXT);
        let moved = transition(&before, Verb::Drain, "too many errors: 5 %", 1_764_072_000_123).unwrap();
        let edit =
            LaneEdit { created: Some(1_764_000_000_000), moved: Some(moved.clone()), now: 0, ..LaneEdit::default() };
        let text = lane(TEXT, &edit).unwrap();
        let after = read(&text);
        assert_eq!((after.state, after.state_since), (LaneState::Draining, Some(1_764_072_000_123)));
        assert_eq!((after.history, after.created), (moved.history, Some(1_764_000_000_000)));
        assert_eq!((after.share, after.rules), (before.share, before.rules));
        assert!(text.contains("team: a"), "{text}");
        let again = LaneEdit { created: Some(1), ..LaneEdit::default() };
        assert_eq!(read(&lane(&text, &again).unwrap()).created, Some(1_764_000_000_000), "made once");
    }

    #[test]
    fn percentage_keeps_its_keys_and_ends_a_ramp() {
        let ramp = json!({"ramp": {"from": 1, "to": 50, "over": "1h"}});
        let ramped = read(&edited(ramp.clone()).unwrap()).share.unwrap();
        assert_eq!(ramped.ramp.unwrap().start, 1_764_072_000_000, "begins now");
        let Json::Object(fields) = ramp else { panic!() };
        let text = lane(TEXT, &LaneEdit { fields, ..LaneEdit::default() }).unwrap();
        let Json::Object(fields) = json!({"percentage": {"value": 25}}) else { panic!() };
        let share = read(&lane(&text, &LaneEdit { fields, ..LaneEdit::default() }).unwrap()).share.unwrap();
        assert_eq!((share.value, share.keys.len(), share.ramp), (2_500, 1, None));
    }

    #[test]
    fn fields_are_set_replaced_and_taken_away() {
        let rule = json!({"any": [{"on": "header", "name": "x-beta", "operator": "present"}]});
        let set = read(&edited(json!({"ttl": "8h", "priority": 7, "percentage": null, "match": rule})).unwrap());
        assert_eq!((set.priority, set.share), (7, None));
        assert!(set.ttl.is_some() && set.rule.is_some());
        assert_eq!(edited(json!({"selector": {}})), Err(EditError::NotSettable { field: "selector".to_owned() }));
    }
}
