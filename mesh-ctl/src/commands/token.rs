//! `mesh-ctl token create`: signs a token for a workload outside Kubernetes, with the key in the controller's state
//! folder. No controller needs to run; whoever may read that key may be any workload.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use mesh_core::{identity::Identity, names};
use serde_json::json;

use crate::{
    args,
    exit::{Exit, Failure},
    output,
};

/// Signs and writes the token.
///
/// # Errors
/// When the key cannot be read or the token cannot be written.
pub(crate) fn create(create: &args::TokenCreate) -> Result<Exit, Failure> {
    let args::TokenCreate { namespace, service_account, state_directory, .. } = create;
    let token = sign(state_directory, namespace, service_account, create.ttl).map_err(|error| {
        Failure::not_well("cannot make a token", error)
            .advise("name the state folder of mesh-controller with --state-directory, as a user who may read token.key")
    })?;
    match &create.out {
        None => output::print(&format!("{token}\n")),
        Some(path) => {
            write(path, &token)
                .map_err(|error| Failure::not_well(format!("cannot write {}", path.display()), error))?;
        }
    }
    Ok(Exit::Well)
}

/// Replaces the file as one step, readable for its owner alone: a proxy never sees half a token.
fn write(path: &Path, token: &str) -> anyhow::Result<()> {
    let mut name = path.file_name().context("it has no name")?.to_owned();
    name.push(".new");
    let aside = path.with_file_name(name);
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(token.as_bytes())?;
    file.sync_all()?;
    Ok(fs::rename(&aside, path)?)
}

/// Signs a token with `token.key` of a state folder, for the trust domain that the controller noted there.
///
/// # Errors
/// Names the file that cannot be used, or the part of the identity that cannot be.
pub(crate) fn sign(
    state_directory: &Path,
    namespace: &str,
    service_account: &str,
    life: Duration,
) -> anyhow::Result<String> {
    ensure!(life >= Duration::from_secs(1), "a token lives at least 1 s");
    let path = state_directory.join("token.key");
    let pem = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let key =
        EncodingKey::from_ec_pem(&pem).with_context(|| format!("{} is no P-256 key in PKCS#8 PEM", path.display()))?;
    let domain = trust_domain(state_directory)?;
    let identity = Identity::new(&domain, namespace, service_account)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs();
    let claims = json!({
        "iss": format!("lanemesh.{domain}"),
        "sub": format!("system:serviceaccount:{}:{}", identity.namespace(), identity.service_account()),
        "aud": [names::TOKEN_AUDIENCE],
        "iat": now,
        "nbf": now,
        "exp": now.saturating_add(life.as_secs()),
        "lanemesh.io": {},
    });
    jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &key).context("cannot sign")
}

fn trust_domain(state_directory: &Path) -> anyhow::Result<String> {
    let path = state_directory.join("trust-domain");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(names::DEFAULT_TRUST_DOMAIN.to_owned()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    /// P-256, made for this test.
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgS/Y++wgsl98WaOoL\n\
        UAA5UFoySauxuvOz7PMVxZu65EKhRANCAAQZnck3YzgmQRYNj9Bt5tbXof4+fB1/\n\
        mNL9SG+rgaXEKv/zql89IO2y1FMyhXd27/oZYKSGoHmxYqzVvhaBUZXg\n\
        -----END PRIVATE KEY-----\n";

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("token.key"), KEY).unwrap();
        folder
    }

    fn claims(token: &str) -> serde_json::Value {
        let body = token.split('.').nth(1).unwrap();
        serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap()
    }

    #[test]
    fn token_names_the_workload_of_the_folders_trust_domain() {
        let folder = folder();
        fs::write(folder.path().join("trust-domain"), "mesh.test\n").unwrap();
        let token = sign(folder.path(), "demo", "b", Duration::from_secs(60)).unwrap();
        let claims = claims(&token);
        assert_eq!(claims["sub"], "system:serviceaccount:demo:b");
        assert_eq!(claims["iss"], "lanemesh.mesh.test");
        assert_eq!(claims["aud"][0], "lanemesh.io");
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 60);
    }

    #[test]
    fn names_that_no_workload_can_have_and_missing_keys_are_refused() {
        let folder = folder();
        assert!(sign(folder.path(), "demo:x", "b", Duration::from_secs(60)).is_err());
        assert!(sign(folder.path(), "demo", "", Duration::from_secs(60)).is_err());
        let error = sign(Path::new("/nonexistent"), "demo", "b", Duration::from_secs(60)).unwrap_err();
        assert!(format!("{error:#}").contains("/nonexistent/token.key"));
    }

    #[test]
    fn token_file_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = folder();
        let path = folder.path().join("token");
        write(&path, "first").unwrap();
        write(&path, "second").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
