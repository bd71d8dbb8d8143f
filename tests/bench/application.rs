//! The application behind the proxies: answers prebuilt bytes as cheaply as a socket allows.
//!
//! `GET /128` and `GET /1024` answer that many bytes. Bodies of requests are not supported: the load sends none.

use std::{net::SocketAddr, thread};

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Largest request head the responder waits for, in bytes; proxies add some hundred bytes to the load's own.
const HEAD_LIMIT: usize = 16 * 1024;

/// Starts the application on a thread of its own, which lives as long as the process.
///
/// # Errors
/// When `address` cannot be listened on.
pub(crate) fn start(address: SocketAddr) -> anyhow::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(address).context("application: cannot listen")?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("application".into()).spawn(move || runtime.block_on(accept(listener)))?;
    Ok(address)
}

async fn accept(listener: std::net::TcpListener) -> anyhow::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(answer(socket));
    }
}

async fn answer(mut socket: TcpStream) -> std::io::Result<()> {
    let small = response(128);
    let large = response(1024);
    let mut head = vec![0; HEAD_LIMIT];
    let mut filled = 0;
    while filled < HEAD_LIMIT {
        let read = socket.read(&mut head[filled..]).await?;
        if read == 0 {
            break;
        }
        filled += read;
        while let Some(end) = head_end(&head[..filled]) {
            let body = if head.starts_with(b"GET /128 ") { &small } else { &large };
            socket.write_all(body).await?;
            head.copy_within(end..filled, 0);
            filled -= end;
        }
    }
    Ok(())
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

fn response(body: usize) -> Vec<u8> {
    let mut bytes =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {body}\r\n\r\n").into_bytes();
    bytes.resize(bytes.len() + body, b'x');
    bytes
}
