//! What a server says before its client has said anything.

/// Bytes of a server that are looked at: the header of a frame (RFC 9113 4.1).
pub const GREETING_BYTES: usize = 9;
/// One setting, bytes (RFC 9113 6.5.1).
const SETTING: u32 = 6;
/// Longest frame before anything else was agreed, bytes (RFC 9113 4.2).
const FRAME_MAX: u32 = 16_384;
/// Type of the frame that a server of HTTP/2 begins with; no flags, stream 0 (RFC 9113 3.4).
const SETTINGS: [u8; 6] = [4, 0, 0, 0, 0, 0];

/// What the first bytes of a server say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// An HTTP/2 server, which need not wait for its client: the client still says what it wants.
    Http2,
    /// A protocol in which the server speaks first. Also what is shorter than the header of a frame.
    ServerFirst,
}

/// Judges what a server said at once.
pub fn greeting(said: &[u8]) -> Greeting {
    let Some(([high, middle, low], rest)) = said.split_first_chunk() else { return Greeting::ServerFirst };
    let length = u32::from_be_bytes([0, *high, *middle, *low]);
    let is_settings = rest.starts_with(&SETTINGS) && length <= FRAME_MAX && length.is_multiple_of(SETTING);
    if is_settings { Greeting::Http2 } else { Greeting::ServerFirst }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_http2_and_banners_are_not() {
        use Greeting::{Http2, ServerFirst};
        let cases: &[(&[u8], Greeting)] = &[
            (b"\0\0\x0c\x04\0\0\0\0\0", Http2),
            (b"\0\0\0\x04\0\0\0\0\0\0\0\x04", Http2),
            (b"", ServerFirst),
            (b"\0\0\x0c\x04\0", ServerFirst),
            (b"\0\0\0\x04\x01\0\0\0\0", ServerFirst),
            (b"\0\0\x07\x04\0\0\0\0\0", ServerFirst),
            (b"\x01\0\x0c\x04\0\0\0\0\0", ServerFirst),
            (b"220 ready\r\n", ServerFirst),
            (b"J\0\0\0\x0a8.0.36\0", ServerFirst),
            (b"HTTP/1.1 408 Request Timeout\r\n", ServerFirst),
        ];
        for (said, expected) in cases {
            assert_eq!(greeting(said), *expected, "{said:?}");
        }
    }
}
