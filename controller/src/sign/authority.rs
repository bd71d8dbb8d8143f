//! The certificate authority: root (10 years) → issuer (1 year) → leaves, all P-256.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use mesh_core::identity::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, pem::PemObject};
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::files::{self, FileError, Pair, Paths};

/// Life of a root.
const ROOT_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
/// Life of an issuer; it is renewed by itself when a third of it is left and the root's key is at hand.
const ISSUER_LIFE: Duration = Duration::from_secs(365 * 24 * 3_600);
/// How far the clock of a proxy may be behind ours.
const CLOCK_SKEW: Duration = Duration::from_secs(30);
/// Largest signing request that is looked at, bytes.
const REQUEST_MAX: usize = 8_192;
/// Most certificates in one file; a rotation needs two.
const CERTIFICATES_MAX: usize = 64;

/// Why there is no authority, or why it does not sign.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file holds no certificate.
    #[error("{file} holds no certificate in PEM that can be read: {reason}")]
    Certificate {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A file holds no key of ours.
    #[error("{file} holds no P-256 key in PKCS#8 PEM")]
    Key {
        /// The file.
        file: String,
        /// What the library says.
        #[source]
        source: rcgen::Error,
    },
    /// The issuer's key is another one than in its certificate.
    #[error("{0} is not the key of the issuer's certificate")]
    KeyMismatch(String),
    /// No trust anchor signed the issuer: nobody would trust what it signs.
    #[error("no certificate in {0} signed the issuer")]
    Untrusted(String),
    /// The issuer's time is over.
    #[error("the issuer's certificate is not valid now")]
    IssuerExpired,
    /// The library refuses.
    #[error("cannot make a certificate")]
    Make(#[source] rcgen::Error),
    /// The signing request does not say what it must.
    #[error("the signing request is refused: {0}")]
    Request(String),
}

/// A signed leaf.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// Certificates between it and a trust anchor.
    pub intermediates: Vec<CertificateDer<'static>>,
    /// Its end.
    pub not_after: SystemTime,
}

/// Signs leaves. Immutable: a rotation makes a new one.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    chain: Vec<CertificateDer<'static>>,
    not_before: SystemTime,
    not_after: SystemTime,
    anchors: Vec<Arc<[u8]>>,
    control_namespace: String,
}

