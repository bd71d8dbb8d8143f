//! The client against real servers. `MESH_TEST_NACOS` says where they are: `host:port` of HTTP, several by comma; the
//! ones behind a `+` ask for the login `MESH_TEST_NACOS_LOGIN` (`user:password`), those before `;ca=FILE` speak TLS.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use mesh_controller::sources::nacos::wire::{Cause, Event, Instance, Listened, Options};
use mesh_core::{
    discovery::nacos::{Listing, Name},
    resources::nacos::{Address, Login, Tls},
};
use tempfile::NamedTempFile;
use tokio::time::timeout;

use crate::harness::{Connection, DEADLINE, instance};

/// A server, and whether it asks for a login and speaks TLS.
pub(crate) struct Server {
    pub(crate) address: Address,
    pub(crate) login: Option<(String, String)>,
    pub(crate) tls: Option<Tls>,
}

pub(crate) fn servers() -> Vec<Server> {
    let places = std::env::var("MESH_TEST_NACOS").expect("MESH_TEST_NACOS says where servers are");
    let login = std::env::var("MESH_TEST_NACOS_LOGIN").unwrap_or_default();
    let one = |place: &str| {
        let (place, ca) = place.split_once(";ca=").map_or((place, None), |(place, ca)| (place, Some(ca)));
        let tls = ca.map(|file| Tls { ca_file: Some(file.into()), server_name: None, http: true });
        let (host, port) = place.trim_start_matches('+').split_once(':').expect("host:port");
        let port: u16 = port.parse().expect("a port");
        let address = Address { host: host.to_owned(), port, grpc_port: port + 1_000 };
        let (user, password) = login.split_once(':').unwrap_or_default();
        Server { address, login: place.starts_with('+').then(|| (user.to_owned(), password.to_owned())), tls }
    };
    places.split(',').map(one).collect()
}

/// Options with the file of the password, which must live as long.
pub(crate) fn options(server: &Server, password: Option<&str>) -> (Options, NamedTempFile) {
    let file = NamedTempFile::new().expect("a temporary file");
    let login = server.login.as_ref().map(|(user, own)| {
        std::fs::write(file.path(), format!("{}\n", password.unwrap_or(own))).expect("the file can be written");
        Login { user: user.clone(), password_file: file.path().to_owned() }
    });
    let options = Options {
        name: "real".to_owned(),
        addresses: vec![server.address.clone()],
        namespace: "public".to_owned(),
        tls: server.tls.clone(),
        login,
    };
    (options, file)
}

/// A service that no other test uses.
pub(crate) fn service(about: &str) -> Name {
    let stamp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    Name::new("", "", &format!("{about}-{stamp}"))
}

/// The next list of a service that is as wanted, and how long it took.
pub(crate) async fn pushed(
    connection: &mut Connection,
    name: &Name,
    wanted: impl Fn(&Listing) -> bool,
) -> (Listing, Duration) {
    let asked = Instant::now();
    let listing = timeout(DEADLINE, async {
        loop {
            match connection.next().await {
                Event::Pushed(listing) if listing.name == *name && wanted(&listing) => return listing,
                event => eprintln!("{event:?}"),
            }
        }
    });
    (listing.await.expect("a push in time"), asked.elapsed())
}

