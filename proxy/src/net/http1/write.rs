//! Writes messages: forwarded heads by copying runs of unchanged fields, and the parts of heads and chunks that we make.
//!
//! What belongs to the connection (Connection, framing, Keep-Alive, TE, Upgrade) is decided here and written anew,
//! whatever the caller's filter says; everything else keeps its order and the case of its name.

use std::num::NonZeroUsize;

use bytes::{BufMut, BytesMut};
use mesh_core::relay::Passage;

use super::{
    Framing, Persistence, RequestHead, ResponseHead, Trailers, Version,
    fields::{Field, FieldTable, Kind},
};

/// How to forward a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestPlan<'a> {
    /// Target to write; `None` = as received, the absolute form turned into the origin form (RFC 9112 3.2.1).
    pub target: Option<&'a str>,
    /// Host to write; `None` = the request's own authority.
    pub host: Option<&'a str>,
    /// Framing of the body that will follow.
    pub framing: Framing,
    /// Whether we want to use the connection again.
    pub persistence: Persistence,
    /// Fields to append; values must hold neither CR, LF nor NUL.
    pub extra: &'a [(&'a str, &'a [u8])],
}

/// How to forward a response.
#[derive(Clone, Copy, Debug)]
pub struct ResponsePlan<'a> {
    /// Version of the client.
    pub client: Version,
    /// Framing of the body that will follow.
    pub framing: Framing,
    /// Whether the client's connection stays open.
    pub persistence: Persistence,
    /// Fields to append; values must hold neither CR, LF nor NUL.
    pub extra: &'a [(&'a str, &'a [u8])],
}

/// What becomes of one field line.
enum Line<'a> {
    Copy,
    Drop,
    Value(&'a [u8]),
}

/// Writes the head of a request that is forwarded: HTTP/1.1, but HTTP/1.0 where no Host is known. `passage` is asked
/// for every field that does not belong to the connection; only [`Passage::Keep`] crosses.
pub fn write_request_head(
    out: &mut BytesMut,
    head: &RequestHead,
    plan: &RequestPlan<'_>,
    mut passage: impl FnMut(&[u8]) -> Passage,
) {
    let table = head.table();
    let host = plan.host.or(head.authority());
    out.reserve(table.bytes.len() + ROOM);
    let target = plan.target.map_or_else(|| head.origin_target(), |target| ["", target]);
    for part in [head.method(), " ", target[0], target[1], if host.is_some() { HTTP_11 } else { HTTP_10 }] {
        out.put_slice(part.as_bytes());
    }
    if let Some(host) = host.filter(|_| table.of_kind(Kind::Host).is_none()) {
        write_field(out, "Host", host.as_bytes());
    }
    let mut digits = itoa::Buffer::new();
    let mut framing = framing_field(plan.framing, None, &mut digits);
    let upgrade = head.upgrade().is_some();
    copy_fields(out, table, |field| match field.kind {
        Kind::Other => keep(passage(table.slice(field.name))),
        Kind::Host => host.map_or(Line::Drop, |host| Line::Value(host.as_bytes())),
        Kind::ContentLength | Kind::TransferEncoding => match framing.take_if(|(kind, _)| *kind == field.kind) {
            Some((_, value)) => Line::Value(value),
            None => Line::Drop,
        },
        Kind::Te if head.te_trailers() => Line::Value(b"trailers"),
        Kind::Trailer if plan.framing == Framing::Chunked => Line::Copy,
        Kind::Upgrade if upgrade => Line::Copy,
        Kind::Expect if head.expects_continue() => Line::Copy,
        Kind::Te | Kind::Trailer | Kind::Upgrade | Kind::Expect => Line::Drop,
        Kind::Nominated | Kind::Connection | Kind::HopByHop => Line::Drop,
    });
    write_framing_field(out, framing);
    let close = (plan.persistence == Persistence::Close && !upgrade).then_some("close");
    let te = head.te_trailers().then_some("TE");
    write_options(out, [close, te, upgrade.then_some("upgrade")]);
    write_extra(out, plan.extra);
    end_head(out);
}

/// Writes the head of a response that is forwarded, interim ones too. `passage` as in [`write_request_head`].
pub fn write_response_head(
    out: &mut BytesMut,
    head: &ResponseHead,
    plan: &ResponsePlan<'_>,
    mut passage: impl FnMut(&[u8]) -> Passage,
) {
    let table = head.table();
    out.reserve(table.bytes.len() + ROOM);
    write_status_line(out, head.status(), head.reason());
    // A 426 says by Upgrade what it would rather speak (RFC 9110 15.5.22).
    let upgrade = head.status() == 101 || head.status() == 426;
    let declared = if plan.framing == Framing::Empty { head.declared_length() } else { None };
    let mut digits = itoa::Buffer::new();
    let mut framing = framing_field(plan.framing, declared, &mut digits);
    copy_fields(out, table, |field| match field.kind {
        Kind::Other | Kind::Host | Kind::Expect => keep(passage(table.slice(field.name))),
        Kind::ContentLength | Kind::TransferEncoding => match framing.take_if(|(kind, _)| *kind == field.kind) {
            Some((_, value)) => Line::Value(value),
            None => Line::Drop,
        },
        Kind::Trailer if plan.framing == Framing::Chunked => Line::Copy,
        Kind::Upgrade if upgrade => Line::Copy,
        Kind::Te | Kind::Trailer | Kind::Upgrade => Line::Drop,
        Kind::Nominated | Kind::Connection | Kind::HopByHop => Line::Drop,
    });
    write_framing_field(out, framing);
    let persistence = match plan.framing {
        Framing::Tunnel => None,
        _ if head.is_interim() => None,
        Framing::UntilClose => Some("close"),
        Framing::Empty | Framing::Length(_) | Framing::Chunked => persistence_option(plan.persistence, plan.client),
    };
    write_options(out, [persistence, upgrade.then_some("upgrade"), None]);
    write_extra(out, plan.extra);
    end_head(out);
}

