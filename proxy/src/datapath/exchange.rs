//! One request through enforce, lane, pick, reach and relay, repeated where core says that it may be.

mod hop;
mod pause;

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use mesh_core::{
    drain::{Told, told},
    lane::Turn,
    names,
    outcome::Outcome,
    reach::{Carriage, Spoken},
    relay::Side,
    retry::{self, Attempt, Decision, idempotence},
    shedding::{ALWAYS, AtHand, Pressure, refuses},
};
use tokio::time::Instant;

use self::{
    hop::Hop,
    pause::{in_time, pause},
};
use super::{
    accept::{Connection, Destination},
    answer::Answer,
    enforce::{self, Plan, Refused, To, Verdict},
    entry,
    forwarded::Forwarded,
    lane::{self, Edit},
    model_route,
    pick::{Before, pick},
    reach::{self, Asked, InFlight, Reached},
    relay::{
        Downstream, Events, Failed, Http1Upstream, Http2Upstream, Limits, Progress, Pump, Relayed, Replay,
        ResponseHead, Sides, Upstream,
    },
    report::{self, Exchange},
    trace::Span,
};
use crate::{
    balance,
    health::Watch,
    net::{deadline::Deadline, http1::Persistence, memory},
    retries::Repeats,
    telemetry::worker::Direction,
    worker::Worker,
    zones,
};

/// How an exchange left the client's connection.
#[derive(Debug)]
pub enum Ended {
    /// The response is whole (or an answer of ours was given, and waits to be flushed).
    Answered,
    /// The response was cut short, or the client is gone.
    Broken,
    /// A tunnel to this endpoint begins.
    Tunnel(Box<Tunnel>),
}

/// What a tunnel needs.
#[derive(Debug)]
pub struct Tunnel {
    /// The endpoint's connection.
    pub upstream: Http1Upstream,
    /// The exchange that goes on.
    pub exchange: Exchange,
    /// Its plan.
    pub plan: Box<Plan>,
    /// Its place among the exchanges under way at the instance.
    pub in_flight: InFlight,
}

/// Takes one request to its end. `protocol` is the client's.
pub async fn exchange(
    worker: &Rc<Worker>,
    connection: &Connection,
    mut exchange: Exchange,
    down: &mut Downstream<'_>,
    timer: &mut Deadline,
) -> Ended {
    exchange.peer = connection.identity.clone();
    if worker.exchanges.get() > ALWAYS
        && let Some(why) = refuses(memory::pressure(), connection.guest.exchanges(), down.at_hand())
    {
        worker.shed(why);
        let detail = format!("the memory of this proxy is short ({})", why.label());
        return refuse(exchange, down, Refused::new(Outcome::Overloaded, detail));
    }
    if let Some(found) = model_route::find(worker, connection, &exchange) {
        return model_route::exchange(worker, connection, Box::new(exchange), down, found).await;
    }
    let mut plan = match enforced(worker, connection, &exchange).await {
        Ok(Verdict::Go(plan)) => plan,
        Ok(Verdict::Answer { status, location, message }) => {
            let (outcome, told) = (Outcome::Filtered, Vec::new());
            return answered(exchange, down, Answer { status, outcome, detail: message, location, told, mark: None });
        }
        Err(refused) => return refuse(exchange, down, refused),
    };
    exchange.service = plan.service.clone();
    let Some(head) = &exchange.head else {
        return refuse(exchange, down, Refused::new(Outcome::Internal, "an exchange without head"));
    };
    balance::find_key(worker, &mut plan, Some(head), exchange.client().ip());
    zones::find_wanted(&mut plan, head);
    exchange.span = Span::of(head.fields(), worker.sink.tracing, || worker.random());
    let label = lane::label(worker, &plan, connection.direction, head.fields());
    exchange.label(label);
    if connection.direction == Direction::Inbound && plan.from == Side::Mesh {
        report::arrived(worker, &plan.snapshot, exchange.carried.as_ref());
    }
    if exchange.carried.is_none()
        && let Some(stained) = entry::stain(worker, &plan, &exchange)
    {
        exchange.stain(stained);
    }
    if let Err(limited) = enforce::rate(worker, connection, &plan, &exchange) {
        let (outcome, detail, told) = (Outcome::RateLimited, limited.to_string(), limited.fields());
        exchange.detail = Some(detail.clone());
        let answer = Answer { status: outcome.status(), outcome, detail, location: None, told, mark: None };
        return answered(exchange, down, answer);
    }
    lane::arrive(worker, &plan, &mut exchange);
    carry(worker, connection, (exchange, plan), down, timer).await
}

