//! The load: a closed loop that keeps every connection busy, and a paced one that holds a rate and times each answer.
//!
//! Both check every response (status 200, the whole body), so a proxy cannot win by answering badly.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Largest answer read into one buffer, in bytes: the largest body asked for plus any head a proxy writes.
const ANSWER_LIMIT: usize = 16 * 1024;
/// How long the paced load waits for one answer before the run fails.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// Where to send and what.
#[derive(Clone)]
pub(crate) struct Target {
    /// The proxy.
    pub(crate) address: SocketAddr,
    /// Value of the Host header.
    pub(crate) authority: String,
    /// Body bytes to ask for.
    pub(crate) body: usize,
    /// Labels of lanes that requests carry in turn; the empty one is none.
    pub(crate) labels: &'static [&'static str],
}

impl Target {
    /// A request without a label.
    fn request(&self) -> Vec<u8> {
        self.labelled("")
    }

    /// One request for each label, to be sent in turn; without labels the one without.
    fn requests(&self) -> Vec<Vec<u8>> {
        let labels = if self.labels.is_empty() { &[""] } else { self.labels };
        labels.iter().map(|label| self.labelled(label)).collect()
    }

    fn labelled(&self, label: &str) -> Vec<u8> {
        let Self { authority, body, .. } = self;
        let lane = if label.is_empty() { String::new() } else { format!("x-mesh-lane: {label}\r\n") };
        format!("GET /{body} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: mesh-bench\r\naccept: */*\r\n{lane}\r\n")
            .into_bytes()
    }
}

/// A closed loop under way; ends when stopped.
pub(crate) struct Busy {
    answered: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    failure: Arc<Mutex<Option<anyhow::Error>>>,
    thread: thread::JoinHandle<()>,
}

impl Busy {
    /// Opens `connections` and keeps one request under way on each.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn start(target: &Target, connections: usize) -> anyhow::Result<Self> {
        let (answered, stop, failure): (Arc<AtomicU64>, Arc<AtomicBool>, Arc<Mutex<Option<_>>>) = Default::default();
        let (target, count, ending, problem) = (target.clone(), answered.clone(), stop.clone(), failure.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = move || {
            let done = runtime.block_on(async {
                let loops =
                    (0..connections).map(|_| tokio::spawn(repeat(target.clone(), count.clone(), ending.clone())));
                for ended in loops.collect::<Vec<_>>() {
                    ended.await??;
                }
                anyhow::Ok(())
            });
            if let Err(error) = done {
                problem.lock().expect("nobody panics holding it").get_or_insert(error);
            }
        };
        let thread = thread::Builder::new().name("load".into()).spawn(work)?;
        Ok(Self { answered, stop, failure, thread })
    }

    /// Answers so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Ends the loop after the answers under way.
    ///
    /// # Errors
    /// The first bad answer or broken connection.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the load panicked"))?;
        let failure = self.failure.lock().expect("nobody panics holding it").take();
        failure.map_or(Ok(()), Err)
    }
}

