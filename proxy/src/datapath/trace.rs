//! W3C trace context: passed through untouched, or, where the exchange is sampled, with our span as parent.

use mesh_core::{fields::Fields, lane::trace::trace_id};

use crate::telemetry::worker::{Trace, Tracing};

/// Header of the trace context.
pub const TRACEPARENT: &str = "traceparent";
/// Length of version 00 of the header.
const LENGTH: usize = 55;

/// Our span in a sampled exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(Trace);

impl Span {
    /// The span of an exchange, if it is sampled: by its caller, or, where it brings no context, by `share`.
    pub fn of(fields: &dyn Fields, tracing: Tracing, mut random: impl FnMut() -> u64) -> Option<Span> {
        let Tracing::On { share } = tracing else { return None };
        let (trace_id, parent) = match fields.first(TRACEPARENT).and_then(parse) {
            Some((trace_id, parent, sampled)) => sampled.then_some((trace_id, parent))?,
            None => {
                // 53 bits are what a float holds exactly.
                let draw = (random() >> 11) as f64 / (1_u64 << 53) as f64;
                // A trace that stands in another format goes on.
                let new = || u128::from(random()) << 64 | u128::from(random()) | 1;
                let id = trace_id(fields, &[]).map_or_else(new, |id| id.get());
                (draw < share).then_some((id.to_be_bytes(), [0; 8]))?
            }
        };
        Some(Span(Trace { trace_id, parent, span: (random() | 1).to_be_bytes() }))
    }

    /// A span below this one.
    #[must_use]
    pub fn child(self, random: u64) -> Span {
        Span(Trace { parent: self.0.span, span: (random | 1).to_be_bytes(), ..self.0 })
    }

    /// Value of the header to send on.
    pub fn header(&self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        format!("00-{}-{}-01", hex(&self.0.trace_id), hex(&self.0.span))
    }

    /// Ids for the span record.
    pub fn trace(&self) -> Trace {
        self.0
    }
}

/// Trace id, parent span id, and whether the caller sampled it.
fn parse(value: &[u8]) -> Option<([u8; 16], [u8; 8], bool)> {
    let whole = value.len() == LENGTH || (value.len() > LENGTH && value[LENGTH] == b'-' && &value[..2] != b"00");
    if !whole || value[2] != b'-' || value[35] != b'-' || value[52] != b'-' || &value[..2] == b"ff" {
        return None;
    }
    let trace_id: [u8; 16] = hex(&value[3..35])?;
    let parent: [u8; 8] = hex(&value[36..52])?;
    let [flags]: [u8; 1] = hex(&value[53..55])?;
    (trace_id != [0; 16] && parent != [0; 8]).then_some((trace_id, parent, flags & 1 == 1))
}

fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn span(value: &str, share: f64) -> Option<Span> {
        Span::of(&(&[(TRACEPARENT, value)] as &[_]), Tracing::On { share }, || 7)
    }

    #[test]
    fn sampled_context_keeps_its_trace_and_gets_our_span_as_parent() {
        let span = span(SAMPLED, 0.0).unwrap();
        assert_eq!(span.header(), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000007-01");
        assert_eq!(span.trace().parent, [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
    }

    #[test]
    fn child_is_of_the_same_trace_and_below_its_parent() {
        let span = span(SAMPLED, 0.0).unwrap();
        let child = span.child(8);
        assert_eq!((child.trace().trace_id, child.trace().parent), (span.trace().trace_id, span.trace().span));
        assert_eq!(child.trace().span, [0, 0, 0, 0, 0, 0, 0, 9]);
    }

    #[test]
    fn unsampled_context_stays_unsampled_whatever_the_share() {
        assert_eq!(span("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", 1.0), None);
    }

    #[test]
    fn trace_of_another_format_goes_on() {
        let b3: &[(&str, &str)] = &[("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1")];
        let span = Span::of(&b3, Tracing::On { share: 1.0 }, || 7).unwrap();
        assert_eq!(span.header(), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000007-01");
    }

    #[test]
    fn missing_or_malformed_context_is_sampled_by_share() {
        for value in ["", "00-0-0-01", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"] {
            assert!(span(value, 1.0).is_some(), "{value}");
            assert_eq!(span(value, 0.0), None, "{value}");
        }
    }
}
