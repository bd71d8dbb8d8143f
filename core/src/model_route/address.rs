//! Where a call goes at a provider, with which credential, and what of the caller's own fields and parameters goes with
//! it.
//!
//! Fields that belong to a connection or to the mesh are `relay`'s; here is what is particular to models.

use std::fmt::Write as _;

use super::request::Delivery;
use crate::{
    model::model_route::{Api, Provider},
    route::decoded,
};

/// Version of Azure's API of deployments: the newest that is no preview.
const AZURE_VERSION: &str = "2024-10-21";

/// Version that Anthropic's API is asked for where the caller asks for none.
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// Path and query of a call at a provider. `prefix` is that of the endpoint, without slash at its end; one that ends in
/// a version of its own (`/api/v3`, `/v1beta/openai`) stands in the place of the API's `/v1`.
pub fn path(provider: Provider, api: Api, prefix: &str, model: &str, delivery: Delivery) -> String {
    let operation = match api {
        Api::ChatCompletions => "chat/completions",
        Api::Responses => "responses",
        Api::Completions => "completions",
        Api::Embeddings => "embeddings",
        Api::Messages => "messages",
        Api::GenerateContent => {
            let method = match delivery {
                Delivery::Stream => "streamGenerateContent?alt=sse",
                Delivery::Whole => "generateContent",
            };
            let model = segment(model.strip_prefix("models/").unwrap_or(model));
            return format!("{}/models/{model}:{method}", based(prefix, "", "/v1beta"));
        }
    };
    match (provider, api) {
        // The newer form of Azure's API has a path of its own, no version, and the model in the body.
        (Provider::Azure, Api::Responses) => format!("{}/{operation}", based(prefix, "/openai", "/v1")),
        (Provider::Azure, _) if is_versioned(prefix) => format!("{prefix}/{operation}"),
        (Provider::Azure, _) => {
            let base = based(prefix, "/openai", "");
            format!("{base}/deployments/{}/{operation}?api-version={AZURE_VERSION}", segment(model))
        }
        (Provider::Dashscope, _) => format!("{}/{operation}", based(prefix, "/compatible-mode", "/v1")),
        (
            Provider::Openai | Provider::Anthropic | Provider::Gemini | Provider::Vllm | Provider::OpenaiCompatible,
            _,
        ) => format!("{}/{operation}", based(prefix, "", "/v1")),
    }
}

/// Path and query of the realtime API, a WebSocket, at a provider.
pub fn realtime(provider: Provider, prefix: &str, model: &str) -> String {
    let base = match provider {
        Provider::Azure => based(prefix, "/openai", "/v1"),
        Provider::Dashscope => {
            let host = prefix.strip_suffix("/v1").unwrap_or(prefix);
            format!("{}/api-ws/v1", host.strip_suffix("/compatible-mode").unwrap_or(host))
        }
        Provider::Openai | Provider::Anthropic | Provider::Gemini | Provider::Vllm | Provider::OpenaiCompatible => {
            based(prefix, "", "/v1")
        }
    };
    format!("{base}/realtime?model={}", segment(model))
}

/// `path` with those of the caller's query parameters behind it that a target of the same dialect may see (Anthropic's
/// `beta=true`): no credentials, and nothing that [`path`] says itself.
pub fn with_query(mut path: String, query: Option<&str>) -> String {
    let kept = query.unwrap_or_default().split('&').filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        !pair.is_empty() && !std::str::from_utf8(&decoded(name)).is_ok_and(is_own_parameter)
    });
    for pair in kept {
        path.push(if path.contains('?') { '&' } else { '?' });
        path.push_str(pair);
    }
    path
}

fn is_own_parameter(name: &str) -> bool {
    const OWN: [&str; 11] = [
        "key",
        "api_key",
        "api-key",
        "apikey",
        "access_token",
        "token",
        "subscription-key",
        "alt",
        "$alt",
        "api-version",
        "model",
    ];
    OWN.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// Prefix, place of the API behind it and version, each unless the prefix has it already.
fn based(prefix: &str, place: &str, version: &str) -> String {
    if is_versioned(prefix) {
        return prefix.to_owned();
    }
    let place = if prefix.ends_with(place) { "" } else { place };
    format!("{prefix}{place}{version}")
}

/// Whether a prefix ends in a version (`v1`, `v4`, `v1beta`), perhaps with `openai` behind it.
fn is_versioned(prefix: &str) -> bool {
    let prefix = prefix.strip_suffix("/openai").unwrap_or(prefix);
    let last = prefix.rsplit('/').next().unwrap_or_default().as_bytes();
    matches!(last, [b'v', b'0'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_alphanumeric))
}

/// Text as one segment of a path, or value of a query (RFC 3986).
fn segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'@' => {
                segment.push(byte.into());
            }
            _ => _ = write!(segment, "%{byte:02X}"),
        }
    }
    segment
}