#[tokio::test]
async fn what_one_connection_registers_another_one_is_told() {
    for server in servers() {
        let (options, _file) = options(&server, None);
        let mut watching = Connection::up(options.clone()).await;
        let registering = Connection::up(options).await;
        let name = service("told");
        assert!(watching.client.subscribe(&name).await.expect("subscribes").hosts.is_empty());
        let one = Instance { weight: 0.25, cluster_name: "hz".to_owned(), ..instance("10.9.0.1", 8080) };
        registering.client.register(&name, &one).await.expect("registers");
        let (listing, took) = pushed(&mut watching, &name, |listing| listing.hosts.len() == 1).await;
        eprintln!("{}: registered, told after {took:?}", watching.server);
        let host = &listing.hosts[0];
        assert_eq!((host.ip.as_str(), host.port, host.weight, host.cluster.as_str()), ("10.9.0.1", 8080, 0.25, "hz"));
        assert!(host.healthy && host.enabled && host.ephemeral);
        assert_eq!(host.metadata.get("lane").map(String::as_str), Some("gray"));
        assert!(listing.last_ref_time > 0);
        assert_eq!(watching.client.query(&name).await.expect("answers").hosts, listing.hosts);
        let services = watching.client.services("DEFAULT_GROUP").await.expect("lists");
        assert!(services.contains(name.service()), "{services:?}");
        registering.client.deregister(&name, &one).await.expect("takes back");
        let (_, took) = pushed(&mut watching, &name, |listing| listing.hosts.is_empty()).await;
        eprintln!("{}: taken back, told after {took:?}", watching.server);
        let two = [instance("10.9.0.2", 1), instance("10.9.0.3", 2)];
        registering.client.register_all(&name, &two).await.expect("registers together");
        pushed(&mut watching, &name, |listing| listing.hosts.len() == 2).await;
        drop(registering);
        let (_, took) = pushed(&mut watching, &name, |listing| listing.hosts.is_empty()).await;
        eprintln!("{}: connection gone, told after {took:?}", watching.server);
        watching.client.unsubscribe(&name).await.expect("unsubscribes");
    }
}

