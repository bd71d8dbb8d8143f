//! How an outbound target is treated: its policy, still unknown, or refused.

use std::sync::Arc;

use crate::{
    model::route::{OutboundPolicy, Target},
    snapshot::Snapshot,
};

/// What the snapshot says about a target.
#[derive(Clone, Debug)]
pub enum Verdict<'a> {
    /// Carried as this policy says.
    Known(&'a Arc<OutboundPolicy>),
    /// Nobody has asked yet: subscribe and wait.
    Ask,
    /// The controller said that it does not know the target.
    Unknown,
}

/// Looks the target up.
pub fn target<'a>(snapshot: &'a Snapshot, target: &Target) -> Verdict<'a> {
    match snapshot.outbound.get(target) {
        Some(policy) => Verdict::Known(policy),
        None if snapshot.unknown.contains(target) => Verdict::Unknown,
        None => Verdict::Ask,
    }
}
