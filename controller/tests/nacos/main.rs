//! The client of Nacos' protocol, against a server that misbehaves at will, and against real ones.

#[cfg(test)]
mod fake;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod protocol;
#[cfg(all(test, feature = "nacos-servers"))]
mod servers;
