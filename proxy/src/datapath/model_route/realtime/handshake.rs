//! The handshake with one target, up to its answer.

use std::{future::Future as _, net::SocketAddr, pin::pin, rc::Rc, sync::Arc, task::Poll, time::Duration};

use bytes::{Bytes, BytesMut};
use mesh_core::{
    model::model_route::{Dialect, Failure, ModelEndpoint, ModelTarget, Reason},
    model_route::{
        address::{self, Crossing, Place},
        failure,
    },
    outcome::Outcome,
};

use super::no_request;
use crate::{
    datapath::{
        enforce::Plan,
        exchange::{self, Upgraded},
        message::{Headers, RequestHead},
        model_route::{
            attempt::{self, Around, failure_of},
            request::fields,
        },
        reach::InFlight,
        relay::{Downstream, Failed, Http1Upstream, InnerBody, InnerDownstream, Pipe},
        report::Exchange,
    },
    net::{
        deadline::Deadline,
        http1::{self, HeadReader, end_head, write_field, write_request_line},
    },
    providers::Offer,
    telemetry::worker::{Direction, Protocol},
};

/// Bytes of the body of a refusal that are read.
const REFUSAL_MAX: usize = 64 * 1024;

/// How a handshake ended.
pub(super) enum Shaken {
    /// The target changed protocols.
    Opened(Box<Opened>),
    /// It did not.
    Failed(Failure),
    /// The client left.
    Gone(Failed),
}

/// A target's side of a tunnel.
pub(super) struct Opened {
    /// Its answer.
    pub(super) head: http1::ResponseHead,
    /// Its connection.
    pub(super) upstream: Box<Http1Upstream>,
    /// Its place among the exchanges at the instance.
    pub(super) in_flight: InFlight,
    /// The way to it.
    pub(super) plan: Box<Plan>,
    /// Whose it is.
    pub(super) target: Arc<ModelTarget>,
    /// Where it is.
    pub(super) endpoint: Option<SocketAddr>,
    /// Time before it was asked.
    pub(super) overhead: Duration,
}

/// Asks a target for a tunnel; `record` is the client's exchange.
pub(super) async fn shake_hands(
    around: &Around<'_>,
    record: &Exchange,
    target: &Arc<ModelTarget>,
    asked: &str,
    down: &mut Downstream<'_>,
) -> Shaken {
    let head = match rewritten(around, record, target, asked) {
        Ok(head) => head,
        Err(failure) => return Shaken::Failed(failure),
    };
    let overhead = record.started().elapsed();
    let pipe = Rc::new(Pipe::default());
    let inner = InnerDownstream::new(Rc::clone(&pipe), InnerBody::Whole(Rc::default()));
    let mut asking = pin!(ask(around, target, head, inner, (&pipe, overhead)));
    let mut limit = Deadline::default();
    limit.set(around.timers.connect.saturating_add(around.timers.headers));
    let mut body = BytesMut::new();
    std::future::poll_fn(|cx| {
        if let Poll::Ready(gone) = down.poll_left(cx) {
            return Poll::Ready(Shaken::Gone(gone));
        }
        loop {
            let polled = asking.as_mut().poll(cx);
            let mut moved = false;
            while let Some(bytes) = pipe.take() {
                moved = true;
                keep(&mut body, &bytes);
            }
            match polled {
                Poll::Ready(Ok(Some(opened))) => return Poll::Ready(Shaken::Opened(opened)),
                Poll::Ready(Ok(None)) => return Poll::Ready(Shaken::Failed(refusal(around, &pipe, &body))),
                Poll::Ready(Err(failed)) => return Poll::Ready(Shaken::Failed(failure_of(&failed))),
                Poll::Pending if moved => {}
                Poll::Pending => break,
            }
        }
        limit.poll(cx).map(|()| Shaken::Failed(failure::without_answer(Reason::TimeoutHeaders)))
    })
    .await
}

fn keep(body: &mut BytesMut, bytes: &Bytes) {
    let room = REFUSAL_MAX.saturating_sub(body.len()).min(bytes.len());
    body.extend_from_slice(&bytes[..room]);
}

