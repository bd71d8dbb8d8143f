//! The controller: learns what there is from its sources, and tells every proxy what it needs of it.
//!
//! Data flows one way: [`sources`] → [`compose`] → [`index`] → [`publish`]; what proxies ask for flows back through
//! [`demand`] to sources that follow only what is asked for. [`serve`] is the gRPC port, [`sign`] the certificate
//! authority, [`admin`] the console API, and [`runtime`] joins the parts and owns their tasks.

pub mod admin;
pub mod compose;
pub mod config;
pub mod demand;
pub mod follow;
pub mod guard;
pub mod index;
pub mod meshed;
pub mod publish;
pub mod runtime;
pub mod serve;
pub mod sidecars;
pub mod sign;
pub mod sources;
pub mod telemetry;
pub mod workshop;
