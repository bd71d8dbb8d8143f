//! Which header fields cross a hop: hop-by-hop rules of RFC 9110 7.6.1, RFC 9112 and RFC 9113 8.2.2, and the fields
//! that only the mesh may set.

/// What to do with one field of a message on its way through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// Forward unchanged.
    Keep,
    /// Belongs to the connection: dropped (framing and Connection are written anew).
    HopByHop,
    /// Only the mesh may set it: dropped.
    Reserved,
    /// Carrier of a lane (or baggage): dropped and written anew.
    Lane,
}
