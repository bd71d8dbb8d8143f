//! Spans of exchanges, sent to an OpenTelemetry collector over OTLP in bounded batches. Trace context itself is read and
//! written by the data path; here a finished record becomes a span.

use std::{borrow::Cow, collections::VecDeque, sync::Arc, time::Duration};

use mesh_core::outcome::Level;
use opentelemetry::{
    Array, InstrumentationScope, KeyValue, SpanId, StringValue, TraceFlags, TraceId, Value,
    trace::{SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks},
};

use super::{
    control::ControlCounters,
    model_call::{ModelCall, Part},
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
    SpanData {
        span_context: context,
        parent_span_id: SpanId::from_bytes(trace.parent),
        parent_span_is_remote: trace.parent != [0; 8],
        span_kind: match record.direction {
            Direction::Inbound => SpanKind::Server,
            Direction::Outbound => SpanKind::Client,
        },
        name: name(record),
        start_time: record.start,
        end_time: record.start + record.duration,
        attributes: attributes(record),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: status(record),
        instrumentation_scope: scope,
    }
}

/// A call to a model is named as the conventions for generative AI want it; its attempts are requests like others.
fn name(record: &Record) -> Cow<'static, str> {
    match (record.model.as_deref(), record.method.as_str()) {
        (Some(ModelCall { part: Part::Call { .. }, operation, model, .. }), _) if model.is_empty() => {
            Cow::Borrowed(operation)
        }
        (Some(ModelCall { part: Part::Call { .. }, operation, model, .. }), _) => {
            Cow::Owned(format!("{operation} {model}"))
        }
        (Some(_) | None, "") => Cow::Borrowed(record.protocol.label()),
        (Some(_) | None, method) => Cow::Owned(method.to_owned()),
    }
}

fn status(record: &Record) -> Status {
    if let Some(error) = record.model.as_ref().and_then(|call| call.error_type()) {
        return Status::error(error);
    }
    match record.outcome.level() {
        Level::Debug if record.status >= 500 => Status::error(String::new()),
        Level::Debug => Status::Unset,
        Level::Info | Level::Warn => Status::error(record.outcome.label()),
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
    if let Some(call) = &record.model {
        of_model(record, call, &mut attributes);
    }
    attributes
}

/// What a call to a model adds. `gen_ai.*` stands on the call alone: who adds up tokens over spans would count those of its
/// attempts twice.
fn of_model(record: &Record, call: &ModelCall, attributes: &mut Vec<KeyValue>) {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let mut add = |name: &'static str, value: Value| attributes.push(KeyValue::new(name, value));
    if let Some(asked) = &call.asked {
        add("mesh.model.target", asked.target.clone().into());
    }
    if let Some((_, source)) = call.usage {
        add("mesh.model.usage_source", source.as_str().into());
    }
    if let Some(first_token) = call.first_token {
        add("mesh.model.first_token_seconds", first_token.as_secs_f64().into());
    }
    let unordinary = (record.outcome.level() > Level::Debug).then(|| record.outcome.label());
    if let Some(error) = call.error_type().or(unordinary) {
        add("error.type", error.into());
    }
    match &call.part {
        Part::Call { reasons, overhead, .. } => {
            add("gen_ai.operation.name", call.operation.into());
            if !call.model.is_empty() {
                add("gen_ai.request.model", call.model.clone().into());
            }
            if let Some(asked) = &call.asked {
                add("gen_ai.provider.name", asked.provider.convention_name().into());
                add("gen_ai.response.model", asked.model.clone().into());
            }
            if let Some((usage, _)) = call.usage {
                add("gen_ai.usage.input_tokens", number(usage.input).into());
                add("gen_ai.usage.output_tokens", number(usage.output).into());
                add("gen_ai.usage.cache_read.input_tokens", number(usage.cached).into());
            }
            add("mesh.model.attempts", i64::from(record.attempts).into());
            if !reasons.is_empty() {
                let words = reasons.iter().map(|reason| StringValue::from(reason.as_str())).collect();
                add("mesh.model.fallback.reasons", Value::Array(Array::String(words)));
            }
            if let Some(overhead) = overhead {
                add("mesh.model.overhead_seconds", overhead.as_secs_f64().into());
            }
        }
        Part::Attempt { number: place, .. } => {
            add("mesh.model.attempt", number(*place as u64).into());
            if let Some(asked) = &call.asked {
                add("mesh.model.name", asked.model.clone().into());
                add("mesh.model.provider", asked.provider.convention_name().into());
            }
            if let Some((usage, _)) = call.usage {
                add("mesh.model.input_tokens", number(usage.input).into());
                add("mesh.model.output_tokens", number(usage.output).into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_core::outcome::Outcome;

    use super::*;
    use crate::telemetry::access_log::tests::{attempt, call, record};

    fn made(model: Option<ModelCall>, outcome: Outcome) -> SpanData {
        let record = Record { model: model.map(Box::new), attempts: 3, ..record(outcome) };
        let trace = record.trace.expect("it is sampled");
        span(&record, &trace, InstrumentationScope::default())
    }

    fn value(span: &SpanData, name: &str) -> Option<String> {
        let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == name);
        found.map(|attribute| attribute.value.to_string())
    }

    #[test]
    fn call_of_a_model_is_a_span_of_the_conventions_for_generative_ai() {
        let span = made(Some(call()), Outcome::Success);
        assert_eq!((span.name.as_ref(), &span.status), ("chat chat-large", &Status::Unset));
        for (name, expected) in [
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", "gcp.gemini"),
            ("gen_ai.request.model", "chat-large"),
            ("gen_ai.response.model", "gemini-pro"),
            ("gen_ai.usage.input_tokens", "30"),
            ("gen_ai.usage.output_tokens", "4"),
            ("gen_ai.usage.cache_read.input_tokens", "8"),
            ("mesh.model.target", "big"),
            ("mesh.model.attempts", "3"),
            ("mesh.model.fallback.reasons", "[\"rate\",\"timeout_first_token\"]"),
            ("mesh.model.usage_source", "reported"),
            ("mesh.model.overhead_seconds", "0.012"),
        ] {
            assert_eq!(value(&span, name).as_deref(), Some(expected), "{name}");
        }
        assert_eq!(value(&span, "error.type"), None);
    }

    #[test]
    fn attempt_is_a_request_that_says_why_it_failed_and_counts_no_tokens_twice() {
        let span = made(Some(attempt()), Outcome::Success);
        assert_eq!((span.name.as_ref(), &span.status), ("GET", &Status::error("rate")));
        assert_eq!(value(&span, "error.type").as_deref(), Some("rate"));
        assert_eq!(value(&span, "mesh.model.attempt").as_deref(), Some("1"));
        assert!(span.attributes.iter().all(|attribute| !attribute.key.as_str().starts_with("gen_ai.")));
    }

    #[test]
    fn client_that_left_is_the_error_of_its_call() {
        let span = made(Some(call()), Outcome::ClientGone);
        assert_eq!(value(&span, "error.type").as_deref(), Some("client_gone"));
        assert_eq!(value(&made(None, Outcome::ClientGone), "error.type"), None);
    }
}
