//! Real handshakes over an in-memory pipe, with certificates made on the spot: every reason of refusal in both directions.

use std::io;

use mesh_core::identity::Refusal;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::{ClientConnection, ServerConnection, version::TLS12};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

const DOMAIN: &str = "cluster.local";
const CONTROL: &str = "lanemesh";

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn trust(&self) -> Trust {
        Trust::new(&[self.0.der()], DOMAIN, CONTROL).unwrap()
    }

    fn issue(&self, leaf: &Leaf) -> KeyAndChain {
        let key = KeyPair::generate().unwrap();
        let certificate = leaf.params().signed_by(&key, &self.0).unwrap();
        KeyAndChain { key: key.into(), chain: vec![certificate.der().clone()] }
    }
}

/// Material of `demo/<account>`, for tests elsewhere.
pub(crate) fn material(account: &'static str) -> TlsMaterial {
    let authority = Authority::new("root");
    TlsMaterial::new(&authority.issue(&Leaf::Good(account)), &authority.trust()).unwrap()
}

/// What is wrong with a certificate, if anything.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Leaf {
    Good(&'static str),
    WrongTrustDomain,
    Expired,
    NotYetValid,
    NoName,
    TwoUris,
    Contradiction,
    CertificateAuthority,
    WrongPurpose,
}

impl Leaf {
    fn params(self) -> CertificateParams {
        let account = if let Leaf::Good(account) = self { account } else { "a" };
        let uri = |domain: &str, account: &str| {
            SanType::URI(format!("spiffe://{domain}/ns/demo/sa/{account}").try_into().unwrap())
        };
        let dns = |account: &str| {
            let name = Identity::new(DOMAIN, "demo", account).unwrap().dns_name(CONTROL);
            SanType::DnsName(name.try_into().unwrap())
        };
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![uri(DOMAIN, account), dns(account)];
        match self {
            Leaf::Good(_) => {}
            Leaf::WrongTrustDomain => params.subject_alt_names = vec![uri("other.example", account)],
            Leaf::Expired => params.not_after = rcgen::date_time_ymd(2001, 1, 1),
            Leaf::NotYetValid => params.not_before = rcgen::date_time_ymd(2900, 1, 1),
            Leaf::NoName => params.subject_alt_names = Vec::new(),
            Leaf::TwoUris => params.subject_alt_names = vec![uri(DOMAIN, account), uri(DOMAIN, "b")],
            Leaf::Contradiction => params.subject_alt_names = vec![uri(DOMAIN, account), dns("b")],
            Leaf::CertificateAuthority => params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            Leaf::WrongPurpose => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning],
        }
        params
    }
}

fn self_signed() -> KeyAndChain {
    let key = KeyPair::generate().unwrap();
    let certificate = Leaf::Good("a").params().self_signed(&key).unwrap();
    KeyAndChain { key: key.into(), chain: vec![certificate.der().clone()] }
}

fn name(account: &str) -> ServerName<'static> {
    Identity::new(DOMAIN, "demo", account).unwrap().dns_name(CONTROL).try_into().unwrap()
}

/// A peer's server that presents `own` and takes any client.
fn careless_server(own: &KeyAndChain) -> Arc<ServerConfig> {
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = config.with_single_cert(own.chain.clone(), own.key.clone_key()).unwrap();
    config.alpn_protocols = vec![names::TRANSPORT_ALPN.to_vec()];
    Arc::new(config)
}

/// A peer's client that presents `own` and takes any server that `trust` signed with the right name.
fn careless_client(own: &KeyAndChain, trust: &Trust) -> Arc<ClientConfig> {
    Arc::new(client_config(trust, own).unwrap())
}

struct Ended<T> {
    connection: T,
    error: Option<io::Error>,
    received: Vec<u8>,
}

impl<T> Ended<T> {
    fn refusal(&self) -> Option<Refusal> {
        self.error.as_ref().map(refusal)
    }
}

