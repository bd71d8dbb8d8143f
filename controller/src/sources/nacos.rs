//! The source Nacos: what applications registered with a Nacos server, and policy from its configurations.

pub mod policies;
pub mod register;
pub mod settings;
pub mod wire;
