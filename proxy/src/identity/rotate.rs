//! When a certificate is renewed: between 60 and 70 % of its life, at once when our authority is no longer trusted, and
//! again and again, with the token alone, when it has ended.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{Credentials, Held, read_bundle, request};
use crate::{
    backoff,
    cause::error_chain,
    config::ControlPeer,
    control::client::{self, Proof},
    telemetry::control::ControlCounters,
};

/// Connect, token, answer: all of one attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest sleep in one go, so that a changed clock or a suspended machine is noticed.
const CLOCK_CHECK: Duration = Duration::from_secs(30);
/// Shortest time between two certificates, whatever their life.
const SHORTEST_LIFE: Duration = Duration::from_millis(500);

/// What renewal needs to know.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// Identity service.
    pub peer: ControlPeer,
    /// Namespace of the control plane.
    pub control_namespace: String,
    /// Token of the workload.
    pub token_file: Option<PathBuf>,
    /// Read again after a failure, when it is newer than the anchors in force.
    pub trust_bundle_file: Option<PathBuf>,
    /// Counted in.
    pub counters: Arc<ControlCounters>,
}

/// When a certificate of this life is renewed. `draw` is uniform in 0 to 1.
pub fn renew_at(not_before: SystemTime, not_after: SystemTime, draw: f64) -> SystemTime {
    let life = not_after.duration_since(not_before).unwrap_or_default().max(SHORTEST_LIFE);
    not_before + life.mul_f64(0.6 + 0.1 * draw.clamp(0.0, 1.0))
}

/// Keeps a valid certificate in `credentials` for ever. Cancelling it is safe at any time.
pub async fn run(rotation: Rotation, credentials: Arc<watch::Sender<Arc<Credentials>>>) {
    let mut failures = 0;
    let mut anchors_since = SystemTime::now();
    let mut obtained = None;
    loop {
        until_due(&credentials, obtained).await;
        match attempt(&rotation, &credentials).await {
            Ok(held) => {
                failures = 0;
                obtained = Some(SystemTime::now());
                publish(&credentials, held);
                ControlCounters::add(&rotation.counters.certificates);
            }
            Err(error) => {
                failures += 1;
                ControlCounters::add(&rotation.counters.certificate_failures);
                let error = error_chain(&error);
                tracing::warn!(error, failures, "no certificate: trying again");
                reload_bundle(&rotation, &credentials, &mut anchors_since);
                sleep(backoff::wait(failures, rand::random())).await;
            }
        }
    }
}

/// Returns when a certificate is needed: none held, time to renew, or its authority no longer trusted. A life begins when
/// we `obtained` the certificate: authorities date certificates back, and a short one would be due at once.
async fn until_due(credentials: &watch::Sender<Arc<Credentials>>, obtained: Option<SystemTime>) {
    let mut changes = credentials.subscribe();
    let draw = rand::random();
    loop {
        let current = Arc::clone(&changes.borrow_and_update());
        let now = SystemTime::now();
        let Some(held) = current.valid(now) else { return };
        let begin = obtained.map_or(held.not_before, |time| time.max(held.not_before));
        let due = renew_at(begin, held.not_after, draw);
        if now >= due || !current.vouched_for(now) {
            return;
        }
        let wait = due.duration_since(now).unwrap_or_default().min(CLOCK_CHECK);
        tokio::select! {
            () = sleep(wait) => {}
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

async fn attempt(
    rotation: &Rotation,
    credentials: &watch::Sender<Arc<Credentials>>,
) -> Result<Held, request::CertifyError> {
    let current = Arc::clone(&credentials.borrow());
    let channel = client::channel(&rotation.peer, credentials.subscribe(), Proof::IfHeld);
    let certify = request::certify(channel, &current, &rotation.control_namespace, rotation.token_file.as_ref());
    timeout(ATTEMPT_TIMEOUT, certify).await.unwrap_or(Err(request::CertifyError::Timeout))
}

fn publish(credentials: &watch::Sender<Arc<Credentials>>, held: Held) {
    let until = time_text(held.not_after);
    credentials.send_modify(|current| {
        *current = Arc::new(Credentials { held: Some(Arc::new(held)), ..current.as_ref().clone() });
    });
    tracing::info!(valid_until = until, "certificate obtained");
}

/// Unix seconds, for logs.
fn time_text(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Someone may have replaced the bundle while the controller's authority changed.
fn reload_bundle(rotation: &Rotation, credentials: &watch::Sender<Arc<Credentials>>, since: &mut SystemTime) {
    let Some(path) = &rotation.trust_bundle_file else { return };
    let Ok(modified) = std::fs::metadata(path).and_then(|metadata| metadata.modified()) else { return };
    if modified <= *since {
        return;
    }
    *since = modified;
    let current = Arc::clone(&credentials.borrow());
    let replaced = read_bundle(path).map_err(|error| error_chain(&error)).and_then(|anchors| {
        current.with_anchors(anchors, &rotation.control_namespace).map_err(|error| error_chain(&error))
    });
    match replaced {
        Ok(replaced) => {
            credentials.send_replace(Arc::new(replaced));
            tracing::info!(path = %path.display(), "trust bundle read again");
        }
        Err(error) => tracing::warn!(error, "the changed trust bundle is not used"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_falls_between_60_and_70_percent_of_life() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let end = start + Duration::from_secs(100);
        for (draw, seconds) in [(0.0, 60), (0.5, 65), (1.0, 70), (7.0, 70)] {
            let at = renew_at(start, end, draw).duration_since(start).unwrap();
            assert_eq!(at.as_secs_f64().round() as u64, seconds, "{draw}");
        }
    }

    #[test]
    fn life_of_no_length_does_not_renew_without_pause() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        assert!(renew_at(now, now, 0.0) >= now + SHORTEST_LIFE.mul_f64(0.6));
    }
}
