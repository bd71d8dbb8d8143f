//! Who is not let in, and whom a sidecar does not talk to: certificates as they should not be, in both directions. No byte
//! reaches the application, and metric and log name the reason.

use std::net::SocketAddr;

use mesh_tests::{
    mesh::Mesh,
    peer::{Authority, FakeSidecar, Handshake, Leaf, Session, TLS12},
    pod::{NAMESPACE, Pod, PodSpec, TRUST_DOMAIN},
    raw::{self, Upstream},
    wait::{PATIENCE, until, until_true},
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

/// Metric of refusals, by reason.
const REFUSED: &str = "mesh_tls_refused_total";

struct Case {
    name: &'static str,
    handshake: Handshake,
    reason: &'static str,
}

/// Leaves that no side may accept, for the identity of `account`.
fn bad_leaves(own: &Authority, account: &str) -> Vec<Case> {
    let good = Leaf::of(TRUST_DOMAIN, NAMESPACE, account);
    let case = |name, credentials, reason| Case { name, handshake: Handshake::with(credentials), reason };
    let stranger = Authority::new("another mesh");
    let uri = good.uris[0].clone();
    vec![
        case("wrong_trust_domain", own.sign(&Leaf::of("other.test", NAMESPACE, account)), "wrong_trust_domain"),
        case("other_authority", stranger.sign(&good), "unknown_issuer"),
        case("expired", own.sign(&Leaf { from: (2020, 1, 1), until: (2021, 1, 1), ..good.clone() }), "expired"),
        case("not_yet_valid", own.sign(&Leaf { from: (2080, 1, 1), ..good.clone() }), "not_yet_valid"),
        case("no_name", own.sign(&Leaf { uris: vec![], names: vec![], ..good.clone() }), "no_identity"),
        case("two_uris", own.sign(&Leaf { uris: vec![uri.clone(), uri], ..good.clone() }), "ambiguous_identity"),
        case(
            "names_contradict",
            own.sign(&Leaf { uris: Leaf::of(TRUST_DOMAIN, NAMESPACE, "other").uris, ..good.clone() }),
            "malformed_identity",
        ),
        case(
            "no_identity_in_uri",
            own.sign(&Leaf { uris: vec!["https://example.test/".into()], ..good.clone() }),
            "malformed_identity",
        ),
        case("self_signed", good.self_signed(), "unknown_issuer"),
        case("authority_as_leaf", own.sign(&Leaf { is_ca: true, ..good }), "ca_as_leaf"),
    ]
}

/// Handshakes that no sidecar may accept from a caller.
fn callers(own: &Authority) -> Vec<Case> {
    let good = || Handshake::with(own.sign(&Leaf::of(TRUST_DOMAIN, NAMESPACE, "a")));
    let mut cases = bad_leaves(own, "a");
    cases.extend([
        Case {
            name: "no_certificate",
            handshake: Handshake { credentials: None, ..good() },
            reason: "no_client_certificate",
        },
        Case { name: "tls_1_2", handshake: Handshake { versions: TLS12, ..good() }, reason: "tls_version" },
        Case { name: "no_protocol", handshake: Handshake { alpn: vec![], ..good() }, reason: "alpn" },
        Case { name: "other_protocol", handshake: Handshake { alpn: vec![b"h2".to_vec()], ..good() }, reason: "alpn" },
    ]);
    cases
}

async fn count(pod: &Pod, reason: &str) -> f64 {
    pod.metrics().await.sum(REFUSED, &[("reason", reason)])
}

/// Waits until metric and log name the reason.
async fn named(pod: &Pod, name: &str, reason: &str, before: f64) {
    let what = format!("{name}: metric says {reason}");
    until(&what, PATIENCE, || async { (count(pod, reason).await > before).then_some(()) }).await;
    until_true(&format!("{name}: log says {reason}"), PATIENCE, || pod.log().contains(reason)).await;
}

#[tokio::test]
async fn callers_with_bad_certificates_are_refused_and_no_byte_reaches_the_application() {
    let mesh = Mesh::builder().pod(PodSpec::new("a")).pod(PodSpec::new("b").of("b")).start().await;
    let application = Upstream::start(mesh.application("b"), vec![]).await;
    let pod = mesh.pod("b");
    for Case { name, handshake, reason } in callers(&mesh.authority()) {
        let before = count(pod, reason).await;
        let opened = handshake.open(pod.inbound(), &pod.server_name(), 8080, Session::Http1).await;
        if let Ok(mut stream) = opened {
            // The refusal may already be on its way.
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: b\r\n\r\n").await;
            let received = raw::read(&mut stream, raw::LISTEN, |_| false).await;
            assert_ne!(received.end, raw::End::Open, "{name}: the connection stays open");
            assert_eq!(received.text(), "", "{name}: something came back");
        }
        named(pod, name, reason, before).await;
        assert_eq!(application.received().len(), 0, "{name}: the application was reached");
    }
}

#[tokio::test]
async fn plaintext_on_a_strict_port_is_refused_and_no_byte_reaches_the_application() {
    let mesh = Mesh::builder().pod(PodSpec::new("b").of("b")).start().await;
    let application = Upstream::start(mesh.application("b"), vec![]).await;
    let pod = mesh.pod("b");
    let before = count(pod, "plaintext").await;
    let received = raw::exchange(pod.inbound(), b"GET / HTTP/1.1\r\nHost: b\r\n\r\n", raw::LISTEN, |_| false).await;
    assert_ne!(received.status(), 200, "{}", received.text());
    named(pod, "plaintext", "plaintext", before).await;
    assert_eq!(application.received().len(), 0, "the application was reached");
}

#[tokio::test]
async fn callees_with_bad_certificates_are_not_spoken_to() {
    let mesh = Mesh::builder().pod(PodSpec::new("a")).pod(PodSpec::new("b").of("b").fake_sidecar()).start().await;
    let own = mesh.authority();
    let mut cases = bad_leaves(&own, "b");
    let impostor = own.sign(&Leaf::of(TRUST_DOMAIN, NAMESPACE, "c"));
    cases.push(Case { name: "wrong_account", handshake: Handshake::with(impostor), reason: "wrong_identity" });
    let old = Handshake { versions: TLS12, ..Handshake::with(own.sign(&Leaf::of(TRUST_DOMAIN, NAMESPACE, "b"))) };
    cases.push(Case { name: "tls_1_2", handshake: old, reason: "tls_version" });
    for Case { name, handshake, reason } in cases {
        let before = count(mesh.pod("a"), reason).await;
        let fake = FakeSidecar::start(mesh.pod("b").inbound(), &handshake).await;
        let answer = mesh.get("a", "b", "/secret", &[]).await.unwrap();
        assert_eq!(answer.status, 503, "{name}: {}", answer.text());
        assert_ne!(answer.header("x-mesh-error"), "", "{name}: the answer names the outcome");
        named(mesh.pod("a"), name, reason, before).await;
        until_true(&format!("{name}: the callee was tried"), PATIENCE, || !fake.attempts().is_empty()).await;
        for attempt in fake.attempts() {
            let inside = String::from_utf8_lossy(&attempt.inside).into_owned();
            assert_eq!(inside, "", "{name}: the callee was spoken to");
        }
    }
}

#[tokio::test]
async fn callee_that_speaks_plaintext_is_not_spoken_to() {
    let mesh = Mesh::builder().pod(PodSpec::new("a")).pod(PodSpec::new("b").of("b").fake_sidecar()).start().await;
    let answering =
        vec![raw::Step::Await(vec![0x16]), raw::Step::send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")];
    let fake = Upstream::start(mesh.pod("b").inbound(), answering).await;
    let answer = mesh.get("a", "b", "/secret", &[]).await.unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(!fake.text().contains("/secret"), "the request went out in the clear");
}

#[tokio::test]
async fn good_certificate_of_the_test_is_let_in() {
    let mesh = Mesh::builder().pod(PodSpec::new("b").of("b")).start().await;
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let _application = Upstream::start(mesh.application("b"), vec![raw::Step::head(), raw::Step::send(answer)]).await;
    let pod = mesh.pod("b");
    let good = Handshake::with(mesh.authority().sign(&Leaf::of(TRUST_DOMAIN, NAMESPACE, "a")));
    let mut stream = good.open(pod.inbound(), &pod.server_name(), 8080, Session::Http1).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: b\r\n\r\n").await.unwrap();
    let received = raw::read(&mut stream, raw::LISTEN, |bytes| bytes.ends_with(b"ok")).await;
    assert_eq!(received.status(), 200, "{}", received.text());
}

#[tokio::test]
async fn endless_handshakes_end_at_the_deadline_and_hold_nobody_up() {
    let mesh = Mesh::builder().pod(PodSpec::new("a")).pod(PodSpec::new("b").of("b")).start().await;
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let _application = Upstream::start(mesh.application("b"), vec![raw::Step::head(), raw::Step::send(answer)]).await;
    let to: SocketAddr = mesh.pod("b").inbound();
    let mut silent = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00]).await.unwrap();
        silent.push(stream);
    }
    mesh.reachable("a", "b").await;
    for mut stream in silent {
        let received = raw::read(&mut stream, PATIENCE, |_| false).await;
        assert_ne!(received.end, raw::End::Open, "an endless handshake is still open");
    }
}
