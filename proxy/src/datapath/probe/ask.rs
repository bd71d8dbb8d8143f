//! One probe of one instance: HTTP, gRPC, or a connection alone.

use std::time::Duration;

use http::{HeaderValue, Method, Request, Version};
use mesh_core::{
    model::{
        endpoint::Endpoint,
        policy::{HealthCheck, HttpProbe, Probe, TcpProbe, TrafficPolicy},
        service::ServiceKey,
    },
    names,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::{
    datapath::reach::{self, Lease, Transport},
    net::{grpc_health, socket::Socket},
    worker::Worker,
};

/// A sidecar dials its application after 50 ms of silence and closes where nobody listens: so long it is listened.
const SILENCE: Duration = Duration::from_millis(250);
/// Longest status line.
const STATUS_LINE_MAX: usize = 1_024;
/// In so many bytes what is expected must have come.
const RECEIVED_MAX: usize = 16 * 1_024;
/// Bytes that are read at a time.
const READ: u64 = 1_024;

/// Asks what the policy says; an error says why the instance is not well. The caller sets the limit.
pub(super) async fn ask(
    worker: &Worker,
    service: &ServiceKey,
    endpoint: &Endpoint,
    traffic: &TrafficPolicy,
) -> Result<(), String> {
    let Some(HealthCheck { probe, .. }) = &traffic.health_check else { return Ok(()) };
    match probe {
        Probe::Http(asked) => {
            let status = http(worker, endpoint, traffic, &http_request(endpoint, service, asked)).await?;
            let is_expected = asked.statuses.iter().any(|(low, high)| (*low..=*high).contains(&status));
            is_expected.then_some(()).ok_or_else(|| format!("status {status}"))
        }
        Probe::Tcp(asked) => tcp(worker, endpoint, traffic, asked).await,
        Probe::Grpc { service: name } => grpc(worker, endpoint, traffic, (service.label(), name)).await,
    }
}

async fn connect(worker: &Worker, endpoint: &Endpoint, traffic: &TrafficPolicy) -> Result<(Socket, Lease), String> {
    let upstream = worker.upstreams.endpoint(worker, endpoint);
    // A probe waits for nobody's place: an instance that has as many connections as it may have is busy, not ill.
    let reached = reach::raw(worker, &upstream, traffic.timeouts.connect, u32::MAX).await;
    reached.map_err(|unreachable| unreachable.detail)
}

async fn tcp(worker: &Worker, endpoint: &Endpoint, traffic: &TrafficPolicy, asked: &TcpProbe) -> Result<(), String> {
    let (mut socket, _lease) = connect(worker, endpoint, traffic).await?;
    if !asked.send.is_empty() {
        let sent = async {
            socket.write_all(&asked.send).await?;
            socket.flush().await
        };
        sent.await.map_err(|error: std::io::Error| error.to_string())?;
    }
    if !asked.receive.is_empty() {
        return receive(&mut socket, &asked.receive).await;
    }
    if worker.upstreams.endpoint(worker, endpoint).transport == Transport::Plain {
        return Ok(());
    }
    let mut byte = [0];
    match timeout(SILENCE, socket.read(&mut byte)).await {
        // It waits for us to speak, or has spoken.
        Err(_) | Ok(Ok(1..)) => Ok(()),
        Ok(Ok(0)) => Err("closed at once".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
    }
}

/// Reads until the expected bytes have come, somewhere in what comes.
async fn receive(socket: &mut (impl AsyncRead + Unpin), expected: &[u8]) -> Result<(), String> {
    let mut received = Vec::with_capacity(expected.len());
    while !received.windows(expected.len()).any(|part| part == expected) {
        if received.len() >= RECEIVED_MAX {
            return Err(format!("not what is expected within {RECEIVED_MAX} bytes"));
        }
        let read = (&mut *socket).take(READ).read_buf(&mut received).await;
        if read.map_err(|error| error.to_string())? == 0 {
            return Err("closed before it said what is expected".to_owned());
        }
    }
    Ok(())
}

/// The request, whole: it has no body.
fn http_request(endpoint: &Endpoint, service: &ServiceKey, asked: &HttpProbe) -> String {
    let host = asked.host.as_deref().unwrap_or(service.label());
    let mut request = format!("{} {} HTTP/1.1\r\nhost: {host}\r\nuser-agent: {AGENT}\r\n", asked.method, asked.path);
    let lane = label(endpoint);
    for (name, value) in &asked.headers {
        if lane.is_none() || name != names::LANE_HEADER {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    if let Some(lane) = lane {
        request.push_str(&format!("{}: {lane}\r\n", names::LANE_HEADER));
    }
    if matches!(asked.method.as_str(), "POST" | "PUT") {
        request.push_str("content-length: 0\r\n");
    }
    request.push_str("connection: close\r\n\r\n");
    request
}

async fn http(worker: &Worker, endpoint: &Endpoint, traffic: &TrafficPolicy, request: &str) -> Result<u16, String> {
    let (mut socket, _lease) = connect(worker, endpoint, traffic).await?;
    let text = |error: std::io::Error| error.to_string();
    socket.write_all(request.as_bytes()).await.map_err(text)?;
    socket.flush().await.map_err(text)?;
    let mut answer = Vec::with_capacity(STATUS_LINE_MAX);
    while !answer.contains(&b'\n') && answer.len() < STATUS_LINE_MAX {
        if socket.read_buf(&mut answer).await.map_err(text)? == 0 {
            return Err("closed without an answer".to_owned());
        }
    }
    status(&answer).ok_or_else(|| "an answer that is no HTTP".to_owned())
}

/// `HTTP/1.1 200 …`
fn status(answer: &[u8]) -> Option<u16> {
    let rest = answer.strip_prefix(b"HTTP/1.")?;
    let digits = rest.get(2..5)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

async fn grpc(
    worker: &Worker,
    endpoint: &Endpoint,
    traffic: &TrafficPolicy,
    (host, name): (&str, &str),
) -> Result<(), String> {
    let upstream = worker.upstreams.endpoint(worker, endpoint);
    let reached = reach::http2(worker, &upstream, traffic.timeouts.connect, traffic.limits).await;
    let mut ready = reached.map_err(|unreachable| unreachable.detail)?;
    let text = |error: h2::Error| error.to_string();
    let (response, mut body) = ready.send.send_request(grpc_request(endpoint, host)?, false).map_err(text)?;
    body.send_data(grpc_health::request(name), true).map_err(text)?;
    let mut answer = response.await.map_err(text)?.into_body();
    let mut message = Vec::new();
    while let Some(bytes) = answer.data().await {
        let bytes = bytes.map_err(text)?;
        // Errors only say that the stream has ended.
        let _ = answer.flow_control().release_capacity(bytes.len());
        message.extend_from_slice(&bytes);
        if message.len() > STATUS_LINE_MAX {
            break;
        }
    }
    grpc_health::is_serving(&message).then_some(()).ok_or_else(|| "not SERVING".to_owned())
}

fn grpc_request(endpoint: &Endpoint, host: &str) -> Result<Request<()>, String> {
    let uri = format!("http://{host}{}", grpc_health::PATH);
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = uri.parse().map_err(|error| format!("{uri}: {error}"))?;
    let headers = request.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
    headers.insert(http::header::USER_AGENT, HeaderValue::from_static(AGENT));
    if let Some(lane) = label(endpoint).and_then(|lane| lane.parse().ok()) {
        headers.insert(names::LANE_HEADER, lane);
    }
    Ok(request)
}

const AGENT: &str = "lanemesh-health-check";

/// A probe of a lane's instance is of that lane, or it would be a leak.
fn label(endpoint: &Endpoint) -> Option<String> {
    endpoint.lanes.first().map(ToString::to_string)
}

#[cfg(test)]
mod tests;
