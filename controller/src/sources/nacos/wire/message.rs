//! The JSON inside the envelopes, as far as we use it. Names are those of Nacos' classes and fields.
//!
//! What comes from a server is read leniently, see [`lenient`](super::lenient): absent fields have defaults, unknown ones
//! are skipped.

use std::collections::BTreeMap;

use mesh_core::discovery::nacos::{Host, Listing, Name, list::DEFAULT_CLUSTER};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    Instance,
    lenient::{Entries, Flag, Real, Text, Whole, skipped},
};

/// Between group and service in a grouped name.
const SEPARATOR: &str = "@@";

/// A request and its response.
pub(super) trait Request: Serialize {
    /// Name of the request's class.
    const CLASS: &'static str;
    /// Part of Nacos that it is for.
    const MODULE: &'static str;
    /// What comes back.
    type Response: DeserializeOwned;
}

/// A request as it is sent.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sent<'r, R> {
    pub(super) request_id: String,
    pub(super) module: &'static str,
    pub(super) headers: BTreeMap<String, String>,
    #[serde(flatten)]
    pub(super) request: &'r R,
}

/// What every response begins with.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Head {
    pub(super) result_code: Whole,
    pub(super) error_code: Whole,
    pub(super) message: Text,
    pub(super) request_id: Text,
}

/// A response that says no more than that it went well.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Done {}

/// Asks a server whether it serves, and for the id of the connection.
#[derive(Serialize)]
pub(super) struct ServerCheck {}

impl Request for ServerCheck {
    const CLASS: &'static str = "ServerCheckRequest";
    const MODULE: &'static str = "internal";
    type Response = ServerChecked;
}

/// A server that serves.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ServerChecked {
    pub(super) connection_id: Text,
}

/// Asks whether server and connection live.
#[derive(Serialize)]
pub(super) struct HealthCheck {}

impl Request for HealthCheck {
    const CLASS: &'static str = "HealthCheckRequest";
    const MODULE: &'static str = "internal";
    type Response = Done;
}

/// Makes the stream a connection; it is not answered unless abilities are negotiated, which we do not ask for.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConnectionSetup<'a> {
    pub(super) client_version: &'a str,
    pub(super) tenant: &'a str,
    pub(super) labels: BTreeMap<&'a str, &'a str>,
    pub(super) abilities: BTreeMap<&'a str, BTreeMap<&'a str, bool>>,
}

impl Request for ConnectionSetup<'_> {
    const CLASS: &'static str = "ConnectionSetupRequest";
    const MODULE: &'static str = "internal";
    type Response = Done;
}

/// A service, as requests about it name it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Service<'a> {
    namespace: &'a str,
    group_name: &'a str,
    service_name: &'a str,
}

impl<'a> From<&'a Name> for Service<'a> {
    fn from(name: &'a Name) -> Self {
        Service { namespace: name.namespace(), group_name: name.group(), service_name: name.service() }
    }
}

/// Begins or ends to be told of a service.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Subscribe<'a> {
    #[serde(flatten)]
    pub(super) service: Service<'a>,
    pub(super) subscribe: bool,
    pub(super) clusters: &'a str,
}

impl Request for Subscribe<'_> {
    const CLASS: &'static str = "SubscribeServiceRequest";
    const MODULE: &'static str = "naming";
    type Response = Listed;
}

/// Asks for a service once.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Query<'a> {
    #[serde(flatten)]
    pub(super) service: Service<'a>,
    pub(super) cluster: &'a str,
    pub(super) healthy_only: bool,
    pub(super) udp_port: u16,
}

impl Request for Query<'_> {
    const CLASS: &'static str = "ServiceQueryRequest";
    const MODULE: &'static str = "naming";
    type Response = Listed;
}

/// A response, or a push of a server, that has a service in it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Listed {
    pub(super) service_info: Option<ServiceInfo>,
}

/// Asks for the names of the services of a group.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceList<'a> {
    #[serde(flatten)]
    pub(super) group: Service<'a>,
    pub(super) page_no: u32,
    pub(super) page_size: u32,
    pub(super) selector: &'a str,
}

impl Request for ServiceList<'_> {
    const CLASS: &'static str = "ServiceListRequest";
    const MODULE: &'static str = "naming";
    type Response = ServicesListed;
}

/// One page of names.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ServicesListed {
    pub(super) count: Whole,
    pub(super) service_names: Option<Vec<Text>>,
}

