//! A data worker: one thread with its own runtime, listeners, pools, load estimates and counters. What workers share
//! (the snapshot, the TLS material) is read through atomic pointers; nothing here takes a lock that another thread holds.

mod drain;
pub mod guests;
mod run;

use std::{
    cell::Cell,
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mesh_core::{
    drain::{Application, Limits, UnderWay},
    shedding::{Pressure, Shed},
};
use tokio::{runtime, sync::watch, time::Instant};
use tokio_util::task::TaskTracker;

pub use self::drain::{Drain, Seat, Stage, Turn};
use self::guests::{Guests, Places};
use crate::{
    balance::Balances,
    datapath::{
        self,
        detect::ServerFirst,
        lane::{links::Links, memory::Memory},
        reach::Upstreams,
        report::SeriesCache,
    },
    health::{Health, board::Seat as ProbingSeat},
    net::{http1::HeadLimits, listener::Listener, memory},
    providers::{Providers, Room},
    retries::Budgets,
    shared::Shared,
    telemetry::worker::{Direction, Sink},
    zones::Zoning,
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

/// How callers are told that this proxy drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notices {
    /// By a field of responses to mesh peers.
    pub marker: Notice,
    /// By `Connection: close` and GOAWAY.
    pub close: Notice,
    /// By the controller, which is told.
    pub controller: Notice,
}

impl Default for Notices {
    fn default() -> Self {
        Notices { marker: Notice::Given, close: Notice::Given, controller: Notice::Given }
    }
}

/// Whether callers are told in one of the ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// They are.
    Given,
    /// They are not.
    Withheld,
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
    /// Every listener, in order of declaration.
    pub const ALL: [Door; 3] = [Door::Outbound, Door::Inbound, Door::OutsideTls];

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
    /// How long the parts of going down may take.
    pub drain: Limits,
    /// How callers are told of it.
    pub notices: Notices,
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
    /// Memory for requests to models.
    pub model_room: Arc<Room>,
    /// Connections of callers that one worker may have.
    pub places: Places,
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
    /// How far it has come on its way down.
    pub stage: watch::Receiver<Stage>,
    application: watch::Sender<Application>,
}

impl WorkerHandle {
    /// Says that the application needs this proxy no more.
    pub fn application_is_gone(&self) {
        self.application.send_replace(Application::Gone);
    }

