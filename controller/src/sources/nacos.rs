//! The source Nacos: what applications registered with a Nacos server, and policy from its configurations.

mod labels;
mod namespace;
pub mod policies;
pub mod register;
mod scan;
pub mod settings;
pub mod source;
pub mod start;
pub mod table;
mod wants;
mod watched;
pub mod wire;
