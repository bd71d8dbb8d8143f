//! What data workers count and record. Each worker writes its own counters; the telemetry thread reads them, adds them
//! up and renders them. Neither ever waits for the other: a counter has one writer, and the list of series is replaced
//! whole when a series joins.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use mesh_core::{
    flood::Flood,
    identity::Refusal,
    lane::Source,
    outcome::{Level, Outcome},
    shedding::Shed,
};
use tokio::sync::mpsc;

use super::{
    health::{HealthMetrics, HealthSeries, Keyed, Unusable},
    model_call::ModelCall,
    models::ModelMetrics,
};

/// Series per worker; exchanges of further combinations are counted in the series of [`SeriesKey::overflow`].
pub const SERIES_MAX: usize = 2_048;
/// Records that wait for the telemetry thread; more are dropped and counted.
pub const RECORD_QUEUE: usize = 4_096;
/// Upper bounds of the latency histogram, microseconds; one more bucket takes what is longer.
pub const LATENCY_BOUNDS: [u64; 15] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 60_000_000,
];

/// A number with one writer (its worker) and any number of readers.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `more`. Only the owning worker may call it.
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(more), Relaxed);
    }

    /// Replaces the value (gauges). Only the owning worker may call it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// Takes `less` away (gauges). Only the owning worker may call it.
    pub fn subtract(&self, less: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(less), Relaxed);
    }

    /// Current value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Which way an exchange goes, seen from the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// To the application.
    Inbound,
    /// From the application.
    Outbound,
}

impl Direction {
    /// Both, in order of declaration.
    pub const ALL: [Direction; 2] = [Direction::Inbound, Direction::Outbound];

    /// Label for metrics, logs and spans.
    pub fn label(self) -> &'static str {
        match self {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        }
    }
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Bytes.
    Opaque,
}

impl Protocol {
    /// Label for metrics, logs and spans.
    pub fn label(self) -> &'static str {
        match self {
            Protocol::Http1 => "http1",
            Protocol::Http2 => "http2",
            Protocol::Opaque => "opaque",
        }
    }
}

/// Labels of a series.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesKey {
    /// Which way.
    pub direction: Direction,
    /// Outbound `<name>.<namespace>`, or the address of what is no service; inbound the port.
    pub service: Arc<str>,
    /// Lane that the request carries; empty = none.
    pub lane: Arc<str>,
    /// Level that served: `baseline` or `<group>/<lane>`; empty where nothing was picked.
    pub level: Arc<str>,
    /// Why that level (`mesh_core::lane::Reason::label`); empty where nothing was picked.
    pub reason: &'static str,
}

impl SeriesKey {
    /// Where exchanges beyond [`SERIES_MAX`] combinations are counted.
    pub fn overflow(direction: Direction) -> Self {
        SeriesKey { direction, service: "other".into(), lane: "".into(), level: "".into(), reason: "" }
    }
}

/// Counters of one combination of labels.
#[derive(Debug)]
pub struct Series {
    /// Labels.
    pub key: SeriesKey,
    /// Exchanges by outcome, in the order of [`Outcome::ALL`].
    pub outcomes: Vec<Count>,
    /// Responses by class of their status: `[0]` = none, 1xx … 5xx.
    pub classes: [Count; 6],
    /// Exchanges under way.
    pub in_flight: Count,
    /// Bytes from the caller.
    pub bytes_in: Count,
    /// Bytes to the caller.
    pub bytes_out: Count,
    /// Exchanges by time until they ended, see [`LATENCY_BOUNDS`].
    pub latency: [Count; LATENCY_BOUNDS.len() + 1],
    /// Sum of those times, microseconds.
    pub latency_sum: Count,
}

impl Series {
    fn new(key: SeriesKey) -> Self {
        Series {
            key,
            outcomes: Outcome::ALL.iter().map(|_| Count::default()).collect(),
            classes: Default::default(),
            in_flight: Count::default(),
            bytes_in: Count::default(),
            bytes_out: Count::default(),
            latency: Default::default(),
            latency_sum: Count::default(),
        }
    }

    /// Counts one finished exchange; `status` 0 = no response.
    pub fn finish(&self, outcome: Outcome, status: u16, duration: Duration) {
        if let Some(count) = self.outcomes.get(outcome as usize) {
            count.add(1);
        }
        if let Some(count) = self.classes.get(usize::from(status / 100)) {
            count.add(1);
        }
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.latency[LATENCY_BOUNDS.partition_point(|bound| *bound < micros)].add(1);
        self.latency_sum.add(micros);
    }
}

