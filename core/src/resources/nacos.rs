//! Settings of the source Nacos: which servers there are, what of them is wanted, and how much they are believed. One
//! YAML document; strict, with all problems together, as resources are.

mod read;

use std::{cell::RefCell, path::PathBuf, sync::Arc, time::Duration};

use serde_yaml_ng::Value;

use super::{
    document::without_place,
    node::{Context, Node},
    problem::{Origin, Problem},
    services::AddressCalls,
};
use crate::discovery::nacos::Name;

/// Largest settings, bytes.
const TEXT_MAX: usize = 1 << 20;

/// One Nacos: a server or a cluster of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Name, by which status and errors call it.
    pub name: String,
    /// Where its servers are; at least one.
    pub addresses: Vec<Address>,
    /// Who we are to it; none where it asks for no login.
    pub login: Option<Login>,
    /// TLS; in the clear without.
    pub tls: Option<Tls>,
    /// Namespaces that are read; at least one.
    pub namespaces: Vec<Namespace>,
    /// Groups whose services are known by their addresses and listed; at least one.
    pub groups: Vec<String>,
    /// Clusters whose instances are taken; of every cluster where it is empty.
    pub clusters: Vec<String>,
    /// Services that are watched although nobody asks for them.
    pub always: Vec<Name>,
    /// How long an empty list after a non-empty one is held back.
    pub empty_push_guard: Duration,
    /// How long a service is watched after the last proxy that wanted it.
    pub idle_after: Duration,
    /// What a call to the address of an instance is.
    pub address_calls: AddressCalls,
    /// Where policies are read; nowhere without.
    pub policies: Option<Policies>,
    /// Which workloads are registered.
    pub register: Vec<Register>,
}

/// One address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Name or IP address.
    pub host: String,
    /// Port of HTTP; 8848 by default.
    pub port: u16,
    /// Port of gRPC; 1000 more by default.
    pub grpc_port: u16,
}

impl Address {
    /// `host:port` of HTTP.
    pub fn authority(&self) -> String {
        let Address { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

/// Who we are to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// User.
    pub user: String,
    /// File with the password.
    pub password_file: PathBuf,
}

/// How a server proves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// PEM file of authorities; those of the system without.
    pub ca_file: Option<PathBuf>,
    /// Name in the certificate; the host of the address without.
    pub server_name: Option<String>,
    /// Whether the HTTP port speaks TLS too; true by default.
    pub http: bool,
}

/// A namespace that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its id; `public` is the default one.
    pub id: String,
    /// Namespace of its services in the mesh; made of its id and their group without.
    pub mesh_namespace: Option<String>,
}

/// Where policies are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policies {
    /// Id of the namespace; one of those that are read.
    pub namespace: String,
    /// Group.
    pub group: String,
}

/// Which workloads are registered, and as what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// Services of the mesh.
    pub services: Vec<Selected>,
    /// Id of the namespace; one of those that are read.
    pub namespace: String,
    /// Group.
    pub group: String,
    /// Cluster; `DEFAULT` without.
    pub cluster: Option<String>,
    /// How long a workload has been ready before it is registered; zero = it is as soon as it is ready.
    pub delay: Duration,
}

impl Register {
    /// Whether a service of the mesh is one of the rule's.
    pub fn selects(&self, namespace: &str, name: &str) -> bool {
        self.services.iter().any(|one| one.selects(namespace, name))
    }
}

/// Services of a namespace of the mesh: `<namespace>/<name>`, or `<namespace>/*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// Namespace.
    pub namespace: String,
    /// Name; all without.
    pub name: Option<String>,
}

impl Selected {
    /// Whether a service of the mesh is one of these.
    pub fn selects(&self, namespace: &str, name: &str) -> bool {
        self.namespace == namespace && self.name.as_ref().is_none_or(|own| own == name)
    }
}

