//! A trace id for requests of a lane that bring none: written in the formats that the workload forwards, so that its
//! calls can be told to belong to the request.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::trace::{self, Format, Formats, TraceId, TraceIds};
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
    fn digit(self) -> char {
        match self {
            Sampled::Yes => '1',
            Sampled::No => '0',
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

/// Fields that write `id` in `formats`, with `span` as the parent (not zero).
pub fn mint(
    id: TraceId,
    span: u64,
    formats: Formats,
    sampled: Sampled,
    groups: &[LaneGroup],
) -> Vec<(Cow<'static, str>, String)> {
    let (high, low) = id.halves();
    let digit = sampled.digit();
    let mut fields: Vec<(Cow<'static, str>, String)> = Vec::new();
    for format in Format::ALL.into_iter().filter(|format| formats.has(*format)) {
        let mut write = |name: &'static str, value: String| fields.push((Cow::Borrowed(name), value));
        match format {
            Format::Traceparent => write(trace::TRACEPARENT, format!("00-{id}-{span:016x}-0{digit}")),
            Format::B3 => write(trace::B3, format!("{id}-{span:016x}-{digit}")),
            Format::B3Headers => {
                write(trace::B3_TRACE_ID, id.to_string());
                write("x-b3-spanid", format!("{span:016x}"));
                write("x-b3-sampled", digit.to_string());
            }
            Format::Uber => write(trace::UBER, format!("{id}:{span:016x}:0:{digit}")),
            Format::Sw8 => write(trace::SW8, sw8(id, span)),
            Format::Datadog => {
                write(trace::DATADOG, low.to_string());
                write("x-datadog-parent-id", span.to_string());
                write("x-datadog-sampling-priority", digit.to_string());
                write(trace::DATADOG_TAGS, format!("{}={high:016x}", trace::DATADOG_HIGH));
            }
            Format::EagleEye => write(trace::EAGLEEYE, id.to_string()),
            Format::Configured => {
                let names = groups.iter().flat_map(|group| &group.propagation.trace_headers);
                fields.extend(names.map(|name| (Cow::Owned(name.clone()), id.to_string())));
            }
        }
    }
    fields
}

/// SkyWalking's header, version 3: sample, trace, segment, span, service, instance, endpoint, address. Always sampled:
/// agents neither follow nor forward what is not.
fn sw8(id: TraceId, span: u64) -> String {
    let code = |text: &str| STANDARD.encode(text);
    let (trace, segment) = (code(&id.to_string()), code(&format!("{id}.{span:016x}")));
    format!("1-{trace}-{segment}-0-{}-{}-{}-{}", code("mesh"), code("sidecar"), code("/"), code("mesh"))
}

#[cfg(test)]
mod tests {
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
            let fields = mint(id(), 7, Formats::of(&Format::ALL), sampled, &groups());
            let fields: Vec<(&str, &str)> =
                fields.iter().map(|(name, value)| (name.as_ref(), value.as_str())).collect();
            let ids = TraceIds::read(&fields.as_slice(), &groups());
            assert_eq!(ids.iter().collect::<Vec<_>>(), [id()]);
            assert_eq!(ids.formats(), Formats::of(&Format::ALL));
        }
    }

    #[test]
    fn flags_say_what_the_mesh_samples_and_nothing_else() {
        let value = |sampled| mint(id(), 7, Formats::of(&[Format::Traceparent]), sampled, &[]).remove(0).1;
        assert_eq!(value(Sampled::No), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000007-00");
        assert_eq!(value(Sampled::Yes), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000007-01");
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
