//! Random operations of other people's clients against a model of what the server then says: the model that our own list
//! has to follow.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use mesh_tests::{
    registry::{
        Registry, Server,
        open_api::{OpenApi, Registration},
        sdk::Sdk,
    },
    wait::until,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

on_both_servers! {
    lists_follow_random_operations,
}

const SEEDS: u64 = 5;
const OPERATIONS: usize = 500;
/// Operations between two looks: Nacos makes its lists half a second after what changed them.
const BURST: usize = 10;
/// Clients; each holds one instance of a service at most, as an application does.
const CLIENTS: usize = 4;
const SERVICES: usize = 3;
/// How long until the server lists what a client was told that it has taken.
const LISTED: Duration = Duration::from_secs(10);

/// What somebody does with an instance.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    /// Registers it, or registers it again with something changed.
    Register(Registration),
    /// Takes it back.
    Deregister(Registration),
}

/// What a list shows of an instance.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shown {
    pub(crate) weight: f64,
    pub(crate) cluster: String,
    metadata: BTreeMap<String, String>,
}

/// What the server should say of one service.
#[derive(Default)]
pub(crate) struct Model {
    instances: BTreeMap<SocketAddr, Registration>,
}

impl Model {
    pub(crate) fn instance(&self, address: SocketAddr) -> Option<&Registration> {
        self.instances.get(&address)
    }

    pub(crate) fn apply(&mut self, server: Server, operation: &Operation) {
        match operation {
            Operation::Register(new) => {
                let mut new = new.clone();
                if let (Server::Rnacos, Some(old)) = (server, self.instances.get(&new.address)) {
                    new.enabled &= old.enabled;
                    new.weight = if new.weight == 1.0 { old.weight } else { new.weight };
                }
                self.instances.insert(new.address, new);
            }
            Operation::Deregister(old) => drop(self.instances.remove(&old.address)),
        }
    }

    pub(crate) fn shown(&self) -> BTreeMap<SocketAddr, Shown> {
        let enabled = self.instances.values().filter(|instance| instance.enabled);
        let shown = |instance: &Registration| Shown {
            weight: instance.weight,
            cluster: instance.cluster.clone(),
            metadata: instance.metadata.clone(),
        };
        enabled.map(|instance| (instance.address, shown(instance))).collect()
    }
}

async fn listed(api: &OpenApi, service: &str) -> BTreeMap<SocketAddr, Shown> {
    let found = api.instances(service).await.into_iter();
    found
        .map(|one| (one.address(), Shown { weight: one.weight, cluster: one.cluster_name, metadata: one.metadata }))
        .collect()
}

/// One change of an instance that is there, or its registration.
pub(crate) fn operation(
    random: &mut StdRng,
    old: Option<&Registration>,
    new: impl FnOnce() -> Registration,
) -> Operation {
    let Some(old) = old else { return Operation::Register(new()) };
    let changed = old.clone();
    match random.random_range(0..6) {
        0 => Operation::Deregister(changed),
        1 => Operation::Register(changed.weight([0.0, 0.3, 1.0, 2.0, 10_000.0][random.random_range(0..5)])),
        2 => Operation::Register(changed.metadata("lane", ["blue", "green", "ü"][random.random_range(0..3)])),
        3 => Operation::Register(Registration { metadata: BTreeMap::new(), ..changed }),
        4 => Operation::Register(Registration { enabled: random.random(), ..changed }),
        _ => Operation::Register(changed.cluster(["DEFAULT", "east", "west"][random.random_range(0..3)])),
    }
}

async fn lists_follow_random_operations(server: Server) {
    let registry = Registry::shared(server).await;
    let api = registry.open_api().await;
    let mut clients: Vec<Sdk> = (0..CLIENTS).map(|_| Sdk::start(registry)).collect();
    for seed in 0..SEEDS {
        run(server, &api, &mut clients, seed).await;
    }
}

async fn run(server: Server, api: &OpenApi, clients: &mut [Sdk], seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let run = rand::random::<u32>();
    let mut models: Vec<Model> = (0..SERVICES).map(|_| Model::default()).collect();
    for number in 0..OPERATIONS {
        let (client, service) = (random.random_range(0..CLIENTS), random.random_range(0..SERVICES));
        let name = name_of(run, seed, service);
        let address: SocketAddr = ([10, 1, seed as u8, client as u8 + 1], 8_080).into();
        let model = &mut models[service];
        let operation = operation(&mut random, model.instances.get(&address), || {
            Registration::new(&name, address).metadata("zone", "a")
        });
        match &operation {
            Operation::Register(instance) => clients[client].register(instance).await,
            Operation::Deregister(instance) => clients[client].deregister(instance).await,
        }
        model.apply(server, &operation);
        if number % BURST == BURST - 1 {
            for (service, model) in models.iter().enumerate() {
                let expected = model.shown();
                let what = format!("seed {seed}, {number}, service {service}, after {operation:?}: {expected:?}");
                let look = || async { (listed(api, &name_of(run, seed, service)).await == expected).then_some(()) };
                until(&what, LISTED, look).await;
            }
        }
    }
}

fn name_of(run: u32, seed: u64, service: usize) -> String {
    format!("model-{run:08x}-{seed}-{service}")
}