/// What an answer says that does not change protocols.
fn refusal(around: &Around<'_>, pipe: &Pipe, body: &[u8]) -> Failure {
    let Some(head) = pipe.take_head() else { return failure::without_answer(Reason::Reset) };
    let status = head.status.as_u16();
    failure::of_response(Dialect::Openai, status, &Headers(head.headers), body, around.worker.unix_now())
}

/// One attempt; nothing where the target answered otherwise.
async fn ask(
    around: &Around<'_>,
    target: &Arc<ModelTarget>,
    head: RequestHead,
    inner: InnerDownstream,
    (pipe, overhead): (&Pipe, Duration),
) -> Result<Option<Box<Opened>>, Failed> {
    let Around { worker, connection, .. } = around;
    let mut record = Exchange::open(worker, Direction::Outbound, Protocol::Http1, connection.peer);
    record.span = around.span.map(|span| span.child(worker.random()));
    record.label(around.carried.clone());
    let mut plan = match attempt::plan(around, target, &head, Offer::Http1).await {
        Ok(plan) => plan,
        Err(refused) => {
            record.detail = Some(refused.detail.clone());
            record.finish(refused.outcome);
            return Err(Failed::ended(refused.outcome, refused.detail));
        }
    };
    record.head = Some(head);
    plan.limits.idle = around.timers.idle;
    let upgraded = exchange::upgrade(worker, connection, &mut record, &plan, &mut Downstream::Inner(inner)).await;
    let endpoint = record.endpoint;
    match upgraded {
        Ok(Upgraded::Tunnel(upstream, in_flight)) => {
            record.finish(Outcome::Success);
            let head = pipe.take_switched().ok_or_else(|| Failed::ended(Outcome::Internal, "a tunnel without head"))?;
            let target = Arc::clone(target);
            Ok(Some(Box::new(Opened { head, upstream, in_flight, plan, target, endpoint, overhead })))
        }
        Ok(Upgraded::Answered) => {
            record.finish(Outcome::Success);
            Ok(None)
        }
        Err(failed) => {
            record.detail = Some(failed.detail.clone());
            record.finish(failed.outcome);
            Err(failed)
        }
    }
}

/// The request as the target wants it.
fn rewritten(
    around: &Around<'_>,
    record: &Exchange,
    target: &ModelTarget,
    model: &str,
) -> Result<RequestHead, Failure> {
    let worker = around.worker;
    let Some(head) = &record.head else { return Err(no_request(Outcome::Internal)) };
    let (place, prefix) = match &target.endpoint {
        ModelEndpoint::External { prefix, .. } => (Place::Outside, prefix),
        ModelEndpoint::Service { prefix, .. } => (Place::Mesh, prefix),
    };
    let mut bytes = BytesMut::new();
    write_request_line(&mut bytes, "GET", &address::realtime(target.provider, prefix, target.model_name(model)));
    write_field(&mut bytes, "host", attempt::authority(&target.endpoint).as_bytes());
    for (name, value) in &fields(head) {
        if address::passes(name.as_str(), Crossing::SameDialect, place) {
            write_field(&mut bytes, name.as_str(), value.as_bytes());
        } else if name.as_str() == "sec-websocket-protocol"
            && let Some(kept) = value.to_str().ok().and_then(address::protocols)
        {
            write_field(&mut bytes, name.as_str(), kept.as_bytes());
        }
    }
    if let Some(credential) = &target.credential {
        let key = worker.providers.credentials.key(credential, worker.now());
        let (key, _) =
            key.map_err(|error| Failure { message: error.to_string(), ..failure::without_answer(Reason::Auth) })?;
        let (name, value) = address::credential(target.provider, key.secret());
        write_field(&mut bytes, name, value.as_bytes());
    }
    write_field(&mut bytes, "connection", b"upgrade");
    write_field(&mut bytes, "upgrade", b"websocket");
    end_head(&mut bytes);
    match HeadReader::new(worker.config.head_limits).request(&mut bytes) {
        Ok(Some(head)) => Ok(RequestHead::Http1(head)),
        Ok(None) | Err(_) => Err(no_request(Outcome::BadRequest)),
    }
}
