//! What processes cost, read from /proc: CPU time in nanoseconds and resident memory.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, ensure};
use mesh_tests::process::Process;

/// Core of the proxies; the load and the application run where this process was put.
pub(crate) const PROXY_CORE: &str = "0";

/// A process on the way of requests, with its children.
pub(crate) struct Measured {
    name: String,
    pid: u32,
}

impl Measured {
    /// Measures `process`, which was put on the proxies' core when it started.
    pub(crate) fn new(process: &Process) -> Self {
        Measured { name: process.spec().name.clone(), pid: process.pid() }
    }

    /// Moves all threads of `process` to the proxies' core and measures it.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub(crate) fn moved(process: &Process) -> anyhow::Result<Self> {
        let pid = process.pid().to_string();
        let moved = Command::new("taskset").args(["-a", "-p", "-c", PROXY_CORE, &pid]).output()?;
        ensure!(moved.status.success(), "taskset: {}", String::from_utf8_lossy(&moved.stderr));
        Ok(Self::new(process))
    }

    fn pids(&self) -> Vec<u32> {
        let parent = self.pid;
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        std::iter::once(parent).chain(children).collect()
    }

    /// CPU time used so far by all its threads and children, user and kernel.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let mut total = Duration::ZERO;
        for pid in self.pids() {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("{} is gone", self.name))?;
            for task in tasks {
                let text = fs::read_to_string(task?.path().join("schedstat"))?;
                let spent = text.split_whitespace().next().context("schedstat is empty")?;
                total += Duration::from_nanos(spent.parse()?);
            }
        }
        Ok(total)
    }

    /// Resident memory of it and its children.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        let mut total = Memory::default();
        for pid in self.pids() {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
                .with_context(|| format!("{} is gone", self.name))?;
            total.resident += field(&text, "Rss:")?;
            total.proportional += field(&text, "Pss:")?;
        }
        Ok(total)
    }
}

fn field(text: &str, name: &str) -> anyhow::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024)
}

/// Memory in bytes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Memory {
    /// Resident pages, shared ones counted whole.
    pub(crate) resident: u64,
    /// Resident pages, shared ones divided by those who share them.
    pub(crate) proportional: u64,
}
