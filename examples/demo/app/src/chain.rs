//! The call to the next service: one connection per call, headers of lane and trace copied as the settings say.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use clap::ValueEnum;
use http::{HeaderMap, HeaderName, Request, Uri, header::HOST};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

/// Longest wait for the answer of the rest of the chain.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Largest answer of the rest of the chain, bytes.
const ANSWER_MAX: usize = 256 * 1024;

const LANE: &[&str] = &["x-mesh-lane"];
const BAGGAGE: &[&str] = &["baggage"];
const TRACE: &[&str] =
    &["traceparent", "tracestate", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled", "x-b3-parentspanid", "sw8"];

/// Which headers of a request are copied to the next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Forward {
    /// Lane header, baggage and trace context
    All,
    /// x-mesh-lane alone
    Header,
    /// baggage alone
    Baggage,
    /// Trace context alone
    Trace,
    /// Nothing
    None,
}

impl Forward {
    fn names(self) -> &'static [&'static [&'static str]] {
        match self {
            Forward::All => &[LANE, BAGGAGE, TRACE],
            Forward::Header => &[LANE],
            Forward::Baggage => &[BAGGAGE],
            Forward::Trace => &[TRACE],
            Forward::None => &[],
        }
    }
}

/// Next service, if there is one.
#[derive(Clone, Debug)]
pub(crate) struct Next(Option<Uri>);

/// Reads `--next`.
///
/// # Errors
/// When the text is neither `none` nor an http URL with a host.
pub(crate) fn parse_next(text: &str) -> Result<Next, String> {
    if text == "none" {
        return Ok(Next(None));
    }
    let uri: Uri = text.parse().map_err(|error| format!("{error}; expected http://HOST[:PORT][/PATH] or none"))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http"), Some(_)) => Ok(Next(Some(uri))),
        _ => Err("expected http://HOST[:PORT][/PATH] or none".to_owned()),
    }
}

/// How the next service is called.
pub(crate) struct Chain {
    next: Option<Uri>,
    via: Option<SocketAddr>,
    forward: Forward,
}

impl Chain {
    /// A chain whose next call goes to `next`, over a connection to `via` where given.
    pub(crate) fn new(next: Next, via: Option<SocketAddr>, forward: Forward) -> Self {
        Chain { next: next.0, via, forward }
    }

    /// Calls the next service with what `incoming` carries; `Value::Null` at the end of the chain.
    ///
    /// # Errors
    /// When the call fails or its answer is not 200 with JSON; the text names the next service.
    pub(crate) async fn call(&self, incoming: &HeaderMap) -> anyhow::Result<Value> {
        let Some(next) = &self.next else { return Ok(Value::Null) };
        timeout(CALL_TIMEOUT, self.exchange(next, incoming))
            .await
            .with_context(|| format!("{next} did not answer within {} s", CALL_TIMEOUT.as_secs()))?
            .with_context(|| format!("cannot call {next}"))
    }

    async fn exchange(&self, next: &Uri, incoming: &HeaderMap) -> anyhow::Result<Value> {
        let stream = match self.via {
            Some(address) => TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?,
            None => {
                let host = next.host().context("no host")?;
                TcpStream::connect((host, next.port_u16().unwrap_or(80))).await?
            }
        };
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let exchange = async {
            let response = sender.send_request(self.request(next, incoming)?).await?;
            let (head, body) = response.into_parts();
            let whole = Limited::new(body, ANSWER_MAX).collect().await.map_err(|error| anyhow!(error))?.to_bytes();
            if head.status != http::StatusCode::OK {
                let said = String::from_utf8_lossy(&whole[..whole.len().min(500)]).into_owned();
                bail!("it answered {}: {said}", head.status);
            }
            serde_json::from_slice(&whole).context("its answer is not JSON")
        };
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            answer = exchange.as_mut() => answer,
            ended = connection => match ended {
                // Closed in order: what was read may still be whole.
                Ok(()) => exchange.await,
                Err(error) => Err(error.into()),
            },
        }
    }

    fn request(&self, next: &Uri, incoming: &HeaderMap) -> anyhow::Result<Request<Empty<Bytes>>> {
        let path = next.path_and_query().map_or("/", |path| path.as_str());
        let authority = next.authority().context("no host")?;
        let mut request = Request::get(path).header(HOST, authority.as_str()).body(Empty::new())?;
        for name in self.forward.names().iter().copied().flatten() {
            for value in incoming.get_all(*name) {
                request.headers_mut().append(HeaderName::from_static(name), value.clone());
            }
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_lane_and_trace_are_copied_and_others_are_not() {
        let mut incoming = HeaderMap::new();
        for name in ["x-mesh-lane", "baggage", "traceparent", "authorization", "l5d-client-id"] {
            incoming.insert(name, "v".parse().unwrap());
        }
        let next = parse_next("http://b:8080/x?y=1").unwrap();
        let uri = next.0.clone().unwrap();
        let copied = |forward| {
            let request = Chain::new(next.clone(), None, forward).request(&uri, &incoming).unwrap();
            assert_eq!(request.uri(), "/x?y=1");
            let mut names: Vec<_> = request.headers().keys().map(|name| name.as_str().to_owned()).collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(copied(Forward::All), "baggage host traceparent x-mesh-lane");
        assert_eq!(copied(Forward::Trace), "host traceparent");
        assert_eq!(copied(Forward::None), "host");
    }

    #[test]
    fn next_is_none_or_an_http_url() {
        assert!(parse_next("none").is_ok());
        for refused in ["b:8080", "https://b", "/path", "http://"] {
            assert!(parse_next(refused).is_err(), "{refused}");
        }
    }
}
