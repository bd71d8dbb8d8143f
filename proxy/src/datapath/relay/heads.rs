//! Heads written for the next hop, from either protocol to either.

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, uri};
use mesh_core::{
    fields::Fields,
    relay::{Passage, nominated, takes_trailers},
};

use super::{Http2ResponseHead, ResponseHead};
use crate::{
    datapath::{
        lane::Edit,
        message::{Http2Head, RequestHead, http2_target},
    },
    net::http1::{self, Framing, Persistence, RequestPlan, ResponsePlan},
};

/// Fields that are appended to a request without a list of them being made: more than it mostly gets.
const FEW: usize = 12;

/// Writes a request for an HTTP/1 upstream.
pub(super) fn request_to_http1(out: &mut BytesMut, head: &RequestHead, framing: Framing, edit: &Edit<'_>) {
    match head {
        RequestHead::Http1(head) => {
            let mut few = [("", &b""[..]); FEW];
            let count = few.iter_mut().zip(edit.extra()).map(|(place, field)| *place = field).count();
            let many: Vec<(&str, &[u8])> = if count < FEW { Vec::new() } else { edit.extra().collect() };
            let extra = if many.is_empty() { &few[..count] } else { &many };
            let plan = RequestPlan { target: None, host: None, framing, persistence: Persistence::Keep, extra };
            http1::write_request_head(out, head, &plan, |name| edit.passage(name));
        }
        RequestHead::Http2(head) => {
            let target = match &head.method {
                &Method::CONNECT => head.authority.as_str(),
                _ => head.uri.path_and_query().map_or("/", uri::PathAndQuery::as_str),
            };
            http1::write_request_line(out, head.method.as_str(), target);
            http1::write_field(out, "host", head.authority.as_bytes());
            for (name, value) in &head.headers.0 {
                let is_ours = matches!(name.as_str(), "host" | "content-length" | "cookie");
                if !is_ours && edit.passage(name.as_str().as_bytes()) == Passage::Keep {
                    http1::write_field(out, name.as_str(), value.as_bytes());
                }
            }
            write_cookie(out, &head.headers.0, edit);
            if takes_trailers(&head.headers) {
                http1::write_field(out, "te", b"trailers");
                http1::write_field(out, "connection", b"te");
            }
            http1::write_framing(out, framing);
            for (name, value) in edit.extra() {
                http1::write_field(out, name, value);
            }
            http1::end_head(out);
        }
    }
}

/// HTTP/2 may cut the one Cookie field of a request into crumbs (RFC 9113 8.2.3).
fn write_cookie(out: &mut BytesMut, headers: &HeaderMap, edit: &Edit<'_>) {
    let crumbs: Vec<&[u8]> = headers.get_all(http::header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if !crumbs.is_empty() && edit.passage(b"cookie") == Passage::Keep {
        http1::write_field(out, "cookie", &crumbs.join(&b"; "[..]));
    }
}

/// How an HTTP/1 upstream learns where the body of a request ends.
pub(super) fn request_framing(head: &RequestHead, is_bodiless: bool) -> Framing {
    match head {
        RequestHead::Http1(head) => head.framing(),
        RequestHead::Http2(head) => match content_length(&head.headers) {
            Some(length) => Framing::Length(length),
            None if is_bodiless => Framing::Empty,
            None => Framing::Chunked,
        },
    }
}

fn content_length(headers: &dyn Fields) -> Option<u64> {
    std::str::from_utf8(headers.first("content-length")?).ok()?.parse().ok()
}

/// A request for an HTTP/2 upstream; `None` where it has no form in HTTP/2.
pub(super) fn request_to_http2(head: &RequestHead, edit: &Edit<'_>) -> Option<Request<()>> {
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_2;
    match head {
        RequestHead::Http1(head) => {
            *request.method_mut() = Method::from_bytes(head.method().as_bytes()).ok()?;
            *request.uri_mut() = http2_target(head, edit.scheme())?;
            copy_from_http1(request.headers_mut(), head, head, edit);
            // Only an HTTP/1.0 client's comes here, and that means nothing (RFC 9110 10.1.1).
            request.headers_mut().remove(http::header::EXPECT);
        }
        RequestHead::Http2(head) => {
            let Http2Head { method, uri, headers, protocol, .. } = head.as_ref();
            *request.method_mut() = method.clone();
            *request.uri_mut() = uri.clone();
            if let Some(protocol) = protocol {
                request.extensions_mut().insert(protocol.clone());
            }
            copy_from_http2(request.headers_mut(), &headers.0, edit);
        }
    }
    if takes_trailers(head.fields()) {
        request.headers_mut().insert(http::header::TE, HeaderValue::from_static("trailers"));
    }
    append_extra(request.headers_mut(), edit);
    Some(request)
}

fn copy_from_http1(to: &mut HeaderMap, table: &http1::FieldTable, fields: &dyn Fields, edit: &Edit<'_>) {
    let mut options: Vec<&[u8]> = Vec::new();
    fields.each("connection", &mut |value| {
        options.extend(value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii));
    });
    for (name, value) in table.iter() {
        let is_nominated =
            options.iter().any(|option| option.eq_ignore_ascii_case(name)) && nominated(name, &[]) == Passage::HopByHop;
        if is_nominated || name.eq_ignore_ascii_case(b"host") || edit.passage(name) != Passage::Keep {
            continue;
        }
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            to.append(name, value);
        }
    }
}

