//! Reads the server name out of a TLS ClientHello (RFC 8446 4.1.2, RFC 6066 3) that may be spread over several records,
//! as far as it has arrived. Bounded, and never an index beyond what is there.

use super::Verdict;

/// Content type of a handshake record.
pub(super) const HANDSHAKE_RECORD: u8 = 22;
/// Message type of a ClientHello.
const CLIENT_HELLO: u8 = 1;
/// Extension that names the server.
const SERVER_NAME: u16 = 0;
/// Name type of a host name.
const HOST_NAME: u8 = 0;
/// Longest payload of a plaintext record (RFC 8446 5.1).
const RECORD_MAX: usize = 16_384;
/// Longest host name (RFC 1035).
const HOST_MAX: usize = 253;

/// Why reading stopped.
enum Stop {
    /// The bytes end before the message does.
    More,
    /// Not a ClientHello.
    Broken,
}

pub(super) fn judge(seen: &[u8]) -> Verdict {
    match handshake_bytes(seen).and_then(|(bytes, ends)| server_name(&bytes, ends)) {
        Ok(server_name) => Verdict::Tls { server_name },
        Err(Stop::More) => Verdict::More,
        Err(Stop::Broken) => Verdict::Opaque,
    }
}

/// How the handshake bytes that arrived end.
#[derive(Clone, Copy)]
enum Ends {
    /// More may come.
    Open,
    /// Something follows that is no handshake record.
    Broken,
}

/// Payloads of all handshake records that have arrived, joined.
fn handshake_bytes(mut seen: &[u8]) -> Result<(Vec<u8>, Ends), Stop> {
    let mut bytes = Vec::with_capacity(seen.len());
    loop {
        let header = match seen {
            [HANDSHAKE_RECORD, 3, 0..=4, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
            [] | [HANDSHAKE_RECORD] | [HANDSHAKE_RECORD, 3] | [HANDSHAKE_RECORD, 3, 0..=4] => break,
            [HANDSHAKE_RECORD, 3, 0..=4, _] => break,
            _ => return Ok((bytes, Ends::Broken)),
        };
        if header == 0 || header > RECORD_MAX {
            return Ok((bytes, Ends::Broken));
        }
        let payload = &seen[5..];
        let Some(rest) = payload.get(header..) else {
            bytes.extend_from_slice(payload);
            break;
        };
        bytes.extend_from_slice(&payload[..header]);
        seen = rest;
    }
    Ok((bytes, Ends::Open))
}

fn server_name(bytes: &[u8], ends: Ends) -> Result<Option<String>, Stop> {
    let mut message = Reader { rest: bytes, missing: usize::MAX, ends };
    if message.byte()? != CLIENT_HELLO {
        return Err(Stop::Broken);
    }
    let length = message.take(3)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let mut hello = message.part(length)?;
    if hello.byte()? != 3 {
        return Err(Stop::Broken);
    }
    hello.take(1 + 32)?;
    if hello.vector_u8()?.len() > 32 {
        return Err(Stop::Broken);
    }
    let suites = hello.length_u16()?;
    if suites < 2 || suites % 2 != 0 {
        return Err(Stop::Broken);
    }
    hello.take(suites)?;
    if hello.vector_u8()?.is_empty() {
        return Err(Stop::Broken);
    }
    if hello.is_at_end() {
        return Ok(None);
    }
    let length = hello.length_u16()?;
    let mut extensions = hello.part(length)?;
    while !extensions.is_at_end() {
        let kind = extensions.length_u16()?;
        let length = extensions.length_u16()?;
        let data = extensions.take(length)?;
        if kind == usize::from(SERVER_NAME) {
            return Ok(host_name(data));
        }
    }
    Ok(None)
}

/// The host name in the data of a server name extension; absent where it is malformed.
fn host_name(data: &[u8]) -> Option<String> {
    let (list, name) = (data.get(..2)?, data.get(5..)?);
    let (kind, length) = (*data.get(2)?, data.get(3..5)?);
    let whole = usize::from(u16::from_be_bytes([list[0], list[1]])) == data.len() - 2;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let name = name.get(..length)?;
    let good = whole && kind == HOST_NAME && (1..=HOST_MAX).contains(&length) && name.iter().all(allowed);
    good.then(|| name.iter().map(|byte| byte.to_ascii_lowercase() as char).collect())
}

/// Reads a part of the message of which `rest` has arrived and `missing` bytes may still come.
#[derive(Clone, Copy)]
struct Reader<'a> {
    rest: &'a [u8],
    missing: usize,
    ends: Ends,
}

