//! Calls to language models (`ModelRoute`): which target is asked, when the next one is, what the client is told.
//!
//! Nouns are `model::model_route`. Everything here is pure; `mesh-proxy` moves the bytes.

pub mod address;
pub mod answer;
pub mod attempts;
pub mod choice;
pub mod client_error;
pub mod drill;
pub mod estimate;
pub mod explain;
pub mod failure;
pub mod models;
pub mod request;
pub mod resume;
pub mod rewrite;
pub mod routes;
#[cfg(test)]
mod sample;
pub mod standing;
pub mod stream;
pub mod translate;
pub mod usage;
