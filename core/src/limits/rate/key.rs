//! Whose request it is, as far as a limit tells callers apart. Compared and hashed where it stands: only a key that is new
//! is copied.

use sha2::{Digest as _, Sha256};

use super::rules::Rule;
use crate::{
    identity::Identity,
    model::{lane::LaneName, policy::RateKey},
    route::RequestParts,
};

/// Longest value of a header that stands in a key as it is, bytes; of longer ones their hash does.
const VALUE_MAX: usize = 128;

/// A request, and who asks.
pub struct Asked<'a> {
    /// Identity that the caller proved; `None` = it came in the clear.
    pub identity: Option<&'a Identity>,
    /// Lane of the request: its group where that is known, and its name.
    pub lane: Option<(Option<&'a LaneName>, &'a LaneName)>,
    /// The request.
    pub parts: RequestParts<'a>,
}

/// Writes the key of a request, piece by piece; `route` is which condition of the rule it met. Who lacks a part shares the
/// counts of all who lack it. Lengths stand before values, so that no value can pass for two parts.
pub(super) fn write(rule: &Rule, asked: &Asked<'_>, route: usize, mut to: impl FnMut(&[u8])) {
    to(&rule.id().to_le_bytes());
    for part in &rule.limit.key {
        match (part, asked.identity, asked.lane) {
            (RateKey::Identity, Some(identity), _) => {
                to(&[1]);
                for piece in [identity.trust_domain(), identity.namespace(), identity.service_account()] {
                    value(piece.as_bytes(), &mut to);
                }
            }
            (RateKey::Namespace, Some(identity), _) => {
                to(&[1]);
                value(identity.namespace().as_bytes(), &mut to);
            }
            (RateKey::Lane, _, Some((group, lane))) => {
                to(&[1]);
                value(group.map_or("", LaneName::as_str).as_bytes(), &mut to);
                value(lane.as_str().as_bytes(), &mut to);
            }
            (RateKey::Identity | RateKey::Namespace, None, _) | (RateKey::Lane, _, None) => to(&[0]),
            (RateKey::Route, ..) => value(&route.to_le_bytes(), &mut to),
            (RateKey::Header(name), ..) => match asked.parts.fields.first(name) {
                None => to(&[0]),
                Some(long) if long.len() > VALUE_MAX => {
                    to(&[2]);
                    to(&Sha256::digest(long));
                }
                Some(short) => {
                    to(&[1]);
                    value(short, &mut to);
                }
            },
        }
    }
}

fn value(bytes: &[u8], to: &mut impl FnMut(&[u8])) {
    to(&bytes.len().to_le_bytes());
    to(bytes);
}

/// Whether a key that was kept is the request's.
pub(super) fn is(kept: &[u8], rule: &Rule, asked: &Asked<'_>, route: usize) -> bool {
    let mut rest = Some(kept);
    write(rule, asked, route, |piece| rest = rest.and_then(|rest| rest.strip_prefix(piece)));
    rest.is_some_and(<[u8]>::is_empty)
}

/// Name under which all sidecars of the service count for a key.
pub(super) fn cell(kept: &[u8], limit: &str) -> u128 {
    let digest = Sha256::new().chain_update("requests\0").chain_update(kept).chain_update(limit).finalize();
    digest.iter().take(16).fold(0, |cell, byte| cell << 8 | u128::from(*byte))
}