/// Reads the settings. `file` is how problems name their file.
///
/// # Errors
/// All problems.
pub fn parse(file: &str, text: &str) -> Result<Vec<Server>, Vec<Problem>> {
    let whole = |line, message| vec![Problem { file: Some(file.to_owned()), line, path: String::new(), message }];
    if text.len() > TEXT_MAX {
        return Err(whole(None, format!("{} bytes are too many; at most {TEXT_MAX} are read", text.len())));
    }
    let value: Value = serde_yaml_ng::from_str(text).map_err(|error| {
        let line = error.location().and_then(|location| u32::try_from(location.line()).ok());
        whole(line, format!("not YAML: {}", without_place(&error.to_string())))
    })?;
    let origin = Origin::new(file, 1, Arc::from(text));
    let context = Context { origin: &origin, subject: String::new(), problems: RefCell::default() };
    let found = read::servers(&Node::root(&value, &context));
    let mut problems = context.problems.into_inner();
    problems.sort();
    problems.dedup();
    if problems.is_empty() { Ok(found) } else { Err(problems) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        parse("nacos.yaml", text).expect_err(text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_address_is_enough() {
        let servers = parse("nacos.yaml", "servers:\n- addresses: [nacos.example]\n").unwrap();
        let address = Address { host: "nacos.example".to_owned(), port: 8848, grpc_port: 9848 };
        let expected = Server {
            name: "nacos".to_owned(),
            addresses: vec![address],
            login: None,
            tls: None,
            namespaces: vec![Namespace { id: "public".to_owned(), mesh_namespace: None }],
            groups: vec!["DEFAULT_GROUP".to_owned()],
            clusters: Vec::new(),
            always: Vec::new(),
            empty_push_guard: Duration::from_secs(300),
            idle_after: Duration::from_secs(600),
            address_calls: AddressCalls::Service,
            policies: Some(Policies { namespace: "public".to_owned(), group: "LANEMESH".to_owned() }),
            register: Vec::new(),
        };
        assert_eq!(servers, [expected]);
    }

    #[test]
    fn everything_can_be_said() {
        let text = r#"
servers:
- name: main
  addresses: ["10.0.0.1", "nacos-2:8850", "[fd00::1]:8848"]
  username: mesh
  passwordFile: /etc/nacos/password
  tls: {caFile: /etc/nacos/ca.pem, serverName: nacos.example, http: false}
  namespaces: [{id: prod-1, meshNamespace: prod}, {id: public}]
  groups: [DEFAULT_GROUP, billing]
  clusters: [hz, DEFAULT]
  always: [orders, "billing@@pay", {service: x, group: g, namespace: public}]
  emptyPushGuard: 1m
  idleAfter: 30s
  addressCalls: pinned
  policies: {namespace: public, group: MESH}
  register:
  - {services: [shop/*, default/b], group: billing, cluster: hz, delay: 30s}
  - {services: [shop/c], register: afterReady}
- {name: other, addresses: ["a:1"], grpcPort: 2, policies: off}
"#;
        let servers = parse("nacos.yaml", text).unwrap();
        let main = &servers[0];
        let addresses: Vec<_> = main.addresses.iter().map(|a| (a.host.as_str(), a.port, a.grpc_port)).collect();
        assert_eq!(addresses, [("10.0.0.1", 8848, 9848), ("nacos-2", 8850, 9850), ("fd00::1", 8848, 9848)]);
        assert_eq!(main.login.as_ref().unwrap().user, "mesh");
        assert!(!main.tls.as_ref().unwrap().http);
        assert_eq!(main.clusters, ["hz", "DEFAULT"]);
        let always: Vec<_> = main.always.iter().map(ToString::to_string).collect();
        assert_eq!(always, ["orders@@DEFAULT_GROUP@prod-1", "pay@@billing@prod-1", "x@@g@public"]);
        assert_eq!(main.policies, Some(Policies { namespace: "public".to_owned(), group: "MESH".to_owned() }));
        let register = &main.register[0];
        assert_eq!((register.namespace.as_str(), register.cluster.as_deref()), ("prod-1", Some("hz")));
        assert!(register.selects("shop", "any") && register.selects("default", "b"));
        assert!(!register.selects("default", "c") && !register.selects("shops", "any"));
        assert_eq!((register.delay, main.register[1].delay), (Duration::from_secs(30), Duration::ZERO));
        assert_eq!((servers[1].addresses[0].grpc_port, servers[1].policies.as_ref()), (2, None));
    }

    #[test]
    fn all_problems_are_reported_together_with_line_and_field() {
        let text = "\
servers:
- name: Main
  addresses: [\"http://a:8848/nacos\", \"b:65000\"]
  username: mesh
  tls:
    caFille: x
  namespaces:
  - id: dev
  - id: dev
  always:
  - service: a
    namespace: prod
  emptyPushGuard: 25h
  idleAfter: 0s
  addressCalls: direct
  policies: on
  register:
  - services: [b]
- addresses: []
";
        let found = problems(text);
        let places = [
            (2, "servers[0].name: \"Main\" is no name"),
            (3, "servers[0].addresses[0]: \"http://a:8848/nacos\" is no address"),
            (3, "servers[0].addresses[1]: 65000 + 1000 is no gRPC port"),
            (2, "servers[0].passwordFile: missing"),
            (6, "servers[0].tls.caFille: unknown field"),
            (9, "servers[0].namespaces[1]: namespace \"dev\" is here twice"),
            (12, "servers[0].always[0].namespace: \"prod\" is none of the namespaces (dev, dev)"),
            (13, "servers[0].emptyPushGuard: allowed are"),
            (14, "servers[0].idleAfter: allowed are"),
            (15, "servers[0].addressCalls: \"direct\" is not known"),
            (16, "servers[0].policies: expected off"),
            (18, "servers[0].register[0].services[0]: \"b\" is no service of the mesh"),
            (19, "servers[1].addresses: at least one element is needed"),
        ];
        for (line, text) in places {
            let start = format!("nacos.yaml:{line}: {text}");
            assert!(found.iter().any(|problem| problem.starts_with(&start)), "{start} in {found:#?}");
        }
        assert_eq!(found.len(), places.len(), "{found:#?}");
    }

    #[test]
    fn what_is_no_list_of_servers_is_refused() {
        for (text, problem) in [
            ("", "nacos.yaml:1: expected a mapping of fields, found nothing"),
            ("servers: [", "nacos.yaml:"),
            ("- addresses: [a]", "nacos.yaml:1: expected a mapping of fields, found a list"),
            ("servers: []", "nacos.yaml:1: servers: at least one element is needed"),
            ("servers:\n- {addresses: [a]}\n- {addresses: [b]}", "nacos.yaml:3: servers[1]: there is another server"),
        ] {
            let found = problems(text);
            assert!(found.iter().any(|found| found.starts_with(problem)), "{problem} in {found:?}");
        }
    }
}
