//! Keeps authority and TLS configuration in step with the files: rotations take effect without a restart, and what
//! cannot be used leaves the last good state in force.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use mesh_core::identity::Identity;
use rustls::ServerConfig;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    authority::{self, Authority},
    files::Paths,
};
use crate::{
    serve::tls,
    telemetry::{Load, Metrics},
};

/// How often the files are looked at; they are a few kilobytes.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What the refresher works with.
pub struct Refresher {
    /// Files of the authority.
    pub paths: Paths,
    /// Trust domain.
    pub trust_domain: String,
    /// Control namespace, for names of identities.
    pub control_namespace: String,
    /// Our own identity.
    pub identity: Identity,
    /// Life of our own certificate.
    pub leaf_lifetime: Duration,
    /// Where the authority in force is read.
    pub authority: watch::Sender<Arc<Authority>>,
    /// Where the TLS configuration in force is read.
    pub tls: watch::Sender<Arc<ServerConfig>>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl Refresher {
    /// Runs until `stopping`.
    pub async fn run(self, stopping: CancellationToken) {
        let mut seen = self.fingerprint();
        let mut renew_at = Instant::now() + self.renewal();
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                _ = look.tick() => (),
            }
            self.renew_issuer();
            let now = self.fingerprint();
            let files_changed = now != seen;
            seen = now;
            if files_changed {
                self.reload();
            }
            if files_changed || Instant::now() >= renew_at {
                self.renew_own();
                renew_at = Instant::now() + self.renewal();
            }
        }
    }

    /// Our own certificate is renewed at two thirds of its life.
    fn renewal(&self) -> Duration {
        self.leaf_lifetime * 2 / 3
    }

    fn files(&self) -> [&PathBuf; 3] {
        [&self.paths.issuer.certificate, &self.paths.issuer.key, &self.paths.trust_bundle]
    }

    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for file in self.files() {
            std::fs::read(file).ok().hash(&mut hasher);
        }
        hasher.finish()
    }

    fn reload(&self) {
        match Authority::open(&self.paths, &self.control_namespace) {
            Ok(authority) => {
                info!(anchors = authority.anchors().len(), "issuer and trust bundle loaded");
                self.metrics.authority_load(Load::Loaded);
                self.metrics.issuer_end(authority.not_after());
                self.authority.send_replace(Arc::new(authority));
            }
            Err(error) => {
                // A rotation writes several files; between two of them they may not fit together.
                warn!(error = %Chain(&error), "issuer and trust bundle refused; the last good ones stay in force");
                self.metrics.authority_load(Load::Refused);
            }
        }
    }

    fn renew_own(&self) {
        let authority = Arc::clone(&self.authority.borrow());
        match tls::config(&authority, &self.identity, self.leaf_lifetime) {
            Ok(config) => drop(self.tls.send_replace(Arc::new(config))),
            Err(error) => error!(error = %Chain(&error), "the controller's own certificate cannot be renewed"),
        }
    }

    fn renew_issuer(&self) {
        let Some(root) = &self.paths.root else { return };
        if !self.authority.borrow().is_near_end(SystemTime::now()) {
            return;
        }
        match authority::renew_issuer(&self.paths, root, &self.trust_domain) {
            Ok(()) => info!("issuer certificate renewed"),
            Err(error) => error!(error = %Chain(&error), "the issuer's certificate cannot be renewed"),
        }
    }
}

/// An error with all its causes, for the log.
pub struct Chain<'e>(pub &'e dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
