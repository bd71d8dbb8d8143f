//! What the controller says: `client` connects, `stream` subscribes, `snapshot` puts the answers together, `disk` keeps
//! the last good state.

pub mod client;
pub mod disk;
pub mod snapshot;
pub mod stream;
