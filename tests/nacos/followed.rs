//! What others change in the registry arrives at proxies: each change within a second of the server's list, and random
//! ones so that the list is the model's.

use std::{net::SocketAddr, time::Duration};

use mesh_tests::{
    addresses::Block,
    mesh::Mesh,
    registry::{
        Registry, Server,
        open_api::{Listed, Registration},
        sdk::Sdk,
    },
    wait::{PATIENCE, until},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::time::Instant;

use crate::{
    operations::{Model, Operation, operation},
    world::{EFFECTIVE, Known, Member, answers, known, mesh, own, rows, settings},
};

on_both_servers! {
    change_is_at_the_proxy_within_a_second,
    list_of_the_controller_follows_random_operations,
}

/// Waits until the server pushed the change to a subscriber that is not ours, then until the proxy has it; the second must
/// be short.
async fn effective(
    (mesh, subscriber): (&Mesh, &mut Sdk),
    service: &str,
    what: &str,
    is_pushed: impl Fn(&[Listed]) -> bool,
    is_known: impl Fn(Option<&Known>) -> bool,
    address: SocketAddr,
) {
    let awaited = Instant::now();
    while !is_pushed(&subscriber.pushed(service).await) {
        assert!(awaited.elapsed() < PATIENCE, "{what} was not pushed");
    }
    let pushed = Instant::now();
    until(&format!("{what} at the proxy"), PATIENCE, || async {
        is_known(known(mesh, "a", service).await.get(&address)).then_some(())
    })
    .await;
    let took = pushed.elapsed();
    assert!(took < EFFECTIVE, "{what} took {took:?} after the server pushed it");
    println!("{what}: {took:?} after the server pushed it");
}

async fn change_is_at_the_proxy_within_a_second(server: Server) {
    let registry = Registry::shared(server).await;
    let (block, service) = (Block::reserve(), own("orders"));
    let mut subscriber = Sdk::start(registry);
    subscriber.subscribe(&service).await;
    let _steady = Member::start(registry, &block, 1, &service).await;
    let mesh = mesh(&settings(registry, ""), &["a"]).await;
    answers(&mesh, "a", &service).await;
    let mut one = Member::start(registry, &block, 2, &service).await;
    let address = one.instance.address;
    let here = |listed: &[Listed]| listed.iter().find(|listed| listed.address() == address).cloned();
    effective((&mesh, &mut subscriber), &service, "registration", |l| here(l).is_some(), |k| k.is_some(), address)
        .await;
    let before = known(&mesh, "a", &service).await[&address].weight;
    one.instance = one.instance.weight(0.5);
    one.register().await;
    let half = move |known: Option<&Known>| known.is_some_and(|known| known.weight * 2.0 == before);
    effective(
        (&mesh, &mut subscriber),
        &service,
        "weight",
        |l| here(l).is_some_and(|one| one.weight == 0.5),
        half,
        address,
    )
    .await;
    one.instance = one.instance.metadata("zone", "z1");
    one.register().await;
    let has_zone = |l: &[Listed]| here(l).is_some_and(|one| one.metadata.contains_key("zone"));
    let in_zone = |known: Option<&Known>| known.is_some_and(|known| known.zone == "z1");
    effective((&mesh, &mut subscriber), &service, "metadata", has_zone, in_zone, address).await;
    one.instance.metadata.clear();
    one.instance = one.instance.cluster("east");
    one.register().await;
    let is_east = |l: &[Listed]| here(l).is_some_and(|one| one.cluster_name == "east");
    let east = |known: Option<&Known>| known.is_some_and(|known| known.zone == "east");
    effective((&mesh, &mut subscriber), &service, "cluster", is_east, east, address).await;
    let whole = one.instance.clone();
    one.instance = one.instance.disabled();
    one.register().await;
    let out = |known: Option<&Known>| known.is_none_or(|known| known.weight == 0.0);
    effective((&mesh, &mut subscriber), &service, "disabled", |l| here(l).is_none(), out, address).await;
    one.deregister().await;
    one.instance = whole;
    one.register().await;
    effective((&mesh, &mut subscriber), &service, "registration again", |l| here(l).is_some(), half, address).await;
    one.deregister().await;
    effective((&mesh, &mut subscriber), &service, "deregistration", |l| here(l).is_none(), out, address).await;
}

const SEEDS: u64 = 5;
const OPERATIONS: usize = 500;
const BURST: usize = 10;
const CLIENTS: usize = 4;
const SERVICES: usize = 3;
/// How long until the controller has what a client was told that the server has taken.
const FOLLOWED: Duration = Duration::from_secs(10);

async fn list_of_the_controller_follows_random_operations(server: Server) {
    let registry = Registry::shared(server).await;
    let (block, run) = (Block::reserve(), own("model"));
    let mesh = mesh(&settings(registry, ""), &["a"]).await;
    let mut clients: Vec<Sdk> = (0..CLIENTS).map(|_| Sdk::start(registry)).collect();
    for seed in 0..SEEDS {
        let mut random = StdRng::seed_from_u64(seed);
        let names: Vec<String> = (0..SERVICES).map(|service| format!("{run}-{seed}-{service}")).collect();
        let mut models: Vec<Model> = (0..SERVICES).map(|_| Model::default()).collect();
        // One instance of each stays, so that no list is ever empty: empty ones are held, which other tests are about.
        let mut steady = Vec::new();
        for (service, name) in names.iter().enumerate() {
            let member = Member::start(registry, &block, 100 + 10 * seed as u8 + service as u8, name).await;
            models[service].apply(server, &Operation::Register(member.instance.clone()));
            steady.push(member);
            answers(&mesh, "a", name).await;
        }
        for number in 0..OPERATIONS {
            let (client, service) = (random.random_range(0..CLIENTS), random.random_range(0..SERVICES));
            let address: SocketAddr = ([10, 1, seed as u8, client as u8 + 1], 8_080).into();
            let old = models[service].instance(address).cloned();
            let operation = operation(&mut random, old.as_ref(), || Registration::new(&names[service], address));
            match &operation {
                Operation::Register(instance) => clients[client].register(instance).await,
                Operation::Deregister(instance) => clients[client].deregister(instance).await,
            }
            models[service].apply(server, &operation);
            if number % BURST == BURST - 1 {
                for (model, name) in models.iter().zip(&names) {
                    is_followed(&mesh, model, name, &format!("seed {seed}, {number}, after {operation:?}")).await;
                }
            }
        }
    }
}

/// Waits until the console shows for the service what the model says, as it is registered.
async fn is_followed(mesh: &Mesh, model: &Model, service: &str, when: &str) {
    let expected: Vec<(SocketAddr, f64, String)> =
        model.shown().into_iter().map(|(address, shown)| (address, shown.weight, shown.cluster)).collect();
    until(&format!("{when}: {service} as {expected:?}"), FOLLOWED, || async {
        let mut found: Vec<(SocketAddr, f64, String)> = rows(mesh, service)
            .await
            .iter()
            .filter_map(|row| {
                let address = row["address"].as_str()?.parse().ok()?;
                Some((address, row["registered"]["weight"].as_f64()?, row["cluster"].as_str()?.to_owned()))
            })
            .collect();
        found.sort_by_key(|(address, ..)| *address);
        (found == expected).then_some(())
    })
    .await;
}
