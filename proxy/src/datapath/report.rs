//! Step 8: what is told of an exchange, exactly once, whatever happened to it.

mod series;

use std::{
    cell::Cell,
    fmt,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use mesh_core::{
    drain::UnderWay,
    identity::{Identity, Refusal},
    lane::{Carried, Level, Reason, Source, entry::Stained, leak, mint::Minted, probe},
    names,
    outcome::Outcome,
    snapshot::Surroundings,
    zone,
};
use tokio::time::Instant;

pub use self::series::SeriesCache;
use super::{lane::memory::Noted, message::RequestHead, trace::Span};
use crate::{
    telemetry::{
        model_call::ModelCall,
        worker::{AccessLog, Direction, PATH_MAX, Protocol, Record, Series},
    },
    worker::{Notice, Worker},
};

/// One exchange, from its head (or connection) to its end. Dropped before [`Exchange::finish`] it records that the
/// client went away: tasks are only dropped with their connection.
pub struct Exchange {
    worker: Rc<Worker>,
    started: Instant,
    direction: Direction,
    protocol: Protocol,
    client: SocketAddr,
    /// Head of the request; `None` for raw connections and after the client left.
    pub head: Option<RequestHead>,
    /// What is called: outbound `<name>.<namespace>` or address, inbound the port.
    pub service: Arc<str>,
    /// Identity that the other side proved.
    pub peer: Option<Identity>,
    /// Label that the request carries; see [`Exchange::label`].
    pub carried: Option<Carried>,
    sought: Sought,
    /// Why it was stained here, where somebody reads it.
    entry: Option<String>,
    /// Level that serves, and why.
    pub level: Option<(Level, Reason)>,
    /// Why the instances of its zone serve, where zones matter.
    pub zone: Option<zone::Reason>,
    /// What is unusual about the pick of the instance.
    pub pick: Option<&'static str>,
    /// Instance that serves.
    pub endpoint: Option<SocketAddr>,
    /// Status of the response passed on; 0 = none yet.
    pub status: u16,
    /// Bytes of body from the caller.
    pub bytes_in: u64,
    /// Bytes of body to the caller.
    pub bytes_out: u64,
    /// Attempts made.
    pub attempts: u32,
    /// What went wrong, for people.
    pub detail: Option<String>,
    /// Trace context, where the exchange is sampled.
    pub span: Option<Span>,
    /// Trace ids that the application is given, by header.
    pub minted: Option<Box<Minted>>,
    /// Tells calls of the application that the request is with it, until the exchange ends.
    pub noted: Option<Noted>,
    /// What is told of a call to a model.
    pub model: Option<Box<ModelCall>>,
    /// Where the record is put instead of being told, if somebody will know more.
    pub kept: Option<Kept>,
    series: Option<Arc<Series>>,
    standing: Standing,
    length: Length,
    done: bool,
}

/// Where the record of an exchange waits for what its end did not know.
#[derive(Clone, Default)]
pub struct Kept(Rc<Cell<Option<Box<Record>>>>);

impl Kept {
    /// The record, once the exchange has ended, if anybody may want it.
    pub fn take(&self) -> Option<Box<Record>> {
        self.0.take()
    }
}

/// How long an exchange is expected to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Ordinary,
    Lasting,
}

/// Whether a label was looked for. What ends before is no request that lacks one: a handshake that was given up, say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sought {
    No,
    Yes,
}

/// Whether there is an exchange at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Certain,
    /// A way was only dialled in case it is needed: nothing is told unless [`Exchange::confirm`] is called.
    Provisional,
}

impl Exchange {
    /// Opens the record of an exchange.
    pub fn open(worker: &Rc<Worker>, direction: Direction, protocol: Protocol, client: SocketAddr) -> Self {
        worker.exchanges.set(worker.exchanges.get() + 1);
        count(worker, direction, |under_way| under_way.ordinary += 1);
        Exchange {
            worker: Rc::clone(worker),
            started: Instant::now(),
            direction,
            protocol,
            client,
            head: None,
            service: worker.series.no_service(),
            peer: None,
            carried: None,
            sought: Sought::No,
            entry: None,
            level: None,
            zone: None,
            pick: None,
            endpoint: None,
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            attempts: 0,
            detail: None,
            span: None,
            minted: None,
            noted: None,
            model: None,
            kept: None,
            series: None,
            standing: Standing::Certain,
            length: Length::Ordinary,
            done: false,
        }
    }

    /// As [`Exchange::open`], of an exchange that may turn out not to take place.
    pub fn provisional(worker: &Rc<Worker>, direction: Direction, protocol: Protocol, client: SocketAddr) -> Self {
        let mut exchange = Exchange::open(worker, direction, protocol, client);
        exchange.standing = Standing::Provisional;
        exchange
    }

    /// It does take place.
    pub fn confirm(&mut self) {
        self.standing = Standing::Certain;
    }

    /// It may go on for as long as it likes: a proxy on its way down does not wait for it.
    pub fn lasts(&mut self) {
        if std::mem::replace(&mut self.length, Length::Lasting) == Length::Ordinary {
            // It came just now, which shows that callers still send.
            let now = self.worker.drain.is_on().then(|| self.worker.now());
            count(&self.worker, self.direction, |under_way| {
                under_way.ordinary -= 1;
                under_way.lasting += 1;
                under_way.last = now.unwrap_or(under_way.last);
            });
        }
    }

    /// Field by which a mesh peer is told that this proxy drains.
    pub fn drain_mark(&self) -> Option<(&'static str, &'static [u8])> {
        let tells = self.direction == Direction::Inbound
            && self.peer.is_some()
            && self.worker.config.notices.marker == Notice::Given;
        (tells && self.worker.drain.is_on()).then_some((names::DRAINING_HEADER, &b"1"[..]))
    }

