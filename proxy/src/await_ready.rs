//! `mesh-proxy await`: returns when the sidecar beside it is ready. Meant as post-start hook, so that the application
//! starts behind a working sidecar. `mesh-proxy drain` is its counterpart before the end.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    thread::sleep,
    time::{Duration, Instant},
};

use thiserror::Error;

/// Between two questions.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// For one question.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest answer that is read, bytes.
const ANSWER_MAX: u64 = 16 * 1_024;

/// The sidecar did not become ready in time.
#[derive(Debug, Error)]
#[error("the proxy at {address} is not ready after {waited:?}: {last}")]
pub struct NotReady {
    /// Admin address.
    address: SocketAddr,
    /// How long.
    waited: Duration,
    /// Last answer or failure.
    last: String,
}

/// Asks `/ready` of the admin port until it says yes.
///
/// # Errors
/// After `limit`, with the last answer.
pub fn until_ready(admin: SocketAddr, limit: Duration) -> Result<(), NotReady> {
    let address = reachable(admin);
    let start = Instant::now();
    loop {
        let last = match ask(address) {
            Ok(answer) if answer.starts_with("HTTP/1.1 200") => return Ok(()),
            Ok(answer) => answer.split_once("\r\n\r\n").map_or("", |(_, body)| body.trim()).replace('\n', "; "),
            Err(error) => error.to_string(),
        };
        if start.elapsed() >= limit {
            return Err(NotReady { address, waited: limit, last });
        }
        sleep(POLL_INTERVAL.min(limit.saturating_sub(start.elapsed())));
    }
}

/// The sidecar did not drain in time, or could not be told to.
#[derive(Debug, Error)]
#[error("the proxy at {address} was told to drain: {what}")]
pub struct NotDrained {
    /// Admin address.
    address: SocketAddr,
    /// Answer or failure.
    what: String,
}

/// Orders the proxy to drain, and returns once nothing comes in any more.
///
/// # Errors
/// After `limit`, or where the admin port does not take the order.
pub fn drain(admin: SocketAddr, limit: Duration) -> Result<(), NotDrained> {
    let address = reachable(admin);
    match request(address, "POST /drain", limit.max(ASK_TIMEOUT)) {
        Ok(answer) if answer.starts_with("HTTP/1.1 200") => Ok(()),
        Ok(answer) => Err(NotDrained { address, what: answer.lines().next().unwrap_or_default().to_owned() }),
        Err(error) => Err(NotDrained { address, what: error.to_string() }),
    }
}

/// Where a listener on `address` is reached from this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn ask(address: SocketAddr) -> io::Result<String> {
    request(address, "GET /ready?verbose", ASK_TIMEOUT)
}

fn request(address: SocketAddr, line: &str, limit: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ASK_TIMEOUT)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(ASK_TIMEOUT))?;
    let question = format!("{line} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(question.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn returns_once_the_proxy_says_that_it_is_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answers = ["HTTP/1.1 503 Service Unavailable\r\n\r\nnot ready\n", "HTTP/1.1 200 OK\r\n\r\nready\n"];
        let server = std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = [0; 1_024];
                let length = stream.read(&mut head).unwrap();
                assert!(head[..length].starts_with(b"GET /ready"));
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        until_ready(address, Duration::from_secs(20)).unwrap();
        server.join().unwrap();
    }

    #[test]
    fn says_after_the_limit_what_was_last_seen() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = until_ready(closed, Duration::ZERO).unwrap_err().to_string();
        assert!(error.contains("is not ready after") && error.contains("refused"), "{error}");
    }

    #[test]
    fn order_to_drain_is_given_and_its_answer_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            for answer in ["HTTP/1.1 200 OK\r\n\r\ndrained\n", "HTTP/1.1 403 Forbidden\r\n\r\n"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = [0; 1_024];
                let length = stream.read(&mut head).unwrap();
                assert!(head[..length].starts_with(b"POST /drain HTTP/1.1\r\n"));
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        drain(address, Duration::from_secs(20)).unwrap();
        let error = drain(address, Duration::from_secs(20)).unwrap_err().to_string();
        assert!(error.contains("403 Forbidden"), "{error}");
        server.join().unwrap();
    }

    #[test]
    fn unspecified_address_is_reached_over_loopback() {
        assert_eq!(reachable("0.0.0.0:4191".parse().unwrap()).to_string(), "127.0.0.1:4191");
        assert_eq!(reachable("[::]:4191".parse().unwrap()).to_string(), "[::1]:4191");
        assert_eq!(reachable("127.1.0.2:4191".parse().unwrap()).to_string(), "127.1.0.2:4191");
    }
}
