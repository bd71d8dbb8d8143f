//! What a process begins with: kept state, trust anchors, and what is missing until it may say that it is ready.

use std::{collections::BTreeSet, fs, os::unix::fs::DirBuilderExt as _, path::Path, sync::Arc, time::SystemTime};

use anyhow::{Context as _, bail};
use arc_swap::{ArcSwap, ArcSwapOption};
use mesh_core::{lane::settled, shedding, snapshot::Snapshot};
use mesh_proto::mesh::v1::Hello;
use tokio::sync::{mpsc, watch};

use super::Parts;
use crate::{
    application::MISSING_APPLICATION,
    config::{OutsideLanes, OutsideTls, Role, Settings, variables},
    control::{
        disk::{self, Kept},
        stream::{MISSING_POLICY, missing_port},
    },
    drain::Order,
    health::board::Board,
    identity::{Credentials, Held, read_bundle},
    limits::{Limits, Thirst},
    net::{http1::HeadLimits, memory, tls::Trust},
    outside::{self, Pair},
    providers::Room,
    shared::{ASK_QUEUE, Ask, Shared},
    telemetry::{control::ControlCounters, worker::WorkerMetrics},
    wall_clock,
    worker::{self, WorkerConfig, guests::Places},
};

/// Missing until the first certificate.
pub(super) const MISSING_CERTIFICATE: &str = "certificate";
/// Missing until the workers listen.
pub(super) const MISSING_LISTENERS: &str = "listeners";

/// What the tasks begin with.
pub(super) struct Start {
    pub(super) parts: Parts,
    pub(super) kept: Snapshot,
    pub(super) asks: mpsc::Receiver<Ask>,
    pub(super) revision: watch::Sender<u64>,
    /// Wakes who keeps leases of limits.
    pub(super) thirst: Thirst,
    /// Certificate toward outside, to be watched.
    pub(super) outside: Option<(OutsideTls, Pair)>,
}

pub(super) fn prepare(settings: Settings, order: Order, draining: watch::Receiver<bool>) -> anyhow::Result<Start> {
    let counters = Arc::new(ControlCounters::default());
    let Kept { snapshot, held } = match &settings.state_directory {
        Some(directory) => {
            create_private(directory)?;
            disk::load(directory, &settings.identity, &counters)
        }
        None => Kept::default(),
    };
    let credentials = credentials(&settings, snapshot.as_ref(), held)?;
    let mut kept = snapshot.map(|(snapshot, _)| snapshot);
    if let Some(kept) = &mut kept {
        // A lane may have ended while nobody looked.
        let settled = settled(&kept.lanes, wall_clock::now()).map_or_else(|| Arc::clone(&kept.lanes), Arc::new);
        kept.set_lanes(settled);
        kept.set_rates();
        let Snapshot { revision, policy_revision, .. } = kept;
        tracing::info!(revision, policy_revision, "serving from the kept snapshot");
    }
    let missing = missing(&settings, kept.as_ref());
    let kept = kept.unwrap_or_default();
    let (ask, asks) = mpsc::channel(ASK_QUEUE);
    let (revision, watched) = watch::channel(kept.revision);
    let (limits, thirst) = Limits::new();
    let shared = Shared {
        snapshot: ArcSwap::from_pointee(kept.clone()),
        tls: ArcSwapOption::empty(),
        outside_tls: ArcSwapOption::empty(),
        ask,
        revision: watched,
        draining,
        limits,
        probing: Board::default(),
    };
    let mut outside = None;
    if let Some(tls) = &settings.gateway.tls {
        let pair = outside::read(tls)?;
        shared.outside_tls.store(Some(outside::configuration(tls, &pair)?));
        outside = Some((tls.clone(), pair));
    }
    let workers = (0..settings.workers).map(|number| Arc::new(WorkerMetrics::new(number))).collect();
    let parts = Parts {
        settings: Arc::new(settings),
        shared: Arc::new(shared),
        credentials: Arc::new(watch::Sender::new(Arc::new(credentials))),
        missing: Arc::new(watch::Sender::new(missing)),
        counters,
        order,
        workers,
    };
    Ok(Start { parts, kept, asks, revision, outside, thirst })
}

fn create_private(directory: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).with_context(|| {
        let name = variables::STATE_DIRECTORY.name;
        format!("cannot make the state directory {} ({name})", directory.display())
    })
}

