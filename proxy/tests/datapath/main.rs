//! The data path over real sockets on loopback: one worker as the caller's sidecar, one as the callee's, with snapshots
//! made by hand and certificates made on the spot.

#[cfg(test)]
mod balance;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod endings;
#[cfg(test)]
mod entry;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod heads;
#[cfg(test)]
mod health;
#[cfg(test)]
mod http1;
#[cfg(test)]
mod http2;
#[cfg(test)]
mod lanes;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod linkerd;
#[cfg(test)]
mod linkerd_endpoints;
#[cfg(test)]
mod opaque;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod outlier;
mod queue;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod retries;
mod snapshots;
