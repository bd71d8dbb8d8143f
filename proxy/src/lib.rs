//! The sidecar: data path, control client, identity, admin. `main` is the command line around it.

pub mod config;
pub mod net;
pub mod shared;
pub mod telemetry;
