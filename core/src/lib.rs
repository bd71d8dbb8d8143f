//! The mesh's nouns and decisions. Pure: no IO, no clock, no tokio, no randomness unless passed in.
//!
//! `resources` is what people write, `model` is what proxies and controller compute with, and the modules named like
//! the steps of the data path (`detect`, `enforce`, `lane`, `pick`, `reach`, `retry`, `relay`) decide and say why.
//! `health` says which instances a pick may use, `warm_up` how much of a new one, `balance` which of them takes a request,
//! `drain` in which order a proxy goes down, `lifecycle` what the controller makes of that, `flood` and `shedding` what it
//! bears and what it gives up first, `discovery` what of a registry's word is believed.

pub mod balance;
pub mod detect;
pub mod discovery;
pub mod drain;
pub mod enforce;
pub mod fields;
pub mod flood;
pub mod health;
pub mod identity;
pub mod lane;
pub mod lifecycle;
pub mod limits;
pub mod model;
pub mod model_route;
pub mod names;
pub mod outcome;
pub mod pick;
pub mod query;
pub mod reach;
pub mod relay;
pub mod resources;
pub mod retry;
pub mod route;
pub mod schema;
pub mod shedding;
pub mod snapshot;
pub mod warm_up;
pub mod zone;
