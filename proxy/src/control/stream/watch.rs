//! The streams of Linkerd's API: each is opened again for ever, with growing pauses, until its owner aborts it. What
//! cannot be read is refused and the last good state stays.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use linkerd2_proxy_api::{
    destination::{GetDestination, destination_client::DestinationClient},
    inbound::inbound_server_policies_client::InboundServerPoliciesClient,
    outbound::outbound_policies_client::OutboundPoliciesClient,
};
use mesh_core::model::{route::Target, service::ServiceKey};
use mesh_proto::convert::{
    endpoint::Change,
    inbound, outbound,
    target::{Workload, port_spec, traffic_spec},
};
use tokio::{sync::mpsc, time::sleep};
use tonic::{Code, Status, Streaming};

use super::{Channels, News};
use crate::{
    backoff,
    control::{client::MESSAGE_MAX, snapshot::Event},
    telemetry::control::ControlCounters,
};

/// Pause before the controller is asked again about a service or port that it does not know.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(10);

/// What every stream needs.
pub(super) struct Context {
    pub(super) workload: Workload,
    pub(super) control_namespace: String,
    pub(super) channels: Channels,
    pub(super) news: mpsc::Sender<News>,
    pub(super) counters: Arc<ControlCounters>,
    /// Streams that are broken now.
    pub(super) broken: AtomicUsize,
}

/// Failures of one stream in a row.
pub(super) struct Failures<'a> {
    count: u32,
    broken: &'a AtomicUsize,
}

impl<'a> Failures<'a> {
    pub(super) fn none(context: &'a Context) -> Self {
        Failures { count: 0, broken: &context.broken }
    }

    pub(super) fn forget(&mut self) {
        if std::mem::take(&mut self.count) > 0 {
            self.broken.fetch_sub(1, Relaxed);
        }
    }

    fn add(&mut self) -> u32 {
        if self.count == 0 {
            self.broken.fetch_add(1, Relaxed);
        }
        self.count = self.count.saturating_add(1);
        self.count
    }
}

impl Drop for Failures<'_> {
    fn drop(&mut self) {
        self.forget();
    }
}

/// How a stream ended.
pub(super) enum Ended {
    /// With this status, or in order.
    Status(Status),
    /// The owner is gone.
    Deaf,
}

impl From<Status> for Ended {
    fn from(status: Status) -> Self {
        Ended::Status(status)
    }
}

impl Context {
    pub(super) async fn tell(&self, news: News) -> Result<(), Ended> {
        self.news.send(news).await.map_err(|_| Ended::Deaf)
    }

    async fn event(&self, event: Event) -> Result<(), Ended> {
        self.tell(News::Event(event)).await
    }

    /// Counts a broken stream and waits before it is opened again.
    pub(super) async fn pause(
        &self,
        what: &(dyn std::fmt::Display + Sync),
        status: &Status,
        failures: &mut Failures<'_>,
    ) {
        let failures = failures.add();
        ControlCounters::add(&self.counters.stream_failures);
        tracing::debug!(%what, code = ?status.code(), message = status.message(), failures, "stream ended");
        sleep(backoff::wait(failures, rand::random())).await;
    }
}

/// The controller says that there is no such thing (an IP path and the like are refused as invalid for ever).
fn is_unknown(status: &Status) -> bool {
    matches!(status.code(), Code::NotFound | Code::InvalidArgument)
}

fn unreadable(error: &impl std::fmt::Display) -> Ended {
    tracing::warn!(%error, "an answer of the controller is refused; the last good state stays");
    Ended::Status(Status::data_loss(error.to_string()))
}

/// The next message; the end of a stream in order is an end like any other.
async fn next<T>(stream: &mut Streaming<T>) -> Result<T, Ended> {
    stream.message().await?.ok_or_else(|| Status::unavailable("the controller closed the stream").into())
}

/// Follows the policy of a target until the controller says that it does not know it.
pub(super) async fn target(context: Arc<Context>, target: Target) {
    let mut failures = Failures::none(&context);
    loop {
        match target_once(&context, &target, &mut failures).await {
            Ended::Deaf => return,
            Ended::Status(status) if is_unknown(&status) => {
                // Nobody hears it where the owner is gone, and then it does not matter.
                let _ = context.event(Event::TargetUnknown(target)).await;
                return;
            }
            Ended::Status(status) => context.pause(&target, &status, &mut failures).await,
        }
    }
}

