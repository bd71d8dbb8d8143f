//! Where a call from outside came from: read from, and written into, `X-Forwarded-For` and `X-Forwarded-Proto`, as gateways
//! do. In the mesh nobody but the gateway says so.

use std::net::IpAddr;

use mesh_core::fields::Fields;

use super::{accept::Connection, lane::Edit, message::RequestHead};
use crate::{
    telemetry::worker::Direction,
    worker::{Role, Worker},
};

const FOR: &str = "x-forwarded-for";
const PROTO: &str = "x-forwarded-proto";

/// Values for the next hop.
#[derive(Debug)]
pub struct Forwarded {
    by: String,
    scheme: Vec<u8>,
}

impl Forwarded {
    /// At a gateway, for what comes from outside: the caller's address behind those that are there already, and the scheme
    /// under which it called; the scheme of trusted proxies in front of the gateway stays.
    pub fn of(worker: &Worker, connection: &Connection, head: &RequestHead) -> Option<Forwarded> {
        match (worker.config.role, connection.direction) {
            (Role::Sidecar, _) | (Role::Gateway, Direction::Inbound) => return None,
            (Role::Gateway, Direction::Outbound) => {}
        }
        let mut by = String::new();
        head.fields().each(FOR, &mut |value| {
            by.push_str(&String::from_utf8_lossy(value));
            by.push_str(", ");
        });
        by.push_str(&connection.peer.ip().to_canonical().to_string());
        let said = head.fields().first(PROTO).filter(|_| worker.config.forwarded_hops > 0);
        Some(Forwarded { by, scheme: said.unwrap_or(connection.scheme.label().as_bytes()).to_vec() })
    }

    /// Writes them.
    pub fn write<'a>(&'a self, edit: &mut Edit<'a>) {
        edit.replace(FOR, self.by.as_bytes());
        edit.replace(PROTO, &self.scheme);
    }
}

/// Address of the caller: of the connection, or, behind `hops` trusted proxies, the one that the first of them appended.
pub fn source(fields: &dyn Fields, peer: IpAddr, hops: usize) -> IpAddr {
    if hops == 0 {
        return peer;
    }
    let mut addresses = Vec::new();
    fields.each(FOR, &mut |line| addresses.extend(line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)));
    let said = addresses.len().checked_sub(hops).and_then(|at| std::str::from_utf8(addresses[at]).ok());
    said.and_then(|text| text.parse().ok()).unwrap_or(peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_the_one_that_the_first_trusted_proxy_saw() {
        let fields: &[(&str, &str)] = &[("X-Forwarded-For", "6.6.6.6, 1.1.1.1"), ("x-forwarded-for", "2.2.2.2")];
        let peer: IpAddr = "3.3.3.3".parse().unwrap();
        for (hops, expected) in [(0, "3.3.3.3"), (1, "2.2.2.2"), (2, "1.1.1.1"), (3, "6.6.6.6"), (4, "3.3.3.3")] {
            assert_eq!(source(&fields, peer, hops), expected.parse::<IpAddr>().unwrap(), "{hops}");
        }
        let fields: &[(&str, &str)] = &[("x-forwarded-for", "unknown")];
        assert_eq!(source(&fields, peer, 1), peer);
    }
}
