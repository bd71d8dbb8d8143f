//! Which servers the certificates of a file vouch for.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType, date_time_ymd,
};
use rustls::client::danger::ServerCertVerifier as _;
use rustls_pki_types::{ServerName, UnixTime};

use super::*;

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::DnsName(name.try_into().expect("a name"))];
    params
}

fn authority(mut params: CertificateParams) -> CertificateParams {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn itself(params: &CertificateParams) -> CertificateDer<'static> {
    params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate").der().clone()
}

/// What becomes of a server that shows `shown` as `model.example`, where `given` are the roots.
fn judged(given: &CertificateDer<'static>, shown: &CertificateDer<'static>) -> Result<(), String> {
    let verifier = Given::new(vec![given.clone()], Arc::new(aws_lc_rs::default_provider())).expect("roots");
    let name = ServerName::try_from("model.example").expect("a name");
    let verified = verifier.verify_server_cert(shown, &[], &name, &[], UnixTime::now());
    verified.map(|_| ()).map_err(|error| said(&std::io::Error::other(error)))
}

#[test]
fn a_server_that_shows_the_given_certificate_of_an_authority_is_trusted_if_name_time_and_purpose_fit() {
    let own = |params: CertificateParams| {
        let shown = itself(&params);
        judged(&shown, &shown)
    };
    assert_eq!(own(authority(params("model.example"))), Ok(()));
    assert_eq!(own(params("model.example")), Ok(()), "that of no authority");
    let wrong = own(authority(params("other.example")));
    assert!(wrong.as_ref().is_err_and(|why| why.contains("not valid for name")), "{wrong:?}");
    let mut ended = authority(params("model.example"));
    ended.not_after = date_time_ymd(2001, 1, 1);
    let ended = own(ended);
    assert!(ended.as_ref().is_err_and(|why| why.contains("expired")), "{ended:?}");
    let mut early = authority(params("model.example"));
    early.not_before = date_time_ymd(2900, 1, 1);
    let early = own(early);
    assert!(early.as_ref().is_err_and(|why| why.contains("not valid yet")), "{early:?}");
    let mut client = authority(params("model.example"));
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    assert!(own(client).is_err());
}

#[test]
fn another_certificate_of_an_authority_is_refused_and_the_reason_is_said() {
    let (given, shown) = (itself(&authority(params("model.example"))), itself(&authority(params("model.example"))));
    let refused = judged(&given, &shown);
    assert!(refused.as_ref().is_err_and(|why| why.contains("CA:TRUE") || why.contains("UnknownIssuer")), "{refused:?}");
}

#[test]
fn whom_a_given_root_signed_is_trusted_and_nobody_else() {
    let (mut root, root_key) = (authority(params("root.example")), KeyPair::generate().expect("a key"));
    // A name of its own: the stranger shall not seem to be signed by it.
    root.distinguished_name.push(DnType::CommonName, "a root of a test");
    let given = root.self_signed(&root_key).expect("a certificate").der().clone();
    let issuer = Issuer::from_params(&root, &root_key);
    let key = KeyPair::generate().expect("a key");
    let signed = |params: CertificateParams| params.signed_by(&key, &issuer).expect("a certificate").der().clone();
    assert_eq!(judged(&given, &signed(params("model.example"))), Ok(()));
    assert!(judged(&given, &signed(params("other.example"))).is_err());
    let stranger = judged(&given, &itself(&params("model.example")));
    assert!(stranger.as_ref().is_err_and(|why| why.contains("UnknownIssuer")), "{stranger:?}");
}