async fn target_once(context: &Context, target: &Target, failures: &mut Failures<'_>) -> Ended {
    let follow = async {
        let mut client =
            OutboundPoliciesClient::new(context.channels.policy.clone()).max_decoding_message_size(MESSAGE_MAX);
        let mut stream = client.watch(traffic_spec(&context.workload, target)).await?.into_inner();
        loop {
            let message = next(&mut stream).await?;
            let policy =
                outbound::from_wire(message, &context.control_namespace).map_err(|error| unreadable(&error))?;
            failures.forget();
            context.event(Event::Target(target.clone(), Arc::new(policy))).await?;
        }
    };
    ended(follow.await)
}

/// Follows the instances of a service.
pub(super) async fn service(context: Arc<Context>, key: ServiceKey) {
    let mut failures = Failures::none(&context);
    loop {
        match service_once(&context, &key, &mut failures).await {
            Ended::Deaf => return,
            Ended::Status(status) if is_unknown(&status) => {
                let gone = Event::ServiceReplaced(key.clone(), Change::Empty { exists: false });
                if context.event(gone).await.is_err() {
                    return;
                }
                sleep(UNKNOWN_PAUSE).await;
            }
            Ended::Status(status) => context.pause(&key, &status, &mut failures).await,
        }
    }
}

async fn service_once(context: &Context, key: &ServiceKey, failures: &mut Failures<'_>) -> Ended {
    let follow = async {
        let mut client =
            DestinationClient::new(context.channels.destination.clone()).max_decoding_message_size(MESSAGE_MAX);
        let question = GetDestination {
            scheme: "k8s".to_owned(),
            path: key.as_str().to_owned(),
            context_token: context.workload.to_wire(),
        };
        let mut stream = client.get(question).await?.into_inner();
        let mut first = true;
        loop {
            let message = next(&mut stream).await?;
            let change = Change::from_wire(message, &context.control_namespace).map_err(|error| unreadable(&error))?;
            failures.forget();
            let key = key.clone();
            let event = if first { Event::ServiceReplaced(key, change) } else { Event::ServiceChanged(key, change) };
            first = false;
            context.event(event).await?;
        }
    };
    ended(follow.await)
}

/// Follows the policy of an inbound port until the controller says that it does not know it.
pub(super) async fn port(context: Arc<Context>, port: u16, unknown: WhenUnknown) {
    let mut failures = Failures::none(&context);
    loop {
        match port_once(&context, port, &mut failures).await {
            Ended::Deaf => return,
            Ended::Status(status) if is_unknown(&status) => {
                if context.event(Event::PortUnknown(port)).await.is_err() || unknown == WhenUnknown::GiveUp {
                    return;
                }
                sleep(UNKNOWN_PAUSE).await;
            }
            Ended::Status(status) => context.pause(&port, &status, &mut failures).await,
        }
    }
}

/// What happens when the controller does not know a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WhenUnknown {
    /// A worker asked because of a connection: it asks again at the next.
    GiveUp,
    /// The workload serves it: the policy may come.
    AskAgain,
}

async fn port_once(context: &Context, port: u16, failures: &mut Failures<'_>) -> Ended {
    let follow = async {
        let mut client =
            InboundServerPoliciesClient::new(context.channels.policy.clone()).max_decoding_message_size(MESSAGE_MAX);
        let mut stream = client.watch_port(port_spec(&context.workload, port)).await?.into_inner();
        loop {
            let message = next(&mut stream).await?;
            let server = inbound::from_wire(message, port).map_err(|error| unreadable(&error))?;
            failures.forget();
            context.event(Event::Port(port, Arc::new(server))).await?;
        }
    };
    ended(follow.await)
}

/// A stream never ends well: it ends with a reason.
fn ended(result: Result<std::convert::Infallible, Ended>) -> Ended {
    match result {
        Err(ended) => ended,
        Ok(never) => match never {},
    }
}
