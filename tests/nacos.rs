//! Tests of discovery from real registries, on rnacos and on Nacos's Java server: the same behaviours on both, and what
//! differs asserted as it is. `cargo test --test nacos rnacos` (or `nacos31`) runs those of one server.
#![cfg(test)]

/// Makes each behaviour, a function of a [`mesh_tests::registry::Server`], a test on either server.
macro_rules! on_both_servers {
    ($($behaviour:ident),+ $(,)?) => {
        mod rnacos {
            $(#[tokio::test]
            async fn $behaviour() {
                super::$behaviour(mesh_tests::registry::Server::Rnacos).await;
            })+
        }
        mod nacos31 {
            $(#[tokio::test]
            async fn $behaviour() {
                super::$behaviour(mesh_tests::registry::Server::Nacos31).await;
            })+
        }
    };
}

#[path = "nacos/belief.rs"]
mod belief;
#[path = "nacos/clients.rs"]
mod clients;
#[path = "nacos/differences.rs"]
mod differences;
#[path = "nacos/examples.rs"]
mod examples;
#[path = "nacos/followed.rs"]
mod followed;
#[path = "nacos/joined.rs"]
mod joined;
#[path = "nacos/lost.rs"]
mod lost;
#[path = "nacos/mistakes.rs"]
mod mistakes;
#[path = "nacos/operations.rs"]
mod operations;
#[path = "nacos/registered.rs"]
mod registered;
#[path = "nacos/scale.rs"]
mod scale;
#[path = "nacos/servers.rs"]
mod servers;
#[path = "nacos/world.rs"]
mod world;
