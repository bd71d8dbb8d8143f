//! Arbitrary values of the model, for the round-trip tests of this crate.

mod health;
mod lanes;
mod models;
mod traffic;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use mesh_core::{
    identity::Identity,
    lifecycle::{Registration, Standing},
    model::{
        endpoint::{Endpoint, ProtocolHint},
        lane::LaneRef,
        policy::{Authorization, Clients, InboundProtocol, InboundRoute, InboundServer, Network},
        route::{
            Backend, Distribution, Filter, HeaderChange, HostMatch, HttpRoute, HttpRule, OutboundPolicy,
            OutboundProtocol, PathMatch, Pattern, RouteMatch, RouteRetry, RouteTimeouts, ValueCondition, ValueMatch,
        },
        service::ServiceKey,
    },
    snapshot::Workload,
};
use proptest::{collection::vec, option, prelude::*};

use super::{metadata::DEFAULT, policy::Policy};

fn word() -> BoxedStrategy<String> {
    "[a-z][a-z0-9-]{0,10}".boxed()
}

fn span() -> BoxedStrategy<Duration> {
    (0_u64..1_000_000, 0_u32..1_000_000_000).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos)).boxed()
}

fn identity() -> BoxedStrategy<Identity> {
    (word(), word()).prop_map(|(ns, sa)| Identity::new("cluster.local", &ns, &sa).unwrap()).boxed()
}

fn lane_ref() -> BoxedStrategy<LaneRef> {
    ("[A-Za-z0-9._-]{1,9}", "[A-Za-z0-9._-]{1,9}")
        .prop_map(|(group, lane)| LaneRef { group: group.parse().unwrap(), lane: lane.parse().unwrap() })
        .boxed()
}

pub(super) fn endpoint() -> BoxedStrategy<Endpoint> {
    let hint = prop_oneof![Just(ProtocolHint::Unknown), Just(ProtocolHint::Http2), Just(ProtocolHint::Opaque)];
    let identity = identity();
    let tls = option::of((identity, option::of("[a-z]{3}\\.example")));
    let place = (option::of("[a-z0-9]{1,5}"), option::of(any::<u64>()), any::<bool>(), any::<bool>());
    let reach = (any::<SocketAddr>(), any::<u32>(), option::of(1..=u16::MAX), hint);
    (reach, tls, vec(lane_ref(), 0..3), place)
        .prop_map(|((address, weight, inbound_port, hint), tls, lanes, (zone, ready_since, draining, healthy))| {
            let (identity, server_name) = tls.map_or((None, None), |(identity, name)| (Some(identity), name));
            let address = SocketAddr::new(address.ip(), address.port());
            let labels = BTreeMap::new();
            Endpoint {
                address,
                weight,
                identity,
                server_name,
                inbound_port,
                hint,
                lanes,
                zone,
                ready_since,
                draining,
                healthy,
                labels,
            }
        })
        .boxed()
}

fn route_match() -> BoxedStrategy<RouteMatch> {
    let pattern = || "[a-z]{1,4}(\\.\\*)?".prop_map(|text| Pattern::try_from(text).unwrap());
    let path = prop_oneof![
        "/[a-z/]{0,9}".prop_map(PathMatch::Exact),
        "/[a-z/]{0,9}".prop_map(PathMatch::Prefix),
        pattern().prop_map(PathMatch::Regex),
    ];
    let value = prop_oneof![any::<String>().prop_map(ValueCondition::Exact), pattern().prop_map(ValueCondition::Regex)];
    let value = (word(), value).prop_map(|(name, value)| ValueMatch { name, value });
    let method = prop_oneof![Just("GET"), Just("TRACE"), Just("PURGE")].prop_map(str::to_owned);
    (option::of(path), option::of(method), vec(value.clone(), 0..3), vec(value, 0..3))
        .prop_map(|(path, method, headers, query)| RouteMatch { path, method, headers, query })
        .boxed()
}

fn host() -> BoxedStrategy<HostMatch> {
    let name = || "[a-z]{1,5}(\\.[a-z]{1,5}){0,2}";
    prop_oneof![name().prop_map(HostMatch::Exact), name().prop_map(HostMatch::Suffix)].boxed()
}

