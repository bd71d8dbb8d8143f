//! Asks name servers, and says what they answered in core's words. Truncated answers are asked for again over TCP and
//! chains of aliases followed by hickory; nothing is cached, since the source asks only when it has to.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures_util::future::join_all;
use hickory_resolver::{
    Resolver as Hickory, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, RecordType},
    },
};
use mesh_core::discovery::dns::{Addresses, Answer, Answered, Kind, Question, Target, to_ask};
use thiserror::Error;
use tokio::time::timeout;

/// How long one server may take for one attempt.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Attempts at one server.
const ATTEMPTS: usize = 2;
/// How long everything that one question needs may take; several servers may be dead.
const WHOLE: Duration = Duration::from_secs(10);

/// Why no name server can be asked.
#[derive(Debug, Error)]
pub enum NoResolver {
    /// `/etc/resolv.conf` cannot be read.
    #[error("the system's name servers are not known")]
    System(#[source] NetError),
    /// The resolver cannot be made.
    #[error("names cannot be asked for")]
    Build(#[source] NetError),
}

/// Asks name servers.
#[derive(Clone)]
pub struct Resolver(TokioResolver);

impl Resolver {
    /// Asks the servers of `/etc/resolv.conf`.
    ///
    /// # Errors
    /// When it names none that can be used.
    pub fn system() -> Result<Resolver, NoResolver> {
        let mut builder = Hickory::builder(TokioRuntimeProvider::default()).map_err(NoResolver::System)?;
        bounds(builder.options_mut());
        builder.build().map(Resolver).map_err(NoResolver::Build)
    }

    /// Asks these servers.
    ///
    /// # Errors
    /// When the resolver cannot be made.
    pub fn of(servers: &[SocketAddr]) -> Result<Resolver, NoResolver> {
        let server = |address: &SocketAddr| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = address.port();
                connection
            });
            NameServerConfig::new(address.ip(), true, connections.into())
        };
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect());
        let mut builder = Hickory::builder_with_config(config, TokioRuntimeProvider::default());
        bounds(builder.options_mut());
        builder.build().map(Resolver).map_err(NoResolver::Build)
    }

    /// Everything that servers answer for a question, in bounded time.
    pub async fn ask(&self, question: &Question) -> Answered {
        match question.kind() {
            Kind::Host => Answered::Host(self.addresses(question.name()).await),
            Kind::Service => {
                let targets = self.lookup(question.name(), RecordType::SRV, target).await;
                let hosts = to_ask(&targets).into_iter().map(|host| async move {
                    let addresses = self.addresses(host).await;
                    (host.to_owned(), addresses)
                });
                let addresses: BTreeMap<String, Addresses> = join_all(hosts).await.into_iter().collect();
                Answered::Targets(targets, addresses)
            }
        }
    }

    async fn addresses(&self, host: &str) -> Addresses {
        let v4 = self.lookup(host, RecordType::A, address);
        let v6 = self.lookup(host, RecordType::AAAA, address);
        let (v4, v6) = tokio::join!(v4, v6);
        Addresses { v4, v6 }
    }

    async fn lookup<T>(&self, host: &str, kind: RecordType, read: fn(&RData) -> Option<T>) -> Answer<T> {
        let name = match Name::from_ascii(host) {
            Ok(mut name) => {
                // As it stands: domains of the machine's search list are not tried.
                name.set_fqdn(true);
                name
            }
            Err(error) => return Answer::Failed(error.to_string()),
        };
        let found = match timeout(WHOLE, self.0.lookup(name, kind)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return missing(&error),
            Err(_) => return Answer::Failed(format!("no answer within {} s", WHOLE.as_secs())),
        };
        let records: Vec<T> = found.answers().iter().filter_map(|record| read(&record.data)).collect();
        // Aliases on the way count: the least of the chain.
        let ttl = found.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
        let ttl = Duration::from_secs(u64::from(ttl));
        if records.is_empty() { Answer::Nothing { ttl: Some(ttl) } } else { Answer::Records { records, ttl } }
    }
}

fn bounds(options: &mut ResolverOpts) {
    options.timeout = ATTEMPT;
    options.attempts = ATTEMPTS;
    options.cache_size = 0;
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(address) => Some(address.0.into()),
        RData::AAAA(address) => Some(address.0.into()),
        _ => None,
    }
}

fn target(data: &RData) -> Option<Target> {
    let RData::SRV(target) = data else { return None };
    let host = target.target.to_ascii();
    let host = if host == "." { host } else { host.trim_end_matches('.').to_ascii_lowercase() };
    Some(Target { priority: target.priority, weight: target.weight, port: target.port, host })
}

fn missing<T>(error: &NetError) -> Answer<T> {
    let NetError::Dns(DnsError::NoRecordsFound(none)) = error else { return Answer::Failed(error.to_string()) };
    let ttl = none.negative_ttl.map(|seconds| Duration::from_secs(u64::from(seconds)));
    match none.response_code {
        ResponseCode::NXDomain => Answer::NoSuchName { ttl },
        ResponseCode::NoError => Answer::Nothing { ttl },
        code => Answer::Failed(code.to_string()),
    }
}
