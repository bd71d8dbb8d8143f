//! Whether a caller may use an inbound port, and a request one of its routes. Unknown denies.

use std::net::IpAddr;

use crate::{
    identity::Identity,
    model::policy::{Authorization, Clients, InboundRoute, InboundServer},
    route::{self, RequestParts},
};

/// Who calls.
#[derive(Clone, Debug)]
pub struct Caller<'a> {
    /// Address of the caller.
    pub address: IpAddr,
    /// Proven identity; `None` = plaintext.
    pub identity: Option<&'a Identity>,
}

/// What was decided, and by which rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Allowed by the authorization of this name.
    Allow {
        /// Name of the authorization.
        authorization: &'a str,
    },
    /// Denied.
    Deny(Denial),
}

/// Why a caller was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Denial {
    /// No policy is known for the port.
    UnknownPort,
    /// The port takes mesh identities only and the caller has none.
    Plaintext,
    /// The caller's identity or network is in no authorization.
    NotAuthorized,
}

impl Denial {
    /// Label for metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Denial::UnknownPort => "unknown_port",
            Denial::Plaintext => "plaintext",
            Denial::NotAuthorized => "not_authorized",
        }
    }
}

/// May `caller` open a connection to the port? Where routes have authorizations of their own, a caller whom any of them
/// allows may connect; each request is then judged by [`request`], and bytes that are no
/// request have no place on such a port.
pub fn connection<'a>(server: Option<&'a InboundServer>, caller: &Caller<'_>) -> Verdict<'a> {
    let Some(server) = server else { return Verdict::Deny(Denial::UnknownPort) };
    let of_routes = server.routes.iter().flat_map(|route| &route.authorizations);
    judge(server.authorizations.iter().chain(of_routes), caller)
}

/// May `caller` make this request? The first route whose hosts and matches fit decides; without one the server does.
pub fn request<'a>(server: &'a InboundServer, caller: &Caller<'_>, parts: &RequestParts<'_>) -> Verdict<'a> {
    let fits = |route: &&InboundRoute| {
        route::host_rank(&route.hosts, parts.host).is_some()
            && (route.matches.is_empty() || route.matches.iter().any(|condition| route::matches(condition, parts)))
    };
    let authorizations = server.routes.iter().find(fits).map_or(&server.authorizations, |route| &route.authorizations);
    judge(authorizations.iter(), caller)
}

fn judge<'a>(authorizations: impl Iterator<Item = &'a Authorization>, caller: &Caller<'_>) -> Verdict<'a> {
    let mut denial = Denial::NotAuthorized;
    for authorization in authorizations {
        if !authorization.networks.iter().any(|network| network.contains(caller.address)) {
            continue;
        }
        match (&authorization.clients, caller.identity) {
            (Clients::Anyone, _) | (Clients::AnyMeshed, Some(_)) => return allow(authorization),
            (Clients::Identities { names, suffixes }, Some(identity)) => {
                let named = names.iter().any(|name| is_named(identity, name));
                if named || suffixes.iter().any(|suffix| ends_with(identity, suffix)) {
                    return allow(authorization);
                }
            }
            (Clients::AnyMeshed | Clients::Identities { .. }, None) => denial = Denial::Plaintext,
        }
    }
    Verdict::Deny(denial)
}

fn allow(authorization: &Authorization) -> Verdict<'_> {
    Verdict::Allow { authorization: &authorization.name }
}

/// Whether `name`, SPIFFE or Linkerd style, is the name of `identity`; compares in place, for this runs per request.
fn is_named(identity: &Identity, name: &str) -> bool {
    let (account, namespace) = (identity.service_account(), identity.namespace());
    if let Some(path) = name.strip_prefix("spiffe://") {
        let after_domain = path.strip_prefix(identity.trust_domain()).and_then(|rest| rest.strip_prefix("/ns/"));
        let after_namespace = after_domain.and_then(|rest| rest.strip_prefix(namespace)?.strip_prefix("/sa/"));
        return after_namespace == Some(account);
    }
    let rest = name.strip_prefix(account).and_then(|rest| rest.strip_prefix('.')?.strip_prefix(namespace));
    let control = rest.and_then(|rest| rest.strip_prefix(".serviceaccount.identity."));
    control.and_then(|rest| rest.split_once('.')).is_some_and(|(_, domain)| domain == identity.trust_domain())
}

