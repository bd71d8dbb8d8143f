//! Tests of coming up, going down and bearing attacks: applications and their sidecars are stopped, started and attacked
//! while callers call.
#![cfg(test)]

#[path = "lifecycle/applications.rs"]
mod applications;
#[path = "lifecycle/attacked.rs"]
mod attacked;
#[path = "lifecycle/attacks_http2.rs"]
mod attacks_http2;
#[path = "lifecycle/attacks_short.rs"]
mod attacks_short;
#[path = "lifecycle/attacks_slow.rs"]
mod attacks_slow;
#[path = "lifecycle/callers.rs"]
mod callers;
#[path = "lifecycle/control.rs"]
mod control;
#[path = "lifecycle/ends.rs"]
mod ends;
#[path = "lifecycle/faults.rs"]
mod faults;
#[path = "lifecycle/health.rs"]
mod health;
#[path = "lifecycle/notices.rs"]
mod notices;
#[path = "lifecycle/rate_limits.rs"]
mod rate_limits;
#[path = "lifecycle/registered.rs"]
mod registered;
#[path = "lifecycle/restarts.rs"]
mod restarts;
#[path = "lifecycle/retries.rs"]
mod retries;
#[path = "lifecycle/sessions.rs"]
mod sessions;
#[path = "lifecycle/sources.rs"]
mod sources;
#[path = "lifecycle/standins.rs"]
mod standins;
#[path = "lifecycle/storm.rs"]
mod storm;
#[path = "lifecycle/warm_up.rs"]
mod warm_up;
#[path = "lifecycle/world.rs"]
mod world;
#[path = "lifecycle/zones.rs"]
mod zones;
