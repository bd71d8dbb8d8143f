//! Certificate of a gateway toward callers outside the mesh: read at the start, and again whenever its files change.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use rustls::ServerConfig;
use thiserror::Error;
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    cause::error_chain,
    config::OutsideTls,
    net::tls::outside::{InvalidPair, server},
    shared::Shared,
};

/// How often the files are looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Why the files cannot be used.
#[derive(Debug, Error)]
pub enum Unusable {
    /// One of them cannot be read.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// What is in them.
    #[error("{} and {} cannot be used", certificate.display(), key.display())]
    Pair {
        /// File of the chain.
        certificate: PathBuf,
        /// File of the key.
        key: PathBuf,
        /// Why not.
        #[source]
        source: InvalidPair,
    },
}

/// Contents of both files.
#[derive(PartialEq, Eq)]
pub struct Pair {
    chain: Vec<u8>,
    key: Vec<u8>,
}

/// Reads both files.
///
/// # Errors
/// When one cannot be read.
pub fn read(tls: &OutsideTls) -> Result<Pair, Unusable> {
    let read = |file: &PathBuf| std::fs::read(file).map_err(|error| Unusable::Read(file.clone(), error));
    Ok(Pair { chain: read(&tls.certificate_file)?, key: read(&tls.key_file)? })
}

/// What servers are configured with.
///
/// # Errors
/// When the files do not hold a certificate and its key.
pub fn configuration(tls: &OutsideTls, pair: &Pair) -> Result<Arc<ServerConfig>, Unusable> {
    server(&pair.chain, &pair.key).map_err(|source| Unusable::Pair {
        certificate: tls.certificate_file.clone(),
        key: tls.key_file.clone(),
        source,
    })
}

/// Takes over what the files hold whenever they change; while they cannot be used, the last good pair stays. Connections
/// that are open keep theirs.
pub async fn watch(tls: OutsideTls, mut current: Pair, shared: Arc<Shared>) {
    let mut refused: Option<String> = None;
    let mut ticks = interval(CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let replaced = match read(&tls) {
            Ok(pair) if pair == current => {
                refused = None;
                continue;
            }
            Ok(pair) => configuration(&tls, &pair).map(|config| (pair, config)),
            Err(error) => Err(error),
        };
        match replaced {
            Ok((pair, config)) => {
                shared.outside_tls.store(Some(config));
                (current, refused) = (pair, None);
                tracing::info!(certificate = %tls.certificate_file.display(), "certificate toward outside replaced");
            }
            Err(error) => {
                // The two files are rarely replaced at once: said once, and looked at again.
                let text = error_chain(&error);
                if refused.as_ref() != Some(&text) {
                    tracing::warn!(error = %text, "the certificate toward outside stays as it was");
                    refused = Some(text);
                }
            }
        }
    }
}
