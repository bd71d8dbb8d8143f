//! Which protocol the first bytes of a connection speak, decided as soon as it can be and never earlier.

/// Bytes after which detection gives up and calls the connection opaque; also what a peek buffer must hold.
/// A ClientHello with ML-KEM exceeds 1.2 KB, and its SNI may stand behind the key share.
pub const PREFIX_MAX: usize = 8_192;

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
    let _ = prefix;
    unimplemented_yet()
}

fn unimplemented_yet() -> Verdict {
    Verdict::Opaque
}
