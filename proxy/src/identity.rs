//! Who we are: the certificate in force, whom we trust, and how both are renewed. `key` makes keys and requests, `request`
//! speaks with the controller's Identity service, `rotate` decides when.

pub mod key;
pub mod request;
pub mod rotate;

use std::{path::Path, sync::Arc, time::SystemTime};

use mesh_core::identity::Identity;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use thiserror::Error;

use crate::net::tls::{InvalidMaterial, KeyAndChain, Trust};

/// A certificate that we hold, with its key.
#[derive(Clone, Debug)]
pub struct Held {
    /// Key and chain.
    pub own: KeyAndChain,
    /// Start of its life.
    pub not_before: SystemTime,
    /// End of its life.
    pub not_after: SystemTime,
}

/// What we prove ourselves with and whom we trust, at one moment. Published as a whole.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Our identity, whether or not we can prove it yet.
    pub identity: Identity,
    /// Trust anchors, DER.
    pub anchors: Vec<Arc<[u8]>>,
    /// The anchors, parsed.
    pub trust: Trust,
    /// The certificate, once there is one.
    pub held: Option<Arc<Held>>,
}

impl Credentials {
    /// The certificate, unless it has ended.
    pub fn valid(&self, now: SystemTime) -> Option<&Arc<Held>> {
        self.held.as_ref().filter(|held| now < held.not_after)
    }

    /// Whether our certificate is signed by one of the anchors in force; true without certificate.
    pub fn vouched_for(&self, now: SystemTime) -> bool {
        self.held.as_ref().is_none_or(|held| self.trust.vouches_for(&held.own, now))
    }

    /// The same with other anchors.
    ///
    /// # Errors
    /// When they cannot be used; nothing changes then.
    pub fn with_anchors(&self, anchors: Vec<Arc<[u8]>>, control_namespace: &str) -> Result<Self, InvalidMaterial> {
        let trust = Trust::new(&anchors, self.identity.trust_domain(), control_namespace)?;
        Ok(Credentials { anchors, trust, identity: self.identity.clone(), held: self.held.clone() })
    }
}

/// A trust bundle that cannot be used.
#[derive(Debug, Error)]
pub enum InvalidBundle {
    /// The file cannot be read.
    #[error("cannot read the trust bundle {0}")]
    Read(String, #[source] std::io::Error),
    /// It is no PEM.
    #[error("the trust bundle {0} is no PEM file of certificates")]
    Form(String, #[source] rustls_pki_types::pem::Error),
    /// It holds no certificate.
    #[error("the trust bundle {0} holds no certificate")]
    Empty(String),
}

/// Trust anchors in a PEM file.
///
/// # Errors
/// Names the file.
pub fn read_bundle(path: &Path) -> Result<Vec<Arc<[u8]>>, InvalidBundle> {
    let name = || path.display().to_string();
    let text = std::fs::read(path).map_err(|error| InvalidBundle::Read(name(), error))?;
    let anchors: Result<Vec<Arc<[u8]>>, _> =
        CertificateDer::pem_slice_iter(&text).map(|anchor| anchor.map(|der| Arc::from(der.as_ref()))).collect();
    match anchors {
        Ok(anchors) if anchors.is_empty() => Err(InvalidBundle::Empty(name())),
        Ok(anchors) => Ok(anchors),
        Err(error) => Err(InvalidBundle::Form(name(), error)),
    }
}
