//! What the controller counts. Every metric is a row of [`METRICS`]; the reference page is made from it.

use std::{
    sync::atomic::{AtomicI64, AtomicU64},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Metric, Registry},
};

/// A metric.
#[derive(Debug)]
pub struct Row {
    /// Name as exposed.
    pub name: &'static str,
    /// counter or gauge.
    pub kind: &'static str,
    /// What a 1 is.
    pub unit: &'static str,
    /// Labels with their values.
    pub labels: &'static str,
    /// What it says.
    pub help: &'static str,
}

const fn row(
    name: &'static str,
    kind: &'static str,
    unit: &'static str,
    labels: &'static str,
    help: &'static str,
) -> Row {
    Row { name, kind, unit, labels, help }
}

const CERTIFY: &str = "mesh_controller_certify_total";
const STREAMS: &str = "mesh_controller_streams";
const SENT: &str = "mesh_controller_messages_sent_total";
const NACKS: &str = "mesh_controller_snapshots_refused_total";
const LOADS: &str = "mesh_controller_source_loads_total";
const PROBLEMS: &str = "mesh_controller_source_problems";
const LOADED: &str = "mesh_controller_source_loaded_timestamp_seconds";
const SERVICES: &str = "mesh_controller_services";
const ENDPOINTS: &str = "mesh_controller_endpoints";
const WORKLOADS: &str = "mesh_controller_workloads";
const CHANGES: &str = "mesh_controller_changed_keys_total";
const WAKES: &str = "mesh_controller_woken_streams_total";
const CONNECTIONS: &str = "mesh_controller_connections";
const TLS_REFUSED: &str = "mesh_controller_tls_refused_total";
const ISSUER_END: &str = "mesh_controller_issuer_not_after_timestamp_seconds";
const GUARD_BREACHES: &str = "mesh_controller_lane_guard_breaches_total";
const AUTHORITY_LOADS: &str = "mesh_controller_authority_loads_total";

/// Every metric.
pub const METRICS: &[Row] = &[
    row(
        CERTIFY,
        "counter",
        "requests",
        "result: issued, token_refused, wrong_identity, request_refused, failed",
        "Requests for certificates by what became of them",
    ),
    row(
        STREAMS,
        "gauge",
        "streams",
        "service: destination, profile, outbound, inbound, mesh",
        "Open streams to proxies",
    ),
    row(SENT, "counter", "messages", "service: as above", "Messages sent on streams to proxies"),
    row(NACKS, "counter", "snapshots", "", "Snapshots that a proxy refused"),
    row(
        LOADS,
        "counter",
        "loads",
        "source: file; result: loaded, refused",
        "Loads of a source; a refused one leaves the last good state in force",
    ),
    row(PROBLEMS, "gauge", "problems", "source: file", "Problems of the last load of a source; 0 when it was loaded"),
    row(LOADED, "gauge", "seconds since 1970", "source: file", "When a source was last loaded"),
    row(SERVICES, "gauge", "services", "", "Services known"),
    row(ENDPOINTS, "gauge", "instances", "", "Instances known"),
    row(WORKLOADS, "gauge", "workloads", "", "Workloads known"),
    row(CHANGES, "counter", "keys", "", "Things that changed: services, addresses, workloads, mesh-wide policy"),
    row(
        WAKES,
        "counter",
        "streams",
        "",
        "Streams woken by changes; follows what proxies use, not the size of the mesh",
    ),
    row(CONNECTIONS, "gauge", "connections", "", "Open connections of proxies"),
    row(
        TLS_REFUSED,
        "counter",
        "handshakes",
        "reason: handshake, timeout, identity",
        "Connections refused before any request",
    ),
    row(ISSUER_END, "gauge", "seconds since 1970", "", "End of the certificate that signs workloads"),
    row(
        GUARD_BREACHES,
        "counter",
        "lanes",
        "reason: errors, latency",
        "Lanes that were drained by their guard; log and history say which",
    ),
    row(
        AUTHORITY_LOADS,
        "counter",
        "loads",
        "result: loaded, refused",
        "Loads of issuer and trust bundle after a change of their files",
    ),
];

/// gRPC services that have streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Destination.Get.
    Destination,
    /// Destination.GetProfile.
    Profile,
    /// OutboundPolicies.Watch.
    Outbound,
    /// InboundServerPolicies.WatchPort.
    Inbound,
    /// MeshPolicy.Watch.
    Mesh,
}

impl Service {
    fn label(self) -> &'static str {
        match self {
            Service::Destination => "destination",
            Service::Profile => "profile",
            Service::Outbound => "outbound",
            Service::Inbound => "inbound",
            Service::Mesh => "mesh",
        }
    }
}

/// What became of a request for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertifyResult {
    /// Signed.
    Issued,
    /// The token does not count.
    TokenRefused,
    /// The token proves somebody else.
    WrongIdentity,
    /// The signing request or the name in it is wrong.
    RequestRefused,
    /// The authority cannot sign now.
    Failed,
}

impl CertifyResult {
    fn label(self) -> &'static str {
        match self {
            CertifyResult::Issued => "issued",
            CertifyResult::TokenRefused => "token_refused",
            CertifyResult::WrongIdentity => "wrong_identity",
            CertifyResult::RequestRefused => "request_refused",
            CertifyResult::Failed => "failed",
        }
    }
}

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsRefused {
    /// The handshake failed.
    Handshake,
    /// The handshake took too long.
    Timeout,
    /// The certificate proves no identity of the trust domain.
    Identity,
}

