//! A controller in this process, asked by gRPC clients over mutual TLS as proxies ask it.

#[cfg(test)]
mod console;
#[cfg(test)]
mod discovery;
#[cfg(test)]
mod guard;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod health;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod lanes;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod mesh;
#[cfg(test)]
mod models;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod scale;
#[cfg(test)]
mod source;
#[cfg(test)]
mod stock;