fn copy_from_http2(to: &mut HeaderMap, from: &HeaderMap, edit: &Edit<'_>) {
    to.reserve(from.len() + edit.extra().count());
    for (name, value) in from {
        if name != http::header::HOST && edit.passage(name.as_str().as_bytes()) == Passage::Keep {
            to.append(name.clone(), value.clone());
        }
    }
}

fn append_extra(to: &mut HeaderMap, edit: &Edit<'_>) {
    for (name, value) in edit.extra() {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value)) {
            to.append(name, value);
        }
    }
}

/// Writes a response for an HTTP/1 client.
pub(super) fn response_to_http1(out: &mut BytesMut, head: &ResponseHead, plan: &ResponsePlan<'_>, edit: &Edit<'_>) {
    let extra: Vec<(&str, &[u8])> = edit.extra().collect();
    let plan = ResponsePlan { extra: &extra, ..*plan };
    match head {
        ResponseHead::Http1(head) => http1::write_response_head(out, head, &plan, |name| edit.passage(name)),
        ResponseHead::Http2(head) => {
            let reason = StatusCode::from_u16(head.status).ok().and_then(|status| status.canonical_reason());
            http1::write_status_line(out, head.status, reason.unwrap_or_default().as_bytes());
            // What a GET would have answered (RFC 9110 8.6).
            let declares = plan.framing == Framing::Empty && head.status >= 200 && head.status != 204;
            let declared = content_length(&head.headers).filter(|_| declares).map(Framing::Length);
            for (name, value) in &head.headers.0 {
                let is_ours = name == http::header::CONTENT_LENGTH
                    || (name == http::header::TRAILER && plan.framing != Framing::Chunked);
                if !is_ours && edit.passage(name.as_str().as_bytes()) == Passage::Keep {
                    http1::write_field(out, name.as_str(), value.as_bytes());
                }
            }
            http1::write_framing(out, declared.unwrap_or(plan.framing));
            http1::write_connection(out, plan.persistence, plan.client);
            for (name, value) in extra {
                http1::write_field(out, name, value);
            }
            http1::end_head(out);
        }
    }
}

/// How an HTTP/1 client learns where the body of a response ends.
pub(super) fn response_framing(head: &ResponseHead, asked: http1::Asked) -> Framing {
    match head {
        ResponseHead::Http1(head) => head.framing(),
        ResponseHead::Http2(head) => match (head.status, asked) {
            (200..300, http1::Asked::Connect) => Framing::Tunnel,
            (100..200 | 204 | 304, _) | (_, http1::Asked::Head) => Framing::Empty,
            _ => match content_length(&head.headers) {
                Some(length) => Framing::Length(length),
                None if head.is_end => Framing::Length(0),
                None => Framing::Chunked,
            },
        },
    }
}

/// A response for an HTTP/2 client.
pub(super) fn response_to_http2(head: &ResponseHead, edit: &Edit<'_>) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.version_mut() = Version::HTTP_2;
    *response.status_mut() = StatusCode::from_u16(head.status()).ok()?;
    match head {
        ResponseHead::Http1(head) => {
            copy_from_http1(response.headers_mut(), head, head, edit);
            if let Framing::Length(length) = head.framing() {
                response.headers_mut().insert(http::header::CONTENT_LENGTH, length.into());
            }
        }
        ResponseHead::Http2(Http2ResponseHead { headers, .. }) => {
            copy_from_http2(response.headers_mut(), &headers.0, edit);
        }
    }
    append_extra(response.headers_mut(), edit);
    Some(response)
}

/// Writes the end of a chunked body.
pub(super) fn last_chunk(out: &mut BytesMut, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        http1::write_field(out, name.as_str(), value.as_bytes());
    }
    http1::end_head(out);
}

/// Trailers of HTTP/1 as both protocols write them.
pub(super) fn trailers(trailers: &http1::Trailers) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in trailers.iter() {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            map.append(name, value);
        }
    }
    map
}
