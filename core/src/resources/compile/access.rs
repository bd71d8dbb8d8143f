//! Who may call each port of each workload.

use std::{net::Ipv4Addr, net::Ipv6Addr, sync::Arc};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{routes::DETECT_TIMEOUT, workloads::Built};
use crate::{
    model::policy::{Authorization, Clients, InboundProtocol, InboundServer, Network},
    resources::services::Protocol,
};

/// Gives every port of every meshed workload its policy. Without one: strict, any identity of the trust domain.
pub(super) fn apply(built: &mut Built) {
    for (key, workload) in &mut built.workloads {
        if workload.identity.is_none() {
            continue;
        }
        for (port, protocol) in built.ports.get(key).into_iter().flatten() {
            let server = InboundServer {
                port: *port,
                protocol: inbound_protocol(*protocol),
                authorizations: vec![any_meshed("default")],
                routes: Vec::new(),
                name: "default".to_owned(),
            };
            workload.inbound.insert(*port, Arc::new(server));
        }
    }
}

fn any_meshed(name: &str) -> Authorization {
    Authorization { name: name.to_owned(), networks: everywhere(), clients: Clients::AnyMeshed }
}

/// Every IPv4 and IPv6 address.
fn everywhere() -> Vec<Network> {
    let all = [IpNet::V4(all_v4()), IpNet::V6(all_v6())];
    all.into_iter().map(|net| Network { net, except: Vec::new() }).collect()
}

fn all_v4() -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)
}

fn all_v6() -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)
}

fn inbound_protocol(protocol: Protocol) -> InboundProtocol {
    match protocol {
        Protocol::Detect => InboundProtocol::Detect { timeout: DETECT_TIMEOUT },
        Protocol::Http1 => InboundProtocol::Http1,
        Protocol::Http2 => InboundProtocol::Http2,
        Protocol::Grpc => InboundProtocol::Grpc,
        Protocol::Opaque => InboundProtocol::Opaque,
        Protocol::Tls => InboundProtocol::Tls,
    }
}
