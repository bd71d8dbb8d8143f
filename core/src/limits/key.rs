//! What tells callers apart, as one text: every key has counts of its own.

use std::{fmt::Write as _, sync::Arc};

use sha2::{Digest as _, Sha256};

use crate::model::model_route::KeyPart;

/// Longest value of a header that stands in a key as it is, bytes; of longer ones their hash does.
const VALUE_MAX: usize = 128;

/// Who asks, as far as keys can tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caller<'a> {
    /// SPIFFE identity of the workload.
    pub identity: Option<&'a str>,
    /// Its namespace.
    pub namespace: Option<&'a str>,
    /// Lane of the request, `<group>/<lane>`.
    pub lane: Option<&'a str>,
}

/// Whose counts are meant. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// Of a caller of a route, by what its limits tell callers apart by. `header` gives the value of a request header by
    /// its lower-case name; who lacks a part shares the counts of all who lack it.
    pub fn of_caller<'a>(
        route: &str,
        parts: &[KeyPart],
        caller: &Caller<'_>,
        header: impl Fn(&str) -> Option<&'a [u8]>,
    ) -> Key {
        let mut text = String::with_capacity(64);
        part(&mut text, "caller", Some(route.as_bytes()));
        for wanted in parts {
            match wanted {
                KeyPart::Identity => part(&mut text, "identity", caller.identity.map(str::as_bytes)),
                KeyPart::Namespace => part(&mut text, "namespace", caller.namespace.map(str::as_bytes)),
                KeyPart::Lane => part(&mut text, "lane", caller.lane.map(str::as_bytes)),
                KeyPart::Header(name) => part(&mut text, name, header(name)),
            }
        }
        Key(text.into())
    }

    /// Of a target of a route: all its callers together.
    pub fn of_target(route: &str, target: &str) -> Key {
        let mut text = String::with_capacity(64);
        part(&mut text, "route", Some(route.as_bytes()));
        part(&mut text, "target", Some(target.as_bytes()));
        Key(text.into())
    }

    /// As text, for people.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Name under which every proxy of the fleet counts the `nth` limit of this kind for it.
    pub(super) fn cell(&self, limit: &str) -> u128 {
        let digest = Sha256::new().chain_update(self.0.as_bytes()).chain_update([0]).chain_update(limit).finalize();
        digest.iter().take(16).fold(0, |cell, byte| cell << 8 | u128::from(*byte))
    }
}

/// Adds one part. Lengths stand before values, so that no value can pass for two parts.
fn part(text: &mut String, name: &str, value: Option<&[u8]>) {
    let written = match value {
        None => write!(text, "{name}-;"),
        Some(value) if value.len() > VALUE_MAX => {
            let digest = Sha256::digest(value);
            let head = digest.iter().take(16).fold(0u128, |head, byte| head << 8 | u128::from(*byte));
            write!(text, "{name}#{head:032x};")
        }
        Some(value) => write!(text, "{name}{}={};", value.len(), value.escape_ascii()),
    };
    written.expect("a String takes any text");
}