/// Trust anchors: what the controller last said, and the bundle file where it is newer or nothing was kept.
fn credentials(
    settings: &Settings,
    snapshot: Option<&(Snapshot, SystemTime)>,
    held: Option<Held>,
) -> anyhow::Result<Credentials> {
    let mut anchors = snapshot.map(|(snapshot, _)| snapshot.trust_anchors.clone()).unwrap_or_default();
    if let Some(file) = &settings.trust_bundle_file {
        let modified = fs::metadata(file).and_then(|metadata| metadata.modified()).ok();
        let written = snapshot.map(|(_, written)| *written);
        if anchors.is_empty() || modified > written {
            match read_bundle(file) {
                Ok(bundle) => {
                    anchors.extend(bundle.into_iter().filter(|anchor| !anchors.contains(anchor)).collect::<Vec<_>>())
                }
                Err(error) if anchors.is_empty() => return Err(error.into()),
                Err(error) => tracing::warn!(%error, "going on with the kept trust anchors"),
            }
        }
    }
    if anchors.is_empty() {
        bail!("nobody to trust: {} is not set and no trust anchors are kept", variables::TRUST_BUNDLE_FILE.name);
    }
    let identity = settings.identity.clone();
    let trust = Trust::new(&anchors, identity.trust_domain(), &settings.control_namespace)?;
    Ok(Credentials { identity, anchors, trust, held: held.map(Arc::new) })
}

fn missing(settings: &Settings, kept: Option<&Snapshot>) -> BTreeSet<String> {
    let mut missing = BTreeSet::from([MISSING_CERTIFICATE.to_owned(), MISSING_LISTENERS.to_owned()]);
    if settings.control.mesh.is_some() && kept.is_none() {
        missing.insert(MISSING_POLICY.to_owned());
    }
    let unknown =
        settings.inbound_ports.iter().filter(|port| !kept.is_some_and(|kept| kept.inbound.contains_key(port)));
    missing.extend(unknown.map(|port| missing_port(*port)));
    missing.extend(settings.application_probe.as_ref().map(|_| MISSING_APPLICATION.to_owned()));
    missing
}

/// What the workers must know.
pub(super) fn worker_config(settings: &Settings) -> WorkerConfig {
    WorkerConfig {
        role: match settings.role {
            Role::Sidecar => worker::Role::Sidecar,
            Role::Gateway => worker::Role::Gateway,
        },
        outbound_listen: settings.outbound_listen,
        inbound_listen: match settings.role {
            Role::Sidecar => Some(settings.inbound_listen),
            Role::Gateway => None,
        },
        application_address: settings.application_address,
        trust_domain: settings.identity.trust_domain().into(),
        control_namespace: settings.control_namespace.as_str().into(),
        head_limits: HeadLimits::new(settings.header_limit, HeadLimits::FIELDS_DEFAULT),
        lane_table: settings.lane_table,
        secrets_directory: settings.secrets_directory.clone(),
        model_room: Room::new(settings.model_buffer),
        places: places(settings),
        drain: settings.down.limits,
        notices: settings.down.notices,
        admin_listen: Some(settings.admin_listen),
        outside_tls_listen: settings.gateway.tls.as_ref().map(|tls| tls.listen),
        forwarded_hops: settings.gateway.forwarded_hops,
        outside_lanes: match settings.gateway.outside_lanes {
            OutsideLanes::Strip => worker::OutsideLanes::Strip,
            OutsideLanes::Trust => worker::OutsideLanes::Trust,
        },
    }
}

/// Connections of callers that one worker may have.
fn places(settings: &Settings) -> Places {
    let connections = memory::descriptors().map_or(usize::MAX, shedding::connections);
    let bounds = settings.bounds;
    Places::of(connections, bounds.connections, bounds.connections_per_peer, settings.workers)
}

/// How the proxy introduces itself to the controller.
pub(super) fn hello(settings: &Settings) -> Hello {
    let inbound = match settings.role {
        Role::Sidecar => Some(settings.inbound_listen),
        Role::Gateway => None,
    };
    let listened = inbound.map(|listen| listen.ip()).filter(|ip| !ip.is_unspecified());
    let address = settings.application_address.or(listened);
    Hello {
        namespace: settings.identity.namespace().to_owned(),
        pod: settings.pod.clone(),
        service_account: settings.identity.service_account().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        applied_revision: String::new(),
        admin_address: settings.admin_listen.to_string(),
        role: settings.role.label().to_owned(),
        address: address.map(|ip| ip.to_string()).unwrap_or_default(),
        inbound_port: inbound.map_or(0, |listen| u32::from(listen.port())),
        started: wall_clock::now(),
    }
}