/// Takes a request, of which everything is decided but the instance, to its end.
pub async fn carry(
    worker: &Rc<Worker>,
    connection: &Connection,
    (mut exchange, plan): (Exchange, Box<Plan>),
    down: &mut Downstream<'_>,
    timer: &mut Deadline,
) -> Ended {
    let mut attempts = Attempts::new(worker, connection, &plan);
    match attempts.run(&mut exchange, down, timer).await {
        Ok(Whole::Response) => {
            exchange.finish(Outcome::Success);
            Ended::Answered
        }
        Ok(Whole::Tunnel(upstream, in_flight)) => {
            Ended::Tunnel(Box::new(Tunnel { upstream: *upstream, exchange, plan, in_flight }))
        }
        Err(failed) => fail(exchange, down, failed),
    }
}

/// One attempt of an exchange with a virtual model, at a target to which `plan` leads; `down` is that exchange.
///
/// # Errors
/// Why it came to nothing.
pub async fn attempt(
    worker: &Rc<Worker>,
    connection: &Connection,
    mut exchange: Box<Exchange>,
    plan: &Plan,
    down: &mut Downstream<'_>,
) -> Result<(), Failed> {
    exchange.service = Arc::clone(&plan.service);
    let mut timer = Deadline::default();
    let mut attempts = Attempts::for_model(worker, connection, plan);
    let failed = match attempts.run(&mut exchange, down, &mut timer).await {
        Ok(Whole::Response) => {
            exchange.finish(Outcome::Success);
            return Ok(());
        }
        Ok(Whole::Tunnel(..)) => Failed::ended(Outcome::UpstreamProtocol, "the target switched protocols"),
        Err(failed) => failed,
    };
    exchange.detail = Some(failed.detail.clone());
    exchange.finish(failed.outcome);
    Err(failed)
}

/// How a target answered a request to change protocols.
pub enum Upgraded {
    /// The connection is a tunnel from here on.
    Tunnel(Box<Http1Upstream>, InFlight),
    /// It did not change.
    Answered,
}

/// One attempt to make a tunnel to a target of a virtual model, to which `plan` leads; `down` takes the target's answer,
/// whatever it is.
///
/// # Errors
/// Why it came to nothing.
pub async fn upgrade(
    worker: &Rc<Worker>,
    connection: &Connection,
    exchange: &mut Exchange,
    plan: &Plan,
    down: &mut Downstream<'_>,
) -> Result<Upgraded, Failed> {
    exchange.service = Arc::clone(&plan.service);
    let mut timer = Deadline::default();
    match Attempts::for_model(worker, connection, plan).run(exchange, down, &mut timer).await? {
        Whole::Response => Ok(Upgraded::Answered),
        Whole::Tunnel(upstream, in_flight) => Ok(Upgraded::Tunnel(upstream, in_flight)),
    }
}

async fn enforced(worker: &Worker, connection: &Connection, exchange: &Exchange) -> Result<Verdict, Refused> {
    let Some(head) = &exchange.head else {
        return Err(Refused::new(Outcome::Internal, "an exchange without head"));
    };
    match connection.to {
        Destination::Application(_) => enforce::inbound_request(worker, connection, head).await.map(Verdict::Go),
        Destination::Target(_) | Destination::ByRequest => {
            enforce::outbound_request(worker, connection, head, exchange.protocol()).await
        }
    }
}

enum Whole {
    Response,
    Tunnel(Box<Http1Upstream>, InFlight),
}

/// The attempts of one exchange.
struct Attempts<'a> {
    worker: &'a Rc<Worker>,
    connection: &'a Connection,
    plan: &'a Plan,
    /// What is repeated of the exchange of a client; `None` = it is one attempt of an exchange with a virtual model, and what
    /// fails is repeated at another target.
    repeats: Option<Repeats<'a>>,
    tried: Vec<SocketAddr>,
    replay: Replay,
}

impl<'a> Attempts<'a> {
    fn new(worker: &'a Rc<Worker>, connection: &'a Connection, plan: &'a Plan) -> Self {
        let repeats = Repeats::new(worker, plan);
        let replay = repeats.body_limit().map_or_else(Replay::disabled, Replay::up_to);
        Attempts { worker, connection, plan, repeats: Some(repeats), tried: Vec::new(), replay }
    }

    fn for_model(worker: &'a Rc<Worker>, connection: &'a Connection, plan: &'a Plan) -> Self {
        Attempts { worker, connection, plan, repeats: None, tried: Vec::new(), replay: Replay::disabled() }
    }

