//! Tests of coming up and going down: applications and their sidecars are stopped and started while callers call.
#![cfg(test)]

#[path = "lifecycle/applications.rs"]
mod applications;
#[path = "lifecycle/callers.rs"]
mod callers;
#[path = "lifecycle/ends.rs"]
mod ends;
#[path = "lifecycle/notices.rs"]
mod notices;
#[path = "lifecycle/restarts.rs"]
mod restarts;
#[path = "lifecycle/sessions.rs"]
mod sessions;
#[path = "lifecycle/sources.rs"]
mod sources;
#[path = "lifecycle/storm.rs"]
mod storm;
#[path = "lifecycle/world.rs"]
mod world;
