//! Who may call a port: `inbound.Server` ↔ [`InboundServer`].
//!
//! In Linkerd's API the authorizations of a route *extend* those of its server, and a request that fits no route is
//! refused; in the model a route's authorizations stand alone and the server's apply where no route fits. So the wire
//! gets what server and all routes have in common as the server's authorizations, the rest with each route, and a last
//! route for every request that carries the rest of the server's.

use linkerd2_proxy_api::{
    http_route::{self as matches, path_match},
    inbound::{
        self as wire, Authn, Authz,
        authn::{
            Permit, PermitMeshTls, PermitUnauthenticated,
            permit_mesh_tls::{Clients as MeshClients, PermitClientIdentities},
        },
        proxy_protocol::{self, Kind},
    },
};
use mesh_core::model::policy::{Authorization, Clients, InboundProtocol, InboundRoute, InboundServer, Network};

use super::{
    Invalid, duration,
    metadata::{self, DEFAULT},
    required,
    routes::{host_from_wire, host_to_wire, match_from_wire, match_to_wire},
    wire_duration,
};

/// API group of access policies.
const POLICY_GROUP: &str = "lanemesh.io";
/// Kind of access policies, as label and metadata.
const POLICY_KIND: &str = "accesspolicy";

/// The message.
pub fn to_wire(server: &InboundServer) -> wire::Server {
    let common: Vec<&Authorization> = server
        .authorizations
        .iter()
        .filter(|own| server.routes.iter().all(|route| route.authorizations.contains(own)))
        .collect();
    let rest = |all: &[Authorization]| -> Vec<Authz> {
        all.iter().filter(|own| !common.contains(own)).map(authorization_to_wire).collect()
    };
    let mut routes: Vec<wire::HttpRoute> = server
        .routes
        .iter()
        .map(|route| wire::HttpRoute {
            metadata: Some(metadata::resource(POLICY_GROUP, POLICY_KIND, &route.name)),
            hosts: route.hosts.iter().map(host_to_wire).collect(),
            authorizations: rest(&route.authorizations),
            rules: vec![wire::http_route::Rule {
                matches: route.matches.iter().map(match_to_wire).collect(),
                filters: Vec::new(),
            }],
        })
        .collect();
    routes.push(last_route(rest(&server.authorizations)));
    wire::Server {
        protocol: Some(wire::ProxyProtocol { kind: Some(protocol_to_wire(server.protocol, routes)) }),
        server_ips: Vec::new(),
        authorizations: common.into_iter().map(authorization_to_wire).collect(),
        labels: labels(&server.name).into_iter().collect(),
    }
}

fn labels(name: &str) -> [(String, String); 3] {
    let (group, kind) = if name == DEFAULT { ("", DEFAULT) } else { (POLICY_GROUP, POLICY_KIND) };
    [("group", group), ("kind", kind), ("name", name)].map(|(key, value)| (key.to_owned(), value.to_owned()))
}

/// The route for what no other route is for.
fn last_route(authorizations: Vec<Authz>) -> wire::HttpRoute {
    let everything = matches::PathMatch { kind: Some(path_match::Kind::Prefix("/".to_owned())) };
    let everything = matches::HttpRouteMatch { path: Some(everything), ..matches::HttpRouteMatch::default() };
    wire::HttpRoute {
        metadata: Some(metadata::implicit(DEFAULT)),
        hosts: Vec::new(),
        authorizations,
        rules: vec![wire::http_route::Rule { matches: vec![everything], filters: Vec::new() }],
    }
}

