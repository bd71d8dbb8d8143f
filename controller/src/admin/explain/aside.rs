//! Instances that callers pass over: what discovery says against them, and what connected proxies reported.

use std::{collections::BTreeMap, net::SocketAddr};

use mesh_core::{health::Usability, model::service::Service};
use serde_json::{Value, json};

use crate::publish::proxies::Proxy;

/// What is not known of health, whatever was reported.
const NOT_KNOWN: &str = "what proxies found out that are connected to other replicas, and what nobody has called or \
                         probed; an instance that one proxy does not use may be used by others";

/// What connected proxies have against instances.
pub(in crate::admin) struct Reports<'p> {
    proxies: usize,
    /// By path of the service, and by instance.
    against: BTreeMap<&'p str, BTreeMap<SocketAddr, Vec<Against<'p>>>>,
}

/// One proxy, and what it has against an instance.
pub(in crate::admin) struct Against<'p> {
    proxy: &'p Proxy,
    usability: Usability,
}

impl<'p> Reports<'p> {
    /// All that these said last.
    pub(in crate::admin) fn of(proxies: &'p [Proxy]) -> Self {
        let mut against: BTreeMap<_, BTreeMap<_, Vec<_>>> = BTreeMap::new();
        for proxy in proxies {
            for one in &proxy.unusable {
                let of_service = against.entry(one.service.as_str()).or_default();
                of_service.entry(one.address).or_default().push(Against { proxy, usability: one.usability });
            }
        }
        Reports { proxies: proxies.len(), against }
    }

    /// What they have against an instance.
    pub(in crate::admin) fn against(&self, service: &Service, position: usize) -> &[Against<'p>] {
        let Some(endpoint) = service.endpoints().get(position) else { return &[] };
        let of_service = self.against.get(service.key().as_str());
        of_service.and_then(|instances| instances.get(&endpoint.address)).map_or(&[], Vec::as_slice)
    }

    /// Instances of a service that are passed over, with every reason for it.
    pub(super) fn aside(&self, service: &Service) -> Vec<Value> {
        let aside = service.endpoints().iter().enumerate().filter_map(|(position, endpoint)| {
            let discovery = match (endpoint.weight, endpoint.draining) {
                (0, _) => Some("out_of_traffic"),
                (_, true) => Some("draining"),
                (_, false) => None,
            };
            let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
            // Discovery's word needs no witness.
            reasons.extend(discovery.map(|reason| (reason, Vec::new())));
            for Against { proxy, usability } in self.against(service, position) {
                let by = format!("{}/{}", proxy.namespace, proxy.pod);
                reasons.entry(usability.label()).or_default().push(by);
            }
            let reasons: Vec<Value> =
                reasons.iter().map(|(reason, by)| json!({ "reason": reason, "reportedBy": by })).collect();
            let lanes: Vec<String> = endpoint.lanes.iter().map(ToString::to_string).collect();
            let told = json!({ "address": endpoint.address, "lanes": lanes, "reasons": reasons });
            (!reasons.is_empty()).then_some(told)
        });
        aside.collect()
    }

    /// What the answer knows of health, and what it does not.
    pub(super) fn known(&self) -> Value {
        json!({ "reportingProxies": self.proxies, "notKnown": NOT_KNOWN })
    }
}
