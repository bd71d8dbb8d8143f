//! A data worker: one thread with its own runtime, listeners, pools, load estimates and counters. What workers share
//! (the snapshot, the TLS material) is read through atomic pointers; nothing here takes a lock that another thread holds.

mod drain;

use std::{
    cell::Cell,
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    task::Poll,
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{net::TcpStream, runtime, time::Instant};
use tokio_util::task::TaskTracker;

pub use self::drain::{Drain, Seat, Stage};
use crate::{
    datapath::{
        self,
        detect::ServerFirst,
        lane::{links::Links, memory::Memory, oracle::Known},
        probe,
        reach::Upstreams,
        report::SeriesCache,
    },
    health::Health,
    net::{http1::HeadLimits, listener::Listener},
    providers::Providers,
    shared::Shared,
    telemetry::worker::{Direction, Sink},
};

/// What a proxy does with traffic at its outbound listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Takes the calls of one application.
    #[default]
    Sidecar,
    /// Takes calls from outside the mesh.
    Gateway,
}

/// Whether lane labels that reach a gateway from outside are believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutsideLanes {
    /// Removed.
    #[default]
    Strip,
    /// Kept, as if a mesh peer had sent them.
    Trust,
}

/// A listener of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Calls of the application; in the clear from outside, at a gateway.
    Outbound,
    /// Calls to the application.
    Inbound,
    /// Calls from outside under TLS, at a gateway.
    OutsideTls,
}

impl Door {
    /// Which way its exchanges go.
    pub fn direction(self) -> Direction {
        match self {
            Door::Outbound | Door::OutsideTls => Direction::Outbound,
            Door::Inbound => Direction::Inbound,
        }
    }
}

/// Settings of a worker; the same for all of a process.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// What the outbound listener is for.
    pub role: Role,
    /// Where the application's calls (or, of a gateway, calls from outside) arrive.
    pub outbound_listen: SocketAddr,
    /// Where calls to the application arrive; `None` for a gateway without application.
    pub inbound_listen: Option<SocketAddr>,
    /// Where the admin interface listens: it trusts what comes from the pod itself, so calls from outside never go there.
    pub admin_listen: Option<SocketAddr>,
    /// Where the application listens; `None` = the original destination, or the local address of the connection.
    pub application_address: Option<IpAddr>,
    /// Trust domain of the mesh.
    pub trust_domain: Arc<str>,
    /// Namespace of the control plane, part of identities' DNS names.
    pub control_namespace: Arc<str>,
    /// Limits of HTTP/1 heads; their length also bounds HTTP/2 header lists.
    pub head_limits: HeadLimits,
    /// Longest time that exchanges have to end once the proxy drains.
    pub drain_limit: Duration,
    /// Lane labels from outside, at a gateway.
    pub outside_lanes: OutsideLanes,
    /// Where a gateway takes TLS from outside.
    pub outside_tls_listen: Option<SocketAddr>,
    /// Proxies in front of a gateway that are trusted to say where calls come from.
    pub forwarded_hops: usize,
    /// Trace ids that a worker remembers at most.
    pub lane_table: usize,
    /// Folder with the secrets that model routes name.
    pub secrets_directory: PathBuf,
}

/// A running worker.
#[derive(Debug)]
pub struct WorkerHandle {
    thread: JoinHandle<io::Result<()>>,
    /// Address of the outbound listener.
    pub outbound: SocketAddr,
    /// Address of the inbound listener.
    pub inbound: Option<SocketAddr>,
    /// Address of the listener for TLS from outside.
    pub outside_tls: Option<SocketAddr>,
}

impl WorkerHandle {
    /// Waits until the worker has drained; blocks the calling thread.
    ///
    /// # Errors
    /// When its runtime could not be built, or it panicked.
    pub fn join(self) -> io::Result<()> {
        self.thread.join().map_err(|_| io::Error::other("a data worker panicked"))?
    }

