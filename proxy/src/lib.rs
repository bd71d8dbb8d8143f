//! The sidecar: data path, control client, identity, admin. `main` is the command line around it.

pub mod backoff;
pub mod cause;
pub mod config;
pub mod control;
pub mod identity;
pub mod net;
pub mod shared;
pub mod telemetry;
