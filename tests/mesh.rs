//! Tests of the whole mesh: real processes, real applications, one file per behaviour.
#![cfg(test)]

#[path = "mesh/applications.rs"]
mod applications;
#[path = "mesh/bad_input.rs"]
mod bad_input;
#[path = "mesh/baggage.rs"]
mod baggage;
#[path = "mesh/black_hole.rs"]
mod black_hole;
#[path = "mesh/choice.rs"]
mod choice;
#[path = "mesh/demo.rs"]
mod demo;
#[path = "mesh/examples.rs"]
mod examples;
#[path = "mesh/exchanges.rs"]
mod exchanges;
#[path = "mesh/grpc_interop.rs"]
mod grpc_interop;
#[path = "mesh/h2spec.rs"]
mod h2spec;
#[path = "mesh/http1_requests.rs"]
mod http1_requests;
#[path = "mesh/http1_responses.rs"]
mod http1_responses;
#[path = "mesh/http2_requests.rs"]
mod http2_requests;
#[path = "mesh/outage.rs"]
mod outage;
#[path = "mesh/redirect.rs"]
mod redirect;
#[path = "mesh/refusals.rs"]
mod refusals;
#[path = "mesh/rotation.rs"]
mod rotation;
#[path = "mesh/seeing.rs"]
mod seeing;
#[path = "mesh/telemetry.rs"]
mod telemetry;
