//! Joins the parts and owns every long-lived task.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use mesh_core::{identity::Identity, resources::nacos::Server};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    admin::{self, Console},
    compose::{News, Said, SourceName},
    config::Settings,
    demand::Demand,
    follow::Follower,
    guard::Guards,
    index::Index,
    meshed,
    publish::{Published, Reported, usage::Usage},
    serve::{
        self, Services,
        acceptor::{self, ACCEPTED_QUEUE, Security},
        tls,
    },
    sidecars,
    sign::{
        authority::Authority,
        files::{self, Paths},
        refresh::Refresher,
        tokens::Tokens,
    },
    sources::{
        self, Change, EVENT_QUEUE, Shared, States, dns,
        file::FileSource,
        nacos::{
            self, policies::Policies, register::Registrar, source::Source, start::Common, table::Table, wire::Link,
        },
    },
    telemetry::{Load, Metrics},
    workshop::Workshop,
};

/// How long streams may take to end when the controller stops; proxies that are slower lose their connection.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// File of the state directory that tells `mesh-ctl token create` the trust domain.
const TRUST_DOMAIN_FILE: &str = "trust-domain";

/// A controller that runs.
pub struct Running {
    /// Address of the gRPC port.
    pub listen: SocketAddr,
    /// Address of the admin port.
    pub admin: SocketAddr,
    /// Address of the plaintext loopback port, if any.
    pub plaintext_loopback: Option<SocketAddr>,
    stopping: CancellationToken,
    ended: CancellationToken,
    tasks: JoinSet<()>,
}

impl Running {
    /// One that has no tasks yet.
    fn on(ports: &Ports) -> anyhow::Result<Running> {
        Ok(Running {
            listen: ports.grpc.local_addr()?,
            admin: ports.console.local_addr()?,
            plaintext_loopback: ports.plaintext.as_ref().map(TcpListener::local_addr).transpose()?,
            stopping: CancellationToken::new(),
            ended: CancellationToken::new(),
            tasks: JoinSet::new(),
        })
    }

    /// Waits until a task ended although nobody asked.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Ends all streams and tasks.
    pub async fn stop(mut self) {
        self.stopping.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(STOP_DEADLINE, all).await.is_err() {
            warn!("some streams did not end in time");
        }
        self.tasks.shutdown().await;
    }
}

/// Starts a controller: binds its ports, then serves proxies as soon as the sources have been loaded once.
///
/// # Errors
/// When keys, certificates or ports cannot be had.
pub async fn start(settings: Settings) -> anyhow::Result<Running> {
    let metrics = Arc::new(Metrics::default());
    let signing = Signing::open(&settings, &metrics)?;
    let place = settings.file()?;
    let ports = Ports::bind(&settings).await?;
    let mut running = Running::on(&ports)?;
    let stopping = running.stopping.clone();
    let state = Arc::new(sources::Shared::new(sources::file::NAME.into(), place.display().to_string()));
    let (changes, incoming) = mpsc::channel(EVENT_QUEUE);
    let (requests, requested) = mpsc::channel(sources::file::REQUEST_QUEUE);
    let (ready, is_ready) = watch::channel(false);
    let index = Index::new(settings.domains());
    let registries = Registries::new(&settings, changes.clone(), &metrics)?;
    let published = Arc::new(Published::new(index.view(), Arc::clone(&registries.common.demand), stopping.clone()));
    let reported = Reported { usage: Arc::new(Usage::open(&settings.state_directory()?)), ..Reported::default() };
    let registrars = registries.registrars(&published, &reported);
    let console = Console {
        published: Arc::clone(&published),
        reported: reported.clone(),
        states: registries.states(&state),
        state: Arc::clone(&state),
        registered: Arc::clone(&registries.common.table),
        ledgers: registrars.iter().map(Registrar::ledger).collect(),
        requests: requests.clone(),
        tokens: Arc::clone(&signing.tokens),
        ready: is_ready.clone(),
        metrics: Arc::clone(&metrics),
    };
    let statistics = Arc::clone(&reported.statistics);
    let guards = Guards { states: console.states.clone(), statistics, requests, metrics: Arc::clone(&metrics) };
    let source = registries.files(place.clone(), state, requested);
    let services = signing.services(&settings, Arc::clone(&published), reported.clone(), Arc::clone(&metrics));
    let listeners = signing.listeners(&settings, ports.grpc, ports.plaintext);
    let follower = Follower {
        workshop: registries.workshop.clone(),
        index,
        said: registries.composed.clone(),
        waiting: registries.names(),
        published: Arc::clone(&published),
        metrics: Arc::clone(&metrics),
        ready,
    };
    running.own("source", source.run(stopping.clone()));
    let sidecars = watcher(&reported, &published, &changes, &metrics);
    running.follow(registries, registrars, &reported, settings.state_directory()?.join(meshed::FILE));
    running.own("sidecars", sidecars.run(stopping.clone()));
    running.own("usage", Arc::clone(&reported.usage).keep(stopping.clone()));
    running.own("guards", guards.run(stopping.clone()));
    running.own("anchors", anchors(signing.authority.subscribe(), changes, stopping.clone()));
    running.own("index", follower.run(incoming, stopping.clone()));
    running.own("console", admin::serve(ports.console, console, stopping.clone()));
    running.own("server", serve_when_ready(services, listeners, is_ready, stopping.clone()));
    running.own("authority", signing.refresher(&settings, metrics).run(stopping));
    info!(listen = %running.listen, admin = %running.admin, file = %place.display(), "controller started");
    Ok(running)
}