#[tokio::test]
async fn names_of_a_groups_services_are_listed() {
    for server in servers() {
        let (options, _file) = options(&server, None);
        let connection = Connection::up(options).await;
        let group = service("pages").service().to_owned();
        for number in 0..7 {
            let name = Name::new("", &group, &format!("s{number}"));
            connection.client.register(&name, &instance("10.9.1.1", 80)).await.expect("registers");
        }
        let found = timeout(DEADLINE, async {
            loop {
                let found = connection.client.services(&group).await.expect("lists");
                if found.len() == 7 {
                    return found;
                }
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(found.await.expect("all of them in time").first().map(String::as_str), Some("s0"));
        assert!(connection.client.services("no-such-group").await.expect("lists").is_empty());
    }
}

#[tokio::test]
async fn namespaces_are_listed_and_an_unknown_one_is_said() {
    for server in servers() {
        let (options, _file) = options(&server, None);
        let connection = Connection::up(options.clone()).await;
        connection.client.check_namespace().await.expect("public is there");
        let elsewhere = Connection::up(Options { namespace: "no-such".to_owned(), ..options }).await;
        assert!(elsewhere.client.services("DEFAULT_GROUP").await.expect("an empty list").is_empty());
        let error = elsewhere.client.check_namespace().await.expect_err("unknown");
        let text = error.to_string();
        assert!(text.contains(r#"unknown namespace "no-such""#) && text.contains("public"), "{text}");
    }
}

#[tokio::test]
async fn configurations_are_listed_read_and_told() {
    for server in servers() {
        let (options, _file) = options(&server, None);
        let mut connection = Connection::up(options).await;
        let group = service("configs").service().to_owned();
        assert!(connection.client.configs(&group, ".yaml").await.expect("lists").is_empty());
        assert_eq!(connection.client.config("a.yaml", &group).await.expect("answers"), None);
        let listened =
            |md5: &str| [Listened { data_id: "a.yaml".to_owned(), group: group.clone(), md5: md5.to_owned() }];
        let changed = connection.client.listen(&listened("")).await.expect("listens");
        eprintln!("{}: listening to what is not there: {changed:?}", connection.server);
        publish(&server, &group, "a.yaml", "x: 1").await;
        let config = timeout(DEADLINE, async {
            loop {
                if let Some(config) = connection.client.config("a.yaml", &group).await.expect("answers") {
                    return config;
                }
                tokio::task::yield_now().await;
            }
        });
        let config = config.await.expect("published in time");
        assert_eq!((config.content.as_str(), config.md5.len()), ("x: 1", 32));
        assert_eq!(connection.client.configs(&group, ".yaml").await.expect("lists"), ["a.yaml".to_owned()].into());
        assert!(connection.client.listen(&listened(&config.md5)).await.expect("listens").is_empty());
        publish(&server, &group, "a.yaml", "x: 2").await;
        let asked = Instant::now();
        loop {
            let Event::ConfigChanged { data_id, group: of } = connection.next().await else { panic!("no change") };
            assert_eq!((data_id.as_str(), &of), ("a.yaml", &group));
            if connection.client.config("a.yaml", &group).await.expect("answers").expect("is there").content == "x: 2" {
                break;
            }
        }
        eprintln!("{}: configuration told after {:?}", connection.server, asked.elapsed());
        connection.client.unlisten(&listened("")).await.expect("no longer listens");
    }
}

/// Publishes a configuration over HTTP, as a console does.
pub(crate) async fn publish(server: &Server, group: &str, data_id: &str, content: &str) {
    configs(server, "POST", &[("dataId", data_id), ("group", group), ("content", content)]).await;
}

/// Takes a configuration back.
pub(crate) async fn withdraw(server: &Server, group: &str, data_id: &str) {
    configs(server, "DELETE", &[("dataId", data_id), ("group", group)]).await;
}

async fn configs(server: &Server, method: &str, fields: &[(&str, &str)]) {
    let scheme = if server.tls.is_some() { "https" } else { "http" };
    let base = format!("{scheme}://{}/nacos", server.address.authority());
    let mut curl = tokio::process::Command::new("curl");
    curl.args(["-sfkG", "-X", method]);
    if let Some((user, password)) = &server.login {
        let login = [format!("username={user}"), format!("password={password}")];
        let answer = tokio::process::Command::new("curl")
            .args(["-sf", &format!("{base}/v3/auth/user/login"), "-d", &login[0], "-d", &login[1]])
            .output()
            .await
            .expect("curl runs");
        let answer: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&answer.stdout).expect("a token");
        curl.args(["-H", &format!("Authorization: Bearer {}", answer["accessToken"].as_str().expect("a token"))]);
    }
    for (name, value) in fields {
        curl.args(["--data-urlencode", &format!("{name}={value}")]);
    }
    let output = curl.arg(format!("{base}/v1/cs/configs")).output().await.expect("curl runs");
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn a_wrong_password_is_said_and_a_right_one_taken_from_the_file() {
    for server in servers().into_iter().filter(|server| server.login.is_some()) {
        let (options, file) = options(&server, Some("wrong"));
        let mut connection = Connection::begin(options);
        let Event::Disconnected { reason } = connection.next().await else { panic!("let in") };
        assert!(matches!(reason.cause, Cause::Login { .. }), "{reason}");
        let shown = format!("{reason} {reason:?} {:?}", connection.client);
        assert!(!shown.contains("wrong"), "{shown}");
        eprintln!("{reason}");
        std::fs::write(file.path(), &server.login.as_ref().expect("has one").1).expect("the file can be written");
        while !matches!(connection.next().await, Event::Connected { .. }) {}
        connection.client.services("DEFAULT_GROUP").await.expect("allowed");
    }
}

#[tokio::test]
async fn without_login_a_server_that_asks_for_one_says_so() {
    for server in servers().into_iter().filter(|server| server.login.is_some()) {
        let (options, _file) = options(&server, None);
        let connection = Connection::up(Options { login: None, ..options }).await;
        let error = connection.client.services("DEFAULT_GROUP").await.expect_err("not allowed");
        eprintln!("{error}");
        assert!(matches!(error.cause, Cause::Denied { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_certificate_that_we_do_not_trust_is_said() {
    for server in servers().into_iter().filter(|server| server.tls.is_some()) {
        let (options, _file) = options(&server, None);
        for (tls, expected) in [
            (
                Tls { ca_file: None, server_name: None, http: true },
                "TLS failed: invalid peer certificate: UnknownIssuer",
            ),
            (
                Tls { server_name: Some("other.example".to_owned()), ..server.tls.clone().expect("has one") },
                "TLS failed: invalid peer certificate: certificate not valid for name",
            ),
            (
                Tls { ca_file: Some("/no/such/file".into()), server_name: None, http: true },
                "the file of certificate authorities /no/such/file cannot be used",
            ),
        ] {
            let mut connection = Connection::begin(Options { tls: Some(tls), ..options.clone() });
            let Event::Disconnected { reason } = connection.next().await else { panic!("trusted") };
            assert!(reason.to_string().contains(expected), "{reason}");
        }
    }
}
