//! Further fields in which applications forward what their tracing library keeps for them: SkyWalking's
//! `sw8-correlation`, and `tracestate` where a group wants it. Read like baggage, and written anew like it: our members
//! first, those of others behind, nothing of ours toward those who may not see it.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Carried, Source, carry};
use crate::{
    fields::Fields,
    model::lane::{Carrier, LaneGroup, LaneName},
};

/// SkyWalking's header for what users hand on: `<base64 key>:<base64 value>`, several by comma.
pub const SW8_CORRELATION: &str = "sw8-correlation";
/// The vendors' part of the W3C trace context: `<key>=<value>`, several by comma.
pub const TRACESTATE: &str = "tracestate";

/// Most bytes of either that are looked at, and that are written.
const MAX_BYTES: usize = 8_192;
/// Members that `tracestate` may have (W3C Trace Context 3.3.1.1).
const TRACESTATE_MEMBERS: usize = 32;

/// Whether a header of a request is one of these, and written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ForwardedRole {
    /// It is.
    Carrier,
    /// It is not, or nobody uses it.
    None,
}

impl ForwardedRole {
    /// Role of the header called `name`. `_` counts as `-`, as in names of carriers.
    pub(crate) fn of(name: &[u8], groups: &[LaneGroup]) -> Self {
        let is = |text: &str| carry::alike(name, text.as_bytes());
        let used = !groups.is_empty() && (is(SW8_CORRELATION) || (is(TRACESTATE) && uses_tracestate(groups)));
        if used { ForwardedRole::Carrier } else { ForwardedRole::None }
    }
}

/// Whether a group wants `tracestate` to be read.
pub fn uses_tracestate(groups: &[LaneGroup]) -> bool {
    groups.iter().any(|group| group.propagation.tracestate)
}

/// The label in `sw8-correlation`.
pub(super) fn in_sw8(fields: &dyn Fields, groups: &[LaneGroup]) -> Option<Carried> {
    fields.first(SW8_CORRELATION)?;
    groups.iter().find_map(|group| {
        let (mut lane, mut name) = (None, None);
        members(fields, SW8_CORRELATION, &mut |member| {
            let Some((key, value)) = decoded(member) else { return };
            keep(&group.carrier, (&key, &value), &mut lane, &mut name);
        });
        carried(lane, name, Source::Sw8)
    })
}

/// The label in `tracestate`, of groups that want it to be read.
pub(super) fn in_tracestate(fields: &dyn Fields, groups: &[LaneGroup]) -> Option<Carried> {
    groups.iter().filter(|group| group.propagation.tracestate).find_map(|group| {
        let (mut lane, mut name) = (None, None);
        members(fields, TRACESTATE, &mut |member| {
            let Some((key, value)) = split(member, b'=') else { return };
            keep(&group.carrier, (key, value), &mut lane, &mut name);
        });
        carried(lane, name, Source::Tracestate)
    })
}

type Named = Option<(Option<LaneName>, LaneName)>;

/// Keeps the first member of each kind that a group's carrier uses.
fn keep(carrier: &Carrier, (key, value): (&[u8], &[u8]), lane: &mut Named, group: &mut Option<LaneName>) {
    if lane.is_none() && is_key(key, carrier, "") {
        *lane = carry::label(value);
    } else if group.is_none() && is_key(key, carrier, carry::GROUP_SUFFIX) {
        *group = carry::label(value).and_then(|(stroke, name)| stroke.is_none().then_some(name));
    }
}

fn carried(lane: Named, group: Option<LaneName>, source: Source) -> Option<Carried> {
    let (named, lane) = lane?;
    Some(Carried { group: named.or(group), lane, source })
}

fn is_key(key: &[u8], carrier: &Carrier, suffix: &str) -> bool {
    let name = carrier.baggage_key.as_bytes();
    key.len() == name.len() + suffix.len()
        && key[..name.len()].eq_ignore_ascii_case(name)
        && key[name.len()..].eq_ignore_ascii_case(suffix.as_bytes())
}

fn is_ours(key: &[u8], groups: &[LaneGroup]) -> bool {
    let carries = |carrier: &Carrier| is_key(key, carrier, "") || is_key(key, carrier, carry::GROUP_SUFFIX);
    groups.iter().any(|group| carries(&group.carrier)) || carries(&Carrier::default())
}

/// Every member of every line of a header, trimmed, in order.
fn members<'a>(fields: &'a dyn Fields, name: &str, visit: &mut dyn FnMut(&'a [u8])) {
    let mut left = MAX_BYTES;
    fields.each(name, &mut |line| {
        if line.len() > left {
            left = 0;
            return;
        }
        left -= line.len();
        line.split(|byte| *byte == b',')
            .map(<[u8]>::trim_ascii)
            .filter(|member| !member.is_empty())
            .for_each(&mut *visit);
    });
}

