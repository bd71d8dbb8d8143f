//! Questions that proxies ask: targets of `OutboundPolicies`, ports of `InboundServerPolicies`, and who asks.

use linkerd2_proxy_api::{
    inbound::PortSpec,
    outbound::{TrafficSpec, traffic_spec},
};
use mesh_core::model::route::Target;
use serde::{Deserialize, Serialize};

use super::{Invalid, endpoint::address, required};

/// Longest authority that is read, bytes: a host name and a port.
pub const AUTHORITY_MAX: usize = 253 + 6;
/// Longest description of a workload that is read, bytes.
pub const WORKLOAD_MAX: usize = 2_048;

/// Who asks: the JSON text that Linkerd's API carries as `workload`, `source_workload` and `context_token`. Further
/// members of the JSON object (such as Linkerd's `nodeName`) are passed over.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Workload {
    /// Namespace.
    #[serde(rename = "ns")]
    pub namespace: String,
    /// Pod; empty where it does not matter.
    #[serde(default)]
    pub pod: String,
    /// Who chooses among the levels of a lane.
    #[serde(default, rename = "lanes")]
    pub lanes: LaneChoice,
}

/// Who chooses among the levels of a lane: the asker, or whoever answers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LaneChoice {
    /// The asker knows nothing of lanes: it gets routes that match headers, each to one level.
    #[default]
    Routes,
    /// The asker chooses itself, among all instances.
    Own,
}

impl Workload {
    /// The text for the wire.
    pub fn to_wire(&self) -> String {
        serde_json::to_string(self).expect("two strings are always JSON")
    }

    /// Reads the text: JSON, or Linkerd's older form `<namespace>:<pod>`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn from_wire(text: &str) -> Result<Self, Invalid> {
        let form = |reason: String| Invalid::Value { field: "workload", reason };
        if text.len() > WORKLOAD_MAX {
            return Err(form(format!("{} bytes; at most {WORKLOAD_MAX} are allowed", text.len())));
        }
        match text.split_once(':') {
            Some((namespace, pod)) if !text.starts_with('{') => {
                Ok(Workload { namespace: namespace.to_owned(), pod: pod.to_owned(), lanes: LaneChoice::Routes })
            }
            Some(_) | None => serde_json::from_str(text)
                .map_err(|error| form(format!("expected {{\"ns\": …, \"pod\": …}} or <namespace>:<pod>: {error}"))),
        }
    }
}

/// The question for a target's policy.
pub fn traffic_spec(source: &Workload, target: &Target) -> TrafficSpec {
    let wire = match target {
        Target::Authority(host, port) => traffic_spec::Target::Authority(format!("{host}:{port}")),
        Target::Address(address) => traffic_spec::Target::Addr((*address).into()),
    };
    TrafficSpec { source_workload: source.to_wire(), target: Some(wire) }
}

/// Reads a question for a target's policy. An authority without port means port 80.
///
/// # Errors
/// Names the field.
pub fn read_traffic_spec(spec: TrafficSpec) -> Result<(Workload, Target), Invalid> {
    let source = Workload::from_wire(&spec.source_workload)?;
    let target = match required("traffic_spec.target", spec.target)? {
        traffic_spec::Target::Addr(wire) => Target::Address(address("traffic_spec.target.addr", wire)?),
        traffic_spec::Target::Authority(text) => authority("traffic_spec.target.authority", &text)?,
    };
    Ok((source, target))
}

/// Reads `host[:port]`; an IP address as host becomes [`Target::Address`].
///
/// # Errors
/// Names `field`.
pub fn authority(field: &'static str, text: &str) -> Result<Target, Invalid> {
    if text.is_empty() || text.len() > AUTHORITY_MAX {
        return Err(Invalid::value(field, format!("{} bytes; allowed are 1 to {AUTHORITY_MAX}", text.len())));
    }
    if let Ok(address) = text.parse() {
        return Ok(Target::Address(address));
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse() {
        return Ok(Target::Address(std::net::SocketAddr::new(ip, DEFAULT_PORT)));
    }
    let (host, port) = match text.rsplit_once(':') {
        None => (text, DEFAULT_PORT),
        Some((host, port)) => {
            let port = port.parse().ok().filter(|port| *port != 0);
            (host, port.ok_or_else(|| Invalid::value(field, format!("{text:?} has no valid port")))?)
        }
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() || !host.bytes().all(allowed) {
        return Err(Invalid::value(field, format!("{text:?} is no host name")));
    }
    Ok(Target::Authority(host.to_ascii_lowercase().into(), port))
}

/// Port of an authority that names none.
const DEFAULT_PORT: u16 = 80;

/// The question for an inbound port's policy.
pub fn port_spec(workload: &Workload, port: u16) -> PortSpec {
    PortSpec { workload: workload.to_wire(), port: u32::from(port) }
}

/// Reads a question for an inbound port's policy.
///
/// # Errors
/// Names the field.
pub fn read_port_spec(spec: &PortSpec) -> Result<(Workload, u16), Invalid> {
    let port = u16::try_from(spec.port).ok().filter(|port| *port != 0);
    let port = port.ok_or_else(|| Invalid::value("port_spec.port", format!("{} is no port", spec.port)))?;
    Ok((Workload::from_wire(&spec.workload)?, port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target() -> impl Strategy<Value = Target> {
        let address = (any::<std::net::IpAddr>(), any::<u16>());
        prop_oneof![
            ("[a-z][a-z0-9-]{0,20}(\\.[a-z][a-z0-9-]{0,20}){0,3}", 1..=u16::MAX)
                .prop_map(|(host, port)| Target::Authority(host.into(), port)),
            address.prop_map(|(ip, port)| Target::Address(std::net::SocketAddr::new(ip, port))),
        ]
    }

    proptest! {
        #[test]
        fn a_target_reads_back_as_it_was(target in target(), namespace: String, pod: String) {
            let source = Workload { namespace, pod, lanes: LaneChoice::Own };
            prop_assume!(source.to_wire().len() <= WORKLOAD_MAX);
            prop_assert_eq!(read_traffic_spec(traffic_spec(&source, &target)), Ok((source, target)));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = authority("field", &text);
            let _ = Workload::from_wire(&text);
        }
    }

    #[test]
    fn authorities_are_read_as_callers_write_them() {
        let named = |host: &str, port| Ok(Target::Authority(host.into(), port));
        assert_eq!(authority("f", "b"), named("b", 80));
        assert_eq!(authority("f", "B.Demo:8080"), named("b.demo", 8_080));
        assert_eq!(authority("f", "b.demo.:1"), named("b.demo", 1));
        assert_eq!(authority("f", "127.0.0.1:81"), Ok(Target::Address(([127, 0, 0, 1], 81).into())));
        assert_eq!(authority("f", "[::1]"), Ok(Target::Address("[::1]:80".parse().unwrap())));
        for wrong in ["", ":80", "b:", "b:0", "b:65536", "b:80:90", "a b:1", "x@y:1", "http://b"] {
            assert!(authority("f", wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_workload_is_read_in_both_forms() {
        let (namespace, pod) = ("demo".to_owned(), "b-1".to_owned());
        let expected = Ok(Workload { namespace, pod, lanes: LaneChoice::Routes });
        assert_eq!(Workload::from_wire("{\"ns\":\"demo\",\"pod\":\"b-1\",\"nodeName\":\"n\"}"), expected);
        assert_eq!(Workload::from_wire("demo:b-1"), expected);
        assert!(Workload::from_wire("demo").is_err());
    }
}
