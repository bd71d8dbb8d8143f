//! Why a message is refused.

use thiserror::Error;

macro_rules! malformed {
    ($($(#[doc = $doc:expr])+ $name:ident = $label:literal, $status:literal, $text:literal;)+) => {
        /// A message that is wrong or ambiguous. Answer a request with [`Malformed::status`] and close; a response
        /// like this becomes a 502. Nothing of the connection's buffer may be read as another message.
        #[derive(Clone, Copy, Debug, Error, PartialEq, Eq, Hash)]
        pub enum Malformed {
            $($(#[doc = $doc])+ #[error($text)] $name,)+
        }

        impl Malformed {
            /// Every variant, in order of declaration.
            pub const ALL: &'static [Malformed] = &[$(Malformed::$name),+];

            /// Label for metrics and logs: snake case, bounded, never changes.
            pub fn label(self) -> &'static str {
                match self { $(Malformed::$name => $label),+ }
            }

            /// Status of the answer when a request is refused for this.
            pub fn status(self) -> u16 {
                match self { $(Malformed::$name => $status),+ }
            }
        }
    };
}

malformed! {
    /// Not `method SP target SP version CRLF` (RFC 9112 3).
    RequestLine = "request_line", 400, "the request line is not a method, a target and a version";
    /// Not `version SP status [SP reason] CRLF` (RFC 9112 4).
    StatusLine = "status_line", 400, "the status line is not a version and a status";
    /// Neither HTTP/1.0 nor HTTP/1.1 (RFC 9110 15.6.6).
    Version = "version", 505, "the version is neither HTTP/1.0 nor HTTP/1.1";
    /// A target that fits none of the four forms, or the method (RFC 9112 3.2).
    Target = "target", 400, "the target is not in a form that the method allows";
    /// A target with a fragment, which is never sent (RFC 9110 4.2.5, RFC 9112 3.2).
    TargetFragment = "target_fragment", 400, "the target holds a fragment";
    /// A target with bytes beyond ASCII (RFC 3986 2).
    TargetNotAscii = "target_not_ascii", 400, "the target holds bytes beyond ASCII";
    /// An authority that is no host with an optional port (RFC 3986 3.2).
    Authority = "authority", 400, "the authority is not a host with an optional port";
    /// User information in an authority (RFC 9110 4.2.4).
    Userinfo = "userinfo", 400, "the authority holds user information";
    /// HTTP/1.1 without Host (RFC 9112 3.2).
    HostMissing = "host_missing", 400, "the Host field is missing";
    /// More than one Host (RFC 9112 3.2).
    HostRepeated = "host_repeated", 400, "there is more than one Host field";
    /// A Host that is no host with an optional port (RFC 9112 3.2).
    HostInvalid = "host_invalid", 400, "the Host field is not a host with an optional port";
    /// A field name that is no token, is followed by whitespace, or a folded line (RFC 9112 5.1, 5.2).
    FieldName = "field_name", 400, "a field name is no token directly followed by a colon";
    /// A control character in a field value, or a folded line (RFC 9110 5.5, RFC 9112 5.2).
    FieldValue = "field_value", 400, "a field value holds a control character or is folded";
    /// CR without LF, or LF without CR (RFC 9112 2.2).
    LineBreak = "line_break", 400, "a line does not end in CRLF";
    /// More empty lines before a request than tolerated (RFC 9112 2.2).
    EmptyLines = "empty_lines", 400, "too many empty lines before the request line";
    /// Head longer than the limit (RFC 6585 5).
    HeadTooLarge = "head_too_large", 431, "the head is longer than the limit";
    /// More fields than the limit (RFC 6585 5).
    TooManyFields = "too_many_fields", 431, "the head has more fields than the limit";
    /// A Content-Length that is not one number below 2^64 (RFC 9112 6.3, rule 5).
    ContentLength = "content_length", 400, "the Content-Length is not one decimal number";
    /// More than one Content-Length, equal ones too (RFC 9110 8.6).
    ContentLengthRepeated = "content_length_repeated", 400, "there is more than one Content-Length";
    /// A Transfer-Encoding other than exactly one `chunked` (RFC 9112 6.3, rule 4).
    TransferEncoding = "transfer_encoding", 400, "the Transfer-Encoding does not end in one chunked";
    /// A transfer coding besides chunked (RFC 9112 6.1).
    TransferCoding = "transfer_coding", 501, "the Transfer-Encoding names a coding that is not understood";
    /// Content-Length beside Transfer-Encoding (RFC 9112 6.3, rule 3).
    LengthAndCoding = "length_and_coding", 400, "there are both Content-Length and Transfer-Encoding";
    /// Transfer-Encoding in an HTTP/1.0 message (RFC 9112 6.1).
    CodingTooOld = "coding_too_old", 400, "there is a Transfer-Encoding in an HTTP/1.0 message";
    /// A Connection field that is no list of tokens, is too long, or names a field that delimits or routes the message
    /// (RFC 9110 7.6.1).
    Connection = "connection", 400, "the Connection field is no list of connection options";
    /// An expectation other than 100-continue (RFC 9110 10.1.1).
    Expectation = "expectation", 417, "the Expect field is not 100-continue";
    /// A 101 that was not asked for or names no protocol (RFC 9110 7.8).
    Switch = "switch", 400, "a switch of protocols that was not asked for";
    /// An interim response that says it has a body (RFC 9110 8.6, RFC 9112 6.1).
    InterimBody = "interim_body", 400, "an interim response with a body";
    /// A chunk size that is not 1 to 16 hexadecimal digits (RFC 9112 7.1).
    ChunkSize = "chunk_size", 400, "a chunk size is not 1 to 16 hexadecimal digits";
    /// Chunk extensions beyond the limit or with control characters (RFC 9112 7.1.1).
    ChunkExtension = "chunk_extension", 400, "chunk extensions are too long or hold control characters";
    /// A chunk that is longer or shorter than its size said (RFC 9112 7.1).
    ChunkEnd = "chunk_end", 400, "a chunk does not end where its size says";
    /// Trailers beyond the limit (RFC 9112 7.1.2).
    TrailersTooLarge = "trailers_too_large", 431, "the trailers are longer than the limit";
}
