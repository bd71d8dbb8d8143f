//! The trace that a message belongs to: one canonical id out of every format that stacks write, so that a stack which
//! turns one format into another still matches.
//!
//! Canonical is a number of 128 bits, written as 32 hex digits. Formats with shorter ids are padded on the left; ids that
//! are no hex number (SkyWalking's `<uuid>.<n>.<n>`, and whatever stands in configured headers) become the FNV-1a hash of
//! their text. `x-request-id` is not among the formats: nobody forwards it.

#[cfg(test)]
mod tests;

use std::fmt;

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use crate::{fields::Fields, model::lane::LaneGroup};

/// Header of the W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// Zipkin's single header.
pub const B3: &str = "b3";
/// Zipkin's header for the trace id.
pub const B3_TRACE_ID: &str = "x-b3-traceid";
/// Jaeger's header.
pub const UBER: &str = "uber-trace-id";
/// SkyWalking's header.
pub const SW8: &str = "sw8";
/// Datadog's header for the lower half of the trace id.
pub const DATADOG: &str = "x-datadog-trace-id";
/// Datadog's header for what belongs to a trace; its member [`DATADOG_HIGH`] is the upper half of the id.
pub const DATADOG_TAGS: &str = "x-datadog-tags";
/// Member of [`DATADOG_TAGS`] with the upper half of the trace id, 16 hex digits.
pub const DATADOG_HIGH: &str = "_dd.p.tid";
/// EagleEye's header.
pub const EAGLEEYE: &str = "eagleeye-traceid";

/// Longest text that is taken for an id, bytes.
const TEXT_MAX: usize = 256;
/// Base64 as agents write it, with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Canonical id of a trace; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId {
    // Two halves, because a number of 128 bits would align what holds it to 16 bytes.
    high: u64,
    low: u64,
}

impl TraceId {
    /// The id of this number; zero is none.
    pub fn new(id: u128) -> Option<TraceId> {
        (id != 0).then_some(TraceId { high: (id >> 64) as u64, low: id as u64 })
    }

    /// The number.
    pub fn get(self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }

    /// The upper and the lower half.
    pub fn halves(self) -> (u64, u64) {
        (self.high, self.low)
    }

    /// The id that a text of no known format means: 1 to 32 hex digits or a UUID are the number, anything else is hashed
    /// (FNV-1a, 128 bits). Empty and longer than 256 bytes is none.
    pub fn from_text(text: &[u8]) -> Option<TraceId> {
        let text = text.trim_ascii();
        if text.is_empty() || text.len() > TEXT_MAX {
            return None;
        }
        TraceId::new(hex(text).or_else(|| uuid(text)).unwrap_or_else(|| hash(text)))
    }
}

/// 32 hex digits.
impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.high, self.low)
    }
}

/// How a message writes the id of its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// [`TRACEPARENT`].
    Traceparent,
    /// [`B3`].
    B3,
    /// [`B3_TRACE_ID`].
    B3Headers,
    /// [`UBER`].
    Uber,
    /// [`SW8`].
    Sw8,
    /// [`DATADOG`].
    Datadog,
    /// [`EAGLEEYE`].
    EagleEye,
    /// A header that a group names.
    Configured,
}

impl Format {
    /// Every format, in the order in which they are read.
    pub const ALL: [Format; 8] = [
        Format::Traceparent,
        Format::B3,
        Format::B3Headers,
        Format::Uber,
        Format::Sw8,
        Format::Datadog,
        Format::EagleEye,
        Format::Configured,
    ];
}

/// Some of the formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Formats(u8);

impl Formats {
    /// These.
    pub fn of(formats: &[Format]) -> Formats {
        formats.iter().fold(Formats::default(), |all, format| all.with(*format))
    }

    /// These and `format`.
    #[must_use]
    pub fn with(self, format: Format) -> Formats {
        Formats(self.0 | 1 << format as u8)
    }

    /// These without `format`.
    #[must_use]
    pub fn without(self, format: Format) -> Formats {
        Formats(self.0 & !(1 << format as u8))
    }

    /// As one byte; see [`Formats::from_bits`].
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The formats of which [`Formats::bits`] made this.
    pub fn from_bits(bits: u8) -> Formats {
        Formats(bits)
    }

    /// Whether one of them is among `others`, too.
    pub fn meets(self, others: Formats) -> bool {
        self.0 & others.0 != 0
    }

    /// Whether `format` is among them.
    pub fn has(self, format: Format) -> bool {
        self.0 & 1 << format as u8 != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Most different ids of one message that count; a message has one, or one per stack that its way has mixed.
pub const IDS_MAX: usize = 4;

/// The ids of one message: usually one, or none. A message that crossed stacks of several kinds can have more, and an
/// application forwards only that of its own stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceIds {
    ids: [Option<TraceId>; IDS_MAX],
    formats: Formats,
}

impl TraceIds {
    /// The ids that a message carries, in the order of [`Format::ALL`]; malformed ones count as absent. The groups may
    /// name further headers.
    pub fn read(fields: &dyn Fields, groups: &[LaneGroup]) -> TraceIds {
        let mut found = TraceIds::default();
        let mut read = |name: &str, format: Format, parse: fn(&[u8]) -> Option<TraceId>| {
            if let Some(id) = fields.first(name).and_then(|value| parse(value.trim_ascii())) {
                found.add(id);
                found.formats = found.formats.with(format);
            }
        };
        read(TRACEPARENT, Format::Traceparent, traceparent);
        read(B3, Format::B3, b3);
        read(B3_TRACE_ID, Format::B3Headers, b3_id);
        read(UBER, Format::Uber, uber);
        read(SW8, Format::Sw8, sw8);
        if let Some(id) = datadog(fields) {
            found.add(id);
            found.formats = found.formats.with(Format::Datadog);
        }
        let mut read = |name: &str, format: Format| {
            if let Some(id) = fields.first(name).and_then(TraceId::from_text) {
                found.add(id);
                found.formats = found.formats.with(format);
            }
        };
        read(EAGLEEYE, Format::EagleEye);
        for name in groups.iter().flat_map(|group| &group.propagation.trace_headers) {
            read(name, Format::Configured);
        }
        found
    }

