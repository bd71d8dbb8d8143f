//! Waits for an answer of the control thread, up to a limit.

use std::{sync::Arc, time::Duration};

use mesh_core::{outcome::Outcome, snapshot::Snapshot};
use tokio::time::{Instant, timeout_at};

use super::Refused;
use crate::{shared::Ask, worker::Worker};

/// Longest wait for the control thread to answer; then the exchange ends `not_ready`.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// What a snapshot says about something.
pub(super) enum Look<T> {
    /// This.
    Found(T),
    /// Nothing yet: this would have to be asked.
    Ask(Ask),
}

/// Looks at the current snapshot and, while it says nothing, at its successors.
pub(super) async fn answer<T>(
    worker: &Worker,
    mut look: impl FnMut(&Arc<Snapshot>) -> Look<T>,
) -> Result<(Arc<Snapshot>, T), Refused> {
    let snapshot = worker.shared.load();
    if let Look::Found(found) = look(&snapshot) {
        return Ok((snapshot, found));
    }
    drop(snapshot);
    let limit = Instant::now() + ANSWER_LIMIT;
    let mut revision = worker.shared.revision.clone();
    let mut asked = None;
    loop {
        revision.mark_unchanged();
        // Between the look above and the mark a snapshot may have come: look again.
        let snapshot = worker.shared.load();
        let ask = match look(&snapshot) {
            Look::Found(found) => return Ok((snapshot, found)),
            Look::Ask(ask) => ask,
        };
        if asked.as_ref() != Some(&ask) {
            if worker.shared.ask.try_send(ask.clone()).is_err() {
                return Err(Refused::new(Outcome::NotReady, "too many questions wait for the control thread"));
            }
            asked = Some(ask.clone());
        }
        match timeout_at(limit, revision.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => {
                return Err(Refused::new(Outcome::NotReady, format!("no answer from the controller about {ask:?}")));
            }
        }
    }
}