/// Writes the line that begins a request of our own, HTTP/1.1.
pub fn write_request_line(out: &mut BytesMut, method: &str, target: &str) {
    for part in [method, " ", target, HTTP_11] {
        out.put_slice(part.as_bytes());
    }
}

/// Writes the line that begins a response, HTTP/1.1.
pub fn write_status_line(out: &mut BytesMut, status: u16, reason: &[u8]) {
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(itoa::Buffer::new().format(status).as_bytes());
    out.put_slice(b" ");
    out.put_slice(reason);
    out.put_slice(b"\r\n");
}

/// Writes one field line. The value must hold neither CR, LF nor NUL.
pub fn write_field(out: &mut BytesMut, name: &str, value: &[u8]) {
    put_field(out, name.as_bytes(), value);
}

/// Writes the field that says how the body ends, if one is needed.
pub fn write_framing(out: &mut BytesMut, framing: Framing) {
    write_framing_field(out, framing_field(framing, None, &mut itoa::Buffer::new()));
}

/// Writes the Connection field that tells a client of this version whether the connection stays, if one is needed.
pub fn write_connection(out: &mut BytesMut, persistence: Persistence, client: Version) {
    write_options(out, [persistence_option(persistence, client), None, None]);
}

/// Writes the empty line that ends a head.
pub fn end_head(out: &mut BytesMut) {
    out.put_slice(b"\r\n");
}

/// Writes what stands before a chunk of so many bytes.
pub fn write_chunk_head(out: &mut BytesMut, length: NonZeroUsize) {
    let significant = usize::BITS - length.leading_zeros();
    for nibble in (0..significant.div_ceil(4)).rev() {
        out.put_u8(b"0123456789abcdef"[length.get() >> (nibble * 4) & 0xf]);
    }
    out.put_slice(b"\r\n");
}

/// Writes what stands after a chunk.
pub fn write_chunk_tail(out: &mut BytesMut) {
    out.put_slice(b"\r\n");
}

/// Writes the end of a chunked body, with the trailers that `passage` lets cross.
pub fn write_last_chunk(out: &mut BytesMut, trailers: Option<&Trailers>, mut passage: impl FnMut(&[u8]) -> Passage) {
    out.put_slice(b"0\r\n");
    for (name, value) in trailers.iter().flat_map(|trailers| trailers.iter()) {
        if passage(name) == Passage::Keep {
            put_field(out, name, value);
        }
    }
    out.put_slice(b"\r\n");
}

const HTTP_11: &str = " HTTP/1.1\r\n";
const HTTP_10: &str = " HTTP/1.0\r\n";
/// Bytes reserved for what a forwarded head gains, so that the output seldom grows twice.
const ROOM: usize = 256;

/// The field that says how a body ends: its kind and value. `declared` is a length that a bodiless response announces.
fn framing_field(framing: Framing, declared: Option<u64>, digits: &mut itoa::Buffer) -> Option<(Kind, &[u8])> {
    let length = if let Framing::Length(length) = framing { Some(length) } else { declared };
    match length {
        Some(length) => Some((Kind::ContentLength, digits.format(length).as_bytes())),
        None if framing == Framing::Chunked => Some((Kind::TransferEncoding, b"chunked")),
        None => None,
    }
}

fn write_framing_field(out: &mut BytesMut, field: Option<(Kind, &[u8])>) {
    if let Some((kind, value)) = field {
        let name = if kind == Kind::ContentLength { "Content-Length" } else { "Transfer-Encoding" };
        write_field(out, name, value);
    }
}

fn keep<'a>(passage: Passage) -> Line<'a> {
    match passage {
        Passage::Keep => Line::Copy,
        Passage::HopByHop | Passage::Reserved | Passage::Lane => Line::Drop,
    }
}

/// Copies fields in as few runs as possible.
fn copy_fields<'a>(out: &mut BytesMut, table: &FieldTable, mut decide: impl FnMut(&Field) -> Line<'a>) {
    let mut run = None;
    for field in &table.fields {
        let line = decide(field);
        if let Line::Copy = line {
            run.get_or_insert(field.name.start as usize);
            continue;
        }
        if let Some(start) = run.take() {
            out.put_slice(&table.bytes[start..field.name.start as usize]);
        }
        if let Line::Value(value) = line {
            put_field(out, table.slice(field.name), value);
        }
    }
    if let Some(start) = run {
        out.put_slice(&table.bytes[start..table.end as usize]);
    }
}

fn persistence_option(persistence: Persistence, client: Version) -> Option<&'static str> {
    match (persistence, client) {
        (Persistence::Close, _) => Some("close"),
        (Persistence::Keep, Version::Http10) => Some("keep-alive"),
        (Persistence::Keep, Version::Http11) => None,
    }
}

fn write_options(out: &mut BytesMut, options: [Option<&str>; 3]) {
    let mut before = "Connection: ";
    for option in options.into_iter().flatten() {
        out.put_slice(before.as_bytes());
        out.put_slice(option.as_bytes());
        before = ", ";
    }
    if before == ", " {
        out.put_slice(b"\r\n");
    }
}

fn write_extra(out: &mut BytesMut, extra: &[(&str, &[u8])]) {
    for (name, value) in extra {
        write_field(out, name, value);
    }
}

fn put_field(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.put_slice(name);
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}
