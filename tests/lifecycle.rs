//! Tests of coming up and going down: applications and their sidecars are stopped and started while callers call.
#![cfg(test)]

#[path = "lifecycle/applications.rs"]
mod applications;
#[path = "lifecycle/callers.rs"]
mod callers;
#[path = "lifecycle/control.rs"]
mod control;
#[path = "lifecycle/ends.rs"]
mod ends;
#[path = "lifecycle/health.rs"]
mod health;
#[path = "lifecycle/notices.rs"]
mod notices;
#[path = "lifecycle/registered.rs"]
mod registered;
#[path = "lifecycle/rate_limits.rs"]
mod rate_limits;
#[path = "lifecycle/restarts.rs"]
mod restarts;
#[path = "lifecycle/standins.rs"]
mod standins;
#[path = "lifecycle/retries.rs"]
mod retries;
#[path = "lifecycle/world.rs"]
mod world;
#[path = "lifecycle/zones.rs"]
mod zones;