impl TlsRefused {
    fn label(self) -> &'static str {
        match self {
            TlsRefused::Handshake => "handshake",
            TlsRefused::Timeout => "timeout",
            TlsRefused::Identity => "identity",
        }
    }
}

/// Whether something was taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// In force now.
    Loaded,
    /// The last good state stays in force.
    Refused,
}

impl Load {
    fn label(self) -> &'static str {
        match self {
            Load::Loaded => "loaded",
            Load::Refused => "refused",
        }
    }
}

type One = [(&'static str, &'static str); 1];
type Two = [(&'static str, &'static str); 2];
type Count = Counter<u64, AtomicU64>;
type Level = Gauge<i64, AtomicI64>;

/// Counters of one controller.
pub struct Metrics {
    registry: Registry,
    certify: Family<One, Count>,
    streams: Family<One, Level>,
    sent: Family<One, Count>,
    nacks: Count,
    loads: Family<Two, Count>,
    problems: Family<One, Level>,
    loaded: Family<One, Level>,
    services: Level,
    endpoints: Level,
    workloads: Level,
    changes: Count,
    wakes: Count,
    connections: Level,
    tls_refused: Family<One, Count>,
    issuer_end: Level,
    authority_loads: Family<One, Count>,
    guard_breaches: Family<One, Count>,
}

/// Enters a metric under its name, with the sentence of its row.
fn enter<M: Metric + Clone + Default>(registry: &mut Registry, name: &'static str) -> M {
    let metric = M::default();
    let row = METRICS.iter().find(|row| row.name == name);
    let help = row.map_or("", |row| row.help);
    // The encoder ends names of counters itself.
    registry.register(name.strip_suffix("_total").unwrap_or(name), help, metric.clone());
    metric
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        Metrics {
            certify: enter(&mut registry, CERTIFY),
            streams: enter(&mut registry, STREAMS),
            sent: enter(&mut registry, SENT),
            nacks: enter(&mut registry, NACKS),
            loads: enter(&mut registry, LOADS),
            problems: enter(&mut registry, PROBLEMS),
            loaded: enter(&mut registry, LOADED),
            services: enter(&mut registry, SERVICES),
            endpoints: enter(&mut registry, ENDPOINTS),
            workloads: enter(&mut registry, WORKLOADS),
            changes: enter(&mut registry, CHANGES),
            wakes: enter(&mut registry, WAKES),
            connections: enter(&mut registry, CONNECTIONS),
            tls_refused: enter(&mut registry, TLS_REFUSED),
            issuer_end: enter(&mut registry, ISSUER_END),
            authority_loads: enter(&mut registry, AUTHORITY_LOADS),
            guard_breaches: enter(&mut registry, GUARD_BREACHES),
            registry,
        }
    }
}

fn seconds(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()).unwrap_or(i64::MAX)
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Metrics {
    /// All metrics as OpenMetrics text.
    pub fn expose(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string cannot fail");
        text
    }

    /// Counts a request for a certificate.
    pub fn certified(&self, result: CertifyResult) {
        self.certify.get_or_create(&[("result", result.label())]).inc();
    }

    /// Counts a stream as open until the guard is dropped.
    pub fn stream(&self, service: Service) -> OpenStream {
        let labels = [("service", service.label())];
        let open = self.streams.get_or_create(&labels).clone();
        open.inc();
        OpenStream { open, sent: self.sent.get_or_create(&labels).clone() }
    }

    /// Counts a connection as open until the guard is dropped.
    pub fn connection(&self) -> OpenConnection {
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }

    /// Counts a refused connection.
    pub fn tls_refused(&self, reason: TlsRefused) {
        self.tls_refused.get_or_create(&[("reason", reason.label())]).inc();
    }

    /// Counts a refused snapshot.
    pub fn nacked(&self) {
        self.nacks.inc();
    }

    /// Notes a load of a source.
    pub fn source_load(&self, source: &'static str, load: Load, problems: usize) {
        self.loads.get_or_create(&[("source", source), ("result", load.label())]).inc();
        self.problems.get_or_create(&[("source", source)]).set(number(problems));
        if load == Load::Loaded {
            self.loaded.get_or_create(&[("source", source)]).set(seconds(SystemTime::now()));
        }
    }

    /// Notes the size of the world, what changed of it, and how many streams that woke.
    pub fn published(&self, world: &mesh_core::resources::World, changed: usize, woken: usize) {
        let ports = world.services.values().flat_map(|service| service.ports.values());
        self.services.set(number(world.services.len()));
        self.endpoints.set(number(ports.map(|port| port.endpoints.len()).sum()));
        self.workloads.set(number(world.workloads.len()));
        self.changes.inc_by(u64::try_from(changed).unwrap_or(u64::MAX));
        self.wakes.inc_by(u64::try_from(woken).unwrap_or(u64::MAX));
    }

    /// Notes a load of the authority's files.
    pub fn authority_load(&self, load: Load) {
        self.authority_loads.get_or_create(&[("result", load.label())]).inc();
    }

    /// Counts a lane that its guard drained.
    pub fn guard_breached(&self, reason: &'static str) {
        self.guard_breaches.get_or_create(&[("reason", reason)]).inc();
    }

    /// Notes the end of the issuer's certificate.
    pub fn issuer_end(&self, end: SystemTime) {
        self.issuer_end.set(seconds(end));
    }
}

/// A stream that is open while this lives.
pub struct OpenStream {
    open: Level,
    sent: Count,
}

impl OpenStream {
    /// Counts a message.
    pub fn sent(&self) {
        self.sent.inc();
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// A connection that is open while this lives.
pub struct OpenConnection(Level);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}
