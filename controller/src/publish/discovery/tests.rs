//! Tests of deltas: a client that follows them holds what is wanted, and is never told less in between than it may have.

use mesh_core::model::endpoint::ProtocolHint;
use proptest::{collection::btree_map, prelude::*};

use super::*;

fn endpoint(number: u8, weight: u32) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        address: SocketAddr::from(([127, 0, 0, number], 80)),
        weight,
        identity: None,
        server_name: None,
        inbound_port: None,
        hint: ProtocolHint::Unknown,
        lanes: Vec::new(),
        zone: None,
        ready_since: None,
        draining: false,
        healthy: true,
        labels: BTreeMap::new(),
    })
}

/// A client as the API describes it.
#[derive(Debug, Default, PartialEq)]
struct Client {
    exists: bool,
    known: BTreeMap<SocketAddr, Arc<Endpoint>>,
}

impl Client {
    fn take(&mut self, change: Change) {
        match change {
            Change::Add(endpoints) => {
                self.exists = true;
                self.known.extend(endpoints.into_iter().map(|endpoint| (endpoint.address, endpoint)));
            }
            Change::Remove(addresses) => self.known.retain(|address, _| !addresses.contains(address)),
            Change::Empty { exists } => *self = Client { exists, known: BTreeMap::new() },
        }
    }
}

proptest! {
    #[test]
    fn deltas_lead_a_client_to_every_state_and_never_through_an_empty_one(
        states in proptest::collection::vec(proptest::option::of(btree_map(0..6_u8, 1..3_u32, 0..5)), 1..12),
    ) {
        let mut sent = Sent::default();
        let mut client = Client::default();
        for (step, state) in states.iter().enumerate() {
            let wanted: Option<Vec<_>> =
                state.as_ref().map(|state| state.iter().map(|(number, weight)| endpoint(*number, *weight)).collect());
            let had_some = !client.known.is_empty();
            let changes = sent.follow(wanted.as_ref().map(|wanted| wanted.iter()));
            prop_assert!(step > 0 || !changes.is_empty(), "a stream begins with a message");
            for change in changes {
                client.take(change);
                let wants_some = wanted.as_ref().is_some_and(|wanted| !wanted.is_empty());
                prop_assert!(!(had_some && wants_some && client.known.is_empty()));
            }
            prop_assert_eq!(client.exists, wanted.is_some());
            let known: Vec<_> = client.known.values().cloned().collect();
            prop_assert_eq!(known, wanted.unwrap_or_default());
        }
    }
}

#[test]
fn the_same_state_again_is_told_nothing() {
    let mut sent = Sent::default();
    let endpoints = [endpoint(1, 1)];
    assert_eq!(sent.follow(Some(endpoints.iter())).len(), 1);
    assert_eq!(sent.follow(Some(endpoints.iter())), []);
}
