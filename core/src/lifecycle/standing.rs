//! How the process of a proxy stands with the controller.

use std::time::Duration;

/// What a proxy is told of itself besides what it serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// It is ordered to drain.
    pub drain: bool,
    /// Whether the controller has registered its workload.
    pub registration: Registration,
}

/// Whether a workload is registered with registries by the controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Registration {
    /// The controller does not register it.
    #[default]
    NotOurs,
    /// It will be; readiness waits for it no longer than this.
    Awaited(Duration),
    /// It is.
    Visible,
}
