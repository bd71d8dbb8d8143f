//! Programs of real tracing stacks that are links of a chain (`tests/apps/lanes`).

use mesh_tests::{process::Spec, programs};

use crate::link::Behaviour;

/// A framework and its tracing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stack {
    /// FastAPI and httpx under `opentelemetry-instrument`.
    FastApi,
    /// Flask and requests under `opentelemetry-instrument`.
    Flask,
    /// Express with `@opentelemetry/auto-instrumentations-node`.
    Express,
    /// net/http with otelhttp, over HTTP/1.1 and HTTP/2; gRPC with otelgrpc.
    Go,
    /// Flask and requests under SkyWalking's agent.
    SkyWalking,
    /// grpcio, client and server, under `opentelemetry-instrument`.
    GrpcPython,
    /// grpc-js, client and server, with `@opentelemetry/auto-instrumentations-node`.
    GrpcNode,
}

/// W3C trace context and baggage: what OpenTelemetry propagates unless it is told otherwise.
pub(crate) const W3C: &str = "tracecontext,baggage";
/// Without OpenTelemetry: frameworks alone, or under another agent.
pub(crate) const NONE: &str = "none";

impl Stack {
    /// The program, without its links.
    pub(crate) fn program(self, propagators: &str) -> Spec {
        let name = format!("{self:?}");
        let spec = match self {
            Stack::FastApi => python(name, "fastapi_link.py", propagators),
            Stack::Flask => python(name, "flask_link.py", propagators),
            Stack::Express => node(name, "link.js", propagators),
            Stack::Go => Spec::new(name, programs::go("lane-link")),
            Stack::SkyWalking => skywalking(name),
            Stack::GrpcPython => python(name, "grpc_link.py", propagators),
            Stack::GrpcNode => node(name, "grpc_link.js", propagators),
        };
        // Nothing is exported: there is no collector.
        ["OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER", "OTEL_NODE_RESOURCE_DETECTORS"]
            .into_iter()
            .fold(spec, |spec, name| spec.env(name, "none"))
            .env("OTEL_PROPAGATORS", propagators)
    }
}

fn python(name: String, file: &str, propagators: &str) -> Spec {
    let python = programs::opentelemetry_python();
    let spec = match propagators {
        NONE => Spec::new(name, python),
        _ => Spec::new(name, python.with_file_name("opentelemetry-instrument")).arg(python),
    };
    spec.arg(programs::app("lanes/python").join(file))
}

fn node(name: String, file: &str, propagators: &str) -> Spec {
    let link = programs::node_link().with_file_name(file);
    let spec = Spec::new(name, programs::system("node"));
    let spec = match propagators {
        NONE => spec,
        _ => spec.args(["--require", "@opentelemetry/auto-instrumentations-node/register"]),
    };
    // Where its modules are.
    spec.in_directory(link.parent().expect("a file lies in a folder")).arg(link)
}

/// The agent keeps trying to report to a port where nothing listens.
fn skywalking(name: String) -> Spec {
    let python = programs::skywalking_python();
    Spec::new(name, python.with_file_name("sw-python"))
        .arg("run")
        .arg(python)
        .arg(programs::app("lanes/python").join("flask_link.py"))
        .env("SW_AGENT_NAME", "link")
        .env("SW_AGENT_COLLECTOR_BACKEND_SERVICES", "127.0.0.1:1")
        .env("SW_AGENT_LOGGING_LEVEL", "CRITICAL")
}

/// A behaviour as the programs are told it.
pub(crate) fn word(behaviour: Behaviour) -> String {
    match behaviour {
        Behaviour::Now => "now".to_owned(),
        Behaviour::Slow(_) => panic!("no program of a stack thinks"),
        Behaviour::Late(after) => format!("late:{}", after.as_secs_f64()),
        Behaviour::Worker => "worker".to_owned(),
    }
}
