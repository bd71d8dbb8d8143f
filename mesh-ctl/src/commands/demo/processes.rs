//! The demo's side of the guard: start, signal and await processes by name.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::{fd::OwnedFd, unix::net::UnixStream as StdSocket, unix::process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{Instant, timeout, timeout_at},
};

use super::{
    guard::{Event, Order, Start, Stop},
    leftovers::Block,
};

/// Longest wait for the guard to answer an order.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// Longest wait for a process to end after a signal, and for the guard to end at the end.
const END_WAIT: Duration = Duration::from_secs(10);

/// Processes under the guard.
pub(crate) struct Processes {
    guard: Child,
    events: Lines<BufReader<OwnedReadHalf>>,
    orders: OwnedWriteHalf,
    running: BTreeMap<String, u32>,
    /// Processes that ended without having been told to, with how.
    fallen: BTreeMap<String, String>,
}

impl Processes {
    /// Starts the guard: this executable again, in a process group of its own so that Ctrl-C reaches the demo alone.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn new(block: &Block) -> anyhow::Result<Processes> {
        let executable = std::env::current_exe().context("cannot find the path of mesh-ctl")?;
        let (ours, theirs) = StdSocket::pair().context("cannot make a pair of sockets")?;
        let log = std::fs::File::create(block.folder.join("guard.log")).context("cannot make the guard's log")?;
        let guard = Command::new(&executable)
            .arg("demo-guard")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(block.record.try_clone().context("cannot share the record of processes")?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {} demo-guard", executable.display()))?;
        ours.set_nonblocking(true)?;
        let (read, orders) = UnixStream::from_std(ours)?.into_split();
        let events = BufReader::new(read).lines();
        Ok(Processes { guard, events, orders, running: BTreeMap::new(), fallen: BTreeMap::new() })
    }

    /// Starts a process.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) async fn start(&mut self, start: Start) -> anyhow::Result<()> {
        let name = start.name.clone();
        self.order(&Order::Start(start)).await?;
        self.until(|event| match event {
            Event::Started { name: started, .. } if *started == name => Some(Ok(())),
            Event::Failed { name: failed, why } if *failed == name => Some(Err(why.clone())),
            _ => None,
        })
        .await?
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("cannot start {name}"))
    }

    /// Has a network namespace deleted at the end, whatever happens from now on.
    ///
    /// # Errors
    /// When the guard does not answer.
    pub(crate) async fn delete_at_end(&mut self, namespace: &str) -> anyhow::Result<()> {
        self.order(&Order::Namespace(namespace.to_owned())).await?;
        self.until(|event| match event {
            Event::Recorded { name } if name == namespace => Some(()),
            _ => None,
        })
        .await
    }

    /// Ends processes at once and waits until all have ended. One that is not running is no failure.
    ///
    /// # Errors
    /// Names those that do not end.
    pub(crate) async fn stop(&mut self, names: &[String], signal: Stop) -> anyhow::Result<()> {
        let mut awaited: BTreeSet<&String> = names.iter().filter(|name| self.running.contains_key(*name)).collect();
        for name in &awaited {
            self.order(&Order::Signal { name: (*name).clone(), signal }).await?;
        }
        let deadline = Instant::now() + END_WAIT;
        while !awaited.is_empty() {
            let late = || format!("no end after {} s of {awaited:?}", END_WAIT.as_secs());
            let event = timeout_at(deadline, self.next()).await.with_context(late)??;
            self.note(&event);
            if let Event::Exited { name, .. } = &event {
                awaited.remove(name);
            }
        }
        for name in names {
            self.fallen.remove(name);
        }
        Ok(())
    }

    /// Processes that ended without having been told to, with how.
    pub(crate) fn fallen(&self) -> &BTreeMap<String, String> {
        &self.fallen
    }

    /// Takes in what the guard has to say; pending until then.
    ///
    /// # Errors
    /// When the guard is gone.
    pub(crate) async fn watch(&mut self) -> anyhow::Result<()> {
        let event = self.next().await?;
        self.note(&event);
        Ok(())
    }

    /// Ends everything and waits for the guard.
    ///
    /// # Errors
    /// When the guard does not end.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        drop(self.orders);
        let rest = async { while let Ok(Some(_)) = self.events.next_line().await {} };
        timeout(END_WAIT, rest).await.context("the guard does not end")?;
        // Its socket is closed: it is in its last steps.
        self.guard.wait().context("cannot wait for the guard")?;
        Ok(())
    }

    async fn order(&mut self, order: &Order) -> anyhow::Result<()> {
        let line = serde_json::to_string(order)? + "\n";
        self.orders.write_all(line.as_bytes()).await.context("the guard is gone")
    }

    async fn until<T>(&mut self, wanted: impl Fn(&Event) -> Option<T>) -> anyhow::Result<T> {
        let found = async {
            loop {
                let event = self.next().await?;
                self.note(&event);
                if let Some(found) = wanted(&event) {
                    return anyhow::Ok(found);
                }
            }
        };
        timeout(ANSWER_WAIT, found).await.context("the guard does not answer")?
    }

    async fn next(&mut self) -> anyhow::Result<Event> {
        match self.events.next_line().await.context("the guard is gone")? {
            Some(line) => serde_json::from_str(&line).context("the guard said something unknown"),
            None => bail!("the guard is gone"),
        }
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Started { name, pid } => {
                self.running.insert(name.clone(), *pid);
                self.fallen.remove(name);
            }
            Event::Exited { name, how } => {
                self.running.remove(name);
                self.fallen.insert(name.clone(), how.clone());
            }
            Event::Failed { .. } | Event::Recorded { .. } => {}
        }
    }
}

/// Last lines of a log, for a failure's message.
pub(crate) fn tail(log: &Path) -> String {
    /// Lines that are shown.
    const LINES: usize = 8;
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
