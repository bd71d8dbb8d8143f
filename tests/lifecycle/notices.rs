//! Callers that call seldom: their idle connections end in order, and their next call finds another instance.

use mesh_tests::client::{self, Version, full, request};

use crate::{callers::HOST, world::World};

/// A call every so often, which is so seldom that an instance goes down between two of them.
async fn seldom(settings: &[(&str, &str)]) -> World {
    let mut world = World::start(2, settings).await;
    let mut application = client::Connection::open(world.mesh.pod("a").outbound(), Version::Http1).await.unwrap();
    for round in 0..4 {
        // Both instances are known, with connections that wait.
        let before = [world.requests(0), world.requests(1)];
        for _ in 0..100 {
            let answer = application.send(request(http::Method::POST, HOST, "/", &[], full("x"))).await.unwrap();
            assert_eq!(answer.status, 200);
            if world.requests(0) > before[0] && world.requests(1) > before[1] {
                break;
            }
        }
        let instance = round % 2;
        world.stop(instance).await;
        for _ in 0..3 {
            let answer = application.send(request(http::Method::POST, HOST, "/", &[], full("x"))).await.unwrap();
            assert_eq!((answer.status, answer.text().as_str()), (200, "1"), "round {round}");
        }
        world.start_again(instance).await;
    }
    world
}

#[tokio::test]
async fn caller_that_calls_seldom_fails_nothing_with_the_marker_alone() {
    seldom(&[("LANEMESH_DRAIN_NOTICES", "marker")]).await;
}

#[tokio::test]
async fn caller_that_calls_seldom_fails_nothing_with_ends_of_connections_alone() {
    let world = seldom(&[("LANEMESH_DRAIN_NOTICES", "close")]).await;
    assert_eq!(world.markers_heard().await, 0.0);
}
