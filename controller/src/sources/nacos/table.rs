//! What people are shown of services of Nacos: every registration with what is believed of it, by service.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use mesh_core::discovery::nacos::{
    Name,
    instance::{Note, Row},
};

use crate::compose::SourceName;

/// A service.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Which source says so.
    pub source: SourceName,
    /// `<name>.<namespace>` in the mesh.
    pub label: String,
    /// Every registration.
    pub rows: Vec<Row>,
    /// What is wrong in registrations.
    pub notes: Vec<Note>,
}

/// All services that are followed.
#[derive(Debug, Default)]
pub struct Table(Mutex<BTreeMap<(SourceName, Name), Shown>>);

impl Table {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(SourceName, Name), Shown>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows a service as it is now.
    pub fn show(&self, name: &Name, shown: Shown) {
        self.lock().insert((shown.source.clone(), name.clone()), shown);
    }

    /// A service that is no longer followed.
    pub fn forget(&self, source: &SourceName, name: &Name) {
        self.lock().remove(&(source.clone(), name.clone()));
    }

    /// Every service.
    pub fn all(&self) -> Vec<Shown> {
        self.lock().values().cloned().collect()
    }
}
