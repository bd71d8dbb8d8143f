//! A real Redis as a process, without disk: what it knows ends with it.

use std::net::SocketAddr;

use tempfile::TempDir;

use crate::{
    addresses::Block,
    process::{Process, Spec},
    programs, raw,
    wait::{PATIENCE, until},
};

/// A running server on an address of its own.
pub struct Redis {
    server: Process,
    address: SocketAddr,
    _block: Block,
    _folder: TempDir,
}

impl Redis {
    /// Starts it and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub async fn start() -> Redis {
        let block = Block::reserve();
        let address = SocketAddr::from((block.address(1), 6379));
        let folder = TempDir::with_prefix("lanemesh-redis-").expect("a temporary folder");
        let server = Spec::new("redis", programs::system("redis-server"))
            .args(["--bind".to_owned(), address.ip().to_string(), "--port".to_owned(), address.port().to_string()])
            .args(["--save", "", "--appendonly", "no", "--protected-mode", "no"])
            .in_directory(folder.path())
            .start(folder.path());
        let redis = Redis { server, address, _block: block, _folder: folder };
        redis.answers().await;
        redis
    }

    /// As limits of models name it.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Kills it with `SIGKILL`.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it once more, empty.
    pub async fn come_back(&mut self) {
        self.server.start_again();
        self.answers().await;
    }

    async fn answers(&self) {
        until("Redis answers", PATIENCE, || async {
            // Nothing listens at first: that is no failure yet.
            tokio::net::TcpStream::connect(self.address).await.ok()?;
            let received =
                raw::exchange(self.address, b"PING\r\n", raw::LISTEN, |bytes| bytes.ends_with(b"\r\n")).await;
            received.text().starts_with("+PONG").then_some(())
        })
        .await;
    }
}
