//! One instance as one worker sees it: how to dial it, its open connections, its load.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use ahash::AHashMap;
use mesh_core::{
    identity::Identity,
    model::{endpoint::Endpoint, policy::Limits},
    pick::{Answered, DEFAULT_ROUND_TRIP, PeakEwma},
    shedding::Pressure,
};

use super::{http1::IdleConnections, http2::SharedConnections, provider::Way, queue::Queue};
use crate::{net::transport_header::SessionProtocol, worker::Worker};

/// An instance that nobody used for so long is forgotten, with its load estimate.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// How an instance is dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In the clear.
    Plain,
    /// Mesh TLS to its sidecar's inbound port, with the transport header.
    Sidecar {
        /// Inbound port of the sidecar.
        port: u16,
        /// Who must answer.
        identity: Identity,
        /// Name for SNI, if it is not the identity's own.
        server_name: Option<String>,
    },
    /// Mesh TLS to the application's own port.
    Redirected {
        /// Who must answer.
        identity: Identity,
        /// Name for SNI, if it is not the identity's own.
        server_name: Option<String>,
    },
    /// As servers outside of the mesh are: in the clear or under ordinary TLS, perhaps through a proxy.
    Provider(Rc<Way>),
}

impl Transport {
    fn of(endpoint: &Endpoint) -> Self {
        let server_name = endpoint.server_name.clone();
        match (&endpoint.identity, endpoint.inbound_port) {
            (None, _) => Transport::Plain,
            (Some(identity), Some(port)) => Transport::Sidecar { port, identity: identity.clone(), server_name },
            (Some(identity), None) => Transport::Redirected { identity: identity.clone(), server_name },
        }
    }

    fn fits(&self, endpoint: &Endpoint) -> bool {
        match (self, &endpoint.identity, endpoint.inbound_port) {
            (Transport::Plain, None, _) => true,
            (Transport::Sidecar { port, identity, server_name }, Some(wanted), Some(wanted_port)) => {
                *port == wanted_port && identity == wanted && *server_name == endpoint.server_name
            }
            (Transport::Redirected { identity, server_name }, Some(wanted), None) => {
                identity == wanted && *server_name == endpoint.server_name
            }
            _ => false,
        }
    }
}

/// An instance, as one worker sees it.
#[derive(Debug)]
pub struct Upstream {
    /// Address of the application.
    pub address: SocketAddr,
    /// How it is dialled.
    pub transport: Transport,
    /// HTTP/1 connections that wait for an exchange.
    pub idle: IdleConnections,
    /// HTTP/2 connections.
    pub shared: SharedConnections,
    /// Open connections of any kind, idle ones of HTTP/1 not counted.
    pub open: Cell<u32>,
    /// Exchanges that wait for one.
    pub queue: Queue,
    /// What a provider chose to speak when it was dialled last; `None` = it was not.
    pub chosen: Cell<Option<SessionProtocol>>,
    load: Cell<PeakEwma>,
    in_flight: Cell<u32>,
    used: Cell<Duration>,
}

impl Upstream {
    fn new(address: SocketAddr, transport: Transport, now: Duration) -> Rc<Self> {
        Rc::new(Upstream {
            address,
            transport,
            idle: IdleConnections::default(),
            shared: SharedConnections::default(),
            open: Cell::new(0),
            queue: Queue::default(),
            chosen: Cell::new(None),
            load: Cell::new(PeakEwma::new(now)),
            in_flight: Cell::new(0),
            used: Cell::new(now),
        })
    }

    /// Begins an exchange; `None` where `limit` of them are under way.
    pub fn begin(self: &Rc<Self>, limit: u32) -> Option<InFlight> {
        let count = self.in_flight.get();
        (count < limit).then(|| {
            self.in_flight.set(count + 1);
            InFlight(Rc::clone(self))
        })
    }

    /// Begins to wait for an answer: the longer nobody gets one, the less the instance is preferred.
    pub fn ask(self: &Rc<Self>, now: Duration) -> Asked {
        let mut load = self.load.get();
        load.ask(now);
        self.load.set(load);
        Asked { upstream: Rc::clone(self), waits: Cell::new(true) }
    }

    /// How many of the connections and exchanges are taken that the instance may have. A connection of HTTP/2 takes no place
    /// from anybody: it has room for many exchanges, and is there when none is under way.
    pub fn pressure(&self, limits: &Limits) -> Pressure {
        let taken = self.open.get().saturating_sub(self.shared.count());
        Pressure::of_places(self.in_flight.get(), limits.requests).max(Pressure::of_places(taken, limits.connections))
    }

    /// Takes in a measured round trip: request sent to response headers.
    pub fn observe(&self, now: Duration, round_trip: Duration) {
        let mut load = self.load.get();
        load.observe(now, round_trip);
        self.load.set(load);
    }

    /// Takes in a failure to connect, or to answer: costs as much as a slow answer, so that others are preferred for a while.
    pub fn observe_failure(&self, now: Duration) {
        self.observe(now, DEFAULT_ROUND_TRIP * 100);
    }

    /// Whether another connection may be opened where `limit` of them may be; an idle one is closed for it.
    pub(super) fn has_room(&self, limit: u32) -> bool {
        let is_full = || self.open.get().saturating_add(self.idle.count()) >= limit;
        while is_full() && self.idle.drop_oldest() {}
        let has_room = !is_full();
        if !has_room {
            // Its place is free once it has ended, which those in line are told.
            self.shared.close_unused();
        }
        has_room
    }

