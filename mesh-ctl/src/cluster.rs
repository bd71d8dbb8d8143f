//! HTTP client of the controller's console and of admin ports: JSON in, JSON out, every wait and answer bounded.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

use crate::exit::Failure;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a whole answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer, bytes: all endpoints of 100,000 fit.
const ANSWER_MAX: usize = 256 * 1024 * 1024;

/// An answer, read whole.
pub(crate) struct Answer {
    /// Status.
    pub(crate) status: StatusCode,
    /// Body.
    pub(crate) body: Bytes,
}

/// The controller's console.
pub(crate) struct Controller {
    base: Uri,
}

impl Controller {
    /// The console at `base`, `http://HOST:PORT`.
    pub(crate) fn new(base: Uri) -> Self {
        Controller { base }
    }

    /// The console at an address.
    pub(crate) fn at(address: SocketAddr) -> Self {
        let base = format!("http://{address}").parse().expect("an address makes a URL");
        Controller { base }
    }

    /// Reads `{"items": […]}` of a collection, for example `services`.
    ///
    /// # Errors
    /// When the controller cannot be reached or answers something else.
    pub(crate) async fn items(&self, collection: &str) -> Result<Vec<Value>, Failure> {
        let mut whole = self.read(&format!("/api/v1/{collection}")).await?;
        match whole.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => Ok(items),
            _ => Err(Failure::plain(format!("the controller's answer about {collection} has no list of items"))
                .advise("compare versions with `mesh-ctl version`")),
        }
    }

    /// Reads one JSON document.
    ///
    /// # Errors
    /// When the controller cannot be reached or does not answer 200 with JSON.
    pub(crate) async fn read(&self, path: &str) -> Result<Value, Failure> {
        let answer = self.exchange(Method::GET, path, Bytes::new()).await?;
        if answer.status != StatusCode::OK {
            return Err(match reason(&answer) {
                Some(reason) => {
                    Failure::plain(reason).advise("compare versions with `mesh-ctl version` if it should be there")
                }
                None => self.refused(path, &answer),
            });
        }
        serde_json::from_slice(&answer.body)
            .map_err(|error| Failure::not_well(format!("the answer of {}{path} is not JSON", self.name()), error))
    }

    /// Whether the controller serves proxies.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub(crate) async fn is_ready(&self) -> Result<bool, Failure> {
        let answer = self.exchange(Method::GET, "/ready", Bytes::new()).await?;
        Ok(answer.status == StatusCode::OK)
    }

    /// Sends YAML; the caller judges the status.
    ///
    /// # Errors
    /// When the controller cannot be reached.
    pub(crate) async fn send(&self, path: &str, yaml: Vec<u8>) -> Result<Answer, Failure> {
        self.exchange(Method::POST, path, yaml.into()).await
    }

    /// The failure that a status other than the expected one means.
    pub(crate) fn refused(&self, path: &str, answer: &Answer) -> Failure {
        let said = String::from_utf8_lossy(&answer.body[..answer.body.len().min(500)]).trim().to_owned();
        Failure::plain(format!("the controller at {} answered {} to {path}: {said}", self.name(), answer.status))
            .advise("compare versions with `mesh-ctl version`; look at the controller's log")
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, Failure> {
        exchange(&self.base, method, path, body).await.map_err(|error| {
            Failure::unreachable(format!("cannot reach the controller at {}", self.name()), error).advise(
                "see that mesh-controller runs, and name its console with --controller or LANEMESH_CONTROLLER_ADMIN",
            )
        })
    }

    fn name(&self) -> String {
        self.base.authority().map_or_else(|| self.base.to_string(), ToString::to_string)
    }
}

/// Why what was asked for is not there, in the controller's words.
fn reason(answer: &Answer) -> Option<String> {
    let is_about_the_question = matches!(answer.status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND);
    let whole: Value = is_about_the_question.then(|| serde_json::from_slice(&answer.body).ok()).flatten()?;
    whole["error"].as_str().map(str::to_owned)
}

async fn exchange(base: &Uri, method: Method, path: &str, body: Bytes) -> anyhow::Result<Answer> {
    let authority = base.authority().context("the URL names no host")?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, authority.as_str())
        .header(header::CONTENT_TYPE, "application/yaml")
        .body(Full::new(body))?;
    let port = authority.port_u16().unwrap_or(80);
    timeout(ANSWER_TIMEOUT, send(authority.host(), port, request, ANSWER_MAX))
        .await
        .map_err(|_| anyhow!("no whole answer within {} s", ANSWER_TIMEOUT.as_secs()))?
}

/// One request over a connection of its own; the answer is at most `answer_max` bytes. The caller sets a deadline.
///
/// # Errors
/// When there is no connection, no whole answer, or one that is too large.
pub(crate) async fn send(
    host: &str,
    port: u16,
    request: Request<Full<Bytes>>,
    answer_max: usize,
) -> anyhow::Result<Answer> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port)))
        .await
        .map_err(|_| anyhow!("no connection within {} s", CONNECT_TIMEOUT.as_secs()))??;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body =
            Limited::new(response.into_body(), answer_max).collect().await.map_err(|error| anyhow!(error))?.to_bytes();
        Ok(Answer { status, body })
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = answer.as_mut() => answer,
        ended = connection => match ended {
            // Closed in order: what was read may still be whole.
            Ok(()) => answer.await,
            Err(error) => Err(error.into()),
        },
    }
}

/// Reads a path of an admin port.
///
/// # Errors
/// When the port cannot be reached.
pub(crate) async fn admin(address: SocketAddr, path: &str) -> anyhow::Result<Answer> {
    let base: Uri = format!("http://{address}").parse().context("an address makes a URL")?;
    exchange(&base, Method::GET, path, Bytes::new()).await
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// Answers one request with this status and body while `client` runs; gives the request, too.
    async fn against<T>(answer: &str, client: impl AsyncFnOnce(Controller) -> T) -> (String, T) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let controller = Controller::at(listener.local_addr().unwrap());
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4_096];
            let length = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        };
        tokio::join!(serve, client(controller))
    }

    #[tokio::test]
    async fn items_of_a_collection_are_read() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 24\r\n\r\n{\"items\":[{\"name\":\"b\"}]}";
        let (request, items) = against(answer, async |controller| controller.items("services").await).await;
        assert!(request.starts_with("GET /api/v1/services HTTP/1.1\r\n"), "{request}");
        assert_eq!(items.unwrap(), [serde_json::json!({"name": "b"})]);
    }

    #[tokio::test]
    async fn refusal_and_nonsense_are_failures_that_quote_the_answer() {
        for (answer, said) in [
            ("HTTP/1.1 403 Forbidden\r\ncontent-length: 8\r\n\r\nloopback", "403 Forbidden to /api/v1/lanes: loopback"),
            ("HTTP/1.1 404 Not Found\r\ncontent-length: 24\r\n\r\n{\"error\":\"no such lane\"}", "no such lane"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\noops", "is not JSON"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "no list of items"),
        ] {
            let (_, outcome) = against(answer, async |controller| controller.items("lanes").await).await;
            let failure = outcome.unwrap_err().to_string();
            assert!(failure.contains(said), "{failure}");
        }
    }
}
