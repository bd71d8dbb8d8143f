//! Starts controllers on temporary folders, and connects to them with or without a certificate.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::Uri;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use linkerd2_proxy_api::identity::{CertifyRequest, CertifyResponse, identity_client::IdentityClient};
use mesh_controller::{
    config::{Arguments, Settings},
    runtime::{self, Running},
    sign::{
        files::Paths,
        tokens::{Grant, Tokens},
    },
    telemetry::METRICS,
};
use mesh_core::{identity::Identity, names::DEFAULT_CONTROL_NAMESPACE};
use mesh_proto::convert::target::{LaneChoice, Workload};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::{ClientConfig, RootCertStore, version::TLS13};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject};
use serde_json::Value;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

/// Trust domain of every test.
pub(crate) const DOMAIN: &str = "cluster.local";
/// Longest wait for anything; only a failing test waits that long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Two services: `b` with three instances, one of them in lane canary, and `c` with none.
pub(crate) const SERVICES: &str = "\
apiVersion: lanemesh.io/v1alpha1
kind: Services
services:
- name: b
  namespace: demo
  ports: [{port: 8080}]
  endpoints:
  - {address: '127.1.0.2:8080', pod: b-1, zone: z1, identity: {serviceAccount: b}}
  - {address: '127.1.0.3:8080', pod: b-2, identity: {serviceAccount: b}, weight: 0.5}
  - {address: '127.1.0.4:8080', pod: b-canary, labels: {lane: canary}, identity: {serviceAccount: b}}
- name: c
  namespace: demo
  ports: [{port: 80}, {port: 6379, protocol: opaque}]
  endpoints: []
";

/// A lane group with the lane canary.
pub(crate) const LANES: &str = "\
apiVersion: lanemesh.io/v1alpha1
kind: LaneGroup
metadata: {name: shop, namespace: demo}
spec:
  services: ['*']
---
apiVersion: lanemesh.io/v1alpha1
kind: Lane
metadata: {name: canary, namespace: demo}
spec:
  group: shop
  selector: {labels: {lane: canary}}
";

/// A controller with the folders it works on.
pub(crate) struct Controller {
    running: Running,
    files: PathBuf,
    state: PathBuf,
    _folders: Option<tempfile::TempDir>,
}

impl Controller {
    /// A controller on new folders, with one file of services.
    pub(crate) async fn start() -> Controller {
        Controller::with(&[("services.yaml", SERVICES)], &[]).await
    }

    /// A controller on new folders with these files and further arguments.
    pub(crate) async fn with(files: &[(&str, &str)], arguments: &[&str]) -> Controller {
        let folders = tempfile::tempdir().unwrap();
        let place = folders.path().join("files");
        std::fs::create_dir(&place).unwrap();
        for (name, text) in files {
            std::fs::write(place.join(name), text).unwrap();
        }
        let state = folders.path().join("state");
        let mut controller = Controller::on(&place, &state, arguments).await;
        controller._folders = Some(folders);
        controller
    }

    /// A controller on folders that exist.
    pub(crate) async fn on(files: &Path, state: &Path, arguments: &[&str]) -> Controller {
        let running = runtime::start(settings(files, state, arguments)).await.unwrap();
        Controller { running, files: files.to_owned(), state: state.to_owned(), _folders: None }
    }

    /// Another controller on the same folders.
    pub(crate) async fn replica(&self) -> Controller {
        Controller::on(&self.files, &self.state, &[]).await
    }

    /// Folder of the file source.
    pub(crate) fn files(&self) -> &Path {
        &self.files
    }

    /// State directory.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// Address of the gRPC port.
    pub(crate) fn listen(&self) -> SocketAddr {
        self.running.listen
    }

    /// Address of the plaintext port.
    pub(crate) fn plaintext(&self) -> SocketAddr {
        self.running.plaintext_loopback.unwrap()
    }

