//! One attempt at a target: the request as the target wants it, the way there, and the answer as it comes.

use std::{future::Future, pin::Pin, rc::Rc, sync::Arc, time::Duration};

use bytes::BytesMut;
use mesh_core::{
    lane::Carried,
    model::model_route::{Failure, ModelEndpoint, ModelTarget, ModelTimers, Reason},
    model_route::{failure, request::Delivery},
    outcome::Outcome,
    retry,
    snapshot::{Snapshot, Surroundings},
};
use rustls_pki_types::ServerName;

use super::{
    account::{Account, Made},
    incoming::Incoming,
};
use crate::{
    datapath::{
        accept::Connection,
        enforce::{self, Plan, Refused, TimeLimits, Verdict},
        exchange,
        message::{RequestHead, split_authority},
        reach::{Proxied, Way},
        relay::{Downstream, Failed, InnerBody, InnerDownstream, Pipe},
        report::{Exchange, Kept},
        trace::Span,
    },
    limits::Reserved,
    net::http1::HeadReader,
    providers::Offer,
    telemetry::worker::{Direction, Protocol},
    worker::Worker,
};

/// Attempts at one target: the first on a connection that turned out to be stale, or at an instance that is not there.
pub(super) const TRIES: u32 = 2;

/// A request as a target wants it.
pub(super) struct Outgoing {
    /// Path with query.
    pub(super) path: String,
    /// Fields besides `host` and `content-length`.
    pub(super) fields: Vec<(String, Vec<u8>)>,
    /// Its body.
    pub(super) body: InnerBody,
    /// Bytes of its prompt, with all that is around it, before it was made fit for the target.
    pub(super) prompt: u64,
}

/// What all attempts of an exchange have in common.
pub(super) struct Around<'a> {
    pub(super) worker: &'a Rc<Worker>,
    pub(super) connection: &'a Connection,
    pub(super) snapshot: Arc<Surroundings>,
    pub(super) carried: Option<Carried>,
    pub(super) timers: ModelTimers,
    /// Span of the exchange; those of its attempts are below it.
    pub(super) span: Option<Span>,
}

/// An attempt as it is polled.
type Attempting<'a> = Pin<Box<dyn Future<Output = Result<(), Failed>> + 'a>>;

/// An attempt under way.
pub(super) struct Running<'a> {
    /// Until it has ended.
    pub(super) future: Option<Attempting<'a>>,
    /// Whether it waits for something that wakes this task, so that it need not be polled again in this turn.
    pub(super) waits: bool,
    /// Its answer, as it comes.
    pub(super) pipe: Rc<Pipe>,
    /// Its answer, as it is read.
    pub(super) incoming: Incoming,
    /// What is kept back until the first token.
    pub(super) held: BytesMut,
    /// Whom it asks.
    pub(super) target: Arc<ModelTarget>,
    /// Bytes of the prompt that it was sent; of a request that is passed on while it comes, those that came so far.
    pub(super) prompt: u64,
    /// When it began.
    pub(super) begun: Duration,
    /// When the first event of its answer came, on the clock of `begun`.
    pub(super) first_event: Option<Duration>,
    /// When its first token came, or its whole answer.
    pub(super) first_token: Option<Duration>,
    /// What it holds of the target's own limits.
    pub(super) reserved: Option<Reserved>,
    /// What is told of it as of any exchange.
    kept: Kept,
}

impl Running<'_> {
    /// Lets its connection go and keeps its numbers.
    pub(super) fn close(mut self, failed: Option<Failure>, delivery: Delivery, now: Duration) -> Account {
        // Ends its exchange, if that is still under way.
        self.future = None;
        let since = |moment: Option<Duration>| moment.map(|moment| moment.saturating_sub(self.begun));
        Account {
            usage: self.incoming.usage(),
            reported: self.incoming.reported(),
            tokens: self.incoming.tokens(),
            written: self.incoming.written(),
            prompt: self.prompt,
            is_whole: self.incoming.is_finished(),
            reserved: self.reserved,
            made: Made::Really,
            failed,
            rested: false,
            delivery,
            first_event: since(self.first_event),
            first_token: since(self.first_token),
            took: now.saturating_sub(self.begun),
            used: None,
            record: self.kept.take(),
            target: self.target,
        }
    }
}

