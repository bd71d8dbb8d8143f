//! Reads the settings from an environment. Every bad setting is reported in one go, with its value and what is allowed.

mod bounds;
mod down;
mod gateway;

use std::{
    collections::BTreeMap,
    fmt, fs,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use mesh_core::{identity::Identity, names};
use thiserror::Error;
use tracing_subscriber::EnvFilter;

use super::{
    ControlAddress, ControlPeer, ControlPlane, ControlTransport, Role, Settings,
    variables::{self as v, Variable},
};
use crate::telemetry::worker::AccessLog;

/// Most data workers: beyond it the kernel's spreading over listeners is what limits.
const WORKERS_MAX: usize = 64;
/// Most addresses of one control service.
const ADDRESSES_MAX: usize = 16;
const ADDRESS: &str = "an IP address and a port, such as 127.0.0.1:4140 or [::1]:4140";
/// A known name is suggested for an unknown one when at most one letter in this many differs.
const SUGGEST_LETTERS: usize = 3;

/// Everything that is wrong with the settings.
#[derive(Debug, Error, PartialEq, Eq)]
pub struct InvalidSettings {
    /// One sentence per bad setting, in the order of the table.
    pub problems: Vec<String>,
}

impl fmt::Display for InvalidSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bad settings:", self.problems.len())?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

/// Settings out of the variables of an environment.
///
/// # Errors
/// All problems together.
pub fn settings(
    role: Role,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Settings, InvalidSettings> {
    let mut reader = Reader { environment: environment.into_iter().collect(), problems: Vec::new() };
    let settings = reader.settings(role);
    reader.refuse_unknown();
    match settings {
        Some(settings) if reader.problems.is_empty() => Ok(settings),
        Some(_) | None => Err(InvalidSettings { problems: reader.problems }),
    }
}

/// The admin address alone, for commands that speak to a running proxy.
///
/// # Errors
/// When it is set to something else than an address.
pub fn admin_listen(environment: impl IntoIterator<Item = (String, String)>) -> Result<SocketAddr, InvalidSettings> {
    let mut reader = Reader { environment: environment.into_iter().collect(), problems: Vec::new() };
    let address = reader.typed(v::ADMIN_LISTEN, ADDRESS);
    address.ok_or(InvalidSettings { problems: reader.problems })
}

struct Reader {
    environment: BTreeMap<String, String>,
    problems: Vec<String>,
}

impl Reader {
    /// The text of a variable, or its default; `None` where neither says anything.
    fn text(&self, variable: Variable) -> Option<String> {
        let set = self.environment.get(variable.name).map(|text| text.trim()).filter(|text| !text.is_empty());
        let text = set.unwrap_or(variable.default);
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// The parsed value; a text that `parse` refuses is noted as a problem with what is `allowed`.
    fn read<T>(&mut self, variable: Variable, allowed: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let text = self.text(variable)?;
        let value = parse(&text);
        if value.is_none() {
            self.problems.push(format!("{}={text:?}: expected {allowed}", variable.name));
        }
        value
    }

    fn typed<T: FromStr>(&mut self, variable: Variable, allowed: &str) -> Option<T> {
        self.read(variable, allowed, |text| text.parse().ok())
    }

    fn number(&mut self, variable: Variable, of: &str, range: RangeInclusive<usize>) -> Option<usize> {
        let allowed = format!("{of} from {} to {}", range.start(), range.end());
        self.read(variable, &allowed, |text| text.parse().ok().filter(|number| range.contains(number)))
    }

    fn path(&self, variable: Variable) -> Option<PathBuf> {
        self.text(variable).map(PathBuf::from)
    }

    fn settings(&mut self, role: Role) -> Option<Settings> {
        // Everything is read before anything is given up, so that all problems are reported.
        let identity = self.identity();
        let control_namespace = self.control_namespace();
        let control = self.control_plane();
        let outbound_listen = self.typed(v::OUTBOUND_LISTEN, ADDRESS);
        let inbound_listen = self.typed(v::INBOUND_LISTEN, ADDRESS);
        let admin_listen = self.typed(v::ADMIN_LISTEN, ADDRESS);
        let workers = self.read(v::WORKERS, "a count from 1 to 64", |text| {
            text.parse().ok().filter(|count| (1..=WORKERS_MAX).contains(count))
        });
        let application_address = self.typed(v::APPLICATION_ADDRESS, "an IP address without port");
        let header_limit = self.number(v::HEADER_LIMIT, "bytes", 1_024..=1_048_576);
        let lane_table = self.number(v::LANE_TABLE, "a count", 1_000..=10_000_000);
        let model_buffer = self.number(v::MODEL_BUFFER, "bytes", 1_048_576..=17_179_869_184);
        let bounds = self.bounds();
        let down = self.down();
        let log = self.read(v::LOG, "log levels, such as info or warn,mesh_proxy=debug", |text| {
            EnvFilter::try_new(text).ok().map(|_| text.to_owned())
        });
        let access_log = self.read(v::ACCESS_LOG, "off, failures or all", access_log);
        let otlp_endpoint = self.read(v::OTLP_ENDPOINT, "http://host:port", otlp_endpoint);
        let trace_share = self.read(v::TRACE_SHARE, "a share from 0 to 1", |text| {
            text.parse().ok().filter(|share| (0.0..=1.0).contains(share))
        });
        let application_probe = self.application_probe();
        let gateway = self.gateway(role);
        let inbound_ports = self.read(v::INBOUND_PORTS, "ports from 1 to 65535, separated by commas", ports);
        Some(Settings {
            role,
            identity: identity?,
            pod: self.text(v::POD).or_else(host_name).unwrap_or_else(|| "unnamed".to_owned()),
            control_namespace: control_namespace?,
            control: control?,
            trust_bundle_file: self.path(v::TRUST_BUNDLE_FILE),
            token_file: self.path(v::TOKEN_FILE),
            state_directory: self.path(v::STATE_DIRECTORY),
            outbound_listen: outbound_listen?,
            inbound_listen: inbound_listen?,
            admin_listen: admin_listen?,
            workers: workers.unwrap_or_else(workers_of_this_group),
            application_address,
            header_limit: header_limit?,
            lane_table: lane_table?,
            down: down?,
            log: log?,
            access_log: access_log?,
            otlp_endpoint,
            trace_share: trace_share?,
            gateway: gateway?,
            application_probe,
            inbound_ports: inbound_ports.unwrap_or_default(),
            secrets_directory: self.path(v::SECRETS_DIRECTORY).unwrap_or_default(),
            model_buffer: model_buffer?,
            bounds: bounds?,
        })
    }

    fn identity(&mut self) -> Option<Identity> {
        const NAME: &str = "lower-case letters, digits and - (a domain or account also .)";
        let fits = |domain: &str, namespace: &str, account: &str| Identity::new(domain, namespace, account).is_ok();
        let domain = self.read(v::TRUST_DOMAIN, NAME, |text| fits(text, "n", "a").then(|| text.to_owned()));
        let namespace = self.read(v::NAMESPACE, NAME, |text| fits("d", text, "a").then(|| text.to_owned()));
        let account = self.read(v::SERVICE_ACCOUNT, NAME, |text| fits("d", "n", text).then(|| text.to_owned()));
        Identity::new(&domain?, &namespace?, &account?).ok()
    }

    fn control_namespace(&mut self) -> Option<String> {
        self.read(v::CONTROL_NAMESPACE, "lower-case letters, digits and -", |text| {
            Identity::new("d", text, "a").is_ok().then(|| text.to_owned())
        })
    }

    /// The controller, or Linkerd's three services.
    fn control_plane(&mut self) -> Option<ControlPlane> {
        const ADDRESSES: &str =
            "host:port, at most 16 separated by commas; http://host:port is allowed for loopback addresses only";
        if self.text(v::CONTROLLER_ADDRESS).is_none() && self.text(v::LINKERD_DESTINATION_ADDRESS).is_some() {
            let mut peer = |address, name| self.linkerd_peer(address, name);
            let destination = peer(v::LINKERD_DESTINATION_ADDRESS, v::LINKERD_DESTINATION_NAME);
            let policy = peer(v::LINKERD_POLICY_ADDRESS, v::LINKERD_POLICY_NAME);
            let identity = peer(v::LINKERD_IDENTITY_ADDRESS, v::LINKERD_IDENTITY_NAME);
            return Some(ControlPlane { destination: destination?, policy: policy?, identity: identity?, mesh: None });
        }
        let addresses = self.read(v::CONTROLLER_ADDRESS, ADDRESSES, |text| control_addresses(text, Implied::Tls));
        if self.text(v::CONTROLLER_ADDRESS).is_none() {
            self.problems.push(format!("{} is not set: expected {ADDRESSES}", v::CONTROLLER_ADDRESS.name));
        }
        let namespace = self.text(v::CONTROL_NAMESPACE)?;
        let domain = self.text(v::TRUST_DOMAIN)?;
        let controller = Identity::new(&domain, &namespace, names::CONTROLLER_SERVICE_ACCOUNT).ok()?;
        let peer = ControlPeer { addresses: addresses?, server_name: controller.dns_name(&namespace) };
        Some(ControlPlane { destination: peer.clone(), policy: peer.clone(), identity: peer.clone(), mesh: Some(peer) })
    }

    fn linkerd_peer(&mut self, address: Variable, name: Variable) -> Option<ControlPeer> {
        let addresses = self.read(address, "host:port", |text| control_addresses(text, Implied::LoopbackIsPlaintext));
        if self.text(address).is_none() {
            self.problems.push(format!(
                "{} is not set: expected host:port, since {} is set",
                address.name,
                v::LINKERD_DESTINATION_ADDRESS.name
            ));
        }
        let addresses = addresses?;
        let plaintext = addresses.iter().all(|address| address.transport == ControlTransport::Plaintext);
        let server_name = self.read(name, "<account>.<namespace>.serviceaccount.identity.…", |text| {
            Identity::parse_dns_name(text).ok().map(|_| text.to_owned())
        });
        if server_name.is_none() && !plaintext && self.text(name).is_none() {
            self.problems.push(format!("{} is not set: expected the identity of {}", name.name, address.name));
        }
        Some(ControlPeer { addresses, server_name: server_name.unwrap_or_default() })
    }

    /// A misspelt setting would otherwise silently be its default.
    fn refuse_unknown(&mut self) {
        for name in self.environment.keys().filter(|name| name.starts_with(v::PREFIX)) {
            if v::ALL.iter().any(|variable| variable.name == name) || v::FOREIGN.iter().any(|part| name.contains(part))
            {
                continue;
            }
            let nearest = v::ALL.iter().map(|known| (distance(name, known.name), known.name)).min();
            self.problems.push(match nearest {
                Some((letters, known)) if letters <= (name.len() - v::PREFIX.len()) / SUGGEST_LETTERS => {
                    format!("{name} is no setting: did you mean {known}?")
                }
                Some(_) | None => format!("{name} is no setting: `mesh-proxy settings` lists all"),
            });
        }
    }
}

/// What an address without scheme is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Implied {
    Tls,
    LoopbackIsPlaintext,
}

fn control_addresses(text: &str, implied: Implied) -> Option<Vec<ControlAddress>> {
    let addresses: Option<Vec<_>> = text.split(',').map(|part| control_address(part.trim(), implied)).collect();
    addresses.filter(|addresses| addresses.len() <= ADDRESSES_MAX)
}

fn control_address(text: &str, implied: Implied) -> Option<ControlAddress> {
    let (plaintext, rest) = match text.strip_prefix("http://") {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix("https://").unwrap_or(text)),
    };
    let (host, port) = rest.trim_end_matches('/').rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    let plaintext = plaintext || (implied == Implied::LoopbackIsPlaintext && loopback);
    let named = !host.is_empty() && !host.contains(['/', '@', ' ']);
    if !named || (plaintext && !loopback) {
        return None;
    }
    let transport = if plaintext { ControlTransport::Plaintext } else { ControlTransport::Tls };
    let port = port.parse().ok().filter(|port| *port > 0)?;
    Some(ControlAddress { host: host.to_owned(), port, transport })
}

fn access_log(text: &str) -> Option<AccessLog> {
    match text {
        "off" => Some(AccessLog::Off),
        "failures" => Some(AccessLog::Failures),
        "all" => Some(AccessLog::All),
        _ => None,
    }
}

fn otlp_endpoint(text: &str) -> Option<String> {
    let uri: http::Uri = text.parse().ok()?;
    (uri.scheme_str() == Some("http") && uri.port().is_some()).then(|| text.to_owned())
}

fn ports(text: &str) -> Option<Vec<u16>> {
    text.split(',').map(|port| port.trim().parse().ok().filter(|port| *port > 0)).collect()
}

/// A duration such as `500ms`, `30s`, `2m` or `1h`.
pub fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3_600).map(Duration::from_secs),
        _ => None,
    }
}

