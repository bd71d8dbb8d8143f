//! What processes cost, read from /proc: CPU time in nanoseconds and resident memory.

use std::{
    fs::{self, File},
    io::Write as _,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

/// Core of the proxies; the load and the application run where this process was put.
const PROXY_CORE: &str = "0";
/// How long a process may take until it listens.
const START_WAIT: Duration = Duration::from_secs(20);
/// How long a process may take to end after SIGTERM until it is killed.
const STOP_WAIT: Duration = Duration::from_secs(3);

/// One process of a contender, with its children; ended when dropped.
pub(crate) struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with `variables` in its environment on the proxies' core. Its output goes to
    /// `<folder>/<name>.log`, its process id to `<folder>/pids`, so that the calling script can clear up after a kill.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub(crate) fn start(
        name: &str,
        folder: &Path,
        command: &[String],
        variables: &[(&str, String)],
    ) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let child = Command::new("taskset")
            .args(["-c", PROXY_CORE])
            .args(command)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .env("BENCH_FOLDER", folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {name}: {}", command.join(" ")))?;
        let mut pids = File::options().append(true).create(true).open(folder.join("pids"))?;
        writeln!(pids, "{}", child.id())?;
        Ok(Self { child, name: name.to_owned(), log })
    }

    /// Waits until `address` accepts connections.
    ///
    /// # Errors
    /// When the process ended or does not listen in time; quotes its log.
    pub(crate) fn listening(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        self.until("listen", || TcpStream::connect(address).is_ok())
    }

    /// Waits until `done` says so.
    ///
    /// # Errors
    /// When the process ended or the wait is over; quotes its log.
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut() -> bool) -> anyhow::Result<()> {
        let begin = Instant::now();
        while !done() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || begin.elapsed() > START_WAIT {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                bail!("{} did not {what} ({ended:?}); its log:\n{log}", self.name);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn pids(&self) -> Vec<u32> {
        let parent = self.child.id();
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

impl Drop for Process {
    fn drop(&mut self) {
        // SIGTERM lets nginx end its worker; there is nothing more to do when this fails than to kill.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).stderr(Stdio::null()).status();
        let begin = Instant::now();
        while begin.elapsed() < STOP_WAIT {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Memory in bytes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Memory {
    /// Resident pages, shared ones counted whole.
    pub(crate) resident: u64,
    /// Resident pages, shared ones divided by those who share them.
    pub(crate) proportional: u64,
}
