//! The controller's own client against real servers: its tests (`controller/tests/nacos`) run with a server in the clear,
//! one behind TLS, and one that asks for a login.

use std::time::Duration;

use mesh_tests::{
    peer::Authority,
    programs,
    registry::{Registry, Server, secured::Secured},
};
use tokio::{process::Command, time::timeout};

on_both_servers! {
    controllers_client_speaks_with_the_server,
}

/// For building the tests, mostly done before, and running them.
const LIMIT: Duration = Duration::from_secs(900);

async fn controllers_client_speaks_with_the_server(server: Server) {
    const PASSWORD: &str = "open-sesame-1";
    let open = Registry::start(server).await;
    let closed = Registry::start_with_login(server, PASSWORD).await;
    let authority = Authority::new("registry");
    let secured = Secured::start(&open, &authority).await;
    let trusted = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(trusted.path(), &authority.certificate).expect("the file can be written");
    let places =
        format!("{},+{},{};ca={}", open.address(), closed.address(), secured.address(), trusted.path().display());
    let mut tests = Command::new(env!("CARGO"));
    tests
        .args(["test", "-p", "mesh-controller", "--features", "nacos-servers", "--test", "nacos", "--", "--nocapture"])
        .current_dir(programs::repository())
        .env("MESH_TEST_NACOS", places)
        .env("MESH_TEST_RNACOS", programs::rnacos())
        .env("MESH_TEST_NACOS_LOGIN", format!("nacos:{PASSWORD}"))
        .kill_on_drop(true);
    let output = timeout(LIMIT, tests.output()).await.expect("tests end in time").expect("cargo runs");
    let said = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{said}");
}
