//! Every setting of the proxy, one row each: name, unit, default, sentence. The reference page and `mesh-proxy settings`
//! are made from this table; `parse` reads by it.

use std::fmt::Write as _;

/// A setting, read from the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Name in the environment.
    pub name: &'static str,
    /// Unit or form of the value.
    pub unit: &'static str,
    /// Text that stands where nothing is set; empty = none.
    pub default: &'static str,
    /// What it does.
    pub sentence: &'static str,
}

macro_rules! variables {
    ($($id:ident = $name:literal, $unit:literal, $default:literal, $sentence:literal;)+) => {
        $(#[doc = $sentence] pub const $id: Variable =
            Variable { name: $name, unit: $unit, default: $default, sentence: $sentence };)+

        /// Every setting, in the order of the reference page.
        pub const ALL: &[Variable] = &[$($id),+];
    };
}

variables! {
    NAMESPACE = "LANEMESH_NAMESPACE", "name", "default", "Namespace of the workload.";
    POD = "LANEMESH_POD", "name", "",
        "Name by which the controller knows this instance; the host name where nothing is set.";
    SERVICE_ACCOUNT = "LANEMESH_SERVICE_ACCOUNT", "name", "default",
        "Service account of the workload; with the namespace it is the identity in the certificate.";
    TRUST_DOMAIN = "LANEMESH_TRUST_DOMAIN", "domain", "cluster.local", "Trust domain of the mesh.";
    CONTROL_NAMESPACE = "LANEMESH_CONTROL_NAMESPACE", "name", "lanemesh",
        "Namespace of the control plane; part of every identity's DNS name.";
    CONTROLLER_ADDRESS = "LANEMESH_CONTROLLER_ADDRESS", "host:port, …", "",
        "Addresses of controllers, tried in turn. A loopback address may be written http://host:port, which is plaintext.";
    TRUST_BUNDLE_FILE = "LANEMESH_TRUST_BUNDLE_FILE", "path", "",
        "PEM file with the trust anchors to begin with; the controller may replace them while the proxy runs.";
    TOKEN_FILE = "LANEMESH_TOKEN_FILE", "path", "",
        "File with the token that proves the workload's identity; read again for every certificate.";
    STATE_DIRECTORY = "LANEMESH_STATE_DIRECTORY", "path", "",
        "Directory for the last good snapshot and the identity, so that a restart needs no controller; nothing is kept where nothing is set.";
    OUTBOUND_LISTEN = "LANEMESH_OUTBOUND_LISTEN", "address:port", "127.0.0.1:4140",
        "Where the application's outbound connections are taken.";
    INBOUND_LISTEN = "LANEMESH_INBOUND_LISTEN", "address:port", "0.0.0.0:4143",
        "Where mesh peers and captured inbound connections are taken.";
    ADMIN_LISTEN = "LANEMESH_ADMIN_LISTEN", "address:port", "0.0.0.0:4191",
        "Where /ready, /live and /metrics are served, and the rest of the admin interface to loopback clients.";
    WORKERS = "LANEMESH_WORKERS", "count, 1 to 64", "",
        "Data workers; from the CPU quota of the control group where nothing is set, 1 without quota.";
    APPLICATION_ADDRESS = "LANEMESH_APPLICATION_ADDRESS", "IP address", "",
        "Where the application is reached; the original destination, or the local address of a connection that was not captured, where nothing is set.";
    HEADER_LIMIT = "LANEMESH_HEADER_LIMIT", "bytes, 1024 to 1048576", "65536",
        "Largest request or response head; more is answered 431 or 502.";
    LANE_TABLE = "LANEMESH_LANE_TABLE", "count, 1000 to 10000000", "100000",
        "Trace ids of lanes that a worker remembers at most, 72 bytes each; beyond it the least recently used is forgotten.";
    APPLICATION_PROBE = "LANEMESH_APPLICATION_PROBE", "http://:PORT/PATH | grpc://:PORT[/SERVICE] | tcp://:PORT | exec:PROGRAM ARGUMENTS", "",
        "How the application is asked, every second, whether it is ready; /ready waits for it, and turns false after three failures. Not asked where nothing is set.";
    TERMINATION_GRACE = "LANEMESH_TERMINATION_GRACE", "duration, up to 1h", "30s",
        "Time from the order to stop to the moment at which the process would be killed (terminationGracePeriodSeconds); it ends 2s before.";
    DRAIN_FLOOR = "LANEMESH_DRAIN_FLOOR", "duration, up to 1h", "5s",
        "How long new exchanges are taken in any case after the order to stop, so that the news reaches every caller.";
    DRAIN_WINDOW = "LANEMESH_DRAIN_WINDOW", "duration, up to 1h", "5s",
        "Over how long connections of callers are ended after the order to stop, so that they do not all come elsewhere at once; a quarter of the grace at most.";
    STREAM_DEADLINE = "LANEMESH_STREAM_DEADLINE", "duration, up to 1h", "20s",
        "Time from the order to stop to the moment at which event streams and gRPC streams that still go on are ended.";
    DRAIN_NOTICES = "LANEMESH_DRAIN_NOTICES", "marker | close | controller, …", "marker,close,controller",
        "How callers are told of the order to stop: by a field of responses to mesh peers, by Connection: close and GOAWAY, by the controller.";
    SIDECAR_MODE = "LANEMESH_SIDECAR_MODE", "classic | native", "classic",
        "Whether the proxy ends by itself when its application has ended, or is told by a signal after that (Kubernetes: an init container with restartPolicy Always).";
    LOG = "LANEMESH_LOG", "filter", "warn,h2=error,mesh_proxy=info",
        "What is logged to standard error, as level or target=level, several by comma.";
    ACCESS_LOG = "LANEMESH_ACCESS_LOG", "off | failures | all", "failures",
        "Which exchanges are written as JSON lines to standard output.";
    OTLP_ENDPOINT = "LANEMESH_OTLP_ENDPOINT", "http://host:port", "",
        "OpenTelemetry collector (OTLP over gRPC) that receives spans; none are made where nothing is set.";
    TRACE_SHARE = "LANEMESH_TRACE_SHARE", "share, 0 to 1", "0",
        "Share of the exchanges without trace context that start a trace; sampled callers are always followed.";
    LINKERD_DESTINATION_ADDRESS = "LINKERD2_PROXY_DESTINATION_SVC_ADDR", "host:port", "",
        "Linkerd's destination controller, instead of a Lanemesh controller.";
    LINKERD_DESTINATION_NAME = "LINKERD2_PROXY_DESTINATION_SVC_NAME", "identity", "", "Identity it must prove.";
    LINKERD_POLICY_ADDRESS = "LINKERD2_PROXY_POLICY_SVC_ADDR", "host:port", "", "Linkerd's policy controller.";
    LINKERD_POLICY_NAME = "LINKERD2_PROXY_POLICY_SVC_NAME", "identity", "", "Identity it must prove.";
    LINKERD_IDENTITY_ADDRESS = "LINKERD2_PROXY_IDENTITY_SVC_ADDR", "host:port", "", "Linkerd's identity controller.";
    LINKERD_IDENTITY_NAME = "LINKERD2_PROXY_IDENTITY_SVC_NAME", "identity", "", "Identity it must prove.";
    OUTSIDE_LANES = "LANEMESH_OUTSIDE_LANES", "strip | trust", "strip",
        "What a gateway does with lane labels that come from outside the mesh.";
    TLS_LISTEN = "LANEMESH_TLS_LISTEN", "address:port", "",
        "Where a gateway takes TLS from outside (1.2 and 1.3; HTTP/2 and HTTP/1.1), besides plaintext at LANEMESH_OUTBOUND_LISTEN; no TLS where nothing is set.";
    TLS_CERTIFICATE_FILE = "LANEMESH_TLS_CERTIFICATE_FILE", "path", "",
        "PEM file with the certificate chain of a gateway toward outside, leaf first; taken over when it changes, the last good one stays.";
    TLS_KEY_FILE = "LANEMESH_TLS_KEY_FILE", "path", "",
        "PEM file with the private key of that certificate (PKCS#8, PKCS#1 or SEC1); taken over when it changes.";
    FORWARDED_HOPS = "LANEMESH_FORWARDED_HOPS", "count, 0 to 16", "0",
        "Proxies in front of a gateway that are trusted to append the caller's address to X-Forwarded-For; it is what sourceIP means to lanes.";
    SECRETS_DIRECTORY = "LANEMESH_SECRETS_DIRECTORY", "path", "/var/run/secrets/lanemesh.io/models",
        "Folder with the secrets that model routes name, each a folder with one file per key, as Kubernetes mounts them.";
    MODEL_BUFFER = "LANEMESH_MODEL_BUFFER", "bytes, 1048576 to 17179869184", "268435456",
        "Bytes of requests to models that are held, all together, so that another target can get them too; what finds no room is passed on to one target.";
    MEMORY_BUDGET = "LANEMESH_MEMORY_BUDGET", "bytes, 16777216 to 1099511627776", "",
        "Memory that the process may ask for; close to it slow clients are given up, beyond it new exchanges are answered 503. Where nothing is set, 50 % of what the control group's limit leaves beside the program, or 1073741824 without a limit.";
    CONNECTIONS = "LANEMESH_CONNECTIONS", "count, 16 to 1048576", "16384",
        "Connections of callers that each listener has at the same time, as far as the process may have so many descriptors; for further ones those are ended that waited longest.";
    CONNECTIONS_PER_PEER = "LANEMESH_CONNECTIONS_PER_PEER", "count, 1 to 1048576", "4096",
        "Connections that one address has at the same time; the application of this pod may have more.";
    INBOUND_PORTS = "LANEMESH_INBOUND_PORTS", "port, …", "",
        "Application ports whose policy is asked for before the first connection; the controller's list is added.";
}

