//! Keys of requests, and their hashes: the same in every proxy, whatever its machine.

use std::net::{IpAddr, SocketAddr};

use crate::{
    fields::Fields,
    lane::entry::{cookies, parameters},
    model::policy::HashOn,
    pick::mix,
};

/// The key of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'p> {
    /// Its hash.
    Found(u64),
    /// It has none, and is to be answered with this cookie, whose value is its key from then on.
    ToSet(&'p HashOn),
    /// It has none.
    None,
}

/// Looks for the key of a request: the first place that has a value that is not empty.
pub fn key<'p>(on: &'p [HashOn], fields: &dyn Fields, query: Option<&str>, source: Option<IpAddr>) -> Key<'p> {
    let mut to_set = None;
    for place in on {
        let mut found = None;
        let mut keep = |value: &[u8]| found = found.or((!value.is_empty()).then(|| hash(value)));
        match place {
            HashOn::Header(name) => fields.each(name, &mut |value| keep(value.trim_ascii())),
            HashOn::Cookie { name, .. } => cookies(fields, name, &mut |value| keep(value)),
            HashOn::Query(name) => parameters(query, name, &mut keep),
            HashOn::SourceIp => match source.map(|address| address.to_canonical()) {
                Some(IpAddr::V4(address)) => keep(&address.octets()),
                Some(IpAddr::V6(address)) => keep(&address.octets()),
                None => {}
            },
        }
        match (found, place) {
            (Some(hash), _) => return Key::Found(hash),
            (None, HashOn::Cookie { ttl: Some(_), .. }) => to_set = to_set.or(Some(place)),
            (None, HashOn::Cookie { ttl: None, .. } | HashOn::Header(_) | HashOn::Query(_) | HashOn::SourceIp) => {}
        }
    }
    to_set.map_or(Key::None, Key::ToSet)
}

/// Hash of a key (FNV-1a, mixed). Not for what must withstand attackers: who knows it can have all keys at one instance.
pub fn hash(bytes: &[u8]) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    mix(bytes.iter().fold(BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME)))
}

/// Hash of an instance.
pub(crate) fn of_address(address: SocketAddr) -> u64 {
    let ip = match address.ip() {
        IpAddr::V4(ip) => hash(&ip.octets()),
        IpAddr::V6(ip) => hash(&ip.octets()),
    };
    mix(ip ^ u64::from(address.port()))
}
