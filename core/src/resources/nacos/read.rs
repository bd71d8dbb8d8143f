//! Reads the settings of the source Nacos out of a document.

use std::{path::PathBuf, time::Duration};

use super::{Address, AddressCalls, Login, Namespace, Policies, Register, Selected, Server, Tls};
use crate::{
    discovery::nacos::{
        Name,
        list::DEFAULT_CLUSTER,
        name::{DEFAULT_GROUP, PUBLIC},
    },
    resources::{
        node::{Node, Object},
        wording::shortened,
    },
};

/// Port of HTTP at which Nacos listens by default.
const HTTP_PORT: u16 = 8848;
/// By how much the gRPC port of Nacos is higher than that of HTTP.
const GRPC_OFFSET: u16 = 1_000;
/// Group of configurations that are policies.
const POLICY_GROUP: &str = "LANEMESH";
/// Servers, and namespaces of one; each pair is a connection.
const SERVERS_MAX: usize = 32;
/// Entries of any other list.
const LIST_MAX: usize = 1_000;
/// Longest name of a namespace, group, service or cluster, characters.
const NAME_MAX: usize = 512;
/// Bounds of the guard against empty lists.
const GUARD: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(24 * 3_600));
/// How long an empty list is held by default.
const GUARD_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// Bounds of the time for which a service stays watched.
const IDLE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(24 * 3_600));
/// How long a service stays watched that nobody asks for, by default.
const IDLE_DEFAULT: Duration = Duration::from_secs(10 * 60);
/// Bounds of the time that a workload is ready before it is registered.
const DELAY: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(3_600));

/// Reads the servers; what is wrong is recorded with the node.
pub(super) fn servers(root: &Node<'_>) -> Vec<Server> {
    let Some(object) = root.object(&["servers"]) else { return Vec::new() };
    let written = object.required_list("servers");
    bounded(&object, "servers", written.len(), SERVERS_MAX);
    let mut found: Vec<Server> = Vec::new();
    for node in &written {
        let Some(server) = server(node) else { continue };
        if found.iter().any(|other| other.name == server.name) {
            node.problem(format!("there is another server {:?}", server.name));
        }
        found.push(server);
    }
    found
}

const FIELDS: &[&str] = &[
    "name",
    "addresses",
    "grpcPort",
    "username",
    "passwordFile",
    "tls",
    "namespaces",
    "groups",
    "clusters",
    "always",
    "emptyPushGuard",
    "idleAfter",
    "addressCalls",
    "policies",
    "register",
];

fn server(node: &Node<'_>) -> Option<Server> {
    let object = node.object(FIELDS)?;
    let namespaces = namespaces(&object);
    let groups = names(&object, "groups");
    Some(Server {
        name: object.get("name").map_or_else(|| Some("nacos".to_owned()), |node| node.dns_label()).unwrap_or_default(),
        addresses: addresses(&object),
        login: login(&object),
        tls: object.get("tls").and_then(|node| tls(&node)),
        groups: if groups.is_empty() { vec![DEFAULT_GROUP.to_owned()] } else { groups },
        clusters: names(&object, "clusters"),
        always: object.list("always").iter().filter_map(|node| always(node, &namespaces)).collect(),
        empty_push_guard: duration(&object, "emptyPushGuard", GUARD).unwrap_or(GUARD_DEFAULT),
        idle_after: duration(&object, "idleAfter", IDLE).unwrap_or(IDLE_DEFAULT),
        address_calls: object
            .get("addressCalls")
            .and_then(|node| node.choice(&[("service", AddressCalls::Service), ("pinned", AddressCalls::Pinned)]))
            .unwrap_or(AddressCalls::Service),
        policies: policies(&object, &namespaces),
        register: object.list("register").iter().filter_map(|node| register(node, &namespaces)).collect(),
        namespaces,
    })
}

fn bounded(object: &Object<'_>, key: &str, count: usize, max: usize) {
    if count > max {
        object.problem(key, format!("{count} entries are too many; at most {max}"));
    }
}

