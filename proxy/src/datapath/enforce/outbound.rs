//! Outbound: where a call goes. Targets are looked up, routes found, backends drawn.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use mesh_core::{
    enforce::outbound::{self as decide, Verdict as Known},
    lane::MayLabel,
    model::{
        route::{Backend, Distribution, Filter, HttpRoute, HttpRule, OutboundPolicy, OutboundProtocol, Target},
        service::Service,
    },
    outcome::Outcome,
    relay::Side,
    route,
    snapshot::{Snapshot, Surroundings},
};

use super::{
    Plan, Refused, To, Verdict,
    wait::{Look, answer},
};
use crate::{
    datapath::{
        accept::{Connection, Destination},
        message::{RequestHead, split_authority},
        reach::Way,
    },
    shared::Ask,
    telemetry::worker::Protocol,
    worker::{OutsideLanes, Role, Worker},
};

/// Port of a target whose authority names none.
const DEFAULT_PORT: u16 = 80;
/// Port that `https` means where none is written.
const HTTPS_PORT: u16 = 443;

/// Policy of a target; `None` = the controller does not know it.
///
/// # Errors
/// `not_ready` while the controller has not answered.
pub async fn connection(
    worker: &Worker,
    target: &Target,
) -> Result<(Arc<Snapshot>, Option<Arc<OutboundPolicy>>), Refused> {
    answer(worker, |snapshot| match decide::target(snapshot, target) {
        Known::Known(policy) => Look::Found(Some(Arc::clone(policy))),
        Known::Unknown => Look::Found(None),
        Known::Ask => Look::Ask(Ask::Target(target.clone())),
    })
    .await
}

/// What becomes of a request: policy and route of its target.
///
/// # Errors
/// Why it may not go on.
pub async fn request(
    worker: &Worker,
    connection: &Connection,
    head: &RequestHead,
    protocol: Protocol,
) -> Result<Verdict, Refused> {
    let mut target = target_of(connection, head)?;
    let (mut snapshot, mut policy) = self::connection(worker, &target).await?;
    if let Some(other) = behind_gateway(worker, connection, &target).filter(|_| policy.is_none()) {
        (snapshot, policy) = self::connection(worker, &other).await?;
        target = other;
    }
    match policy {
        Some(policy) => by_policy(worker, snapshot, &policy, (head, protocol), &target).await,
        None => outside(worker, &target, snapshot).map(|plan| Verdict::Go(Box::new(plan))),
    }
}

/// What becomes of a request to a service of the mesh that somebody else than its caller names: `name.namespace:port`.
///
/// # Errors
/// Why it may not go on; also where the controller does not know the service.
pub async fn service(worker: &Worker, authority: &str, head: &RequestHead) -> Result<Verdict, Refused> {
    let (host, port) = split_authority(authority);
    let target = Target::Authority(host.to_ascii_lowercase().into(), port.unwrap_or(DEFAULT_PORT));
    match self::connection(worker, &target).await? {
        (snapshot, Some(policy)) => by_policy(worker, snapshot, &policy, (head, Protocol::Http1), &target).await,
        (snapshot, None) => outside(worker, &target, snapshot).map(|plan| Verdict::Go(Box::new(plan))),
    }
}

/// The way to a server outside of the mesh that a model route names; `service` is its name for metrics.
///
/// # Errors
/// `loop`, where it is this proxy itself.
pub fn provider(
    worker: &Worker,
    snapshot: Arc<Snapshot>,
    (addresses, way): (Rc<[SocketAddr]>, Rc<Way>),
    service: Arc<str>,
) -> Result<Plan, Refused> {
    addresses.iter().try_for_each(|address| guard(worker, *address))?;
    Ok(new_plan(worker, snapshot, To::Provider(addresses, way), service))
}

async fn by_policy(
    worker: &Worker,
    snapshot: Arc<Snapshot>,
    policy: &OutboundPolicy,
    (head, protocol): (&RequestHead, Protocol),
    target: &Target,
) -> Result<Verdict, Refused> {
    let routes = match (&policy.protocol, protocol) {
        (OutboundProtocol::Detect { http2, .. }, Protocol::Http2) => http2,
        (OutboundProtocol::Detect { http1, .. }, Protocol::Http1 | Protocol::Opaque) => http1,
        (OutboundProtocol::Http1(routes) | OutboundProtocol::Http2(routes) | OutboundProtocol::Grpc(routes), _) => {
            routes
        }
        (OutboundProtocol::Opaque(to) | OutboundProtocol::Tls(to), _) => {
            let plan = distribute(worker, snapshot, to, target).await?;
            return Ok(Verdict::Go(Box::new(plan)));
        }
    };
    by_route(worker, snapshot, routes, head, target).await
}