/// Counters of one worker.
#[derive(Debug)]
pub struct WorkerMetrics {
    /// Number of the worker, from 0.
    pub worker: usize,
    /// Connections accepted, by [`Direction`].
    pub accepted: [Count; 2],
    /// Connections open now, by [`Direction`].
    pub open: [Count; 2],
    /// TLS handshakes refused by [`Direction`] (inbound: of callers, outbound: of endpoints) and [`Refusal::ALL`].
    pub tls_refused: [[Count; Refusal::ALL.len()]; 2],
    /// TLS handshakes that succeeded, by [`Direction`].
    pub tls_handshakes: [Count; 2],
    /// Pauses of accept for want of descriptors, memory or places.
    pub accept_pauses: Count,
    /// What was given up, refused or cut off, in the order of [`Shed::ALL`].
    pub shed: [Count; Shed::ALL.len()],
    /// HTTP/2 connections ended for a flood of frames, in the order of [`Flood::ALL`].
    pub floods: [Count; Flood::ALL.len()],
    /// Labels by where they were found, in the order of [`Source::ALL`].
    pub lane_sources: [Count; Source::ALL.len()],
    /// Calls whose context is that of a request which ended long ago.
    pub lane_stale: Count,
    /// Requests whose trace was with the application in another lane.
    pub lane_ambiguous: Count,
    /// Trace ids that were put out before their time.
    pub lane_evicted: Count,
    /// Trace ids that mean a lane.
    pub lane_entries: Count,
    /// Notes for other workers that found the queue full.
    pub lane_notes_dropped: Count,
    /// Requests of lanes that were given a trace id.
    pub lane_minted: Count,
    /// Upstream connections opened.
    pub connects: Count,
    /// Attempts to open one that failed.
    pub connect_failures: Count,
    /// Exchanges that took a pooled connection.
    pub reused: Count,
    /// Attempts after the first.
    pub retries: Count,
    /// Attempts that failed and were the last, in the order of [`Refusal::ALL`](mesh_core::retry::Refusal::ALL).
    pub retries_refused: [Count; mesh_core::retry::Refusal::ALL.len()],
    /// Exchanges that waited for a connection to be free, or for room on one.
    pub waits: Count,
    /// Those that could not wait, or waited in vain.
    pub waits_refused: Count,
    /// Records that found the queue full.
    pub records_dropped: Count,
    /// Requests that reached this instance of a lane without its label, by lane.
    pub lane_leaks: Keyed,
    /// Calls to language models.
    pub models: ModelMetrics,
    health: HealthMetrics,
    series: ArcSwap<Vec<Arc<Series>>>,
}

impl WorkerMetrics {
    /// Counters of worker `worker`, all 0.
    pub fn new(worker: usize) -> Self {
        WorkerMetrics {
            worker,
            accepted: Default::default(),
            open: Default::default(),
            tls_refused: Default::default(),
            tls_handshakes: Default::default(),
            accept_pauses: Count::default(),
            shed: Default::default(),
            floods: Default::default(),
            lane_sources: Default::default(),
            lane_stale: Count::default(),
            lane_ambiguous: Count::default(),
            lane_evicted: Count::default(),
            lane_entries: Count::default(),
            lane_notes_dropped: Count::default(),
            lane_minted: Count::default(),
            connects: Count::default(),
            connect_failures: Count::default(),
            reused: Count::default(),
            retries: Count::default(),
            retries_refused: Default::default(),
            waits: Count::default(),
            waits_refused: Count::default(),
            records_dropped: Count::default(),
            lane_leaks: Keyed::default(),
            models: ModelMetrics::default(),
            health: HealthMetrics::default(),
            series: ArcSwap::default(),
        }
    }

    /// Every series, for rendering.
    pub fn series(&self) -> Arc<Vec<Arc<Series>>> {
        self.series.load_full()
    }

    /// The series with these labels, added if it is new. Only the owning worker may call it, and keeps what it gets.
    pub fn register(&self, key: SeriesKey) -> Arc<Series> {
        let known = self.series.load();
        if let Some(series) = known.iter().find(|series| series.key == key) {
            return Arc::clone(series);
        }
        // Two places are kept for the overflow of both directions.
        let overflow = SeriesKey::overflow(key.direction);
        if known.len() + 2 >= SERIES_MAX && key != overflow {
            return self.register(overflow);
        }
        let added = Arc::new(Series::new(key));
        let mut list = Vec::with_capacity(known.len() + 1);
        list.extend(known.iter().cloned());
        list.push(Arc::clone(&added));
        self.series.store(Arc::new(list));
        added
    }

    /// Health as this worker sees it, for rendering.
    pub fn all_health(&self) -> &HealthMetrics {
        &self.health
    }

    /// Counters of a service's health. Only the owning worker may call it.
    pub fn health(&self, service: &Arc<str>) -> Arc<HealthSeries> {
        self.health.of(service)
    }

    /// Shows which instances are not usable now. Only the owning worker may call it.
    pub fn show_unusable(&self, unusable: Vec<Unusable>) {
        self.health.show(unusable);
    }

    /// Counts a refused handshake.
    pub fn refuse_tls(&self, direction: Direction, refusal: Refusal) {
        if let Some(position) = Refusal::ALL.iter().position(|known| *known == refusal) {
            self.tls_refused[direction as usize][position].add(1);
        }
    }

