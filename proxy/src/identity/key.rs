//! A fresh P-256 key for every certificate, and the signing request that goes with it. The key never leaves the process
//! except into the state directory.

use mesh_core::identity::Identity;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls_pki_types::PrivateKeyDer;
use thiserror::Error;

/// A key or request that could not be made.
#[derive(Debug, Error)]
pub enum KeyError {
    /// rcgen refused.
    #[error("cannot make a key and signing request")]
    Make(#[from] rcgen::Error),
}

/// A key with the request for its certificate.
pub struct Request {
    /// PKCS#8.
    pub key: PrivateKeyDer<'static>,
    /// PKCS#10, DER.
    pub signing_request: Vec<u8>,
}

/// A new key, and a request with exactly the identity's SPIFFE URI and its Linkerd-style DNS name.
///
/// # Errors
/// When the identity does not fit a certificate.
pub fn request(identity: &Identity, control_namespace: &str) -> Result<Request, KeyError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![
        SanType::URI(identity.to_string().try_into()?),
        SanType::DnsName(identity.dns_name(control_namespace).try_into()?),
    ];
    let signing_request = params.serialize_request(&key)?.der().to_vec();
    Ok(Request { key: key.into(), signing_request })
}

#[cfg(test)]
mod tests {
    use x509_parser::{
        certification_request::X509CertificationRequest,
        prelude::{FromDer as _, ParsedExtension},
    };

    use super::*;

    #[test]
    fn request_names_exactly_the_identity_in_both_forms_and_every_key_is_new() {
        let identity = Identity::new("cluster.local", "shop", "cart").unwrap();
        let request = super::request(&identity, "lanemesh").unwrap();
        let (_, parsed) = X509CertificationRequest::from_der(&request.signing_request).unwrap();
        let names: Vec<String> = parsed
            .requested_extensions()
            .unwrap()
            .filter_map(|extension| match extension {
                ParsedExtension::SubjectAlternativeName(names) => Some(names),
                _ => None,
            })
            .flat_map(|names| names.general_names.iter().map(ToString::to_string))
            .collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(names[0].contains("spiffe://cluster.local/ns/shop/sa/cart"), "{names:?}");
        assert!(names[1].contains("cart.shop.serviceaccount.identity.lanemesh.cluster.local"), "{names:?}");
        let other = super::request(&identity, "lanemesh").unwrap();
        assert_ne!(request.key, other.key);
    }
}
