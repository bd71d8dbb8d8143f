//! The guard: parent of every process of a demo. It ends them all when the demo's end of the socket closes, which the
//! kernel does for a demo that was killed, too.
//!
//! Standard input is a socket to the demo (JSON lines both ways). Standard output is the record of what was started,
//! locked for as long as the guard lives: a later demo reads it to end what a killed guard left.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream as StdSocket},
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{UnixStream, unix::OwnedReadHalf, unix::OwnedWriteHalf},
    process::Command,
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};

use super::leftovers::{self, Record};

/// How long processes may take to end after SIGTERM before SIGKILL.
const GRACE: Duration = Duration::from_secs(3);
/// Orders to one process that wait to be carried out.
const ORDERS: usize = 4;

/// From the demo to the guard.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Order {
    /// Start a process.
    Start(Start),
    /// Send a signal to a process.
    Signal {
        /// Name given at its start.
        name: String,
        /// Which.
        signal: Stop,
    },
    /// Delete this network namespace at the end; recorded before it exists.
    Namespace(String),
}

/// A process to be started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    /// Name by which it is signalled and reported.
    pub(crate) name: String,
    /// Program.
    pub(crate) program: PathBuf,
    /// Arguments.
    pub(crate) arguments: Vec<String>,
    /// The whole environment.
    pub(crate) environment: BTreeMap<String, String>,
    /// File that standard output and standard error are appended to.
    pub(crate) log: PathBuf,
}

/// How a process is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Stop {
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
}

/// From the guard to the demo.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Event {
    /// A process runs.
    Started {
        /// Its name.
        name: String,
        /// Its id.
        pid: u32,
    },
    /// A process could not be started, or a namespace was refused.
    Failed {
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
    /// A process has ended.
    Exited {
        /// Its name.
        name: String,
        /// How: exit code or signal.
        how: String,
    },
    /// An order of [`Order::Namespace`] is recorded.
    Recorded {
        /// The namespace.
        name: String,
    },
}

/// Runs the guard until the demo's end of the socket closes and everything it started has ended.
///
/// # Errors
/// When standard input is no socket or the record cannot be written.
pub(crate) async fn run() -> anyhow::Result<()> {
    let stdin = io::stdin().as_fd().try_clone_to_owned().context("no standard input")?;
    let socket = StdSocket::from(stdin);
    socket.set_nonblocking(true).context("standard input is no socket; mesh-ctl demo starts the guard")?;
    let (read, write) = UnixStream::from_std(socket)?.into_split();
    let record = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut guard = Guard {
        orders: BufReader::new(read).lines(),
        events: write,
        record,
        running: BTreeMap::new(),
        ended: JoinSet::new(),
        namespaces: Vec::new(),
    };
    guard.record(&Record::of_this_process("guard"))?;
    // Whatever went wrong, what was started is ended.
    let outcome = guard.obey().await;
    guard.end().await;
    outcome
}

struct Guard {
    orders: Lines<BufReader<OwnedReadHalf>>,
    events: OwnedWriteHalf,
    record: File,
    running: BTreeMap<String, mpsc::Sender<Stop>>,
    ended: JoinSet<(String, io::Result<ExitStatus>)>,
    namespaces: Vec<String>,
}

impl Guard {
    async fn obey(&mut self) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                order = self.orders.next_line() => match order? {
                    Some(line) => self.carry_out(serde_json::from_str(&line)?).await?,
                    None => return Ok(()),
                },
                Some(ended) = self.ended.join_next() => {
                    let (name, status) = ended?;
                    self.running.remove(&name);
                    let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                    self.tell(Event::Exited { name, how }).await?;
                }
            }
        }
    }

    async fn carry_out(&mut self, order: Order) -> anyhow::Result<()> {
        match order {
            Order::Start(start) => {
                let event = match self.start(&start) {
                    Ok(pid) => Event::Started { name: start.name, pid },
                    Err(error) => Event::Failed { name: start.name, why: format!("{error:#}") },
                };
                self.tell(event).await
            }
            Order::Signal { name, signal } => {
                if let Some(process) = self.running.get(&name) {
                    // A full queue means that it was told already; a closed one that it has ended.
                    let _ = process.try_send(signal);
                }
                Ok(())
            }
            Order::Namespace(name) => {
                self.record(&Record::Namespace(name.clone()))?;
                self.namespaces.push(name.clone());
                self.tell(Event::Recorded { name }).await
            }
        }
    }

    fn start(&mut self, start: &Start) -> anyhow::Result<u32> {
        let log = File::options().create(true).append(true).open(&start.log).context("cannot open its log")?;
        let mut child = Command::new(&start.program)
            .args(&start.arguments)
            .env_clear()
            .envs(&start.environment)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", start.program.display()))?;
        let pid = child.id().context("it ended at once")?;
        let (signal, mut signals) = mpsc::channel(ORDERS);
        let name = start.name.clone();
        self.running.insert(name.clone(), signal);
        self.ended.spawn(async move {
            loop {
                tokio::select! {
                    status = child.wait() => return (name, status),
                    Some(stop) = signals.recv() => deliver(child.id(), stop),
                }
            }
        });
        self.record(&Record::process(pid, &start.name)?)?;
        Ok(pid)
    }

    fn record(&mut self, record: &Record) -> anyhow::Result<()> {
        let line = serde_json::to_string(record)? + "\n";
        self.record.write_all(line.as_bytes()).context("cannot write the record of processes")
    }

    async fn tell(&mut self, event: Event) -> anyhow::Result<()> {
        let line = serde_json::to_string(&event)? + "\n";
        Ok(self.events.write_all(line.as_bytes()).await?)
    }

    /// Ends everything; what does not end by SIGTERM within the grace is killed.
    async fn end(&mut self) {
        for stop in [Stop::Terminate, Stop::Kill] {
            for process in self.running.values() {
                // A closed queue means that the process has ended.
                let _ = process.try_send(stop);
            }
            let all = async { while self.ended.join_next().await.is_some() {} };
            if timeout(GRACE, all).await.is_ok() {
                break;
            }
        }
        for namespace in &self.namespaces {
            leftovers::delete_namespace(namespace).await;
        }
    }
}

/// Sends the signal to a child that has not been waited for, so its id is still its own.
fn deliver(pid: Option<u32>, stop: Stop) {
    let signal = match stop {
        Stop::Terminate => Signal::TERM,
        Stop::Kill => Signal::KILL,
    };
    if let Some(pid) = pid.and_then(|pid| Pid::from_raw(pid.cast_signed())) {
        // It may have ended in this moment.
        let _ = kill_process(pid, signal);
    }
}
