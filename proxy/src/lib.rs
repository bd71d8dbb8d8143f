//! The sidecar: data path, control client, identity, admin. `main` is the command line around it.

pub mod admin;
pub mod application;
pub mod await_ready;
pub mod backoff;
pub mod balance;
pub mod cause;
pub mod config;
pub mod control;
pub mod datapath;
pub mod drain;
pub mod health;
pub mod identity;
pub mod limits;
pub mod net;
pub mod outside;
pub mod providers;
pub mod redirect;
pub mod retries;
pub mod runtime;
pub mod shared;
pub mod telemetry;
pub mod wall_clock;
pub mod worker;
pub mod zones;