fn target_of(connection: &Connection, head: &RequestHead) -> Result<Target, Refused> {
    match &connection.to {
        Destination::Target(target) => Ok(target.clone()),
        Destination::ByRequest => {
            let (host, port) = head.host_and_port();
            if host.is_empty() {
                return Err(Refused::new(Outcome::BadRequest, "the request names no host to go to"));
            }
            Ok(Target::Authority(host.to_ascii_lowercase().into(), port.unwrap_or(DEFAULT_PORT)))
        }
        Destination::Application(_) => Err(Refused::new(Outcome::Internal, "an inbound connection has no target")),
    }
}

/// The target that a call from outside means as well: a gateway's own port in the host says where the gateway is, and of
/// the service only where that has such a port.
fn behind_gateway(worker: &Worker, connection: &Connection, target: &Target) -> Option<Target> {
    let (Destination::ByRequest, Role::Gateway) = (&connection.to, worker.config.role) else { return None };
    let Target::Authority(host, port) = target else { return None };
    let tls = worker.config.outside_tls_listen.map(|listen| listen.port());
    let is_gateways = *port == worker.config.outbound_listen.port() || Some(*port) == tls || *port == HTTPS_PORT;
    is_gateways.then(|| Target::Authority(Arc::clone(host), DEFAULT_PORT))
}

async fn by_route(
    worker: &Worker,
    snapshot: Arc<Snapshot>,
    routes: &[HttpRoute],
    head: &RequestHead,
    target: &Target,
) -> Result<Verdict, Refused> {
    let Some(found) = route::find(routes, &head.parts()) else {
        return Err(Refused::new(Outcome::NoRoute, format!("no route of {target} takes this request")));
    };
    if let Some(verdict) = answered(worker, found.rule, head) {
        return Ok(verdict);
    }
    let mut plan = distribute(worker, snapshot, &found.rule.backends, target).await?;
    let timeouts = found.rule.timeouts;
    plan.limits.request = timeouts.request.or(plan.limits.request);
    plan.limits.response_headers = timeouts.response.or(plan.limits.response_headers);
    plan.limits.idle = timeouts.idle.unwrap_or(plan.limits.idle);
    if let Some(retry) = &found.rule.retry {
        plan.attempts = retry.retries.saturating_add(1);
        plan.limits.attempt = retry.try_timeout.or(plan.limits.attempt);
    }
    plan.filters = found.rule.filters.clone();
    plan.retry = found.rule.retry.clone();
    Ok(Verdict::Go(Box::new(plan)))
}

/// The answer that a filter gives, if one does.
fn answered(worker: &Worker, rule: &HttpRule, head: &RequestHead) -> Option<Verdict> {
    rule.filters.iter().find_map(|filter| match filter {
        Filter::Redirect { scheme, host, port, path, status } => {
            let (own_host, own_port) = head.host_and_port();
            let scheme = scheme.as_deref().unwrap_or("http");
            // A changed scheme brings its own port unless one is given (Gateway API).
            let port = port.or(if scheme == "http" { own_port } else { None });
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            let host = host.as_deref().unwrap_or(own_host);
            let path = path.clone().unwrap_or_else(|| head.to_string());
            let location = Some(format!("{scheme}://{host}{port}{path}"));
            Some(Verdict::Answer { status: *status, location, message: String::new() })
        }
        Filter::Fail { status, message, share } => (worker.random() % 10_000 < u64::from(*share))
            .then(|| Verdict::Answer { status: *status, location: None, message: message.clone() }),
        Filter::RequestHeaders(_) | Filter::ResponseHeaders(_) => None,
    })
}

