//! Tests of the conversion of inbound policies.

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::convert::samples;

/// Authorizations are sets: order carries no meaning.
fn normal(mut server: InboundServer) -> InboundServer {
    let sort = |list: &mut Vec<Authorization>| {
        let set: BTreeSet<String> = list.iter().map(|one| format!("{one:?}")).collect();
        list.sort_by_key(|one| format!("{one:?}"));
        list.dedup();
        assert_eq!(set.len(), list.len());
    };
    sort(&mut server.authorizations);
    server.routes.iter_mut().for_each(|route| sort(&mut route.authorizations));
    server
}

proptest! {
    #[test]
    fn a_server_reads_back_as_it_was(server in samples::inbound()) {
        let port = server.port;
        prop_assert_eq!(from_wire(to_wire(&server), port).map(normal), Ok(normal(server)));
    }
}

fn strict() -> InboundServer {
    InboundServer {
        port: 80,
        protocol: InboundProtocol::Detect { timeout: Duration::from_secs(10) },
        authorizations: vec![Authorization {
            name: DEFAULT.to_owned(),
            networks: vec![Network { net: "0.0.0.0/0".parse().unwrap(), except: Vec::new() }],
            clients: Clients::AnyMeshed,
        }],
        routes: Vec::new(),
        name: DEFAULT.to_owned(),
    }
}

#[test]
fn a_stock_proxy_finds_a_route_for_every_request() {
    let Some(Kind::Detect(detect)) = to_wire(&strict()).protocol.unwrap().kind else { panic!("detect") };
    assert_eq!(detect.http_routes.len(), 1);
    assert_eq!(detect.http_routes[0].rules.len(), 1);
}

#[test]
fn what_is_wrong_is_named() {
    type Change = fn(&mut wire::Server);
    let cases: [(Change, &str); 5] = [
        (|server| server.protocol = None, "server.protocol is missing"),
        (
            |server| {
                server.protocol =
                    Some(wire::ProxyProtocol { kind: Some(Kind::Detect(proxy_protocol::Detect::default())) });
            },
            "detect.timeout is missing",
        ),
        (|server| server.authorizations[0].networks.clear(), "authz.networks is missing"),
        (|server| server.authorizations[0].authentication = None, "authz.authentication is missing"),
        (|server| server.authorizations[0].networks[0].net.as_mut().unwrap().prefix_len = 300, "authz.networks: "),
    ];
    for (change, expected) in cases {
        let mut message = to_wire(&strict());
        change(&mut message);
        let error = from_wire(message, 80).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error:?} should start with {expected:?}");
    }
}

#[test]
fn a_port_without_authorization_stays_without() {
    let denied = InboundServer { authorizations: Vec::new(), ..strict() };
    let read = from_wire(to_wire(&denied), 80).unwrap();
    assert!(read.authorizations.is_empty() && read.routes.is_empty());
}
