//! What registries say about services, and what of it the mesh believes. Pure: the controller's sources do the IO, pass
//! in time and answers, and act on what is decided here.

pub mod dns;
pub mod nacos;
