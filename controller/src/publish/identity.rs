//! `Identity.Certify`: a certificate for a workload that has a token.

use std::{sync::Arc, time::Duration};

use linkerd2_proxy_api::identity::{CertifyRequest, CertifyResponse, identity_server::Identity as IdentityService};
use mesh_core::identity::Identity;
use mesh_proto::convert::timestamp;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tracing::{info, warn};

use super::peer::Peer;
use crate::{
    sign::{
        authority::{Authority, AuthorityError},
        tokens::Tokens,
    },
    telemetry::{CertifyResult, Metrics},
};

/// The service.
pub struct Certifier {
    /// Signs; replaced on rotation.
    pub authority: watch::Receiver<Arc<Authority>>,
    /// Verifies tokens.
    pub tokens: Arc<Tokens>,
    /// Life of leaves.
    pub leaf_lifetime: Duration,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

#[tonic::async_trait]
impl IdentityService for Certifier {
    async fn certify(&self, request: Request<CertifyRequest>) -> Result<Response<CertifyResponse>, Status> {
        let address = request.extensions().get::<Peer>().map(|peer| peer.address.to_string()).unwrap_or_default();
        let message = request.into_inner();
        let answer = self.answer(&message);
        match &answer {
            Ok(_) => {
                info!(identity = message.identity, peer = address, "certificate issued");
                self.metrics.certified(CertifyResult::Issued);
            }
            Err(status) => {
                let identity: String = message.identity.chars().take(300).collect();
                warn!(identity, peer = address, reason = status.message(), "certificate refused");
                self.metrics.certified(match status.code() {
                    tonic::Code::Unauthenticated => CertifyResult::TokenRefused,
                    tonic::Code::PermissionDenied => CertifyResult::WrongIdentity,
                    tonic::Code::InvalidArgument => CertifyResult::RequestRefused,
                    _ => CertifyResult::Failed,
                });
            }
        }
        answer.map(Response::new)
    }
}

impl Certifier {
    fn answer(&self, message: &CertifyRequest) -> Result<CertifyResponse, Status> {
        let asked: Identity =
            message.identity.parse().map_err(|error| Status::invalid_argument(format!("identity: {error}")))?;
        let proven =
            self.tokens.verify(&message.token).map_err(|error| Status::unauthenticated(format!("token: {error}")))?;
        if proven.identity != asked {
            let text = format!("the token proves {}, not {asked}", proven.identity);
            return Err(Status::permission_denied(text));
        }
        let authority = Arc::clone(&self.authority.borrow());
        let leaf = authority.sign(&asked, &message.certificate_signing_request, self.leaf_lifetime);
        let leaf = leaf.map_err(|error| match error {
            AuthorityError::Request(_) => Status::invalid_argument(error.to_string()),
            AuthorityError::File(_)
            | AuthorityError::Certificate { .. }
            | AuthorityError::Key { .. }
            | AuthorityError::KeyMismatch(_)
            | AuthorityError::Untrusted(_)
            | AuthorityError::IssuerExpired
            | AuthorityError::Make(_) => Status::failed_precondition(error.to_string()),
        })?;
        Ok(CertifyResponse {
            leaf_certificate: leaf.certificate.as_ref().to_vec(),
            intermediate_certificates: leaf.intermediates.iter().map(|der| der.as_ref().to_vec()).collect(),
            valid_until: Some(timestamp(leaf.not_after)),
        })
    }
}
