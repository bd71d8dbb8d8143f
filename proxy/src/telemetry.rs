//! Metrics, access log and spans.

pub mod access_log;
pub mod control;
pub mod health;
pub mod metrics;
pub mod model_call;
pub mod models;
pub mod records;
pub mod spans;
pub mod worker;
