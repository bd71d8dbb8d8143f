//! A steady load, counted: for what must not fail while something else happens.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinHandle;

use crate::{
    client::{self, Version},
    wait::pace,
};

/// Pause between two requests of one load.
const INTERVAL: Duration = Duration::from_millis(5);
/// Failures that are shown.
const SHOWN: usize = 5;

/// A load that runs until it is ended; each request on a connection of its own.
pub struct Load {
    sent: Arc<AtomicUsize>,
    failures: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    running: JoinHandle<()>,
}

impl Load {
    /// Requests for `host` through the sidecar whose outbound address is `to`; anything but 200 is a failure.
    pub fn start(to: SocketAddr, host: &'static str) -> Load {
        let (sent, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let failures = Arc::new(Mutex::new(Vec::new()));
        let (counted, stopped, failed) = (Arc::clone(&sent), Arc::clone(&stop), Arc::clone(&failures));
        let running = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let failure = match client::get(to, Version::Http1, host, "/", &[]).await {
                    Ok(answer) if answer.status == 200 => None,
                    Ok(answer) => Some(format!("{} {}", answer.status, answer.text())),
                    Err(error) => Some(format!("{error:#}")),
                };
                failed.lock().expect("no panic while held").extend(failure);
                counted.fetch_add(1, Ordering::Relaxed);
                pace(INTERVAL).await;
            }
        });
        Load { sent, failures, stop, running }
    }

    /// Requests answered so far.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    /// Whether any request has failed.
    pub fn has_failed(&self) -> bool {
        !self.failures.lock().expect("no panic while held").is_empty()
    }

    /// Ends the load between two requests and returns how many there were.
    ///
    /// # Panics
    /// When any failed; the message says `when`.
    pub async fn end_without_failure(self, when: &str) -> usize {
        self.end_with_at_most(0.0, when).await
    }

    /// As [`Load::end_without_failure`], where so great a part may have failed.
    ///
    /// # Panics
    /// When more did.
    pub async fn end_with_at_most(self, part: f64, when: &str) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.running.await.expect("a load does not panic");
        let failures = self.failures.lock().expect("no panic while held").clone();
        let sent = self.sent.load(Ordering::Relaxed);
        let shown = &failures[..failures.len().min(SHOWN)];
        let most = part * sent as f64;
        assert!(failures.len() as f64 <= most, "{when}: {} of {sent} failed: {shown:?}", failures.len());
        sent
    }
}
