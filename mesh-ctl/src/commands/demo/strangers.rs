//! Callers without a mesh identity: what they get from a sidecar.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use mesh_core::{identity::Identity, names};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName, version::TLS13};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    check::captured,
    mesh::Mesh,
    scrape,
    topology::{NAMESPACE, Pod},
};
use crate::cluster;

/// Longest wait for a refusal.
const REFUSAL_WAIT: Duration = Duration::from_secs(5);
/// Most of an answer that is read, bytes.
const ANSWER_MAX: u64 = 64 * 1024;
/// Counter of refused handshakes.
const TLS_REFUSED: &str = "mesh_tls_refused_total";
/// Reason where a caller has no certificate.
const NO_CERTIFICATE: &str = "no_client_certificate";
/// A request for the service, as a stranger sends it.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: c.demo:8080\r\nconnection: close\r\n\r\n";

/// A plain request to a strict port.
///
/// # Errors
/// When it is answered by the application.
pub(crate) async fn plaintext(mesh: &Mesh) -> anyhow::Result<String> {
    let pod = mesh.topology.pod("c")?;
    let before = counted(mesh, pod, "plaintext").await?;
    let mut tried = vec![mesh.topology.inbound(pod)];
    if captured(mesh.topology.place) {
        tried.push(mesh.topology.application(pod));
    }
    for address in &tried {
        let mut stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        let answer = timeout(REFUSAL_WAIT, ask(&mut stream, REQUEST)).await.context("no refusal in time")?;
        refused(*address, &answer.unwrap_or_default())?;
    }
    let counted = counted_since(mesh, pod, "plaintext", before).await?;
    let list: Vec<String> = tried.iter().map(ToString::to_string).collect();
    Ok(format!("refused at {}, {counted} counted with reason plaintext", list.join(" and ")))
}

/// Refusals that a sidecar counts for a reason.
async fn counted(mesh: &Mesh, pod: &Pod, reason: &str) -> anyhow::Result<f64> {
    let answer = cluster::admin(mesh.topology.admin(pod), "/metrics").await?;
    Ok(scrape::sum(&String::from_utf8_lossy(&answer.body), TLS_REFUSED, &format!("reason=\"{reason}\"")))
}

/// Refusals since there were `before`; there must be some: a connection that merely broke is no refusal.
async fn counted_since(mesh: &Mesh, pod: &Pod, reason: &str, before: f64) -> anyhow::Result<f64> {
    let added = counted(mesh, pod, reason).await? - before;
    ensure!(added > 0.0, "the sidecar of {} counted no refusal with reason {reason}", pod.name);
    Ok(added)
}

/// Nothing, or an answer by the mesh itself that is an error.
fn refused(address: SocketAddr, answer: &[u8]) -> anyhow::Result<()> {
    let text = String::from_utf8_lossy(answer).to_ascii_lowercase();
    let by_the_mesh = text.starts_with("http/1.1 4") && text.contains(&format!("{}:", names::ERROR_HEADER));
    ensure!(text.is_empty() || by_the_mesh, "{address} answered {:?}", text.lines().next().unwrap_or_default());
    Ok(())
}

/// A TLS client that trusts the mesh but has no certificate of it.
///
/// # Errors
/// When the connection is taken.
pub(crate) async fn without_certificate(mesh: &Mesh) -> anyhow::Result<String> {
    let pod = mesh.topology.pod("c")?;
    let before = counted(mesh, pod, NO_CERTIFICATE).await?;
    let address = mesh.topology.inbound(pod);
    let connector = TlsConnector::from(Arc::new(configuration(&mesh.trust_bundle())?));
    let identity = Identity::new(names::DEFAULT_TRUST_DOMAIN, NAMESPACE, "c")?;
    let name = ServerName::try_from(identity.dns_name(names::DEFAULT_CONTROL_NAMESPACE))?;
    let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    // TLS 1.3 lets a client finish before the server has looked at its certificate: the refusal may come at the read.
    let exchange = async {
        let mut stream = connector.connect(name, stream).await?;
        ask(&mut stream, names::TRANSPORT_PREFACE).await
    };
    let seen = match timeout(REFUSAL_WAIT, exchange).await.context("no refusal in time")? {
        Err(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::AlertReceived(alert)) => format!("refused with the alert {alert:?}"),
            Some(own) => bail!("the test's own client failed: {own}"),
            None => format!("refused: {error}"),
        },
        Ok(answer) => {
            ensure!(answer.is_empty(), "{address} answered {} bytes", answer.len());
            "closed without an answer".to_owned()
        }
    };
    let counted = counted_since(mesh, pod, NO_CERTIFICATE, before).await?;
    Ok(format!("{seen}, {counted} counted with reason {NO_CERTIFICATE}"))
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, request: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(request).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn configuration(bundle: &Path) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(bundle).context("cannot read the trust bundle")? {
        roots.add(certificate.context("the trust bundle is malformed")?)?;
    }
    let mut configuration = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    configuration.alpn_protocols = vec![names::TRANSPORT_ALPN.to_vec()];
    Ok(configuration)
}