impl Authority {
    /// Reads issuer and trust bundle.
    ///
    /// # Errors
    /// Names the file that cannot be used.
    pub fn open(paths: &Paths, control_namespace: &str) -> Result<Self, AuthorityError> {
        let chain = certificates(&paths.issuer.certificate)?;
        let key = key(&paths.issuer.key)?;
        let anchors = certificates(&paths.trust_bundle)?;
        let leaf_issuer = parse(&chain[0], &paths.issuer.certificate)?;
        if leaf_issuer.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(AuthorityError::KeyMismatch(paths.issuer.key.display().to_string()));
        }
        let (not_before, not_after) = validity(&leaf_issuer);
        let last = parse(&chain[chain.len() - 1], &paths.issuer.certificate)?;
        if !anchors.iter().any(|anchor| signed(&last, anchor)) {
            return Err(AuthorityError::Untrusted(paths.trust_bundle.display().to_string()));
        }
        Ok(Authority {
            issuer: Issuer::from_ca_cert_der(&chain[0], key).map_err(AuthorityError::Make)?,
            chain,
            not_before,
            not_after,
            anchors: anchors.iter().map(|anchor| Arc::from(anchor.as_ref())).collect(),
            control_namespace: control_namespace.to_owned(),
        })
    }

    /// Makes what is missing of root, issuer and trust bundle, then reads them. Without a root path nothing is made.
    ///
    /// # Errors
    /// Names the file that cannot be made or used.
    pub fn open_or_create(paths: &Paths, trust_domain: &str, control_namespace: &str) -> Result<Self, AuthorityError> {
        if let Some(root) = &paths.root {
            create(paths, root, trust_domain)?;
        }
        Authority::open(paths, control_namespace)
    }

    /// Trust anchors, DER.
    pub fn anchors(&self) -> &[Arc<[u8]>] {
        &self.anchors
    }

    /// End of the issuer's certificate.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Whether a third of the issuer's life, or less, is left.
    pub fn is_near_end(&self, now: SystemTime) -> bool {
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        self.not_after.duration_since(now).unwrap_or_default() < life / 3
    }

    /// Signs a request for `identity`: the request must prove possession of a P-256 key and ask for exactly the URI and
    /// DNS names of the identity, or, as stock Linkerd proxies do, for the DNS name alone.
    ///
    /// # Errors
    /// Why the request is refused.
    pub fn sign(&self, identity: &Identity, request: &[u8], life: Duration) -> Result<Leaf, AuthorityError> {
        let refused = |reason: String| Err(AuthorityError::Request(reason));
        if request.len() > REQUEST_MAX {
            return refused(format!("longer than {REQUEST_MAX} bytes"));
        }
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
            .map_err(|error| AuthorityError::Request(error.to_string()))?;
        if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return refused("its key is not P-256".to_owned());
        }
        if !matches!(request.params.is_ca, IsCa::NoCa | IsCa::ExplicitNoCa) {
            return refused("it asks to be an authority".to_owned());
        }
        let names = self.names(identity)?;
        let asked = &request.params.subject_alt_names;
        let of_stock_proxy = asked.as_slice() == &names[..1];
        let complete = asked.len() == names.len() && names.iter().all(|name| asked.contains(name));
        if !of_stock_proxy && !complete {
            return refused(format!("it must ask for the names {names:?} and asks for {asked:?}"));
        }
        let params = self.leaf(names, life, SystemTime::now())?;
        let not_after = params.not_after.into();
        let signed = CertificateSigningRequestParams { params, public_key: request.public_key };
        let certificate = signed.signed_by(&self.issuer).map_err(AuthorityError::Make)?;
        Ok(Leaf { certificate: certificate.der().clone(), intermediates: self.chain.clone(), not_after })
    }

    /// Signs a key of our own.
    ///
    /// # Errors
    /// When the issuer's time is over.
    pub fn sign_own(&self, identity: &Identity, key: &KeyPair, life: Duration) -> Result<Leaf, AuthorityError> {
        let params = self.leaf(self.names(identity)?, life, SystemTime::now())?;
        let not_after = params.not_after.into();
        let certificate = params.signed_by(key, &self.issuer).map_err(AuthorityError::Make)?;
        Ok(Leaf { certificate: certificate.der().clone(), intermediates: self.chain.clone(), not_after })
    }

    /// DNS name first: a stock Linkerd proxy takes the first name for the identity.
    fn names(&self, identity: &Identity) -> Result<[SanType; 2], AuthorityError> {
        let dns = identity.dns_name(&self.control_namespace).try_into().map_err(AuthorityError::Make)?;
        let uri = identity.to_string().try_into().map_err(AuthorityError::Make)?;
        Ok([SanType::DnsName(dns), SanType::URI(uri)])
    }

    fn leaf(&self, names: [SanType; 2], life: Duration, now: SystemTime) -> Result<CertificateParams, AuthorityError> {
        if now >= self.not_after || now + CLOCK_SKEW < self.not_before {
            return Err(AuthorityError::IssuerExpired);
        }
        let mut params = params("lanemesh workload", now - CLOCK_SKEW, (now + life).min(self.not_after));
        params.subject_alt_names = names.into();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params)
    }
}

fn params(common_name: &str, not_before: SystemTime, not_after: SystemTime) -> CertificateParams {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, common_name);
    // RFC 5280 4.1.2.2: positive and at most 20 bytes long.
    let mut serial: [u8; 16] = rand::random();
    serial[0] = (serial[0] & 0x7f) | 0x40;
    let mut params = CertificateParams::default();
    params.not_before = not_before.into();
    params.not_after = not_after.into();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = distinguished_name;
    params.use_authority_key_identifier_extension = true;
    params
}