impl ServicesListed {
    /// The names without their group.
    pub(super) fn names(self) -> impl Iterator<Item = String> {
        let plain = |name: Text| match name.0.split_once(SEPARATOR) {
            Some((_, service)) => service.to_owned(),
            None => name.0,
        };
        self.service_names.unwrap_or_default().into_iter().map(plain)
    }
}

/// Registers an instance, or takes it back.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InstanceChange<'a> {
    #[serde(flatten)]
    pub(super) service: Service<'a>,
    pub(super) r#type: &'a str,
    pub(super) instance: &'a Instance,
}

impl Request for InstanceChange<'_> {
    const CLASS: &'static str = "InstanceRequest";
    const MODULE: &'static str = "naming";
    type Response = Done;
}

/// Says which instances of a service this connection has, all of them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Instances<'a> {
    #[serde(flatten)]
    pub(super) service: Service<'a>,
    pub(super) r#type: &'a str,
    pub(super) instances: &'a [Instance],
}

impl Request for Instances<'_> {
    const CLASS: &'static str = "BatchInstanceRequest";
    const MODULE: &'static str = "naming";
    type Response = Done;
}

/// A configuration, as requests about it name it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConfigQuery<'a> {
    pub(super) data_id: &'a str,
    pub(super) group: &'a str,
    pub(super) tenant: &'a str,
}

impl Request for ConfigQuery<'_> {
    const CLASS: &'static str = "ConfigQueryRequest";
    const MODULE: &'static str = "config";
    type Response = ConfigQueried;
}

/// A configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ConfigQueried {
    pub(super) content: Text,
    pub(super) content_type: Text,
    pub(super) md5: Text,
}

/// Begins or ends to be told of configurations.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Listen<'a> {
    pub(super) listen: bool,
    pub(super) config_listen_contexts: Vec<Listened<'a>>,
}

/// A configuration, and what of it is known; the empty text where it is not.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Listened<'a> {
    pub(super) data_id: &'a str,
    pub(super) group: &'a str,
    pub(super) tenant: &'a str,
    pub(super) md5: &'a str,
}

impl Request for Listen<'_> {
    const CLASS: &'static str = "ConfigBatchListenRequest";
    const MODULE: &'static str = "config";
    type Response = ListenChanged;
}

/// Configurations that differ from what is known.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ListenChanged {
    pub(super) changed_configs: Option<Vec<ConfigChanged>>,
}

/// A configuration that changed.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ConfigChanged {
    pub(super) data_id: Text,
    pub(super) group: Text,
}

/// Sends a client to another server.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ConnectReset {
    pub(super) server_ip: Text,
    pub(super) server_port: Text,
}

/// Our answer to a request of a server.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Acknowledged<'a> {
    pub(super) result_code: u16,
    pub(super) error_code: u16,
    pub(super) request_id: &'a str,
    pub(super) success: bool,
}

/// A service with its instances.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ServiceInfo {
    name: Text,
    group_name: Text,
    last_ref_time: Whole,
    reach_protection_threshold: Flag<false>,
    #[serde(deserialize_with = "skipped")]
    hosts: Vec<ServiceHost>,
}

/// An instance. What is absent is as a client that registers without saying it has it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceHost {
    #[serde(default)]
    ip: Text,
    #[serde(default)]
    port: Whole,
    #[serde(default)]
    weight: Real<1>,
    #[serde(default)]
    healthy: Flag<true>,
    #[serde(default)]
    enabled: Flag<true>,
    #[serde(default)]
    ephemeral: Flag<true>,
    #[serde(default)]
    cluster_name: Text,
    #[serde(default)]
    metadata: Entries,
}

impl ServiceInfo {
    /// The service in the terms of the mesh. Servers leave the group in the name, or give it apart.
    pub(super) fn listing(self, namespace: &str) -> Listing {
        let name = match self.name.0.split_once(SEPARATOR) {
            Some((group, service)) => Name::new(namespace, group, service),
            None => Name::new(namespace, &self.group_name.0, &self.name.0),
        };
        Listing {
            name,
            hosts: self.hosts.into_iter().map(Host::from).collect(),
            last_ref_time: self.last_ref_time.0,
            reach_protection: self.reach_protection_threshold.0,
        }
    }
}

impl From<ServiceHost> for Host {
    fn from(host: ServiceHost) -> Self {
        Host {
            ip: host.ip.0,
            port: host.port.0,
            weight: host.weight.0,
            healthy: host.healthy.0,
            enabled: host.enabled.0,
            ephemeral: host.ephemeral.0,
            cluster: if host.cluster_name.0.is_empty() { DEFAULT_CLUSTER.to_owned() } else { host.cluster_name.0 },
            metadata: host.metadata.0,
        }
    }
}
