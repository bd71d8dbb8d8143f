//! Where the controller learns what there is: each source turns what it watches into events for the index.

pub mod dns;
pub mod file;
pub mod folder;
pub mod lanes;
pub mod nacos;
pub mod zones;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use mesh_core::resources::{Problem, Resource};
use tokio::sync::oneshot;

use crate::compose::{News, SourceName};

/// Events that wait for the index; a source that is faster waits.
pub const EVENT_QUEUE: usize = 16;

/// Something that a source tells, and who waits until it is published.
#[derive(Debug)]
pub struct Change {
    /// What it tells.
    pub news: News,
    /// Told when it is published, or why it is refused.
    pub done: Option<oneshot::Sender<Result<(), Vec<Problem>>>>,
}

/// What a source last did, for the console.
#[derive(Clone, Debug)]
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
    /// What else there is to say of it, e.g. of a connection; name and value.
    pub facts: Vec<(&'static str, String)>,
    /// What is wrong without refusing anything, e.g. a namespace that a registry does not have.
    pub notes: Vec<Problem>,
    /// Resources in force.
    pub resources: Arc<Vec<Resource>>,
}

/// State of a source, shared with the console.
#[derive(Debug)]
pub struct Shared(Mutex<SourceState>);

/// Facts of a source that is connected to a server.
pub fn connected(server: &str) -> Vec<(&'static str, String)> {
    vec![("connection", "up".to_owned()), ("server", server.to_owned())]
}

/// Facts of a source without connection; `remedy` is what a person can do about it.
pub fn away(reason: &dyn std::fmt::Display, remedy: &str) -> Vec<(&'static str, String)> {
    let facts = [("connection", "down"), ("reason", &reason.to_string()), ("remedy", remedy)];
    facts.map(|(name, value)| (name, value.to_owned())).into()
}

impl Shared {
    /// A source that has done nothing yet.
    pub fn new(name: SourceName, place: String) -> Self {
        Shared(Mutex::new(SourceState {
            name,
            place,
            loaded: None,
            refused: None,
            problems: Vec::new(),
            facts: Vec::new(),
            notes: Vec::new(),
            resources: Arc::default(),
        }))
    }

    /// The state now.
    pub fn get(&self) -> SourceState {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the state.
    pub fn change(&self, change: impl FnOnce(&mut SourceState)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// States of all sources.
#[derive(Clone, Debug, Default)]
pub struct States(pub Vec<Arc<Shared>>);

impl States {
    /// The state of each source.
    pub fn all(&self) -> Vec<SourceState> {
        self.0.iter().map(|shared| shared.get()).collect()
    }

    /// Resources in force, by source.
    pub fn resources(&self) -> Vec<Arc<Vec<Resource>>> {
        self.0.iter().map(|shared| shared.get().resources).collect()
    }
}