    fn is_forgettable(&self, now: Duration) -> bool {
        let unused = self.in_flight.get() == 0 && self.open.get() == 0 && self.idle.is_empty();
        unused && now.saturating_sub(self.used.get()) > FORGET_AFTER
    }
}

/// One exchange under way at an instance.
#[derive(Debug)]
pub struct InFlight(Rc<Upstream>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
    }
}

/// One exchange that waits for its answer. Dropped before that came, it was not answered.
#[derive(Debug)]
pub struct Asked {
    upstream: Rc<Upstream>,
    waits: Cell<bool>,
}

impl Asked {
    /// The head of the answer came, so long after the request was sent.
    pub fn answered(&self, now: Duration, round_trip: Duration) {
        self.end(now, Answered::Yes);
        self.upstream.observe(now, round_trip);
    }

    fn end(&self, now: Duration, answered: Answered) {
        if self.waits.replace(false) {
            let mut load = self.upstream.load.get();
            load.answer(now, answered);
            self.upstream.load.set(load);
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        // The time matters only where an answer came.
        self.end(Duration::ZERO, Answered::No);
    }
}

/// Every instance that a worker uses.
#[derive(Debug, Default)]
pub struct Upstreams {
    known: RefCell<AHashMap<SocketAddr, Vec<Rc<Upstream>>>>,
    ticked: Cell<Duration>,
}

/// How often pools are looked through for what is idle too long.
const SWEEP: Duration = Duration::from_secs(1);

impl Upstreams {
    /// The instance behind a described endpoint.
    pub fn endpoint(&self, worker: &Worker, endpoint: &Endpoint) -> Rc<Upstream> {
        self.find(worker, endpoint.address, |upstream| upstream.transport.fits(endpoint), || Transport::of(endpoint))
    }

    /// An address in the clear.
    pub fn plain(&self, worker: &Worker, address: SocketAddr) -> Rc<Upstream> {
        self.find(worker, address, |upstream| upstream.transport == Transport::Plain, || Transport::Plain)
    }

    /// A provider outside of the mesh, at an address of its host or of the proxy in front of it.
    pub fn provider(&self, worker: &Worker, address: SocketAddr, way: &Rc<Way>) -> Rc<Upstream> {
        let fits = |upstream: &Upstream| matches!(&upstream.transport, Transport::Provider(known) if known == way);
        self.find(worker, address, fits, || Transport::Provider(Rc::clone(way)))
    }

    fn find(
        &self,
        worker: &Worker,
        address: SocketAddr,
        fits: impl Fn(&Upstream) -> bool,
        transport: impl FnOnce() -> Transport,
    ) -> Rc<Upstream> {
        let mut known = self.known.borrow_mut();
        let list = known.entry(address).or_default();
        let now = worker.now();
        let found = match list.iter().find(|upstream| fits(upstream)) {
            Some(upstream) => Rc::clone(upstream),
            None => {
                let added = Upstream::new(address, transport(), now);
                list.push(Rc::clone(&added));
                added
            }
        };
        found.used.set(now);
        found
    }

    /// Exchanges under way at an endpoint.
    pub fn in_flight(&self, endpoint: &Endpoint) -> u32 {
        let known = self.known.borrow();
        let found = known.get(&endpoint.address).and_then(|list| list.iter().find(|one| one.transport.fits(endpoint)));
        found.map_or(0, |upstream| upstream.in_flight.get())
    }

    /// Cost of one more exchange at an endpoint.
    pub fn cost(&self, endpoint: &Endpoint, now: Duration) -> f64 {
        let known = self.known.borrow();
        let found = known.get(&endpoint.address).and_then(|list| list.iter().find(|one| one.transport.fits(endpoint)));
        match found {
            Some(upstream) => upstream.load.get().cost(now, upstream.in_flight.get(), endpoint.weight),
            None => PeakEwma::new(now).cost(now, 0, endpoint.weight),
        }
    }

    /// Lets go of the connections to an instance that no exchange uses: they are as doubtful as the instance.
    pub fn let_go(&self, address: SocketAddr) {
        for upstream in self.known.borrow().get(&address).into_iter().flatten() {
            upstream.idle.sweep(Duration::MAX);
            upstream.shared.close();
        }
    }

    /// Lets go of every connection that no exchange uses.
    pub fn let_unused_go(&self) {
        for upstream in self.known.borrow().values().flatten() {
            upstream.idle.sweep(Duration::MAX);
            upstream.shared.sweep(Duration::MAX);
        }
    }

    /// Lets go of every connection that no exchange uses; of the others when their exchanges have ended.
    pub fn close(&self) {
        for upstream in self.known.borrow().values().flatten() {
            upstream.idle.sweep(Duration::MAX);
            upstream.shared.close();
        }
    }

    /// Lets go of what is idle too long; cheap, called often.
    pub fn tick(&self, now: Duration) {
        if now.saturating_sub(self.ticked.get()) < SWEEP {
            return;
        }
        self.ticked.set(now);
        self.known.borrow_mut().retain(|_, list| {
            list.retain(|upstream| {
                upstream.idle.sweep(now);
                upstream.shared.sweep(now);
                !upstream.is_forgettable(now)
            });
            !list.is_empty()
        });
    }
}
