//! Which instances take the requests: by the algorithm of the policy, and less of them while they are new.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mesh_core::model::{
    endpoint::Endpoint,
    policy::{HashOn, LoadBalancing, TrafficPolicy, WarmUp},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::harness::{Peer, Proxy, authority, endpoint, route};

/// An HTTP/1 server that says its port.
async fn server() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut io, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4_096];
                while io.read(&mut request).await.is_ok_and(|read| read > 0) {
                    let answer = format!("HTTP/1.1 204 No Content\r\nx-served: {}\r\n\r\n", address.port());
                    let _ = io.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    address
}

async fn servers(count: usize) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for _ in 0..count {
        found.push(server().await);
    }
    found
}

fn publish(caller: &Proxy, traffic: &TrafficPolicy, endpoints: Vec<Arc<Endpoint>>) {
    caller.publish(|snapshot| {
        route(snapshot, authority("b.demo"), "b", endpoints);
        snapshot.traffic.insert("b.demo".to_owned(), Arc::new(traffic.clone()));
    });
}

fn plain(addresses: &[SocketAddr]) -> Vec<Arc<Endpoint>> {
    addresses.iter().map(|address| endpoint(*address, None)).collect()
}

fn with(load_balancing: LoadBalancing) -> TrafficPolicy {
    TrafficPolicy { load_balancing, ..TrafficPolicy::default() }
}

/// One request with these fields, and the head of its answer.
async fn call(client: &mut Peer, fields: &str) -> String {
    client.send(format!("GET / HTTP/1.1\r\nhost: b.demo\r\n{fields}\r\n")).await;
    client.head().await
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn served(head: &str) -> u16 {
    field(head, "x-served").and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("{head}"))
}

async fn counts(caller: &Proxy, requests: usize) -> BTreeMap<u16, usize> {
    let mut client = Peer::connect(caller.outbound).await;
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        *counts.entry(served(&call(&mut client, "").await)).or_default() += 1;
    }
    counts
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn round_robin_goes_round() {
    let addresses = servers(4).await;
    let caller = Proxy::start(None);
    publish(&caller, &with(LoadBalancing::RoundRobin), plain(&addresses));
    assert_eq!(counts(&caller, 40).await.into_values().collect::<Vec<_>>(), [10, 10, 10, 10]);
}

#[tokio::test]
async fn requests_of_one_key_stay_together_and_keys_are_spread() {
    let addresses = servers(5).await;
    let on = vec![HashOn::Header("x-user".to_owned())];
    for how in [LoadBalancing::RingHash { on: on.clone() }, LoadBalancing::Maglev { on }] {
        let caller = Proxy::start(None);
        publish(&caller, &with(how.clone()), plain(&addresses));
        let mut client = Peer::connect(caller.outbound).await;
        let mut used = BTreeSet::new();
        for user in 0..60 {
            let fields = format!("x-user: {user}\r\n");
            let first = served(&call(&mut client, &fields).await);
            assert_eq!(served(&call(&mut client, &fields).await), first, "{how:?} {user}");
            used.insert(first);
        }
        assert_eq!(used.len(), 5, "{how:?}");
    }
}

#[tokio::test]
async fn a_request_without_cookie_gets_one_that_leads_to_the_same_instance() {
    let addresses = servers(5).await;
    let on = vec![HashOn::Cookie { name: "place".to_owned(), ttl: Some(Duration::from_secs(60)) }];
    let caller = Proxy::start(None);
    publish(&caller, &with(LoadBalancing::RingHash { on }), plain(&addresses));
    let mut client = Peer::connect(caller.outbound).await;
    for _ in 0..20 {
        let first = call(&mut client, "").await;
        let cookie = field(&first, "set-cookie").unwrap_or_else(|| panic!("{first}"));
        let (pair, rest) = cookie.split_once("; ").unwrap();
        assert_eq!(rest, "Path=/; HttpOnly; SameSite=Lax; Max-Age=60");
        let next = call(&mut client, &format!("cookie: {pair}\r\n")).await;
        assert_eq!((served(&next), field(&next, "set-cookie")), (served(&first), None));
    }
}

#[tokio::test]
async fn an_instance_that_is_ready_for_half_of_its_warm_up_takes_a_quarter_of_its_share() {
    let addresses = servers(5).await;
    let mut endpoints = plain(&addresses);
    Arc::make_mut(&mut endpoints[2]).ready_since = Some(unix_seconds() - 1_800);
    let warm_up = Some(WarmUp { duration: Duration::from_secs(3_600), ..WarmUp::default() });
    for how in [LoadBalancing::PeakEwma, LoadBalancing::LeastRequest, LoadBalancing::RoundRobin, LoadBalancing::Random]
    {
        let caller = Proxy::start(None);
        publish(&caller, &TrafficPolicy { warm_up, ..with(how.clone()) }, endpoints.clone());
        let counts = counts(&caller, 1_000).await;
        let found = counts.get(&addresses[2].port()).copied().unwrap_or_default();
        // 0.25 of 4.25.
        assert!((29..=89).contains(&found), "{how:?}: {found} of 1000 instead of 59");
    }
}

#[tokio::test]
async fn an_instance_that_comes_later_begins_with_the_floor_and_half_new_levels_do_not_warm_up() {
    let addresses = servers(10).await;
    let warm_up = Some(WarmUp { duration: Duration::from_secs(3_600), ..WarmUp::default() });
    let traffic = TrafficPolicy { warm_up, ..with(LoadBalancing::RoundRobin) };
    let caller = Proxy::start(None);
    publish(&caller, &traffic, plain(&addresses[..5]));
    assert_eq!(counts(&caller, 50).await.len(), 5);
    publish(&caller, &traffic, plain(&addresses[..6]));
    let first = counts(&caller, 500).await;
    let newcomer = first.get(&addresses[5].port()).copied().unwrap_or_default();
    // 0.02 of 5.02.
    assert!((1..=4).contains(&newcomer), "{newcomer} of 500");
    publish(&caller, &traffic, plain(&addresses));
    let second = counts(&caller, 500).await;
    let newcomers = addresses[5..].iter().map(|address| second.get(&address.port()).copied().unwrap_or_default());
    let newcomers: usize = newcomers.sum();
    assert!((240..=260).contains(&newcomers), "{newcomers} of 500");
}
