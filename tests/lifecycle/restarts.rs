//! Rolling restarts under load of every kind: nobody who calls notices.

use std::time::Duration;

use mesh_tests::length;

use crate::{callers::Kind, world::World};

/// Instances of the service.
const INSTANCES: usize = 3;

/// Restarts one instance after the other while everything is called.
async fn restarts(world: &mut World, count: usize, each: usize, pause: Duration, when: &str) {
    let callers = world.call(&Kind::ALL, each, pause).await;
    for round in 0..count {
        let instance = round % INSTANCES;
        world.stop(instance).await;
        world.start_again(instance).await;
        if callers.has_failed() {
            break;
        }
    }
    let done = callers.end_without_failure(when).await;
    // What lasts was ended in order at least once by every restart that hit it; one that hit none would show nothing.
    for kind in Kind::ALL {
        assert!(done.get(&kind).is_some_and(|count| *count > 0), "{kind:?}: {done:?}");
    }
}

#[tokio::test]
async fn rolling_restart_under_mixed_load_fails_nothing_full_length() {
    let (count, each, pause) = length::of((5, 2, Duration::from_millis(20)), (50, 6, Duration::from_millis(30)));
    let mut world = World::start_captured(INSTANCES, &[]).await;
    restarts(&mut world, count, each, pause, "all notices").await;
}

#[tokio::test]
async fn marker_alone_is_enough_for_those_who_call_all_the_time() {
    let mut world = World::start(INSTANCES, &[("LANEMESH_DRAIN_NOTICES", "marker")]).await;
    restarts(&mut world, 3, 1, Duration::from_millis(20), "the marker alone").await;
    assert!(world.markers_heard().await > 0.0);
}

#[tokio::test]
async fn ends_of_connections_alone_are_enough_for_those_who_call_all_the_time() {
    let mut world = World::start(INSTANCES, &[("LANEMESH_DRAIN_NOTICES", "close")]).await;
    restarts(&mut world, 3, 1, Duration::from_millis(20), "ends of connections alone").await;
    assert_eq!(world.markers_heard().await, 0.0);
}
