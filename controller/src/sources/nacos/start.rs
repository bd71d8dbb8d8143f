//! Makes the sources of all Nacos servers that settings name.

use std::{path::Path, sync::Arc};

use mesh_core::resources::nacos::Server;
use tokio::sync::{mpsc, watch};

use super::{
    settings,
    source::Source,
    table::Table,
    wire::{self, Link},
};
use crate::{
    compose::{Said, SourceName},
    demand::Demand,
    sources::{Change, Shared},
    telemetry::Metrics,
};

/// Longest part of a file name that comes from a setting.
const FILE_PART_MAX: usize = 100;

/// What every source is given.
pub struct Common {
    /// What proxies want.
    pub demand: Arc<Demand>,
    /// What all sources say.
    pub said: watch::Receiver<Arc<Said>>,
    /// To where one world is made of all sources.
    pub changes: mpsc::Sender<Change>,
    /// Services for the console.
    pub table: Arc<Table>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// `nacos/<server>/<namespace>`.
pub fn source_name(server: &str, namespace: &str) -> SourceName {
    format!("nacos/{server}/{namespace}").into()
}

/// Names of all sources of these servers.
pub fn names(servers: &[Server]) -> impl Iterator<Item = SourceName> {
    servers.iter().flat_map(|server| server.namespaces.iter().map(|namespace| source_name(&server.name, &namespace.id)))
}

/// The sources with their connections.
pub fn sources(servers: Vec<Server>, state_directory: &Path, common: &Common) -> Vec<(Source, Link)> {
    let mut made = Vec::new();
    for server in servers.into_iter().map(Arc::new) {
        for namespace in &server.namespaces {
            let name = source_name(&server.name, &namespace.id);
            let (client, link, events) = wire::open(settings::options(&server, &namespace.id));
            let addresses: Vec<String> = server.addresses.iter().map(|address| address.authority()).collect();
            let state = Shared::new(Arc::clone(&name), format!("{} namespace {}", addresses.join(", "), namespace.id));
            let source = Source {
                file: state_directory.join(format!("{}.json", file_part(&name))),
                name,
                server: Arc::clone(&server),
                namespace: namespace.id.clone(),
                mesh_namespace: namespace.mesh_namespace.clone(),
                client,
                events,
                demand: Arc::clone(&common.demand),
                said: common.said.clone(),
                changes: common.changes.clone(),
                state: Arc::new(state),
                table: Arc::clone(&common.table),
                metrics: Arc::clone(&common.metrics),
            };
            made.push((source, link));
        }
    }
    made
}

/// What of a file's name stands for a source.
pub(super) fn file_part(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    name.chars().take(FILE_PART_MAX).map(plain).collect()
}
