//! Those who are compared: how each is started, on which address it takes requests, and what is like and unlike.

pub(crate) mod bare;
pub(crate) mod envoy;
pub(crate) mod nginx;

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::measure::{Memory, Process};

/// One way from the load to the application.
pub(crate) struct Contender {
    /// Name in tables and results.
    pub(crate) name: &'static str,
    /// Where requests enter.
    pub(crate) address: SocketAddr,
    /// Host header by which the contender knows the application.
    pub(crate) authority: String,
    /// The proxies on the way, first hop first: what is measured.
    pub(crate) proxies: Vec<Process>,
}

impl Contender {
    /// CPU time of all proxies on the way.
    pub(crate) fn cpu(&self) -> anyhow::Result<std::time::Duration> {
        self.proxies.iter().map(Process::cpu).sum()
    }

    /// Memory of each proxy on the way.
    pub(crate) fn memory(&self) -> anyhow::Result<Vec<Memory>> {
        self.proxies.iter().map(Process::memory).collect()
    }
}

/// What starting a contender needs.
pub(crate) struct Place {
    /// Folder of this run: configurations, logs, certificates.
    pub(crate) folder: PathBuf,
    /// Folder with our own binaries.
    pub(crate) binaries: PathBuf,
    /// The Envoy binary.
    pub(crate) envoy: PathBuf,
    /// The application.
    pub(crate) application: SocketAddr,
}

impl Place {
    /// Writes a file into the folder of this run and returns its path as text.
    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<String> {
        let path = self.folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {name}"))?;
        Ok(text_of(&path))
    }

    /// Path of a file in the folder of this run, as text.
    pub(crate) fn path(&self, name: &str) -> String {
        text_of(&self.folder.join(name))
    }

    /// Path of one of our binaries, as text.
    pub(crate) fn binary(&self, name: &str) -> String {
        text_of(&self.binaries.join(name))
    }
}

fn text_of(path: &Path) -> String {
    path.display().to_string()
}

/// A loopback address nobody listens on at the moment.
///
/// # Errors
/// When no port is free.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0").context("no free port")?.local_addr()?)
}
