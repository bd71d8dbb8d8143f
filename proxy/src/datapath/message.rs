//! A request as the steps see it, whatever protocol brought it.

use std::fmt;

use http::{HeaderMap, Method, Uri};
use mesh_core::{fields::Fields, reach::Form, route::RequestParts};

use crate::net::http1;

/// Head of a request.
#[derive(Debug)]
pub enum RequestHead {
    /// HTTP/1.
    Http1(http1::RequestHead),
    /// HTTP/2.
    Http2(Box<Http2Head>),
}

/// Head of an HTTP/2 request that passed the checks of RFC 9113 8.3.
#[derive(Debug)]
pub struct Http2Head {
    /// Method.
    pub method: Method,
    /// Scheme, authority and path.
    pub uri: Uri,
    /// Fields.
    pub headers: Headers,
    /// `host[:port]`: `:authority`, or Host where there is none; empty where neither is.
    pub authority: String,
    /// Protocol of an extended CONNECT (RFC 8441).
    pub protocol: Option<h2::ext::Protocol>,
}

/// Fields of an HTTP/2 message, as decisions see them.
#[derive(Debug, Default)]
pub struct Headers(pub HeaderMap);

impl Fields for Headers {
    fn each<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8])) {
        for value in self.0.get_all(name) {
            visit(value.as_bytes());
        }
    }
}

impl Headers {
    /// Length of these fields in a head of HTTP/1, bytes.
    fn length(&self) -> usize {
        const MARKS: usize = ": \r\n".len();
        self.0.iter().map(|(name, value)| name.as_str().len() + value.len() + MARKS).sum()
    }

    /// Why the head that they stand in is too long, beside so many bytes of its first line; `None` = it is not. Both
    /// protocols have one limit, so it is measured as HTTP/1 would write it.
    pub fn too_long(&self, first_line: usize, limits: http1::HeadLimits) -> Option<String> {
        let (length, limit) = (first_line + self.length(), limits.bytes());
        (length > limit).then(|| format!("the head is of {length} bytes; at most {limit} are taken"))
    }
}

impl Http2Head {
    /// Why it is too long; `None` = it is not.
    pub fn too_long(&self, limits: http1::HeadLimits) -> Option<String> {
        const MARKS: usize = "  HTTP/1.1\r\nhost: \r\n\r\n".len();
        let path = self.uri.path_and_query().map_or(1, |path| path.as_str().len());
        self.headers.too_long(self.method.as_str().len() + path + self.authority.len() + MARKS, limits)
    }
}

impl RequestHead {
    /// Method.
    pub fn method(&self) -> &str {
        match self {
            RequestHead::Http1(head) => head.method(),
            RequestHead::Http2(head) => head.method.as_str(),
        }
    }

    /// `host[:port]` that the request is for; empty where the client named none.
    pub fn authority(&self) -> &str {
        match self {
            RequestHead::Http1(head) => head.authority().unwrap_or_default(),
            RequestHead::Http2(head) => &head.authority,
        }
    }

    /// Host without port, brackets of an IPv6 address included, and port.
    pub fn host_and_port(&self) -> (&str, Option<u16>) {
        match self {
            RequestHead::Http1(head) => (head.host().unwrap_or_default(), head.port()),
            RequestHead::Http2(head) => split_authority(&head.authority),
        }
    }

    /// Path without query.
    pub fn path(&self) -> &str {
        match self {
            RequestHead::Http1(head) => head.path(),
            RequestHead::Http2(head) => head.uri.path(),
        }
    }

    /// Query without `?`.
    pub fn query(&self) -> Option<&str> {
        match self {
            RequestHead::Http1(head) => head.query(),
            RequestHead::Http2(head) => head.uri.query(),
        }
    }

    /// Fields.
    pub fn fields(&self) -> &dyn Fields {
        match self {
            RequestHead::Http1(head) => head,
            RequestHead::Http2(head) => &head.headers,
        }
    }

    /// What routing sees.
    pub fn parts(&self) -> RequestParts<'_> {
        RequestParts {
            method: self.method(),
            host: self.host_and_port().0,
            path: self.path(),
            query: self.query(),
            fields: self.fields(),
        }
    }

    /// Which versions of HTTP can carry it.
    pub fn form(&self) -> Form {
        match self {
            RequestHead::Http1(head) => {
                let only = head.upgrade().is_some()
                    || head.expects_continue()
                    || http2_target(head, &http::uri::Scheme::HTTP).is_none();
                if only { Form::Http1Only } else { Form::Either }
            }
            RequestHead::Http2(_) => Form::Either,
        }
    }

    /// Whether it is a gRPC call: errors are answered with `grpc-status`.
    pub fn is_grpc(&self) -> bool {
        is_grpc(self.fields().first("content-type").unwrap_or_default())
    }
}

/// Whether a media type is gRPC's.
pub fn is_grpc(media: &[u8]) -> bool {
    media.get(..16).is_some_and(|start| start.eq_ignore_ascii_case(b"application/grpc"))
        && matches!(media.get(16), None | Some(b'+' | b';' | b' '))
}

/// Path with query, for logs.
impl fmt::Display for RequestHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path())?;
        match self.query() {
            Some(query) => write!(f, "?{query}"),
            None => Ok(()),
        }
    }
}

/// Target of an HTTP/1 request as HTTP/2 has it (RFC 9113 8.3.1); `None` where there is no such form.
pub fn http2_target(head: &http1::RequestHead, scheme: &http::uri::Scheme) -> Option<Uri> {
    if head.target_form() == http1::TargetForm::Authority {
        return None;
    }
    let target = head.origin_target().concat();
    Uri::builder().scheme(scheme.clone()).authority(head.authority()?).path_and_query(target).build().ok()
}

/// Splits `host[:port]`; a port that is no number is none.
pub fn split_authority(authority: &str) -> (&str, Option<u16>) {
    let after_brackets = authority.rfind(']').map_or(0, |end| end + 1);
    match authority[after_brackets..].rfind(':') {
        Some(colon) => {
            let colon = after_brackets + colon;
            (&authority[..colon], authority[colon + 1..].parse().ok())
        }
        None => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authority_is_split_at_the_colon_of_the_port_only() {
        let cases = [
            ("b:80", ("b", Some(80))),
            ("b", ("b", None)),
            ("[::1]:80", ("[::1]", Some(80))),
            ("[::1]", ("[::1]", None)),
            ("b:", ("b", None)),
            ("", ("", None)),
        ];
        for (text, expected) in cases {
            assert_eq!(split_authority(text), expected, "{text}");
        }
    }
}
