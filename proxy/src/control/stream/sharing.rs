//! The stream of shared probing: what this proxy calls and found out up, what it is to probe and what others found out
//! down. Without it everyone probes for himself.

use std::{sync::Arc, time::Duration};

use mesh_proto::{
    convert::shared_health::{Calls, calls_to_wire, shares_from_wire},
    mesh::v1::{Caller, CallerHealth, mesh_health_client::MeshHealthClient},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status as RpcStatus, transport::Channel};

use super::watch::{Context, Failures};
use crate::{control::client::MESSAGE_MAX, shared::Shared};

/// Shortest time between two reports: changes that come together are one.
const PACE: Duration = Duration::from_millis(100);
/// So long the controller may leave reports unread: while one waits, nothing of what it says is taken in.
const SEND_MAX: Duration = Duration::from_secs(10);
/// Pause before a control plane without this API is asked again: it may be replaced by one that has it.
const UNIMPLEMENTED_PAUSE: Duration = Duration::from_secs(300);

/// Keeps the stream open for ever.
pub(super) async fn follow(context: Arc<Context>, channel: Channel, shared: Arc<Shared>, caller: Caller) {
    let mut failures = Failures::none(&context);
    loop {
        let Err(status) = exchange(channel.clone(), &shared, &caller, &mut failures).await;
        if status.code() == Code::Unimplemented {
            tracing::info!("the control plane has no shared probing: this proxy probes every instance itself");
            failures.forget();
            shared.probing.go_alone();
            sleep(UNIMPLEMENTED_PAUSE).await;
        } else {
            shared.probing.lose();
            context.pause(&"shared probing", &status, &mut failures).await;
        }
    }
}

async fn exchange(
    channel: Channel,
    shared: &Shared,
    caller: &Caller,
    failures: &mut Failures<'_>,
) -> Result<std::convert::Infallible, RpcStatus> {
    let (reports, queue) = mpsc::channel(1);
    let (mut board, mut revision) = (shared.probing.changes(), shared.revision.clone());
    let mut said = calls(shared);
    send(&reports, calls_to_wire(&said, Some(caller.clone()))).await?;
    let mut client = MeshHealthClient::new(channel).max_decoding_message_size(MESSAGE_MAX);
    let mut stream = client.share(ReceiverStream::new(queue)).await?.into_inner();
    let mut due = Instant::now() + PACE;
    let mut is_stale = true;
    loop {
        tokio::select! {
            message = stream.message() => {
                let message = message?.ok_or_else(|| RpcStatus::unavailable("the controller closed the stream"))?;
                let shares = shares_from_wire(&message).map_err(|invalid| RpcStatus::data_loss(invalid.to_string()))?;
                failures.forget();
                shared.probing.hear(shares);
            }
            changed = board.changed() => {
                changed.map_err(|_| ending())?;
                is_stale = true;
            }
            // Policies say which services are probed together.
            changed = revision.changed() => {
                changed.map_err(|_| ending())?;
                is_stale = true;
            }
            () = sleep_until(due), if is_stale => {
                is_stale = false;
                due = Instant::now() + PACE;
                let now = calls(shared);
                if now != said {
                    send(&reports, calls_to_wire(&now, None)).await?;
                    said = now;
                }
            }
        }
    }
}

/// What this proxy calls, of services whose probing is shared, and what it found out.
fn calls(shared: &Shared) -> Calls {
    let snapshot = shared.load();
    shared.probing.read().calls(|key| {
        let check = snapshot.traffic.get(key.label()).and_then(|policy| policy.health_check.as_ref());
        check.is_some_and(|check| check.shared_by > 0)
    })
}

async fn send(reports: &mpsc::Sender<CallerHealth>, report: CallerHealth) -> Result<(), RpcStatus> {
    let sent = reports.send_timeout(report, SEND_MAX).await;
    sent.map_err(|_| RpcStatus::unavailable("the controller stopped reading reports"))
}

fn ending() -> RpcStatus {
    RpcStatus::cancelled("the proxy ends")
}