/// Both ends shake hands, the client sends `hello`, the server `welcome`; what each got and how it ended.
async fn meet(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    name: ServerName<'static>,
) -> (Ended<Option<ClientConnection>>, Ended<Option<ServerConnection>>) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let dial = async {
        match TlsConnector::from(client).connect(name, near).await {
            Err(error) => Ended { connection: None, error: Some(error), received: Vec::new() },
            Ok(mut stream) => {
                let mut received = Vec::new();
                let mut error = stream.write_all(b"hello").await.err();
                error = error.or(stream.flush().await.err()).or(stream.shutdown().await.err());
                let read = stream.read_to_end(&mut received).await.err();
                Ended { connection: Some(stream.into_inner().1), error: read.or(error), received }
            }
        }
    };
    let accept = async {
        match TlsAcceptor::from(server).accept(far).await {
            Err(error) => Ended { connection: None, error: Some(error), received: Vec::new() },
            Ok(mut stream) => {
                let mut received = Vec::new();
                let mut error = stream.read_to_end(&mut received).await.err();
                error = error.or(stream.write_all(b"welcome").await.err()).or(stream.shutdown().await.err());
                Ended { connection: Some(stream.into_inner().1), error, received }
            }
        }
    };
    tokio::join!(dial, accept)
}

#[tokio::test]
async fn meshed_peers_prove_their_identities_to_each_other() {
    let authority = Authority::new("root");
    let a = TlsMaterial::new(&authority.issue(&Leaf::Good("a")), &authority.trust()).unwrap();
    let b = TlsMaterial::new(&authority.issue(&Leaf::Good("b")), &authority.trust()).unwrap();
    assert_eq!(b.server_name, "b.demo.serviceaccount.identity.lanemesh.cluster.local");
    let name = a.name_of(&b.identity, None).unwrap();

    let (client, server) = meet(a.client.clone(), b.server.clone(), name).await;

    assert_eq!((client.refusal(), server.refusal()), (None, None));
    assert_eq!((&*client.received, &*server.received), (&b"welcome"[..], &b"hello"[..]));
    let (client, server) = (client.connection.unwrap(), server.connection.unwrap());
    assert_eq!(peer(&server, DOMAIN).unwrap(), a.identity);
    assert_eq!(peer(&client, DOMAIN).unwrap(), b.identity);
    assert_eq!(peer(&client, "other.example"), None);
    assert!(speaks_transport(&server) && speaks_transport(&client));
    assert_eq!(server.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(server.negotiated_key_exchange_group().unwrap().name(), rustls::NamedGroup::X25519MLKEM768);
}

#[tokio::test]
async fn redirected_connection_has_no_transport_alpn() {
    let authority = Authority::new("root");
    let a = TlsMaterial::new(&authority.issue(&Leaf::Good("a")), &authority.trust()).unwrap();
    let (client, server) = meet(a.client_redirected.clone(), a.server.clone(), name("a")).await;
    assert_eq!(client.refusal(), None);
    assert!(!speaks_transport(&server.connection.unwrap()));
}

/// Every bad certificate with the reason that the other side must give for it.
fn bad_certificates(authority: &Authority) -> Vec<(String, KeyAndChain, Refusal)> {
    let leaves = [
        (Leaf::WrongTrustDomain, Refusal::WrongTrustDomain),
        (Leaf::Expired, Refusal::Expired),
        (Leaf::NotYetValid, Refusal::NotYetValid),
        (Leaf::NoName, Refusal::NoIdentity),
        (Leaf::TwoUris, Refusal::AmbiguousIdentity),
        (Leaf::Contradiction, Refusal::MalformedIdentity),
        (Leaf::CertificateAuthority, Refusal::CaAsLeaf),
        (Leaf::WrongPurpose, Refusal::Malformed),
    ];
    let mut cases: Vec<_> =
        leaves.iter().map(|(leaf, reason)| (format!("{leaf:?}"), authority.issue(leaf), *reason)).collect();
    cases.push(("self-signed".to_owned(), self_signed(), Refusal::UnknownIssuer));
    let impostor = Authority::new("root").issue(&Leaf::Good("a"));
    cases.push(("signed by a CA of the same name".to_owned(), impostor, Refusal::UnknownIssuer));
    let stranger = Authority::new("stranger").issue(&Leaf::Good("a"));
    cases.push(("signed by another CA".to_owned(), stranger, Refusal::UnknownIssuer));
    cases
}

#[tokio::test]
async fn client_with_a_bad_certificate_is_refused_with_its_reason_and_no_byte_arrives() {
    let authority = Authority::new("root");
    let ours = TlsMaterial::new(&authority.issue(&Leaf::Good("b")), &authority.trust()).unwrap();
    for (case, own, reason) in bad_certificates(&authority) {
        let theirs = careless_client(&own, &authority.trust());
        let (client, server) = meet(theirs, ours.server.clone(), name("b")).await;
        assert_eq!(server.refusal(), Some(reason), "{case}: {:?}", server.error);
        assert!(server.received.is_empty() && client.received.is_empty(), "{case}");
        assert_eq!(client.refusal(), Some(Refusal::RefusedByPeer), "{case}: {:?}", client.error);
    }
}

#[tokio::test]
async fn server_with_a_bad_certificate_is_refused_with_its_reason_and_no_byte_arrives() {
    let authority = Authority::new("root");
    let ours = TlsMaterial::new(&authority.issue(&Leaf::Good("b")), &authority.trust()).unwrap();
    let mut cases = bad_certificates(&authority);
    cases.push(("wrong account".to_owned(), authority.issue(&Leaf::Good("c")), Refusal::WrongIdentity));
    for (case, own, reason) in cases {
        let (client, server) = meet(ours.client.clone(), careless_server(&own), name("a")).await;
        assert_eq!(client.refusal(), Some(reason), "{case}: {:?}", client.error);
        assert!(server.received.is_empty() && client.received.is_empty(), "{case}");
        assert_eq!(server.refusal(), Some(Refusal::RefusedByPeer), "{case}: {:?}", server.error);
    }
}

#[tokio::test]
async fn client_without_certificate_is_refused() {
    let authority = Authority::new("root");
    let ours = TlsMaterial::new(&authority.issue(&Leaf::Good("b")), &authority.trust()).unwrap();
    let anonymous = authority.trust().control_client(None).unwrap();
    let (client, server) = meet(anonymous, ours.server.clone(), name("b")).await;
    assert_eq!(server.refusal(), Some(Refusal::NoCertificate));
    assert!(server.received.is_empty());
    assert_eq!(client.refusal(), Some(Refusal::RefusedByPeer));
}

#[tokio::test]
async fn tls_1_2_is_refused_in_both_directions() {
    let authority = Authority::new("root");
    let own = authority.issue(&Leaf::Good("a"));
    let ours = TlsMaterial::new(&own, &authority.trust()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let old = |config: rustls::ConfigBuilder<ClientConfig, rustls::WantsVersions>| {
        let config = config.with_protocol_versions(&[&TLS12]).unwrap();
        let config = config.with_root_certificates(RootCertStore::empty());
        Arc::new(config.with_client_auth_cert(own.chain.clone(), own.key.clone_key()).unwrap())
    };
    let client = old(ClientConfig::builder_with_provider(Arc::clone(&provider)));
    let (_, server) = meet(client, ours.server.clone(), name("a")).await;
    assert_eq!(server.refusal(), Some(Refusal::TlsVersion), "{:?}", server.error);

    let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS12]).unwrap();
    let server = config.with_no_client_auth().with_single_cert(own.chain.clone(), own.key.clone_key()).unwrap();
    let (client, server) = meet(ours.client.clone(), Arc::new(server), name("a")).await;
    assert_eq!(client.refusal(), Some(Refusal::TlsVersion), "{:?}", client.error);
    assert!(server.received.is_empty());
}

