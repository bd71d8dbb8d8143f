//! Tests of the whole mesh: real processes, real applications, one file per behaviour.

#[path = "mesh/http1_requests.rs"]
mod http1_requests;
