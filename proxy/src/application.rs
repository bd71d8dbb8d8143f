//! The application beside a sidecar: whether it is ready, as people say that it can be asked. `/ready` waits for it, so that
//! nobody is sent to a sidecar whose application cannot answer yet.

use std::{collections::BTreeSet, net::IpAddr, process::Stdio, str::FromStr, sync::Arc, time::Duration};

use http::{Method, Request, header};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
    sync::watch,
    time::{sleep, timeout},
};

use crate::net::grpc_health;

/// Missing until the application is ready.
pub const MISSING_APPLICATION: &str = "application";
/// Between two questions.
const INTERVAL: Duration = Duration::from_secs(1);
/// For one answer.
const LIMIT: Duration = Duration::from_secs(1);
/// Answers in a row that are not as they should be before a ready application counts as not ready.
const FAILURES: u32 = 3;
/// Longest status line, and longest answer of gRPC, bytes.
const ANSWER_MAX: usize = 1_024;
/// Most words of a command.
const WORDS_MAX: usize = 64;

/// How the application is asked whether it is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// GET; any status from 200 to 399 is ready.
    Http {
        /// Port.
        port: u16,
        /// Path and query.
        path: String,
    },
    /// grpc.health.v1, in the clear.
    Grpc {
        /// Port.
        port: u16,
        /// Service; empty = the server.
        service: String,
    },
    /// A connection.
    Tcp {
        /// Port.
        port: u16,
    },
    /// A program that ends with 0.
    Exec {
        /// Program.
        program: String,
        /// Its arguments.
        arguments: Vec<String>,
    },
}

/// A text that is no probe.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("expected http://:PORT/PATH, grpc://:PORT[/SERVICE], tcp://:PORT or exec:PROGRAM ARGUMENTS")]
pub struct InvalidProbe;

impl FromStr for Probe {
    type Err = InvalidProbe;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(words) = text.strip_prefix("exec:") {
            let mut words = words.split_whitespace().map(str::to_owned).take(WORDS_MAX);
            let program = words.next().ok_or(InvalidProbe)?;
            return Ok(Probe::Exec { program, arguments: words.collect() });
        }
        let (scheme, rest) = text.split_once("://:").ok_or(InvalidProbe)?;
        let (port, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let port = port.parse().ok().filter(|port| *port > 0).ok_or(InvalidProbe)?;
        let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic());
        match (scheme, path) {
            ("http", "") => Ok(Probe::Http { port, path: "/".to_owned() }),
            ("http", path) if is_plain => Ok(Probe::Http { port, path: path.to_owned() }),
            ("grpc", path) if is_plain && path.len() <= grpc_health::SERVICE_MAX => {
                Ok(Probe::Grpc { port, service: path.trim_start_matches('/').to_owned() })
            }
            ("tcp", "" | "/") => Ok(Probe::Tcp { port }),
            _ => Err(InvalidProbe),
        }
    }
}

impl Probe {
    /// Port that is asked, if one is.
    pub fn port(&self) -> Option<u16> {
        match self {
            Probe::Http { port, .. } | Probe::Grpc { port, .. } | Probe::Tcp { port } => Some(*port),
            Probe::Exec { .. } => None,
        }
    }

    /// Asks once.
    async fn ask(&self, address: IpAddr) -> Result<(), String> {
        match timeout(LIMIT, self.answer(address)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {LIMIT:?}")),
        }
    }

    async fn answer(&self, address: IpAddr) -> Result<(), String> {
        match self {
            Probe::Http { port, path } => http(connect(address, *port).await?, (address, *port), path).await,
            Probe::Grpc { port, service } => grpc(connect(address, *port).await?, service).await,
            Probe::Tcp { port } => connect(address, *port).await.map(drop),
            Probe::Exec { program, arguments } => exec(program, arguments).await,
        }
    }
}

async fn connect(address: IpAddr, port: u16) -> Result<TcpStream, String> {
    TcpStream::connect((address, port)).await.map_err(|error| error.to_string())
}

async fn http(mut stream: TcpStream, (address, port): (IpAddr, u16), path: &str) -> Result<(), String> {
    let host = std::net::SocketAddr::from((address, port));
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: lanemesh-readiness\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    while !answer.contains(&b'\n') && answer.len() < ANSWER_MAX {
        if stream.read_buf(&mut answer).await.map_err(|error| error.to_string())? == 0 {
            return Err("closed without an answer".to_owned());
        }
    }
    let status = answer.get(9..12).filter(|_| answer.starts_with(b"HTTP/1."));
    match status.and_then(|status| std::str::from_utf8(status).ok()?.parse::<u16>().ok()) {
        Some(200..=399) => Ok(()),
        Some(status) => Err(format!("status {status}")),
        None => Err("an answer that is no HTTP".to_owned()),
    }
}

async fn grpc(stream: TcpStream, service: &str) -> Result<(), String> {
    let text = |error: h2::Error| error.to_string();
    let (send, connection) = h2::client::handshake(stream).await.map_err(text)?;
    let call = async {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = format!("http://application{}", grpc_health::PATH).parse().map_err(|_| "no address")?;
        request.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/grpc"));
        request.headers_mut().insert(header::TE, header::HeaderValue::from_static("trailers"));
        let mut send = send.ready().await.map_err(text)?;
        let (response, mut body) = send.send_request(request, false).map_err(text)?;
        body.send_data(grpc_health::request(service), true).map_err(text)?;
        let mut body = response.await.map_err(text)?.into_body();
        let mut answer = Vec::new();
        while let Some(bytes) = body.data().await {
            answer.extend_from_slice(&bytes.map_err(text)?);
            if answer.len() > ANSWER_MAX {
                break;
            }
        }
        grpc_health::is_serving(&answer).then_some(()).ok_or_else(|| "not SERVING".to_owned())
    };
    tokio::select! {
        answer = call => answer,
        ended = connection => Err(ended.err().map_or_else(|| "closed without an answer".to_owned(), text)),
    }
}

async fn exec(program: &str, arguments: &[String]) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let status = command.status().await.map_err(|error| format!("{program}: {error}"))?;
    status.success().then_some(()).ok_or_else(|| format!("{program} ended with {status}"))
}

/// Asks again and again, and keeps [`MISSING_APPLICATION`] among what is missing while the application is not ready.
pub async fn watch(probe: Probe, address: IpAddr, missing: Arc<watch::Sender<BTreeSet<String>>>) {
    let mut failures = FAILURES;
    loop {
        match probe.ask(address).await {
            Ok(()) => {
                failures = 0;
                missing.send_if_modified(|missing| missing.remove(MISSING_APPLICATION));
            }
            Err(why) => {
                failures = failures.saturating_add(1);
                tracing::debug!(%why, "the application is not ready");
                if failures >= FAILURES {
                    missing.send_if_modified(|missing| missing.insert(MISSING_APPLICATION.to_owned()));
                }
            }
        }
        sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests;
