//! Where the controller learns what there is: each source turns what it watches into events for the index.

pub mod file;
pub mod folder;
pub mod lanes;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use mesh_core::resources::{Problem, Resource};
use tokio::sync::oneshot;

use crate::index::{Event, SourceName};

/// Events that wait for the index; a source that is faster waits.
pub const EVENT_QUEUE: usize = 16;

/// Something for the index, and who waits until it is published.
#[derive(Debug)]
pub struct Change {
    /// What happened.
    pub event: Event,
    /// Told when it is published.
    pub done: Option<oneshot::Sender<()>>,
}

/// What a source last did, for the console.
#[derive(Clone, Debug, Default)]
pub struct SourceState {
    /// Which source.
    pub name: SourceName,
    /// What it reads.
    pub place: String,
    /// When it was last loaded.
    pub loaded: Option<SystemTime>,
    /// When a load was last refused, if none succeeded since.
    pub refused: Option<SystemTime>,
    /// Why.
    pub problems: Vec<Problem>,
    /// Resources in force.
    pub resources: Arc<Vec<Resource>>,
}

/// State of a source, shared with the console.
#[derive(Debug, Default)]
pub struct Shared(Mutex<SourceState>);

impl Shared {
    /// A source that has done nothing yet.
    pub fn new(name: SourceName, place: String) -> Self {
        Shared(Mutex::new(SourceState { name, place, ..SourceState::default() }))
    }

    /// The state now.
    pub fn get(&self) -> SourceState {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut SourceState)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
