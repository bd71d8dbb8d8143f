//! `Destination.GetProfile`: what a stock proxy falls back to, and what it learns about an address.

use std::sync::Arc;

use linkerd2_proxy_api::destination::DestinationProfile;
use mesh_core::{
    model::route::Target,
    resources::{
        services::Protocol,
        world::{WorldPort, WorldService},
    },
};
use mesh_proto::convert::{endpoint, metadata};

use super::{
    Published,
    follow::{Answers, follow},
};
use crate::{index::View, telemetry::OpenStream};

/// What a client asks about.
pub struct Asked {
    /// Target.
    pub target: Target,
    /// Where bare names are looked up.
    pub namespace: String,
    /// Control namespace, for names of identities.
    pub control_namespace: Arc<str>,
}

/// A stream of the profile of a target. What nobody knows has the empty profile: the client goes where the application
/// wanted to.
pub async fn stream(published: Arc<Published>, asked: Asked, open: OpenStream) -> Answers<DestinationProfile> {
    let Asked { target, namespace, control_namespace } = asked;
    let view = published.view();
    let watch = published.watch(view.outbound_keys(&target, &namespace));
    if view.outbound(&target, &namespace).is_none() {
        watch.looked_up().await;
    }
    follow(published, watch, open, move |view| Ok(profile(view, &target, &namespace, &control_namespace)))
}

fn profile(view: &View, target: &Target, namespace: &str, control_namespace: &str) -> DestinationProfile {
    let domain = &view.domains().cluster;
    let whole = |service: &WorldService, port: Option<&WorldPort>| DestinationProfile {
        fully_qualified_name: format!("{}.svc.{domain}", service.label()),
        opaque_protocol: port.is_some_and(|port| is_opaque(port.protocol)),
        parent_ref: port.map(|port| metadata::service(&port.key)),
        ..DestinationProfile::default()
    };
    match target {
        Target::Authority(host, number) => {
            let candidates = view.candidates(host, namespace);
            let service = candidates.iter().find_map(|label| view.service(label));
            service.map(|service| whole(service, service.port(*number))).unwrap_or_default()
        }
        Target::Address(address) => match (view.service_at(*address), view.instance(*address)) {
            (Some((service, port)), _) => whole(service, Some(port)),
            (None, Some((service, port, found))) => DestinationProfile {
                endpoint: Some(endpoint::to_wire(found, control_namespace)),
                ..whole(service, Some(port))
            },
            (None, None) => DestinationProfile::default(),
        },
    }
}

fn is_opaque(protocol: Protocol) -> bool {
    match protocol {
        Protocol::Opaque | Protocol::Tls => true,
        Protocol::Detect | Protocol::Http1 | Protocol::Http2 | Protocol::Grpc => false,
    }
}
