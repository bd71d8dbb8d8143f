//! Lanes as routes that match headers, for proxies that know nothing of lanes: the levels are chosen here, by the members
//! that are registered, and every level is a destination of its own.
//!
//! Such a proxy is told nothing of health here: `onUnhealthy` is left to its own balancer. It reads the carrier headers
//! as they came, so a label in baggage alone is not seen.

use std::collections::BTreeSet;

use super::{Carried, Choice, Level, Source, Usable, choose, subset};
use crate::{
    model::{
        lane::{LaneGroup, LaneName},
        route::{
            Backend, Distribution, Filter, HttpRoute, HttpRule, OutboundPolicy, OutboundProtocol, RouteMatch,
            ValueCondition, ValueMatch,
        },
        service::{Service, ServiceKey},
    },
    names::LANE_HEADER,
    outcome::Outcome,
};

/// Every request of a rule, as a share in hundredths of a percent.
const WHOLE: u32 = 10_000;

/// The services that a policy leads to, by their paths.
pub type Services<'s> = &'s dyn Fn(&ServiceKey) -> Option<Service>;

/// The policy with one rule more per lane that has members there, and with baseline alone for everything else. `groups`
/// are settled: each lane in the stage that it has now.
pub fn by_header(policy: &OutboundPolicy, groups: &[LaneGroup], services: Services<'_>) -> OutboundPolicy {
    let context = Context { groups, services };
    let routes = |routes: &[HttpRoute]| routes.iter().map(|route| context.route(route)).collect();
    let protocol = match &policy.protocol {
        OutboundProtocol::Detect { timeout, opaque, http1, http2 } => OutboundProtocol::Detect {
            timeout: *timeout,
            opaque: context.baseline(opaque),
            http1: routes(http1),
            http2: routes(http2),
        },
        OutboundProtocol::Opaque(backends) => OutboundProtocol::Opaque(context.baseline(backends)),
        OutboundProtocol::Tls(backends) => OutboundProtocol::Tls(context.baseline(backends)),
        OutboundProtocol::Http1(all) => OutboundProtocol::Http1(routes(all)),
        OutboundProtocol::Http2(all) => OutboundProtocol::Http2(routes(all)),
        OutboundProtocol::Grpc(all) => OutboundProtocol::Grpc(routes(all)),
    };
    OutboundPolicy { protocol }
}

struct Context<'c> {
    groups: &'c [LaneGroup],
    services: Services<'c>,
}

/// Headers and values that mean a lane.
struct Label<'g> {
    carried: Carried,
    headers: BTreeSet<&'g str>,
    values: Vec<String>,
}

