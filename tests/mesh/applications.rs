//! Applications that nobody here wrote, behind and in front of sidecars, captured in network namespaces: they know nothing
//! of the mesh.

use std::{path::Path, time::Duration};

use mesh_tests::{
    mesh::Mesh,
    pod::PodSpec,
    process::{Process, Spec},
    programs,
    wait::{PATIENCE, until_true},
};

/// One run of a client.
const LIMIT: Duration = Duration::from_secs(60);

/// Two captured pods: `a` calls, `b` serves on `port`.
async fn pods(port: u16, protocol: &str) -> Mesh {
    let b = PodSpec::new("b").of("b").port(port).protocol(protocol);
    Mesh::builder().captured().pod(PodSpec::new("a")).pod(b).start().await
}

/// Starts a server beside `b`'s sidecar and waits until it listens.
async fn serve(mesh: &Mesh, server: Spec) -> Process {
    let port = mesh.pod("b").registered().port();
    let process = server.start(&mesh.logs());
    until_true("the application listens", PATIENCE, || mesh.pod("b").listens(port)).await;
    process
}

/// Runs a client beside `a`'s sidecar and returns what it said.
async fn client(mesh: &Mesh, spec: Spec) -> String {
    let finished = spec.run(&mesh.logs(), LIMIT).await;
    assert!(finished.status.success(), "{}", finished.output);
    finished.output
}

fn server(mesh: &Mesh, program: impl Into<std::path::PathBuf>) -> Spec {
    mesh.pod("b").program("server", program)
}

fn caller(mesh: &Mesh, program: impl Into<std::path::PathBuf>) -> Spec {
    mesh.pod("a").program("client", program)
}

/// `<address>:<port>` of b's application, as a client writes it.
fn target(mesh: &Mesh) -> String {
    mesh.pod("b").registered().to_string()
}

/// Shows that the traffic went through both sidecars, over mutual TLS.
async fn carried_over_mutual_tls(mesh: &Mesh) {
    let taken = mesh.pod("a").metrics().await.sum("mesh_connections_accepted_total", &[("direction", "outbound")]);
    assert!(taken > 0.0, "a's sidecar took no connection of its application");
    let shaken = mesh.pod("b").metrics().await.sum("mesh_tls_handshakes_total", &[("direction", "inbound")]);
    assert!(shaken > 0.0, "b's sidecar took no mesh connection");
}