/// Begins an attempt.
pub(super) fn begin<'a>(
    around: &'a Around<'a>,
    target: &Arc<ModelTarget>,
    outgoing: Outgoing,
    incoming: Incoming,
    reserved: &mut Option<Reserved>,
) -> Result<Running<'a>, Failed> {
    let pipe = Rc::new(Pipe::default());
    let head = head(around.worker, target, &outgoing)?;
    let prompt = outgoing.prompt;
    let down = InnerDownstream::new(Rc::clone(&pipe), outgoing.body);
    let kept = Kept::default();
    let future: Attempting<'a> = Box::pin(run(around, Arc::clone(target), record(around, head, kept.clone()), down));
    Ok(Running {
        future: Some(future),
        waits: false,
        pipe,
        incoming,
        held: BytesMut::new(),
        target: Arc::clone(target),
        prompt,
        begun: around.worker.now(),
        first_event: None,
        first_token: None,
        reserved: reserved.take(),
        kept,
    })
}

/// The head, as any client would have written it.
fn head(worker: &Worker, target: &ModelTarget, outgoing: &Outgoing) -> Result<RequestHead, Failed> {
    let mut bytes = BytesMut::new();
    let length = match &outgoing.body {
        InnerBody::Whole(pieces) => Some(pieces.iter().map(|piece| piece.len() as u64).sum()),
        InnerBody::Passing(_, length) => *length,
    };
    crate::net::http1::write_request_line(&mut bytes, "POST", &outgoing.path);
    crate::net::http1::write_field(&mut bytes, "host", authority(&target.endpoint).as_bytes());
    for (name, value) in &outgoing.fields {
        crate::net::http1::write_field(&mut bytes, name, value);
    }
    match length {
        Some(length) => crate::net::http1::write_field(&mut bytes, "content-length", length.to_string().as_bytes()),
        None => crate::net::http1::write_field(&mut bytes, "transfer-encoding", b"chunked"),
    }
    crate::net::http1::end_head(&mut bytes);
    match HeadReader::new(worker.config.head_limits).request(&mut bytes) {
        Ok(Some(head)) => Ok(RequestHead::Http1(head)),
        Ok(None) => Err(Failed::ended(Outcome::Internal, "a request to a model without end of head")),
        Err(malformed) => Err(Failed::ended(Outcome::BadRequest, format!("the request to the target: {malformed}"))),
    }
}

/// `host[:port]` as the target's server expects it.
pub(super) fn authority(endpoint: &ModelEndpoint) -> String {
    match endpoint {
        ModelEndpoint::Service { authority, .. } => authority.clone(),
        ModelEndpoint::External { host, port, security, .. } => {
            let usual = if *security == mesh_core::model::model_route::Security::None { 80 } else { 443 };
            if *port == usual { host.clone() } else { format!("{host}:{port}") }
        }
    }
}

/// What is told of an attempt as of any exchange.
fn record(around: &Around<'_>, head: RequestHead, kept: Kept) -> Box<Exchange> {
    let Around { worker, connection, .. } = around;
    let mut record = Box::new(Exchange::open(worker, Direction::Outbound, Protocol::Http1, connection.peer));
    record.span = around.span.map(|span| span.child(worker.random()));
    record.kept = Some(kept);
    record.label(around.carried.clone());
    record.head = Some(head);
    record
}

async fn run(
    around: &Around<'_>,
    target: Arc<ModelTarget>,
    mut record: Box<Exchange>,
    down: InnerDownstream,
) -> Result<(), Failed> {
    let planned = match &record.head {
        Some(head) => plan(around, &target, head, Offer::Both).await,
        None => Err(Refused::new(Outcome::Internal, "an attempt without head")),
    };
    match planned {
        Ok(plan) => {
            let mut down = Downstream::Inner(down);
            exchange::attempt(around.worker, around.connection, record, &plan, &mut down).await
        }
        Err(refused) => {
            record.detail = Some(refused.detail.clone());
            record.finish(refused.outcome);
            Err(Failed::ended(refused.outcome, refused.detail))
        }
    }
}

