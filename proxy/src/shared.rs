//! The seam between the control thread and the data workers: what workers read, and how they ask for more.
//!
//! Written by the control side only. Workers load the pointers once per exchange (snapshot) or per handshake (TLS).

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use mesh_core::{
    model::{route::Target, service::ServiceKey},
    snapshot::Snapshot,
};
use rustls::ServerConfig;
use tokio::sync::{mpsc, watch};

use crate::{health::board::Board, limits::Limits, net::tls::TlsMaterial};

/// Questions of workers that wait for the control thread; more are answered `not_ready` at once.
pub const ASK_QUEUE: usize = 1_024;

/// What a worker wants to know. Asking twice is harmless.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// Policy and instances of an outbound target.
    Target(Target),
    /// Instances of a service that a policy names.
    Service(ServiceKey),
    /// Policy of an inbound port.
    Port(u16),
}

/// Shared between the control thread and all workers.
pub struct Shared {
    /// Current snapshot.
    pub snapshot: ArcSwap<Snapshot>,
    /// Current certificate and trust; `None` until the first certificate is held.
    pub tls: ArcSwapOption<TlsMaterial>,
    /// TLS of a gateway toward outside; `None` where it takes none.
    pub outside_tls: ArcSwapOption<ServerConfig>,
    /// Worker → control thread.
    pub ask: mpsc::Sender<Ask>,
    /// Revision of the snapshot; changes after the pointer did. Await it to wait for an answer.
    pub revision: watch::Receiver<u64>,
    /// True from the moment on which this proxy drains.
    pub draining: watch::Receiver<bool>,
    /// What callers may use of models; counted for all workers together.
    pub limits: Arc<Limits>,
    /// Who probes which instances, and what was found.
    pub probing: Board,
}

impl Shared {
    /// The current snapshot; call once per exchange.
    pub fn load(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }
}
