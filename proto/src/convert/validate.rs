//! Last look at a message before it is sent: a stock proxy answers 500 to everything when a field that it needs is
//! missing, so such a message must never leave.

use linkerd2_proxy_api::{destination::Update, inbound::Server, outbound::OutboundPolicy};
use mesh_core::names::DEFAULT_CONTROL_NAMESPACE;

use super::{Invalid, endpoint::Change, inbound, outbound};

/// Checks an outbound policy.
///
/// # Errors
/// Names the field.
pub fn outbound(message: &OutboundPolicy) -> Result<(), Invalid> {
    outbound::from_wire(message.clone(), DEFAULT_CONTROL_NAMESPACE).map(drop)
}

/// Checks an inbound policy.
///
/// # Errors
/// Names the field.
pub fn inbound(message: &Server) -> Result<(), Invalid> {
    inbound::from_wire(message.clone(), UNUSED_PORT).map(drop)
}

/// The port is no part of the message.
const UNUSED_PORT: u16 = 0;

/// Checks an update of instances.
///
/// # Errors
/// Names the field.
pub fn update(message: &Update) -> Result<(), Invalid> {
    Change::from_wire(message.clone(), DEFAULT_CONTROL_NAMESPACE).map(drop)
}
