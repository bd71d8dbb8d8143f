//! A collector of traces: decodes what proxies send over OTLP and keeps it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::Span,
};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;

/// The collector.
#[derive(Clone, Debug, Default)]
pub struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let spans = request.into_inner().resource_spans.into_iter();
        let spans = spans.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).extend(spans);
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Listens at `address`; the task serves as long as the runtime lives.
    ///
    /// # Panics
    /// When it cannot.
    pub async fn start(address: SocketAddr) -> (Collector, JoinHandle<()>) {
        let collector = Collector::default();
        let listener = tokio::net::TcpListener::bind(address).await.expect("the collector's address is free");
        let service = TraceServiceServer::new(collector.clone());
        let serving = tokio::spawn(async move {
            let served = tonic::transport::Server::builder().add_service(service);
            served.serve_with_incoming(TcpListenerStream::new(listener)).await.expect("the collector serves");
        });
        (collector, serving)
    }

    /// What came of a trace, by its id in hexadecimal digits.
    pub fn of_trace(&self, trace: &str) -> Vec<Span> {
        let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        spans.iter().filter(|span| hex(&span.trace_id) == trace).cloned().collect()
    }
}

/// Hexadecimal digits of an id.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An attribute as text; values of a list are separated by commas. Empty where there is none.
pub fn attribute(span: &Span, name: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == name);
    found.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()).map_or_else(String::new, text)
}

fn text(value: &Value) -> String {
    match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        Value::BoolValue(is) => is.to_string(),
        Value::ArrayValue(list) => {
            let values = list.values.iter().filter_map(|one| one.value.as_ref());
            values.map(text).collect::<Vec<_>>().join(",")
        }
        other => format!("{other:?}"),
    }
}
