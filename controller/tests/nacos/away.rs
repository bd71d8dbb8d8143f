//! A server that is killed, frozen, and started again: rnacos, at `MESH_TEST_RNACOS`, by the tests themselves.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use mesh_controller::sources::nacos::wire::Event;
use mesh_core::resources::nacos::Address;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use crate::{
    harness::{Connection, DEADLINE},
    registration::{Proxy, controller},
    servers::{Server, options, service},
};

/// Attempts to connect that fail while the server is away: by the last of them the waits are at their longest.
const FAILED: usize = 8;

/// A server of this test alone.
struct Own {
    server: Server,
    folder: TempDir,
    process: Child,
}

impl Own {
    /// Starts one on a loopback address of its own.
    fn start(last: u8) -> Own {
        let own = std::process::id();
        let host = format!("127.{}.{}.{last}", 64 + own % 64, own / 64 % 250);
        let server = Server { address: Address { host, port: 8848, grpc_port: 9848 }, login: None, tls: None };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let process = begin(&server, &folder);
        Own { server, folder, process }
    }

    async fn signal(&self, name: &str) {
        let pid = self.process.id().expect("it runs").to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status().await;
        assert!(status.expect("kill runs").success());
    }
}

fn begin(server: &Server, folder: &TempDir) -> Child {
    let host = &server.address.host;
    let program = std::env::var("MESH_TEST_RNACOS").expect("MESH_TEST_RNACOS says where rnacos is");
    let mut command = Command::new(program);
    command
        .env("RNACOS_SDK_HOST", host)
        .env("RNACOS_CONSOLE_HOST", host)
        .env("RNACOS_HTTP_PORT", "8848")
        .env("RNACOS_GRPC_PORT", "9848")
        .env("RNACOS_HTTP_CONSOLE_PORT", "10848")
        .env("RNACOS_RAFT_NODE_ADDR", format!("{host}:9848"))
        .env("RNACOS_DATA_DIR", folder.path())
        .env("RNACOS_HTTP_WORKERS", "1")
        .env("RNACOS_ENABLE_OPEN_API_AUTH", "false")
        .env("RUST_LOG", "warn")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command.spawn().expect("rnacos starts")
}

#[tokio::test]
async fn what_was_registered_is_back_within_ten_seconds_after_a_killed_server() {
    let mut own = Own::start(1);
    let (options, _file) = options(&own.server, None);
    let mut watching = Connection::up(options).await;
    let name = service("again");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fields = "register: [{services: ['demo/*']}]";
    let controller = controller(&own.server, name.service(), fields, &folder).await;
    let _proxy = Proxy::connect(&controller, "b-1").await;
    let listed = |count: usize| {
        let (client, name) = (watching.client.clone(), name.clone());
        async move {
            loop {
                match client.query(&name).await {
                    Ok(listing) if listing.hosts.len() == count => return,
                    Ok(_) | Err(_) => tokio::task::yield_now().await,
                }
            }
        }
    };
    timeout(DEADLINE, listed(1)).await.expect("registered in time");
    let again = listed(1);
    own.process.kill().await.expect("it ran");
    for _ in 0..FAILED {
        let Event::Disconnected { .. } = watching.next().await else { panic!("connected to a killed server") };
    }
    let back = Instant::now();
    own.process = begin(&own.server, &own.folder);
    while !matches!(watching.next().await, Event::Connected { .. }) {}
    eprintln!("connected again after {:?}", back.elapsed());
    timeout(DEADLINE, again).await.expect("registered again in time");
    eprintln!("registered again after {:?}", back.elapsed());
    assert!(back.elapsed() < Duration::from_secs(10), "{:?}", back.elapsed());
    controller.stop().await;
}

#[tokio::test]
async fn a_frozen_server_is_noticed_within_ten_seconds_and_taken_again_when_it_goes_on() {
    let own = Own::start(2);
    let (options, _file) = options(&own.server, None);
    let mut connection = Connection::up(options).await;
    own.signal("STOP").await;
    let frozen = Instant::now();
    let Event::Disconnected { reason } = connection.next().await else { panic!("still there") };
    eprintln!("frozen, noticed after {:?}: {reason}", frozen.elapsed());
    assert!(frozen.elapsed() < Duration::from_secs(10), "{:?}", frozen.elapsed());
    own.signal("CONT").await;
    while !matches!(connection.next().await, Event::Connected { .. }) {}
    connection.client.services("DEFAULT_GROUP").await.expect("it answers");
}