    async fn run(
        &mut self,
        exchange: &mut Exchange,
        down: &mut Downstream<'_>,
        timer: &mut Deadline,
    ) -> Result<Whole, Failed> {
        loop {
            exchange.attempts += 1;
            let failed = match self.attempt(exchange, down, timer).await {
                Ok(whole) => return Ok(whole),
                Err(failed) => failed,
            };
            let (Some(failure), Some(head)) = (failed.failure, &exchange.head) else { return Err(failed) };
            if down.has_begun() || !down.is_repeatable() {
                return Err(failed);
            }
            let made = exchange.attempts;
            let attempt = Attempt { made, failure, method: head.method(), body: self.replay.body() };
            let decision = match &self.repeats {
                Some(repeats) => repeats.decide(&attempt),
                None => retry::decide_unsent(made, self.plan.attempts, failure),
            };
            if let Decision::GiveUp(_) = decision {
                return Err(failed);
            }
            if let Some(length) = self.repeats.as_ref().and_then(|repeats| repeats.pause(&attempt)) {
                pause(down, timer, self.plan.limits, (exchange.started(), length)).await?;
            }
            self.worker.sink.metrics.retries.add(1);
            self.replay.rewind();
            down.rewind();
        }
    }

    /// Pick, reach, relay.
    async fn attempt(
        &mut self,
        exchange: &mut Exchange,
        down: &mut Downstream<'_>,
        timer: &mut Deadline,
    ) -> Result<Whole, Failed> {
        let (worker, plan) = (self.worker, self.plan);
        let turn = if exchange.attempts < plan.attempts { Turn::Further } else { Turn::Last };
        let before = Before { tried: &self.tried, level: exchange.level.as_ref(), turn: Some(turn) };
        let picked = pick(worker, plan, exchange.carried.as_ref(), before).map_err(refused)?;
        let watch = Watch::new(worker, plan.judged(), picked.upstream.address, picked.exchange);
        exchange.endpoint = Some(picked.upstream.address);
        exchange.level = picked.level.clone();
        exchange.zone = picked.zone;
        exchange.pick = picked.note();
        self.tried.push(picked.upstream.address);
        let at_hand = if exchange.attempts == 1 { down.at_hand() } else { AtHand::Whole };
        let in_flight = hop::place(worker, plan, &picked.upstream, at_hand).map_err(refused)?;
        let Some(head) = &exchange.head else {
            return Err(refused(Refused::new(Outcome::Internal, "an exchange without head")));
        };
        let hop = Hop::new(plan, head, picked);
        let begun = Instant::now();
        // Before it is reached: who takes no connection is as silent as who does not answer.
        let asked = hop.picked.upstream.ask(worker.now());
        let reaching = self.reach(exchange, &hop);
        let mut up = in_time(reaching, timer, (plan.limits, exchange.started(), begun), &hop.picked.upstream)
            .await
            .inspect_err(|failed| watch.failed(failed.outcome, failed.failure, hop.waited()))?;
        if let Some(gone) = down.has_given_up() {
            up.cancel();
            return Err(gone);
        }
        exchange.serve();
        let relayed = self.relay(exchange, down, &mut up, (timer, begun), (&hop, &watch, &asked)).await;
        if relayed.is_ok() {
            watch.succeeded();
        }
        match relayed {
            Ok(Relayed::Whole(Progress::Whole)) => {
                up.finish(worker);
                Ok(Whole::Response)
            }
            Ok(Relayed::Whole(Progress::Partial)) => {
                // Answered before the request was whole: the rest of it is not wanted.
                up.cancel();
                Ok(Whole::Response)
            }
            Ok(Relayed::Tunnel) => match up {
                Upstream::Http1(side) => Ok(Whole::Tunnel(side, in_flight)),
                Upstream::Http2(_) => Err(refused(Refused::new(Outcome::UpstreamProtocol, "a tunnel over HTTP/2"))),
            },
            Err(failed) => {
                up.cancel();
                hop::observe(worker, &hop.picked.upstream, &failed);
                Err(failed)
            }
        }
    }

    async fn reach(&self, exchange: &Exchange, hop: &Hop) -> Result<Upstream, Failed> {
        let (worker, plan, picked) = (self.worker, self.plan, &hop.picked);
        let Some(head) = &exchange.head else {
            return Err(refused(Refused::new(Outcome::Internal, "an exchange without head")));
        };
        let limit = plan.limits.connect;
        let (limits, heads) = (plan.traffic.limits, worker.config.head_limits);
        let reached = match hop.carriage {
            _ if matches!(plan.to, To::Provider(..)) => {
                reach::provider(worker, &picked.upstream, limit, limits).await.map(|reached| match reached {
                    Reached::Http1(pooled) => Upstream::Http1(Box::new(Http1Upstream::new(*pooled))),
                    Reached::Http2(ready) => Upstream::Http2(Http2Upstream::new(ready, heads)),
                })
            }
            Carriage::Http2 | Carriage::Http1OverHttp2 => reach::http2(worker, &picked.upstream, limit, limits)
                .await
                .map(|send| Upstream::Http2(Http2Upstream::new(send, heads))),
            Carriage::Http1 => {
                let idempotence = idempotence(head.method());
                reach::http1(worker, &picked.upstream, idempotence, limit, limits)
                    .await
                    .map(|pooled| Upstream::Http1(Box::new(Http1Upstream::new(pooled))))
            }
        };
        reached.map_err(|unreachable| Failed {
            outcome: unreachable.outcome,
            failure: Some(unreachable.failure),
            detail: unreachable.detail,
            status: None,
        })
    }