    /// Whether the worker has ended; before draining that is a defect.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// State of one worker, shared by its tasks.
pub struct Worker {
    /// Settings.
    pub config: Arc<WorkerConfig>,
    /// What the control thread provides.
    pub shared: Arc<Shared>,
    /// Counters and records.
    pub sink: Sink,
    /// Connections to endpoints and what is known of their load.
    pub upstreams: Upstreams,
    /// Which instances are usable, as this worker found out.
    pub health: Health,
    /// What is known of the targets of model routes.
    pub providers: Providers,
    /// Destinations where the server speaks first.
    pub server_first: ServerFirst,
    /// Series of exchanges by their labels.
    pub series: SeriesCache,
    /// Requests that are, or were, with the application.
    pub memory: Rc<Memory>,
    /// Whether this proxy drains, and who must be told.
    pub drain: Drain,
    /// Owner of every task of this worker.
    pub tasks: TaskTracker,
    /// Exchanges under way.
    pub exchanges: Cell<usize>,
    started: Instant,
    random: Cell<u64>,
}

/// Longer than any process serves.
const FAR: Duration = Duration::from_secs(30 * 365 * 86_400);

impl Worker {
    /// A worker that serves nobody yet.
    pub(crate) fn new(config: Arc<WorkerConfig>, shared: Arc<Shared>, sink: Sink, links: Links) -> Rc<Self> {
        let memory = Memory::new(config.lane_table, links, Arc::clone(&sink.metrics));
        Rc::new(Worker {
            memory: Rc::new(memory),
            upstreams: Upstreams::default(),
            health: Health::default(),
            providers: Providers::new(config.secrets_directory.clone()),
            server_first: ServerFirst::default(),
            series: SeriesCache::new(Arc::clone(&sink.metrics)),
            drain: Drain::default(),
            tasks: TaskTracker::new(),
            exchanges: Cell::new(0),
            started: Instant::now(),
            random: Cell::new(rand::random::<u64>() | 1),
            config,
            shared,
            sink,
        })
    }

    /// Time since the worker started: the clock of load estimates.
    pub fn now(&self) -> Duration {
        self.since_start(Instant::now())
    }

    /// The same clock at a moment that is known already.
    pub fn since_start(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.started)
    }

    /// When it is `at` on that clock; of what is beyond every clock, far ahead.
    pub fn moment(&self, at: Duration) -> Instant {
        self.started.checked_add(at).unwrap_or_else(|| Instant::now() + FAR)
    }

