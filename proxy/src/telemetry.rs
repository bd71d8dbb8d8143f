//! Metrics, access log and spans.

pub mod worker;
