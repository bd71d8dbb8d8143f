//! Settings of one proxy process, parsed and checked. `variables` is the table of them, `parse` reads the environment.

pub mod parse;
pub mod variables;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use mesh_core::{
    drain::{Limits, application::Mode},
    identity::Identity,
};
use serde::Serialize;

use crate::{application::Probe, telemetry::worker::AccessLog, worker::Notices};

/// What this process is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Beside one application.
    #[default]
    Sidecar,
    /// Entry from outside the mesh.
    Gateway,
}

impl Role {
    /// Name on the wire.
    pub fn label(self) -> &'static str {
        match self {
            Role::Sidecar => "sidecar",
            Role::Gateway => "gateway",
        }
    }
}

/// Whether lane labels that reach a gateway from outside are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum OutsideLanes {
    /// Removed.
    Strip,
    /// Kept, as if a mesh peer had sent them.
    Trust,
}

/// How a gateway takes calls from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Gateway {
    /// Lane labels from outside.
    pub outside_lanes: OutsideLanes,
    /// Proxies in front of it that are trusted to say where calls come from.
    pub forwarded_hops: usize,
    /// TLS from outside.
    pub tls: Option<OutsideTls>,
}

/// Where a gateway takes TLS from outside, and with which certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutsideTls {
    /// Listener.
    pub listen: SocketAddr,
    /// PEM file with the chain, leaf first.
    pub certificate_file: PathBuf,
    /// PEM file with the private key.
    pub key_file: PathBuf,
}

/// Every setting.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// What this process is for.
    pub role: Role,
    /// Identity to obtain a certificate for.
    pub identity: Identity,
    /// Name of the instance.
    pub pod: String,
    /// Namespace of the control plane.
    pub control_namespace: String,
    /// Where the control plane is.
    pub control: ControlPlane,
    /// PEM file with trust anchors.
    pub trust_bundle_file: Option<PathBuf>,
    /// Token of the workload.
    pub token_file: Option<PathBuf>,
    /// Last good snapshot and identity; `None` = not kept.
    pub state_directory: Option<PathBuf>,
    /// Outbound listener.
    pub outbound_listen: SocketAddr,
    /// Inbound listener.
    pub inbound_listen: SocketAddr,
    /// Admin listener.
    pub admin_listen: SocketAddr,
    /// Data workers, at least 1.
    pub workers: usize,
    /// Where the application is reached, if not at the original destination.
    pub application_address: Option<IpAddr>,
    /// Largest message head, bytes.
    pub header_limit: usize,
    /// Trace ids that a worker remembers at most.
    pub lane_table: usize,
    /// What happens after the order to stop.
    #[serde(serialize_with = "down_text")]
    pub down: Down,
    /// Filter of the log.
    pub log: String,
    /// Exchanges that the access log wants.
    #[serde(serialize_with = "access_log_label")]
    pub access_log: AccessLog,
    /// OpenTelemetry collector.
    pub otlp_endpoint: Option<String>,
    /// Share of exchanges without trace context that start a trace.
    pub trace_share: f64,
    /// What only a gateway needs.
    pub gateway: Gateway,
    /// Folder with the secrets that model routes name.
    pub secrets_directory: PathBuf,
    /// Bytes of requests to models that are held at most.
    pub model_buffer: usize,
    /// What this process may take of memory and connections.
    pub bounds: Bounds,
    /// Ports whose inbound policy is asked for at once.
    pub inbound_ports: Vec<u16>,
    /// How the application is asked whether it is ready; `None` = it is not.
    #[serde(serialize_with = "probe_text")]
    pub application_probe: Option<Probe>,
}

fn probe_text<S: serde::Serializer>(probe: &Option<Probe>, serializer: S) -> Result<S::Ok, S::Error> {
    match probe {
        Some(probe) => serializer.serialize_some(&format!("{probe:?}")),
        None => serializer.serialize_none(),
    }
}

/// What this process may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bounds {
    /// Bytes that it may ask for; `None` = by the limit of its control group.
    pub memory: Option<usize>,
    /// Connections of callers at each listener.
    pub connections: usize,
    /// Connections of one address.
    pub connections_per_peer: usize,
}

/// What happens after the order to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Down {
    /// How long its parts may take.
    pub limits: Limits,
    /// How callers are told.
    pub notices: Notices,
    /// How proxy and application are stopped.
    pub mode: Mode,
}

fn down_text<S: serde::Serializer>(down: &Down, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format!("{down:?}"))
}

fn access_log_label<S: serde::Serializer>(access_log: &AccessLog, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match access_log {
        AccessLog::Off => "off",
        AccessLog::Failures => "failures",
        AccessLog::All => "all",
    })
}

/// Where the services of the control plane are. One controller is all of them; Linkerd's are three.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlane {
    /// Destination.
    pub destination: ControlPeer,
    /// InboundServerPolicies and OutboundPolicies.
    pub policy: ControlPeer,
    /// Identity.
    pub identity: ControlPeer,
    /// `mesh.v1.MeshPolicy`; `None` under Linkerd's control plane.
    pub mesh: Option<ControlPeer>,
}

/// A service of the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlPeer {
    /// Tried in turn; at least one.
    pub addresses: Vec<ControlAddress>,
    /// Linkerd-style DNS name of the identity it must prove.
    pub server_name: String,
}

/// One address of the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlAddress {
    /// Host name or IP address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How it is spoken to.
    pub transport: ControlTransport,
}

/// How an address of the control plane is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ControlTransport {
    /// Mutual TLS.
    Tls,
    /// Nothing between; loopback only.
    Plaintext,
}