fn change() -> BoxedStrategy<HeaderChange> {
    let pairs = || vec((word(), any::<String>()), 0..3);
    (vec(word(), 0..3), pairs(), pairs()).prop_map(|(remove, set, add)| HeaderChange { remove, set, add }).boxed()
}

fn filter() -> BoxedStrategy<Filter> {
    let redirect = (option::of(word()), option::of(word()), option::of(1..=u16::MAX), option::of(any::<String>()))
        .prop_map(|(scheme, host, port, path)| Filter::Redirect { scheme, host, port, path, status: 308 });
    prop_oneof![
        change().prop_map(Filter::RequestHeaders),
        change().prop_map(Filter::ResponseHeaders),
        redirect,
        (200..600_u16, any::<String>(), 0..=10_000_u32).prop_map(|(status, message, share)| Filter::Fail {
            status,
            message,
            share
        }),
    ]
    .boxed()
}

fn distribution() -> BoxedStrategy<Distribution> {
    let backend = prop_oneof![
        endpoint().prop_map(|endpoint| Backend::Forward(Arc::new(endpoint))),
        ("[a-z]{1,8}", 1..=u16::MAX)
            .prop_map(|(name, port)| Backend::Service(ServiceKey(format!("{name}.x.svc.cluster.local:{port}").into()))),
    ];
    prop_oneof![
        Just(Distribution::Empty),
        vec(backend.clone(), 1..3).prop_map(Distribution::FirstAvailable),
        vec((backend, 1..9_u32), 1..3).prop_map(Distribution::Weighted),
    ]
    .boxed()
}

fn route(rule: BoxedStrategy<HttpRule>) -> BoxedStrategy<HttpRoute> {
    let name = prop_oneof![Just(DEFAULT.to_owned()), "[a-z]{2,6}/[a-z]{2,6}"];
    (name, vec(host(), 0..2), vec(rule, 1..3)).prop_map(|(name, hosts, rules)| HttpRoute { name, hosts, rules }).boxed()
}

fn http_rule() -> BoxedStrategy<HttpRule> {
    let limit = || option::of(span());
    let timeouts =
        (limit(), limit(), limit()).prop_map(|(request, response, idle)| RouteTimeouts { request, response, idle });
    let retry = (any::<u32>(), any::<u32>(), vec((100..600_u16, 100..600_u16), 0..3), limit()).prop_map(
        |(retries, body, statuses, try_timeout)| RouteRetry {
            retries,
            body_limit: body as usize,
            statuses,
            try_timeout,
        },
    );
    (vec(route_match(), 0..3), vec(filter(), 0..3), distribution(), timeouts, option::of(retry))
        .prop_map(|(matches, filters, backends, timeouts, retry)| HttpRule {
            matches,
            filters,
            backends,
            timeouts,
            retry,
        })
        .boxed()
}

fn grpc_rule() -> BoxedStrategy<HttpRule> {
    let path = prop_oneof![
        "/[a-z.]{1,6}/[A-Z][a-z]{1,5}".prop_map(PathMatch::Exact),
        "/[a-z.]{1,6}".prop_map(PathMatch::Prefix),
    ];
    let matches = option::of(path).prop_map(|path| RouteMatch { path, ..RouteMatch::default() });
    let filter = prop_oneof![
        change().prop_map(Filter::RequestHeaders),
        any::<String>().prop_map(|message| Filter::Fail { status: 503, message, share: 10_000 }),
    ];
    (vec(matches, 0..3), vec(filter, 0..2), distribution(), any::<u32>())
        .prop_map(|(matches, filters, backends, retries)| HttpRule {
            matches,
            filters,
            backends,
            timeouts: RouteTimeouts::default(),
            retry: Some(RouteRetry { retries, body_limit: 9, statuses: vec![(4, 4), (14, 14)], try_timeout: None }),
        })
        .boxed()
}