/// The way to a target, which may choose among the protocols of `offer`.
pub(super) async fn plan(
    around: &Around<'_>,
    target: &ModelTarget,
    head: &RequestHead,
    offer: Offer,
) -> Result<Box<Plan>, Refused> {
    let worker = around.worker;
    let mut plan = match &target.endpoint {
        ModelEndpoint::Service { authority, .. } => match enforce::outbound_service(worker, authority, head).await? {
            Verdict::Go(plan) => plan,
            Verdict::Answer { message, .. } => return Err(Refused::new(Outcome::Filtered, message)),
        },
        ModelEndpoint::External { .. } => {
            let plan = outside(worker, worker.shared.load(), target, around.timers.connect, offer).await?;
            plan.ok_or_else(|| Refused::new(Outcome::Internal, "a target that is nowhere"))?
        }
    };
    plan.limits = TimeLimits {
        connect: around.timers.connect,
        request: None,
        response_headers: None,
        attempt: None,
        // The exchange that makes the attempt ends it before.
        idle: around.timers.total,
    };
    plan.attempts = TRIES;
    plan.retry = None;
    Ok(plan)
}

/// The way to a target outside of the mesh; `None` for one that is in it. Its name is looked up within `limit`.
pub(super) async fn outside(
    worker: &Worker,
    snapshot: Arc<Snapshot>,
    target: &ModelTarget,
    limit: Duration,
    offer: Offer,
) -> Result<Option<Box<Plan>>, Refused> {
    let ModelEndpoint::External { security, host, port, proxy, .. } = &target.endpoint else { return Ok(None) };
    let failed = |why: String| Refused::new(Outcome::ConnectFailed, why);
    let config = worker.providers.roots.config(security, offer).map_err(|error| failed(error.to_string()))?;
    let tls = config
        .map(|config| ServerName::try_from(host.clone()).map(|name| (name, config)))
        .transpose()
        .map_err(|_| failed(format!("{host} is no name that a certificate could have")))?;
    let (dialled, dialled_port) = match proxy.as_deref().map(split_authority) {
        Some((proxy, port)) => (proxy, port.unwrap_or(3_128)),
        None => (host.as_str(), *port),
    };
    let addresses = tokio::time::timeout(limit, worker.providers.names.addresses(dialled, dialled_port))
        .await
        .map_err(|_| failed(format!("no address of {dialled} within {limit:?}")))?
        .map_err(|error| failed(error.to_string()))?;
    let proxied = if proxy.is_some() { Proxied::Yes } else { Proxied::No };
    let way = Rc::new(Way { authority: format!("{host}:{port}"), tls, proxied });
    enforce::provider(worker, snapshot, (addresses, way), host.as_str().into()).map(Box::new).map(Some)
}

/// Why an attempt failed that brought no answer, in the words of model routes.
pub(super) fn failure_of(failed: &Failed) -> Failure {
    let reason = match (failed.failure, failed.outcome) {
        (Some(retry::Failure::Connect), _) => Reason::Connect,
        (Some(_), _) => Reason::Reset,
        (None, Outcome::UpstreamProtocol | Outcome::Internal) => Reason::Decode,
        (None, Outcome::UpstreamIncomplete | Outcome::UpstreamReset) => Reason::Reset,
        (None, Outcome::Timeout) => Reason::TimeoutHeaders,
        (None, _) => Reason::Connect,
    };
    let status = failed.status.filter(|status| *status >= 500).unwrap_or(match reason {
        Reason::Connect => 503,
        Reason::TimeoutHeaders => 504,
        _ => 502,
    });
    Failure { status, message: failed.detail.chars().take(512).collect(), ..failure::without_answer(reason) }
}
