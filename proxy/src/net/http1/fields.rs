//! Header and trailer fields as ranges into one buffer, classified once.

use std::{fmt, ops::Range};

use bytes::Bytes;
use mesh_core::fields::Fields;

/// Bytes of a head by position; heads are at most 1 MiB, so four bytes suffice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    /// Where `part` stands in `whole`, which it must be a slice of.
    pub(super) fn of(part: &[u8], whole: &[u8]) -> Span {
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        Span::new(start, start + part.len())
    }

    pub(super) fn new(start: usize, end: usize) -> Span {
        Span { start: start as u32, end: end as u32 }
    }

    pub(super) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    pub(super) fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    pub(super) fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// What a field means to an intermediary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing: the caller's filter decides.
    Other,
    /// Named by Connection: ends here (RFC 9110 7.6.1).
    Nominated,
    Host,
    Connection,
    /// Keep-Alive, Proxy-Connection and HTTP2-Settings: always end here.
    HopByHop,
    ContentLength,
    TransferEncoding,
    Te,
    Trailer,
    Upgrade,
    Expect,
}

impl Kind {
    /// Classifies a name, in any case.
    pub(super) fn of(name: &[u8]) -> Kind {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            2 if is("te") => Kind::Te,
            4 if is("host") => Kind::Host,
            6 if is("expect") => Kind::Expect,
            7 if is("upgrade") => Kind::Upgrade,
            7 if is("trailer") => Kind::Trailer,
            10 if is("connection") => Kind::Connection,
            10 if is("keep-alive") => Kind::HopByHop,
            14 if is("content-length") => Kind::ContentLength,
            14 if is("http2-settings") => Kind::HopByHop,
            16 if is("proxy-connection") => Kind::HopByHop,
            17 if is("transfer-encoding") => Kind::TransferEncoding,
            _ => Kind::Other,
        }
    }
}

/// One field line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: Span,
    pub(super) value: Span,
    pub(super) kind: Kind,
}

/// Names of the fields of a message, as far as it takes to know of most names that they are not there: nearly every
/// field that is looked for is not, and a look for it then costs no walk over those that are.
#[derive(Clone, Copy, Default)]
struct Names(u64);

impl Names {
    fn with(self, name: &[u8]) -> Names {
        Names(self.0 | Names::bit(name))
    }

    fn may_have(self, name: &[u8]) -> bool {
        self.0 & Names::bit(name) != 0
    }

    /// The same for names that differ only in case.
    fn bit(name: &[u8]) -> u64 {
        let folded = |byte: Option<&u8>| byte.map_or(0, |byte| u32::from(byte | 0x20));
        let (first, last) = (folded(name.first()), folded(name.last()));
        1 << ((name.len() as u32 * 7 + first * 5 + last) % u64::BITS)
    }
}

/// The fields of one message: its bytes and where each field stands in them, in the order received.
#[derive(Clone)]
pub struct FieldTable {
    pub(super) bytes: Bytes,
    pub(super) fields: Vec<Field>,
    names: Names,
    /// Position after the CRLF of the last field line.
    pub(super) end: u32,
}

impl FieldTable {
    /// The fields that stand in `bytes`; `end` is the position after the CRLF of the last.
    pub(super) fn new(bytes: Bytes, fields: Vec<Field>, end: u32) -> FieldTable {
        let names = fields.iter().fold(Names::default(), |names, field| names.with(&bytes[field.name.range()]));
        FieldTable { bytes, fields, names, end }
    }

    /// Name and value of each field, in the order received; names in the sender's case.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| (self.slice(field.name), self.slice(field.value)))
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    pub(super) fn slice(&self, span: Span) -> &[u8] {
        &self.bytes[span.range()]
    }

    /// Text of a span whose bytes were checked to be ASCII when it was made.
    pub(super) fn text(&self, span: Span) -> &str {
        std::str::from_utf8(self.slice(span)).expect("checked to be ASCII when parsed")
    }

    /// The only field of a kind; the first if there are several.
    pub(super) fn of_kind(&self, kind: Kind) -> Option<&Field> {
        self.fields.iter().find(|field| field.kind == kind)
    }
}

impl Fields for FieldTable {
    fn each<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8])) {
        if !self.names.may_have(name.as_bytes()) {
            return;
        }
        let name = name.as_bytes();
        for field in self.fields.iter().filter(|field| field.name.len() == name.len()) {
            let known = self.slice(field.name);
            // Most senders write names in lower case, and comparing what is alike costs least.
            if known == name || known.eq_ignore_ascii_case(name) {
                visit(self.slice(field.value));
            }
        }
    }
}

/// Names only: values may hold secrets.
impl fmt::Debug for FieldTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.fields.iter().map(|field| self.text(field.name))).finish()
    }
}
