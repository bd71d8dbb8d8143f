//! The bare relay of this folder: what hyper and rustls cost without a mesh.

use std::net::SocketAddr;

use crate::{
    contenders::{Contender, Place, free_address},
    measure::Process,
};

/// A single plaintext hop.
///
/// # Errors
/// When the relay does not start.
pub(crate) fn hop(place: &Place) -> anyhow::Result<Contender> {
    let (process, address) = start(place, "bare-hop", place.application, &[])?;
    Ok(Contender { name: "bare hop", address, authority: "application.bench".into(), proxies: vec![process] })
}

/// Two of them, mutual TLS between, HTTP/1.1 inside.
///
/// # Errors
/// When a relay does not start.
pub(crate) fn pair(place: &Place) -> anyhow::Result<Contender> {
    let folder = place.folder.display().to_string();
    let (inner, middle) = start(place, "bare-pair-b", place.application, &["--accept-tls", &folder])?;
    let (outer, address) = start(place, "bare-pair-a", middle, &["--dial-tls", &folder])?;
    Ok(Contender { name: "bare pair", address, authority: "application.bench".into(), proxies: vec![outer, inner] })
}

fn start(place: &Place, name: &str, upstream: SocketAddr, tls: &[&str]) -> anyhow::Result<(Process, SocketAddr)> {
    let address = free_address()?;
    let (listen, upstream) = (address.to_string(), upstream.to_string());
    let mut command = vec![place.binary("bench-relay")];
    command.extend(["--listen", &listen, "--upstream", &upstream].map(String::from));
    command.extend(tls.iter().map(|&argument| argument.to_owned()));
    let mut process = Process::start(name, &place.folder, &command, &[])?;
    process.listening(address)?;
    Ok((process, address))
}