pub(super) fn outbound() -> BoxedStrategy<OutboundPolicy> {
    let http = || vec(route(http_rule()), 0..3);
    prop_oneof![
        (span(), distribution(), http(), http())
            .prop_map(|(timeout, opaque, http1, http2)| { OutboundProtocol::Detect { timeout, opaque, http1, http2 } }),
        distribution().prop_map(OutboundProtocol::Opaque),
        distribution().prop_map(OutboundProtocol::Tls),
        http().prop_map(OutboundProtocol::Http1),
        http().prop_map(OutboundProtocol::Http2),
        vec(route(grpc_rule()), 0..3).prop_map(OutboundProtocol::Grpc),
    ]
    .prop_map(|protocol| OutboundPolicy { protocol })
    .boxed()
}

fn authorization() -> BoxedStrategy<Authorization> {
    let net = || {
        (any::<std::net::Ipv4Addr>(), 0..=32_u8)
            .prop_map(|(ip, bits)| ipnet::IpNet::from(ipnet::Ipv4Net::new(ip, bits).unwrap()))
    };
    let clients = prop_oneof![
        Just(Clients::Anyone),
        Just(Clients::AnyMeshed),
        (vec(word(), 0..3), vec(vec(word(), 1..3), 0..2))
            .prop_map(|(names, suffixes)| Clients::Identities { names, suffixes }),
    ];
    let networks = vec((net(), vec(net(), 0..2)).prop_map(|(net, except)| Network { net, except }), 1..3);
    ("[a-z]{1,3}", networks, clients)
        .prop_map(|(name, networks, clients)| Authorization { name, networks, clients })
        .boxed()
}

pub(super) fn inbound() -> BoxedStrategy<InboundServer> {
    let protocol = prop_oneof![
        span().prop_map(|timeout| InboundProtocol::Detect { timeout }),
        Just(InboundProtocol::Http1),
        Just(InboundProtocol::Http2),
    ];
    // A small pool, so that server and routes share some.
    let pick = |pool: &[Authorization], which: &[bool]| -> Vec<Authorization> {
        pool.iter().zip(which).filter(|(_, take)| **take).map(|(one, _)| one.clone()).collect()
    };
    let route = ("[b-c]{2,4}", vec(host(), 0..2), vec(route_match(), 0..3), any::<[bool; 3]>());
    (1..=u16::MAX, protocol, vec(authorization(), 3), any::<[bool; 3]>(), vec(route, 0..3), word())
        .prop_map(move |(port, protocol, pool, own, routes, name)| InboundServer {
            port,
            protocol,
            authorizations: pick(&pool, &own),
            routes: routes
                .into_iter()
                .map(|(name, hosts, matches, which)| InboundRoute {
                    name,
                    hosts,
                    matches,
                    authorizations: pick(&pool, &which),
                })
                .collect(),
            name,
        })
        .boxed()
}

pub(super) fn policy() -> BoxedStrategy<Policy> {
    let served = proptest::collection::btree_map(1..=u16::MAX, vec(word(), 0..3), 0..3);
    let workload = (vec(lane_ref(), 0..3), option::of(word()), vec(word(), 0..3), served)
        .prop_map(|(lanes, zone, services, served)| Workload { lanes, zone, services, served });
    let traffic = proptest::collection::btree_map(word(), traffic::policy().prop_map(Arc::new), 0..3);
    let ports = proptest::collection::btree_set(1..=u16::MAX, 0..4);
    let anchors = vec(vec(any::<u8>(), 0..9).prop_map(Arc::<[u8]>::from), 0..3);
    let models = vec(models::route().prop_map(Arc::new), 0..3);
    let drained = proptest::collection::btree_set(word(), 0..3);
    let rest = (ports, models, standing(), drained);
    (word(), vec(lanes::group(), 0..3), traffic, anchors, workload, rest)
        .prop_map(|(revision, lanes, traffic, trust_anchors, workload, (ports, models, standing, drained_zones))| {
            Policy { revision, lanes, traffic, trust_anchors, workload, ports, drained_zones, models, standing }
        })
        .boxed()
}

fn standing() -> impl Strategy<Value = Standing> {
    let registration = prop_oneof![
        Just(Registration::NotOurs),
        (0..100_000_u64).prop_map(|seconds| Registration::Awaited(Duration::from_secs(seconds))),
        Just(Registration::Visible),
    ];
    (any::<bool>(), registration).prop_map(|(drain, registration)| Standing { drain, registration })
}
