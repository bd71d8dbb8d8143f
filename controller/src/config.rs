//! Settings of the controller: command line and environment, each once. The reference page is made from them.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use mesh_core::{
    identity::Identity,
    names::{
        CONTROLLER_ADMIN_PORT, CONTROLLER_PORT, CONTROLLER_SERVICE_ACCOUNT, DEFAULT_CONTROL_NAMESPACE,
        DEFAULT_NAMESPACE, DEFAULT_TRUST_DOMAIN,
    },
    resources::Domains,
};

use crate::sign::{
    files::{Pair, Paths},
    tokens::Grant,
};

/// Shortest life of a leaf: a proxy needs a few seconds to renew it.
const LEAF_LIFETIME_MIN: Duration = Duration::from_secs(5);
/// Longest life of a leaf.
const LEAF_LIFETIME_MAX: Duration = Duration::from_secs(90 * 24 * 3_600);

/// Folder of the state directory for resources, where no other is given beside Nacos.
const RESOURCES: &str = "resources";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "mesh-controller", version, about = "Tells the proxies of a Lanemesh what they need to know")]
pub struct Arguments {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Settings.
    #[command(flatten)]
    pub settings: Settings,
}

/// Commands that end.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Sign a workload's token with the key in the state directory and print it
    Token(TokenArguments),
}

/// For whom a token is.
#[derive(Debug, Args)]
pub struct TokenArguments {
    /// Namespace of the workload
    #[arg(long, default_value = DEFAULT_NAMESPACE)]
    pub namespace: String,
    /// Service account of the workload
    #[arg(long)]
    pub service_account: String,
    /// Pod that the token is for
    #[arg(long)]
    pub pod: Option<String>,
    /// How long it is good, e.g. 30s, 10m, 24h, 30d
    #[arg(long, default_value = "24h", value_parser = duration)]
    pub ttl: Duration,
}

impl TokenArguments {
    /// The grant.
    ///
    /// # Errors
    /// When the names make no identity.
    pub fn grant(&self, trust_domain: &str) -> anyhow::Result<Grant> {
        let identity = Identity::new(trust_domain, &self.namespace, &self.service_account)?;
        Ok(Grant { identity, pod: self.pod.clone(), life: self.ttl })
    }
}

/// Settings.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    /// YAML file, or folder of *.yaml, with services and resources; watched
    #[arg(long, global = true, env = "LANEMESH_CONTROLLER_FILE", value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// YAML file that says which Nacos servers are read; see docs/nacos.md. Off unless given
    #[arg(long, global = true, env = "LANEMESH_CONTROLLER_NACOS", value_name = "PATH")]
    pub nacos: Option<PathBuf>,
    /// Directory of keys and certificates; made, with new ones, on the first start
    #[arg(long, global = true, env = "LANEMESH_CONTROLLER_STATE_DIRECTORY", value_name = "DIRECTORY")]
    pub state_directory: Option<PathBuf>,
    /// Address of the gRPC port (mutual TLS)
    #[arg(long, global = true, env = "LANEMESH_CONTROLLER_LISTEN", default_value_t = SocketAddr::from(([127, 0, 0, 1], CONTROLLER_PORT)))]
    pub listen: SocketAddr,
    /// Address of the admin port; its console API answers loopback clients only
    #[arg(long, global = true, env = "LANEMESH_CONTROLLER_ADMIN_LISTEN", default_value_t = SocketAddr::from(([127, 0, 0, 1], CONTROLLER_ADMIN_PORT)))]
    pub admin: SocketAddr,
    /// Another gRPC port, without TLS, that takes loopback clients only; off unless given
    #[arg(long, global = true, env = "LANEMESH_CONTROLLER_PLAINTEXT_LOOPBACK", value_name = "ADDRESS", value_parser = loopback)]
    pub plaintext_loopback: Option<SocketAddr>,
    /// Trust domain of identities
    #[arg(long, global = true, env = "LANEMESH_TRUST_DOMAIN", default_value = DEFAULT_TRUST_DOMAIN)]
    pub trust_domain: String,
    /// Namespace of the control plane; part of every DNS name of an identity
    #[arg(long, global = true, env = "LANEMESH_CONTROL_NAMESPACE", default_value = DEFAULT_CONTROL_NAMESPACE)]
    pub control_namespace: String,
    /// Domain of service names: <name>.<namespace>.svc.<domain>
    #[arg(long, global = true, env = "LANEMESH_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Life of workload certificates, 5s to 90d
    #[arg(long, global = true, env = "LANEMESH_CONTROLLER_LEAF_LIFETIME", default_value = "24h", value_parser = leaf_lifetime)]
    pub leaf_lifetime: Duration,
    /// Certificate of an issuer of your own, PEM; needs --issuer-key and --trust-bundle
    #[arg(long, global = true, env = "LANEMESH_CONTROLLER_ISSUER_CERTIFICATE", value_name = "FILE", requires_all = ["issuer_key", "trust_bundle"])]
    pub issuer_certificate: Option<PathBuf>,
    /// Key of an issuer of your own, PKCS#8 PEM, P-256
    #[arg(
        long,
        global = true,
        env = "LANEMESH_CONTROLLER_ISSUER_KEY",
        value_name = "FILE",
        requires = "issuer_certificate"
    )]
    pub issuer_key: Option<PathBuf>,
    /// Trust anchors, PEM; default: trust-bundle.pem in the state directory
    #[arg(long, global = true, env = "LANEMESH_CONTROLLER_TRUST_BUNDLE", value_name = "FILE")]
    pub trust_bundle: Option<PathBuf>,
    /// Key that signs workload tokens, PKCS#8 PEM, P-256; default: token.key in the state directory
    #[arg(long, global = true, env = "LANEMESH_CONTROLLER_TOKEN_KEY", value_name = "FILE")]
    pub token_key: Option<PathBuf>,
    /// What is logged, as in RUST_LOG: info, debug, mesh_controller=debug,h2=warn …
    #[arg(long, global = true, env = "LANEMESH_LOG", default_value = "info")]
    pub log: String,
}

