//! Tests of the conversion of outbound policies.

use proptest::prelude::*;

use super::*;
use crate::convert::{samples, validate};

proptest! {
    #[test]
    fn a_policy_reads_back_as_it_was(policy in samples::outbound()) {
        let message = to_wire(&policy, metadata::implicit("x"), "lanemesh");
        prop_assert_eq!(from_wire(message, "lanemesh"), Ok(policy));
    }
}

fn detect() -> wire::OutboundPolicy {
    let key = mesh_core::model::service::ServiceKey("b.demo.svc.cluster.local:80".into());
    let backends = || Distribution::FirstAvailable(vec![mesh_core::model::route::Backend::Service(key.clone())]);
    let route = || {
        vec![HttpRoute {
            name: metadata::DEFAULT.to_owned(),
            hosts: Vec::new(),
            rules: vec![mesh_core::model::route::HttpRule {
                matches: Vec::new(),
                filters: Vec::new(),
                backends: backends(),
                timeouts: Default::default(),
                retry: None,
            }],
        }]
    };
    let timeout = Duration::from_secs(10);
    let protocol = OutboundProtocol::Detect { timeout, opaque: backends(), http1: route(), http2: route() };
    to_wire(&OutboundPolicy { protocol }, metadata::service(&key), "lanemesh")
}

#[test]
fn whatever_a_stock_proxy_needs_is_missed_before_sending() {
    fn inner(message: &mut wire::OutboundPolicy) -> &mut proxy_protocol::Detect {
        match message.protocol.as_mut().and_then(|protocol| protocol.kind.as_mut()) {
            Some(Kind::Detect(detect)) => detect,
            _ => panic!("detect"),
        }
    }
    fn backend(message: &mut wire::OutboundPolicy) -> &mut wire::Backend {
        use wire::http_route::distribution::Kind;
        let rule = &mut inner(message).http1.as_mut().unwrap().routes[0].rules[0];
        match rule.backends.as_mut().unwrap().kind.as_mut() {
            Some(Kind::FirstAvailable(first)) => first.backends[0].backend.as_mut().unwrap(),
            _ => panic!("first available"),
        }
    }
    type Change = fn(&mut wire::OutboundPolicy);
    let cases: [(Change, &str); 13] = [
        (|message| message.metadata = None, "outbound_policy.metadata"),
        (|message| message.protocol = None, "outbound_policy.protocol"),
        (|message| inner(message).timeout = None, "detect.timeout"),
        (|message| inner(message).opaque = None, "detect.opaque"),
        (|message| inner(message).http1 = None, "detect.http1"),
        (|message| inner(message).http2 = None, "detect.http2"),
        (|message| inner(message).opaque.as_mut().unwrap().routes.clear(), "opaque.routes"),
        (|message| inner(message).opaque.as_mut().unwrap().routes[0].rules.clear(), "opaque.routes"),
        (|message| inner(message).http2.as_mut().unwrap().routes[0].metadata = None, "http_route.metadata"),
        (|message| backend(message).queue = None, "backend.queue"),
        (|message| backend(message).queue.as_mut().unwrap().capacity = 0, "backend.queue.capacity"),
        (|message| backend(message).queue.as_mut().unwrap().failfast_timeout = None, "backend.queue.failfast_timeout"),
        (|message| backend(message).kind = None, "backend.kind"),
    ];
    assert_eq!(validate::outbound(&detect()), Ok(()));
    for (change, expected) in cases {
        let mut message = detect();
        change(&mut message);
        let error = validate::outbound(&message).expect_err(expected).to_string();
        assert!(error.starts_with(expected), "{error:?} should start with {expected:?}");
    }
}