fn protocol_to_wire(protocol: InboundProtocol, routes: Vec<wire::HttpRoute>) -> Kind {
    match protocol {
        InboundProtocol::Detect { timeout } => Kind::Detect(proxy_protocol::Detect {
            timeout: Some(wire_duration(timeout)),
            http_routes: routes,
            http_local_rate_limit: None,
        }),
        InboundProtocol::Opaque => Kind::Opaque(proxy_protocol::Opaque {}),
        InboundProtocol::Tls => Kind::Tls(proxy_protocol::Tls {}),
        InboundProtocol::Http1 => Kind::Http1(proxy_protocol::Http1 { routes, local_rate_limit: None }),
        // gRPC routes of the API match by service and method only, the model's by anything: HTTP/2 says the same.
        InboundProtocol::Http2 | InboundProtocol::Grpc => {
            Kind::Http2(proxy_protocol::Http2 { routes, local_rate_limit: None })
        }
    }
}

fn authorization_to_wire(authorization: &Authorization) -> Authz {
    let permit = match &authorization.clients {
        Clients::Anyone => Permit::Unauthenticated(PermitUnauthenticated {}),
        Clients::AnyMeshed => mesh_tls(Vec::new(), vec![Vec::new()]),
        Clients::Identities { names, suffixes } => mesh_tls(names.clone(), suffixes.clone()),
    };
    Authz {
        networks: authorization
            .networks
            .iter()
            .map(|network| wire::Network {
                net: Some(network.net.into()),
                except: network.except.iter().copied().map(Into::into).collect(),
            })
            .collect(),
        authentication: Some(Authn { permit: Some(permit) }),
        labels: labels(&authorization.name).into_iter().collect(),
        metadata: Some(metadata::resource(POLICY_GROUP, POLICY_KIND, &authorization.name)),
    }
}

fn mesh_tls(names: Vec<String>, suffixes: Vec<Vec<String>>) -> Permit {
    Permit::MeshTls(PermitMeshTls {
        clients: Some(MeshClients::Identities(PermitClientIdentities {
            identities: names.into_iter().map(|name| wire::Identity { name }).collect(),
            suffixes: suffixes.into_iter().map(|parts| wire::IdentitySuffix { parts }).collect(),
        })),
    })
}

/// Reads the message; `port` is the one that was asked for.
///
/// # Errors
/// Names the field; the port must then be treated as unknown, which denies.
pub fn from_wire(message: wire::Server, port: u16) -> Result<InboundServer, Invalid> {
    let shared = authorizations(message.authorizations)?;
    let kind = required("server.protocol", message.protocol.and_then(|protocol| protocol.kind))?;
    let (protocol, mut routes) = match kind {
        Kind::Detect(detect) => {
            let timeout = duration("detect.timeout", required("detect.timeout", detect.timeout)?)?;
            (InboundProtocol::Detect { timeout }, http_routes(detect.http_routes)?)
        }
        Kind::Opaque(_) => (InboundProtocol::Opaque, Vec::new()),
        Kind::Tls(_) => (InboundProtocol::Tls, Vec::new()),
        Kind::Http1(http) => (InboundProtocol::Http1, http_routes(http.routes)?),
        Kind::Http2(http) => (InboundProtocol::Http2, http_routes(http.routes)?),
        Kind::Grpc(grpc) => (InboundProtocol::Grpc, grpc_routes(grpc.routes)?),
    };
    for route in &mut routes {
        route.authorizations.splice(0..0, shared.iter().cloned());
    }
    let authorizations = match routes.pop_if(|last| last.name == DEFAULT && is_everything(last)) {
        Some(last) => last.authorizations,
        None => shared,
    };
    let name = message.labels.get("name").cloned().unwrap_or_else(|| DEFAULT.to_owned());
    Ok(InboundServer { port, protocol, authorizations, routes, name })
}

fn is_everything(route: &InboundRoute) -> bool {
    use mesh_core::model::route::{PathMatch, RouteMatch};
    let everything = RouteMatch { path: Some(PathMatch::Prefix("/".to_owned())), ..RouteMatch::default() };
    route.hosts.is_empty() && (route.matches.is_empty() || route.matches.contains(&everything))
}

