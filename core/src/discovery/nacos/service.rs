//! A service of Nacos as a service of the mesh: its believed instances under a label, with what people are shown of them.

use super::{
    Guard, Name,
    instance::{self, GRPC_SERVICE_PORT, Note, Out, Row, SERVICE_PORT},
};
use crate::resources::services::{AddressCalls, Port, Protocol, Service};

/// Most notes that are kept of one service: they are for people, and thousands of instances may be wrong alike.
pub const NOTES_MAX: usize = 50;

/// A service with what people are shown of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// The service.
    pub service: Service,
    /// Every registration, used or not, ordered by address, unused ones last.
    pub rows: Vec<Row>,
    /// What was wrong in registrations, at most [`NOTES_MAX`].
    pub notes: Vec<Note>,
    /// How many notes were left out.
    pub notes_left_out: usize,
}

/// Makes the service `<name>.<namespace>` (the two halves of its label) of what is believed. `now` is in Unix seconds.
pub fn register(
    registered: &Name,
    (name, namespace): (&str, &str),
    guard: &Guard,
    address_calls: AddressCalls,
    now: u64,
) -> Listed {
    let (mut endpoints, mut rows, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    let mut protocols = Vec::new();
    for (_, host, believed, why) in guard.instances() {
        let instance = instance::read(registered, host, (believed, why), now);
        endpoints.extend(instance.endpoints);
        rows.push(instance.row);
        notes.extend(instance.notes);
        protocols.push(instance.protocol);
    }
    for unused in guard.unused() {
        let believed = (instance::believed_of_unused(&unused.host), super::guard::Why::Registered);
        let instance = instance::read(registered, &unused.host, believed, now);
        let mut row = instance.row;
        match &unused.instead {
            None => notes.extend(instance.notes),
            Some(cluster) => {
                let problem = format!("registered in cluster {cluster} too; that registration is used");
                let (service, instance) = (registered.to_string(), row.address.clone());
                notes.push(Note { service, instance, key: "clusterName".to_owned(), problem });
                row.out = Some(Out::Double(cluster.clone()));
            }
        }
        rows.push(row);
    }
    let notes_left_out = notes.len().saturating_sub(NOTES_MAX);
    notes.truncate(NOTES_MAX);
    let mut ports = vec![Port { port: SERVICE_PORT, protocol: agreed(&protocols) }];
    if endpoints.iter().any(|endpoint| endpoint.port == GRPC_SERVICE_PORT) {
        ports.push(Port { port: GRPC_SERVICE_PORT, protocol: Protocol::Grpc });
    }
    let (name, namespace) = (name.to_owned(), namespace.to_owned());
    let service = Service {
        name,
        namespace,
        addresses: Vec::new(),
        ports,
        endpoints,
        address_calls,
        any_port: Some(SERVICE_PORT),
    };
    Listed { service, rows, notes, notes_left_out }
}

/// What all instances speak; where they differ, it is found out from the bytes.
fn agreed(protocols: &[Protocol]) -> Protocol {
    match protocols {
        [first, rest @ ..] if rest.iter().all(|other| other == first) => *first,
        [] | [_, ..] => Protocol::Detect,
    }
}

#[cfg(test)]
mod tests;
