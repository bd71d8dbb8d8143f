//! What the controller counts. Every metric is a row of [`METRICS`].

mod labels;
mod table;

use std::{
    sync::atomic::{AtomicI64, AtomicU64},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Metric, Registry},
};

use self::table::{
    AUTHORITY_LOADS, CERTIFY, CHANGES, CONNECTED, CONNECTIONS, ENDPOINTS, EVENTS, FOLLOWED, GUARD_BREACHES, ISSUER_END,
    KNOWN, LISTS, LOADED, LOADS, LOST, NACKS, NOTES, PROBLEMS, REGISTRATIONS, SENT, SERVICES, STREAMS, TLS_REFUSED,
    WAKES, WORKLOADS, WORLD_TIME, WORLDS,
};
pub use self::{
    labels::{CertifyResult, List, Load, Selected, Service, TlsRefused},
    table::{METRICS, Row},
};

type One = [(&'static str, &'static str); 1];
/// Of a source, which settings name.
type OfSource = [(&'static str, String); 1];
/// The same with a second label.
type OfSourceBy = [(&'static str, String); 2];
type Count = Counter<u64, AtomicU64>;
type Level = Gauge<i64, AtomicI64>;

/// Counters of one controller.
pub struct Metrics {
    registry: Registry,
    certify: Family<One, Count>,
    streams: Family<One, Level>,
    sent: Family<One, Count>,
    nacks: Count,
    loads: Family<OfSourceBy, Count>,
    problems: Family<OfSource, Level>,
    loaded: Family<OfSource, Level>,
    connected: Family<OfSource, Level>,
    lost: Family<OfSource, Count>,
    known: Family<OfSource, Level>,
    followed: Family<OfSource, Level>,
    lists: Family<OfSourceBy, Count>,
    notes: Family<OfSource, Level>,
    registrations: Family<OfSourceBy, Level>,
    services: Level,
    endpoints: Level,
    workloads: Level,
    changes: Count,
    wakes: Count,
    worlds: Count,
    world_time: Counter<f64, AtomicU64>,
    connections: Level,
    tls_refused: Family<One, Count>,
    issuer_end: Level,
    authority_loads: Family<One, Count>,
    guard_breaches: Family<One, Count>,
    events: Family<One, Count>,
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
            connected: enter(&mut registry, CONNECTED),
            lost: enter(&mut registry, LOST),
            known: enter(&mut registry, KNOWN),
            followed: enter(&mut registry, FOLLOWED),
            lists: enter(&mut registry, LISTS),
            notes: enter(&mut registry, NOTES),
            registrations: enter(&mut registry, REGISTRATIONS),
            services: enter(&mut registry, SERVICES),
            endpoints: enter(&mut registry, ENDPOINTS),
            workloads: enter(&mut registry, WORKLOADS),
            changes: enter(&mut registry, CHANGES),
            wakes: enter(&mut registry, WAKES),
            worlds: enter(&mut registry, WORLDS),
            world_time: enter(&mut registry, WORLD_TIME),
            connections: enter(&mut registry, CONNECTIONS),
            tls_refused: enter(&mut registry, TLS_REFUSED),
            issuer_end: enter(&mut registry, ISSUER_END),
            authority_loads: enter(&mut registry, AUTHORITY_LOADS),
            guard_breaches: enter(&mut registry, GUARD_BREACHES),
            events: enter(&mut registry, EVENTS),
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

fn of(source: &str) -> OfSource {
    [("source", source.to_owned())]
}

fn by(source: &str, label: &'static str, value: &str) -> OfSourceBy {
    [("source", source.to_owned()), (label, value.to_owned())]
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
    pub fn source_load(&self, source: &str, load: Load, problems: usize) {
        self.loads.get_or_create(&by(source, "result", load.label())).inc();
        self.problems.get_or_create(&of(source)).set(number(problems));
        if load == Load::Loaded {
            self.loaded.get_or_create(&of(source)).set(seconds(SystemTime::now()));
        }
    }

    /// Notes that a source has a connection to its server.
    pub fn source_connected(&self, source: &str) {
        self.connected.get_or_create(&of(source)).set(1);
        drop(self.lost.get_or_create(&of(source)));
    }

    /// Notes that a source lost its connection, or could not make one.
    pub fn source_away(&self, source: &str) {
        self.connected.get_or_create(&of(source)).set(0);
        self.lost.get_or_create(&of(source)).inc();
    }

    /// Notes how much a registry has, how much of it is followed, and how much is wrong.
    pub fn source_size(&self, source: &str, known: usize, followed: usize, notes: usize) {
        self.known.get_or_create(&of(source)).set(number(known));
        self.followed.get_or_create(&of(source)).set(number(followed));
        self.notes.get_or_create(&of(source)).set(number(notes));
    }

    /// Counts a list that a registry sent.
    pub fn source_list(&self, source: &str, list: List) {
        self.lists.get_or_create(&by(source, "result", list.label())).inc();
    }

    /// Notes how instances stand that are selected to be registered.
    pub fn registrations(&self, source: &str, selected: Selected) {
        let Selected { registered, waiting, failed, left_out } = selected;
        for (state, count) in
            [("registered", registered), ("waiting", waiting), ("failed", failed), ("left_out", left_out)]
        {
            self.registrations.get_or_create(&by(source, "state", state)).set(number(count));
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

    /// Notes a world that was made of what all sources say, and how long that took.
    pub fn world(&self, took: Duration) {
        self.worlds.inc();
        self.world_time.inc_by(took.as_secs_f64());
    }

    /// Notes a load of the authority's files.
    pub fn authority_load(&self, load: Load) {
        self.authority_loads.get_or_create(&[("result", load.label())]).inc();
    }

    /// Counts a lane that its guard drained.
    pub fn guard_breached(&self, reason: &'static str) {
        self.guard_breaches.get_or_create(&[("reason", reason)]).inc();
    }

    /// Counts something that happened to an instance.
    pub fn event(&self, kind: &'static str) {
        self.events.get_or_create(&[("kind", kind)]).inc();
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