fn nginx(mesh: &Mesh, folder: &Path) -> Spec {
    std::fs::create_dir_all(folder).unwrap();
    let configuration = format!(
        "daemon off; master_process off; pid {0}/pid; error_log {0}/error.log;
         events {{}}
         http {{
           access_log off;
           client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u;
           scgi_temp_path {0}/s;
           server {{ listen 8080; location / {{ return 200 \"caller $http_l5d_client_id $server_protocol\"; }} }}
         }}",
        folder.display()
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, configuration).unwrap();
    server(mesh, programs::system("nginx")).arg("-c").arg(file).arg("-e").arg(folder.join("error.log"))
}

#[tokio::test]
async fn nginx_answers_curl_and_learns_who_calls() {
    let mesh = pods(8080, "detect").await;
    let _nginx = serve(&mesh, nginx(&mesh, &mesh.logs().join("nginx"))).await;
    let url = format!("http://{}/", target(&mesh));
    let curl =
        || caller(&mesh, programs::system("curl")).args(["--silent", "--show-error", "--fail", "--max-time", "10"]);
    let said = client(&mesh, curl().arg("--http1.1").arg(&url)).await;
    assert!(said.contains("HTTP/1.1") && said.contains("a.demo."), "{said}");
    // Ten on one connection, and a body in pieces.
    let many = curl().args(vec![url.clone(); 10]);
    assert_eq!(client(&mesh, many).await.matches("caller").count(), 10);
    let posted = curl().args(["--header", "Transfer-Encoding: chunked", "--data", "x=1"]).arg(&url);
    assert!(client(&mesh, posted).await.contains("caller"));
    carried_over_mutual_tls(&mesh).await;
}

#[tokio::test]
async fn curl_speaks_http2_with_prior_knowledge_to_a_python_server() {
    let mesh = pods(8080, "detect").await;
    let _server =
        serve(&mesh, server(&mesh, programs::python()).arg(programs::app("http2_server.py")).arg("8080")).await;
    let curl = caller(&mesh, programs::system("curl"))
        .args(["--silent", "--show-error", "--fail", "--max-time", "10", "--http2-prior-knowledge"])
        .arg(format!("http://{}/", target(&mesh)));
    assert!(client(&mesh, curl).await.contains("hello over HTTP/2"));
}

#[tokio::test]
async fn file_of_pythons_http_server_arrives_unchanged() {
    let mesh = pods(8080, "http1").await;
    let folder = mesh.logs().join("files");
    std::fs::create_dir(&folder).unwrap();
    let file: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_be_bytes).collect();
    std::fs::write(folder.join("file"), &file).unwrap();
    let python = server(&mesh, programs::python()).args(["-m", "http.server", "8080"]).in_directory(&folder);
    let _server = serve(&mesh, python).await;
    let copy = mesh.logs().join("copy");
    let curl = caller(&mesh, programs::system("curl"))
        .args(["--silent", "--show-error", "--fail", "--max-time", "30", "--output"])
        .arg(&copy)
        .arg(format!("http://{}/file", target(&mesh)));
    client(&mesh, curl).await;
    assert!(std::fs::read(copy).unwrap() == file, "the copy differs");
}

#[tokio::test]
async fn grpcio_client_calls_grpcio_server() {
    for protocol in ["detect", "grpc"] {
        let mesh = pods(8080, protocol).await;
        let grpc = server(&mesh, programs::python()).arg(programs::app("grpc_server.py")).arg("8080");
        let _server = serve(&mesh, grpc).await;
        let said =
            client(&mesh, caller(&mesh, programs::python()).arg(programs::app("grpc_client.py")).arg(target(&mesh)))
                .await;
        assert!(said.contains("caller") && said.contains("demo"), "{protocol}: {said}");
    }
}

#[tokio::test]
async fn websockets_client_talks_with_websockets_server() {
    let mesh = pods(8080, "detect").await;
    let echo = server(&mesh, programs::python()).arg(programs::app("websocket_server.py")).arg("8080");
    let _server = serve(&mesh, echo).await;
    let said =
        client(&mesh, caller(&mesh, programs::python()).arg(programs::app("websocket_client.py")).arg(target(&mesh)))
            .await;
    assert!(said.contains("echoed"), "{said}");
}

#[tokio::test]
async fn redis_client_and_server_speak_through_sidecars() {
    for protocol in ["opaque", "detect"] {
        let mesh = pods(6379, protocol).await;
        let redis = server(&mesh, programs::system("redis-server")).args([
            "--port",
            "6379",
            "--bind",
            "0.0.0.0",
            "--protected-mode",
            "no",
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        let _server = serve(&mesh, redis).await;
        let address = mesh.pod("b").address.to_string();
        let cli = |words: &[&str]| {
            caller(&mesh, programs::system("redis-cli")).args(["-h", &address]).args(words.iter().copied())
        };
        client(&mesh, cli(&["set", "key", "value of the test"])).await;
        assert!(client(&mesh, cli(&["get", "key"])).await.contains("value of the test"), "{protocol}");
        let benchmark = caller(&mesh, programs::system("redis-benchmark")).args([
            "-h",
            &address,
            "-q",
            "-n",
            "2000",
            "-c",
            "20",
            "-t",
            "set,get,lrange_600",
            "-d",
            "1000",
        ]);
        assert!(client(&mesh, benchmark).await.contains("requests per second"), "{protocol}");
        carried_over_mutual_tls(&mesh).await;
    }
}

#[tokio::test]
async fn postgres_client_and_server_speak_through_sidecars() {
    let mesh = pods(5432, "detect").await;
    let folder = mesh.logs().join("postgres");
    std::fs::create_dir(&folder).unwrap();
    let user = user_id("postgres");
    std::os::unix::fs::chown(&folder, Some(user), Some(user)).unwrap();
    open_to_others(&mesh.logs());
    let data = folder.join("data");
    let initialise = mesh
        .pod("b")
        .program("initdb", programs::system("initdb"))
        .args(["--auth", "trust", "--username", "postgres", "--no-sync", "--pgdata"])
        .arg(&data)
        .in_directory(&folder)
        .as_user(user);
    client(&mesh, initialise).await;
    let access = "host all all 0.0.0.0/0 trust\nlocal all all trust\n";
    std::fs::write(data.join("pg_hba.conf"), access).unwrap();
    let postgres = server(&mesh, programs::system("postgres"))
        .arg("-D")
        .arg(&data)
        .args(["-h", "0.0.0.0", "-p", "5432", "-c", "fsync=off", "-k"])
        .arg(&folder)
        .in_directory(&folder)
        .as_user(user);
    let mut server = serve(&mesh, postgres).await;
    let address = mesh.pod("b").address.to_string();
    let psql = |query: &str| {
        caller(&mesh, programs::system("psql")).args([
            "--no-psqlrc",
            "--tuples-only",
            "--host",
            &address,
            "--username",
            "postgres",
            "--command",
            query,
        ])
    };
    let ready = "select 'ready'";
    until_true("PostgreSQL is ready", PATIENCE, || server.log().contains("ready to accept connections")).await;
    assert!(client(&mesh, psql(ready)).await.contains("ready"));
    let large =
        client(&mesh, psql("select sum(length(repeat('x', 1000) || n)) from generate_series(1, 10000) n")).await;
    assert!(large.contains("10038894"), "{large}");
    let rows = client(&mesh, psql("select n, repeat('y', 500) from generate_series(1, 5000) n")).await;
    assert!(rows.matches("yyyy").count() > 5_000, "rows are missing");
    server.signal("INT");
    server.ended(PATIENCE).await;
}

#[tokio::test]
async fn mail_server_that_speaks_first_is_reached() {
    for protocol in ["opaque", "detect"] {
        let mesh = pods(2525, protocol).await;
        let mail = server(&mesh, programs::python()).arg(programs::app("smtp_server.py")).arg("2525");
        let _server = serve(&mesh, mail).await;
        let address = mesh.pod("b").address.to_string();
        let smtp = caller(&mesh, programs::python()).arg(programs::app("smtp_client.py")).args([&address, "2525"]);
        assert!(client(&mesh, smtp).await.contains("sent"), "{protocol}");
        carried_over_mutual_tls(&mesh).await;
    }
}

#[tokio::test]
async fn caller_without_mesh_identity_is_refused_by_a_captured_port() {
    let b = PodSpec::new("b").of("b");
    let mesh = Mesh::builder().captured().pod(PodSpec::new("outside").plain()).pod(b).start().await;
    let _nginx = serve(&mesh, nginx(&mesh, &mesh.logs().join("nginx"))).await;
    let curl = mesh
        .pod("outside")
        .program("client", programs::system("curl"))
        .args(["--silent", "--max-time", "5", "--write-out", "%{http_code}"])
        .arg(format!("http://{}/", target(&mesh)));
    let finished = curl.run(&mesh.logs(), LIMIT).await;
    assert!(!finished.output.contains("caller"), "the application answered: {}", finished.output);
    assert!(finished.output.contains("403") || finished.output.contains("000"), "{}", finished.output);
}

fn user_id(name: &str) -> u32 {
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with(&format!("{name}:"))).expect("the package makes this user");
    line.split(':').nth(2).unwrap().parse().unwrap()
}

fn open_to_others(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}
