//! The servers themselves: what of them outlives `SIGKILL`, whom they let in, and TLS in front of them.

use std::time::Duration;

use mesh_tests::{
    client::{self, Connection, Version},
    peer::Authority,
    registry::{
        Data, Login, Registry, Server,
        open_api::{OpenApi, Registration},
        sdk::Sdk,
        secured::{NAME, Secured},
    },
    wait::{PATIENCE, until, within},
};

on_both_servers! {
    documents_outlive_a_kill_and_ephemeral_instances_do_not,
    server_that_comes_back_empty_knows_nothing,
    frozen_server_answers_again_when_it_goes_on,
    only_the_user_with_its_password_is_let_in,
    tls_in_front_passes_http_and_grpc_on,
}

/// Waits until the one instance of a service is listed; Nacos makes its lists half a second after what changed them.
async fn listed(api: &OpenApi, service: &str) {
    until(&format!("{service} listed"), PATIENCE, || async { (api.instances(service).await.len() == 1).then_some(()) })
        .await;
}

async fn documents_outlive_a_kill_and_ephemeral_instances_do_not(server: Server) {
    let mut registry = Registry::start_lasting(server).await;
    let api = registry.open_api().await;
    let instance = Registration::new("orders", ([10, 0, 0, 1], 80));
    api.register(&instance).await.expect("registered");
    api.publish("LANEMESH", "policy.yaml", "text: kept").await.expect("published");
    until("document readable", PATIENCE, || async { api.document("LANEMESH", "policy.yaml").await.ok()? }).await;
    registry.written("text: kept").await;
    registry.kill();
    assert!(api.document("LANEMESH", "policy.yaml").await.is_err(), "a killed server must not answer");
    registry.start_again(Data::Kept).await;
    let document =
        until("document readable again", PATIENCE, || async { api.document("LANEMESH", "policy.yaml").await.ok()? });
    assert_eq!(document.await, "text: kept");
    assert_eq!(api.instances("orders").await, [], "nobody registered it again");
}

async fn server_that_comes_back_empty_knows_nothing(server: Server) {
    let mut registry = Registry::start(server).await;
    let api = registry.open_api().await;
    api.register(&Registration::new("orders", ([10, 0, 0, 1], 80))).await.expect("registered");
    api.publish("LANEMESH", "policy.yaml", "text: lost").await.expect("published");
    until("document readable", PATIENCE, || async { api.document("LANEMESH", "policy.yaml").await.ok()? }).await;
    registry.start_again(Data::Empty).await;
    assert_eq!(api.document("LANEMESH", "policy.yaml").await.expect("it answers"), None);
    assert_eq!(api.instances("orders").await, []);
}

async fn frozen_server_answers_again_when_it_goes_on(server: Server) {
    let registry = Registry::start(server).await;
    let api = registry.open_api().await;
    let instance = Registration::new("orders", ([10, 0, 0, 1], 80));
    registry.freeze();
    let registered = tokio::spawn({
        let (api, instance) = (api.clone(), instance.clone());
        async move { api.register(&instance).await }
    });
    let short = Duration::from_millis(500);
    let early = tokio::time::timeout(short, api.get("/nacos/v1/ns/instance/list?serviceName=orders")).await;
    assert!(early.is_err(), "a frozen server must not answer");
    registry.thaw();
    within("answer after the thaw", PATIENCE, registered).await.expect("no panic").expect("registered");
    listed(&api, "orders").await;
}

async fn only_the_user_with_its_password_is_let_in(server: Server) {
    let registry = Registry::start_with_login(server, "correct horse").await;
    let instance = Registration::new("orders", ([10, 0, 0, 1], 80));
    let anybody = OpenApi::anonymous(registry.address());
    anybody.register(&instance).await.expect_err("nobody without user");
    let wrong = Login { user: "nacos".to_owned(), password: "battery staple".to_owned() };
    OpenApi::login(registry.address(), &wrong).await.expect_err("wrong password");
    let mut sdk = Sdk::start(&registry);
    sdk.register(&instance).await;
    listed(&registry.open_api().await, "orders").await;
}

async fn tls_in_front_passes_http_and_grpc_on(server: Server) {
    let registry = Registry::shared(server).await;
    let authority = Authority::new("registry");
    let secured = Secured::start(registry, &authority).await;
    let list =
        client::request(http::Method::GET, NAME, "/nacos/v1/ns/instance/list?serviceName=tls", &[], client::full(""));
    let stream = secured.connect(secured.address(), &authority, "http/1.1").await.expect("the certificate is trusted");
    let answer = Connection::over(stream, Version::Http1).await.expect("HTTP").send(list).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let stream = secured.connect(secured.grpc_address(), &authority, "h2").await.expect("the certificate is trusted");
    let unknown = client::request(
        http::Method::POST,
        NAME,
        "/Request/unknown",
        &[("content-type", "application/grpc")],
        client::full(""),
    );
    let answer =
        Connection::over(stream, Version::Http2).await.expect("HTTP/2").send(unknown).await.expect("an answer");
    assert_eq!(answer.header("grpc-status"), "12", "gRPC says that it has no such method: {:?}", answer.headers);
    let stranger = Authority::new("stranger");
    secured.connect(secured.address(), &stranger, "http/1.1").await.expect_err("signed by somebody else");
}
