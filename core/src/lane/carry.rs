//! Reads the label that a message carries, and writes the one `baggage` line that carries it on.

use std::borrow::Cow;

use super::{Carried, Source};
use crate::{
    fields::Fields,
    model::lane::{Carrier, LaneGroup, LaneName, LaneState},
    names::{BAGGAGE_HEADER, BAGGAGE_MAX_BYTES, LANE_BAGGAGE_KEY, LANE_HEADER},
    route::decoded,
    snapshot::Workload,
};

/// What follows the baggage key in the name of the member that names the group: `mesh-lane-group`.
pub(super) const GROUP_SUFFIX: &str = "-group";
/// Most bytes of baggage that are looked at, over all lines: senders may exceed what we write, but not without end.
const BAGGAGE_READ_MAX: usize = 8 * BAGGAGE_MAX_BYTES;

/// Reads the label of a message: carrier header, aliases, header named like the baggage key, baggage member; malformed
/// labels count as absent. The workload's own lane fills an absent label (outbound only: pass `None` inbound).
pub fn carried(fields: &dyn Fields, groups: &[LaneGroup], workload: Option<&Workload>) -> Option<Carried> {
    in_headers(fields, groups).or_else(|| in_baggage(fields, groups)).or_else(|| own_lane(groups, workload?))
}

pub(super) fn in_headers(fields: &dyn Fields, groups: &[LaneGroup]) -> Option<Carried> {
    let read = |name: &str| header_label(fields, name);
    if groups.is_empty() {
        return read(LANE_HEADER).or_else(|| read(LANE_BAGGAGE_KEY));
    }
    let carriers = || groups.iter().map(|group| &group.carrier);
    let header = carriers().find_map(|carrier| read(&carrier.header));
    let alias = || carriers().flat_map(|carrier| &carrier.aliases).find_map(|alias| read(alias));
    header.or_else(alias).or_else(|| carriers().find_map(|carrier| read(&carrier.baggage_key)))
}

fn header_label(fields: &dyn Fields, name: &str) -> Option<Carried> {
    let mut found = None;
    fields.each(name, &mut |value| {
        if found.is_none() {
            found = label(value.trim_ascii());
        }
    });
    found.map(|(group, lane)| Carried { group, lane, source: Source::Header })
}

/// `<lane>` or `<group>/<lane>`, percent-encoded or not.
pub(super) fn label(value: &[u8]) -> Option<(Option<LaneName>, LaneName)> {
    let text = decode(value)?;
    match text.split_once('/') {
        Some((group, lane)) => Some((Some(group.parse().ok()?), lane.parse().ok()?)),
        None => Some((None, text.parse().ok()?)),
    }
}

/// Percent-decodes; `None` where the result is no ASCII text or longer than any label could be.
fn decode(value: &[u8]) -> Option<Cow<'_, str>> {
    /// Two names and the stroke, every byte percent-encoded.
    const ENCODED_MAX: usize = 3 * (2 * crate::model::lane::NAME_MAX + 1);
    if value.len() > ENCODED_MAX {
        return None;
    }
    if !value.contains(&b'%') {
        return std::str::from_utf8(value).ok().map(Cow::Borrowed);
    }
    let mut text = String::with_capacity(value.len());
    let mut rest = value;
    while let [first, after @ ..] = rest {
        let (byte, next) = match (first, after) {
            (b'%', [high, low, next @ ..]) => (hex(*high)? << 4 | hex(*low)?, next),
            (b'%', _) => return None,
            _ => (*first, after),
        };
        text.push(if byte.is_ascii() { byte as char } else { return None });
        rest = next;
    }
    Some(Cow::Owned(text))
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|digit| digit as u8)
}

pub(super) fn in_baggage(fields: &dyn Fields, groups: &[LaneGroup]) -> Option<Carried> {
    fields.first(BAGGAGE_HEADER)?;
    if groups.is_empty() {
        return baggage_label(fields, LANE_BAGGAGE_KEY);
    }
    groups.iter().find_map(|group| baggage_label(fields, &group.carrier.baggage_key))
}

fn baggage_label(fields: &dyn Fields, key: &str) -> Option<Carried> {
    let (mut lane, mut group) = (None, None);
    members(fields, &mut |member| match member.role(key) {
        Role::Lane if lane.is_none() => lane = label(member.value()),
        Role::Group if group.is_none() => {
            group = label(member.value()).and_then(|(stroke, name)| stroke.is_none().then_some(name));
        }
        Role::Lane | Role::Group | Role::Foreign => {}
    });
    let (named, lane) = lane?;
    Some(Carried { group: named.or(group), lane, source: Source::Baggage })
}