async fn repeat(target: Target, answered: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> anyhow::Result<()> {
    let mut socket = TcpStream::connect(target.address).await.context("cannot connect to the proxy")?;
    socket.set_nodelay(true)?;
    let requests = target.requests();
    let mut turns = requests.iter().cycle();
    let mut buffer = vec![0; ANSWER_LIMIT];
    while let Some(request) = turns.next().filter(|_| !stop.load(Ordering::Relaxed)) {
        socket.write_all(request).await?;
        let mut filled = 0;
        loop {
            let read = socket.read(&mut buffer[filled..]).await?;
            ensure!(read > 0, "the proxy closed after {filled} bytes of an answer");
            filled += read;
            if complete(&buffer[..filled], target.body)? {
                break;
            }
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// True when `bytes` are one whole answer with `body` bytes.
fn complete(bytes: &[u8], body: usize) -> anyhow::Result<bool> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(bytes).context("not HTTP")? else {
        ensure!(bytes.len() < ANSWER_LIMIT, "an endless response head");
        return Ok(false);
    };
    if response.code != Some(200) {
        bail!("refused: {}", String::from_utf8_lossy(bytes));
    }
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| str::from_utf8(header.value).ok()?.parse::<usize>().ok());
    ensure!(length == Some(body), "content-length {length:?} instead of {body}");
    ensure!(bytes.len() <= head + body, "{} bytes too many", bytes.len() - head - body);
    Ok(bytes.len() == head + body)
}

/// Sends at a fixed rate over `connections` for `duration`; times from the moment each request was due, so that a
/// stall counts for every request that it delayed. Threads with blocking sockets, because timers of an event loop are
/// a millisecond coarse.
///
/// # Errors
/// The first bad answer or broken connection.
pub(crate) fn paced(target: &Target, connections: u32, rate: u32, duration: Duration) -> anyhow::Result<Vec<Duration>> {
    let every = Duration::from_secs(1) * connections / rate;
    let begin = Instant::now() + Duration::from_millis(20);
    let senders = (0..connections).map(|index| {
        let (target, first) = (target.clone(), begin + every * index / connections);
        thread::spawn(move || pace(&target, first, every, begin + duration))
    });
    let mut latencies = Vec::new();
    for sender in senders.collect::<Vec<_>>() {
        latencies.extend(sender.join().map_err(|_| anyhow::anyhow!("the paced load panicked"))??);
    }
    latencies.sort_unstable();
    Ok(latencies)
}

fn pace(target: &Target, first: Instant, every: Duration, end: Instant) -> anyhow::Result<Vec<Duration>> {
    let mut socket = connect(target)?;
    let request = target.request();
    let mut buffer = vec![0; ANSWER_LIMIT];
    let mut latencies = Vec::new();
    let mut due = first;
    while due < end {
        let early = due.checked_duration_since(Instant::now());
        thread::sleep(early.unwrap_or_default());
        // A sleep ends tens of microseconds late, which is not the proxy's fault; a late previous answer is.
        let start = if early.is_some() { Instant::now() } else { due };
        exchange(&mut socket, &request, &mut buffer, target.body)?;
        latencies.push(start.elapsed());
        due += every;
    }
    Ok(latencies)
}

/// Connections that have made one exchange each and stay open, for measuring what an idle one costs.
///
/// # Errors
/// The first bad answer or broken connection.
pub(crate) fn idle(target: &Target, connections: usize) -> anyhow::Result<Vec<std::net::TcpStream>> {
    let (request, mut buffer) = (target.request(), vec![0; ANSWER_LIMIT]);
    let open = |_| {
        let mut socket = connect(target)?;
        exchange(&mut socket, &request, &mut buffer, target.body)?;
        Ok(socket)
    };
    (0..connections).map(open).collect()
}

/// Keep-alive connections that take turns together: on each a request is sent before the first answer is read.
pub(crate) struct Together {
    sockets: Vec<std::net::TcpStream>,
    requests: Vec<Vec<u8>>,
    body: usize,
    turn: usize,
}

impl Together {
    /// Opens `connections`.
    ///
    /// # Errors
    /// When the proxy does not take one.
    pub(crate) fn open(target: &Target, connections: usize) -> anyhow::Result<Self> {
        let sockets = (0..connections).map(|_| connect(target)).collect::<Result<_, _>>()?;
        Ok(Self { sockets, requests: target.requests(), body: target.body, turn: 0 })
    }

    /// Sends `turns` requests on each connection.
    ///
    /// # Errors
    /// The first bad answer or broken connection.
    pub(crate) fn send(&mut self, turns: usize) -> anyhow::Result<()> {
        let mut buffer = vec![0; ANSWER_LIMIT];
        for _ in 0..turns {
            self.turn += 1;
            for (position, socket) in self.sockets.iter_mut().enumerate() {
                socket.write_all(&self.requests[(self.turn + position) % self.requests.len()])?;
            }
            for socket in &mut self.sockets {
                answer(socket, &mut buffer, self.body)?;
            }
        }
        Ok(())
    }
}

/// One exchange on a connection of its own: whether the path works.
///
/// # Errors
/// As the answer says.
pub(crate) fn once(target: &Target) -> anyhow::Result<()> {
    exchange(&mut connect(target)?, &target.request(), &mut vec![0; ANSWER_LIMIT], target.body)
}

fn connect(target: &Target) -> anyhow::Result<std::net::TcpStream> {
    let socket = std::net::TcpStream::connect(target.address).context("cannot connect to the proxy")?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(ANSWER_WAIT))?;
    Ok(socket)
}

fn exchange(socket: &mut std::net::TcpStream, request: &[u8], buffer: &mut [u8], body: usize) -> anyhow::Result<()> {
    socket.write_all(request)?;
    answer(socket, buffer, body)
}

fn answer(socket: &mut std::net::TcpStream, buffer: &mut [u8], body: usize) -> anyhow::Result<()> {
    let mut filled = 0;
    loop {
        let read = socket.read(&mut buffer[filled..]).context("no answer")?;
        ensure!(read > 0, "the proxy closed after {filled} bytes of an answer");
        filled += read;
        if complete(&buffer[..filled], body)? {
            return Ok(());
        }
    }
}
