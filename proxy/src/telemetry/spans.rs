//! Spans of exchanges, sent to an OpenTelemetry collector over OTLP in bounded batches. Trace context itself is read and
//! written by the data path; here a finished record becomes a span.

use std::{borrow::Cow, collections::VecDeque, sync::Arc, time::Duration};

use mesh_core::outcome::Level;
use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks},
};

use super::{
    control::ControlCounters,
    worker::{Direction, Record, Trace},
};

/// Spans that wait to be sent; more are dropped and counted.
const SPAN_QUEUE: usize = 4_096;
/// Spans in one message.
const BATCH: usize = 512;
/// Longest time that a span waits for its batch.
pub const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// For one message, connection included.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes spans and sends them.
#[derive(Debug)]
pub struct Spans {
    exporter: SpanExporter,
    waiting: VecDeque<SpanData>,
    scope: InstrumentationScope,
    counters: Arc<ControlCounters>,
}

impl Spans {
    /// Connects when the first batch is sent. `service` is the `service.name` of the workload.
    ///
    /// # Errors
    /// When the endpoint is no address.
    pub fn new(
        endpoint: &str,
        service: String,
        pod: String,
        counters: Arc<ControlCounters>,
    ) -> Result<Self, ExporterBuildError> {
        let mut exporter =
            SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(EXPORT_TIMEOUT).build()?;
        let resource = Resource::builder_empty()
            .with_attributes([KeyValue::new("service.name", service), KeyValue::new("service.instance.id", pod)])
            .build();
        exporter.set_resource(&resource);
        let scope = InstrumentationScope::builder("mesh-proxy").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Spans { exporter, waiting: VecDeque::new(), scope, counters })
    }

    /// Takes a record in, if its exchange is sampled.
    pub fn take(&mut self, record: &Record) {
        let Some(trace) = &record.trace else { return };
        if self.waiting.len() >= SPAN_QUEUE {
            ControlCounters::add(&self.counters.spans_dropped);
            return;
        }
        let span = span(record, trace, self.scope.clone());
        self.waiting.push_back(span);
    }

    /// Whether a whole batch waits.
    pub fn is_batch_full(&self) -> bool {
        self.waiting.len() >= BATCH
    }

    /// Sends what waits, at most one batch. A batch that the collector does not take is dropped and counted.
    pub async fn flush(&mut self) {
        let batch: Vec<SpanData> = self.waiting.drain(..self.waiting.len().min(BATCH)).collect();
        if batch.is_empty() {
            return;
        }
        let count = batch.len() as u64;
        match tokio::time::timeout(EXPORT_TIMEOUT, self.exporter.export(batch)).await {
            Ok(Ok(())) => ControlCounters::add_many(&self.counters.spans_exported, count),
            Ok(Err(error)) => {
                ControlCounters::add_many(&self.counters.spans_dropped, count);
                tracing::debug!(%error, count, "spans not taken");
            }
            Err(_) => ControlCounters::add_many(&self.counters.spans_dropped, count),
        }
    }
}

fn span(record: &Record, trace: &Trace, scope: InstrumentationScope) -> SpanData {
    let context = SpanContext::new(
        TraceId::from_bytes(trace.trace_id),
        SpanId::from_bytes(trace.span),
        TraceFlags::SAMPLED,
        false,
        TraceState::default(),
    );
    let name = match record.method.as_str() {
        "" => Cow::Borrowed(record.protocol.label()),
        method => Cow::Owned(method.to_owned()),
    };
    SpanData {
        span_context: context,
        parent_span_id: SpanId::from_bytes(trace.parent),
        parent_span_is_remote: trace.parent != [0; 8],
        span_kind: match record.direction {
            Direction::Inbound => SpanKind::Server,
            Direction::Outbound => SpanKind::Client,
        },
        name,
        start_time: record.start,
        end_time: record.start + record.duration,
        attributes: attributes(record),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: match record.outcome.level() {
            Level::Debug if record.status >= 500 => Status::error(String::new()),
            Level::Debug => Status::Unset,
            Level::Info | Level::Warn => Status::error(record.outcome.label()),
        },
        instrumentation_scope: scope,
    }
}

/// Names of the OpenTelemetry semantic conventions where there is one, else with the prefix `mesh`.
fn attributes(record: &Record) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("mesh.direction", record.direction.label()),
        KeyValue::new("mesh.service", record.service.to_string()),
        KeyValue::new("mesh.outcome", record.outcome.label()),
        KeyValue::new("network.protocol.name", record.protocol.label()),
        KeyValue::new("client.address", record.client.ip().to_string()),
    ];
    let mut text = |name: &'static str, value: Option<String>| {
        attributes.extend(value.filter(|value| !value.is_empty()).map(|value| KeyValue::new(name, value)));
    };
    text("http.request.method", Some(record.method.clone()));
    text("server.address", Some(record.authority.clone()));
    text("url.path", Some(record.path.split('?').next().unwrap_or_default().to_owned()));
    text("mesh.lane", record.lane.clone());
    text("mesh.level", record.level.clone());
    text("mesh.reason", record.reason.map(str::to_owned));
    text("mesh.source", Some(record.source.to_owned()));
    text("mesh.peer", record.peer.clone());
    text("network.peer.address", record.endpoint.map(|endpoint| endpoint.to_string()));
    if record.status > 0 {
        attributes.push(KeyValue::new("http.response.status_code", i64::from(record.status)));
    }
    if record.attempts > 1 {
        attributes.push(KeyValue::new("http.request.resend_count", i64::from(record.attempts - 1)));
    }
    attributes
}
