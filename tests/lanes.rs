//! Tests of lanes through whole chains: which instance a request reaches at every hop, whatever its applications forward.
#![cfg(test)]

#[path = "lanes/bounds.rs"]
mod bounds;
#[path = "lanes/carriers.rs"]
mod carriers;
#[path = "lanes/chain.rs"]
mod chain;
#[path = "lanes/ctl.rs"]
mod ctl;
#[path = "lanes/entry.rs"]
mod entry;
#[path = "lanes/facts.rs"]
mod facts;
#[path = "lanes/frameworks.rs"]
mod frameworks;
#[path = "lanes/gateway.rs"]
mod gateway;
#[path = "lanes/grpc.rs"]
mod grpc;
#[path = "lanes/guard.rs"]
mod guard;
#[path = "lanes/hops.rs"]
mod hops;
#[path = "lanes/interleavings.rs"]
mod interleavings;
#[path = "lanes/late.rs"]
mod late;
#[path = "lanes/link.rs"]
mod link;
#[path = "lanes/silent.rs"]
mod silent;
#[path = "lanes/spoofing.rs"]
mod spoofing;
#[path = "lanes/stacks.rs"]
mod stacks;
#[path = "lanes/stages.rs"]
mod stages;
#[path = "lanes/streams.rs"]
mod streams;
#[path = "lanes/transitions.rs"]
mod transitions;
#[path = "lanes/unanimity.rs"]
mod unanimity;
#[path = "lanes/words.rs"]
mod words;