/// The field that shows a key to a provider.
pub fn credential(provider: Provider, key: &str) -> (&'static str, String) {
    match provider {
        Provider::Openai | Provider::Dashscope | Provider::Vllm | Provider::OpenaiCompatible => {
            ("authorization", format!("Bearer {key}"))
        }
        Provider::Anthropic => ("x-api-key", key.to_owned()),
        Provider::Gemini => ("x-goog-api-key", key.to_owned()),
        Provider::Azure => ("api-key", key.to_owned()),
    }
}

/// Fields that a provider insists on, for requests whose caller's own do not pass or have none of this name.
pub fn defaults(provider: Provider) -> &'static [(&'static str, &'static str)] {
    match provider {
        Provider::Anthropic => &[("anthropic-version", ANTHROPIC_VERSION)],
        Provider::Openai
        | Provider::Gemini
        | Provider::Azure
        | Provider::Dashscope
        | Provider::Vllm
        | Provider::OpenaiCompatible => &[],
    }
}

/// Whether a caller's field shows a credential, or the account that one belongs to. Never sent on: the mesh holds the
/// keys, and a caller's own would go to whoever is the target.
pub fn is_credential(name: &str) -> bool {
    const CREDENTIALS: [&str; 13] = [
        "authorization",
        "proxy-authorization",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "x-goog-user-project",
        "ocp-apim-subscription-key",
        "openai-organization",
        "openai-project",
        "x-dashscope-workspace",
        "x-auth-token",
        "cookie",
        "cookie2",
    ];
    CREDENTIALS.iter().any(|credential| credential.eq_ignore_ascii_case(name))
}

/// Whether caller and target speak the same dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crossing {
    /// The request passes through.
    SameDialect,
    /// It is translated.
    OtherDialect,
}

/// Where a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the mesh.
    Mesh,
    /// Outside of it.
    Outside,
}

/// Whether a caller's request field goes to the target, as far as models are concerned. [`crate::relay::passage`] must
/// let it pass too.
pub fn passes(name: &str, crossing: Crossing, place: Place) -> bool {
    /// Written anew for the target. Compressed answers could not be watched for tokens.
    const ANEW: [&str; 5] = ["host", "content-length", "accept-encoding", "expect", "sec-websocket-protocol"];
    /// All that a caller in another dialect can say to a provider.
    const COMMON: [&str; 6] = ["accept", "content-type", "user-agent", "traceparent", "tracestate", "x-request-id"];
    let is = |list: &[&str]| list.iter().any(|field| field.eq_ignore_ascii_case(name));
    if is_credential(name) || is(&ANEW) {
        return false;
    }
    match (crossing, place) {
        (Crossing::SameDialect, Place::Mesh) => true,
        (Crossing::OtherDialect, Place::Mesh) => !is_of_dialect(name),
        (Crossing::SameDialect, Place::Outside) => !is_internal(name),
        (Crossing::OtherDialect, Place::Outside) => is(&COMMON),
    }
}

/// Fields of one provider's API and of its clients.
fn is_of_dialect(name: &str) -> bool {
    ["anthropic-", "openai-", "x-goog-", "x-stainless-", "x-dashscope-"].iter().any(|start| begins(name, start))
}

/// Fields that tell strangers who calls and from where.
fn is_internal(name: &str) -> bool {
    const INTERNAL: [&str; 4] = ["forwarded", "via", "x-real-ip", "baggage"];
    INTERNAL.iter().any(|field| field.eq_ignore_ascii_case(name))
        || ["x-forwarded-", "x-envoy-", "x-mesh-"].iter().any(|start| begins(name, start))
}

fn begins(name: &str, start: &str) -> bool {
    name.get(..start.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(start))
}

/// Value of `sec-websocket-protocol` for a target of the realtime API: the caller's, without those entries in which
/// browsers show a key (they cannot set fields). `None` where nothing is
/// left.
pub fn protocols(value: &str) -> Option<String> {
    const SECRETS: [&str; 3] = ["openai-insecure-api-key.", "openai-organization.", "openai-project."];
    let shown = |entry: &&str| !entry.is_empty() && !SECRETS.iter().any(|secret| begins(entry, secret));
    let kept: Vec<&str> = value.split(',').map(str::trim).filter(shown).collect();
    (!kept.is_empty()).then(|| kept.join(", "))
}

#[cfg(test)]
mod tests;