/// Who watches what becomes of sidecars.
fn watcher(
    reported: &Reported,
    published: &Arc<Published>,
    changes: &mpsc::Sender<Change>,
    metrics: &Arc<Metrics>,
) -> sidecars::Watcher {
    sidecars::Watcher {
        proxies: Arc::clone(&reported.proxies),
        published: Arc::clone(published),
        changes: changes.clone(),
        events: Arc::clone(&reported.events),
        metrics: Arc::clone(metrics),
    }
}

/// Sources beside the file.
struct Registries {
    servers: Vec<Server>,
    sources: Vec<(Source, Link)>,
    policies: Vec<(Policies, Arc<Shared>)>,
    common: Common,
    composed: watch::Sender<Arc<Said>>,
    workshop: Workshop,
}

impl Registries {
    fn new(settings: &Settings, changes: mpsc::Sender<Change>, metrics: &Arc<Metrics>) -> anyhow::Result<Self> {
        let servers = match &settings.nacos {
            None => Vec::new(),
            Some(file) => nacos::settings::read(file).map_err(|problems| {
                let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
                anyhow::anyhow!("--nacos: {}", lines.join("\n"))
            })?,
        };
        let said = Said::new(settings.domains(), !servers.is_empty());
        let (composed, is_said) = watch::channel(Arc::new(said));
        let common = Common {
            demand: Arc::new(Demand::new(nacos::start::names(&servers).collect())),
            said: is_said,
            changes,
            table: Arc::new(Table::default()),
            metrics: Arc::clone(metrics),
        };
        let state = settings.state_directory()?;
        let sources = nacos::start::sources(servers.clone(), &state, &common);
        let policies = servers.iter().filter_map(|server| Policies::of(server, &state, &common)).collect();
        let workshop = Workshop::open().context("a thread to compile on")?;
        Ok(Registries { servers, sources, policies, common, composed, workshop })
    }

    /// The source of files, which stands beside them.
    fn files(
        &self,
        place: PathBuf,
        state: Arc<Shared>,
        requests: mpsc::Receiver<sources::file::Request>,
    ) -> FileSource {
        let (said, changes) = (self.common.said.clone(), self.common.changes.clone());
        let (workshop, metrics) = (self.workshop.clone(), Arc::clone(&self.common.metrics));
        FileSource { place, said, state, changes, requests, workshop, metrics }
    }

    /// States of all sources, the file's first.
    fn states(&self, file: &Arc<Shared>) -> States {
        let sources = self.sources.iter().map(|(source, _)| Arc::clone(&source.state));
        let policies = self.policies.iter().map(|(_, state)| Arc::clone(state));
        States(std::iter::once(Arc::clone(file)).chain(sources).chain(policies).collect())
    }

    /// Who registers workloads, one for each namespace that they are registered in.
    fn registrars(&self, published: &Arc<Published>, reported: &Reported) -> Vec<Registrar> {
        let metrics = &self.common.metrics;
        self.servers.iter().flat_map(|server| Registrar::all(server, published, reported, metrics)).collect()
    }

    /// Names of all sources, the file's too.
    fn names(&self) -> BTreeSet<SourceName> {
        let names = self.sources.iter().map(|(source, _)| Arc::clone(&source.name));
        let policies = self.policies.iter().map(|(policies, _)| Arc::clone(policies.name()));
        std::iter::once(sources::file::NAME.into()).chain(names).chain(policies).collect()
    }
}

impl Running {
    /// Runs registries, and whoever registers workloads there. `meshed` is where it is kept who runs behind a sidecar.
    fn follow(&mut self, registries: Registries, registrars: Vec<Registrar>, reported: &Reported, meshed: PathBuf) {
        let stopping = self.stopping.clone();
        let (said, changes) = (registries.common.said.clone(), registries.common.changes.clone());
        self.own("names", dns::Names { said, changes }.run(stopping.clone()));
        if registries.servers.is_empty() {
            return;
        }
        let watcher = meshed::Watcher {
            proxies: Arc::clone(&reported.proxies),
            demand: Arc::clone(&registries.common.demand),
            said: registries.common.said.clone(),
            changes: registries.common.changes.clone(),
            file: meshed,
        };
        self.own("meshed", watcher.run(stopping.clone()));
        for (source, link) in registries.sources {
            self.own("connection", link.run(stopping.clone()));
            self.own("registry", source.run(stopping.clone()));
        }
        for (policies, _) in registries.policies {
            self.own("policies", policies.run(stopping.clone()));
        }
        for registrar in registrars {
            self.own("registrar", registrar.run(stopping.clone()));
        }
    }
}

