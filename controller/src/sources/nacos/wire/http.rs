//! The little HTTP that gRPC has no request for: login, and lists of namespaces and configurations. One connection per
//! request; they are rare.

use std::pin::pin;

use http::{HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{
    Address, Cause, HTTP_TIMEOUT, Tls,
    dial::{Protocol, dial},
    error::shortened,
    lenient::{Text, Whole},
};

/// Largest answer, bytes: a page of configurations, which version 1 of the API lists with their content.
const BODY_MAX: usize = 16 << 20;
/// Statuses that say that a server has no such path: it is older or newer than the path, or has it switched off.
const NO_SUCH_PATH: &[u16] = &[404, 405, 410, 501];

/// What is asked.
pub(super) struct Ask<'a> {
    /// GET, or POST with the fields in its body.
    pub(super) method: Method,
    /// Path below `/nacos`.
    pub(super) path: &'a str,
    /// Fields of the query or the form.
    pub(super) fields: &'a [(&'a str, &'a str)],
    /// Token of the login, if there is one.
    pub(super) token: Option<&'a str>,
}

/// What came back.
pub(super) struct Answer {
    /// Status.
    pub(super) status: u16,
    body: Bytes,
}

impl Answer {
    /// The server does not know the path.
    pub(super) fn is_no_such_path(&self) -> bool {
        NO_SUCH_PATH.contains(&self.status)
    }

    /// What the server said about a failure: the field `message` of its JSON, or its text.
    pub(super) fn said(&self) -> String {
        #[derive(serde::Deserialize)]
        struct Failure {
            message: Text,
        }
        match serde_json::from_slice::<Failure>(&self.body) {
            Ok(failure) => shortened(&failure.message.0),
            Err(_) => shortened(&String::from_utf8_lossy(&self.body)),
        }
    }

    /// The JSON of a good answer.
    ///
    /// # Errors
    /// What the server refused, or the JSON that it is not.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Cause> {
        if self.status != 200 {
            return Err(Cause::of_code(self.status.into(), &self.said()));
        }
        serde_json::from_slice(&self.body).map_err(|error| Cause::Malformed(shortened(&error.to_string())))
    }

    /// The field `data` of the answer of an API that puts its own code (0, of the console 200) beside it.
    ///
    /// # Errors
    /// As [`Answer::json`], and by that code.
    pub(super) fn data<T: DeserializeOwned>(&self) -> Result<T, Cause> {
        #[derive(serde::Deserialize)]
        struct Head {
            #[serde(default)]
            code: Whole,
            #[serde(default)]
            message: Text,
        }
        #[derive(serde::Deserialize)]
        struct Wrapped<T> {
            data: T,
        }
        let Head { code, message } = self.json()?;
        if code.0 != 0 && code.0 != 200 {
            return Err(Cause::of_code(code.0, &message.0));
        }
        Ok(self.json::<Wrapped<T>>()?.data)
    }
}

/// Asks a server.
pub(super) async fn ask(address: &Address, tls: Option<&Tls>, ask: &Ask<'_>) -> Result<Answer, Cause> {
    let tls = tls.filter(|tls| tls.http);
    let exchange = async {
        let connection = dial(&address.host, address.port, tls, Protocol::Http1).await?;
        exchange(connection, request(address, ask)?).await
    };
    timeout(HTTP_TIMEOUT, exchange).await.map_err(|_| Cause::Silent(HTTP_TIMEOUT))?
}

fn request(address: &Address, ask: &Ask<'_>) -> Result<Request<Full<Bytes>>, Cause> {
    let fields = encoded(ask.fields);
    let in_body = ask.method == Method::POST;
    let path = format!("/nacos{}{}", ask.path, if in_body { String::new() } else { format!("?{fields}") });
    let mut request = Request::builder().method(&ask.method).uri(path).header(header::HOST, address.authority());
    if in_body {
        request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    }
    if let Some(token) = ask.token {
        let mut bearer = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| Cause::Malformed("the token of the login cannot stand in a header".to_owned()))?;
        bearer.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, bearer);
    }
    let body = if in_body { Bytes::from(fields) } else { Bytes::new() };
    request.body(Full::new(body)).map_err(|error| Cause::Malformed(error.to_string()))
}

async fn exchange(connection: super::dial::Connection, request: Request<Full<Bytes>>) -> Result<Answer, Cause> {
    let broken = |error: hyper::Error| Cause::Ended(shortened(&error.to_string()));
    let (mut sender, connection) = http1::handshake(TokioIo::new(connection)).await.map_err(broken)?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), BODY_MAX).collect().await;
        let body = body.map_err(|error| Cause::Malformed(shortened(&error.to_string())))?.to_bytes();
        Ok(Answer { status, body })
    };
    let (mut connection, mut answered) = (pin!(connection), pin!(answered));
    tokio::select! {
        answer = &mut answered => answer,
        // What it read before its end is still to be had.
        _ = &mut connection => answered.await,
    }
}

/// `a=b&c=d`, everything but letters, digits and `-_.~` in percents (RFC 3986 2.3).
fn encoded(fields: &[(&str, &str)]) -> String {
    let mut text = String::new();
    let escape = |text: &mut String, part: &str| {
        for byte in part.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                text.push(byte.into());
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
    };
    for (key, value) in fields {
        if !text.is_empty() {
            text.push('&');
        }
        escape(&mut text, key);
        text.push('=');
        escape(&mut text, value);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_escaped() {
        assert_eq!(
            encoded(&[("username", "a&b=c"), ("password", "ü /+")]),
            "username=a%26b%3Dc&password=%C3%BC%20%2F%2B"
        );
    }

    #[test]
    fn what_a_server_says_of_a_failure_is_found_in_json_and_text() {
        let answer = |status, body: &'static str| Answer { status, body: Bytes::from_static(body.as_bytes()) };
        assert_eq!(answer(403, r#"{"status":403,"message":"unknown user!"}"#).said(), "unknown user!");
        assert_eq!(answer(500, "caused: no\nway").said(), "caused: noway");
        assert!(matches!(answer(403, "no").json::<Text>(), Err(Cause::Denied { .. })));
        assert!(matches!(answer(200, "{").json::<Text>(), Err(Cause::Malformed(_))));
        let refused = answer(200, r#"{"code":30000,"message":"server error","data":null}"#);
        assert!(matches!(refused.data::<Vec<Text>>(), Err(Cause::Refused { code: 30_000, .. })));
        assert!(matches!(answer(200, r#"{"code":0}"#).data::<Vec<Text>>(), Err(Cause::Malformed(_))));
    }
}
