//! Answers that the mesh makes itself: problem details (RFC 9457), or `grpc-status` for gRPC.

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Response, StatusCode};
use mesh_core::{names, outcome::Outcome};

use super::{
    message::RequestHead,
    relay::{Downstream, Part},
};
use crate::net::http1::{self, Framing, Persistence};

/// Longest text of a gRPC message or of a problem's detail, bytes.
const DETAIL_MAX: usize = 1_024;

/// An answer of our own.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `x-mesh-error`, and the status for gRPC.
    pub outcome: Outcome,
    /// Text for people.
    pub detail: String,
    /// Target of a redirect.
    pub location: Option<String>,
    /// Further fields.
    pub told: Vec<(&'static str, String)>,
    /// Field that tells mesh peers of this proxy.
    pub mark: Option<(&'static str, &'static [u8])>,
}

impl Answer {
    /// The answer to an exchange that ended like this. `None` where there is nobody to answer.
    pub fn new(outcome: Outcome, status: Option<u16>, detail: &str) -> Option<Self> {
        let status = status.unwrap_or(outcome.status());
        (status != 0 && outcome != Outcome::ClientGone).then(|| Answer {
            status,
            outcome,
            detail: detail.chars().take(DETAIL_MAX).collect(),
            location: None,
            told: Vec::new(),
            mark: None,
        })
    }

    /// The same answer with a field that tells mesh peers of this proxy.
    pub fn marked(self, mark: Option<(&'static str, &'static [u8])>) -> Self {
        Answer { mark, ..self }
    }

    fn body(&self) -> String {
        let title = StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason());
        serde_json::json!({
            "type": "about:blank",
            "title": title.unwrap_or("Error"),
            "status": self.status,
            "detail": self.detail,
            "outcome": self.outcome.label(),
        })
        .to_string()
    }

    fn fields(&self, grpc: Style) -> Vec<(&'static str, String)> {
        let mut fields = Vec::new();
        if self.outcome != Outcome::Filtered {
            fields.push((names::ERROR_HEADER, self.outcome.label().to_owned()));
            // What Linkerd's proxies and tools look for.
            fields.push((names::PROXY_ERROR_HEADER, percent_encoded(&self.detail)));
        }
        match grpc {
            Style::Grpc => {
                fields.push(("content-type", "application/grpc".to_owned()));
                fields.push(("grpc-status", self.outcome.grpc_status().to_string()));
                fields.push(("grpc-message", percent_encoded(&self.detail)));
            }
            Style::Problem => fields.push(("content-type", "application/problem+json".to_owned())),
        }
        if let Some((name, value)) = self.mark {
            fields.push((name, String::from_utf8_lossy(value).into_owned()));
        }
        if let Some(location) = &self.location {
            fields.push(("location", location.clone()));
        }
        fields.extend(self.told.iter().cloned());
        fields
    }

    /// Gives the answer to the client; it is sent by the next flush.
    pub fn give(&self, down: &mut Downstream<'_>, head: Option<&RequestHead>) {
        let style = if head.is_some_and(RequestHead::is_grpc) { Style::Grpc } else { Style::Problem };
        let body = if style == Style::Grpc { String::new() } else { self.body() };
        let has_no_body = head.is_some_and(|head| head.method() == "HEAD");
        match down {
            Downstream::Http1(side) => {
                if !side.has_whole_request() {
                    side.close_after();
                }
                side.begun_by_us();
                let (persistence, version) = (side.persistence(), side.version());
                self.write(side.wire.out(), style, &body, persistence, version);
                if !has_no_body {
                    side.wire.push(Bytes::from(body));
                }
            }
            Downstream::Http2(side) => {
                let status = if style == Style::Grpc { 200 } else { self.status };
                let mut response = Response::new(());
                *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
                for (name, value) in self.fields(style) {
                    if let Ok(value) = HeaderValue::try_from(value) {
                        response.headers_mut().insert(name, value);
                    }
                }
                if style == Style::Problem {
                    response.headers_mut().insert(http::header::CONTENT_LENGTH, body.len().into());
                }
                let end = body.is_empty() || has_no_body;
                // A client that is gone needs no answer.
                let begun = side.respond(response, end).is_ok();
                if begun && !end {
                    let _ = down.part(Part::Data(body.into(), super::relay::Last::Yes));
                }
            }
            // An attempt at a model's target is answered by its failure.
            Downstream::Inner(_) => {}
        }
    }

    fn write(&self, out: &mut BytesMut, style: Style, body: &str, persistence: Persistence, version: http1::Version) {
        let status = if style == Style::Grpc { 200 } else { self.status };
        let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        http1::write_status_line(out, status, reason.unwrap_or_default().as_bytes());
        for (name, value) in self.fields(style) {
            http1::write_field(out, name, value.as_bytes());
        }
        http1::write_framing(out, Framing::Length(body.len() as u64));
        http1::write_connection(out, persistence, version);
        http1::end_head(out);
    }

    /// The answer as bytes, for a request whose head could not be read.
    pub fn to_bytes(&self) -> BytesMut {
        let mut out = BytesMut::new();
        let body = self.body();
        self.write(&mut out, Style::Problem, &body, Persistence::Close, http1::Version::Http11);
        out.extend_from_slice(body.as_bytes());
        out
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Problem,
    Grpc,
}

/// Text as it may stand in a field, by gRPC's percent-encoding of messages: everything outside printable ASCII, and `%`.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | 0..=0x1f | 0x7f.. => encoded.push_str(&format!("%{byte:02X}")),
            _ => encoded.push(char::from(byte)),
        }
    }
    encoded
}
