//! Proxies that are connected, and what they said last: the table behind `mesh-ctl get proxies`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use mesh_core::{
    identity::Identity,
    lifecycle::{Kind, Said, Seen, State, observed},
    model::service::ServiceKey,
    resources::{World, services::Account, world::WorldWorkload},
};
use mesh_proto::{
    convert::{
        lifecycle::Life,
        time,
        unusable::{INSTANCES_MAX, UnusableInstance, WatchedInstance},
    },
    mesh::v1::{Hello, Status, proxy_report::Report},
};
use tokio::sync::watch;

use crate::compose::Meshed;

/// Longest text of a proxy that is kept, characters.
const TEXT_MAX: usize = 500;

/// What is known of a connected proxy.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    /// Namespace of its workload.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
    /// Service account that it runs as.
    pub service_account: String,
    /// What its certificate proves; `None` on the plaintext loopback listener.
    pub identity: Option<Identity>,
    /// Its version.
    pub version: String,
    /// sidecar or gateway.
    pub role: String,
    /// Where it connects from.
    pub address: String,
    /// Address of its pod.
    pub host: IpAddr,
    /// Port on which it takes calls of the mesh; `None` for a gateway.
    pub inbound_port: Option<u16>,
    /// Its admin port, at an address that others can use.
    pub admin_address: String,
    /// Revision that it serves, empty if none.
    pub acked: String,
    /// Revision that it was sent last.
    pub current: String,
    /// Why it refused the current revision.
    pub nack: Option<String>,
    /// End of its certificate.
    pub certificate_not_after: Option<SystemTime>,
    /// When its snapshot on disk was written.
    pub snapshot_written: Option<SystemTime>,
    /// When its process began, Unix milliseconds; 0 = not known.
    pub started: u64,
    /// How far its life is; `None` = it has not said.
    pub life: Option<Life>,
    /// Takes no new exchanges.
    pub draining: bool,
    /// It has sent a status.
    pub has_status: bool,
    /// Destinations that it is subscribed to.
    pub subscriptions: u32,
    /// Since when it is connected.
    pub connected_since: SystemTime,
    /// Instances that it does not use, as it said last.
    pub unusable: Vec<UnusableInstance>,
    /// Those that it uses, but not as any other.
    pub watched: Vec<WatchedInstance>,
}

impl Proxy {
    /// Instances that it does not use as any other: how it has them, and since when.
    pub fn seen(&self) -> impl Iterator<Item = (&ServiceKey, SocketAddr, Seen, Option<SystemTime>)> {
        let unusable = self
            .unusable
            .iter()
            .filter_map(|one| Some((&one.service, one.address, Seen::of(one.usability)?, one.since)));
        unusable.chain(self.watched.iter().map(|one| (&one.service, one.address, one.seen, one.since)))
    }
}

/// Something that a caller observed of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// What.
    pub kind: Kind,
    /// Service of the instance.
    pub service: ServiceKey,
    /// Its address.
    pub address: SocketAddr,
}

/// The table.
#[derive(Debug, Default)]
pub struct Proxies {
    connected: Mutex<BTreeMap<u64, Proxy>>,
    /// Goes up when a proxy comes or goes, or its life gets further.
    changes: watch::Sender<u64>,
}

