//! The application of the demo and of tests: a small HTTP/1.1 and h2c server that calls the next service of a chain.
//!
//! It knows nothing of the mesh: it copies the headers that carry a lane or a trace, as any instrumented application
//! does, and tells in its answer what reached it. Routes stand in `answer`.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use hyper::{
    Request,
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::task::TaskTracker;

mod answer;
mod chain;
mod generated;
mod websocket;

/// Most connections at the same time; more wait in the kernel's accept queue.
const CONNECTIONS: usize = 4_096;
/// Longest wait for the first bytes or the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long open exchanges may go on after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);
/// Bytes by which HTTP/2 with prior knowledge is known (start of the preface, RFC 9113 3.4; no method begins so).
const HTTP2_PREFIX: &[u8; 4] = b"PRI ";

/// Small HTTP application for the demo and for tests of the mesh.
#[derive(Parser)]
#[command(disable_version_flag = true)]
struct Args {
    /// Address to listen on
    #[arg(long, value_name = "IP:PORT")]
    listen: SocketAddr,
    /// Service that it says it is
    #[arg(long, default_value = "app")]
    name: String,
    /// Version that it says it is
    #[arg(long, default_value = "baseline")]
    version: String,
    /// Next service of the chain, http://HOST[:PORT][/PATH], or `none`
    #[arg(long, value_name = "URL", default_value = "none", value_parser = chain::parse_next)]
    next: chain::Next,
    /// Connect to this address instead of the host in --next (outbound listener of a sidecar, or one instance)
    #[arg(long, value_name = "IP:PORT")]
    via: Option<SocketAddr>,
    /// Which headers of a request are copied to the next hop
    #[arg(long, value_enum, default_value_t = chain::Forward::All)]
    forward: chain::Forward,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    let (stop, stopping) = watch::channel(false);
    let upgraded = TaskTracker::new();
    let app = Arc::new(answer::App {
        name: args.name,
        version: args.version,
        chain: chain::Chain::new(args.next, args.via, args.forward),
        upgraded: upgraded.clone(),
        stopping: stopping.clone(),
    });
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        };
        let Ok((stream, slot)) = accepted else { continue };
        let (app, stopping) = (app.clone(), stopping.clone());
        connections.spawn(async move {
            // A connection that fails concerns its peer only.
            let _ = serve(stream, app, stopping).await;
            drop(slot);
        });
    }
    drop(listener);
    stop.send_replace(true);
    upgraded.close();
    let ended = async {
        while connections.join_next().await.is_some() {}
        upgraded.wait().await;
    };
    // What is still open after the grace ends with the process.
    let _ = timeout(GRACE, ended).await;
    Ok(())
}

/// Waits for SIGTERM.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which happens at the end of the process only.
    let _ = stopping.wait_for(|stop| *stop).await;
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, slot))
}

async fn serve(stream: TcpStream, app: Arc<answer::App>, mut stopping: watch::Receiver<bool>) -> anyhow::Result<()> {
    let speaks_http2 = timeout(HEAD_TIMEOUT, begins_with_http2(&stream)).await??;
    let service = service_fn(move |request: Request<Incoming>| {
        let app = app.clone();
        async move { Ok::<_, Infallible>(app.answer(request).await) }
    });
    let io = TokioIo::new(stream);
    if speaks_http2 {
        let connection =
            http2::Builder::new(TokioExecutor::new()).timer(TokioTimer::new()).serve_connection(io, service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return Ok(ended?),
            () = stopped(&mut stopping) => connection.as_mut().graceful_shutdown(),
        }
        Ok(connection.await?)
    } else {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(io, service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return Ok(ended?),
            () = stopped(&mut stopping) => connection.as_mut().graceful_shutdown(),
        }
        Ok(connection.await?)
    }
}

async fn begins_with_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0; HTTP2_PREFIX.len()];
    loop {
        let seen = stream.peek(&mut first).await?;
        if seen == 0 || first[..seen] != HTTP2_PREFIX[..seen] {
            return Ok(false);
        }
        if seen == first.len() {
            return Ok(true);
        }
        // The rest of the preface is on its way; peek would return the same bytes at once.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }
}