    /// Counts where a label was found.
    pub fn lane_source(&self, source: Source) {
        self.lane_sources[source as usize].add(1);
    }
}

/// W3C trace context of an exchange (traceparent).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Trace.
    pub trace_id: [u8; 16],
    /// Span of the caller.
    pub parent: [u8; 8],
    /// Our span, sent on as parent.
    pub span: [u8; 8],
}

/// One finished exchange, for the access log and for spans.
#[derive(Clone, Debug)]
pub struct Record {
    /// When it began.
    pub start: SystemTime,
    /// How long it took.
    pub duration: Duration,
    /// Which way.
    pub direction: Direction,
    /// What was spoken.
    pub protocol: Protocol,
    /// Outbound `<name>.<namespace>` or address; inbound the port.
    pub service: Arc<str>,
    /// Instance that answered, if one was picked.
    pub endpoint: Option<SocketAddr>,
    /// Address of the caller.
    pub client: SocketAddr,
    /// Proven identity of the other side: the caller (inbound), the endpoint (outbound).
    pub peer: Option<String>,
    /// Lane that the request carries.
    pub lane: Option<String>,
    /// Level that served.
    pub level: Option<String>,
    /// Why that level.
    pub reason: Option<&'static str>,
    /// Why the instances of its zone serve (`mesh_core::zone::Reason::label`), where zones matter.
    pub zone: Option<&'static str>,
    /// What is unusual about the pick of the instance: `panic`, `trial`.
    pub pick: Option<&'static str>,
    /// Where the label was found.
    pub source: &'static str,
    /// Which rule or share of a lane stained it, if one did here.
    pub entry: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// What went wrong, for people.
    pub detail: Option<String>,
    /// Status of the response, 0 = none.
    pub status: u16,
    /// Method; empty for raw connections.
    pub method: String,
    /// `Host` or `:authority`; empty where there is none.
    pub authority: String,
    /// Path with query, cut at [`PATH_MAX`]; empty for raw connections.
    pub path: String,
    /// Bytes from the caller.
    pub bytes_in: u64,
    /// Bytes to the caller.
    pub bytes_out: u64,
    /// Attempts made.
    pub attempts: u32,
    /// Trace context, if the exchange is sampled.
    pub trace: Option<Trace>,
    /// Trace id of a probe.
    pub probe: Option<String>,
    /// What is told of a call to a language model.
    pub model: Option<Box<ModelCall>>,
}

/// Longest path that is kept in a record, bytes.
pub const PATH_MAX: usize = 512;

/// Which exchanges the access log wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLog {
    /// None.
    Off,
    /// Those whose outcome is above `Debug` level.
    #[default]
    Failures,
    /// All.
    All,
}

impl AccessLog {
    /// Whether it wants an exchange that ended so.
    pub fn wants(self, outcome: Outcome) -> bool {
        match self {
            AccessLog::Off => false,
            AccessLog::Failures => outcome.level() > Level::Debug,
            AccessLog::All => true,
        }
    }
}

/// Which exchanges get a span.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Tracing {
    /// None; trace context is passed through untouched.
    #[default]
    Off,
    /// Those whose caller sampled them, and this share (0 to 1) of those without trace context.
    On {
        /// Share of exchanges without trace context that start a trace.
        share: f64,
    },
}

/// Where a worker's counts and records go.
#[derive(Clone, Debug)]
pub struct Sink {
    /// Counters of the worker.
    pub metrics: Arc<WorkerMetrics>,
    /// Records for the telemetry thread.
    pub records: mpsc::Sender<Box<Record>>,
    /// What the access log wants.
    pub access_log: AccessLog,
    /// What tracing wants.
    pub tracing: Tracing,
}

impl Sink {
    /// Hands a record over; a full queue drops it and counts.
    pub fn record(&self, record: Box<Record>) {
        if self.records.try_send(record).is_err() {
            self.metrics.records_dropped.add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_beyond_the_bound_share_one() {
        let metrics = WorkerMetrics::new(0);
        let key = |number: usize| SeriesKey {
            service: number.to_string().into(),
            ..SeriesKey::overflow(Direction::Outbound)
        };
        for number in 0..SERIES_MAX + 10 {
            metrics.register(key(number)).finish(Outcome::Success, 200, Duration::from_millis(1));
        }
        assert!(metrics.series().len() <= SERIES_MAX);
        let counted: u64 = metrics.series().iter().map(|series| series.outcomes[0].get()).sum();
        assert_eq!(counted, (SERIES_MAX + 10) as u64);
    }

    #[test]
    fn latency_of_exactly_a_bound_counts_below_it() {
        let metrics = WorkerMetrics::new(0);
        let series = metrics.register(SeriesKey::overflow(Direction::Inbound));
        series.finish(Outcome::Success, 200, Duration::from_micros(500));
        series.finish(Outcome::Success, 200, Duration::from_secs(100));
        assert_eq!((series.latency[0].get(), series.latency[LATENCY_BOUNDS.len()].get()), (1, 1));
    }
}