/// Makes what is missing, each from what is there already, so that replicas which start at once agree on every file.
fn create(paths: &Paths, root: &Pair, trust_domain: &str) -> Result<(), AuthorityError> {
    if [&paths.issuer.certificate, &paths.issuer.key, &paths.trust_bundle].iter().all(|path| path.exists()) {
        return Ok(());
    }
    let root_key = key_or_create(root)?;
    if !root.certificate.exists() {
        let made = root_params(trust_domain).self_signed(&root_key).map_err(AuthorityError::Make)?;
        files::create(&root.certificate, &made.pem(), files::PUBLIC)?;
    }
    let root_pem = files::read(&root.certificate)?;
    let issuer_key = key_or_create(&paths.issuer)?;
    if !paths.issuer.certificate.exists() {
        let pem = issuer_pem(&root_pem, root_key, &issuer_key, trust_domain)?;
        files::create(&paths.issuer.certificate, &pem, files::PUBLIC)?;
    }
    if !paths.trust_bundle.exists() {
        files::create(&paths.trust_bundle, &root_pem, files::PUBLIC)?;
    }
    Ok(())
}

fn root_params(trust_domain: &str) -> CertificateParams {
    let now = SystemTime::now();
    let mut params = params(&format!("lanemesh root of {trust_domain}"), now - CLOCK_SKEW, now + ROOT_LIFE);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn issuer_pem(
    root_pem: &str,
    root_key: KeyPair,
    issuer_key: &KeyPair,
    trust_domain: &str,
) -> Result<String, AuthorityError> {
    let root = Issuer::from_ca_cert_pem(root_pem, root_key).map_err(AuthorityError::Make)?;
    let now = SystemTime::now();
    let mut params = params(&format!("lanemesh issuer of {trust_domain}"), now - CLOCK_SKEW, now + ISSUER_LIFE);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params.signed_by(issuer_key, &root).map_err(AuthorityError::Make)?.pem())
}

/// Replaces the issuer's certificate by a fresh one for the same key, signed by the root.
///
/// # Errors
/// Names the file that cannot be used.
pub fn renew_issuer(paths: &Paths, root: &Pair, trust_domain: &str) -> Result<(), AuthorityError> {
    let issuer_key = key(&paths.issuer.key)?;
    let pem = issuer_pem(&files::read(&root.certificate)?, key(&root.key)?, &issuer_key, trust_domain)?;
    Ok(files::replace(&paths.issuer.certificate, pem.as_bytes(), files::PUBLIC)?)
}

fn key_or_create(pair: &Pair) -> Result<KeyPair, AuthorityError> {
    if !pair.key.exists() {
        let fresh = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::Make)?;
        files::create(&pair.key, &fresh.serialize_pem(), files::SECRET)?;
    }
    key(&pair.key)
}

fn key(path: &Path) -> Result<KeyPair, AuthorityError> {
    let pem = files::read(path)?;
    KeyPair::from_pkcs8_pem_and_sign_algo(&pem, &PKCS_ECDSA_P256_SHA256)
        .map_err(|source| AuthorityError::Key { file: path.display().to_string(), source })
}

/// One or more certificates of a PEM file, in order.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    let pem = files::read(path)?;
    let invalid = |reason: String| AuthorityError::Certificate { file: path.display().to_string(), reason };
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(error.to_string()))?;
    if found.is_empty() || found.len() > CERTIFICATES_MAX {
        return Err(invalid(format!("{} certificates; allowed are 1 to {CERTIFICATES_MAX}", found.len())));
    }
    for certificate in &found {
        parse(certificate, path)?;
    }
    Ok(found)
}

fn parse<'a>(certificate: &'a CertificateDer<'_>, file: &Path) -> Result<X509Certificate<'a>, AuthorityError> {
    let (_, parsed) = X509Certificate::from_der(certificate.as_ref())
        .map_err(|error| AuthorityError::Certificate { file: file.display().to_string(), reason: error.to_string() })?;
    Ok(parsed)
}

fn signed(certificate: &X509Certificate<'_>, anchor: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(anchor.as_ref()).is_ok_and(|(_, anchor)| {
        certificate.issuer().as_raw() == anchor.subject().as_raw()
            && certificate.verify_signature(Some(anchor.public_key())).is_ok()
    })
}

fn validity(certificate: &X509Certificate<'_>) -> (SystemTime, SystemTime) {
    let time = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let validity = certificate.validity();
    (time(validity.not_before.timestamp()), time(validity.not_after.timestamp()))
}

#[cfg(test)]
mod tests;
