//! Workloads that a controller registers with real servers because their proxies are connected to it.

use std::time::{Duration, Instant};

use clap::Parser as _;
use mesh_controller::{
    config::Arguments,
    runtime::{self, Running},
};
use mesh_core::discovery::nacos::Listing;
use mesh_proto::mesh::v1::{
    Hello, PolicySnapshot, ProxyReport, Status, mesh_policy_client::MeshPolicyClient, proxy_report::Report,
};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Endpoint};

use crate::{
    harness::Connection,
    servers::{Server, options, pushed, servers, service},
};

/// A controller with the service `demo/<name>`, and further fields of the server.
pub(crate) async fn controller(server: &Server, name: &str, fields: &str, folder: &TempDir) -> Running {
    let place = |file: &str| folder.path().join(file).display().to_string();
    let services = format!(
        "apiVersion: lanemesh.io/v1alpha1\nkind: Services\nservices:\n- name: {name}\n  namespace: demo\n  \
         ports: [{{port: 80, protocol: http1}}]\n  endpoints:\n  \
         - {{address: '10.9.2.1:8080', pod: b-1, zone: z1, labels: {{lane: gray}}, identity: {{serviceAccount: b}}}}\n  \
         - {{address: '10.9.2.2:8080', pod: b-2, identity: {{serviceAccount: b}}}}\n"
    );
    std::fs::write(place("services.yaml"), services).expect("the file can be written");
    let login = match &server.login {
        None => String::new(),
        Some((user, password)) => {
            std::fs::write(place("password"), password).expect("the file can be written");
            format!("  username: {user}\n  passwordFile: {}\n", place("password"))
        }
    };
    let address = server.address.authority();
    let tls = server.tls.as_ref().and_then(|tls| tls.ca_file.as_ref());
    let tls = tls.map_or_else(String::new, |file| format!("  tls: {{caFile: {}}}\n", file.display()));
    let nacos = format!("servers:\n- addresses: ['{address}']\n{login}{tls}  {fields}\n");
    std::fs::write(place("nacos"), nacos).expect("the file can be written");
    let (file, nacos, state) = (place("services.yaml"), place("nacos"), place("state"));
    let nowhere = "127.0.0.1:0";
    let words = [
        "mesh-controller",
        "--file",
        &file,
        "--nacos",
        &nacos,
        "--state-directory",
        &state,
        "--listen",
        nowhere,
        "--admin",
        nowhere,
        "--plaintext-loopback",
        nowhere,
    ];
    runtime::start(Arguments::parse_from(words).settings).await.expect("a controller starts")
}

/// What a proxy of an earlier version says of its life.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Serves,
    Drains,
}

/// A proxy of a pod of `demo`.
pub(crate) struct Proxy {
    reports: mpsc::Sender<ProxyReport>,
    _snapshots: Streaming<PolicySnapshot>,
}

impl Proxy {
    pub(crate) async fn connect(controller: &Running, pod: &str) -> Proxy {
        let address = controller.plaintext_loopback.expect("a plaintext port");
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let channel = endpoint.connect().await.expect("a connection");
        let (reports, receiver) = mpsc::channel(8);
        let hello = Hello {
            namespace: "demo".to_owned(),
            pod: pod.to_owned(),
            service_account: "b".to_owned(),
            version: "0.1.0".to_owned(),
            applied_revision: String::new(),
            admin_address: "127.1.0.2:4191".to_owned(),
            role: "sidecar".to_owned(),
            ..Hello::default()
        };
        reports.send(ProxyReport { report: Some(Report::Hello(hello)) }).await.expect("a queue");
        let stream = MeshPolicyClient::new(channel).watch(ReceiverStream::new(receiver)).await;
        let proxy = Proxy { reports, _snapshots: stream.expect("a stream").into_inner() };
        proxy.says(Said::Serves).await;
        proxy
    }

    async fn says(&self, said: Said) {
        let draining = said == Said::Drains;
        let status = Status { certificate_not_after: None, snapshot_written: None, draining, subscriptions: 0 };
        self.reports.send(ProxyReport { report: Some(Report::Status(status)) }).await.expect("a stream");
    }
}

fn ips(listing: &Listing) -> Vec<&str> {
    let mut ips: Vec<&str> = listing.hosts.iter().map(|host| host.ip.as_str()).collect();
    ips.sort_unstable();
    ips
}

#[tokio::test]
async fn a_workload_is_registered_while_its_proxy_is_connected_and_takes_traffic() {
    for server in servers() {
        let (options, _file) = options(&server, None);
        let mut watching = Connection::up(options).await;
        let name = service("registered");
        watching.client.subscribe(&name).await.expect("subscribes");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let controller = controller(&server, name.service(), "register: [{services: ['demo/*']}]", &folder).await;

        let first = Proxy::connect(&controller, "b-1").await;
        let (listing, took) = pushed(&mut watching, &name, |listing| ips(listing) == ["10.9.2.1"]).await;
        eprintln!("{}: connected, registered after {took:?}", watching.server);
        let metadata = &listing.hosts[0].metadata;
        let said = |key: &str| metadata.get(key).map_or("", String::as_str);
        assert_eq!((said("lane"), said("zone"), said("protocol"), said("mesh")), ("gray", "z1", "http1", "lanemesh"));
        assert_eq!((said("lanemesh.io/identity"), said("preserved.register.source")), ("b.demo", "LANEMESH"));

        let second = Proxy::connect(&controller, "b-2").await;
        pushed(&mut watching, &name, |listing| ips(listing) == ["10.9.2.1", "10.9.2.2"]).await;
        first.says(Said::Drains).await;
        let (_, took) = pushed(&mut watching, &name, |listing| ips(listing) == ["10.9.2.2"]).await;
        eprintln!("{}: draining, taken back after {took:?}", watching.server);
        assert!(took < Duration::from_secs(3), "{took:?}");
        drop(second);
        let (_, took) = pushed(&mut watching, &name, |listing| listing.hosts.is_empty()).await;
        eprintln!("{}: disconnected, taken back after {took:?}", watching.server);

        let _third = Proxy::connect(&controller, "b-2").await;
        pushed(&mut watching, &name, |listing| ips(listing) == ["10.9.2.2"]).await;
        let asked = Instant::now();
        controller.stop().await;
        pushed(&mut watching, &name, |listing| listing.hosts.is_empty()).await;
        eprintln!("{}: controller stopped, taken back after {:?}", watching.server, asked.elapsed());
    }
}
