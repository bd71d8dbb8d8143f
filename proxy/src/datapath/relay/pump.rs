//! Moves both directions of one attempt.

use std::task::{Context, Poll};

use http::HeaderValue;
use mesh_core::{
    health::Waited,
    outcome::Outcome,
    relay::{Part as In, Passage, Side, Way, closes_connection, passage},
    retry::Failure,
    shedding::Awaited,
};

use super::{
    Downstream, Due, Failed, Limits, Part, Progress, Replay, ResponseHead, Stopped, Upstream,
    ending::{Ending, is_stream},
    unwanted::{Answered, unwanted},
};
use crate::{
    datapath::{
        enforce::Plan,
        lane::{Edit, is_event_stream},
        message::RequestHead,
        report::Exchange,
    },
    net::http1::Persistence,
    retries::Repeats,
    worker::{Drain, Stage},
};

/// Interim responses passed on in one exchange; a peer that sends more is not answering.
const INTERIM_MAX: u32 = 64;

/// Parts of a request passed on before the answer is looked at again: an endpoint that answers early takes only so much
/// more, and closes.
const PARTS_IN_A_ROW: usize = 8;

/// How an attempt ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relayed {
    /// The response was passed on whole; so much of the request was.
    Whole(Progress),
    /// The connection is a tunnel from here on.
    Tunnel,
}

/// The two sides of one attempt and what binds them.
pub struct Sides<'a, 'd> {
    /// The client.
    pub down: &'a mut Downstream<'d>,
    /// The endpoint.
    pub up: &'a mut Upstream,
    /// What was sent of the request's body.
    pub replay: &'a mut Replay,
    /// What is repeated; `None` = nothing that was answered, but where the application was not reached.
    pub repeats: Option<&'a Repeats<'a>>,
    /// Time limits.
    pub limits: Limits<'a>,
    /// What is told of the exchange.
    pub exchange: &'a mut Exchange,
    /// What the exchange may do.
    pub plan: &'a Plan,
    /// Who the endpoint is.
    pub to: Side,
    /// Fields to add to the response's head.
    pub marks: [Option<(&'static str, &'static [u8])>; 2],
    /// Who is told what the endpoint says.
    pub events: Events<'a>,
    /// How far this proxy has come on its way down, where the client must be told of it.
    pub drain: Option<&'a Drain>,
}

/// Who is told what the endpoint says.
#[derive(Clone, Copy)]
pub struct Events<'a> {
    /// The response's head came; says whether the client's connection may be kept.
    pub head: &'a dyn Fn(&ResponseHead) -> Persistence,
    /// Its trailers came, with this status of gRPC.
    pub trailers: &'a dyn Fn(Option<&[u8]>),
}

/// Both directions of one attempt.
pub struct Pump<'a, 'd> {
    sides: Sides<'a, 'd>,
    request: Sending,
    response: Receiving,
    interims: u32,
    ending: Option<Ending<'a>>,
    ended: Ended,
    /// What kind of request it is whose rest may be awaited.
    upload: Awaited,
    client: Client,
}

/// What is awaited of the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Client {
    /// That it sends more of its request.
    sends: bool,
    /// That it takes more of its answer.
    takes: bool,
}

/// Who ended the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    ByTheEndpoint,
    /// This proxy, on its way down.
    Here,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// Parts of the body are passed on.
    Body,
    /// All parts were given; some bytes may wait.
    Flushing,
    /// All was sent.
    Sent,
    /// The endpoint takes no more.
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiving {
    Head,
    Body,
    /// All parts were given; some bytes may wait.
    Flushing,
}

enum Step {
    Moved,
    Waits,
}

impl<'a, 'd> Pump<'a, 'd> {
    /// Both directions, of which the request's head was given to the endpoint.
    pub fn new(sides: Sides<'a, 'd>) -> Self {
        let request = if sides.down.is_bodiless() { Sending::Flushing } else { Sending::Body };
        let upload = sides.exchange.head.as_ref().map_or(Awaited::OpenRequest, kind_of);
        let (response, ended, client) = (Receiving::Head, Ended::ByTheEndpoint, Client::default());
        Pump { sides, request, response, interims: 0, ending: None, ended, upload, client }
    }