/// The pod's own lane while its label means something: draft, active or draining.
pub(super) fn own_lane(groups: &[LaneGroup], workload: &Workload) -> Option<Carried> {
    let honoured = |state| match state {
        LaneState::Draft | LaneState::Active | LaneState::Draining => true,
        LaneState::Closed | LaneState::Promoted => false,
    };
    let own = workload.lanes.iter().find(|own| {
        let group = groups.iter().find(|group| group.name == own.group);
        group.and_then(|group| group.lane(&own.lane)).is_some_and(|lane| honoured(lane.state))
    })?;
    let group = (groups.len() > 1).then(|| own.group.clone());
    Some(Carried { group, lane: own.lane.clone(), source: Source::Workload })
}

/// Value of the one `baggage` line to send with a label (see [`foreign_baggage`] where there is none): our member first (`<key>=<lane>`, and `<key>-group=<group>` where the label
/// names one), every old member of these keys removed, foreign members kept in order and dropped from the end beyond
/// 8,192 bytes; malformed foreign members are dropped. `None` when there is nothing to send.
pub fn baggage<'f>(fields: &'f dyn Fields, key: &str, carried: Option<&Carried>) -> Option<Cow<'f, [u8]>> {
    if let Some(carried) = carried
        && let Some(line) = only_line(fields).filter(|line| is_line(line, key, carried))
    {
        return Some(Cow::Borrowed(line));
    }
    let mut line = Vec::new();
    if let Some(carried) = carried {
        let group = carried.group.as_ref().map(|group| group.as_str());
        let more = group.map_or(0, |group| 2 + key.len() + GROUP_SUFFIX.len() + group.len());
        line.reserve_exact(key.len() + 1 + carried.lane.as_str().len() + more);
        let mut write = |text: &str| line.extend_from_slice(text.as_bytes());
        [key, "=", carried.lane.as_str()].into_iter().for_each(&mut write);
        if let Some(group) = group {
            [",", key, GROUP_SUFFIX, "=", group].into_iter().for_each(write);
        }
    }
    append(fields, line, |member| member.role(key) != Role::Foreign).map(Cow::Owned)
}

/// The `baggage` line of a message that has exactly one.
fn only_line(fields: &dyn Fields) -> Option<&[u8]> {
    let (mut only, mut count) = (None, 0);
    fields.each(BAGGAGE_HEADER, &mut |line| (only, count) = (Some(line), count + 1));
    only.filter(|_| count == 1)
}

/// Whether a line is what we would write, and nothing else: so it comes from a sidecar, mostly.
fn is_line(line: &[u8], key: &str, carried: &Carried) -> bool {
    let lane = [key, "=", carried.lane.as_str()];
    let group = carried.group.as_ref().map(|group| [",", key, GROUP_SUFFIX, "=", group.as_str()]);
    let parts = lane.into_iter().chain(group.into_iter().flatten());
    let mut rest = Some(line);
    for part in parts {
        rest = rest.and_then(|rest| rest.strip_prefix(part.as_bytes()));
    }
    rest.is_some_and(<[u8]>::is_empty)
}

/// Value of the `baggage` line of a message that carries no lane: the foreign members, without those of any group. For
/// what leaves the mesh, and for what comes from a peer that may not set a label.
pub fn foreign_baggage(fields: &dyn Fields, groups: &[LaneGroup]) -> Option<Vec<u8>> {
    append(fields, Vec::new(), |member| {
        let carries = |key: &str| member.role(key) != Role::Foreign;
        carries(LANE_BAGGAGE_KEY) || groups.iter().any(|group| carries(&group.carrier.baggage_key))
    })
}

/// `line` and the well-formed members of the message that are not `ours`.
fn append(fields: &dyn Fields, mut line: Vec<u8>, ours: impl Fn(&Member<'_>) -> bool) -> Option<Vec<u8>> {
    let mut full = false;
    members(fields, &mut |member| {
        if full || ours(&member) || !member.is_well_formed() {
            return;
        }
        let comma = usize::from(!line.is_empty());
        if line.len() + comma + member.text.len() > BAGGAGE_MAX_BYTES {
            full = true;
            return;
        }
        line.extend_from_slice(&b","[..comma]);
        line.extend_from_slice(member.text);
    });
    (!line.is_empty()).then_some(line)
}

/// What a member of baggage is to a group's baggage key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// It names the lane.
    Lane,
    /// It names the group.
    Group,
    /// Neither.
    Foreign,
}

/// One list member of a baggage line (W3C Baggage 3.3.1), trimmed: `key=value` and properties behind `;`.
#[derive(Clone, Copy)]
struct Member<'a> {
    text: &'a [u8],
}

impl<'a> Member<'a> {
    fn split(&self) -> (&'a [u8], &'a [u8]) {
        let main = self.text.split(|byte| *byte == b';').next().unwrap_or_default();
        match main.iter().position(|byte| *byte == b'=') {
            Some(at) => (main[..at].trim_ascii(), main[at + 1..].trim_ascii()),
            None => (main.trim_ascii(), &[]),
        }
    }

