//! Step 3: may this go on, and as what? Looks the policy up (asking the control thread for what is not known yet) and
//! lets core decide.

mod inbound;
mod outbound;
mod rate;
mod wait;

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, LazyLock},
    time::Duration,
};

use mesh_core::{
    identity::Identity,
    lane::MayLabel,
    model::{
        endpoint::Endpoint,
        policy::TrafficPolicy,
        route::{Filter, RouteRetry},
        service::Service,
    },
    outcome::Outcome,
    relay::Side,
    snapshot::{Snapshot, Surroundings},
};

use super::reach::Way;
use crate::health::Judged;

pub use self::{
    inbound::{connection as inbound_connection, plan as inbound_plan, request as inbound_request, server},
    outbound::{
        connection as outbound_connection, distribute, outside, own_may_label, provider, request as outbound_request,
        service as outbound_service,
    },
    rate::rate,
};

/// An exchange that may not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// How it ends.
    pub outcome: Outcome,
    /// Why, for people.
    pub detail: String,
}

impl Refused {
    /// A refusal.
    pub fn new(outcome: Outcome, detail: impl Into<String>) -> Self {
        Refused { outcome, detail: detail.into() }
    }
}

/// What an exchange may do.
#[derive(Debug)]
pub struct Plan {
    /// What it needs of the snapshot it began with.
    pub snapshot: Arc<Surroundings>,
    /// Where it goes.
    pub to: To,
    /// What is called, for metrics: `<name>.<namespace>`, an address, or the application's port.
    pub service: Arc<str>,
    /// How calls to the service are treated.
    pub traffic: Arc<TrafficPolicy>,
    /// Most attempts.
    pub attempts: u32,
    /// Time limits, the route's before the service's.
    pub limits: TimeLimits,
    /// Changes that the route makes.
    pub filters: Vec<Filter>,
    /// Retries that the route allows.
    pub retry: Option<RouteRetry>,
    /// Hash of the key by which an instance is chosen, where the service's are chosen by one and the request has it.
    pub key: Option<u64>,
    /// Place of the zone that the service's policy names for such a request, among its `matches`.
    pub zone: Option<usize>,
    /// Who sent it.
    pub from: Side,
    /// Of which groups the sender may set the label.
    pub may_label: MayLabel,
}

/// Time limits of one exchange.
#[derive(Clone, Copy, Debug)]
pub struct TimeLimits {
    /// TCP connect, and TLS handshake.
    pub connect: Duration,
    /// The whole exchange.
    pub request: Option<Duration>,
    /// Until the response's headers.
    pub response_headers: Option<Duration>,
    /// Until the response's headers, of one attempt from its beginning.
    pub attempt: Option<Duration>,
    /// No byte in either direction.
    pub idle: Duration,
}

/// Where an exchange goes.
#[derive(Clone, Debug)]
pub enum To {
    /// One of a service's instances.
    Service(Arc<Service>),
    /// This instance.
    Endpoint(Arc<Endpoint>),
    /// The application of this pod.
    Application(SocketAddr),
    /// An address outside the mesh, in the clear.
    Outside(SocketAddr),
    /// A server outside the mesh that a model route names, at one of these addresses.
    Provider(Rc<[SocketAddr]>, Rc<Way>),
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Verdict {
    /// It goes on.
    Go(Box<Plan>),
    /// A filter of the route answers it.
    Answer {
        /// Status.
        status: u16,
        /// Target of a redirect.
        location: Option<String>,
        /// Text.
        message: String,
    },
}

static DEFAULT_TRAFFIC: LazyLock<Arc<TrafficPolicy>> = LazyLock::new(Arc::default);

fn traffic(snapshot: &Snapshot, service: &str) -> Arc<TrafficPolicy> {
    snapshot.traffic.get(service).map_or_else(|| Arc::clone(&DEFAULT_TRAFFIC), Arc::clone)
}

impl TimeLimits {
    fn of(traffic: &TrafficPolicy) -> Self {
        let timeouts = traffic.timeouts;
        TimeLimits {
            connect: timeouts.connect,
            request: timeouts.request,
            response_headers: timeouts.response_headers,
            attempt: timeouts.per_try,
            idle: timeouts.idle,
        }
    }
}

impl Plan {
    /// What the instance of an exchange is judged by; `None` where it is no service's.
    pub fn judged(&self) -> Option<Judged<'_>> {
        match &self.to {
            To::Service(service) => Some(Judged { service, groups: &self.snapshot.lanes, traffic: &self.traffic }),
            To::Endpoint(_) | To::Application(_) | To::Outside(_) | To::Provider(..) => None,
        }
    }

    /// `identity` is the sender's, where it is known.
    fn new(snapshot: &Snapshot, to: To, service: Arc<str>, from: Side, identity: Option<&Identity>) -> Self {
        let may_label = match from {
            Side::Outside => MayLabel::None,
            Side::Application | Side::Mesh => MayLabel::of(identity, &snapshot.lanes),
        };
        let traffic = traffic(snapshot, &service);
        Plan {
            attempts: traffic.retries.attempts,
            limits: TimeLimits::of(&traffic),
            snapshot: snapshot.surroundings(),
            to,
            service,
            traffic,
            filters: Vec::new(),
            retry: None,
            key: None,
            zone: None,
            from,
            may_label,
        }
    }
}
