//! Connections of HTTP clients: request after request, or stream beside stream.

mod http1;
mod http2;

pub use self::{http1::http1, http2::http2};
