//! Kind `Zone`: whether a failure domain takes traffic. Written by `mesh-ctl zone drain|restore`, or by hand.

use serde::Serialize;

use super::{Metadata, edit::moment, node::Node, traffic_policy::zone_name};

/// What is said of a zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Zone {
    /// The zone, as instances name it; the resource's name unless written.
    pub zone: String,
    /// Whether it takes traffic.
    pub state: ZoneState,
    /// Unix milliseconds since when.
    pub since: Option<u64>,
    /// Why, for people.
    pub reason: String,
}

/// Whether a zone takes traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ZoneState {
    /// It does.
    #[default]
    Serving,
    /// Its instances are left where others can take over.
    Drained,
}

impl ZoneState {
    /// The word for it, as in resources.
    pub fn label(self) -> &'static str {
        match self {
            ZoneState::Serving => "serving",
            ZoneState::Drained => "drained",
        }
    }
}

/// Words for [`ZoneState`].
const STATES: &[(&str, ZoneState)] = &[("serving", ZoneState::Serving), ("drained", ZoneState::Drained)];
/// Longest reason, bytes.
const REASON_MAX: usize = 1_200;

/// Reads the specification of the resource called `name`.
pub(super) fn read(spec: &Node<'_>, name: &str) -> Option<Zone> {
    let spec = spec.object(&["zone", "state", "since", "reason"])?;
    let zone = match spec.get("zone") {
        Some(node) => zone_name(node)?,
        None => name.to_owned(),
    };
    let reason = spec.get("reason").and_then(|node| node.text()).unwrap_or_default();
    if reason.len() > REASON_MAX {
        spec.problem("reason", format!("{} bytes; at most {REASON_MAX} are allowed", reason.len()));
    }
    Some(Zone {
        zone,
        state: spec.required("state").and_then(|node| node.choice(STATES)).unwrap_or_default(),
        since: spec.get("since").and_then(|node| node.timestamp()),
        reason,
    })
}

impl Zone {
    /// The resource as a document, under a name made of the zone's.
    pub fn to_text(&self) -> String {
        self.text(serde_json::json!({ "name": resource_name(&self.zone) }))
    }

    /// The resource as a document, under this name.
    pub fn to_text_as(&self, metadata: &Metadata) -> String {
        self.text(serde_json::json!({ "name": metadata.name, "namespace": metadata.namespace }))
    }

    fn text(&self, metadata: serde_json::Value) -> String {
        let mut spec = serde_json::json!({ "zone": self.zone, "state": self.state });
        if let Some(since) = self.since {
            spec["since"] = moment(since).into();
        }
        if !self.reason.is_empty() {
            spec["reason"] = self.reason.as_str().into();
        }
        let document = serde_json::json!({
            "apiVersion": crate::names::API_VERSION,
            "kind": "Zone",
            "metadata": metadata,
            "spec": spec,
        });
        serde_yaml_ng::to_string(&document).expect("a document of texts is YAML")
    }
}

/// Name of the resource of a zone: that of the zone, where it is one that a resource may have.
fn resource_name(zone: &str) -> String {
    let is_fit = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    let label: String = zone.chars().map(|character| if is_fit(character) { character } else { '-' }).collect();
    let label = label.trim_matches('-');
    if label == zone && label.len() <= NAME_MAX {
        return label.to_owned();
    }
    // FNV-1a, so that zones whose names differ in other characters alone have resources of their own.
    let hash = zone
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let short = label.get(..label.len().min(NAME_MAX)).unwrap_or_default().trim_end_matches('-');
    format!("{}-{hash:016x}", if short.is_empty() { "zone" } else { short })
}

/// Longest part of a zone's name in that of its resource, bytes: a DNS label with the hash behind it.
const NAME_MAX: usize = 46;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::{Spec, parse};

    fn read(text: &str) -> Zone {
        let resources = parse("zone.yaml", text).unwrap_or_else(|problems| panic!("{problems:?}"));
        let Some(Spec::Zone(zone)) = resources.into_iter().next().map(|resource| resource.spec) else {
            panic!("no zone in {text}");
        };
        zone
    }

    #[test]
    fn what_is_written_reads_back_as_it_was() {
        for name in ["a", "eu-1a", "EU_1/rack:7", "-", "Zürich", &"long".repeat(30)] {
            for state in [ZoneState::Serving, ZoneState::Drained] {
                let zone =
                    Zone { zone: name.to_owned(), state, since: Some(1_764_028_800_000), reason: "a: b\nc".to_owned() };
                assert_eq!(read(&zone.to_text()), zone);
            }
        }
        assert_ne!(resource_name("a/b"), resource_name("a:b"));
        assert_eq!(resource_name("eu-1a"), "eu-1a");
    }

    #[test]
    fn a_zone_has_the_name_of_its_resource_unless_written() {
        let text = "apiVersion: lanemesh.io/v1alpha1\nkind: Zone\nmetadata: {name: eu-1a}\nspec: {state: drained}\n";
        let expected = Zone { zone: "eu-1a".to_owned(), state: ZoneState::Drained, since: None, reason: String::new() };
        assert_eq!(read(text), expected);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let text =
            "apiVersion: lanemesh.io/v1alpha1\nkind: Zone\nmetadata: {name: a}\nspec: {zone: \"a b\", states: x}\n";
        let problems: Vec<String> = parse("", text).unwrap_err().iter().map(ToString::to_string).collect();
        let all = problems.join("\n");
        for part in ["spec.states", "spec.state: missing", "is no name of a zone"] {
            assert!(all.contains(part), "{part} in {all}");
        }
    }
}
