//! Metrics, access log and spans.

pub mod control;
pub mod worker;
