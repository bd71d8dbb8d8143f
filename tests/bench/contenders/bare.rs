//! The bare relay of this folder: what hyper and rustls cost without a mesh.

use std::net::SocketAddr;

use mesh_tests::programs;

use crate::contenders::{Contender, Place, Running, free_address};

/// A single plaintext hop.
///
/// # Errors
/// When the relay does not start.
pub(crate) fn hop(place: &Place) -> anyhow::Result<Contender> {
    let (running, address) = start(place, "bare-hop", place.application, &[])?;
    Ok(Contender::programs("bare hop", address, vec![running]))
}

/// Two of them, mutual TLS between, HTTP/1.1 inside.
///
/// # Errors
/// When a relay does not start.
pub(crate) fn pair(place: &Place) -> anyhow::Result<Contender> {
    let folder = place.folder.display().to_string();
    let (inner, middle) = start(place, "bare-pair-b", place.application, &["--accept-tls", &folder])?;
    let (outer, address) = start(place, "bare-pair-a", middle, &["--dial-tls", &folder])?;
    Ok(Contender::programs("bare pair", address, vec![outer, inner]))
}

fn start(place: &Place, name: &str, upstream: SocketAddr, tls: &[&str]) -> anyhow::Result<(Running, SocketAddr)> {
    let address = free_address()?;
    let (listen, upstream) = (address.to_string(), upstream.to_string());
    let mut arguments = vec!["--listen", &listen, "--upstream", &upstream];
    arguments.extend(tls);
    Ok((Running::start(place, name, &programs::ours("bench-relay"), &arguments, address)?, address))
}