    /// Writes a file of the source as editors do: aside, then renamed.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let aside = self.files.join(format!(".{name}.new"));
        std::fs::write(&aside, text).unwrap();
        std::fs::rename(aside, self.files.join(name)).unwrap();
    }

    /// The tokens of this mesh.
    pub(crate) fn tokens(&self) -> Tokens {
        Tokens::open(&Paths::in_directory(&self.state).token_key, DOMAIN).unwrap()
    }

    /// A token for a workload.
    pub(crate) fn token(&self, identity: &Identity) -> String {
        let grant = Grant { identity: identity.clone(), pod: None, life: Duration::from_secs(60) };
        self.tokens().sign(&grant, SystemTime::now()).unwrap()
    }

    /// A connection without certificate.
    pub(crate) async fn anonymous(&self) -> Channel {
        self.connect(None).await.unwrap()
    }

    /// A connection with a certificate of a service account of namespace demo, obtained as proxies do.
    pub(crate) async fn proxy(&self, service_account: &str) -> Channel {
        let identity = account("demo", service_account);
        let key = key();
        let response =
            self.certify(&identity, &self.token(&identity), &request(&key, &names(&identity))).await.unwrap();
        self.connect(Some(Certificate::new(&key, &response))).await.unwrap()
    }

    /// Asks for a certificate.
    pub(crate) async fn certify(
        &self,
        identity: &Identity,
        token: &str,
        request: &[u8],
    ) -> Result<CertifyResponse, tonic::Status> {
        let message = CertifyRequest {
            identity: identity.dns_name(DEFAULT_CONTROL_NAMESPACE),
            token: token.as_bytes().to_vec(),
            certificate_signing_request: request.to_vec(),
        };
        let answer = IdentityClient::new(self.anonymous().await).certify(message).await?;
        Ok(answer.into_inner())
    }

    /// A connection that trusts the bundle in the state directory and offers `certificate`.
    pub(crate) async fn connect(&self, certificate: Option<Certificate>) -> Result<Channel, tonic::transport::Error> {
        let config = Arc::new(client_config(&self.state.join("trust-bundle.pem"), certificate));
        let name = account(DEFAULT_CONTROL_NAMESPACE, "lanemesh-controller").dns_name(DEFAULT_CONTROL_NAMESPACE);
        let (address, name) = (self.listen(), ServerName::try_from(name).unwrap());
        let connector = tower::service_fn(move |_: Uri| {
            let (config, name) = (Arc::clone(&config), name.clone());
            async move {
                let stream = TcpStream::connect(address).await?;
                let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        let endpoint = Endpoint::from_static("http://controller");
        let connecting = endpoint.connect_with_connector(connector);
        tokio::time::timeout(DEADLINE, connecting).await.expect("a connection in time; are the files good?")
    }

    /// An answer of the console.
    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.console(http::Request::get(path), "").await
    }

    /// An answer of the console to something sent.
    pub(crate) async fn post(&self, path: &str, body: &str) -> (u16, Value) {
        self.console(http::Request::post(path), body).await
    }

    /// Status and JSON of an answer of the admin port; other bodies come as a JSON string.
    pub(crate) async fn console(&self, request: http::request::Builder, body: &str) -> (u16, Value) {
        let stream = TcpStream::connect(self.running.admin).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let host = request.headers_ref().is_some_and(|headers| headers.contains_key("host"));
        let request = if host { request } else { request.header("host", self.running.admin.to_string()) };
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        let exchange = async move {
            let answer = sender.send_request(request).await.unwrap();
            (answer.status().as_u16(), answer.into_body().collect().await.unwrap().to_bytes())
        };
        let ((status, body), ended) = tokio::join!(exchange, connection);
        ended.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Asks the console again and again until `holds` of its answer.
    pub(crate) async fn until(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let wait = async {
            loop {
                let (_, answer) = self.get(path).await;
                if holds(&answer) {
                    return answer;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("{path} never became what is expected"))
    }

    /// Asks until the metric whose name ends in `name`, with these labels, has a value.
    pub(crate) async fn until_metric(&self, name: &str, labels: &str, value: u64) {
        let line = format!("{}{labels} {value}\n", metric(name));
        self.until("/metrics", |text| text.as_str().is_some_and(|text| text.contains(&line))).await;
    }

    /// Stops it.
    pub(crate) async fn stop(self) {
        self.running.stop().await;
    }
}

/// Settings for ports that nobody uses.
pub(crate) fn settings(files: &Path, state: &Path, arguments: &[&str]) -> Settings {
    let words = ["mesh-controller", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--file"];
    let words = words.into_iter().map(str::to_owned);
    let folders = [files.display().to_string(), "--state-directory".to_owned(), state.display().to_string()];
    let words = words.chain(folders).chain(arguments.iter().map(|word| (*word).to_owned()));
    <Arguments as clap::Parser>::parse_from(words).settings
}

/// An identity.
pub(crate) fn account(namespace: &str, service_account: &str) -> Identity {
    Identity::new(DOMAIN, namespace, service_account).unwrap()
}

/// Who asks, as JSON.
pub(crate) fn workload(namespace: &str, pod: &str) -> String {
    Workload { namespace: namespace.to_owned(), pod: pod.to_owned(), lanes: LaneChoice::Own }.to_wire()
}

/// A fresh key.
pub(crate) fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

/// The names that an identity's certificate has.
pub(crate) fn names(identity: &Identity) -> Vec<SanType> {
    let dns = identity.dns_name(DEFAULT_CONTROL_NAMESPACE);
    vec![SanType::DnsName(dns.try_into().unwrap()), SanType::URI(identity.to_string().try_into().unwrap())]
}

/// A signing request, DER.
pub(crate) fn request(key: &KeyPair, names: &[SanType]) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names.to_vec();
    params.serialize_request(key).unwrap().der().to_vec()
}

/// A client's certificate with its key.
pub(crate) struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Certificate {
    /// Out of an answer to Certify.
    pub(crate) fn new(key: &KeyPair, response: &CertifyResponse) -> Self {
        let mut chain = vec![CertificateDer::from(response.leaf_certificate.clone())];
        chain.extend(response.intermediate_certificates.iter().cloned().map(CertificateDer::from));
        Certificate { chain, key: PrivatePkcs8KeyDer::from(key.serialize_der()).into() }
    }
}

fn client_config(trust_bundle: &Path, certificate: Option<Certificate>) -> ClientConfig {
    let pem = std::fs::read(trust_bundle).unwrap();
    let mut anchors = RootCertStore::empty();
    for anchor in CertificateDer::pem_slice_iter(&pem) {
        anchors.add(anchor.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(anchors);
    match certificate {
        Some(Certificate { chain, key }) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    }
}

/// Full name of the metric whose name ends so.
pub(crate) fn metric(end: &str) -> &'static str {
    METRICS.iter().find(|row| row.name.ends_with(end)).expect("a metric of the table").name
}

/// The next message of a stream.
pub(crate) async fn next<T>(stream: &mut tonic::Streaming<T>) -> Result<T, tonic::Status> {
    let message = tokio::time::timeout(DEADLINE, stream.message()).await.expect("a message in time");
    message.map(|message| message.expect("the stream goes on"))
}
