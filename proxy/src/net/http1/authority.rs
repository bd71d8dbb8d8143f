//! `host [":" port]`, the syntax of Host and of the authority in a target (RFC 3986 3.2.2, 3.2.3; RFC 9110 7.2).

use std::net::Ipv6Addr;

use super::Malformed;

/// A checked authority: where its host ends, and its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Authority {
    /// Length of the host, brackets of an IPv6 address included.
    pub(super) host_len: u16,
    /// Port; `None` where none is written, also for `host:`.
    pub(super) port: Option<u16>,
}

/// Longest authority: a DNS name has 253 characters; room for escapes and port.
const AUTHORITY_MAX: usize = 1_024;

/// Checks an authority. An empty host is refused (RFC 9110 4.2.1).
pub(super) fn parse(text: &[u8]) -> Result<Authority, Malformed> {
    if text.contains(&b'@') {
        return Err(Malformed::Userinfo);
    }
    if text.len() > AUTHORITY_MAX {
        return Err(Malformed::Authority);
    }
    let host_len = if text.first() == Some(&b'[') {
        let close = text.iter().position(|byte| *byte == b']').ok_or(Malformed::Authority)?;
        let address = std::str::from_utf8(&text[1..close]).map_err(|_| Malformed::Authority)?;
        address.parse::<Ipv6Addr>().map_err(|_| Malformed::Authority)?;
        close + 1
    } else {
        let end = text.iter().position(|byte| *byte == b':').unwrap_or(text.len());
        is_registered_name(&text[..end]).then_some(end).ok_or(Malformed::Authority)?
    };
    let port = match text[host_len..].split_first() {
        None | Some((b':', [])) => None,
        Some((b':', digits)) => Some(port(digits)?),
        Some(_) => return Err(Malformed::Authority),
    };
    Ok(Authority { host_len: host_len as u16, port })
}

fn port(digits: &[u8]) -> Result<u16, Malformed> {
    if digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Malformed::Authority);
    }
    let number = digits.iter().fold(0_u32, |number, digit| number * 10 + u32::from(digit - b'0'));
    u16::try_from(number).map_err(|_| Malformed::Authority)
}

/// reg-name of RFC 3986 without the comma, by which two Host values could pose as one; escapes must be whole.
fn is_registered_name(name: &[u8]) -> bool {
    let allowed = |index: usize, byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => true,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=' => true,
        b'%' => name.get(index + 1..index + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)),
        _ => false,
    };
    !name.is_empty() && name.iter().enumerate().all(|(index, byte)| allowed(index, *byte))
}
