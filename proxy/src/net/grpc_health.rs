//! The two messages of grpc.health.v1 that are needed to ask a server how it is, framed as gRPC has them.

use bytes::Bytes;

/// Path of the call.
pub const PATH: &str = "/grpc.health.v1.Health/Check";
/// Longest name of a service, bytes.
pub const SERVICE_MAX: usize = 127;
/// `SERVING` as the only field of a `HealthCheckResponse`.
const SERVING: &[u8] = &[0x08, 1];
/// Compression flag and length before a message.
const PREFIX: usize = 5;

/// `HealthCheckRequest { service }`; the server as a whole where the name is empty, or longer than [`SERVICE_MAX`].
pub fn request(service: &str) -> Bytes {
    let mut message = Vec::new();
    if let Ok(length) = u8::try_from(service.len())
        && (1..=SERVICE_MAX).contains(&service.len())
    {
        message.extend_from_slice(&[0x0a, length]);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

/// Whether a framed answer says `SERVING`.
pub fn is_serving(answer: &[u8]) -> bool {
    answer.get(PREFIX..) == Some(SERVING)
}