fn split(member: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let position = member.iter().position(|byte| *byte == at)?;
    Some((member[..position].trim_ascii(), member[position + 1..].trim_ascii()))
}

fn decoded(member: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (key, value) = split(member, b':')?;
    Some((STANDARD.decode(key).ok()?, STANDARD.decode(value).ok()?))
}

/// Value of the one `sw8-correlation` line to send on: with the label, where there is one and the message belongs to
/// SkyWalking at all; `None` = none. What is no base64 is left out: readers that forgive errors could take it for ours.
pub fn sw8_correlation(fields: &dyn Fields, groups: &[LaneGroup], label: Option<(&str, &Carried)>) -> Option<Vec<u8>> {
    if groups.is_empty() {
        return None;
    }
    let mut line = Vec::new();
    if let Some((key, carried)) = label {
        let room = |text: &str| encoded_length(text.len()) + 1;
        line.reserve(room(key) + room(carried.lane.as_str()));
        put_sw8_member(&mut line, key, carried.lane.as_str());
        if let Some(group) = &carried.group {
            line.push(b',');
            put_sw8_member(&mut line, &[key, carry::GROUP_SUFFIX].concat(), group.as_str());
        }
    }
    let ours = |member: &[u8]| decoded(member).is_none_or(|(key, _)| is_ours(&key, groups));
    append(fields, SW8_CORRELATION, line, usize::MAX, ours)
}

fn put_sw8_member(line: &mut Vec<u8>, key: &str, value: &str) {
    put_base64(line, key.as_bytes());
    line.push(b':');
    put_base64(line, value.as_bytes());
}

/// Appends bytes in base64. By hand, because for a few bytes the library's preparations cost more than the code.
pub(super) fn put_base64(text: &mut Vec<u8>, bytes: &[u8]) {
    let start = text.len();
    text.resize(start + encoded_length(bytes.len()), b'=');
    let (groups, rest) = bytes.as_chunks();
    let (places, _) = text[start..].as_chunks_mut();
    for (group, place) in groups.iter().zip(&mut *places) {
        *place = base64_of(*group);
    }
    match (places.last_mut(), rest) {
        (Some(last), [one]) => last[..2].copy_from_slice(&base64_of([*one, 0, 0])[..2]),
        (Some(last), [one, two]) => last[..3].copy_from_slice(&base64_of([*one, *two, 0])[..3]),
        _ => {}
    }
}

fn base64_of([first, second, third]: [u8; 3]) -> [u8; 4] {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |six: u8| DIGITS[usize::from(six & 0x3f)];
    [digit(first >> 2), digit(first << 4 | second >> 4), digit(second << 2 | third >> 6), digit(third)]
}

/// Characters of so many bytes in base64.
fn encoded_length(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

/// Value of the one `tracestate` line to send on, where a group uses it: with the label as `<key>=<lane>` or
/// `<key>=<group>/<lane>`; `None` = none.
pub fn tracestate(fields: &dyn Fields, groups: &[LaneGroup], label: Option<(&str, &Carried)>) -> Option<Vec<u8>> {
    if !uses_tracestate(groups) {
        return None;
    }
    let label = label.and_then(|(key, carried)| Some((tracestate_key(key)?, carried)));
    let line = label.map(|(key, carried)| format!("{key}={carried}").into_bytes()).unwrap_or_default();
    let ours = |member: &[u8]| split(member, b'=').is_some_and(|(key, _)| is_ours(key, groups));
    append(fields, TRACESTATE, line, TRACESTATE_MEMBERS, ours)
}

/// The key as `tracestate` allows it (lower case, beginning with a letter); `None` where it cannot.
fn tracestate_key(key: &str) -> Option<Cow<'_, str>> {
    let key = if key.bytes().any(|byte| byte.is_ascii_uppercase()) {
        key.to_ascii_lowercase().into()
    } else {
        Cow::from(key)
    };
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/".contains(&byte);
    let begins = key.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    (begins && key.bytes().all(allowed)).then_some(key)
}

