//! The gateway toward outside: TLS with HTTP/1 and HTTP/2, a certificate that is replaced while it serves, and what the
//! application learns of the caller.

use std::{net::SocketAddr, path::Path};

use http::{Method, Request, Response};
use hyper::body::Incoming;
use mesh_tests::{
    client::{Body, Connection, Version, full, request},
    mesh::Mesh,
    peer::{Authority, Handshake},
    pod::PodSpec,
    server::{self, Server},
    wait::{PATIENCE, until, until_true},
};
use rustls::{
    SupportedProtocolVersion,
    version::{TLS12, TLS13},
};
use tempfile::TempDir;

use crate::chain::lane;

/// Port for TLS from outside.
const TLS_PORT: u16 = 4_443;
/// Versions of TLS that a client speaks.
static OLD: &[&SupportedProtocolVersion] = &[&TLS12];
static NEW: &[&SupportedProtocolVersion] = &[&TLS13];
const GROUP: &str = "apiVersion: lanemesh.io/v1alpha1
kind: LaneGroup
metadata: {name: shop, namespace: demo}
spec: {services: [a], entries: [gate]}
";
const RULE: &str = ", match: {any: [{on: sourceIP, operator: in, values: [127.0.0.0/8]}]}";

/// Puts a certificate and its key in place; each file at once, one after the other.
fn install(folder: &Path, pair: &Authority) {
    for (file, text) in [("tls.crt", &pair.certificate), ("tls.key", &pair.key)] {
        let temporary = folder.join(format!(".{file}"));
        std::fs::write(&temporary, text).expect("the temporary folder is writable");
        std::fs::rename(&temporary, folder.join(file)).expect("the same file system");
    }
}

/// What the application has received of fields that say where the call came from, and of the label.
async fn mirror(incoming: Request<Incoming>) -> Response<Body> {
    let field = |name: &str| {
        let values = incoming.headers().get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.collect::<Vec<_>>().join("|")
    };
    let names = ["x-forwarded-for", "x-forwarded-proto", "x-mesh-lane"];
    server::text(names.map(field).join(" "))
}

struct Outside {
    mesh: Mesh,
    folder: TempDir,
    _application: Server,
}

impl Outside {
    async fn start(first: &Authority) -> Outside {
        let folder = TempDir::new().expect("a temporary folder");
        install(folder.path(), first);
        let file = |name: &str| folder.path().join(name).display().to_string();
        let gate = PodSpec::new("gate")
            .of("gate")
            .gateway()
            .setting("LANEMESH_TLS_LISTEN", format!("{{address}}:{TLS_PORT}"))
            .setting("LANEMESH_TLS_CERTIFICATE_FILE", file("tls.crt"))
            .setting("LANEMESH_TLS_KEY_FILE", file("tls.key"));
        let mesh = Mesh::builder()
            .pod(gate)
            .pod(PodSpec::new("a").of("a"))
            .resource(&format!("{GROUP}---\n{}", lane("canary", RULE)))
            .start()
            .await;
        let application = Server::start(mesh.application("a"), mirror).await;
        mesh.reachable("gate", "a").await;
        Outside { mesh, folder, _application: application }
    }

    fn address(&self) -> SocketAddr {
        (self.mesh.pod("gate").address, TLS_PORT).into()
    }

    /// A connection under TLS, and the certificate that was shown.
    async fn connect(
        &self,
        version: Version,
        tls: &'static [&'static SupportedProtocolVersion],
    ) -> anyhow::Result<(Connection, Vec<u8>)> {
        let offered: &[u8] = match version {
            Version::Http1 => b"http/1.1",
            Version::Http2 => b"h2",
        };
        let handshake = Handshake { credentials: None, alpn: vec![offered.to_vec()], versions: tls };
        let stream = handshake.connect(self.address(), "shop.example.com").await?;
        let session = stream.get_ref().1;
        assert_eq!(session.alpn_protocol(), Some(offered));
        let shown = session.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.to_vec());
        Ok((Connection::over(stream, version).await?, shown.unwrap_or_default()))
    }
}

async fn get(connection: &mut Connection, host: &str, headers: &[(&str, &str)]) -> String {
    let answer = connection.send(request(Method::GET, host, "/", headers, full(""))).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

#[tokio::test]
async fn gateway_takes_tls_of_both_versions_and_tells_where_calls_came_from() {
    let outside = Outside::start(&Authority::new("first")).await;
    for version in [Version::Http1, Version::Http2] {
        for tls in [OLD, NEW] {
            let (mut connection, _) = outside.connect(version, tls).await.unwrap();
            // Its own port in the host says nothing of the service's.
            for host in ["a", "a:4443", "a:80", "a:443"] {
                let spoofed = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-proto", "ftp"), ("x-mesh-lane", "other")];
                let came = get(&mut connection, host, &spoofed).await;
                assert_eq!(came, "6.6.6.6, 127.0.0.1 https canary", "{version:?} {host}");
            }
        }
        let mut plain = outside.mesh.connection("gate", version).await.unwrap();
        assert_eq!(get(&mut plain, "a", &[]).await, "127.0.0.1 http canary");
    }
}

#[tokio::test]
async fn certificate_is_replaced_while_connections_go_on_and_a_bad_one_changes_nothing() {
    let outside = Outside::start(&Authority::new("first")).await;
    let (mut open, first) = outside.connect(Version::Http1, NEW).await.unwrap();
    std::fs::write(outside.folder.path().join("tls.crt"), "no certificate").unwrap();
    let stays = "the certificate toward outside stays as it was";
    until_true(stays, PATIENCE, || outside.mesh.pod("gate").log().contains(stays)).await;
    assert_eq!(outside.connect(Version::Http2, NEW).await.unwrap().1, first);
    install(outside.folder.path(), &Authority::new("second"));
    let (mut fresh, second) = until("the new certificate", PATIENCE, || async {
        let (connection, shown) = outside.connect(Version::Http2, NEW).await.ok()?;
        (shown != first).then_some((connection, shown))
    })
    .await;
    assert!(!second.is_empty());
    for connection in [&mut open, &mut fresh] {
        assert_eq!(get(connection, "a", &[]).await, "127.0.0.1 https canary");
    }
}