    /// Which way it goes.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Address of the caller.
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// The label that was found, if one was.
    pub fn label(&mut self, found: Option<Carried>) {
        self.carried = found;
        self.sought = Sought::Yes;
    }

    /// The request gets a label here.
    pub fn stain(&mut self, stained: Stained<'_>) {
        if self.worker.sink.access_log != AccessLog::Off {
            self.entry = Some(stained.why.to_string());
        }
        self.carried = Some(stained.carried);
    }

    /// What its client speaks.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// When it began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The exchange goes to an instance from here on: counted as in flight, a further attempt at its own level.
    pub fn serve(&mut self) {
        if let Some(before) = self.series.take() {
            before.in_flight.subtract(1);
        }
        let series = self.find_series();
        series.in_flight.add(1);
        self.series = Some(series);
    }

    /// The end. Whatever comes after changes nothing.
    pub fn finish(mut self, outcome: Outcome) {
        self.record(outcome);
    }

    fn find_series(&self) -> Arc<Series> {
        self.worker.series.find(self.direction, &self.service, self.carried.as_ref(), self.level.as_ref())
    }

    fn record(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        self.worker.exchanges.set(self.worker.exchanges.get() - 1);
        let (length, now) = (self.length, self.worker.drain.is_on().then(|| self.worker.now()));
        count(&self.worker, self.direction, |under_way| match length {
            Length::Ordinary => {
                under_way.ordinary -= 1;
                under_way.last = now.unwrap_or(under_way.last);
            }
            Length::Lasting => under_way.lasting -= 1,
        });
        let duration = self.started.elapsed();
        let served = self.series.take().inspect(|series| series.in_flight.subtract(1));
        // Where the last attempt reached nobody, its level is what counts, not that of the one before.
        let served = served.filter(|_| self.attempts <= 1);
        if self.standing == Standing::Provisional {
            return;
        }
        let series = served.unwrap_or_else(|| self.find_series());
        series.bytes_in.add(self.bytes_in);
        series.bytes_out.add(self.bytes_out);
        series.finish(outcome, self.status, duration);
        if self.sought == Sought::Yes {
            self.worker.sink.metrics.lane_source(self.source());
        }
        match self.kept.take() {
            Some(kept) if self.is_told() => kept.0.set(Some(Box::new(self.take_record(outcome, duration)))),
            Some(_) => {}
            None if self.is_wanted(outcome) => {
                let record = Box::new(self.take_record(outcome, duration));
                self.worker.sink.record(record);
            }
            None => {}
        }
    }

    /// Whether anybody may want its record, however it ends.
    pub fn is_told(&self) -> bool {
        self.worker.sink.access_log != AccessLog::Off || self.span.is_some() || self.probe().is_some()
    }

    fn source(&self) -> Source {
        self.carried.as_ref().map_or(Source::None, |carried| carried.source)
    }

    fn is_wanted(&self, outcome: Outcome) -> bool {
        self.worker.sink.access_log.wants(outcome) || self.span.is_some() || self.probe().is_some()
    }

    /// Trace id, where it is a probe.
    fn probe(&self) -> Option<&str> {
        probe::of(self.head.as_ref()?.fields())
    }

    fn take_record(&mut self, outcome: Outcome, duration: Duration) -> Record {
        let text = |cut: String| if cut.len() > PATH_MAX { cut.chars().take(PATH_MAX).collect() } else { cut };
        let head = self.head.as_ref();
        Record {
            start: SystemTime::now() - duration,
            duration,
            direction: self.direction,
            protocol: self.protocol,
            service: Arc::clone(&self.service),
            endpoint: self.endpoint,
            client: self.client,
            peer: self.peer.as_ref().map(ToString::to_string),
            lane: self.carried.as_ref().map(ToString::to_string),
            level: self.level.as_ref().map(|(level, _)| level.to_string()),
            reason: self.level.as_ref().map(|(_, reason)| reason.label()),
            zone: self.zone.map(zone::Reason::label),
            pick: self.pick,
            source: self.source().label(),
            entry: self.entry.take(),
            outcome,
            detail: self.detail.take(),
            status: self.status,
            method: head.map(|head| head.method().to_owned()).unwrap_or_default(),
            authority: head.map(|head| head.authority().to_owned()).unwrap_or_default(),
            path: head.map(|head| text(head.to_string())).unwrap_or_default(),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            attempts: self.attempts,
            trace: self.span.as_ref().map(Span::trace),
            probe: self.probe().map(str::to_owned),
            model: self.model.take(),
        }
    }
}

/// Names what it is; heads may hold secrets.
impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("service", &self.service).field("client", &self.client).finish_non_exhaustive()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.record(Outcome::ClientGone);
    }
}

/// Changes the count of what came in and is under way.
fn count(worker: &Worker, direction: Direction, change: impl FnOnce(&mut UnderWay)) {
    if worker.takes_calls(direction) {
        let mut under_way = worker.under_way.get();
        change(&mut under_way);
        worker.under_way.set(under_way);
    }
}

/// A mesh peer's request arrived: counted where it should not have been sent to this instance.
pub fn arrived(worker: &Worker, snapshot: &Surroundings, carried: Option<&Carried>) {
    if let Some(lane) = leak(carried, &snapshot.lanes, &snapshot.workload) {
        worker.sink.metrics.lane_leaks.add(&lane.to_string());
    }
}

/// A handshake with a peer failed: counted, and logged once here.
pub fn tls_refused(worker: &Worker, direction: Direction, peer: SocketAddr, refusal: Refusal) {
    worker.sink.metrics.refuse_tls(direction, refusal);
    tracing::warn!(direction = direction.label(), %peer, reason = %refusal, "mesh TLS refused");
}
