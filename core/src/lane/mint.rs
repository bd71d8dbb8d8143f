//! A trace id for requests of a lane that bring none: written in the formats that the workload forwards, so that its
//! calls can be told to belong to the request.

use std::ops::Range;

use super::{
    forwarded::put_base64,
    trace::{self, Format, Formats, TraceId, TraceIds},
};
use crate::model::lane::LaneGroup;

/// What is written until it is known what the workload forwards: stacks start an id of their own where they find none in
/// their format.
pub const UNTIL_LEARNED: [Format; 3] = [Format::Traceparent, Format::B3, Format::Sw8];

/// Whether the trace is recorded; Brave refuses flags other than these two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampled {
    /// It is.
    Yes,
    /// It is not.
    No,
}

impl Sampled {
    fn digit(self) -> &'static [u8] {
        match self {
            Sampled::Yes => b"1",
            Sampled::No => b"0",
        }
    }
}

/// The formats in which a request of a lane lacks an id that the workload would forward: all that it is known to forward
/// where the request has none of them.
pub fn lacking(ids: &TraceIds, learned: Formats) -> Formats {
    if ids.is_empty() {
        return if learned.is_empty() { Formats::of(&UNTIL_LEARNED) } else { learned };
    }
    if learned.meets(ids.formats()) { Formats::default() } else { learned }
}

/// Fields with a trace id: one text, and where the fields stand in it, so that a request of a lane costs one allocation
/// whatever it is given.
#[derive(Debug)]
pub struct Minted {
    text: Vec<u8>,
    /// Name, as a position in [`NAMES`], and where the value ends; it begins where the one before ends.
    fields: [(u8, u16); NAMES.len()],
    count: u8,
    /// Headers that groups name, each with the id as its value.
    configured: Vec<String>,
}

/// Fields of the formats that have names of their own. Positions take little room in every exchange.
const NAMES: [&str; 12] = [
    trace::TRACEPARENT,
    trace::B3,
    trace::B3_TRACE_ID,
    "x-b3-spanid",
    "x-b3-sampled",
    trace::UBER,
    trace::SW8,
    trace::DATADOG,
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    trace::DATADOG_TAGS,
    trace::EAGLEEYE,
];
/// Bytes that suffice for what is written until it is known what the workload forwards.
const TEXT_ROOM: usize = 320;
/// Where the digits of the id stand.
const ID: Range<usize> = 0..32;

impl Minted {
    /// Begins with the id itself, from which the fields take it.
    fn new(id: TraceId) -> Minted {
        let mut text = Vec::with_capacity(TEXT_ROOM);
        let (high, low) = id.halves();
        text.extend_from_slice(&hex(high));
        text.extend_from_slice(&hex(low));
        Minted { text, fields: [(0, 0); NAMES.len()], count: 0, configured: Vec::new() }
    }

    /// Name and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut start = ID.end;
        let named = self.named().map(move |(name, end)| (name, &self.text[std::mem::replace(&mut start, end)..end]));
        named.chain(self.configured.iter().map(|name| (name.as_str(), &self.text[ID])))
    }

    /// Whether a field of this name is among them; without case.
    pub fn replaces(&self, name: &[u8]) -> bool {
        let is = |known: &str| known.as_bytes().eq_ignore_ascii_case(name);
        self.named().any(|(known, _)| is(known)) || self.configured.iter().any(|known| is(known))
    }

    /// Name, and where the value ends.
    fn named(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.fields[..usize::from(self.count)].iter().map(|(name, end)| (NAMES[usize::from(*name)], usize::from(*end)))
    }

    fn write(&mut self, name: &str, parts: &[&[u8]]) {
        parts.iter().for_each(|part| self.text.extend_from_slice(part));
        self.end(name);
    }

    /// What was written since the last field is the value of this one.
    fn end(&mut self, name: &str) {
        let position = NAMES.iter().position(|known| *known == name).expect("every name is in the table");
        self.fields[usize::from(self.count)] = (position as u8, self.text.len() as u16);
        self.count += 1;
    }
}