/// `line` and the members of the message that are not `ours`, at most `most` of them all.
fn append(
    fields: &dyn Fields,
    name: &str,
    mut line: Vec<u8>,
    most: usize,
    ours: impl Fn(&[u8]) -> bool,
) -> Option<Vec<u8>> {
    let mut count = usize::from(!line.is_empty());
    members(fields, name, &mut |member| {
        let text = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~');
        let fits = count < most && line.len() + 1 + member.len() <= MAX_BYTES;
        if !fits || ours(member) || !member.iter().all(text) {
            return;
        }
        if !line.is_empty() {
            line.push(b',');
        }
        line.extend_from_slice(member);
        count += 1;
    });
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(tracestate: bool) -> Vec<LaneGroup> {
        let mut group = LaneGroup::new("g".parse().unwrap());
        group.propagation.tracestate = tracestate;
        vec![group]
    }

    fn label() -> Carried {
        Carried { group: Some("g".parse().unwrap()), lane: "canary".parse().unwrap(), source: Source::Trace }
    }

    fn text(line: Option<Vec<u8>>) -> Option<String> {
        line.map(|line| String::from_utf8(line).unwrap())
    }

    #[test]
    fn label_written_to_either_header_is_read_again_and_foreign_members_stay() {
        let sent: &[(&str, &str)] = &[(SW8_CORRELATION, "a2V5:dmFsdWU="), (TRACESTATE, "rojo=00f0,congo=t61")];
        let groups = groups(true);
        let sw8 = text(sw8_correlation(&sent, &groups, Some(("mesh-lane", &label())))).unwrap();
        let state = text(tracestate(&sent, &groups, Some(("mesh-lane", &label())))).unwrap();
        assert!(sw8.ends_with(",a2V5:dmFsdWU="), "{sw8}");
        assert_eq!(state, "mesh-lane=g/canary,rojo=00f0,congo=t61");
        let written: &[(&str, &str)] = &[(SW8_CORRELATION, &sw8), (TRACESTATE, &state)];
        assert_eq!(in_sw8(&written, &groups), Some(Carried { source: Source::Sw8, ..label() }));
        assert_eq!(in_tracestate(&written, &groups), Some(Carried { source: Source::Tracestate, ..label() }));
        assert_eq!(text(sw8_correlation(&written, &groups, None)).as_deref(), Some("a2V5:dmFsdWU="));
        assert_eq!(text(tracestate(&written, &groups, None)).as_deref(), Some("rojo=00f0,congo=t61"));
    }

    #[test]
    fn base64_is_that_of_the_library() {
        let bytes: Vec<u8> = (0..=255).collect();
        for length in 0..bytes.len() {
            let mut text = Vec::new();
            put_base64(&mut text, &bytes[bytes.len() - length..]);
            assert_eq!(String::from_utf8(text).unwrap(), STANDARD.encode(&bytes[bytes.len() - length..]));
        }
    }

    #[test]
    fn tracestate_is_left_alone_unless_a_group_wants_it() {
        let sent: &[(&str, &str)] = &[(TRACESTATE, "mesh-lane=canary")];
        assert_eq!(in_tracestate(&sent, &groups(false)), None);
        assert_eq!(ForwardedRole::of(b"tracestate", &groups(false)), ForwardedRole::None);
        assert_eq!(ForwardedRole::of(b"Tracestate", &groups(true)), ForwardedRole::Carrier);
        assert_eq!(ForwardedRole::of(b"sw8-correlation", &[]), ForwardedRole::None);
    }

    #[test]
    fn members_that_only_a_forgiving_reader_takes_for_ours_are_not_sent_on() {
        for member in ["bWVz!aC1sYW5l:Y2FuYXJ5", "bWVzaC1sYW5l:Y2Fu YXJ5", "bWVzaC1sYW5l=:Y2FuYXJ5", "bWVzaC1sYW5l"] {
            let value = format!("a2V5:dmFsdWU=,{member}");
            let sent: &[(&str, &str)] = &[(SW8_CORRELATION, &value)];
            let line = text(sw8_correlation(&sent, &groups(false), None));
            assert_eq!(line.as_deref(), Some("a2V5:dmFsdWU="), "{member}");
        }
    }

    #[test]
    fn malformed_members_carry_nothing() {
        for value in ["", ",", "bWVzaC1sYW5l", "bWVzaC1sYW5l:", "bWVzaC1sYW5l:?", "?:Y2FuYXJ5", "bWVzaC1sYW5l:YSBi"] {
            let sent: &[(&str, &str)] = &[(SW8_CORRELATION, value)];
            assert_eq!(in_sw8(&sent, &groups(false)), None, "{value}");
        }
        let long = "a=b,".repeat(3_000);
        let sent: &[(&str, &str)] = &[(TRACESTATE, &long)];
        assert_eq!(
            text(tracestate(&sent, &groups(true), Some(("mesh-lane", &label())))).as_deref(),
            Some("mesh-lane=g/canary")
        );
        let many = "a=b,".repeat(40);
        let sent: &[(&str, &str)] = &[(TRACESTATE, &many)];
        let line = text(tracestate(&sent, &groups(true), Some(("mesh-lane", &label())))).unwrap();
        assert_eq!(line.split(',').count(), TRACESTATE_MEMBERS);
    }
}