impl Context<'_> {
    fn route(&self, route: &HttpRoute) -> HttpRoute {
        let mut rules = Vec::with_capacity(route.rules.len());
        for rule in &route.rules {
            // Lanes first: where two rules match equally well, the first is taken.
            rules.extend(self.lane_rules(rule));
            rules.push(HttpRule { backends: self.baseline(&rule.backends), ..rule.clone() });
        }
        HttpRoute { rules, ..route.clone() }
    }

    fn baseline(&self, backends: &Distribution) -> Distribution {
        let level = |key: &ServiceKey| match (self.services)(key) {
            Some(service) if service.lanes().next().is_some() => subset::path(key, &Level::Baseline),
            Some(_) | None => key.clone(),
        };
        led(backends, &level)
    }

    fn lane_rules(&self, rule: &HttpRule) -> Vec<HttpRule> {
        let backends: Vec<Service> = keys(&rule.backends).into_iter().filter_map(self.services).collect();
        if backends.is_empty() {
            return Vec::new();
        }
        self.labels(&backends).iter().filter_map(|label| self.lane_rule(rule, label, &backends)).collect()
    }

    /// `None` where the label leads to baseline at every backend, as everything else does.
    fn lane_rule(&self, rule: &HttpRule, label: &Label<'_>, backends: &[Service]) -> Option<HttpRule> {
        let mut led_to = Vec::with_capacity(backends.len());
        let mut rejected = false;
        for service in backends {
            match choose(Some(&label.carried), self.groups, service, Usable::All) {
                Choice::Use { level, .. } => led_to.push((service.key(), level)),
                Choice::RejectMissing(_) | Choice::RejectUnhealthy(_) => rejected = true,
            }
        }
        if !rejected && led_to.iter().all(|(_, level)| *level == Level::Baseline) {
            return None;
        }
        let mut filters = rule.filters.clone();
        if rejected {
            let outcome = Outcome::LaneMissing;
            let message = format!("{outcome}: {}", label.carried);
            filters.insert(0, Filter::Fail { status: outcome.status(), message, share: WHOLE });
        }
        let level = |key: &ServiceKey| {
            let found = led_to.iter().find(|(known, _)| *known == key);
            found.map_or_else(|| key.clone(), |(_, level)| subset::path(key, level))
        };
        Some(HttpRule {
            matches: label.matches(&rule.matches),
            filters,
            backends: led(&rule.backends, &level),
            ..rule.clone()
        })
    }

    /// Labels of every lane of the groups that one of the services is in. A lane's bare name means that of the first
    /// group which knows it.
    fn labels(&self, services: &[Service]) -> Vec<Label<'_>> {
        let mut bare: BTreeSet<&LaneName> = BTreeSet::new();
        let mut labels = Vec::new();
        for group in self.groups {
            if !services.iter().any(|service| group.members.contains(service.key().label())) {
                continue;
            }
            for lane in &group.lanes {
                let mut values = vec![format!("{}/{}", group.name, lane.name)];
                if bare.insert(&lane.name) {
                    values.push(lane.name.to_string());
                }
                labels.push(Label {
                    carried: Carried {
                        group: Some(group.name.clone()),
                        lane: lane.name.clone(),
                        source: Source::Header,
                    },
                    headers: BTreeSet::from([LANE_HEADER, group.carrier.header.as_str()]),
                    values,
                });
            }
        }
        labels
    }
}

impl Label<'_> {
    fn matches(&self, matches: &[RouteMatch]) -> Vec<RouteMatch> {
        let any = [RouteMatch::default()];
        let matches = if matches.is_empty() { &any } else { matches };
        let mut all = Vec::new();
        for one in matches {
            for (header, value) in self.headers.iter().flat_map(|header| self.values.iter().map(move |v| (header, v))) {
                let mut headers = one.headers.clone();
                let value = ValueCondition::Exact(value.clone());
                headers.push(ValueMatch { name: (*header).to_owned(), value });
                all.push(RouteMatch { headers, ..one.clone() });
            }
        }
        all
    }
}

fn keys(backends: &Distribution) -> Vec<&ServiceKey> {
    fn key(backend: &Backend) -> Option<&ServiceKey> {
        match backend {
            Backend::Service(key) => Some(key),
            Backend::Forward(_) => None,
        }
    }
    match backends {
        Distribution::Empty => Vec::new(),
        Distribution::FirstAvailable(all) => all.iter().filter_map(key).collect(),
        Distribution::Weighted(all) => all.iter().filter_map(|(one, _)| key(one)).collect(),
    }
}

fn led(backends: &Distribution, level: &dyn Fn(&ServiceKey) -> ServiceKey) -> Distribution {
    let one = |backend: &Backend| match backend {
        Backend::Service(key) => Backend::Service(level(key)),
        Backend::Forward(endpoint) => Backend::Forward(endpoint.clone()),
    };
    match backends {
        Distribution::Empty => Distribution::Empty,
        Distribution::FirstAvailable(all) => Distribution::FirstAvailable(all.iter().map(one).collect()),
        Distribution::Weighted(all) => {
            Distribution::Weighted(all.iter().map(|(backend, weight)| (one(backend), *weight)).collect())
        }
    }
}
