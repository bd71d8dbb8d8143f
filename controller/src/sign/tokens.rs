//! Tokens by which a workload outside Kubernetes proves who it is: JWT, ES256, signed with `token.key`.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use mesh_core::{
    identity::{Identity, InvalidIdentity},
    names::TOKEN_AUDIENCE,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::files::{self, FileError};

/// How far clocks of controller and signer may be apart, seconds.
const LEEWAY: u64 = 5;
/// Longest token that is looked at, bytes.
const TOKEN_MAX: usize = 8_192;
/// Longest life that a token may be given.
pub const LIFE_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
/// Start of the subject of every workload token, as in Kubernetes.
const SUBJECT: &str = "system:serviceaccount:";

/// Why there is no token, or why one does not count.
#[derive(Debug, Error)]
pub enum TokenError {
    /// The key cannot be read.
    #[error("the key of tokens cannot be used")]
    File(#[from] FileError),
    /// The key is no P-256 key.
    #[error("the key of tokens is no P-256 key in PKCS#8 PEM")]
    Key(#[source] rcgen::Error),
    /// The library refuses the key.
    #[error("the key of tokens is refused")]
    KeyForm(#[source] jsonwebtoken::errors::Error),
    /// No identity in the request.
    #[error("no workload can have this name: {0}")]
    Identity(#[from] InvalidIdentity),
    /// A life that no token may have.
    #[error("a token cannot live {} s; allowed are 1 to {} s", .0.as_secs(), LIFE_MAX.as_secs())]
    Life(Duration),
    /// Signing failed.
    #[error("the token cannot be signed")]
    Sign(#[source] jsonwebtoken::errors::Error),
    /// Not one of ours, or not any more.
    #[error("the token is refused: {}", refusal(.0))]
    Refused(#[source] jsonwebtoken::errors::Error),
    /// Too long to be one of ours.
    #[error("the token is refused: longer than {TOKEN_MAX} bytes")]
    Long,
    /// Signed by us, but not for a workload.
    #[error("the token is refused: its subject is not {SUBJECT}<namespace>:<service account>")]
    Subject,
}

fn refusal(error: &jsonwebtoken::errors::Error) -> String {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::ExpiredSignature => "expired".to_owned(),
        ErrorKind::ImmatureSignature => "not valid yet".to_owned(),
        ErrorKind::InvalidAudience => format!("not for audience {TOKEN_AUDIENCE}"),
        ErrorKind::InvalidIssuer => "of another issuer".to_owned(),
        ErrorKind::InvalidSignature => "not signed by this mesh".to_owned(),
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => "not ES256".to_owned(),
        other => format!("{other:?}"),
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Vec<String>,
    iat: u64,
    nbf: u64,
    exp: u64,
    #[serde(rename = "lanemesh.io")]
    mesh: MeshClaim,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct MeshClaim {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<String>,
}

/// For whom a token is.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Who may prove to be whom.
    pub identity: Identity,
    /// Pod it is bound to, if any; for the log.
    pub pod: Option<String>,
    /// How long it is good.
    pub life: Duration,
}

/// What a token proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The workload.
    pub identity: Identity,
    /// Pod the token is bound to, if any.
    pub pod: Option<String>,
}

/// Signs and verifies tokens of one trust domain.
pub struct Tokens {
    trust_domain: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

impl Tokens {
    /// Reads the key.
    ///
    /// # Errors
    /// When there is no P-256 key in the file.
    pub fn open(key: &Path, trust_domain: &str) -> Result<Self, TokenError> {
        Tokens::from_pem(&files::read(key)?, trust_domain)
    }

    /// Makes a key unless the file is there, and reads it.
    ///
    /// # Errors
    /// When there is no P-256 key in the file and none can be made.
    pub fn open_or_create(key: &Path, trust_domain: &str) -> Result<Self, TokenError> {
        if !key.exists() {
            let fresh = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(TokenError::Key)?;
            files::create(key, &fresh.serialize_pem(), files::SECRET)?;
        }
        Tokens::open(key, trust_domain)
    }

    fn from_pem(pem: &str, trust_domain: &str) -> Result<Self, TokenError> {
        let pair = rcgen::KeyPair::from_pkcs8_pem_and_sign_algo(pem, &rcgen::PKCS_ECDSA_P256_SHA256)
            .map_err(TokenError::Key)?;
        Ok(Tokens {
            trust_domain: trust_domain.to_owned(),
            encoding: EncodingKey::from_ec_pem(pem.as_bytes()).map_err(TokenError::KeyForm)?,
            decoding: DecodingKey::from_ec_pem(pair.public_key_pem().as_bytes()).map_err(TokenError::KeyForm)?,
        })
    }

    fn issuer(&self) -> String {
        format!("lanemesh.{}", self.trust_domain)
    }

    /// Signs a token.
    ///
    /// # Errors
    /// When its life is not allowed.
    pub fn sign(&self, grant: &Grant, now: SystemTime) -> Result<String, TokenError> {
        if grant.life < Duration::from_secs(1) || grant.life > LIFE_MAX {
            return Err(TokenError::Life(grant.life));
        }
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let identity = &grant.identity;
        let claims = Claims {
            iss: self.issuer(),
            sub: format!("{SUBJECT}{}:{}", identity.namespace(), identity.service_account()),
            aud: vec![TOKEN_AUDIENCE.to_owned()],
            iat: now,
            nbf: now,
            exp: now.saturating_add(grant.life.as_secs()),
            mesh: MeshClaim { pod: grant.pod.clone() },
        };
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.encoding).map_err(TokenError::Sign)
    }

    /// Verifies a token: ES256 with our key, our issuer, our audience, in its time.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn verify(&self, token: &[u8]) -> Result<Proven, TokenError> {
        if token.len() > TOKEN_MAX {
            return Err(TokenError::Long);
        }
        let mut validation = Validation::new(Algorithm::ES256);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_audience(&[TOKEN_AUDIENCE]);
        validation.set_issuer(&[self.issuer()]);
        validation.set_required_spec_claims(&["exp", "nbf", "aud", "iss", "sub"]);
        let claims: Claims =
            jsonwebtoken::decode(token.trim_ascii(), &self.decoding, &validation).map_err(TokenError::Refused)?.claims;
        let account = claims.sub.strip_prefix(SUBJECT).and_then(|rest| rest.split_once(':'));
        let (namespace, service_account) = account.ok_or(TokenError::Subject)?;
        let identity = Identity::new(&self.trust_domain, namespace, service_account)?;
        Ok(Proven { identity, pod: claims.mesh.pod })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(trust_domain: &str) -> Tokens {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        Tokens::from_pem(&key.serialize_pem(), trust_domain).unwrap()
    }

    fn grant(life: u64) -> Grant {
        Grant {
            identity: Identity::new("cluster.local", "demo", "b").unwrap(),
            pod: Some("b-1".to_owned()),
            life: Duration::from_secs(life),
        }
    }

    #[test]
    fn a_token_proves_whom_it_was_signed_for() {
        let tokens = tokens("cluster.local");
        let token = tokens.sign(&grant(60), SystemTime::now()).unwrap();
        let proven = tokens.verify(format!("{token}\n").as_bytes()).unwrap();
        assert_eq!(proven, Proven { identity: grant(60).identity, pod: Some("b-1".to_owned()) });
    }

    #[test]
    fn a_token_that_is_old_early_foreign_altered_or_unsigned_is_refused() {
        let ours = tokens("cluster.local");
        let reason = |token: &str| ours.verify(token.as_bytes()).unwrap_err().to_string();
        let hour = Duration::from_secs(3_600);
        let now = SystemTime::now();
        assert!(reason(&ours.sign(&grant(60), now - hour).unwrap()).contains("expired"));
        assert!(reason(&ours.sign(&grant(60), now + hour).unwrap()).contains("not valid yet"));
        let foreign = tokens("cluster.local").sign(&grant(60), now).unwrap();
        assert!(reason(&foreign).contains("not signed by this mesh"));
        let good = ours.sign(&grant(60), now).unwrap();
        let (head, tail) = good.rsplit_once('.').unwrap();
        assert!(reason(&format!("{head}.AAAA{}", &tail[4..])).contains("not signed by this mesh"));
        assert!(ours.verify(b"").is_err());
        assert!(ours.verify(&[b'a'; TOKEN_MAX + 1]).is_err());
        let none = "eyJhbGciOiJub25lIn0";
        let body = good.split('.').nth(1).unwrap();
        assert!(ours.verify(format!("{none}.{body}.").as_bytes()).is_err());
    }

    #[test]
    fn audience_issuer_and_subject_must_be_ours() {
        let ours = tokens("cluster.local");
        let claims = |iss: &str, aud: &str, sub: &str| {
            let now = jsonwebtoken::get_current_timestamp();
            let claims = Claims {
                iss: iss.to_owned(),
                sub: sub.to_owned(),
                aud: vec![aud.to_owned()],
                iat: now,
                nbf: now,
                exp: now + 60,
                mesh: MeshClaim::default(),
            };
            let token = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &ours.encoding).unwrap();
            ours.verify(token.as_bytes()).map(|_| ()).map_err(|error| error.to_string())
        };
        let (iss, sub) = ("lanemesh.cluster.local", "system:serviceaccount:demo:b");
        assert_eq!(claims(iss, "lanemesh.io", sub), Ok(()));
        assert!(claims(iss, "identity.l5d.io", sub).unwrap_err().contains("audience"));
        assert!(claims("lanemesh.other", "lanemesh.io", sub).unwrap_err().contains("issuer"));
        assert!(claims(iss, "lanemesh.io", "user:b").unwrap_err().contains("subject"));
        assert!(claims(iss, "lanemesh.io", "system:serviceaccount:De mo:b").is_err());
    }

    #[test]
    fn a_life_of_nothing_or_of_eleven_years_is_refused() {
        let ours = tokens("cluster.local");
        assert!(matches!(ours.sign(&grant(0), SystemTime::now()), Err(TokenError::Life(_))));
        assert!(matches!(ours.sign(&grant(11 * 366 * 86_400), SystemTime::now()), Err(TokenError::Life(_))));
    }
}
