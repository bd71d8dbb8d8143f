//! Who a workload is: trust domain, namespace, service account; and what a certificate must say to prove it.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest SPIFFE id that is read, bytes (SPIFFE-ID 2.3).
pub const SPIFFE_MAX: usize = 2_048;

/// A text that names no identity.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidIdentity {
    /// Neither form.
    #[error(
        "{0:?} is no identity: expected spiffe://<trust-domain>/ns/<namespace>/sa/<service-account> or \
         <service-account>.<namespace>.serviceaccount.identity.<control-namespace>.<trust-domain>"
    )]
    Form(String),
    /// A part holds a character it may not hold.
    #[error("{part} {text:?} of an identity: 1 to {max} characters of a-z 0-9 - (and . where names may have it)")]
    Part {
        /// Which part.
        part: &'static str,
        /// What stood there.
        text: String,
        /// Longest text.
        max: usize,
    },
}

/// Identity of a workload. Equal identities are the same workload account in the same trust domain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Identity {
    trust_domain: Arc<str>,
    namespace: Arc<str>,
    service_account: Arc<str>,
}

fn name(part: &'static str, text: &str, max: usize, dots: Dots) -> Result<Arc<str>, InvalidIdentity> {
    let allowed = |byte: u8| match byte {
        b'a'..=b'z' | b'0'..=b'9' | b'-' => true,
        b'.' => dots == Dots::Allowed,
        _ => false,
    };
    if !text.is_empty() && text.len() <= max && text.bytes().all(allowed) && text.split('.').all(|s| !s.is_empty()) {
        Ok(text.into())
    } else {
        Err(InvalidIdentity::Part { part, text: text.chars().take(80).collect(), max })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dots {
    Allowed,
    Refused,
}

impl Identity {
    /// An identity out of its parts.
    ///
    /// # Errors
    /// Names the part that holds something other than lower-case DNS characters.
    pub fn new(trust_domain: &str, namespace: &str, service_account: &str) -> Result<Self, InvalidIdentity> {
        Ok(Identity {
            trust_domain: name("trust domain", trust_domain, 253, Dots::Allowed)?,
            namespace: name("namespace", namespace, 63, Dots::Refused)?,
            service_account: name("service account", service_account, 253, Dots::Allowed)?,
        })
    }

    /// Trust domain, e.g. `cluster.local`.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// Namespace of the workload.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Service account of the workload.
    pub fn service_account(&self) -> &str {
        &self.service_account
    }

    /// `<sa>.<ns>.serviceaccount.identity.<control namespace>.<trust domain>`, Linkerd's name, used as DNS SAN and SNI.
    pub fn dns_name(&self, control_namespace: &str) -> String {
        format!(
            "{}.{}.serviceaccount.identity.{control_namespace}.{}",
            self.service_account, self.namespace, self.trust_domain
        )
    }

    /// Reads the Linkerd-style name; the control namespace in it is not part of the identity.
    ///
    /// # Errors
    /// When the text has not that form.
    pub fn parse_dns_name(text: &str) -> Result<Self, InvalidIdentity> {
        let form = || InvalidIdentity::Form(text.chars().take(300).collect());
        let (account, rest) = text.split_once(".serviceaccount.identity.").ok_or_else(form)?;
        let (service_account, namespace) = account.rsplit_once('.').ok_or_else(form)?;
        let (control_namespace, trust_domain) = rest.split_once('.').ok_or_else(form)?;
        name("control namespace", control_namespace, 63, Dots::Refused)?;
        Identity::new(trust_domain, namespace, service_account)
    }

    /// Reads `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>`.
    ///
    /// # Errors
    /// When the text has not that form.
    pub fn parse_spiffe(text: &str) -> Result<Self, InvalidIdentity> {
        let form = || InvalidIdentity::Form(text.chars().take(300).collect());
        if text.len() > SPIFFE_MAX {
            return Err(form());
        }
        let mut parts = text.strip_prefix("spiffe://").ok_or_else(form)?.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(domain), Some("ns"), Some(namespace), Some("sa"), Some(account), None) => {
                Identity::new(domain, namespace, account)
            }
            _ => Err(form()),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

impl FromStr for Identity {
    type Err = InvalidIdentity;

    fn from_str(text: &str) -> Result<Self, InvalidIdentity> {
        if text.starts_with("spiffe://") { Identity::parse_spiffe(text) } else { Identity::parse_dns_name(text) }
    }
}

impl TryFrom<String> for Identity {
    type Error = InvalidIdentity;

    fn try_from(text: String) -> Result<Self, InvalidIdentity> {
        text.parse()
    }
}

impl From<Identity> for String {
    fn from(identity: Identity) -> String {
        identity.to_string()
    }
}

/// Why a peer was refused; the label stands in `mesh_tls_refused_total{reason}` and in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
pub enum Refusal {
    /// Plaintext on a strict port.
    #[error("plaintext")]
    Plaintext,
    /// The peer offered no certificate.
    #[error("no_client_certificate")]
    NoCertificate,
    /// Not signed by a trust anchor (self-signed, or another mesh's CA).
    #[error("unknown_issuer")]
    UnknownIssuer,
    /// Past its end.
    #[error("expired")]
    Expired,
    /// Before its start.
    #[error("not_yet_valid")]
    NotYetValid,
    /// A CA certificate presented as leaf.
    #[error("ca_as_leaf")]
    CaAsLeaf,
    /// No name in it that could be an identity.
    #[error("no_identity")]
    NoIdentity,
    /// More than one URI name, or more than one DNS name.
    #[error("ambiguous_identity")]
    AmbiguousIdentity,
    /// Its names contradict each other or have not the form of an identity.
    #[error("malformed_identity")]
    MalformedIdentity,
    /// An identity of another trust domain.
    #[error("wrong_trust_domain")]
    WrongTrustDomain,
    /// Not the identity that was expected (another service account or namespace).
    #[error("wrong_identity")]
    WrongIdentity,
    /// TLS older than 1.3, or no common parameters.
    #[error("tls_version")]
    TlsVersion,
    /// The ALPN of the transport is missing.
    #[error("alpn")]
    Alpn,
    /// The peer refused us.
    #[error("refused_by_peer")]
    RefusedByPeer,
    /// Broken certificate or handshake.
    #[error("malformed")]
    Malformed,
    /// The handshake took too long.
    #[error("handshake_timeout")]
    HandshakeTimeout,
}

impl Refusal {
    /// Every reason, for metrics that start at 0.
    pub const ALL: &'static [Refusal] = &[
        Refusal::Plaintext,
        Refusal::NoCertificate,
        Refusal::UnknownIssuer,
        Refusal::Expired,
        Refusal::NotYetValid,
        Refusal::CaAsLeaf,
        Refusal::NoIdentity,
        Refusal::AmbiguousIdentity,
        Refusal::MalformedIdentity,
        Refusal::WrongTrustDomain,
        Refusal::WrongIdentity,
        Refusal::TlsVersion,
        Refusal::Alpn,
        Refusal::RefusedByPeer,
        Refusal::Malformed,
        Refusal::HandshakeTimeout,
    ];
}

/// Identity that a verified leaf proves, from its subject alternative names: exactly one SPIFFE URI and at most one
/// Linkerd-style DNS name that says the same; or, from Linkerd's own CA, no URI and exactly one such DNS name.
///
/// # Errors
/// The reason of the refusal.
pub fn peer_identity(uri_names: &[&str], dns_names: &[&str], trust_domain: &str) -> Result<Identity, Refusal> {
    let identity = match (uri_names, dns_names) {
        ([], []) => return Err(Refusal::NoIdentity),
        ([_, _, ..], _) | (_, [_, _, ..]) => return Err(Refusal::AmbiguousIdentity),
        ([uri], []) => Identity::parse_spiffe(uri).map_err(|_| Refusal::MalformedIdentity)?,
        ([], [dns]) => Identity::parse_dns_name(dns).map_err(|_| Refusal::MalformedIdentity)?,
        ([uri], [dns]) => {
            let identity = Identity::parse_spiffe(uri).map_err(|_| Refusal::MalformedIdentity)?;
            match Identity::parse_dns_name(dns) {
                Ok(named) if named == identity => identity,
                Ok(_) | Err(_) => return Err(Refusal::MalformedIdentity),
            }
        }
    };
    if identity.trust_domain() == trust_domain { Ok(identity) } else { Err(Refusal::WrongTrustDomain) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_name_the_same_identity() {
        let identity = Identity::new("cluster.local", "shop", "cart.v2").unwrap();
        assert_eq!(identity.to_string().parse::<Identity>().unwrap(), identity);
        assert_eq!(identity.dns_name("lanemesh").parse::<Identity>().unwrap(), identity);
    }

    #[test]
    fn certificate_names_are_refused_unless_exactly_one_identity_of_our_domain() {
        let uri = "spiffe://cluster.local/ns/a/sa/b";
        let dns = "b.a.serviceaccount.identity.lanemesh.cluster.local";
        type Case<'a> = (&'a [&'a str], &'a [&'a str], Result<(), Refusal>);
        let cases: &[Case<'_>] = &[
            (&[uri], &[dns], Ok(())),
            (&[uri], &[], Ok(())),
            (&[], &[dns], Ok(())),
            (&[], &[], Err(Refusal::NoIdentity)),
            (&[uri, uri], &[dns], Err(Refusal::AmbiguousIdentity)),
            (&[uri], &[dns, dns], Err(Refusal::AmbiguousIdentity)),
            (&["spiffe://cluster.local/ns/a/sa/c"], &[dns], Err(Refusal::MalformedIdentity)),
            (&["spiffe://other/ns/a/sa/b"], &[], Err(Refusal::WrongTrustDomain)),
            (&["spiffe://cluster.local/ns/a/sa/b/x"], &[], Err(Refusal::MalformedIdentity)),
            (&["https://cluster.local/ns/a/sa/b"], &[], Err(Refusal::MalformedIdentity)),
        ];
        for (uris, names, expected) in cases {
            assert_eq!(&peer_identity(uris, names, "cluster.local").map(|_| ()), expected, "{uris:?} {names:?}");
        }
    }
}
