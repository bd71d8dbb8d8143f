//! Certificates: who gets one, what it says, who is refused.

use std::time::{Duration, SystemTime};

use linkerd2_proxy_api::destination::{GetDestination, destination_client::DestinationClient};
use mesh_controller::sign::tokens::Grant;
use rcgen::{KeyPair, PKCS_ED25519, SanType};
use tonic::Code;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::harness::{Certificate, Controller, account, key, names, request};

#[tokio::test]
async fn a_certificate_carries_one_dns_and_one_uri_name_and_is_no_authority() {
    let controller = Controller::with(&[("s.yaml", crate::harness::SERVICES)], &["--leaf-lifetime", "10m"]).await;
    let identity = account("demo", "b");
    let asked = request(&key(), &names(&identity));
    let answer = controller.certify(&identity, &controller.token(&identity), &asked).await.unwrap();
    let (_, leaf) = X509Certificate::from_der(&answer.leaf_certificate).unwrap();
    let found = leaf.subject_alternative_name().unwrap().unwrap().value.general_names.clone();
    assert_eq!(
        found,
        [
            GeneralName::DNSName("b.demo.serviceaccount.identity.lanemesh.cluster.local"),
            GeneralName::URI("spiffe://cluster.local/ns/demo/sa/b"),
        ]
    );
    assert!(!leaf.is_ca());
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && usage.client_auth);
    let life = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
    assert!((600..=660).contains(&life), "{life} s");
    assert_eq!(answer.valid_until.unwrap().seconds, leaf.validity().not_after.timestamp());
    assert_eq!(answer.intermediate_certificates.len(), 1);
    controller.stop().await;
}

#[tokio::test]
async fn a_stock_proxy_may_ask_for_the_dns_name_alone_and_gets_both() {
    let controller = Controller::start().await;
    let identity = account("demo", "b");
    let asked = request(&key(), &names(&identity)[..1]);
    let answer = controller.certify(&identity, &controller.token(&identity), &asked).await.unwrap();
    let (_, leaf) = X509Certificate::from_der(&answer.leaf_certificate).unwrap();
    assert_eq!(leaf.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 2);
    controller.stop().await;
}

#[tokio::test]
async fn tokens_and_requests_that_prove_something_else_are_refused() {
    let controller = Controller::start().await;
    let other_mesh = Controller::start().await;
    let identity = account("demo", "b");
    let good = controller.token(&identity);
    let dns = |name: &str| SanType::DnsName(name.to_owned().try_into().unwrap());
    let two_more = [names(&identity), vec![dns("evil.example")]].concat();
    let uri_only = &names(&identity)[1..];
    let plain = request(&key(), &names(&identity));
    let mut forged = plain.clone();
    *forged.last_mut().unwrap() ^= 1;
    let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let old = Grant { identity: identity.clone(), pod: None, life: Duration::from_secs(1) };
    let hour_ago = SystemTime::now() - Duration::from_secs(3_600);
    let old = controller.tokens().sign(&old, hour_ago).unwrap();
    let cases = [
        ("no token", "".to_owned(), plain.clone(), Code::Unauthenticated),
        ("garbage", "a.b.c".to_owned(), plain.clone(), Code::Unauthenticated),
        ("expired", old, plain.clone(), Code::Unauthenticated),
        ("another mesh's", other_mesh.token(&identity), plain.clone(), Code::Unauthenticated),
        ("somebody else's", controller.token(&account("demo", "c")), plain.clone(), Code::PermissionDenied),
        ("another namespace's", controller.token(&account("prod", "b")), plain.clone(), Code::PermissionDenied),
        ("names of another", good.clone(), request(&key(), &names(&account("demo", "c"))), Code::InvalidArgument),
        ("one name more", good.clone(), request(&key(), &two_more), Code::InvalidArgument),
        ("URI only", good.clone(), request(&key(), uri_only), Code::InvalidArgument),
        ("no names", good.clone(), request(&key(), &[]), Code::InvalidArgument),
        ("no proof of possession", good.clone(), forged, Code::InvalidArgument),
        ("another kind of key", good.clone(), request(&ed25519, &names(&identity)), Code::InvalidArgument),
        ("no request", good.clone(), Vec::new(), Code::InvalidArgument),
        ("an endless request", good.clone(), vec![0x30; 100_000], Code::InvalidArgument),
    ];
    for (what, token, request, expected) in cases {
        let refused = controller.certify(&identity, &token, &request).await.expect_err(what);
        assert_eq!(refused.code(), expected, "{what}: {refused}");
    }
    controller.until_metric("_certify_total", "{result=\"token_refused\"}", 4).await;
    controller.stop().await;
    other_mesh.stop().await;
}

#[tokio::test]
async fn only_certify_takes_a_client_without_certificate() {
    let controller = Controller::start().await;
    let mut client = DestinationClient::new(controller.anonymous().await);
    let ask = GetDestination { path: "b.demo.svc.cluster.local:8080".to_owned(), ..GetDestination::default() };
    assert_eq!(client.get(ask).await.unwrap_err().code(), Code::Unauthenticated);
    controller.stop().await;
}

#[tokio::test]
async fn a_certificate_of_another_mesh_gets_no_connection() {
    let controller = Controller::start().await;
    let other = Controller::start().await;
    let (identity, key) = (account("demo", "b"), key());
    let response = other.certify(&identity, &other.token(&identity), &request(&key, &names(&identity))).await.unwrap();
    // TLS 1.3: the client learns of the refusal with its first read.
    let channel = controller.connect(Some(Certificate::new(&key, &response))).await;
    if let Ok(channel) = channel {
        let ask = GetDestination { path: "b.demo:8080".to_owned(), ..GetDestination::default() };
        assert!(DestinationClient::new(channel).get(ask).await.is_err());
    }
    controller.until_metric("_tls_refused_total", "{reason=\"handshake\"}", 1).await;
    controller.stop().await;
    other.stop().await;
}
