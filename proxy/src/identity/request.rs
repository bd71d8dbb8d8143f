//! One certificate from the controller: token and signing request up, chain down, and the chain judged before it is used.

use std::{error::Error as _, path::PathBuf, time::SystemTime};

use linkerd2_proxy_api::identity::{CertifyRequest, CertifyResponse, identity_client::IdentityClient};
use mesh_core::identity::Refusal;
use rustls_pki_types::CertificateDer;
use thiserror::Error;
use tonic::{Code, Status, transport::Channel};

use super::{Credentials, Held, key};
use crate::{
    cause::error_chain,
    net::tls::{InvalidMaterial, KeyAndChain, TlsMaterial, leaf_identity},
};

/// Most certificates in an answer: leaf and the issuers below an anchor.
const CHAIN_MAX: usize = 8;
/// Largest token, bytes: a projected service account token is about 1 KiB.
const TOKEN_MAX: u64 = 64 * 1_024;

/// Why no certificate was obtained.
#[derive(Debug, Error)]
pub enum CertifyError {
    /// The token cannot be read.
    #[error("cannot read the workload's token {0}")]
    Token(PathBuf, #[source] std::io::Error),
    /// The token is too large to be one.
    #[error("the workload's token {0} has {1} bytes, at most {TOKEN_MAX} are allowed")]
    TokenSize(PathBuf, u64),
    /// No key.
    #[error(transparent)]
    Key(#[from] key::KeyError),
    /// The controller refuses, or cannot be reached.
    #[error("the identity service answered {0:?}: {1}")]
    Refused(Code, String),
    /// No answer in time.
    #[error("the identity service did not answer in time")]
    Timeout,
    /// The answer holds no usable chain.
    #[error("the certificate in the answer proves nothing: {0}")]
    Leaf(Refusal),
    /// Another identity than the one asked for.
    #[error("the certificate in the answer is {0}'s")]
    Identity(String),
    /// Nobody we trust signed it, or the key does not fit.
    #[error("the certificate in the answer cannot be used")]
    Material(#[source] InvalidMaterial),
    /// Signed by an authority we do not trust.
    #[error("the certificate in the answer is signed by no trust anchor")]
    NotVouchedFor,
    /// More certificates than [`CHAIN_MAX`].
    #[error("the answer holds {0} certificates, at most {CHAIN_MAX} are allowed")]
    Chain(usize),
}

/// Asks for a certificate over `channel`.
///
/// # Errors
/// Says at which step it failed.
pub async fn certify(
    channel: Channel,
    credentials: &Credentials,
    control_namespace: &str,
    token_file: Option<&PathBuf>,
) -> Result<Held, CertifyError> {
    let token = match token_file {
        Some(path) => read_token(path).await?,
        None => Vec::new(),
    };
    let request = key::request(&credentials.identity, control_namespace)?;
    let message = CertifyRequest {
        identity: credentials.identity.dns_name(control_namespace),
        token,
        certificate_signing_request: request.signing_request,
    };
    let answer = IdentityClient::new(channel).certify(message).await;
    let answer = answer.map_err(|status| refused(&status))?.into_inner();
    held(answer, request.key, credentials)
}

/// A status with what lies behind it (a connection that failed, say), in one line.
fn refused(status: &Status) -> CertifyError {
    let mut message = status.message().to_owned();
    if let Some(cause) = status.source() {
        message.push_str(": ");
        message.push_str(&error_chain(cause));
    }
    CertifyError::Refused(status.code(), message)
}

async fn read_token(path: &PathBuf) -> Result<Vec<u8>, CertifyError> {
    let failed = |error| CertifyError::Token(path.clone(), error);
    let size = tokio::fs::metadata(path).await.map_err(failed)?.len();
    if size > TOKEN_MAX {
        return Err(CertifyError::TokenSize(path.clone(), size));
    }
    Ok(tokio::fs::read(path).await.map_err(failed)?.trim_ascii().to_vec())
}

/// Judges an answer as a peer would judge the certificate in it.
fn held(
    answer: CertifyResponse,
    key: rustls_pki_types::PrivateKeyDer<'static>,
    credentials: &Credentials,
) -> Result<Held, CertifyError> {
    let count = answer.intermediate_certificates.len() + 1;
    if count > CHAIN_MAX {
        return Err(CertifyError::Chain(count));
    }
    let leaf = CertificateDer::from(answer.leaf_certificate);
    let domain = credentials.identity.trust_domain();
    let (identity, validity) = leaf_identity(&leaf, domain).map_err(CertifyError::Leaf)?;
    if identity != credentials.identity {
        return Err(CertifyError::Identity(identity.to_string()));
    }
    let mut chain = vec![leaf];
    chain.extend(answer.intermediate_certificates.into_iter().map(CertificateDer::from));
    let own = KeyAndChain { key, chain };
    TlsMaterial::new(&own, &credentials.trust).map_err(CertifyError::Material)?;
    let announced = answer.valid_until.and_then(|time| SystemTime::try_from(time).ok());
    let not_after = announced.map_or(validity.not_after, |until| until.min(validity.not_after));
    // At the start of its life, so that a clock a little behind the controller's does not refuse it.
    if !credentials.trust.vouches_for(&own, validity.not_before.max(SystemTime::now()).min(not_after)) {
        return Err(CertifyError::NotVouchedFor);
    }
    Ok(Held { own, not_before: validity.not_before, not_after })
}
