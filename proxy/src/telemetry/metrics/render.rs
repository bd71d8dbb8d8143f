//! Fills the table of metrics from the counters of workers and control thread, as OpenMetrics text. Counting is done
//! elsewhere; a scrape only reads.

mod health;
mod limits;
mod models;
mod shedding;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use mesh_core::{identity::Refusal, lane::Source, outcome::Outcome, retry};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};
use tokio::sync::watch;

use super::{self as m, Kind, Metric};
use crate::{
    identity::Credentials,
    shared::Shared,
    telemetry::{
        control::ControlCounters,
        worker::{Count, Direction, LATENCY_BOUNDS, SeriesKey, WorkerMetrics},
    },
};

/// Content type of the answer.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
/// Clock ticks per second in `/proc` (USER_HZ, fixed at 100 on Linux).
const TICKS: f64 = 100.0;

/// Everything that is read for a scrape.
#[derive(Clone)]
pub struct Sources {
    /// Counters of the workers.
    pub workers: Vec<Arc<WorkerMetrics>>,
    /// Counters of the control thread.
    pub control: Arc<ControlCounters>,
    /// Snapshot and draining.
    pub shared: Arc<Shared>,
    /// Certificate and anchors.
    pub credentials: watch::Receiver<Arc<Credentials>>,
    /// Empty when ready.
    pub missing: watch::Receiver<BTreeSet<String>>,
    /// Start of the process.
    pub started: SystemTime,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

/// A registry that reads `sources` at every scrape.
pub fn registry(sources: Sources) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(sources));
    registry
}

/// The answer to a scrape.
pub fn scrape(registry: &Registry) -> String {
    let mut answer = String::new();
    text::encode(&mut answer, registry).expect("a String takes any text");
    answer
}

impl Collector for Sources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Output { encoder: &mut encoder };
        self.exchanges(&mut out)?;
        self.connections(&mut out)?;
        self.health(&mut out)?;
        self.models(&mut out)?;
        self.limits(&mut out)?;
        self.control(&mut out)?;
        process(&mut out, self.started)
    }
}

struct Output<'a, 'b> {
    encoder: &'a mut DescriptorEncoder<'b>,
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

impl Output<'_, '_> {
    fn family<'l>(&mut self, metric: Metric, values: impl IntoIterator<Item = (Labels<'l>, f64)>) -> fmt::Result {
        let mut family = self.descriptor(metric)?;
        for (labels, value) in values {
            write(&mut family.encode_family(&labels)?, metric.kind, value)?;
        }
        Ok(())
    }

    fn single(&mut self, metric: Metric, value: f64) -> fmt::Result {
        write(&mut self.descriptor(metric)?, metric.kind, value)
    }

    fn descriptor(&mut self, metric: Metric) -> Result<MetricEncoder<'_>, fmt::Error> {
        // The encoder adds `_total` to counters.
        let (name, kind) = match metric.kind {
            Kind::Counter => (metric.name.trim_end_matches("_total"), MetricType::Counter),
            Kind::Gauge => (metric.name, MetricType::Gauge),
            Kind::Histogram => (metric.name, MetricType::Histogram),
        };
        // … and the full stop to the help.
        self.encoder.encode_descriptor(name, metric.help.trim_end_matches('.'), None, kind)
    }

    fn histogram<'l>(
        &mut self,
        metric: Metric,
        values: impl IntoIterator<Item = (Labels<'l>, &'l Sum)>,
    ) -> fmt::Result {
        let mut family = self.descriptor(metric)?;
        for (labels, sum) in values {
            let bounds = LATENCY_BOUNDS.iter().map(|micros| *micros as f64 / 1e6).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(sum.latency.iter().copied()).collect();
            let count = sum.latency.iter().sum();
            let seconds = sum.latency_sum as f64 / 1e6;
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)?;
        }
        Ok(())
    }
}

fn write(out: &mut MetricEncoder<'_>, kind: Kind, value: f64) -> fmt::Result {
    match kind {
        Kind::Counter => out.encode_counter::<NoLabelSet, f64, f64>(&value, None),
        Kind::Gauge | Kind::Histogram => out.encode_gauge(&value),
    }
}

/// Counters of one combination of labels over all workers.
#[derive(Default)]
struct Sum {
    outcomes: Vec<u64>,
    classes: [u64; 6],
    in_flight: u64,
    bytes: [u64; 2],
    latency: [u64; LATENCY_BOUNDS.len() + 1],
    latency_sum: u64,
}