/// Draws a backend and finds its instances.
///
/// # Errors
/// When there is no backend or the controller does not answer.
pub async fn distribute(
    worker: &Worker,
    snapshot: Arc<Snapshot>,
    distribution: &Distribution,
    target: &Target,
) -> Result<Plan, Refused> {
    let backend = match distribution {
        Distribution::Empty => return Err(Refused::new(Outcome::Internal, format!("{target} has no valid backend"))),
        Distribution::FirstAvailable(backends) => backends
            .iter()
            .find(|backend| is_available(backend, &snapshot))
            .or(backends.first())
            .ok_or_else(|| Refused::new(Outcome::NoEndpoints, format!("{target} has no backend")))?,
        Distribution::Weighted(backends) => weighted(worker, backends)
            .ok_or_else(|| Refused::new(Outcome::NoEndpoints, format!("no backend of {target} has weight")))?,
    };
    match backend {
        Backend::Forward(endpoint) => {
            let label = endpoint.labels.get(mesh_core::names::labels::SERVICE).cloned();
            let service = label.unwrap_or_else(|| endpoint.address.to_string()).into();
            Ok(new_plan(worker, snapshot, To::Endpoint(Arc::clone(endpoint)), service))
        }
        Backend::Service(key) => {
            let (current, service): (_, Arc<Service>) = answer(worker, |snapshot| match snapshot.services.get(key) {
                Some(service) => Look::Found(Arc::clone(service)),
                None => Look::Ask(Ask::Service(key.clone())),
            })
            .await?;
            // One snapshot per exchange: the one that answered everything.
            drop(snapshot);
            let label = worker.series.service(key);
            Ok(new_plan(worker, current, To::Service(service), label))
        }
    }
}

fn is_available(backend: &Backend, snapshot: &Snapshot) -> bool {
    match backend {
        Backend::Forward(endpoint) => endpoint.is_open(),
        Backend::Service(key) => snapshot
            .services
            .get(key)
            .is_some_and(|service| service.exists() && service.endpoints().iter().any(|endpoint| endpoint.is_open())),
    }
}

fn weighted<'a>(worker: &Worker, backends: &'a [(Backend, u32)]) -> Option<&'a Backend> {
    let total: u64 = backends.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let mut left = worker.random().checked_rem(total)?;
    for (backend, weight) in backends {
        match left.checked_sub(u64::from(*weight)) {
            Some(rest) => left = rest,
            None => return Some(backend),
        }
    }
    None
}

/// A plan for what the application of this pod, or somebody outside, sends: it may say of lanes what its own identity may.
fn new_plan(worker: &Worker, snapshot: Arc<Snapshot>, to: To, service: Arc<str>) -> Plan {
    let own = worker.shared.tls.load();
    Plan::new(&snapshot, to, service, side(worker), own.as_ref().map(|material| &material.identity))
}

/// Of which groups what arrives at the outbound listener may set the label.
pub fn own_may_label(worker: &Worker, snapshot: &Surroundings) -> MayLabel {
    let own = worker.shared.tls.load();
    match side(worker) {
        Side::Outside => MayLabel::None,
        Side::Application | Side::Mesh => {
            MayLabel::of(own.as_ref().map(|material| &material.identity), &snapshot.lanes)
        }
    }
}

/// Who sends what arrives at the outbound listener.
fn side(worker: &Worker) -> Side {
    match (worker.config.role, worker.config.outside_lanes) {
        (Role::Sidecar, _) => Side::Application,
        (Role::Gateway, OutsideLanes::Strip) => Side::Outside,
        (Role::Gateway, OutsideLanes::Trust) => Side::Mesh,
    }
}

/// The way of a call to something the controller does not know: as it is to a captured address, nowhere otherwise.
///
/// # Errors
/// Why it goes nowhere.
pub fn outside(worker: &Worker, target: &Target, snapshot: Arc<Snapshot>) -> Result<Plan, Refused> {
    match target {
        Target::Address(address) => {
            guard(worker, *address)?;
            Ok(new_plan(worker, snapshot, To::Outside(*address), worker.series.outside()))
        }
        Target::Authority(..) => {
            Err(Refused::new(Outcome::NoRoute, format!("{target} is no service of the mesh; check its name and port")))
        }
    }
}

/// Calls in the clear to our own listeners would go round for ever.
///
/// # Errors
/// `loop`.
fn guard(worker: &Worker, address: SocketAddr) -> Result<(), Refused> {
    let config = &worker.config;
    let own = |listen: SocketAddr| {
        listen.port() == address.port()
            && (listen.ip() == address.ip() || (listen.ip().is_unspecified() && address.ip().is_loopback()))
    };
    if own(config.outbound_listen) || config.inbound_listen.is_some_and(own) {
        return Err(Refused::new(Outcome::Loop, format!("{address} is a port of this proxy itself")));
    }
    Ok(())
}
