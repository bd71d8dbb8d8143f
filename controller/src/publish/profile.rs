//! `Destination.GetProfile`: what a stock proxy falls back to, and what it learns about an address.

use std::sync::Arc;

use linkerd2_proxy_api::destination::DestinationProfile;
use mesh_core::{model::route::Target, resources::services::Protocol};
use mesh_proto::convert::{endpoint, metadata};

use super::{
    Published,
    follow::{Answers, follow},
};
use crate::{index::View, telemetry::OpenStream};

/// A stream of the profile of a target. What nobody knows has the empty profile: the client goes where the application
/// wanted to.
pub fn stream(
    published: Arc<Published>,
    target: Target,
    namespace: String,
    control_namespace: Arc<str>,
    open: OpenStream,
) -> Answers<DestinationProfile> {
    let keys = published.view().outbound_keys(&target, &namespace);
    let watch = published.watch(keys);
    follow(published, watch, open, move |view| Ok(profile(view, &target, &namespace, &control_namespace)))
}

fn profile(view: &View, target: &Target, namespace: &str, control_namespace: &str) -> DestinationProfile {
    let domain = &view.domains().cluster;
    match target {
        Target::Authority(host, number) => {
            let candidates = view.candidates(host, namespace);
            let Some(service) = candidates.iter().find_map(|label| view.service(label)) else {
                return DestinationProfile::default();
            };
            let port = service.ports.get(number);
            DestinationProfile {
                fully_qualified_name: format!("{}.svc.{domain}", service.label()),
                opaque_protocol: port.is_some_and(|port| is_opaque(port.protocol)),
                parent_ref: port.map(|port| metadata::service(&port.key)),
                ..DestinationProfile::default()
            }
        }
        Target::Address(address) => match view.instance(*address) {
            None => DestinationProfile::default(),
            Some((service, port, found)) => DestinationProfile {
                fully_qualified_name: format!("{}.svc.{domain}", service.label()),
                opaque_protocol: is_opaque(port.protocol),
                endpoint: Some(endpoint::to_wire(found, control_namespace)),
                parent_ref: Some(metadata::service(&port.key)),
                ..DestinationProfile::default()
            },
        },
    }
}

fn is_opaque(protocol: Protocol) -> bool {
    match protocol {
        Protocol::Opaque | Protocol::Tls => true,
        Protocol::Detect | Protocol::Http1 | Protocol::Http2 | Protocol::Grpc => false,
    }
}