fn sums(workers: &[Arc<WorkerMetrics>]) -> BTreeMap<SeriesKey, Sum> {
    let mut sums: BTreeMap<SeriesKey, Sum> = BTreeMap::new();
    for worker in workers {
        for series in worker.series().iter() {
            let sum = sums.entry(series.key.clone()).or_default();
            sum.outcomes.resize(Outcome::ALL.len(), 0);
            add(&mut sum.outcomes, &series.outcomes);
            add(&mut sum.classes, &series.classes);
            add(&mut sum.latency, &series.latency);
            sum.in_flight = sum.in_flight.wrapping_add(series.in_flight.get());
            sum.bytes[0] += series.bytes_in.get();
            sum.bytes[1] += series.bytes_out.get();
            sum.latency_sum += series.latency_sum.get();
        }
    }
    sums
}

fn add(sums: &mut [u64], counts: &[Count]) {
    sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count.get());
}

fn key_labels(key: &SeriesKey) -> Labels<'_> {
    vec![
        ("direction", key.direction.label()),
        ("service", &key.service),
        ("lane", &key.lane),
        ("level", &key.level),
        ("reason", key.reason),
    ]
}

fn with<'a>(mut labels: Labels<'a>, name: &'static str, value: &'a str) -> Labels<'a> {
    labels.push((name, value));
    labels
}

impl Sources {
    fn exchanges(&self, out: &mut Output<'_, '_>) -> fmt::Result {
        let sums = sums(&self.workers);
        let by_outcome = sums.iter().flat_map(|(key, sum)| {
            // What never happened with these labels is left out: 20 outcomes times every service is a lot of zeros.
            let happened = Outcome::ALL.iter().zip(&sum.outcomes).filter(|(_, count)| **count > 0);
            happened.map(|(outcome, count)| (with(key_labels(key), "outcome", outcome.label()), *count as f64))
        });
        out.family(m::EXCHANGES, by_outcome)?;
        let by_class = sums.iter().flat_map(|(key, sum)| {
            let happened = CLASSES.iter().zip(sum.classes).filter(|(_, count)| *count > 0);
            happened.map(|(class, count)| (with(key_labels(key), "class", class), count as f64))
        });
        out.family(m::RESPONSES, by_class)?;
        out.histogram(m::DURATION, sums.iter().map(|(key, sum)| (key_labels(key), sum)))?;
        out.family(m::IN_FLIGHT, sums.iter().map(|(key, sum)| (key_labels(key), sum.in_flight as f64)))?;
        let bytes = sums.iter().flat_map(|(key, sum)| {
            ["in", "out"]
                .into_iter()
                .zip(sum.bytes)
                .map(|(flow, count)| (with(key_labels(key), "flow", flow), count as f64))
        });
        out.family(m::BYTES, bytes)
    }

    fn total(&self, count: impl Fn(&WorkerMetrics) -> &Count) -> f64 {
        self.workers.iter().map(|worker| count(worker).get()).fold(0, u64::wrapping_add) as f64
    }

    fn greatest(&self, count: impl Fn(&WorkerMetrics) -> &Count) -> f64 {
        self.workers.iter().map(|worker| count(worker).get()).max().unwrap_or_default() as f64
    }

    fn by_direction(&self, count: impl Fn(&WorkerMetrics) -> &[Count; 2]) -> Vec<(Labels<'static>, f64)> {
        let one = |direction: Direction| {
            (vec![("direction", direction.label())], self.total(|worker| &count(worker)[direction as usize]))
        };
        Direction::ALL.into_iter().map(one).collect()
    }