#[tokio::test]
async fn plaintext_instead_of_a_handshake_is_malformed() {
    let authority = Authority::new("root");
    let ours = TlsMaterial::new(&authority.issue(&Leaf::Good("b")), &authority.trust()).unwrap();
    let (mut near, far) = tokio::io::duplex(1 << 12);
    near.write_all(b"GET / HTTP/1.1\r\nhost: b\r\n\r\n").await.unwrap();
    let error = TlsAcceptor::from(ours.server.clone()).accept(far).await.map(drop).unwrap_err();
    assert_eq!(refusal(&error), Refusal::Malformed);
}

#[tokio::test]
async fn unknown_application_protocol_is_refused() {
    let authority = Authority::new("root");
    let own = authority.issue(&Leaf::Good("b"));
    let ours = TlsMaterial::new(&own, &authority.trust()).unwrap();
    let mut theirs = client_config(&authority.trust(), &own).unwrap();
    theirs.alpn_protocols = vec![b"h2".to_vec()];
    let (client, server) = meet(Arc::new(theirs), ours.server.clone(), name("b")).await;
    assert_eq!(server.refusal(), Some(Refusal::Alpn));
    assert_eq!(client.refusal(), Some(Refusal::Alpn));
}

#[tokio::test]
async fn during_a_rotation_peers_of_both_authorities_are_trusted() {
    let (old, new) = (Authority::new("root"), Authority::new("next root"));
    let both = Trust::new(&[old.0.der(), new.0.der()], DOMAIN, CONTROL).unwrap();
    let a = TlsMaterial::new(&old.issue(&Leaf::Good("a")), &both).unwrap();
    let b = TlsMaterial::new(&new.issue(&Leaf::Good("b")), &both).unwrap();
    for (from, to, account) in [(&a, &b, "b"), (&b, &a, "a")] {
        let (client, server) = meet(from.client.clone(), to.server.clone(), name(account)).await;
        assert_eq!((client.refusal(), server.refusal()), (None, None));
    }
}