/// Listeners of the process.
struct Ports {
    grpc: TcpListener,
    console: TcpListener,
    plaintext: Option<TcpListener>,
}

impl Ports {
    async fn bind(settings: &Settings) -> anyhow::Result<Self> {
        let plaintext = match settings.plaintext_loopback {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        Ok(Ports { grpc: bind(settings.listen).await?, console: bind(settings.admin).await?, plaintext })
    }
}

/// Authority, tokens, and the TLS configuration made of them.
struct Signing {
    paths: Paths,
    identity: Identity,
    authority: watch::Sender<Arc<Authority>>,
    tls: watch::Sender<Arc<rustls::ServerConfig>>,
    tokens: Arc<Tokens>,
}

impl Signing {
    fn open(settings: &Settings, metrics: &Metrics) -> anyhow::Result<Self> {
        let (identity, paths) = (settings.identity()?, settings.paths()?);
        let state_directory = settings.state_directory()?;
        files::directory(&state_directory)?;
        files::replace(&state_directory.join(TRUST_DOMAIN_FILE), settings.trust_domain.as_bytes(), files::PUBLIC)?;
        let authority = Authority::open_or_create(&paths, &settings.trust_domain, &settings.control_namespace)
            .context("certificate authority")?;
        let tokens = Arc::new(Tokens::open_or_create(&paths.token_key, &settings.trust_domain)?);
        metrics.authority_load(Load::Loaded);
        metrics.issuer_end(authority.not_after());
        let tls = watch::Sender::new(Arc::new(tls::config(&authority, &identity, settings.leaf_lifetime)?));
        Ok(Signing { paths, identity, authority: watch::Sender::new(Arc::new(authority)), tls, tokens })
    }

    fn services(
        &self,
        settings: &Settings,
        published: Arc<Published>,
        reported: Reported,
        metrics: Arc<Metrics>,
    ) -> Services {
        Services {
            published,
            reported,
            authority: self.authority.subscribe(),
            tokens: Arc::clone(&self.tokens),
            leaf_lifetime: settings.leaf_lifetime,
            control_namespace: settings.control_namespace.as_str().into(),
            metrics,
        }
    }

    fn listeners(
        &self,
        settings: &Settings,
        grpc: TcpListener,
        plaintext: Option<TcpListener>,
    ) -> Vec<(TcpListener, Security)> {
        let trust_domain = settings.trust_domain.as_str().into();
        let security = Security::Tls { config: self.tls.subscribe(), trust_domain };
        let plaintext = plaintext.map(|listener| (listener, Security::Loopback));
        std::iter::once((grpc, security)).chain(plaintext).collect()
    }

    fn refresher(self, settings: &Settings, metrics: Arc<Metrics>) -> Refresher {
        Refresher {
            paths: self.paths,
            trust_domain: settings.trust_domain.clone(),
            control_namespace: settings.control_namespace.clone(),
            identity: self.identity,
            leaf_lifetime: settings.leaf_lifetime,
            authority: self.authority,
            tls: self.tls,
            metrics,
        }
    }
}

impl Running {
    fn own(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let (stopping, ended) = (self.stopping.clone(), self.ended.clone());
        self.tasks.spawn(async move {
            task.await;
            if !stopping.is_cancelled() {
                error!(task = name, "ended by itself");
                ended.cancel();
            }
        });
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Tells the index the trust anchors, now and whenever they change.
async fn anchors(
    mut authority: watch::Receiver<Arc<Authority>>,
    changes: mpsc::Sender<Change>,
    stopping: CancellationToken,
) {
    loop {
        let anchors = authority.borrow_and_update().anchors().to_vec();
        if changes.send(Change { news: News::TrustAnchors(anchors), done: None }).await.is_err() {
            return;
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            changed = authority.changed() => if changed.is_err() { return },
        }
    }
}

/// Answers proxies only when there is something true to say: an empty world would tell them that nothing exists.
async fn serve_when_ready(
    services: Services,
    listeners: Vec<(TcpListener, Security)>,
    mut ready: watch::Receiver<bool>,
    stopping: CancellationToken,
) {
    tokio::select! {
        () = stopping.cancelled() => return,
        waited = ready.wait_for(|ready| *ready) => if waited.is_err() { return },
    }
    let (connections, accepted) = mpsc::channel(ACCEPTED_QUEUE);
    let mut acceptors = JoinSet::new();
    for (listener, security) in listeners {
        let metrics = Arc::clone(&services.metrics);
        acceptors.spawn(acceptor::accept(listener, security, connections.clone(), metrics, stopping.clone()));
    }
    drop(connections);
    if let Err(failed) = serve::serve(services, accepted, stopping).await {
        error!(error = %failed, "the gRPC server failed");
    }
    acceptors.shutdown().await;
}