/// Prefix of our own settings; an unknown name with it is an error.
pub const PREFIX: &str = "LANEMESH_";

/// Parts of names with our prefix that others set: settings of the controller in a shared environment, and what
/// Kubernetes tells every container about Services whose name begins like ours.
pub const FOREIGN: &[&str] = &["LANEMESH_CONTROLLER_", "_SERVICE_HOST", "_SERVICE_PORT", "_PORT_"];

/// The reference page, Markdown.
pub fn reference() -> String {
    let mut page = String::from(
        "# Settings of the proxy\n\n\
         Read from the environment by `mesh-proxy`. Made by `mesh-proxy settings --markdown`; do not edit.\n\n\
         | name | value | default | meaning |\n|---|---|---|---|\n",
    );
    for variable in ALL {
        let Variable { name, unit, default, sentence } = variable;
        let default = if default.is_empty() { "none".to_owned() } else { format!("`{default}`") };
        let unit = unit.replace('|', "\\|");
        writeln!(page, "| `{name}` | {unit} | {default} | {sentence} |").expect("a String takes any text");
    }
    page
}

/// The table for a terminal.
pub fn table() -> String {
    let mut text = String::new();
    for Variable { name, unit, default, sentence } in ALL {
        let default = if default.is_empty() { String::new() } else { format!(" [default: {default}]") };
        writeln!(text, "{name}  <{unit}>{default}\n    {sentence}").expect("a String takes any text");
    }
    text
}
