//! Kind `AccessPolicy`: who may call which ports and routes of a service, or of a whole namespace.

use ipnet::IpNet;

use super::{
    http_route,
    node::{Node, Object},
    reference::service_label,
};
use crate::model::{policy::Network, route::RouteMatch};

/// What an access policy says.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessPolicy {
    /// Service that it is for, `<name>.<namespace>`; `None` = every service of the namespace that has none of its own.
    pub service: Option<String>,
    /// Ports of the service that it is for; empty = all.
    pub ports: Vec<u16>,
    /// Whether plaintext is taken.
    pub mode: Mode,
    /// Who may call; `None` = everybody whom the mode lets in.
    pub allow: Option<Vec<Allow>>,
    /// Routes with callers of their own.
    pub routes: Vec<Route>,
}

/// Whether plaintext is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Mesh identities only.
    #[default]
    Strict,
    /// Plaintext too.
    Permissive,
}

/// One permission. Its parts say who (any of them), its networks from where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// Identities, SPIFFE or Linkerd style.
    pub identities: Vec<String>,
    /// Service accounts, as (namespace, name).
    pub service_accounts: Vec<(String, String)>,
    /// Every account of these namespaces.
    pub namespaces: Vec<String>,
    /// From here; empty = from anywhere.
    pub networks: Vec<Network>,
    /// Nothing has to be proven.
    pub plaintext: bool,
}

/// A route with callers of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Name, for metrics and logs.
    pub name: String,
    /// Any of these conditions; empty = every request.
    pub matches: Vec<RouteMatch>,
    /// Who may call.
    pub allow: Vec<Allow>,
}

const MODES: &[(&str, Mode)] = &[("strict", Mode::Strict), ("permissive", Mode::Permissive)];

/// Reads the specification.
pub(super) fn read(spec: &Node<'_>, namespace: &str) -> Option<AccessPolicy> {
    let spec = spec.object(&["service", "ports", "mode", "allow", "routes"])?;
    let service = spec.get("service").and_then(|node| service_label(&node, namespace));
    if spec.get("ports").is_some() && spec.get("service").is_none() {
        spec.problem("ports", "has no meaning without service".to_owned());
    }
    let mode = spec.get("mode").and_then(|node| node.choice(MODES)).unwrap_or_default();
    if mode == Mode::Permissive && spec.get("allow").is_some() {
        spec.problem("allow", "has no meaning with mode: permissive, which lets everybody in".to_owned());
    }
    Some(AccessPolicy {
        service,
        ports: spec.list("ports").iter().filter_map(Node::port).collect(),
        mode,
        allow: spec.get("allow").map(|_| permissions(&spec, namespace)),
        routes: spec.list("routes").iter().filter_map(|node| route(node, namespace)).collect(),
    })
}

fn permissions(object: &Object<'_>, namespace: &str) -> Vec<Allow> {
    object.list("allow").iter().filter_map(|node| permission(node, namespace)).collect()
}

fn permission(node: &Node<'_>, namespace: &str) -> Option<Allow> {
    let object = node.object(&["identities", "serviceAccounts", "namespaces", "networks", "plaintext"])?;
    let plaintext = object.get("plaintext").and_then(|node| node.boolean()).unwrap_or(false);
    let named = ["identities", "serviceAccounts", "namespaces"].into_iter().find(|key| object.get(key).is_some());
    if let (true, Some(named)) = (plaintext, named) {
        object.problem(named, "has no meaning with plaintext: true, which asks for no proof".to_owned());
    }
    Some(Allow {
        identities: object.list("identities").iter().filter_map(Node::identity).collect(),
        service_accounts: object.list("serviceAccounts").iter().filter_map(|node| account(node, namespace)).collect(),
        namespaces: object.list("namespaces").iter().filter_map(Node::dns_label).collect(),
        networks: object.list("networks").iter().filter_map(network).collect(),
        plaintext,
    })
}

/// `name` (in this namespace) or `namespace/name`.
fn account(node: &Node<'_>, namespace: &str) -> Option<(String, String)> {
    let text = node.filled_text()?;
    let (namespace, name) = text.split_once('/').unwrap_or((namespace, &text));
    if crate::identity::Identity::new("any", namespace, name).is_err() {
        node.problem(format!("{text:?} is no service account: expected <name> or <namespace>/<name>"));
    }
    Some((namespace.to_owned(), name.to_owned()))
}

/// `10.0.0.0/8`, or `{cidr, except}`.
fn network(node: &Node<'_>) -> Option<Network> {
    const ALLOWED: &str = "a network, e.g. 10.0.0.0/8";
    if let Some(net) = node.as_text() {
        return match net.parse::<IpNet>() {
            Ok(net) => Some(Network { net, except: Vec::new() }),
            Err(_) => {
                node.problem(format!("{net:?} is not {ALLOWED}"));
                None
            }
        };
    }
    let object = node.object(&["cidr", "except"])?;
    let net = object.required("cidr").and_then(|node| node.parsed(ALLOWED));
    let except = object.list("except").iter().filter_map(|node| node.parsed(ALLOWED)).collect();
    Some(Network { net: net?, except })
}

fn route(node: &Node<'_>, namespace: &str) -> Option<Route> {
    let object = node.object(&["name", "matches", "allow"])?;
    let name = object.required("name").and_then(|node| node.filled_text());
    let matches = object.list("matches").iter().filter_map(http_route::condition).collect();
    object.required("allow");
    Some(Route { name: name?, matches, allow: permissions(&object, namespace) })
}