impl<'a> Reader<'a> {
    /// The next `length` bytes.
    fn take(&mut self, length: usize) -> Result<&'a [u8], Stop> {
        match self.rest.split_at_checked(length) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None if length - self.rest.len() > self.missing => Err(Stop::Broken),
            None => Err(self.not_yet()),
        }
    }

    /// A reader of the next `length` bytes, of which some may be missing.
    fn part(&mut self, length: usize) -> Result<Reader<'a>, Stop> {
        let arrived = length.min(self.rest.len());
        let missing = length - arrived;
        if missing > self.missing {
            return Err(Stop::Broken);
        }
        Ok(Reader { rest: &self.rest[..arrived], missing, ends: self.ends })
    }

    fn not_yet(&self) -> Stop {
        match self.ends {
            Ends::Open => Stop::More,
            Ends::Broken => Stop::Broken,
        }
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn length_u16(&mut self) -> Result<usize, Stop> {
        self.take(2).map(|bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
    }

    fn vector_u8(&mut self) -> Result<&'a [u8], Stop> {
        let length = usize::from(self.byte()?);
        self.take(length)
    }

    fn is_at_end(&self) -> bool {
        self.rest.is_empty() && self.missing == 0
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::detect::detect;

    fn sized(bytes: &[u8]) -> Vec<u8> {
        [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
    }

    fn message(server_name: Option<&[u8]>, key_share: usize) -> Vec<u8> {
        let mut extensions = [&[0, 51][..], &sized(&vec![7; key_share])].concat();
        if let Some(name) = server_name {
            let entry = [&[0][..], &sized(name)].concat();
            extensions.extend([&[0, 0][..], &sized(&sized(&entry))].concat());
        }
        let mut body = [&[3, 3][..], &[9; 32], &[0], &sized(&[0x13, 1]), &[1, 0]].concat();
        body.extend(sized(&extensions));
        [&[CLIENT_HELLO, 0][..], &sized(&body)].concat()
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        message.chunks(size).flat_map(|part| [&[HANDSHAKE_RECORD, 3, 1][..], &sized(part)].concat()).collect()
    }

    pub(in crate::detect) fn hellos() -> impl Strategy<Value = Vec<u8>> {
        let parts = (prop::option::of("[a-zA-Z.]{0,12}"), 0..200_usize, 1..300_usize, any::<Option<(u8, u8)>>());
        parts.prop_map(|(name, key_share, size, damage)| {
            let mut bytes = records(&message(name.as_ref().map(|name| name.as_bytes()), key_share), size);
            if let Some((at, value)) = damage {
                let at = usize::from(at) % bytes.len();
                bytes[at] = value;
            }
            bytes
        })
    }

    #[test]
    fn server_name_is_found_behind_a_large_key_share_in_any_fragmentation() {
        let message = message(Some(b"Web.Demo.Svc"), 1_216);
        let expected = Verdict::Tls { server_name: Some("web.demo.svc".to_owned()) };
        for size in [1, 2, 5, 100, 16_384] {
            let bytes = records(&message, size);
            assert_eq!(detect(&bytes), expected, "records of {size}");
            assert_eq!(detect(&bytes[..bytes.len() - 1]), Verdict::More, "records of {size}");
        }
    }

    #[test]
    fn hello_without_usable_server_name_is_tls_without_one() {
        for name in [None, Some(&b""[..]), Some(b"a b"), Some(&[b'a'; 254])] {
            assert_eq!(detect(&records(&message(name, 10), 16_384)), Verdict::Tls { server_name: None }, "{name:?}");
        }
    }

    #[test]
    fn what_is_no_client_hello_is_opaque() {
        let cases: &[&[u8]] = &[
            &[22, 2],
            &[22, 3, 9],
            &[22, 3, 1, 0, 0],
            &[22, 3, 1, 0xff, 0xff],
            &[22, 3, 1, 0, 5, 2],
            &[22, 3, 1, 0, 5, 1, 0, 0, 1, 3],
            &[22, 3, 1, 0, 1, 1, 23, 3, 3],
        ];
        for bytes in cases {
            assert_eq!(detect(bytes), Verdict::Opaque, "{bytes:?}");
        }
    }
}