fn host_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

fn workers_of_this_group() -> usize {
    let read = |path: &str| fs::read_to_string(path).ok();
    let quota = read("/sys/fs/cgroup/cpu.max").and_then(|text| workers_of_quota(&text)).or_else(|| {
        let quota = read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")?;
        let period = read("/sys/fs/cgroup/cpu/cpu.cfs_period_us")?;
        workers_of_quota(&format!("{} {}", quota.trim(), period.trim()))
    });
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    quota.unwrap_or(1).clamp(1, processors.min(WORKERS_MAX))
}

/// Workers for a quota `<microseconds> <period>` (`cpu.max` of cgroup v2); `None` where the quota is `max` or -1.
fn workers_of_quota(text: &str) -> Option<usize> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (usize, usize) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0).then(|| quota.div_ceil(period).max(1))
}

/// Letters to insert, drop or change to come from one text to the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.bytes().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, InvalidSettings> {
        settings(Role::Sidecar, pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn address_of_the_controller_is_all_that_must_be_set() {
        let settings = read(&[("LANEMESH_CONTROLLER_ADDRESS", "10.0.0.1:8086, mesh.example:8086")]).unwrap();
        assert_eq!(settings.identity.to_string(), "spiffe://cluster.local/ns/default/sa/default");
        assert_eq!(settings.control.destination.addresses.len(), 2);
        let name = "lanemesh-controller.lanemesh.serviceaccount.identity.lanemesh.cluster.local";
        assert_eq!(settings.control.mesh.unwrap().server_name, name);
        assert_eq!(settings.outbound_listen.to_string(), "127.0.0.1:4140");
        assert_eq!(settings.down.limits, mesh_core::drain::Limits::default());
        assert!(settings.workers >= 1);
    }

    #[test]
    fn every_bad_setting_is_reported_with_name_value_and_what_is_allowed() {
        let error = read(&[
            ("LANEMESH_NAMESPACE", "Shop"),
            ("LANEMESH_WORKERS", "0"),
            ("LANEMESH_TERMINATION_GRACE", "2h"),
            ("LANEMESH_ACCESS_LOG", "some"),
            ("LANEMESH_TRACE_SHARE", "1.5"),
            ("LANEMESH_HEADER_LIMIT", "12"),
            ("LANEMESH_ADMIN_LISTEN", "4191"),
            ("LANEMESH_OTLP_ENDPOINT", "collector:4317"),
            ("LANEMESH_INBOUND_PORTS", "80,x"),
            ("LANEMESH_LOG", "mesh_proxy=loud"),
            ("LANEMESH_APPLICATION_ADDRESS", "10.0.0.1:80"),
        ])
        .unwrap_err();
        assert_eq!(error.problems.len(), 12, "{error}");
        assert!(error.problems.contains(&"LANEMESH_WORKERS=\"0\": expected a count from 1 to 64".to_owned()));
        assert!(error.to_string().contains("LANEMESH_CONTROLLER_ADDRESS is not set"));
    }

    #[test]
    fn misspelt_setting_is_an_error_that_suggests_the_right_one() {
        let controller = ("LANEMESH_CONTROLLER_ADDRESS", "c:1");
        let error = read(&[controller, ("LANEMESH_NAMESPCE", "shop"), ("LANEMESH_COLOUR", "red")]).unwrap_err();
        assert_eq!(
            error.problems,
            [
                "LANEMESH_COLOUR is no setting: `mesh-proxy settings` lists all",
                "LANEMESH_NAMESPCE is no setting: did you mean LANEMESH_NAMESPACE?",
            ]
        );
    }

    #[test]
    fn plaintext_to_the_controller_is_for_loopback_only() {
        let transport = |address: &str| {
            read(&[("LANEMESH_CONTROLLER_ADDRESS", address)])
                .map(|settings| settings.control.identity.addresses[0].transport)
                .ok()
        };
        assert_eq!(transport("http://127.0.0.1:8086"), Some(ControlTransport::Plaintext));
        assert_eq!(transport("http://[::1]:8086"), Some(ControlTransport::Plaintext));
        assert_eq!(transport("127.0.0.1:8086"), Some(ControlTransport::Tls));
        assert_eq!(transport("http://10.0.0.1:8086"), None);
        assert_eq!(transport("10.0.0.1"), None);
        assert_eq!(transport("10.0.0.1:0"), None);
    }

    #[test]
    fn linkerds_control_plane_is_three_services_without_mesh_policy() {
        let name = "linkerd-destination.linkerd.serviceaccount.identity.linkerd.cluster.local";
        let control = read(&[
            ("LINKERD2_PROXY_DESTINATION_SVC_ADDR", "linkerd-dst:8086"),
            ("LINKERD2_PROXY_DESTINATION_SVC_NAME", name),
            ("LINKERD2_PROXY_POLICY_SVC_ADDR", "linkerd-policy:8090"),
            ("LINKERD2_PROXY_POLICY_SVC_NAME", name),
            ("LINKERD2_PROXY_IDENTITY_SVC_ADDR", "localhost:8080"),
        ])
        .unwrap()
        .control;
        assert_eq!((control.mesh, control.policy.server_name.as_str()), (None, name));
        assert_eq!(control.identity.addresses[0].transport, ControlTransport::Plaintext);
    }

    #[test]
    fn quota_of_the_control_group_gives_the_number_of_workers() {
        let cases =
            [("max 100000", None), ("-1 100000", None), ("50000 100000", Some(1)), ("250000 100000\n", Some(3))];
        for (text, workers) in cases {
            assert_eq!(workers_of_quota(text), workers, "{text:?}");
        }
    }

    #[test]
    fn reference_page_is_the_table() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/proxy-settings.md");
        let written = std::fs::read_to_string(page).unwrap_or_default();
        assert!(written == v::reference(), "write the page anew: mesh-proxy settings --markdown > {page}");
    }
}
