//! Probes: requests that `mesh-ctl lane probe` sends through a chain in order to find where a label is lost. They are known
//! by their trace id, which applications forward that forward anything at all; a proxy that sees one says so.

use super::trace::{B3, B3_TRACE_ID, TRACEPARENT};
use crate::fields::Fields;

/// First half of every probe's trace id, hexadecimal digits: `meshprob`.
const FIRST: &str = "6d65736870726f62";
/// Digits of a trace id.
const DIGITS: usize = 32;

/// Trace id of a new probe, 32 hexadecimal digits.
pub fn trace(random: u64) -> String {
    format!("{FIRST}{random:016x}")
}

/// Trace id of a probe, where the fields are those of one. Looks where frameworks write the id as it is: W3C and Zipkin.
pub fn of(fields: &dyn Fields) -> Option<&str> {
    let places = [(TRACEPARENT, "00-".len()), (B3, 0), (B3_TRACE_ID, 0)];
    places.into_iter().find_map(|(name, from)| {
        let id = fields.first(name)?.get(from..from + DIGITS)?;
        let id = id.starts_with(FIRST.as_bytes()).then_some(id)?;
        std::str::from_utf8(id).ok().filter(|id| id.bytes().all(|digit| digit.is_ascii_hexdigit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probe_is_known_by_its_trace_id_in_every_format_that_shows_it() {
        let id = trace(7);
        let (parent, b3) = (format!("00-{id}-00f067aa0ba902b7-00"), format!("{id}-00f067aa0ba902b7-0"));
        for (name, value) in [("traceparent", &parent), ("b3", &b3), ("X-B3-TraceId", &id)] {
            let fields = [(name, value.as_str())];
            assert_eq!(of(&&fields[..]), Some(id.as_str()), "{name}");
        }
    }

    #[test]
    fn what_is_no_probe_is_not_noted() {
        let other = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let strange = format!("00-{FIRST}zzzzzzzzzzzzzzzz-00f067aa0ba902b7-01");
        for value in ["", "00-", FIRST, other, strange.as_str()] {
            let fields = [("traceparent", value)];
            assert_eq!(of(&&fields[..]), None, "{value}");
        }
        assert_eq!(of(&&[][..]), None);
    }
}