fn short(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

/// Where a port can be reached of which its owner, at `from`, only says that it listens on every address.
fn reachable(said: &str, from: IpAddr) -> String {
    match said.parse::<SocketAddr>() {
        Ok(listen) if listen.ip().is_unspecified() => SocketAddr::new(from.to_canonical(), listen.port()).to_string(),
        Ok(_) | Err(_) => short(said),
    }
}

/// Address of a proxy's pod. A proxy elsewhere could say any address, and be taken for whoever is there.
fn host(said: &str, from: IpAddr) -> IpAddr {
    match said.parse() {
        Ok(said) if from.is_loopback() => said,
        Ok(_) | Err(_) => from,
    }
}

impl Proxies {
    /// Workloads by address of their pod: who runs there behind a sidecar.
    pub fn meshed(&self) -> BTreeMap<IpAddr, Meshed> {
        let connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |proxy: &Proxy| {
            let identity = proxy.identity.as_ref();
            let account = Account {
                namespace: identity.map_or(proxy.namespace.as_str(), |identity| identity.namespace()).to_owned(),
                service_account: identity
                    .map_or(proxy.service_account.as_str(), |identity| identity.service_account())
                    .to_owned(),
            };
            let meshed = Meshed { account, pod: proxy.pod.clone(), inbound_port: proxy.inbound_port? };
            Some((proxy.host, meshed))
        };
        connected.values().filter_map(of).collect()
    }

    /// Enters a proxy; it leaves the table when the entry is dropped.
    pub fn enter(self: &Arc<Self>, hello: &Hello, identity: Option<Identity>, address: SocketAddr) -> Entry {
        let proxy = Proxy {
            namespace: short(&hello.namespace),
            pod: short(&hello.pod),
            service_account: short(&hello.service_account),
            identity,
            version: short(&hello.version),
            role: short(&hello.role),
            address: address.to_string(),
            host: host(&hello.address, address.ip().to_canonical()),
            inbound_port: u16::try_from(hello.inbound_port).ok().filter(|port| *port != 0),
            admin_address: reachable(&hello.admin_address, address.ip()),
            acked: short(&hello.applied_revision),
            current: String::new(),
            nack: None,
            certificate_not_after: None,
            snapshot_written: None,
            started: hello.started,
            life: None,
            draining: false,
            has_status: false,
            subscriptions: 0,
            connected_since: SystemTime::now(),
            unusable: Vec::new(),
            watched: Vec::new(),
        };
        let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        let number = connected.last_key_value().map_or(0, |(last, _)| last + 1);
        connected.insert(number, proxy);
        self.changes.send_modify(|count| *count += 1);
        Entry { table: Arc::clone(self), number }
    }

    /// Changes when a proxy comes or goes, or its life gets further.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// How far the life of each workload's proxy is, by `<namespace>/<pod>`; of those that have said so, and that are not of
    /// another account than `world` has for the workload: nothing proves the name of a pod.
    pub fn said(&self, world: &World) -> BTreeMap<String, Said> {
        let connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found: BTreeMap<String, Said> = BTreeMap::new();
        for proxy in connected.values() {
            let Some(said) = said(proxy) else { continue };
            let key = World::workload_key(&proxy.namespace, &proxy.pod);
            if is_other(proxy, world.workloads.get(&key)) {
                continue;
            }
            let known = found.entry(key).or_insert(said);
            *known = known.of_two(said);
        }
        found
    }

    /// Every connected proxy, in order of namespace and pod.
    pub fn all(&self) -> Vec<Proxy> {
        let connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = connected.values().cloned().collect();
        all.sort_by(|one, other| (&one.namespace, &one.pod).cmp(&(&other.namespace, &other.pod)));
        all
    }
}

/// A proxy's row in the table.
#[derive(Debug)]
pub struct Entry {
    table: Arc<Proxies>,
    number: u64,
}

impl Entry {
    fn change(&self, change: impl FnOnce(&mut Proxy)) {
        let mut connected = self.table.connected.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(proxy) = connected.get_mut(&self.number) {
            change(proxy);
        }
    }

    /// Notes that a revision was sent.
    pub fn sent(&self, revision: &str) {
        self.change(|proxy| {
            revision.clone_into(&mut proxy.current);
            proxy.nack = None;
        });
    }

    /// Notes a report; gives what it says that the proxy observed. A second `hello` is passed over: who a stream belongs to
    /// does not change.
    pub fn report(&self, report: &Report) -> Vec<Observed> {
        let mut noticed = Vec::new();
        self.change(|proxy| match report {
            Report::Hello(_) | Report::Lanes(_) | Report::Probe(_) | Report::Models(_) => (),
            Report::Ack(ack) => {
                proxy.acked = short(&ack.revision);
                proxy.nack = None;
            }
            Report::Nack(nack) => proxy.nack = Some(short(&nack.reason)),
            Report::Status(status) => {
                let before = said(proxy);
                note(proxy, status);
                self.tell(before, proxy);
            }
            Report::Lifecycle(life) => {
                let before = said(proxy);
                proxy.life = Life::from_wire(life).ok().or(proxy.life);
                proxy.draining = proxy.life.is_some_and(|life| life.state.is_leaving());
                self.tell(before, proxy);
            }
            // What cannot be read is left out.
            Report::Unusable(unusable) => {
                let before = states(proxy);
                let instances = unusable.instances.iter().take(INSTANCES_MAX);
                proxy.unusable = instances.filter_map(|one| UnusableInstance::from_wire(one).ok()).collect();
                let watched = unusable.watched.iter().take(INSTANCES_MAX);
                proxy.watched = watched.filter_map(|one| WatchedInstance::from_wire(one).ok()).collect();
                noticed = difference(&before, &states(proxy));
            }
        });
        noticed
    }
}

fn note(proxy: &mut Proxy, status: &Status) {
    let read = |field, wire: Option<_>| wire.and_then(|wire| time(field, wire).ok());
    proxy.certificate_not_after = read("certificate_not_after", status.certificate_not_after);
    proxy.snapshot_written = read("snapshot_written", status.snapshot_written);
    proxy.draining = status.draining;
    proxy.has_status = true;
    proxy.subscriptions = status.subscriptions;
}

impl Entry {
    /// Wakes who follows lives of proxies, if that of this one got further.
    fn tell(&self, before: Option<Said>, proxy: &Proxy) {
        if before != said(proxy) {
            self.table.changes.send_modify(|count| *count += 1);
        }
    }
}

type States = BTreeMap<(ServiceKey, SocketAddr), Seen>;

fn states(proxy: &Proxy) -> States {
    proxy.seen().map(|(service, address, seen, _)| ((service.clone(), address), seen)).collect()
}

/// What happened between two reports.
fn difference(before: &States, after: &States) -> Vec<Observed> {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let of = |key: &(ServiceKey, SocketAddr)| {
        let kinds = observed(before.get(key).copied(), after.get(key).copied());
        let (service, address) = key.clone();
        kinds.into_iter().map(move |kind| Observed { kind, service: service.clone(), address })
    };
    keys.into_iter().flat_map(of).collect()
}

/// Whether a proxy proves an account that is not the workload's.
fn is_other(proxy: &Proxy, workload: Option<&WorldWorkload>) -> bool {
    let (proven, known) = (proxy.identity.as_ref(), workload.and_then(|workload| workload.identity.as_ref()));
    proven.zip(known).is_some_and(|(proven, known)| {
        (proven.namespace(), proven.service_account()) != (known.namespace(), known.service_account())
    })
}

/// What a proxy has said of its life; a stream that has just begun may be that of one which said it on another before. Those of
/// earlier versions say only that they drain, and take calls before.
fn said(proxy: &Proxy) -> Option<Said> {
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let host = proxy.host;
    match proxy.life {
        Some(life) => Some(Said {
            state: life.state,
            since: seconds(life.since),
            ready_since: life.ready_since.map(seconds),
            host,
        }),
        None => {
            let state = if proxy.draining { State::Draining } else { State::Ready };
            proxy.has_status.then(|| Said { state, since: seconds(proxy.connected_since), ready_since: None, host })
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut connected = self.table.connected.lock().unwrap_or_else(PoisonError::into_inner);
        connected.remove(&self.number);
        self.table.changes.send_modify(|count| *count += 1);
    }
}

#[cfg(test)]
mod tests {
    use mesh_core::resources::{Domains, compile, parse};

    use super::*;

    const SERVICES: &str = "\
apiVersion: lanemesh.io/v1alpha1
kind: Services
services:
- name: b
  namespace: shop
  ports: [{port: 80}]
  endpoints:
  - {address: '10.0.0.1:8080', pod: b-1, identity: {serviceAccount: b}}
";

    #[test]
    fn nobody_speaks_for_a_workload_of_another_account() {
        let world = compile(&parse("", SERVICES).unwrap(), &Domains::default()).unwrap();
        for (account, pod, heard) in [("b", "b-1", true), ("c", "b-1", false), ("c", "c-1", true)] {
            let table = Arc::new(Proxies::default());
            let hello = Hello { namespace: "shop".to_owned(), pod: pod.to_owned(), ..Hello::default() };
            let identity = Identity::new("cluster.local", "shop", account).unwrap();
            let entry = table.enter(&hello, Some(identity), ([10, 0, 0, 9], 1).into());
            let life = Life { state: State::Draining, since: UNIX_EPOCH, ready_since: None };
            entry.report(&Report::Lifecycle(life.to_wire()));
            assert_eq!(!table.said(&world).is_empty(), heard, "{account} {pod}");
        }
    }

    #[test]
    fn admin_port_on_every_address_is_told_at_the_address_of_the_pod() {
        for (said, from, expected) in [
            ("0.0.0.0:4191", "10.1.2.3", "10.1.2.3:4191"),
            ("[::]:4191", "fd00::1", "[fd00::1]:4191"),
            ("[::]:4191", "::ffff:10.1.2.3", "10.1.2.3:4191"),
            ("127.1.0.2:4191", "10.1.2.3", "127.1.0.2:4191"),
            ("", "10.1.2.3", ""),
        ] {
            assert_eq!(reachable(said, from.parse().unwrap()), expected, "{said} from {from}");
        }
    }
}