fn http_routes(routes: Vec<wire::HttpRoute>) -> Result<Vec<InboundRoute>, Invalid> {
    let read = |route: wire::HttpRoute| {
        let mut found = Vec::new();
        for rule in route.rules {
            if !rule.filters.is_empty() {
                return Err(Invalid::Unsupported { field: "http_route.rules.filters", what: "an inbound filter" });
            }
            found.push(rule.matches.into_iter().map(match_from_wire).collect::<Result<Vec<_>, _>>()?);
        }
        Ok(InboundRoute {
            name: metadata::name(&required("http_route.metadata", route.metadata)?),
            hosts: route.hosts.into_iter().map(host_from_wire).collect::<Result<_, _>>()?,
            matches: any_of(found, "http_route.rules")?,
            authorizations: authorizations(route.authorizations)?,
        })
    };
    routes.into_iter().map(read).collect()
}

fn grpc_routes(routes: Vec<wire::GrpcRoute>) -> Result<Vec<InboundRoute>, Invalid> {
    let read = |route: wire::GrpcRoute| {
        let mut found = Vec::new();
        for rule in route.rules {
            if !rule.filters.is_empty() {
                return Err(Invalid::Unsupported { field: "grpc_route.rules.filters", what: "an inbound filter" });
            }
            found.push(rule.matches.into_iter().map(super::outbound::grpc::match_from_wire).collect::<Result<_, _>>()?);
        }
        Ok(InboundRoute {
            name: metadata::name(&required("grpc_route.metadata", route.metadata)?),
            hosts: route.hosts.into_iter().map(host_from_wire).collect::<Result<_, _>>()?,
            matches: any_of(found, "grpc_route.rules")?,
            authorizations: authorizations(route.authorizations)?,
        })
    };
    routes.into_iter().map(read).collect()
}

/// Matches of several rules as one list; a rule without matches takes every request, and so does then the route.
fn any_of<T>(rules: Vec<Vec<T>>, field: &'static str) -> Result<Vec<T>, Invalid> {
    if rules.is_empty() {
        return Err(Invalid::Missing { field });
    }
    if rules.iter().any(Vec::is_empty) {
        return Ok(Vec::new());
    }
    Ok(rules.into_iter().flatten().collect())
}

fn authorizations(all: Vec<Authz>) -> Result<Vec<Authorization>, Invalid> {
    all.into_iter().map(authorization).collect()
}

fn authorization(authz: Authz) -> Result<Authorization, Invalid> {
    if authz.networks.is_empty() {
        return Err(Invalid::Missing { field: "authz.networks" });
    }
    let name = match &authz.metadata {
        Some(metadata) => metadata::name(metadata),
        None => authz.labels.get("name").cloned().unwrap_or_else(|| DEFAULT.to_owned()),
    };
    let clients = match required("authz.authentication", authz.authentication.and_then(|authn| authn.permit))? {
        Permit::Unauthenticated(_) => Clients::Anyone,
        Permit::MeshTls(tls) => match required("authn.meshTLS.clients", tls.clients)? {
            MeshClients::Unauthenticated(_) => Clients::AnyMeshed,
            MeshClients::Identities(permitted) => identities(permitted),
        },
    };
    let networks = authz.networks.into_iter().map(network).collect::<Result<_, _>>()?;
    Ok(Authorization { name, networks, clients })
}

fn identities(permitted: PermitClientIdentities) -> Clients {
    let suffixes: Vec<Vec<String>> = permitted.suffixes.into_iter().map(|suffix| suffix.parts).collect();
    if suffixes.iter().any(|parts| parts.iter().all(String::is_empty)) {
        return Clients::AnyMeshed;
    }
    Clients::Identities { names: permitted.identities.into_iter().map(|identity| identity.name).collect(), suffixes }
}

fn network(network: wire::Network) -> Result<Network, Invalid> {
    let net = |wire: linkerd2_proxy_api::net::IpNetwork| {
        ipnet::IpNet::try_from(wire).map_err(|error| Invalid::value("authz.networks", error))
    };
    Ok(Network {
        net: net(required("authz.networks.net", network.net)?)?,
        except: network.except.into_iter().map(net).collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests;
