//! What proxies and controller compute with: services, endpoints, routes, policies, lanes. Everything here was parsed
//! and checked at the border; an invalid value cannot exist.

pub mod endpoint;
pub mod lane;
pub mod model_route;
pub mod policy;
pub mod route;
pub mod service;