#[tokio::test]
async fn session_is_resumed_with_equal_material_and_never_across_a_replacement() {
    let authority = Authority::new("root");
    let own = authority.issue(&Leaf::Good("a"));
    let before = TlsMaterial::new(&own, &authority.trust()).unwrap();
    let after = TlsMaterial::new(&own, &authority.trust()).unwrap();
    let mut kinds = Vec::new();
    for server in [&before, &before, &after] {
        let (client, server) = meet(before.client.clone(), server.server.clone(), name("a")).await;
        assert_eq!((client.refusal(), server.refusal()), (None, None));
        let server = server.connection.unwrap();
        assert_eq!(peer(&server, DOMAIN).as_ref(), Some(&before.identity));
        kinds.push(server.handshake_kind().unwrap() == rustls::HandshakeKind::Resumed);
    }
    assert_eq!(kinds, [false, true, false]);
}

#[test]
fn announced_server_name_must_name_the_endpoints_identity() {
    let authority = Authority::new("root");
    let ours = TlsMaterial::new(&authority.issue(&Leaf::Good("a")), &authority.trust()).unwrap();
    let peer = Identity::new(DOMAIN, "demo", "b").unwrap();
    let of_linkerd = "b.demo.serviceaccount.identity.linkerd.cluster.local";
    assert_eq!(ours.name_of(&peer, Some(of_linkerd)).unwrap().to_str(), of_linkerd);
    let of_another = "c.demo.serviceaccount.identity.lanemesh.cluster.local";
    assert_eq!(ours.name_of(&peer, Some(of_another)), Err(Refusal::WrongIdentity));
    assert_eq!(ours.name_of(&peer, Some("b.example")), Err(Refusal::WrongIdentity));
}

#[test]
fn material_is_refused_with_what_is_wrong_about_it() {
    let authority = Authority::new("root");
    let trust = authority.trust();
    let good = authority.issue(&Leaf::Good("a"));
    let other_key = KeyAndChain { key: KeyPair::generate().unwrap().into(), ..good.clone() };
    let none = KeyAndChain { chain: Vec::new(), ..good.clone() };
    let message = |own: &KeyAndChain| TlsMaterial::new(own, &trust).map(drop).unwrap_err().to_string();
    assert_eq!(message(&other_key), "certificate and key cannot be used");
    assert_eq!(message(&none), "the certificate chain is empty");
    let of_another = "the certificate proves no identity of trust domain cluster.local: wrong_trust_domain";
    assert_eq!(message(&authority.issue(&Leaf::WrongTrustDomain)), of_another);
    let anchors: [&[u8]; 0] = [];
    assert!(matches!(Trust::new(&anchors, DOMAIN, CONTROL), Err(InvalidMaterial::NoAnchor)));
    assert!(matches!(Trust::new(&[b"no certificate"], DOMAIN, CONTROL), Err(InvalidMaterial::Anchor(0, _))));
}