    /// Time since the Unix epoch, for what others write as dates.
    pub fn unix_now(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    /// A random number for balancing and sampling; not for secrets (xorshift64*).
    pub fn random(&self) -> u64 {
        let mut state = self.random.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.random.set(state);
        state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

/// Starts the worker to which the links belong: binds its listeners in the calling thread, so that a failure is told at
/// once, and runs it in its own.
///
/// # Errors
/// When an address cannot be listened on.
pub fn spawn(config: Arc<WorkerConfig>, shared: Arc<Shared>, sink: Sink, links: Links) -> io::Result<WorkerHandle> {
    let outbound = Listener::bind(config.outbound_listen)?;
    let inbound = config.inbound_listen.map(Listener::bind).transpose()?;
    let outside_tls = config.outside_tls_listen.map(Listener::bind).transpose()?;
    let address =
        |listener: &Option<std::net::TcpListener>| listener.as_ref().map(std::net::TcpListener::local_addr).transpose();
    let (outbound_address, inbound_address) = (outbound.local_addr()?, address(&inbound)?);
    let outside_tls_address = address(&outside_tls)?;
    // Ports that the kernel chose are known from here on, for the guard against loops.
    let config = Arc::new(WorkerConfig {
        outbound_listen: outbound_address,
        inbound_listen: inbound_address,
        outside_tls_listen: outside_tls_address,
        ..WorkerConfig::clone(&config)
    });
    let thread = std::thread::Builder::new().name(format!("worker-{}", links.number())).spawn(move || {
        let runtime =
            runtime::Builder::new_current_thread().enable_io().enable_time().build_local(Default::default())?;
        runtime.block_on(async move {
            let worker = Worker::new(config, shared, sink, links);
            let doors = [(Some(outbound), Door::Outbound), (inbound, Door::Inbound), (outside_tls, Door::OutsideTls)];
            let open =
                |(socket, door): (Option<_>, Door)| Some(Listener::new(socket?).map(|listener| (listener, door)));
            let doors = doors.into_iter().filter_map(open).collect::<io::Result<Vec<_>>>()?;
            run(&worker, doors).await;
            Ok(())
        })
    })?;
    Ok(WorkerHandle { thread, outbound: outbound_address, inbound: inbound_address, outside_tls: outside_tls_address })
}

/// How often a draining worker looks whether its exchanges have ended, and an idle one at its pools.
const TICK: Duration = Duration::from_millis(100);
/// Without an exchange for so long, a draining worker takes it that nobody sends new ones, and stops accepting.
const QUIET: Duration = Duration::from_secs(1);

async fn run(worker: &Rc<Worker>, doors: Vec<(Listener, Door)>) {
    for (listener, door) in doors {
        worker.tasks.spawn_local(accept(Rc::clone(worker), listener, door));
    }
    worker.tasks.spawn_local(probe::run(Rc::clone(worker)));
    worker.tasks.spawn_local(answer(Rc::clone(worker)));
    let mut draining = worker.shared.draining.clone();
    loop {
        tokio::select! {
            result = draining.wait_for(|draining| *draining) => {
                // A control thread that is gone ends the process as an order to drain does.
                let _ = result.is_ok();
                break;
            }
            () = tokio::time::sleep(TICK) => {
                worker.upstreams.tick(worker.now());
                worker.health.tick(worker);
                worker.providers.tick(&worker.sink.metrics.models, worker.now(), worker.started);
                worker.memory.tick();
                datapath::wire::shed_memory();
            }
        }
    }
    let limit = Instant::now() + worker.config.drain_limit;
    worker.drain.begin();
    quiet(worker, limit).await;
    worker.tasks.close();
    worker.drain.finish();
    // What is still open at the limit ends with the runtime; its guards record that.
    while Instant::now() < limit {
        worker.upstreams.close();
        if tokio::time::timeout(TICK, worker.tasks.wait()).await.is_ok() {
            break;
        }
    }
}

/// Answers questions from the admin port until the worker has drained.
async fn answer(worker: Rc<Worker>) {
    let Some(mut questions) = worker.memory.questions() else { return };
    let seat = worker.drain.seat();
    loop {
        let last = std::future::poll_fn(|cx| match seat.poll_stage(cx) {
            Stage::Finishing => Poll::Ready(()),
            Stage::Serving | Stage::Draining => Poll::Pending,
        });
        tokio::select! {
            question = questions.recv() => match question {
                Some(question) => question.answer(Known {
                    memory: &worker.memory,
                    health: &worker.health,
                    shared: &worker.shared,
                    now: worker.now(),
                }),
                None => return,
            },
            () = last => return,
        }
    }
}

async fn quiet(worker: &Worker, limit: Instant) {
    let mut since = Instant::now();
    while Instant::now() < limit && since.elapsed() < QUIET {
        tokio::time::sleep(TICK).await;
        if worker.exchanges.get() > 0 {
            since = Instant::now();
        }
    }
}

async fn accept(worker: Rc<Worker>, listener: Listener, door: Door) {
    let exhausted = || worker.sink.metrics.accept_pauses.add(1);
    let seat = worker.drain.seat();
    loop {
        let last = std::future::poll_fn(|cx| match seat.poll_stage(cx) {
            Stage::Finishing => Poll::Ready(()),
            Stage::Serving | Stage::Draining => Poll::Pending,
        });
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept(exhausted) => accepted,
            // What waited in the queue was accepted before: closing resets nobody.
            () = last => return,
        };
        let (io, peer) = accepted;
        worker.sink.metrics.accepted[door.direction() as usize].add(1);
        let connection = serve(Rc::clone(&worker), io, peer, door);
        worker.tasks.spawn_local(connection);
    }
}

async fn serve(worker: Rc<Worker>, io: TcpStream, peer: SocketAddr, door: Door) {
    let open = &worker.sink.metrics.open[door.direction() as usize];
    open.add(1);
    datapath::connection(&worker, io, peer, door).await;
    open.subtract(1);
}
