//! Which protocol the first bytes of a connection speak, decided as soon as it can be and never earlier.

mod greeting;
mod hello;

pub use self::greeting::{GREETING_BYTES, Greeting, greeting};

/// Bytes after which detection gives up and calls the connection opaque; also what a peek buffer must hold.
/// A ClientHello with ML-KEM exceeds 1.2 KB, and its SNI may stand behind the key share.
pub const PREFIX_MAX: usize = 8_192;

/// Longest method that is taken for one, bytes; the longest registered with IANA has 17.
const METHOD_MAX: usize = 64;

/// What HTTP/2 begins with (RFC 9113 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a prefix says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Still a prefix of something known: read on (or give up at the timeout).
    More,
    /// An HTTP/1 request line.
    Http1,
    /// The HTTP/2 connection preface.
    Http2,
    /// A TLS ClientHello, with its server name in lower case if it has one.
    Tls {
        /// SNI host name.
        server_name: Option<String>,
    },
    /// Nothing known.
    Opaque,
}

/// Judges what has been read so far. Adding bytes never changes a verdict other than [`Verdict::More`].
pub fn detect(prefix: &[u8]) -> Verdict {
    let seen = &prefix[..prefix.len().min(PREFIX_MAX)];
    let verdict = match seen.first() {
        None => Verdict::More,
        Some(&hello::HANDSHAKE_RECORD) => hello::judge(seen),
        Some(_) => http(seen),
    };
    if verdict == Verdict::More && seen.len() == PREFIX_MAX { give_up(seen) } else { verdict }
}

/// A method and a space with a first line that does not end is a long request target: passed on as bytes it would escape
/// what routes deny. Everything else that is still undecided is nothing known.
fn give_up(seen: &[u8]) -> Verdict {
    let line = seen.trim_ascii_start();
    let method = line.iter().position(|byte| !is_token(*byte)).unwrap_or(0);
    let is_request = (1..=METHOD_MAX).contains(&method) && is_space(line[method]);
    if is_request { Verdict::Http1 } else { Verdict::Opaque }
}

/// Judges what came until its time was over. A method and the begin of a target are a request, however slowly it comes: a
/// server would read it as one, with fields that only the mesh may set.
pub fn if_no_more(prefix: &[u8]) -> Verdict {
    let line = prefix.trim_ascii_start();
    let method = line.iter().position(|byte| !is_token(*byte)).unwrap_or(line.len());
    let target = line[method..].trim_ascii_start();
    let begins = [&b"/"[..], b"*", b"http:", b"https:"].iter().any(|begin| target.starts_with(begin));
    let is_request = (1..=METHOD_MAX).contains(&method) && target.len() < line.len() - method && begins;
    if is_request { Verdict::Http1 } else { Verdict::Opaque }
}

fn http(seen: &[u8]) -> Verdict {
    if HTTP2_PREFACE.starts_with(seen) {
        return if seen.len() == HTTP2_PREFACE.len() { Verdict::Http2 } else { Verdict::More };
    }
    if seen.starts_with(HTTP2_PREFACE) { Verdict::Http2 } else { http1(seen) }
}

/// A first line of the form `token … HTTP/<digit>`. Deliberately wider than the grammar: whatever a lenient server might
/// read as a request must be judged (and refused) as HTTP here, and not slip by as opaque bytes.
fn http1(seen: &[u8]) -> Verdict {
    let Some(start) = seen.iter().position(|byte| !matches!(byte, b'\r' | b'\n')) else {
        return Verdict::More;
    };
    let line = &seen[start..];
    let Some(method) = line.iter().position(|byte| !is_token(*byte)) else {
        return if line.len() <= METHOD_MAX { Verdict::More } else { Verdict::Opaque };
    };
    if method == 0 || method > METHOD_MAX || !is_space(line[method]) {
        return Verdict::Opaque;
    }
    let rest = &line[method..];
    let end = rest.iter().position(|byte| *byte == b'\n');
    let rest = &rest[..end.unwrap_or(rest.len())];
    match (rest.windows(7).any(is_version), end) {
        (true, _) => Verdict::Http1,
        (false, Some(_)) => Verdict::Opaque,
        (false, None) => Verdict::More,
    }
}

