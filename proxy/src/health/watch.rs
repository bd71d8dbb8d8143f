//! Watches one attempt and takes down what it shows of the instance, once.

use std::{cell::Cell, net::SocketAddr};

use mesh_core::{
    fields::Fields,
    health::{Exchange, Seen, Waited},
    outcome::Outcome,
    retry::Failure,
};

use super::Judged;
use crate::worker::Worker;

/// One attempt at an instance. Dropped before it showed anything, a trial gives its place to the next exchange.
pub struct Watch<'a> {
    worker: &'a Worker,
    judged: Option<Judged<'a>>,
    address: SocketAddr,
    exchange: Exchange,
    shown: Cell<bool>,
}

impl<'a> Watch<'a> {
    /// Watches an attempt at `address`; nothing is taken down where `judged` is `None` (the application itself, what is no
    /// service).
    pub fn new(worker: &'a Worker, judged: Option<Judged<'a>>, address: SocketAddr, exchange: Exchange) -> Self {
        Watch { worker, judged, address, exchange, shown: Cell::new(false) }
    }

    /// The head of a response came; `fields` where it may be gRPC's, of which what trailers say is waited for.
    pub fn head(&self, status: u16, fields: Option<&dyn Fields>) {
        if self.judged.is_none() {
            return;
        }
        let field = |name| fields.and_then(|fields| fields.first(name));
        let grpc_status = field("grpc-status");
        let is_grpc = field("content-type").is_some_and(|kind| kind.starts_with(b"application/grpc"));
        if !is_grpc || grpc_status.is_some() {
            self.show(Seen::of_answer(status, grpc_status));
        }
    }

    /// The trailers of a response came, with this status of gRPC.
    pub fn trailers(&self, grpc_status: Option<&[u8]>) {
        if grpc_status.is_some() {
            self.show(Seen::of_answer(200, grpc_status));
        }
    }

    /// The head of a response came that may ask for the instance to be left alone.
    pub fn refuses(&self, status: u16, fields: &dyn Fields) {
        if let (Some(judged), 429 | 503) = (self.judged, status) {
            self.worker.health.refuses(self.worker, judged, self.address, (status, fields));
        }
    }

    /// The sidecar of the instance said that it drains.
    pub fn leaves(&self) {
        if let Some(judged) = self.judged {
            self.worker.health.leaves(self.worker, judged, self.address);
        }
    }

    /// The attempt ended as it should.
    pub fn succeeded(&self) {
        self.show(Seen::Success);
    }

    /// The attempt failed.
    pub fn failed(&self, outcome: Outcome, failure: Option<Failure>, waited: Waited) {
        if let Some(seen) = Seen::of_failure(outcome, failure, waited) {
            // What was cut short after it began well counts all the same.
            self.shown.set(false);
            self.show(seen);
        }
    }

    fn show(&self, seen: Seen) {
        if let Some(judged) = self.judged
            && !self.shown.replace(true)
        {
            self.worker.health.observe(self.worker, judged, self.address, seen, self.exchange);
        }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if let (Some(judged), Exchange::Trial, false) = (self.judged, self.exchange, self.shown.get()) {
            self.worker.health.abandon_trial(judged.service.key(), self.address, self.worker.now());
        }
    }
}