fn duration(object: &Object<'_>, key: &str, (shortest, longest): (Duration, Duration)) -> Option<Duration> {
    let duration = object.get(key)?.duration()?;
    if !(shortest..=longest).contains(&duration) {
        object.problem(key, format!("allowed are {shortest:?} to {longest:?}"));
    }
    Some(duration)
}

fn addresses(object: &Object<'_>) -> Vec<Address> {
    let grpc_port = object.get("grpcPort").and_then(|node| node.port());
    let written = object.required_list("addresses");
    bounded(object, "addresses", written.len(), SERVERS_MAX);
    written.iter().filter_map(|node| address(node, grpc_port)).collect()
}

/// `host`, `host:port`, `[v6]:port`.
fn address(node: &Node<'_>, grpc_port: Option<u16>) -> Option<Address> {
    let text = node.filled_text()?;
    let Some((host, port)) = host_and_port(&text) else {
        node.problem(format!(
            "{:?} is no address: expected host or host:port of the HTTP port, without http:// and path",
            shortened(&text)
        ));
        return None;
    };
    let Some(grpc_port) = grpc_port.or(port.checked_add(GRPC_OFFSET)) else {
        node.problem(format!("{port} + {GRPC_OFFSET} is no gRPC port; give grpcPort"));
        return None;
    };
    Some(Address { host: host.to_owned(), port, grpc_port })
}

fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => {
            let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
            let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            (Some(host).filter(|host| !host.is_empty() && host.len() <= 253 && host.bytes().all(is_host))?, port)
        }
    };
    let port = port.map_or(Some(HTTP_PORT), |port| port.parse().ok().filter(|port| *port > 0))?;
    Some((host, port))
}

fn login(object: &Object<'_>) -> Option<Login> {
    let user = object.get("username").and_then(|node| node.filled_text());
    let file = object.get("passwordFile").and_then(|node| node.filled_text());
    match (user, file) {
        (Some(user), Some(file)) => Some(Login { user, password_file: file.into() }),
        (Some(_), None) => {
            object.problem("passwordFile", "missing: username needs a file with its password".to_owned());
            None
        }
        (None, Some(_)) => {
            object.problem("username", "missing: passwordFile needs a user".to_owned());
            None
        }
        (None, None) => None,
    }
}

fn tls(node: &Node<'_>) -> Option<Tls> {
    let object = node.object(&["caFile", "serverName", "http"])?;
    Some(Tls {
        ca_file: object.get("caFile").and_then(|node| node.filled_text()).map(PathBuf::from),
        server_name: object.get("serverName").and_then(|node| node.dns_name()),
        http: object.get("http").and_then(|node| node.boolean()).unwrap_or(true),
    })
}

/// A name of Nacos: anything visible without white space.
fn name(node: &Node<'_>) -> Option<String> {
    let text = node.filled_text()?;
    if text.chars().count() > NAME_MAX || text.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
        node.problem(format!("{:?} is no name: 1 to {NAME_MAX} characters without spaces", shortened(&text)));
    }
    Some(text)
}

fn names(object: &Object<'_>, key: &str) -> Vec<String> {
    let written = object.list(key);
    bounded(object, key, written.len(), LIST_MAX);
    written.iter().filter_map(name).collect()
}

fn namespaces(object: &Object<'_>) -> Vec<Namespace> {
    let written = object.list("namespaces");
    bounded(object, "namespaces", written.len(), SERVERS_MAX);
    let mut found: Vec<Namespace> = Vec::new();
    for node in &written {
        let Some(fields) = node.object(&["id", "meshNamespace"]) else { continue };
        let id = fields.required("id").and_then(|node| name(&node)).unwrap_or_default();
        let mesh_namespace = fields.get("meshNamespace").and_then(|node| node.dns_label());
        if !id.is_empty() && found.iter().any(|other| other.id == id) {
            node.problem(format!("namespace {id:?} is here twice"));
        }
        found.push(Namespace { id, mesh_namespace });
    }
    if found.is_empty() {
        found.push(Namespace { id: PUBLIC.to_owned(), mesh_namespace: None });
    }
    found
}

