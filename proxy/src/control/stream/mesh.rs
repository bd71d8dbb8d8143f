//! The stream of our own API: hello, revisions down, each answered, and a report of our state every few seconds.

use std::{sync::Arc, time::Duration};

use mesh_proto::{
    convert::{policy::Policy, timestamp},
    mesh::v1::{
        Ack, Hello, Nack, PolicySnapshot, ProbeNote, ProxyReport, Status as StatusReport,
        mesh_policy_client::MeshPolicyClient, proxy_report::Report,
    },
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status as RpcStatus, transport::Channel};

use super::{
    News,
    life::Life,
    statistics::Statistics,
    unusable::Unusable,
    usage::UsageReports,
    watch::{Context, Ended, Failures},
};
use crate::{control::client::MESSAGE_MAX, identity::Credentials, telemetry::control::ControlCounters};

/// How often the controller hears how we are.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// How often the controller hears what our calls came to, where there were any.
const STATISTICS_INTERVAL: Duration = Duration::from_secs(2);
/// Reports that wait to be sent; a status that finds the queue full is left out.
const REPORT_QUEUE: usize = 16;
/// Pause before a control plane without this API is asked again: it may be replaced by one that has it.
const UNIMPLEMENTED_PAUSE: Duration = Duration::from_secs(300);

/// What a status report is made of.
pub(super) struct Status {
    pub(super) credentials: watch::Receiver<Arc<Credentials>>,
    pub(super) life: Life,
    pub(super) counters: Arc<ControlCounters>,
    pub(super) statistics: Statistics,
    pub(super) unusable: Unusable,
    pub(super) usage: UsageReports,
    pub(super) probed: mpsc::Receiver<ProbeNote>,
}

impl Status {
    fn report(&self) -> Report {
        let written = ControlCounters::get(&self.counters.snapshot_written);
        let written = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(written);
        Report::Status(StatusReport {
            certificate_not_after: self.credentials.borrow().held.as_ref().map(|held| timestamp(held.not_after)),
            snapshot_written: (written > std::time::SystemTime::UNIX_EPOCH).then(|| timestamp(written)),
            draining: self.life.state().is_leaving(),
            subscriptions: u32::try_from(ControlCounters::get(&self.counters.subscriptions)).unwrap_or(u32::MAX),
        })
    }

    /// Reports what was counted since the last time.
    fn count(&mut self, reports: &mpsc::Sender<ProxyReport>) {
        let report = |report| ProxyReport { report: Some(report) };
        // What finds the queue full is lost: windows of guards know gaps.
        if let Some(statistics) = self.statistics.report() {
            drop(reports.try_send(report(Report::Lanes(statistics))));
        }
        // Without room it is said next time.
        if let Ok(room) = reports.try_reserve()
            && let Some(unusable) = self.unusable.report()
        {
            room.send(report(Report::Unusable(unusable)));
        }
        // So is this: what is paid for is not left out.
        if let Ok(room) = reports.try_reserve()
            && let Some(usage) = self.usage.report()
        {
            room.send(report(Report::Models(usage)));
        }
    }
}

/// Keeps the stream open for ever. `hello.applied_revision` follows what was applied.
pub(super) async fn follow(context: Arc<Context>, channel: Channel, mut hello: Hello, mut status: Status) {
    let mut failures = Failures::none(&context);
    loop {
        match follow_once(&context, channel.clone(), &mut hello, &mut status, &mut failures).await {
            Err(Ended::Deaf) | Ok(()) => return,
            Err(Ended::Status(ended)) if ended.code() == Code::Unimplemented => {
                tracing::info!("the control plane has no mesh.v1: lanes and traffic policies are not available");
                if context.tell(News::NoPolicy).await.is_err() {
                    return;
                }
                sleep(UNIMPLEMENTED_PAUSE).await;
            }
            Err(Ended::Status(ended)) => context.pause(&"mesh policy", &ended, &mut failures).await,
        }
    }
}

async fn follow_once(
    context: &Context,
    channel: Channel,
    hello: &mut Hello,
    status: &mut Status,
    failures: &mut Failures<'_>,
) -> Result<(), Ended> {
    let (reports, queue) = mpsc::channel(REPORT_QUEUE);
    let report = |report| ProxyReport { report: Some(report) };
    status.unusable.begin();
    send(&reports, report(Report::Hello(hello.clone()))).await?;
    status.life.begin();
    if let Some(life) = status.life.report() {
        send(&reports, report(Report::Lifecycle(life))).await?;
    }
    let mut client = MeshPolicyClient::new(channel).max_decoding_message_size(MESSAGE_MAX);
    let mut stream = client.watch(ReceiverStream::new(queue)).await?.into_inner();
    let mut tick = interval(STATUS_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut counting = interval(STATISTICS_INTERVAL);
    counting.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = stream.message() => {
                let Some(message) = message? else {
                    return Err(RpcStatus::unavailable("the controller closed the stream").into());
                };
                failures.forget();
                let revision = message.revision.clone();
                let answer = match apply(context, message).await? {
                    Ok(()) => {
                        ControlCounters::add(&context.counters.acknowledged);
                        hello.applied_revision.clone_from(&revision);
                        Report::Ack(Ack { revision })
                    }
                    Err(reason) => {
                        ControlCounters::add(&context.counters.refused);
                        tracing::warn!(revision, reason, "policy refused; the last good one stays");
                        Report::Nack(Nack { revision, reason })
                    }
                };
                send(&reports, report(answer)).await?;
            }
            () = status.life.changed() => if let Some(life) = status.life.report() {
                send(&reports, report(Report::Lifecycle(life))).await?;
            },
            // A full queue means that the controller does not read: the next status says the same.
            _ = tick.tick() => drop(reports.try_send(report(status.report()))),
            Some(note) = status.probed.recv() => drop(reports.try_send(report(Report::Probe(note)))),
            _ = counting.tick() => status.count(&reports),
        }
    }
}

async fn send(reports: &mpsc::Sender<ProxyReport>, report: ProxyReport) -> Result<(), Ended> {
    reports.send(report).await.map_err(|_| RpcStatus::unavailable("the controller stopped reading reports").into())
}

/// Applied, or the reason why not.
async fn apply(context: &Context, message: PolicySnapshot) -> Result<Result<(), String>, Ended> {
    let policy = match Policy::from_wire(message) {
        Ok(policy) => policy,
        Err(invalid) => return Ok(Err(invalid.to_string())),
    };
    let (answer, applied) = oneshot::channel();
    context.tell(News::Policy(Box::new(policy), answer)).await?;
    applied.await.map_err(|_| Ended::Deaf)
}
