//! `Destination`: instances of services, as deltas.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
};

use futures_util::stream;
use linkerd2_proxy_api::destination::{DestinationProfile, GetDestination, Update, destination_server::Destination};
use mesh_core::{
    lane::subset,
    model::{endpoint::Endpoint, route::Target, service::ServiceKey},
};
use mesh_proto::convert::{
    endpoint::Change,
    target::{Workload, authority},
    validate,
};
use tonic::{Request, Response, Status};

use super::{Published, Watch, follow::Answers, peer::Peer, profile};
use crate::{
    index::{Key, View, path, services::in_traffic},
    telemetry::{Metrics, Service},
};

/// The service.
pub struct Discovery {
    /// What is published.
    pub published: Arc<Published>,
    /// Control namespace, for names of identities.
    pub control_namespace: Arc<str>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

#[tonic::async_trait]
impl Destination for Discovery {
    type GetStream = Answers<Update>;
    type GetProfileStream = Answers<DestinationProfile>;

    async fn get(&self, request: Request<GetDestination>) -> Result<Response<Self::GetStream>, Status> {
        let peer = Peer::proven(&request)?;
        let message = request.into_inner();
        let namespace = caller(&peer, &message.context_token)?;
        let (subset, whole) = match subset::split(&message.path) {
            Some((subset, whole)) => (Some(subset.to_owned()), whole),
            None => (None, message.path.as_str()),
        };
        let key = service_key(&self.published.view(), whole, &namespace)?;
        let (label, _) = path(&key).ok_or_else(|| Status::invalid_argument("the path has no port"))?;
        let of_lanes = subset.is_some().then_some(Key::Mesh);
        let watch = self.published.watch(std::iter::once(Key::Service(label.to_owned())).chain(of_lanes));
        if self.published.view().port(&key).is_none() {
            watch.looked_up().await;
        }
        let stream = Instances {
            watch,
            subset,
            published: Arc::clone(&self.published),
            control_namespace: Arc::clone(&self.control_namespace),
            sent: Sent::default(),
            pending: VecDeque::new(),
            open: self.metrics.stream(Service::Destination),
            key,
        };
        Ok(Response::new(Box::pin(stream::unfold(Some(stream), Instances::next))))
    }

    async fn get_profile(&self, request: Request<GetDestination>) -> Result<Response<Self::GetProfileStream>, Status> {
        let peer = Peer::proven(&request)?;
        let message = request.into_inner();
        let namespace = caller(&peer, &message.context_token)?;
        let target = authority("path", &message.path).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let open = self.metrics.stream(Service::Profile);
        let asked = profile::Asked { target, namespace, control_namespace: Arc::clone(&self.control_namespace) };
        Ok(Response::new(profile::stream(Arc::clone(&self.published), asked, open).await))
    }
}

/// Namespace of the caller: what the certificate says, else what the context says.
fn caller(peer: &Peer, context: &str) -> Result<String, Status> {
    let stated = if context.is_empty() {
        String::new()
    } else {
        Workload::from_wire(context).map_err(|error| Status::invalid_argument(error.to_string()))?.namespace
    };
    if !stated.is_empty() {
        peer.in_namespace(&stated)?;
    }
    Ok(peer.namespace(&stated).to_owned())
}

/// The full path of the service that is meant, whether it exists or not.
fn service_key(view: &View, path: &str, namespace: &str) -> Result<ServiceKey, Status> {
    let target = authority("path", path).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let Target::Authority(host, port) = target else {
        return Err(Status::invalid_argument(format!("{path:?} is an address; only names of services have instances")));
    };
    let candidates = view.candidates(&host, namespace);
    let known = candidates.iter().find(|label| view.service(label).is_some()).or(candidates.first());
    let label = known.ok_or_else(|| {
        let form = format!("<name>.<namespace>.svc.{}:<port>", view.domains().cluster);
        Status::invalid_argument(format!("{path:?} is no service name; expected {form}"))
    })?;
    Ok(ServiceKey(format!("{label}.svc.{}:{port}", view.domains().cluster).into()))
}

/// One stream of instances.
struct Instances {
    published: Arc<Published>,
    watch: Watch,
    key: ServiceKey,
    /// The level that is asked for, `None` = all instances.
    subset: Option<String>,
    control_namespace: Arc<str>,
    sent: Sent,
    pending: VecDeque<Change>,
    open: crate::telemetry::OpenStream,
}

impl Instances {
    async fn next(this: Option<Self>) -> Option<(Result<Update, Status>, Option<Self>)> {
        let mut this = this?;
        loop {
            if let Some(change) = this.pending.pop_front() {
                let update = change.to_wire(&this.key, &this.control_namespace);
                return Some(match validate::update(&update) {
                    Ok(()) => {
                        this.open.sent();
                        (Ok(update), Some(this))
                    }
                    Err(error) => (Err(Status::internal(format!("{}: {error}", this.key))), None),
                });
            }
            if this.sent != Sent::default()
                && let Err(stopped) = this.watch.changed().await
            {
                return Some((Err(stopped), None));
            }
            let view = this.published.view();
            let changes = match &this.subset {
                None => this.sent.follow(view.port(&this.key).map(in_traffic)),
                Some(name) => {
                    let level = view.in_subset(&this.key, name);
                    this.sent.follow(level.as_ref().map(|level| level.iter()))
                }
            };
            this.pending = changes.into();
        }
    }
}

/// What a stream has told its client; computes what to tell next.
#[derive(Debug, Default, PartialEq)]
pub struct Sent {
    told: Option<Told>,
}

#[derive(Debug, PartialEq)]
enum Told {
    Missing,
    Instances(BTreeMap<SocketAddr, Arc<Endpoint>>),
}

impl Sent {
    /// Updates that bring the client from what it was told to `wanted` (`None` = no such service). New instances are
    /// told before old ones are taken away, so that the client is never without.
    pub fn follow<'e>(&mut self, wanted: Option<impl Iterator<Item = &'e Arc<Endpoint>>>) -> Vec<Change> {
        let Some(wanted) = wanted else {
            let new = self.told != Some(Told::Missing);
            self.told = Some(Told::Missing);
            return if new { vec![Change::Empty { exists: false }] } else { Vec::new() };
        };
        let wanted: BTreeMap<_, _> = wanted.map(|endpoint| (endpoint.address, Arc::clone(endpoint))).collect();
        let known = match self.told.take() {
            Some(Told::Instances(known)) => Some(known),
            Some(Told::Missing) | None => None,
        };
        let mut changes = Vec::new();
        if wanted.is_empty() {
            if known.is_none_or(|known| !known.is_empty()) {
                changes.push(Change::Empty { exists: true });
            }
        } else {
            let known = known.unwrap_or_default();
            let added: Vec<_> =
                wanted.values().filter(|new| known.get(&new.address) != Some(new)).map(Arc::clone).collect();
            let removed: Vec<_> = known.keys().filter(|address| !wanted.contains_key(address)).copied().collect();
            changes.extend((!added.is_empty()).then_some(Change::Add(added)));
            changes.extend((!removed.is_empty()).then_some(Change::Remove(removed)));
        }
        self.told = Some(Told::Instances(wanted));
        changes
    }
}

#[cfg(test)]
mod tests;