/// Fields that write `id` in `formats`, with `span` as the parent (not zero).
pub fn mint(id: TraceId, span: u64, formats: Formats, sampled: Sampled, groups: &[LaneGroup]) -> Minted {
    let mut minted = Minted::new(id);
    let (high, low) = id.halves();
    let (first, second, span_hex) = (hex(high), hex(low), hex(span));
    let trace: [&[u8]; 2] = [&first, &second];
    let flag: &[u8] = sampled.digit();
    for format in Format::ALL.into_iter().filter(|format| formats.has(*format)) {
        match format {
            Format::Traceparent => {
                minted.write(trace::TRACEPARENT, &[b"00-", trace[0], trace[1], b"-", &span_hex, b"-0", flag]);
            }
            Format::B3 => minted.write(trace::B3, &[trace[0], trace[1], b"-", &span_hex, b"-", flag]),
            Format::B3Headers => {
                minted.write(trace::B3_TRACE_ID, &trace);
                minted.write("x-b3-spanid", &[&span_hex]);
                minted.write("x-b3-sampled", &[flag]);
            }
            Format::Uber => minted.write(trace::UBER, &[trace[0], trace[1], b":", &span_hex, b":0:", flag]),
            Format::Sw8 => {
                let mut segment = [b'.'; 49];
                segment[..16].copy_from_slice(&first);
                segment[16..32].copy_from_slice(&second);
                segment[33..].copy_from_slice(&span_hex);
                put_sw8(&mut minted.text, &segment);
                minted.end(trace::SW8);
            }
            Format::Datadog => {
                minted.write(trace::DATADOG, &[low.to_string().as_bytes()]);
                minted.write("x-datadog-parent-id", &[span.to_string().as_bytes()]);
                minted.write("x-datadog-sampling-priority", &[flag]);
                minted.write(trace::DATADOG_TAGS, &[trace::DATADOG_HIGH.as_bytes(), b"=", trace[0]]);
            }
            Format::EagleEye => minted.write(trace::EAGLEEYE, &trace),
            Format::Configured => {
                let names = groups.iter().flat_map(|group| &group.propagation.trace_headers);
                minted.configured.extend(names.cloned());
            }
        }
    }
    minted
}

/// 16 hex digits, eight worked out at a time.
fn hex(number: u64) -> [u8; 16] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let eight = |half: u64| {
        let spread = (half | half << 16) & 0x0000_ffff_0000_ffff;
        let spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
        let spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
        // One in the bytes of digits from ten on, which stand in ASCII as many places behind the nine.
        let letters = ((spread + 6 * ONES) >> 4) & ONES;
        (spread + u64::from(b'0') * ONES + letters * u64::from(b'a' - b'9' - 1)).to_be_bytes()
    };
    let mut text = [0; 16];
    text[..8].copy_from_slice(&eight(number >> 32));
    text[8..].copy_from_slice(&eight(number & 0xffff_ffff));
    text
}

