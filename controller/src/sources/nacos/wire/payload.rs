//! Envelopes: JSON of a request into a payload, and the JSON of a response out of one.

use std::collections::BTreeMap;

use mesh_proto::nacos::{Any, Metadata, Payload};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Cause,
    error::shortened,
    message::{Acknowledged, Head, Request, Sent},
};

/// Name under which requests carry the token of a login.
const TOKEN: &str = "accessToken";
/// Result of a response that went well.
const SUCCESS: i64 = 200;

/// Who asks, as it stands on every envelope.
pub(super) struct Sender<'a> {
    /// Our address.
    pub(super) ip: &'a str,
    /// Token of the login, if there is one.
    pub(super) token: Option<&'a str>,
}

/// A request in its envelope.
pub(super) fn request<R: Request>(request: &R, id: u64, sender: &Sender<'_>) -> Payload {
    let sent = Sent { request_id: id.to_string(), module: R::MODULE, headers: BTreeMap::new(), request };
    let token = sender.token.map(|token| (TOKEN.to_owned(), token.to_owned()));
    envelope(R::CLASS, &sent, sender.ip, token.into_iter().collect())
}

/// Our answer `class` to the request `id` of a server.
pub(super) fn acknowledged(class: &str, id: &str, ip: &str) -> Payload {
    let answer = Acknowledged { result_code: 200, error_code: 0, request_id: id, success: true };
    envelope(class, &answer, ip, BTreeMap::new())
}

fn envelope(class: &str, body: &impl Serialize, ip: &str, headers: BTreeMap<String, String>) -> Payload {
    let value = serde_json::to_vec(body).expect("requests are made of texts, numbers and flags");
    Payload {
        metadata: Some(Metadata { r#type: class.to_owned(), client_ip: ip.to_owned(), headers }),
        body: Some(Any { type_url: String::new(), value }),
    }
}

/// Class of what a server sent, and its JSON.
pub(super) fn opened(payload: Payload) -> (String, Vec<u8>) {
    (payload.metadata.unwrap_or_default().r#type, payload.body.unwrap_or_default().value)
}

/// The response to a request, or why there is none in this payload. The code of a refusal is that of the error.
pub(super) fn response<T: DeserializeOwned>(payload: Payload) -> Result<T, Cause> {
    let (_, json) = opened(payload);
    let head: Head = read(&json)?;
    if head.result_code.0 != SUCCESS {
        let code = if head.error_code.0 == 0 { head.result_code.0 } else { head.error_code.0 };
        return Err(Cause::of_code(code, &head.message.0));
    }
    read(&json)
}

/// Reads JSON of a server.
pub(super) fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, Cause> {
    serde_json::from_slice(json).map_err(|error| Cause::Malformed(shortened(&error.to_string())))
}