    /// Waits until a worker that drains has drained, for whose application nothing is to be served any more; blocks the
    /// calling thread.
    ///
    /// # Errors
    /// When its runtime could not be built, or it panicked.
    pub fn join(self) -> io::Result<()> {
        drop(self.application);
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
    /// Where it shows what it probes.
    pub probing: ProbingSeat,
    /// What is kept between picks: whose turn it is, rings and tables, who is new.
    pub balances: Balances,
    /// What is kept between picks: which zones serve.
    pub zones: Zoning,
    /// What is left of the budgets of retries.
    pub retries: Budgets,
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
    /// Connections of callers.
    pub guests: Rc<Guests>,
    /// Owner of every task of this worker.
    pub tasks: TaskTracker,
    /// Exchanges under way.
    pub exchanges: Cell<usize>,
    /// Those of them that came in, see [`Worker::takes_calls`].
    pub under_way: Cell<UnderWay>,
    started: Instant,
    random: Cell<u64>,
}

/// Longer than any process serves.
const FAR: Duration = Duration::from_secs(30 * 365 * 86_400);

impl Worker {
    /// A worker that serves nobody yet.
    pub(crate) fn new(config: Arc<WorkerConfig>, shared: Arc<Shared>, sink: Sink, links: Links) -> Rc<Self> {
        let workers = links.count();
        let memory = Memory::new(config.lane_table, links, Arc::clone(&sink.metrics));
        Rc::new(Worker {
            memory: Rc::new(memory),
            upstreams: Upstreams::default(),
            health: Health::default(),
            probing: shared.probing.join(),
            balances: Balances::default(),
            zones: Zoning::default(),
            retries: Budgets::new(workers),
            providers: Providers::new(config.secrets_directory.clone()),
            server_first: ServerFirst::default(),
            series: SeriesCache::new(Arc::clone(&sink.metrics)),
            drain: Drain::default(),
            guests: Rc::new(Guests::new(config.places)),
            tasks: TaskTracker::new(),
            exchanges: Cell::new(0),
            under_way: Cell::new(UnderWay { ordinary: 0, lasting: 0, last: Duration::ZERO }),
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

    /// Whether what goes this way comes from callers who must be told when this proxy drains: not from the application
    /// beside it, which ends with it.
    pub fn takes_calls(&self, direction: Direction) -> bool {
        match (direction, self.config.role) {
            (Direction::Inbound, _) | (Direction::Outbound, Role::Gateway) => true,
            (Direction::Outbound, Role::Sidecar) => false,
        }
    }

    /// Whether the exchange under way is the last of its connection: its caller is told so that this proxy drains, or no
    /// other could follow.
    pub fn must_leave(&self, direction: Direction, turn: &Turn) -> bool {
        self.drain.stage() >= self.last_stage(direction)
            || self.leaves_at(direction, turn).is_some_and(|moment| moment <= Instant::now())
    }

    /// When it is; `None` = not, or not yet known.
    pub fn leaves_at(&self, direction: Direction, turn: &Turn) -> Option<Instant> {
        if !self.drain.is_on() || !self.takes_calls(direction) || self.config.notices.close == Notice::Withheld {
            return None;
        }
        turn.moment(&self.drain, self.config.drain.window(), || self.random())
    }

    /// The stage in which connections of this direction that carry nothing are ended.
    pub fn last_stage(&self, direction: Direction) -> Stage {
        if self.takes_calls(direction) { Stage::Closing } else { Stage::Done }
    }

    /// How short memory, or places for connections, are.
    pub fn pressure(&self) -> Pressure {
        memory::pressure().max(self.guests.pressure())
    }

    /// Counts what was given up, refused or cut off.
    pub fn shed(&self, why: Shed) {
        self.sink.metrics.shed[why as usize].add(1);
    }

    /// Descriptors ran out: lets go of those that nobody uses.
    pub fn relieve(&self) {
        self.upstreams.let_unused_go();
        if self.guests.relieve() {
            self.shed(Shed::Idle);
        }
    }

    /// What is to be done every [`run::TICK`].
    fn tick(&self) {
        for _ in 0..self.guests.tick(self.now(), memory::pressure()) {
            self.shed(Shed::Idle);
        }
        self.upstreams.tick(self.now());
        self.health.tick(self);
        self.balances.tick(self);
        self.zones.tick(self);
        self.retries.tick(self.now());
        self.providers.tick(&self.sink.metrics.models, self.now(), self.started);
        self.memory.tick();
        datapath::wire::shed_memory();
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
    let (application, watched) = watch::channel(Application::Alive);
    let (reached, stage) = watch::channel(Stage::Serving);
    let thread = std::thread::Builder::new().name(format!("worker-{}", links.number())).spawn(move || {
        let runtime =
            runtime::Builder::new_current_thread().enable_io().enable_time().build_local(Default::default())?;
        runtime.block_on(async move {
            let worker = Worker::new(config, shared, sink, links);
            let doors = [(Some(outbound), Door::Outbound), (inbound, Door::Inbound), (outside_tls, Door::OutsideTls)];
            let open =
                |(socket, door): (Option<_>, Door)| Some(Listener::new(socket?).map(|listener| (listener, door)));
            let doors = doors.into_iter().filter_map(open).collect::<io::Result<Vec<_>>>()?;
            run::run(&worker, doors, watched, &reached).await;
            Ok(())
        })
    })?;
    Ok(WorkerHandle {
        thread,
        outbound: outbound_address,
        inbound: inbound_address,
        outside_tls: outside_tls_address,
        stage,
        application,
    })
}