/// SkyWalking's header, version 3: sample, trace, segment, span, service, instance, endpoint, address. Always sampled:
/// agents neither follow nor forward what is not. The segment is `<trace>.<span>`.
fn put_sw8(text: &mut Vec<u8>, segment: &[u8; 49]) {
    /// Span 0 of service `mesh`, instance `sidecar`, endpoint `/`, seen at address `mesh`.
    const REST: &[u8] = b"-0-bWVzaA==-c2lkZWNhcg==-Lw==-bWVzaA==";
    /// Bytes of the trace that fill groups of three, so that their code is the beginning of the segment's, too.
    const WHOLE: usize = 30;
    text.extend_from_slice(b"1-");
    let trace = text.len();
    put_base64(text, &segment[..WHOLE]);
    let shared = trace..text.len();
    put_base64(text, &segment[WHOLE..ID.end]);
    text.push(b'-');
    text.extend_from_within(shared);
    put_base64(text, &segment[WHOLE..]);
    text.extend_from_slice(REST);
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;

    fn groups() -> Vec<LaneGroup> {
        let mut group = LaneGroup::new("g".parse().unwrap());
        group.propagation.trace_headers.push("x-own-trace".to_owned());
        vec![group]
    }

    fn id() -> TraceId {
        TraceId::new(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736).unwrap()
    }

    #[test]
    fn every_format_that_is_written_is_read_as_the_same_id() {
        for sampled in [Sampled::Yes, Sampled::No] {
            let minted = mint(id(), 7, Formats::of(&Format::ALL), sampled, &groups());
            let text = |value| std::str::from_utf8(value).unwrap();
            let fields: Vec<(&str, &str)> = minted.iter().map(|(name, value)| (name, text(value))).collect();
            let ids = TraceIds::read(&fields.as_slice(), &groups());
            assert_eq!(ids.iter().collect::<Vec<_>>(), [id()]);
            assert_eq!(ids.formats(), Formats::of(&Format::ALL));
        }
    }

    #[test]
    fn flags_say_what_the_mesh_samples_and_nothing_else() {
        let value = |sampled| {
            let minted = mint(id(), 7, Formats::of(&[Format::Traceparent]), sampled, &[]);
            String::from_utf8(minted.iter().next().unwrap().1.to_vec()).unwrap()
        };
        assert_eq!(value(Sampled::No), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000007-00");
        assert_eq!(value(Sampled::Yes), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000007-01");
    }

    #[test]
    fn fields_are_written_as_their_readers_expect_them() {
        let minted = mint(id(), 0xab, Formats::of(&Format::ALL), Sampled::No, &groups());
        let lines: Vec<String> =
            minted.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect();
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let code = |text: &str| STANDARD.encode(text);
        let sw8 = format!(
            "sw8: 1-{}-{}-0-{}-{}-{}-{}",
            code(trace),
            code(&format!("{trace}.00000000000000ab")),
            code("mesh"),
            code("sidecar"),
            code("/"),
            code("mesh")
        );
        assert_eq!(
            lines,
            [
                format!("traceparent: 00-{trace}-00000000000000ab-00"),
                format!("b3: {trace}-00000000000000ab-0"),
                format!("x-b3-traceid: {trace}"),
                "x-b3-spanid: 00000000000000ab".to_owned(),
                "x-b3-sampled: 0".to_owned(),
                format!("uber-trace-id: {trace}:00000000000000ab:0:0"),
                sw8,
                "x-datadog-trace-id: 11803532876627986230".to_owned(),
                "x-datadog-parent-id: 171".to_owned(),
                "x-datadog-sampling-priority: 0".to_owned(),
                "x-datadog-tags: _dd.p.tid=4bf92f3577b34da6".to_owned(),
                format!("eagleeye-traceid: {trace}"),
                format!("x-own-trace: {trace}"),
            ]
        );
    }

    #[test]
    fn only_what_the_workload_forwards_is_written_once_that_is_known() {
        let read = |fields: &[(&str, &str)]| TraceIds::read(&fields, &[]);
        let (none, parent) =
            (read(&[]), read(&[("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]));
        let b3 = Formats::of(&[Format::B3]);
        let cases = [
            (&none, Formats::default(), Formats::of(&UNTIL_LEARNED)),
            (&none, b3, b3),
            (&parent, Formats::default(), Formats::default()),
            (&parent, Formats::of(&[Format::Traceparent, Format::B3]), Formats::default()),
            // It would start an id of its own.
            (&parent, b3, b3),
        ];
        for (ids, learned, expected) in cases {
            assert_eq!(lacking(ids, learned), expected, "{ids:?} {learned:?}");
        }
    }
}
