//! Names and numbers that appear on the wire, each once. Metrics and settings have tables of their own.

/// Port on which a sidecar takes its application's outbound calls.
pub const OUTBOUND_PORT: u16 = 4140;
/// Port on which a sidecar takes calls from mesh peers and captured inbound connections.
pub const INBOUND_PORT: u16 = 4143;
/// Port of `/ready`, `/live`, `/metrics` and, from loopback only, the rest of the admin interface.
pub const ADMIN_PORT: u16 = 4191;
/// gRPC port of the controller (mutual TLS).
pub const CONTROLLER_PORT: u16 = 8086;
/// Admin port of the controller (loopback only except `/ready`, `/live`, `/metrics`).
pub const CONTROLLER_ADMIN_PORT: u16 = 8084;

/// ALPN of a connection between sidecars that starts with the transport header.
pub const TRANSPORT_ALPN: &[u8] = b"transport.l5d.io/v1";
/// First bytes of such a connection inside TLS, before the length of the transport header.
pub const TRANSPORT_PREFACE: &[u8] = b"transport.l5d.io/v1\r\n\r\n";

/// API group and version of every resource.
pub const API_VERSION: &str = "lanemesh.io/v1alpha1";
/// Audience that a workload token must carry.
pub const TOKEN_AUDIENCE: &str = "lanemesh.io";
/// Trust domain when none is configured.
pub const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";
/// Domain of service names when none is configured.
pub const DEFAULT_CLUSTER_DOMAIN: &str = "cluster.local";
/// Namespace of the control plane when none is configured; part of every Linkerd-style identity name.
pub const DEFAULT_CONTROL_NAMESPACE: &str = "lanemesh";
/// Namespace of a resource or endpoint that names none.
pub const DEFAULT_NAMESPACE: &str = "default";
/// Service account of the controller itself.
pub const CONTROLLER_SERVICE_ACCOUNT: &str = "lanemesh-controller";

/// Label or metadata key of an instance whose value is its lane mark.
pub const LANE_LABEL: &str = "lanemesh.io/lane";
/// Carrier header of a lane, unless the group says otherwise.
pub const LANE_HEADER: &str = "x-mesh-lane";
/// Baggage member of a lane, unless the group says otherwise.
pub const LANE_BAGGAGE_KEY: &str = "mesh-lane";
/// Names of the lane groups, separated by commas, for which the sending proxy has decided that the request, which carries
/// no label, is baseline: an entry behind it does not decide again. Between proxies only.
pub const DECIDED_HEADER: &str = "x-mesh-decided";
/// Standard header that carries baggage members (W3C Baggage).
pub const BAGGAGE_HEADER: &str = "baggage";
/// Longest baggage header that is written, bytes (W3C Baggage 3.3.2).
pub const BAGGAGE_MAX_BYTES: usize = 8_192;
/// Response header by which a draining sidecar tells mesh peers.
pub const DRAINING_HEADER: &str = "x-mesh-draining";
/// Response header that names the outcome of a response which the mesh made itself.
pub const ERROR_HEADER: &str = "x-mesh-error";
/// Request header by which a permitted caller forces failures of targets of a model route, for drills.
pub const MODEL_FAULT_HEADER: &str = "x-mesh-model-fault";
/// Identity of the calling workload, told to the application by its inbound sidecar.
pub const CLIENT_ID_HEADER: &str = "l5d-client-id";
/// Envoy's and Istio's spelling of the caller's identity; always stripped.
pub const FORWARDED_CLIENT_CERT_HEADER: &str = "x-forwarded-client-cert";
/// HTTP/1 carried over HTTP/2 between sidecars.
pub const ORIG_PROTO_HEADER: &str = "l5d-orig-proto";
/// Linkerd's spelling of an error made by the proxy.
pub const PROXY_ERROR_HEADER: &str = "l5d-proxy-error";
/// Linkerd's order to close the connection (value `close`).
pub const PROXY_CONNECTION_HEADER: &str = "l5d-proxy-connection";

/// Names of `metric_labels` that carry what the Linkerd API has no field for.
pub mod labels {
    /// Lanes of an endpoint: `<group>/<lane>`, several separated by commas.
    pub const LANE: &str = "lane";
    /// Zone of an endpoint.
    pub const ZONE: &str = "zone";
    /// Unix seconds since when an endpoint is ready.
    pub const READY_SINCE: &str = "ready_since";
    /// `true` while an endpoint drains.
    pub const DRAINING: &str = "draining";
    /// `false` while the registry of an endpoint does not believe it healthy.
    pub const HEALTHY: &str = "healthy";
    /// Revision of the source that published an endpoint.
    pub const REVISION: &str = "revision";
    /// Service of an address set, `<name>.<namespace>`.
    pub const SERVICE: &str = "service";
}