fn is_version(window: &[u8]) -> bool {
    is_space(window[0]) && window[1..6].eq_ignore_ascii_case(b"HTTP/") && window[6].is_ascii_digit()
}

/// White space between the parts of a request line: SP, and what lenient servers take for it (RFC 9112 3).
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | 0x0b | 0x0c | b'\r')
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn first_bytes_name_their_protocol() {
        let cases: &[(&[u8], Verdict)] = &[
            (b"", Verdict::More),
            (b"G", Verdict::More),
            (b"GET", Verdict::More),
            (b"GET / HTTP/", Verdict::More),
            (b"GET / HTTP/1", Verdict::Http1),
            (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", Verdict::Http1),
            (b"\r\nGET / HTTP/1.0\r\n", Verdict::Http1),
            (b"PROPFIND http://a/b HTTP/1.1\r\n", Verdict::Http1),
            (b"M-SEARCH * HTTP/1.1\r\n", Verdict::Http1),
            (b"GET /a b HTTP/1.1\r\n", Verdict::Http1),
            (b"GET\t/ HTTP/1.1\r\n", Verdict::Http1),
            (b"get foo\r\n", Verdict::Opaque),
            (b"PING\r\n", Verdict::Opaque),
            (b"*1\r\n$4\r\nPING\r\n", Verdict::Opaque),
            (b"PRI", Verdict::More),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", Verdict::More),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0", Verdict::Http2),
            (b"PRI * HTTP/2.0\r\n\r\nXX", Verdict::Http1),
            (b"\0\0\0\x08\x04\xd2\x16\x2f", Verdict::Opaque),
            (b"\x80", Verdict::Opaque),
            (b" GET / HTTP/1.1", Verdict::Opaque),
        ];
        for (bytes, expected) in cases {
            assert_eq!(&detect(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn request_that_has_begun_is_one_when_no_more_comes() {
        let cases = [
            ("GET /", Verdict::Http1),
            ("\r\nGET http://a", Verdict::Http1),
            ("OPTIONS *", Verdict::Http1),
            ("GET", Verdict::Opaque),
            ("GET/", Verdict::Opaque),
            ("SET a b", Verdict::Opaque),
            ("", Verdict::Opaque),
        ];
        for (text, expected) in cases {
            assert_eq!(if_no_more(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn endless_request_target_is_http_and_not_bytes() {
        let mut line = b"GET /".to_vec();
        line.resize(PREFIX_MAX - 1, b'a');
        assert_eq!(detect(&line), Verdict::More);
        line.push(b'a');
        assert_eq!(detect(&line), Verdict::Http1);
        line.extend_from_slice(b" HTTP/1.1");
        assert_eq!(detect(&line), Verdict::Http1);
    }

    #[test]
    fn endless_prefix_of_nothing_known_becomes_opaque() {
        assert_eq!(detect(&[b'A'; METHOD_MAX + 1]), Verdict::Opaque);
        assert_eq!(detect(&[b'\n'; PREFIX_MAX]), Verdict::Opaque);
    }

    fn beginnings() -> impl Strategy<Value = Vec<u8>> {
        let near_http = "[\r\n]{0,2}[A-Z !/*]{0,12}( |\t)?[a-z/ ]{0,9}( HTTP/[0-9.]{0,3})?(\r\n)?";
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            near_http.prop_map(String::into_bytes),
            Just(HTTP2_PREFACE.to_vec()),
            hello::tests::hellos(),
        ]
    }

    proptest! {
        #[test]
        fn no_verdict_changes_with_more_bytes(bytes in beginnings(), tail in prop::collection::vec(any::<u8>(), 0..40)) {
            let whole: Vec<u8> = bytes.iter().chain(&tail).copied().collect();
            let mut settled: Option<Verdict> = None;
            for end in 0..=whole.len() {
                let verdict = detect(&whole[..end]);
                if let Some(settled) = &settled {
                    prop_assert_eq!(settled, &verdict);
                } else if verdict != Verdict::More {
                    settled = Some(verdict);
                }
            }
        }
    }
}
