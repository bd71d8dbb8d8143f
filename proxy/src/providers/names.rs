//! Addresses of providers' hosts: the system's host file and name servers, cached as long as the answers say.

use std::{
    cell::OnceCell,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use hickory_resolver::{Resolver, TokioResolver, net::runtime::TokioRuntimeProvider};
use thiserror::Error;
use tokio::time::timeout;

/// Longest wait for name servers.
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);
/// Answers that are kept.
const CACHE: u64 = 256;
/// Addresses of a host that are tried.
const ADDRESSES_MAX: usize = 8;

/// Why a host has no address.
#[derive(Debug, Error)]
pub enum NoAddress {
    /// The system names no name servers.
    #[error("the system's name servers are not known: {0}")]
    NoServers(String),
    /// They know no such host.
    #[error("{host} has no address: {why}")]
    Unknown {
        /// Host.
        host: String,
        /// What they say.
        why: String,
    },
    /// They do not answer.
    #[error("no name server answered for {0} in time")]
    Silent(String),
}

/// Looks names up.
#[derive(Default)]
pub struct Names(OnceCell<TokioResolver>);

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Names")
    }
}

impl Names {
    /// Addresses of a host (or the address that it is), IPv4 first as the system prefers.
    ///
    /// # Errors
    /// When there is none.
    pub async fn addresses(&self, host: &str, port: u16) -> Result<Rc<[SocketAddr]>, NoAddress> {
        let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = literal.parse::<IpAddr>() {
            return Ok([SocketAddr::new(address, port)].into());
        }
        let unknown = |why: String| NoAddress::Unknown { host: host.to_owned(), why };
        let answer = timeout(LOOKUP_LIMIT, self.resolver()?.lookup_ip(host))
            .await
            .map_err(|_| NoAddress::Silent(host.to_owned()))?
            .map_err(|error| unknown(error.to_string()))?;
        let addresses: Rc<[SocketAddr]> =
            answer.iter().take(ADDRESSES_MAX).map(|address| SocketAddr::new(address, port)).collect();
        if addresses.is_empty() { Err(unknown("no records".to_owned())) } else { Ok(addresses) }
    }

    fn resolver(&self) -> Result<&TokioResolver, NoAddress> {
        if let Some(resolver) = self.0.get() {
            return Ok(resolver);
        }
        let failed = |error: &dyn std::fmt::Display| NoAddress::NoServers(error.to_string());
        let mut builder = Resolver::builder(TokioRuntimeProvider::default()).map_err(|error| failed(&error))?;
        builder.options_mut().cache_size = CACHE;
        let built = builder.build().map_err(|error| failed(&error))?;
        Ok(self.0.get_or_init(|| built))
    }
}