    /// Adds an id, unless it is there or no more fit.
    pub fn add(&mut self, id: TraceId) {
        for place in &mut self.ids {
            match place {
                Some(known) if *known == id => return,
                Some(_) => {}
                None => {
                    *place = Some(id);
                    return;
                }
            }
        }
    }

    /// As [`TraceIds::add`], of an id that is written in this format.
    pub fn add_as(&mut self, id: TraceId, format: Format) {
        self.add(id);
        self.formats = self.formats.with(format);
    }

    /// Each id, most trusted format first.
    pub fn iter(&self) -> impl Iterator<Item = TraceId> + '_ {
        self.ids.iter().copied().flatten()
    }

    /// The id of the first format that has one.
    pub fn first(&self) -> Option<TraceId> {
        self.ids[0]
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids[0].is_none()
    }

    /// The formats that had one.
    pub fn formats(&self) -> Formats {
        self.formats
    }
}

/// The id of the trace that a message belongs to; see [`TraceIds::read`].
pub fn trace_id(fields: &dyn Fields, groups: &[LaneGroup]) -> Option<TraceId> {
    TraceIds::read(fields, groups).first()
}

/// `<version>-<32 hex>-<16 hex>-<2 hex>`, lower case (W3C Trace Context 3.2); later versions may append.
fn traceparent(value: &[u8]) -> Option<TraceId> {
    const LENGTH: usize = 55;
    let version = value.get(..2)?;
    let whole = value.len() == LENGTH || (value.len() > LENGTH && value[LENGTH] == b'-' && version != b"00");
    let strokes = whole && value[2] == b'-' && value[35] == b'-' && value[52] == b'-';
    if !strokes || version == b"ff" || value[..LENGTH].iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    hex(version)?;
    hex(&value[53..LENGTH])?;
    hex(&value[36..52]).filter(|parent| *parent != 0)?;
    TraceId::new(hex(&value[3..35])?)
}

/// `<16 or 32 hex>-<16 hex>`, and what may follow.
fn b3(value: &[u8]) -> Option<TraceId> {
    let mut parts = value.split(|byte| *byte == b'-');
    let (id, span) = (parts.next()?, parts.next()?);
    (span.len() == 16 && hex(span).is_some()).then(|| b3_id(id))?
}

/// 16 or 32 hex digits.
fn b3_id(value: &[u8]) -> Option<TraceId> {
    matches!(value.len(), 16 | 32).then(|| hex(value)).flatten().and_then(TraceId::new)
}

/// `<up to 32 hex>:<span>:<parent>:<flags>`; some clients percent-encode the colons.
fn uber(value: &[u8]) -> Option<TraceId> {
    let end = value.iter().position(|byte| matches!(byte, b':' | b'%'))?;
    let after = &value[end..];
    let separated = after.starts_with(b":") || after.get(..3).is_some_and(|code| code.eq_ignore_ascii_case(b"%3a"));
    separated.then(|| hex(&value[..end])).flatten().and_then(TraceId::new)
}

/// `<sample>-<base64 of the trace id>-…`.
fn sw8(value: &[u8]) -> Option<TraceId> {
    /// Base64 of the longest text that is taken.
    const ENCODED_MAX: usize = TEXT_MAX.div_ceil(3) * 4;
    let mut parts = value.split(|byte| *byte == b'-');
    let (sample, id, _) = (parts.next()?, parts.next()?, parts.next()?);
    if !matches!(sample, b"0" | b"1") || id.is_empty() || id.len() > ENCODED_MAX {
        return None;
    }
    TraceId::from_text(&BASE64.decode(id).ok()?)
}

/// Decimal lower half, and the upper half among the tags where the id is long.
fn datadog(fields: &dyn Fields) -> Option<TraceId> {
    let low: u64 = std::str::from_utf8(fields.first(DATADOG)?.trim_ascii()).ok()?.parse().ok()?;
    let high = fields.first(DATADOG_TAGS).and_then(|tags| {
        let mut members = tags.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        members.find_map(|member| member.strip_prefix(DATADOG_HIGH.as_bytes())?.strip_prefix(b"="))
    });
    let high = high.filter(|digits| digits.len() == 16).and_then(hex).unwrap_or_default();
    // Without its lower half, an id would match every id of the same upper half.
    if low == 0 { None } else { TraceId::new(high << 64 | u128::from(low)) }
}

/// FNV-1a, 128 bits.
fn hash(text: &[u8]) -> u128 {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    text.iter().fold(BASIS, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME))
}

/// 1 to 32 hex digits of either case.
fn hex(digits: &[u8]) -> Option<u128> {
    if digits.is_empty() || digits.len() > 32 {
        return None;
    }
    digits.iter().try_fold(0_u128, |number, digit| Some(number << 4 | u128::from((*digit as char).to_digit(16)?)))
}

/// `8-4-4-4-12` hex digits.
fn uuid(text: &[u8]) -> Option<u128> {
    const STROKES: [usize; 4] = [8, 13, 18, 23];
    if text.len() != 36 || STROKES.iter().any(|at| text[*at] != b'-') {
        return None;
    }
    let digits: Vec<u8> = text.iter().copied().filter(|byte| *byte != b'-').collect();
    (digits.len() == 32).then(|| hex(&digits))?
}