impl Settings {
    /// The state directory.
    ///
    /// # Errors
    /// When none is given.
    pub fn state_directory(&self) -> anyhow::Result<PathBuf> {
        match &self.state_directory {
            Some(directory) => Ok(directory.clone()),
            None => bail!("--state-directory is missing: say where keys and certificates are kept"),
        }
    }

    /// File or folder of the file source; with Nacos alone a folder in the state directory.
    ///
    /// # Errors
    /// When none is given, or the folder cannot be made.
    pub fn file(&self) -> anyhow::Result<PathBuf> {
        match &self.file {
            Some(file) => Ok(file.clone()),
            // Whoever has Nacos needs no file of services; what the console applies is written here.
            None if self.nacos.is_some() => {
                let folder = self.state_directory()?.join(RESOURCES);
                std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
                Ok(folder)
            }
            None => bail!("--file is missing: name a YAML file, or a folder of *.yaml, with services and resources"),
        }
    }

    /// Files of keys and certificates.
    ///
    /// # Errors
    /// When there is no state directory.
    pub fn paths(&self) -> anyhow::Result<Paths> {
        let mut paths = Paths::in_directory(&self.state_directory()?);
        if let (Some(certificate), Some(key)) = (&self.issuer_certificate, &self.issuer_key) {
            paths.issuer = Pair { certificate: certificate.clone(), key: key.clone() };
            paths.root = None;
        }
        let or = |given: &Option<PathBuf>, own: &Path| given.clone().unwrap_or_else(|| own.to_owned());
        paths.trust_bundle = or(&self.trust_bundle, &paths.trust_bundle);
        paths.token_key = or(&self.token_key, &paths.token_key);
        Ok(paths)
    }

    /// Domains of identities and services.
    pub fn domains(&self) -> Domains {
        Domains {
            trust: self.trust_domain.clone(),
            cluster: self.cluster_domain.clone(),
            control_namespace: self.control_namespace.clone(),
        }
    }

    /// The controller's own identity.
    ///
    /// # Errors
    /// When trust domain or control namespace can be in none.
    pub fn identity(&self) -> anyhow::Result<Identity> {
        Ok(Identity::new(&self.trust_domain, &self.control_namespace, CONTROLLER_SERVICE_ACCOUNT)?)
    }
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "expected IP:PORT".to_owned())?;
    if address.ip().is_loopback() { Ok(address) } else { Err("expected a loopback address".to_owned()) }
}

fn leaf_lifetime(text: &str) -> Result<Duration, String> {
    let life = duration(text)?;
    if (LEAF_LIFETIME_MIN..=LEAF_LIFETIME_MAX).contains(&life) {
        Ok(life)
    } else {
        Err("allowed are 5s to 90d".to_owned())
    }
}

/// Reads a whole number with a unit: s, m, h or d.
pub fn duration(text: &str) -> Result<Duration, String> {
    let expected = || "expected a whole number with a unit of s, m, h or d, for example 90s".to_owned();
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(expected)?;
    let number: u64 = text[..split].parse().map_err(|_| expected())?;
    let unit = match &text[split..] {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(expected()),
    };
    number.checked_mul(unit).map(Duration::from_secs).ok_or_else(|| "is too long".to_owned())
}
