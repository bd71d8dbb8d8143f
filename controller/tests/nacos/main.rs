//! The client of Nacos' protocol, against a server that misbehaves at will, and against real ones.

#[cfg(all(test, feature = "nacos-servers"))]
mod away;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod harness;
#[cfg(all(test, feature = "nacos-servers"))]
mod policies;
#[cfg(test)]
mod protocol;
#[cfg(all(test, feature = "nacos-servers"))]
mod registration;
#[cfg(all(test, feature = "nacos-servers"))]
mod servers;