    fn connections(&self, out: &mut Output<'_, '_>) -> fmt::Result {
        out.family(m::ACCEPTED, self.by_direction(|worker| &worker.accepted))?;
        out.family(m::OPEN, self.by_direction(|worker| &worker.open))?;
        out.single(m::ACCEPT_PAUSES, self.total(|worker| &worker.accept_pauses))?;
        self.shedding(out)?;
        out.family(m::TLS_HANDSHAKES, self.by_direction(|worker| &worker.tls_handshakes))?;
        let reasons: Vec<String> = Refusal::ALL.iter().map(ToString::to_string).collect();
        let refused = Direction::ALL.into_iter().flat_map(|direction| {
            reasons.iter().enumerate().map(move |(position, reason)| {
                let labels = vec![("direction", direction.label()), ("reason", reason.as_str())];
                (labels, self.total(|worker| &worker.tls_refused[direction as usize][position]))
            })
        });
        out.family(m::TLS_REFUSED, refused)?;
        let sources = Source::ALL.iter().enumerate().map(|(position, source)| {
            (vec![("source", source.label())], self.total(|worker| &worker.lane_sources[position]))
        });
        out.family(m::LANE_SOURCES, sources)?;
        out.single(m::LANE_STALE, self.total(|worker| &worker.lane_stale))?;
        out.single(m::LANE_AMBIGUOUS, self.total(|worker| &worker.lane_ambiguous))?;
        out.single(m::LANE_EVICTED, self.total(|worker| &worker.lane_evicted))?;
        out.single(m::LANE_ENTRIES, self.greatest(|worker| &worker.lane_entries))?;
        out.single(m::LANE_NOTES_DROPPED, self.total(|worker| &worker.lane_notes_dropped))?;
        out.single(m::LANE_MINTED, self.total(|worker| &worker.lane_minted))?;
        out.single(m::CONNECTS, self.total(|worker| &worker.connects))?;
        out.single(m::CONNECT_FAILURES, self.total(|worker| &worker.connect_failures))?;
        out.single(m::REUSED, self.total(|worker| &worker.reused))?;
        out.single(m::WAITS, self.total(|worker| &worker.waits))?;
        out.single(m::WAITS_REFUSED, self.total(|worker| &worker.waits_refused))?;
        out.single(m::RETRIES, self.total(|worker| &worker.retries))?;
        let refused = retry::Refusal::ALL.iter().enumerate().map(|(position, refusal)| {
            (vec![("reason", refusal.label())], self.total(|worker| &worker.retries_refused[position]))
        });
        out.family(m::RETRIES_REFUSED, refused)?;
        out.single(m::RECORDS_DROPPED, self.total(|worker| &worker.records_dropped))
    }

    fn control(&self, out: &mut Output<'_, '_>) -> fmt::Result {
        let control = &self.control;
        for (metric, count) in [
            (m::LOG_LINES_DROPPED, &control.log_lines_dropped),
            (m::SPANS_EXPORTED, &control.spans_exported),
            (m::SPANS_DROPPED, &control.spans_dropped),
            (m::CERTIFICATES, &control.certificates),
            (m::CERTIFICATE_FAILURES, &control.certificate_failures),
            (m::SNAPSHOTS, &control.snapshots),
            (m::SNAPSHOT_WRITTEN, &control.snapshot_written),
            (m::POLICY_ACKNOWLEDGED, &control.acknowledged),
            (m::POLICY_REFUSED, &control.refused),
            (m::STREAM_FAILURES, &control.stream_failures),
            (m::SUBSCRIPTIONS, &control.subscriptions),
            (m::SUBSCRIPTIONS_REFUSED, &control.subscriptions_refused),
            (m::STATE_WRITTEN, &control.state_written),
            (m::STATE_FAILURES, &control.state_failures),
            (m::STATE_REFUSED, &control.state_refused),
        ] {
            out.single(metric, ControlCounters::get(count) as f64)?;
        }
        let credentials = Arc::clone(&self.credentials.borrow());
        let end = credentials.held.as_ref().map_or(0.0, |held| unix(held.not_after));
        out.single(m::CERTIFICATE_END, end)?;
        out.single(m::TRUST_ANCHORS, credentials.anchors.len() as f64)?;
        out.single(m::SNAPSHOT_REVISION, self.shared.load().revision as f64)?;
        let draining = *self.shared.draining.borrow();
        let ready = self.missing.borrow().is_empty() && !draining;
        out.single(m::READY, f64::from(u8::from(ready)))?;
        out.single(m::DRAINING, f64::from(u8::from(draining)))?;
        let events =
            [("ready", &control.became_ready), ("draining", &control.began_draining), ("drained", &control.drained)];
        let events = events.map(|(event, count)| (vec![("event", event)], ControlCounters::get(count) as f64));
        out.family(m::LIFECYCLE, events)?;
        out.family(m::BUILD, [(vec![("version", env!("CARGO_PKG_VERSION"))], 1.0)])
    }
}

fn unix(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// What the kernel says about this process; left out where it says nothing.
fn process(out: &mut Output<'_, '_>, started: SystemTime) -> fmt::Result {
    out.single(m::STARTED, unix(started))?;
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    if let Some(kilobytes) = field_of(&read("/proc/self/status"), "VmRSS:") {
        out.single(m::MEMORY, kilobytes * 1_024.0)?;
    }
    if let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") {
        // Listing them opens one more.
        out.single(m::DESCRIPTORS, descriptors.count().saturating_sub(1) as f64)?;
    }
    if let Some(seconds) = processor_seconds(&read("/proc/self/stat")) {
        out.single(m::CPU, seconds)?;
    }
    Ok(())
}

fn field_of(status: &str, name: &str) -> Option<f64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// User and system time (fields 14 and 15 of `/proc/self/stat`, proc(5)).
fn processor_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS)
}
