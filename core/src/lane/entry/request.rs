//! What entry rules and shares see of a request.

use std::{borrow::Cow, cell::OnceCell, fmt, net::IpAddr};

use base64::{
    Engine as _,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::Value;

use crate::{
    fields::Fields,
    identity::Identity,
    lane::trace::TraceId,
    model::lane::{Condition, KeySource, Subject},
    route::{RequestParts, decoded, without_dot_segments},
};

/// Longest bearer token that is looked into, bytes; of a longer one no claim is present.
const TOKEN_MAX: usize = 16 * 1024;

/// Base64 of tokens, padded or not.
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A request that asks to be decided.
pub struct Asked<'a> {
    /// Method, path, query, fields.
    pub parts: RequestParts<'a>,
    /// Address of the caller, IPv4 mapped into IPv6 as IPv4; `None` = not known.
    pub source: Option<IpAddr>,
    /// Identity that the caller proved.
    pub identity: Option<&'a Identity>,
    /// Trace id of the request; as a key, its 32 hexadecimal digits in lower case, whatever header it stood in.
    pub trace: Option<TraceId>,
    claims: OnceCell<Option<Value>>,
    path: OnceCell<Cow<'a, str>>,
}

impl<'a> Asked<'a> {
    /// A request whose claims are read when a rule wants one.
    pub fn new(
        parts: RequestParts<'a>,
        source: Option<IpAddr>,
        identity: Option<&'a Identity>,
        trace: Option<TraceId>,
    ) -> Self {
        let source = source.map(|source| source.to_canonical());
        Asked { parts, source, identity, trace, claims: OnceCell::new(), path: OnceCell::new() }
    }

    /// Path as a server resolves it, worked out once however many conditions look at it.
    pub(super) fn path(&self) -> &str {
        self.path.get_or_init(|| without_dot_segments(self.parts.path))
    }

    fn claims(&self) -> Option<&Value> {
        self.claims.get_or_init(|| claims(self.parts.fields)).as_ref()
    }
}

/// Calls `visit` with every value that a condition looks at.
pub(super) fn values(condition: &Condition, asked: &Asked<'_>, visit: &mut dyn FnMut(&[u8])) {
    let name = condition.name.as_str();
    match condition.subject {
        Subject::Header => asked.parts.fields.each(name, &mut |value| visit(value.trim_ascii())),
        Subject::Cookie => cookies(asked.parts.fields, name, visit),
        Subject::Query => parameters(asked.parts.query, name, visit),
        Subject::Path => visit(asked.path().as_bytes()),
        Subject::Method => visit(asked.parts.method.as_bytes()),
        Subject::SourceIp => asked.source.iter().for_each(|source| visit(source.to_string().as_bytes())),
        Subject::Identity => asked.identity.iter().for_each(|identity| visit(identity.to_string().as_bytes())),
        Subject::Claim => asked.claims().into_iter().for_each(|claims| claim(claims, name, visit)),
    }
}

/// Key of a user: the first value that is not empty; an empty one would put everybody who has none into one bucket.
pub(super) fn key_value<'r>(key: &KeySource, asked: &'r Asked<'_>) -> Option<Cow<'r, [u8]>> {
    let mut lasting: Option<&'r [u8]> = None;
    let mut keep = |value: &'r [u8]| lasting = lasting.or(Some(value).filter(|value| !value.is_empty()));
    match key {
        KeySource::Header(name) => asked.parts.fields.each(name, &mut |value| keep(value.trim_ascii())),
        KeySource::Cookie(name) => cookies(asked.parts.fields, name, &mut keep),
        KeySource::Query(_) | KeySource::Claim(_) | KeySource::SourceIp | KeySource::TraceId => {
            return made_key_value(key, asked).map(Cow::Owned);
        }
    }
    lasting.map(Cow::Borrowed)
}

/// As [`key_value`], of what does not stand in the request as it is.
fn made_key_value(key: &KeySource, asked: &Asked<'_>) -> Option<Vec<u8>> {
    let mut found: Option<Vec<u8>> = None;
    let mut first = |value: &[u8]| {
        if found.is_none() && !value.is_empty() {
            found = Some(value.to_vec());
        }
    };
    match key {
        KeySource::Header(_) | KeySource::Cookie(_) => {}
        KeySource::Query(name) => parameters(asked.parts.query, name, &mut first),
        KeySource::Claim(name) => asked.claims().into_iter().for_each(|claims| claim(claims, name, &mut first)),
        KeySource::SourceIp => asked.source.iter().for_each(|source| first(source.to_string().as_bytes())),
        KeySource::TraceId => return asked.trace.map(|trace| trace.to_string().into_bytes()),
    }
    found
}

/// Values of a cookie over all `cookie` lines, without the quotes that RFC 6265 allows around them.
pub(crate) fn cookies<'r>(fields: &'r dyn Fields, name: &str, visit: &mut dyn FnMut(&'r [u8])) {
    fields.each("cookie", &mut |line| {
        for pair in line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii) {
            let Some(at) = pair.iter().position(|byte| *byte == b'=') else { continue };
            let (key, value) = (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii());
            if key == name.as_bytes() {
                visit(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value));
            }
        }
    });
}

/// Values of a query parameter, decoded (`%xx` and `+`).
pub(crate) fn parameters(query: Option<&str>, name: &str, visit: &mut dyn FnMut(&[u8])) {
    for parameter in query.unwrap_or_default().split('&').filter(|parameter| !parameter.is_empty()) {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if decoded(key) == name.as_bytes() {
            visit(&decoded(value));
        }
    }
}

/// Claims of the bearer token in `authorization`, decoded without verification: whoever cares whether they are true must
/// verify the token. Malformed or longer than [`TOKEN_MAX`] = none.
fn claims(fields: &dyn Fields) -> Option<Value> {
    let value = fields.first("authorization")?.trim_ascii();
    let (scheme, token) = value.split_at_checked(7)?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") || token.len() > TOKEN_MAX {
        return None;
    }
    let mut parts = token.trim_ascii().split(|byte| *byte == b'.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    let claims: Value = serde_json::from_slice(&BASE64_URL.decode(payload).ok()?).ok()?;
    (parts.next().is_none() && claims.is_object()).then_some(claims)
}

/// Values of a claim: the member called so, or, where there is none, the one that a dotted name leads to
/// (`realm_access.roles`). Texts, numbers and booleans; of a list, its elements.
fn claim(claims: &Value, name: &str, visit: &mut dyn FnMut(&[u8])) {
    let nested = || name.split('.').try_fold(claims, |value, part| value.get(part));
    match claims.get(name).or_else(nested) {
        Some(Value::Array(elements)) => elements.iter().for_each(|element| scalar(element, visit)),
        Some(value) => scalar(value, visit),
        None => {}
    }
}

fn scalar(value: &Value, visit: &mut dyn FnMut(&[u8])) {
    match value {
        Value::String(text) => visit(text.as_bytes()),
        Value::Number(number) => visit(number.to_string().as_bytes()),
        Value::Bool(truth) => visit(if *truth { b"true" } else { b"false" }),
        Value::Null | Value::Array(_) | Value::Object(_) => {}
    }
}

/// As written in a lane: `header:x`, `sourceIP`.
impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::Header(name) => write!(f, "header:{name}"),
            KeySource::Cookie(name) => write!(f, "cookie:{name}"),
            KeySource::Claim(name) => write!(f, "claim:{name}"),
            KeySource::Query(name) => write!(f, "query:{name}"),
            KeySource::SourceIp => f.write_str("sourceIP"),
            KeySource::TraceId => f.write_str("traceId"),
        }
    }
}
