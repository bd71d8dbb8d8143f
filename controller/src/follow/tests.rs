//! Tests of how news becomes worlds.

use std::{collections::BTreeMap, net::SocketAddr};

use mesh_core::resources::{
    Domains,
    mesh_service::Source,
    registered::Registered,
    services::{AddressCalls, Endpoint, Health, Port, Protocol, Service},
};
use tokio::task::JoinHandle;

use super::*;
use crate::{demand::Demand, sources::EVENT_QUEUE};

/// A service with one instance of this weight.
fn service(weight: u32) -> Arc<Registered> {
    let endpoint = Endpoint {
        address: SocketAddr::from(([127, 0, 0, 1], 80)),
        port: 80,
        weight,
        zone: None,
        labels: BTreeMap::new(),
        pod: "p".to_owned(),
        identity: None,
        inbound_port: 4_143,
        enabled: true,
        draining: false,
        ready_since: None,
        health: Health::default(),
    };
    let service = Service {
        name: "s".to_owned(),
        namespace: "default".to_owned(),
        addresses: Vec::new(),
        ports: vec![Port { port: 80, protocol: Protocol::Detect }],
        endpoints: vec![endpoint],
        address_calls: AddressCalls::Service,
        any_port: None,
    };
    Arc::new(Registered { source: Source::Nacos, name: "s".to_owned(), namespace: "public".to_owned(), service })
}

/// A follower that runs, and what it publishes.
struct Followed {
    changes: mpsc::Sender<Change>,
    published: Arc<Published>,
    said: watch::Receiver<Arc<Said>>,
    ready: watch::Receiver<bool>,
    running: JoinHandle<()>,
}

impl Followed {
    fn start() -> Followed {
        let index = Index::new(Domains::default());
        let demand = Arc::new(Demand::new(BTreeSet::new()));
        let published = Arc::new(Published::new(index.view(), demand, CancellationToken::new()));
        let (said, is_said) = watch::channel(Arc::new(Said::new(Domains::default(), true)));
        let (ready, is_ready) = watch::channel(false);
        let follower = Follower {
            index,
            said,
            waiting: BTreeSet::from(["nacos".into()]),
            published: Arc::clone(&published),
            workshop: Workshop::open().expect("room for a thread"),
            metrics: Arc::default(),
            ready,
        };
        let (changes, incoming) = mpsc::channel(EVENT_QUEUE);
        let running = tokio::spawn(follower.run(incoming, CancellationToken::new()));
        Followed { changes, published, said: is_said, ready: is_ready, running }
    }

    async fn tell(&self, news: News, done: Option<Answer>) {
        self.changes.send(Change { news, done }).await.expect("the follower runs");
    }

    async fn weigh(&self, weight: u32, done: Option<Answer>) {
        let services = vec![("s".to_owned(), Some(service(weight)))];
        self.tell(News::Services { source: "nacos".into(), services }, done).await;
    }

    fn weight(&self) -> u32 {
        self.published.view().world().services["s.default"].ports[&80].endpoints[0].weight
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.running.abort();
    }
}

#[tokio::test]
async fn the_last_of_much_news_is_in_force_when_its_teller_hears_so_and_worlds_are_fewer() {
    let followed = Followed::start();
    let mut views = followed.published.views();
    let counting = tokio::spawn(async move {
        let mut seen = 0;
        while views.changed().await.is_ok() {
            seen += 1;
            if views.borrow_and_update().world().services["s.default"].ports[&80].endpoints[0].weight == 10_000 {
                break;
            }
        }
        seen
    });
    for weight in 1..10_000 {
        followed.weigh(weight, None).await;
    }
    let (done, published) = oneshot::channel();
    followed.weigh(10_000, Some(done)).await;
    published.await.expect("an answer").expect("registries are not refused");
    assert_eq!(followed.weight(), 10_000);
    let worlds = counting.await.expect("counting does not panic");
    assert!(worlds < 5_000, "{worlds} worlds of 10,000 changes");
}

#[tokio::test]
async fn what_registries_say_wakes_nobody_who_waits_for_other_resources() {
    let followed = Followed::start();
    let (done, published) = oneshot::channel();
    followed.weigh(1, Some(done)).await;
    published.await.expect("an answer").expect("registries are not refused");
    assert!(!followed.said.has_changed().expect("the follower runs"));
    let (done, published) = oneshot::channel();
    let resources = Arc::new(Vec::new());
    followed.tell(News::Resources { source: "file".into(), resources }, Some(done)).await;
    published.await.expect("an answer").expect("no resources are good ones");
    assert!(followed.said.has_changed().expect("the follower runs"));
    assert_eq!(followed.weight(), 1, "resources are compiled with what registries say");
}

#[tokio::test]
async fn a_source_is_ready_once_what_it_said_before_is_in_force() {
    let mut followed = Followed::start();
    followed.weigh(7, None).await;
    followed.tell(News::Ready("nacos".into()), None).await;
    followed.ready.wait_for(|ready| *ready).await.expect("the follower runs");
    assert_eq!(followed.weight(), 7);
}

#[test]
fn worlds_take_half_a_core_and_a_change_waits_for_half_a_second_at_most() {
    assert_eq!(rest(Duration::from_millis(20)), Duration::from_millis(20));
    assert_eq!(rest(Duration::from_secs(9)), REST_MAX);
}
