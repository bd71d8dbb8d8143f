//! HTTP/2 frames written by hand (RFC 9113 4, RFC 7541): what no library would send.

/// Bytes of a body.
pub const DATA: u8 = 0;
/// Head or trailers.
pub const HEADERS: u8 = 1;
/// Relation to other streams.
pub const PRIORITY: u8 = 2;
/// A stream is given up.
pub const RST_STREAM: u8 = 3;
/// Settings.
pub const SETTINGS: u8 = 4;
/// Asks whether somebody is there.
pub const PING: u8 = 6;
/// No stream follows.
pub const GOAWAY: u8 = 7;
/// More may be sent.
pub const WINDOW_UPDATE: u8 = 8;
/// More of a header block.
pub const CONTINUATION: u8 = 9;
/// Flag: the last frame of the stream.
pub const END_STREAM: u8 = 1;
/// Flag: the last frame of the header block.
pub const END_HEADERS: u8 = 4;
/// Setting: bytes of each stream that may be sent before more are allowed.
pub const INITIAL_WINDOW_SIZE: u16 = 4;

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A length or index whose first byte has so many bits for it, under these others (RFC 7541 5.1).
fn integer(first: u8, bits: u32, number: usize) -> Vec<u8> {
    let most = (1 << bits) - 1;
    if number < most {
        return vec![first | number as u8];
    }
    let mut bytes = vec![first | most as u8];
    let mut rest = number - most;
    while rest >= 128 {
        bytes.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    bytes.push(rest as u8);
    bytes
}

fn literal(first: u8, name: &str, value: &str) -> Vec<u8> {
    let texts = [name, value].map(|text| [&integer(0, 7, text.len())[..], text.as_bytes()].concat());
    [&[first][..], &texts.concat()].concat()
}

/// A field as literal without indexing and without Huffman coding (RFC 7541 6.2.2).
pub fn field(name: &str, value: &str) -> Vec<u8> {
    literal(0, name, value)
}

/// A field that is kept in the table of the other side, without Huffman coding (RFC 7541 6.2.1).
pub fn kept_field(name: &str, value: &str) -> Vec<u8> {
    literal(0x40, name, value)
}

/// A field out of the tables; the one kept last has index 62 (RFC 7541 6.1).
pub fn indexed(index: usize) -> Vec<u8> {
    integer(0x80, 7, index)
}

/// A header block of such fields.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// What a client says first.
pub fn opening() -> Vec<u8> {
    opening_with(&[])
}

/// As [`opening`], with settings.
pub fn opening_with(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let pairs = settings.iter().flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat());
    bytes.extend(frame(SETTINGS, 0, 0, &pairs.collect::<Vec<u8>>()));
    bytes
}
