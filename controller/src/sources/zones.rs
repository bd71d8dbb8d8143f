//! What the file source writes of zones: an order to drain or restore one.

use std::path::PathBuf;

use mesh_core::resources::{
    Resource, Spec,
    zone::{Zone, ZoneState},
};

/// What somebody wants of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneOrder {
    /// Which.
    pub zone: String,
    /// What becomes of it.
    pub state: ZoneState,
    /// Why, for people.
    pub reason: String,
}

/// The text of the zone's resource after the order, at `now` (Unix milliseconds). One that is as it is to be keeps the moment
/// since when; one that stands in a file of another name is written there.
pub(super) fn ordered(in_place: &[(PathBuf, Resource)], order: &ZoneOrder, now: u64) -> String {
    let zone = |resource: &'_ Resource| match &resource.spec {
        Spec::Zone(zone) if zone.zone == order.zone => Some(zone.clone()),
        Spec::Zone(_)
        | Spec::LaneGroup(_)
        | Spec::Lane(_)
        | Spec::TrafficPolicy(_)
        | Spec::AccessPolicy(_)
        | Spec::MeshService(_)
        | Spec::ModelRoute(_)
        | Spec::HttpRoute(_)
        | Spec::GrpcRoute(_)
        | Spec::Services(_) => None,
    };
    let known = in_place.iter().find_map(|(_, resource)| Some((resource, zone(resource)?)));
    let since = match &known {
        Some((_, zone)) if zone.state == order.state => zone.since.or(Some(now)),
        Some(_) | None => Some(now),
    };
    let written = Zone { zone: order.zone.clone(), state: order.state, since, reason: order.reason.clone() };
    match known {
        Some((resource, _)) => written.to_text_as(&resource.metadata),
        None => written.to_text(),
    }
}

#[cfg(test)]
mod tests {
    use mesh_core::resources::parse;

    use super::*;

    fn order(state: ZoneState) -> ZoneOrder {
        ZoneOrder { zone: "eu/1".to_owned(), state, reason: "power".to_owned() }
    }

    fn zone(text: &str) -> (Resource, Zone) {
        let resource = parse("", text).expect("what we write can be read").remove(0);
        let Spec::Zone(zone) = resource.spec.clone() else { panic!("{text}") };
        (resource, zone)
    }

    #[test]
    fn an_order_writes_since_when_and_why_and_the_same_again_changes_no_moment() {
        let (resource, drained) = zone(&ordered(&[], &order(ZoneState::Drained), 1_000));
        assert_eq!((drained.state, drained.since, drained.reason.as_str()), (ZoneState::Drained, Some(1_000), "power"));
        let in_place = [(PathBuf::from("x.yaml"), resource)];
        assert_eq!(zone(&ordered(&in_place, &order(ZoneState::Drained), 5_000)).1.since, Some(1_000));
        let (_, restored) = zone(&ordered(&in_place, &order(ZoneState::Serving), 5_000));
        assert_eq!((restored.state, restored.since), (ZoneState::Serving, Some(5_000)));
    }

    #[test]
    fn a_resource_that_people_wrote_keeps_its_name() {
        let text = "apiVersion: lanemesh.io/v1alpha1\nkind: Zone\nmetadata: {name: mine, namespace: ops}\n\
                    spec: {zone: eu/1, state: serving}\n";
        let in_place = [(PathBuf::from("x.yaml"), zone(text).0)];
        let (resource, _) = zone(&ordered(&in_place, &order(ZoneState::Drained), 5_000));
        assert_eq!((resource.metadata.name.as_str(), resource.metadata.namespace.as_str()), ("mine", "ops"));
    }
}