    async fn relay(
        &mut self,
        exchange: &mut Exchange,
        down: &mut Downstream<'_>,
        up: &mut Upstream,
        (timer, begun): (&mut Deadline, Instant),
        (hop, watch, asked): (&Hop, &Watch<'_>, &Asked),
    ) -> Result<Relayed, Failed> {
        let Some(head) = &exchange.head else {
            return Err(refused(Refused::new(Outcome::Internal, "an exchange without head")));
        };
        let to = hop.to;
        let mut marks = [exchange.drain_mark(), None];
        let forwarded = Forwarded::of(self.worker, self.connection, head);
        let mut edit = Edit::request(self.plan, exchange, to, self.connection.client_id.as_deref());
        if let Some(forwarded) = &forwarded {
            forwarded.write(&mut edit);
        }
        if hop.spoken == Spoken::Http1OverHttp2 {
            marks[1] = Some((names::ORIG_PROTO_HEADER, b"HTTP/1.1"));
        }
        if hop.carriage == Carriage::Http1OverHttp2 {
            edit.add(names::ORIG_PROTO_HEADER, hop::original_protocol(head));
        }
        up.head(head, down.is_bodiless(), &edit)?;
        drop(edit);
        let (worker, connection, sent) = (self.worker, self.connection, Instant::now());
        let on_head = |head: &ResponseHead| {
            let now = Instant::now();
            asked.answered(worker.since_start(now), now - sent);
            watch.head(head.status(), head.http2_fields());
            watch.refuses(head.status(), head.fields());
            if to == Side::Mesh && told(head.fields()) != Told::Nothing {
                watch.leaves();
            }
            let leaves = worker.must_leave(connection.direction, &connection.turn);
            if leaves { Persistence::Close } else { Persistence::Keep }
        };
        let plan = self.plan;
        let places = || {
            let at_door = worker.guests.pressure_at(connection.direction);
            hop.picked.upstream.pressure(&plan.traffic.limits).min(Pressure::Tight).max(at_door)
        };
        let limits = Limits::new((worker, &places), timer, plan.limits, (exchange.started(), begun, sent));
        let replay = &mut self.replay;
        let on_trailers = |grpc_status: Option<&[u8]>| watch.trailers(grpc_status);
        let repeats = self.repeats.as_ref();
        let tells = repeats.is_some() && worker.takes_calls(connection.direction);
        let drain = tells.then_some(&worker.drain);
        let events = Events { head: &on_head, trailers: &on_trailers };
        let sides = Sides { down, up, replay, repeats, limits, exchange, plan: self.plan, to, marks, events, drain };
        let mut pump = Pump::new(sides);
        let relayed = std::future::poll_fn(|cx| pump.poll(cx)).await;
        relayed.inspect_err(|failed| watch.failed(failed.outcome, failed.failure, pump.waited()))
    }
}

fn refused(refused: Refused) -> Failed {
    Failed { outcome: refused.outcome, failure: None, detail: refused.detail, status: None }
}

fn refuse(exchange: Exchange, down: &mut Downstream<'_>, why: Refused) -> Ended {
    fail(exchange, down, refused(why))
}

/// Ends an exchange that failed: with an answer where none has begun, else with a cut.
fn fail(mut exchange: Exchange, down: &mut Downstream<'_>, failed: Failed) -> Ended {
    exchange.detail = Some(failed.detail);
    let detail = exchange.detail.as_deref().unwrap_or_default();
    let answer = Answer::new(failed.outcome, failed.status, detail).filter(|_| !down.has_begun());
    match answer {
        Some(answer) => {
            let must_close = failed.failure.is_none() && failed.outcome == Outcome::BadRequest;
            if must_close && let Downstream::Http1(side) = down {
                side.close_after();
            }
            exchange.status = answer.status;
            answer.marked(exchange.drain_mark()).give(down, exchange.head.as_ref());
            exchange.finish(failed.outcome);
            Ended::Answered
        }
        None => {
            down.abort();
            exchange.finish(failed.outcome);
            Ended::Broken
        }
    }
}

fn answered(mut exchange: Exchange, down: &mut Downstream<'_>, answer: Answer) -> Ended {
    exchange.status = answer.status;
    let outcome = answer.outcome;
    answer.marked(exchange.drain_mark()).give(down, exchange.head.as_ref());
    exchange.finish(outcome);
    Ended::Answered
}