    /// Whether it is one of the members that carry the label of a group with this baggage key. Without case: some stacks
    /// keep baggage in header names. Decoded: some decode keys when they read, and would write ours although it came in
    /// another spelling.
    fn role(&self, key: &str) -> Role {
        // As we write it ourselves.
        if self.text.strip_prefix(key.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'=')) {
            return Role::Lane;
        }
        let (name, _) = self.split();
        let is_encoded = name.iter().any(|byte| matches!(byte, b'%' | b'+'));
        let text = std::str::from_utf8(name).ok().filter(|_| is_encoded);
        let name = text.map_or(Cow::Borrowed(name), decoded);
        let Some((start, rest)) = name.trim_ascii().split_at_checked(key.len()) else { return Role::Foreign };
        if !start.eq_ignore_ascii_case(key.as_bytes()) {
            return Role::Foreign;
        }
        match rest {
            [] => Role::Lane,
            rest if rest.eq_ignore_ascii_case(GROUP_SUFFIX.as_bytes()) => Role::Group,
            _ => Role::Foreign,
        }
    }

    fn value(&self) -> &'a [u8] {
        self.split().1
    }

    /// A token, `=`, and visible ASCII: what the next reader can be given. UTF-8 as some SDKs send it unencoded is not.
    fn is_well_formed(&self) -> bool {
        let (key, _) = self.split();
        let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        let text = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~');
        let main = self.text.split(|byte| *byte == b';').next().unwrap_or_default();
        !key.is_empty() && key.iter().all(token) && main.contains(&b'=') && self.text.iter().all(text)
    }
}

/// Every member of every baggage line, in order.
fn members<'a>(fields: &'a dyn Fields, visit: &mut dyn FnMut(Member<'a>)) {
    let mut left = BAGGAGE_READ_MAX;
    fields.each(BAGGAGE_HEADER, &mut |line| {
        if line.len() > left {
            left = 0;
            return;
        }
        left -= line.len();
        for text in line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|text| !text.is_empty()) {
            visit(Member { text });
        }
    });
}

/// Whether a header of this name carries lanes, and in which role. `_` counts as `-`, because to applications behind
/// CGI, WSGI and the like both are the same. Baggage in header names, as Jaeger, OpenTracing and Brave write it, and the
/// lists of members that Jaeger takes from outside and .NET wrote before the standard, count as aliases, because stacks
/// that read them write them as ours.
pub(crate) fn carrier_role(name: &[u8], groups: &[LaneGroup]) -> CarrierRole {
    const IN_NAMES: [&str; 3] = ["uberctx-", "ot-baggage-", "baggage-"];
    const LISTS: [&str; 2] = ["jaeger-baggage", "correlation-context"];
    let behind = |prefix: &&str| {
        let (start, rest) = name.split_at_checked(prefix.len())?;
        alike(start, prefix.as_bytes()).then_some(rest)
    };
    let in_name = match name.first() {
        Some(b'u' | b'U' | b'o' | b'O' | b'b' | b'B') => IN_NAMES.iter().find_map(behind),
        Some(_) | None => None,
    };
    let is_list = match name.first() {
        Some(b'j' | b'J' | b'c' | b'C') => LISTS.iter().any(|list| alike(name, list.as_bytes())),
        Some(_) | None => false,
    };
    match plain_role(name, groups) {
        CarrierRole::None if is_list => CarrierRole::Alias,
        CarrierRole::None if in_name.is_some_and(|rest| plain_role(rest, groups) != CarrierRole::None) => {
            CarrierRole::Alias
        }
        role @ (CarrierRole::None | CarrierRole::Carrier | CarrierRole::Alias) => role,
    }
}

fn plain_role(name: &[u8], groups: &[LaneGroup]) -> CarrierRole {
    let is = |text: &str| alike(name, text.as_bytes());
    let writes = |carrier: &Carrier| is(&carrier.header) || is(&carrier.baggage_key);
    if is(LANE_HEADER) || is(LANE_BAGGAGE_KEY) || groups.iter().any(|group| writes(&group.carrier)) {
        CarrierRole::Carrier
    } else if groups.iter().any(|group| group.carrier.aliases.iter().any(|alias| is(alias))) {
        CarrierRole::Alias
    } else {
        CarrierRole::None
    }
}

/// Whether two names are the same without case and with `_` for `-`.
pub(crate) fn alike(name: &[u8], other: &[u8]) -> bool {
    let plain = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.len() == other.len() && (name == other || name.iter().map(plain).eq(other.iter().map(plain)))
}

/// Role of a header in carrying lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CarrierRole {
    /// Written by the mesh.
    Carrier,
    /// Read by the mesh, written by others.
    Alias,
    /// None.
    None,
}
