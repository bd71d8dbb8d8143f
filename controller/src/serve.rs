//! The gRPC port: accepts connections, proves who is there, and serves the services of Linkerd's API and our own.
//!
//! TLS 1.3 by our own acceptor: a client certificate is optional here, since `Certify` needs none; every other call asks
//! [`Peer`] for it. ALPN `h2` is offered and not required (control connections of Linkerd proxies have none).

pub mod acceptor;
pub mod tls;

use std::{sync::Arc, time::Duration};

use linkerd2_proxy_api::{
    destination::destination_server::DestinationServer, identity::identity_server::IdentityServer,
    inbound::inbound_server_policies_server::InboundServerPoliciesServer,
    outbound::outbound_policies_server::OutboundPoliciesServer,
};
use mesh_proto::mesh::v1::{mesh_health_server::MeshHealthServer, mesh_policy_server::MeshPolicyServer};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use self::acceptor::Connection;
use crate::{
    publish::{
        Published, Reported, discovery::Discovery, health::Health, identity::Certifier, inbound::Inbound, mesh::Mesh,
        outbound::Outbound,
    },
    sign::{authority::Authority, tokens::Tokens},
    telemetry::Metrics,
};

/// Streams per connection, that is subscriptions per proxy: two per destination and one per port.
const STREAMS_PER_CONNECTION: u32 = 4_096;
/// Largest message of a proxy, bytes: tokens, signing requests and reports are far smaller.
const MESSAGE_MAX: usize = 256 << 10;
/// Most header bytes of a request.
const HEADERS_MAX: u32 = 16 << 10;
/// A silent connection is asked for a sign of life after this.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// It is closed when there is none after this.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// What the services serve from.
#[derive(Clone)]
pub struct Services {
    /// What is published.
    pub published: Arc<Published>,
    /// What proxies report.
    pub reported: Reported,
    /// Signs workloads.
    pub authority: watch::Receiver<Arc<Authority>>,
    /// Verifies tokens.
    pub tokens: Arc<Tokens>,
    /// Life of leaves.
    pub leaf_lifetime: Duration,
    /// Control namespace, for names of identities.
    pub control_namespace: Arc<str>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Serves connections until `stopping`, then until the last stream has ended.
///
/// # Errors
/// When the server fails as a whole.
pub async fn serve(
    services: Services,
    connections: mpsc::Receiver<std::io::Result<Connection>>,
    stopping: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let Services { published, reported, authority, tokens, leaf_lifetime, control_namespace, metrics } = services;
    let destination = Discovery {
        published: Arc::clone(&published),
        control_namespace: Arc::clone(&control_namespace),
        metrics: Arc::clone(&metrics),
    };
    let certifier = Certifier { authority, tokens, leaf_lifetime, metrics: Arc::clone(&metrics) };
    let inbound = Inbound { published: Arc::clone(&published), metrics: Arc::clone(&metrics) };
    let outbound = Outbound { published: Arc::clone(&published), control_namespace, metrics: Arc::clone(&metrics) };
    let health = Health {
        published: Arc::clone(&published),
        sharing: Arc::clone(&reported.sharing),
        metrics: Arc::clone(&metrics),
    };
    let mesh = Mesh { published, reported, metrics };
    Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(HEADERS_MAX)
        .add_service(DestinationServer::new(destination).max_decoding_message_size(MESSAGE_MAX))
        .add_service(IdentityServer::new(certifier).max_decoding_message_size(MESSAGE_MAX))
        .add_service(InboundServerPoliciesServer::new(inbound).max_decoding_message_size(MESSAGE_MAX))
        .add_service(OutboundPoliciesServer::new(outbound).max_decoding_message_size(MESSAGE_MAX))
        .add_service(MeshPolicyServer::new(mesh).max_decoding_message_size(MESSAGE_MAX))
        .add_service(MeshHealthServer::new(health).max_decoding_message_size(MESSAGE_MAX))
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), stopping.cancelled_owned())
        .await
}