/// A namespace that a part of the settings is about: one of those that are read, the first by default.
fn namespace(object: &Object<'_>, namespaces: &[Namespace]) -> String {
    let first = || namespaces.first().map_or_else(|| PUBLIC.to_owned(), |namespace| namespace.id.clone());
    let Some(id) = object.get("namespace").and_then(|node| name(&node)) else { return first() };
    if !namespaces.iter().any(|namespace| namespace.id == id) {
        let known: Vec<&str> = namespaces.iter().map(|namespace| namespace.id.as_str()).collect();
        object.problem("namespace", format!("{id:?} is none of the namespaces ({})", known.join(", ")));
    }
    id
}

/// `service`, `group@@service`, or fields.
fn always(node: &Node<'_>, namespaces: &[Namespace]) -> Option<Name> {
    if node.as_text().is_some() {
        let text = name(node)?;
        return Some(Name::of_grouped(&namespaces.first()?.id, &text));
    }
    let object = node.object(&["service", "group", "namespace"])?;
    let namespace = namespace(&object, namespaces);
    let group = object.get("group").and_then(|node| name(&node));
    let service = object.required("service").and_then(|node| name(&node))?;
    Some(Name::new(&namespace, group.as_deref().unwrap_or_default(), &service))
}

fn policies(object: &Object<'_>, namespaces: &[Namespace]) -> Option<Policies> {
    let default = || Some(Policies { namespace: namespaces.first()?.id.clone(), group: POLICY_GROUP.to_owned() });
    let Some(node) = object.get("policies") else { return default() };
    if node.is_text("off") {
        return None;
    }
    if node.as_text().is_some() {
        node.problem("expected off, or the fields namespace and group".to_owned());
        return None;
    }
    let fields = node.object(&["namespace", "group"])?;
    let namespace = namespace(&fields, namespaces);
    let group = fields.get("group").and_then(|node| name(&node)).unwrap_or_else(|| POLICY_GROUP.to_owned());
    Some(Policies { namespace, group })
}

fn register(node: &Node<'_>, namespaces: &[Namespace]) -> Option<Register> {
    let object = node.object(&["services", "namespace", "group", "cluster", "register", "delay"])?;
    let services = object.required_list("services");
    bounded(&object, "services", services.len(), LIST_MAX);
    let at_once = object.get("register").and_then(|node| node.choice(&[("afterReady", ())]));
    let delay = duration(&object, "delay", DELAY).unwrap_or_default();
    if at_once.is_some() && !delay.is_zero() {
        object.problem("delay", "excludes register: afterReady, which is at once".to_owned());
    }
    Some(Register {
        services: services.iter().filter_map(selected).collect(),
        namespace: namespace(&object, namespaces),
        group: object.get("group").and_then(|node| name(&node)).unwrap_or_else(|| DEFAULT_GROUP.to_owned()),
        cluster: object.get("cluster").and_then(|node| name(&node)).filter(|cluster| cluster != DEFAULT_CLUSTER),
        delay,
    })
}

fn selected(node: &Node<'_>) -> Option<Selected> {
    let text = node.filled_text()?;
    let is_label = |part: &str| {
        let inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        !part.is_empty() && part.len() <= 63 && part.bytes().all(inner)
    };
    let parts =
        text.split_once('/').filter(|(namespace, name)| is_label(namespace) && (*name == "*" || is_label(name)));
    let Some((namespace, name)) = parts else {
        let shown = shortened(&text);
        node.problem(format!("{shown:?} is no service of the mesh: expected <namespace>/<name> or <namespace>/*"));
        return None;
    };
    Some(Selected { namespace: namespace.to_owned(), name: Some(name.to_owned()).filter(|name| name != "*") })
}