/// Whether the Linkerd-style name of `identity` ends with these labels. The control namespace in it is no part of the
/// identity: any label stands for it.
fn ends_with(identity: &Identity, suffix: &[String]) -> bool {
    let fixed = [None, Some("identity"), Some("serviceaccount"), Some(identity.namespace())];
    let domain = identity.trust_domain().rsplit('.').map(Some);
    let account = identity.service_account().rsplit('.').map(Some);
    let mut labels = domain.chain(fixed).chain(account);
    suffix.iter().rev().all(|wanted| match labels.next() {
        Some(Some(label)) => label == wanted,
        Some(None) => true,
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        policy::{InboundProtocol, Network},
        route::{PathMatch, RouteMatch},
    };

    fn authorization(name: &str, net: &str, clients: Clients) -> Authorization {
        let networks = vec![Network { net: net.parse().unwrap(), except: vec!["10.9.0.0/16".parse().unwrap()] }];
        Authorization { name: name.to_owned(), networks, clients }
    }

    fn names(names: &[&str], suffixes: &[&str]) -> Clients {
        let labels = |suffix: &&str| suffix.split('.').filter(|s| !s.is_empty()).map(str::to_owned).collect();
        Clients::Identities {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            suffixes: suffixes.iter().map(labels).collect(),
        }
    }

    fn server(authorizations: Vec<Authorization>, routes: Vec<InboundRoute>) -> InboundServer {
        InboundServer { port: 80, protocol: InboundProtocol::Http1, authorizations, routes, name: "s".to_owned() }
    }

    #[test]
    fn caller_is_allowed_by_network_and_proven_name_only() {
        let identity = Identity::new("cluster.local", "shop", "cart").unwrap();
        let spiffe = "spiffe://cluster.local/ns/shop/sa/cart";
        let linkerd = "cart.shop.serviceaccount.identity.mesh.cluster.local";
        let cases = [
            (Clients::AnyMeshed, Some(&identity), "10.0.0.1", None),
            (Clients::AnyMeshed, None, "10.0.0.1", Some(Denial::Plaintext)),
            (Clients::AnyMeshed, Some(&identity), "10.9.0.1", Some(Denial::NotAuthorized)),
            (Clients::AnyMeshed, Some(&identity), "::ffff:10.0.0.1", None),
            (Clients::AnyMeshed, Some(&identity), "11.0.0.1", Some(Denial::NotAuthorized)),
            (Clients::Anyone, None, "10.0.0.1", None),
            (names(&[spiffe], &[]), Some(&identity), "10.0.0.1", None),
            (names(&[linkerd], &[]), Some(&identity), "10.0.0.1", None),
            (
                names(&["spiffe://cluster.local/ns/shop/sa/cart2"], &[]),
                Some(&identity),
                "10.0.0.1",
                Some(Denial::NotAuthorized),
            ),
            (
                names(&["spiffe://cluster.local/ns/shop/sa/car"], &[]),
                Some(&identity),
                "10.0.0.1",
                Some(Denial::NotAuthorized),
            ),
            (
                names(&["cart.shop.serviceaccount.identity.mesh.other"], &[]),
                Some(&identity),
                "10.0.0.1",
                Some(Denial::NotAuthorized),
            ),
            (names(&[], &["shop.serviceaccount.identity.mesh.cluster.local"]), Some(&identity), "10.0.0.1", None),
            (
                names(&[], &["hop.serviceaccount.identity.mesh.cluster.local"]),
                Some(&identity),
                "10.0.0.1",
                Some(Denial::NotAuthorized),
            ),
            (names(&[], &[""]), Some(&identity), "10.0.0.1", None),
            (names(&[], &[]), Some(&identity), "10.0.0.1", Some(Denial::NotAuthorized)),
        ];
        for (clients, identity, address, denial) in cases {
            let shown = format!("{clients:?} {identity:?} {address}");
            let server = server(vec![authorization("a", "10.0.0.0/8", clients)], Vec::new());
            let caller = Caller { address: address.parse().unwrap(), identity };
            let expected = denial.map_or(Verdict::Allow { authorization: "a" }, Verdict::Deny);
            assert_eq!(connection(Some(&server), &caller), expected, "{shown}");
        }
    }

    #[test]
    fn unknown_port_and_server_without_authorization_deny() {
        let identity = Identity::new("cluster.local", "shop", "cart").unwrap();
        let caller = Caller { address: "10.0.0.1".parse().unwrap(), identity: Some(&identity) };
        assert_eq!(connection(None, &caller), Verdict::Deny(Denial::UnknownPort));
        assert_eq!(connection(Some(&server(Vec::new(), Vec::new())), &caller), Verdict::Deny(Denial::NotAuthorized));
    }

    #[test]
    fn route_with_authorizations_of_its_own_decides_for_its_requests_alone() {
        let identity = Identity::new("cluster.local", "shop", "cart").unwrap();
        let path = Some(PathMatch::Prefix("/probe".to_owned()));
        let route = InboundRoute {
            name: "probes".to_owned(),
            hosts: Vec::new(),
            matches: vec![RouteMatch { path, ..RouteMatch::default() }],
            authorizations: vec![authorization("probe", "0.0.0.0/0", Clients::Anyone)],
        };
        let server = server(vec![authorization("meshed", "0.0.0.0/0", Clients::AnyMeshed)], vec![route]);
        let plain = Caller { address: "10.0.0.1".parse().unwrap(), identity: None };
        let meshed = Caller { identity: Some(&identity), ..plain.clone() };
        let fields: &[(&str, &str)] = &[];
        let parts = |path| RequestParts { method: "GET", host: "a", path, query: None, fields: &fields };
        assert_eq!(connection(Some(&server), &plain), Verdict::Allow { authorization: "probe" });
        assert_eq!(request(&server, &plain, &parts("/probe/x")), Verdict::Allow { authorization: "probe" });
        for path in ["/", "/probes", "/probe/../admin", "/probe/%2e%2E/admin"] {
            assert_eq!(request(&server, &plain, &parts(path)), Verdict::Deny(Denial::Plaintext), "{path}");
        }
        assert_eq!(request(&server, &meshed, &parts("/")), Verdict::Allow { authorization: "meshed" });
    }
}