    /// Moves everything that can move. Ready once the response was passed on whole.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Relayed, Failed>> {
        loop {
            let sent = self.send(cx)?;
            match self.receive(cx)? {
                Poll::Ready(relayed) => return Poll::Ready(Ok(relayed)),
                Poll::Pending => {}
            }
            match sent {
                Step::Moved => self.sides.limits.progressed(),
                Step::Waits => break,
            }
        }
        self.watch_client();
        loop {
            match self.sides.limits.poll(cx) {
                Poll::Ready(Due::Over(failed)) => return Poll::Ready(Err(failed)),
                Poll::Ready(Due::Look) if self.sides.up.is_lost() => {
                    let why = "the endpoint is gone: it acknowledges nothing any more";
                    return Poll::Ready(Err(Failed::upstream(Failure::Lost, why)));
                }
                Poll::Ready(Due::Look) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn watch_client(&mut self) {
        let awaited = match self.client {
            Client { takes: true, .. } => Some(Awaited::Taking),
            Client { sends: true, .. } => Some(self.upload),
            Client { sends: false, takes: false } => None,
        };
        let Sides { exchange, down, .. } = &self.sides;
        // What was given away counts besides what left: of an inner exchange only that is known.
        let moved = exchange.bytes_in + exchange.bytes_out + down.taken();
        self.sides.limits.awaits(awaited, moved);
    }

    /// The request's direction, until it waits. Says whether anything moved.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<Step, Failed> {
        let mut step = Step::Waits;
        self.client.sends = false;
        for _ in 0..PARTS_IN_A_ROW {
            if self.request != Sending::Body {
                break;
            }
            match self.sides.up.poll_room(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(Stopped)) => self.request = Sending::Stopped,
                Poll::Pending => break,
            }
            if self.request != Sending::Body || !self.pass_on(cx)? {
                break;
            }
            step = Step::Moved;
        }
        if matches!(self.request, Sending::Body | Sending::Flushing) {
            match self.sides.up.poll_flush(cx) {
                Poll::Ready(Ok(())) if self.request == Sending::Flushing => self.request = Sending::Sent,
                Poll::Ready(Err(Stopped)) => self.request = Sending::Stopped,
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        let gone = match self.request {
            Sending::Sent | Sending::Stopped => self.sides.down.poll_gone(cx),
            // Parts of the body are left where they are, and with them the news that the client has given up.
            Sending::Body | Sending::Flushing => self.sides.down.poll_reset(cx),
        };
        match gone {
            Poll::Ready(gone) => Err(gone),
            Poll::Pending => Ok(step),
        }
    }

    /// Passes one part of the request's body on; false where none is there yet.
    fn pass_on(&mut self, cx: &mut Context<'_>) -> Result<bool, Failed> {
        let part = match self.sides.replay.again() {
            Some(part) => part,
            None => {
                let Poll::Ready(part) = self.sides.down.poll_part(cx)? else {
                    self.client.sends = true;
                    return Ok(false);
                };
                if let Part::Data(bytes, _) = &part {
                    self.sides.exchange.bytes_in += bytes.len() as u64;
                }
                let part = self.trailers(part, self.sides.plan.from, self.sides.to);
                self.sides.replay.note(&part);
                part
            }
        };
        let last = part.is_last();
        if self.sides.up.part(part).is_err() {
            self.request = Sending::Stopped;
        } else if last {
            self.request = Sending::Flushing;
        }
        Ok(true)
    }

    /// The response's direction, until it waits.
    fn receive(&mut self, cx: &mut Context<'_>) -> Result<Poll<Relayed>, Failed> {
        self.give_up_calls()?;
        self.client.takes = false;
        while self.response == Receiving::Head {
            let Poll::Ready(head) = self.sides.up.poll_head(cx)? else {
                // Interim responses may wait.
                let _ = self.sides.down.poll_flush(cx)?;
                return Ok(Poll::Pending);
            };
            self.sides.limits.progressed();
            if let Some(relayed) = self.head(&head)? {
                let _ = self.sides.down.poll_flush(cx)?;
                return Ok(Poll::Ready(relayed));
            }
        }
        while self.response == Receiving::Body {
            let Poll::Ready(()) = self.sides.down.poll_room(cx)? else {
                self.client.takes = true;
                return Ok(Poll::Pending);
            };
            if let Some(ending) = self.ending.take_if(|ending| ending.is_due(cx)) {
                self.sides.down.part(ending.last())?;
                (self.response, self.ended) = (Receiving::Flushing, Ended::Here);
                break;
            }
            let Poll::Ready(mut part) = self.sides.up.poll_part(cx)? else { break };
            self.sides.limits.progressed();
            if let Part::Data(bytes, _) = &mut part {
                if let Some(ending) = &mut self.ending {
                    ending.pass(cx, bytes);
                }
                self.sides.exchange.bytes_out += bytes.len() as u64;
            }
            if let Part::Trailers(fields) = &part {
                (self.sides.events.trailers)(fields.get("grpc-status").map(HeaderValue::as_bytes));
            }
            if part.is_last() {
                self.response = Receiving::Flushing;
            }
            let part = self.trailers(part, self.sides.to, self.sides.plan.from);
            self.sides.down.part(part)?;
        }
        match self.sides.down.poll_flush(cx)? {
            Poll::Ready(()) if self.response == Receiving::Flushing => Ok(Poll::Ready(Relayed::Whole(self.progress()))),
            Poll::Ready(()) => Ok(Poll::Pending),
            Poll::Pending => {
                self.client.takes = true;
                Ok(Poll::Pending)
            }
        }
    }

    /// A call of gRPC whose client still sends when streams are ended, and that nobody has begun to answer. Looked at
    /// whenever the limits are.
    fn give_up_calls(&self) -> Result<(), Failed> {
        let is_open = self.response == Receiving::Head && self.request == Sending::Body;
        let is_over = || self.sides.drain.is_some_and(|drain| drain.stage() >= Stage::Streams);
        let is_due = || is_over() && is_stream(self.sides.exchange.started());
        if is_open && is_due() && self.sides.exchange.head.as_ref().is_some_and(RequestHead::is_grpc) {
            return Err(Failed::ended(Outcome::NotReady, "the server is going away"));
        }
        Ok(())
    }

    /// What was waited for, once [`Pump::poll`] failed.
    pub fn waited(&self) -> Waited {
        match (self.response, self.request) {
            (Receiving::Head, Sending::Flushing | Sending::Sent | Sending::Stopped) => Waited::ForTheAnswer,
            // Perhaps it is the client who was slow.
            (Receiving::Head, Sending::Body) | (Receiving::Body | Receiving::Flushing, _) => Waited::ForSomethingElse,
        }
    }

    fn progress(&self) -> Progress {
        match (self.request, self.ended) {
            (Sending::Sent, Ended::ByTheEndpoint) => Progress::Whole,
            (Sending::Body | Sending::Flushing | Sending::Sent | Sending::Stopped, _) => Progress::Partial,
        }
    }

    /// Passes a head on; the result says whether the connection became a tunnel.
    fn head(&mut self, head: &ResponseHead) -> Result<Option<Relayed>, Failed> {
        let Sides { down, up, plan, exchange, limits, replay, repeats, to, marks, events, drain } = &mut self.sides;
        let mut edit = Edit::response(plan, *to);
        if head.is_interim() {
            self.interims += 1;
            if self.interims > INTERIM_MAX {
                return Err(Failed::ended(Outcome::UpstreamProtocol, "too many interim responses"));
            }
            down.interim(head, &edit)?;
            return Ok(None);
        }
        let persistence = (events.head)(head);
        let peer_closes = *to == Side::Mesh && closes_connection(head.fields());
        if let Downstream::Http1(side) = &mut **down
            && (persistence == Persistence::Close || peer_closes)
        {
            side.close_after();
        }
        limits.headed();
        let answered = Answered { head, plan, exchange, replay, to: *to };
        if let Some(failed) = unwanted(&answered, *repeats, down) {
            return Err(failed);
        }
        replay.forget();
        exchange.status = head.status();
        if let Some(noted) = &exchange.noted
            && is_event_stream(head.fields().first("content-type").unwrap_or_default())
        {
            noted.lasts();
        }
        for (name, value) in marks.iter().copied().flatten() {
            edit.add(name, value);
        }
        if let Some(ending) = drain.and_then(|drain| Ending::of(drain, head)) {
            exchange.lasts();
            self.ending = Some(ending);
        }
        let request = match self.request {
            Sending::Sent | Sending::Flushing => Progress::Whole,
            Sending::Body | Sending::Stopped => Progress::Partial,
        };
        down.begin(head, request, &edit)?;
        if down.is_tunnel() {
            return Ok(Some(Relayed::Tunnel));
        }
        self.response = if up.is_whole() { Receiving::Flushing } else { Receiving::Body };
        Ok(None)
    }

    /// Takes out of trailers what may not cross.
    fn trailers(&self, part: Part, from: Side, to: Side) -> Part {
        let Part::Trailers(mut fields) = part else { return part };
        let way = Way { part: In::Trailer, from, to };
        let groups = &self.sides.plan.snapshot.lanes;
        let is_barred = |name: &&http::HeaderName| passage(name.as_str().as_bytes(), way, groups) != Passage::Keep;
        let barred: Vec<http::HeaderName> = fields.keys().filter(is_barred).cloned().collect();
        for name in barred {
            fields.remove(name);
        }
        Part::Trailers(fields)
    }
}

/// What kind of request it is whose rest may be awaited. One that waits to be told to go on is not slow.
fn kind_of(head: &RequestHead) -> Awaited {
    let fields = head.fields();
    let is_sized = fields.first("content-length").is_some() && fields.first("expect").is_none();
    if is_sized { Awaited::SizedRequest } else { Awaited::OpenRequest }
}
