//! The source `dns` against a real name server, Knot DNS, whose records change while it runs. Compiled with the feature
//! `name-server` only: `tests/run nacos` installs the server and runs these.

#[path = "dns/server.rs"]
mod server;

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use mesh_controller::sources::dns::{DnsSource, Heard, Resolver};
use mesh_core::{
    discovery::dns::{FLOOR, Question, Reason},
    resources::services::Service,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, timeout},
};

use server::NameServer;

/// The longest that anything here may take: a dead server costs some seconds of attempts, and a pause.
const DEADLINE: Duration = Duration::from_secs(40);

/// A source that runs, and what it says.
struct Running {
    wanted: watch::Sender<Arc<Vec<Question>>>,
    heard: mpsc::Receiver<Heard>,
    tasks: JoinSet<()>,
}

fn wanted(question: &str) -> Question {
    question.parse().expect("tests ask for names")
}

impl Running {
    fn start(server: &NameServer, questions: &[&str]) -> Running {
        let (sender, receiver) = watch::channel(Arc::new(questions.iter().map(|text| wanted(text)).collect()));
        let (tell, heard) = mpsc::channel(16);
        let source = DnsSource::new(Resolver::of(&[server.address()]).expect("an address is enough"));
        let mut tasks = JoinSet::new();
        tasks.spawn(source.run(receiver, tell));
        Running { wanted: sender, heard, tasks }
    }

    async fn next(&mut self) -> Heard {
        timeout(DEADLINE, self.heard.recv()).await.expect("the source says something in time").expect("it runs")
    }

    /// The next service, and why it is so.
    async fn service(&mut self) -> (Service, Reason) {
        match self.next().await {
            Heard::Service { service, reason, .. } => (service, reason),
            Heard::Gone(question) => panic!("{question} is gone"),
        }
    }

    /// Waits until the service has these instances.
    async fn until(&mut self, expected: &[&str]) -> Reason {
        loop {
            let (service, reason) = self.service().await;
            if places(&service) == expected {
                return reason;
            }
        }
    }
}

fn places(service: &Service) -> Vec<String> {
    let addresses: BTreeSet<SocketAddr> = service.endpoints.iter().map(|endpoint| endpoint.address).collect();
    addresses.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_host_is_followed_as_its_records_change() {
    let mut server = NameServer::start(&["api 1 A 10.0.0.1"]);
    let mut source = Running::start(&server, &["api.example:8080"]);
    assert_eq!(source.until(&["10.0.0.1:8080"]).await, Reason::Changed);
    for records in [&["api 1 A 10.0.0.2", "api 1 AAAA fd00::2"][..], &["api 1 A 10.0.0.1", "api 1 A 10.0.0.3"]] {
        server.change(records);
        let (service, _) = source.service().await;
        let found = places(&service);
        assert_eq!(found.len(), 2, "{found:?}");
    }
}

#[tokio::test]
async fn a_ttl_of_0_is_asked_for_once_a_second() {
    let mut server = NameServer::start(&["api 0 A 10.0.0.1"]);
    let mut source = Running::start(&server, &["api.example:80"]);
    source.until(&["10.0.0.1:80"]).await;
    for number in 2..5 {
        let begun = Instant::now();
        server.change(&[&format!("api 0 A 10.0.0.{number}")]);
        source.until(&[&format!("10.0.0.{number}:80")]).await;
        let took = begun.elapsed();
        let spin = Duration::from_millis(100);
        assert!(took > FLOOR - spin && took < FLOOR * 3, "{took:?}");
    }
}

#[tokio::test]
async fn a_ttl_is_waited_for() {
    let mut server = NameServer::start(&["api 3 A 10.0.0.1", "alias 60 CNAME api"]);
    let mut source = Running::start(&server, &["alias.example:80"]);
    source.until(&["10.0.0.1:80"]).await;
    let begun = Instant::now();
    server.change(&["api 3 A 10.0.0.2", "alias 60 CNAME api"]);
    source.until(&["10.0.0.2:80"]).await;
    let took = begun.elapsed().as_secs_f64();
    assert!((2.8..5.0).contains(&took), "the least TTL of the chain is 3 s, it took {took} s");
}

#[tokio::test]
async fn the_last_good_answer_is_kept_while_a_name_is_gone_or_empty() {
    let mut server = NameServer::start(&["api 1 A 10.0.0.1"]);
    let mut source = Running::start(&server, &["api.example:80"]);
    source.until(&["10.0.0.1:80"]).await;
    for (records, expected) in [(&[][..], Reason::NoSuchName), (&["api 1 TXT nothing"], Reason::Nothing)] {
        server.change(records);
        assert_eq!(source.until(&["10.0.0.1:80"]).await, expected);
    }
    server.change(&["api 1 A 10.0.0.2"]);
    assert_eq!(source.until(&["10.0.0.2:80"]).await, Reason::Changed);
}

#[tokio::test]
async fn a_server_that_fails_takes_nothing_and_a_name_that_was_never_known_is_found_when_it_answers() {
    let mut server = NameServer::start(&["api 1 A 10.0.0.1"]);
    let mut source = Running::start(&server, &["api.broken:80"]);
    let (service, reason) = source.service().await;
    assert_eq!(places(&service), Vec::<String>::new());
    assert!(matches!(&reason, Reason::Failed(error) if error.to_lowercase().contains("server failure")), "{reason}");
    server.mend(&["api 1 A 10.0.0.9"]);
    assert_eq!(source.until(&["10.0.0.9:80"]).await, Reason::Changed);
}

#[tokio::test]
async fn a_server_that_is_gone_takes_nothing_and_is_asked_again_when_it_is_back() {
    let mut server = NameServer::start(&["api 1 A 10.0.0.1"]);
    let mut source = Running::start(&server, &["api.example:80"]);
    source.until(&["10.0.0.1:80"]).await;
    server.stop();
    let reason = source.until(&["10.0.0.1:80"]).await;
    assert!(matches!(reason, Reason::Failed(_)), "{reason}");
    server.change_while_stopped(&["api 1 A 10.0.0.2"]);
    server.start_again();
    assert_eq!(source.until(&["10.0.0.2:80"]).await, Reason::Changed);
}

#[tokio::test]
async fn srv_records_give_ports_and_weights_and_the_lowest_priority_serves() {
    let hosts = ["a 60 A 10.0.0.1", "b 60 A 10.0.0.2", "c 60 A 10.0.0.3"];
    let with = |records: &[&'static str]| [&hosts[..], records].concat();
    let one = ["_http._tcp.api 1 SRV 1 3 8001 a", "_http._tcp.api 1 SRV 1 1 8002 b", "_http._tcp.api 1 SRV 2 1 8003 c"];
    let mut server = NameServer::start(&with(&one));
    let mut source = Running::start(&server, &["_http._tcp.api.example"]);
    let (service, _) = source.service().await;
    assert_eq!(places(&service), ["10.0.0.1:8001", "10.0.0.2:8002"]);
    let weights: Vec<u32> = service.endpoints.iter().map(|endpoint| endpoint.weight).collect();
    assert_eq!(weights, [10_000, 3_333]);
    server.change(&with(&["_http._tcp.api 1 SRV 2 1 8003 c", "_http._tcp.api 1 SRV 1 1 8003 nobody"]));
    source.until(&["10.0.0.3:8003"]).await;
    server.change(&with(&["_http._tcp.api 1 SRV 0 0 0 ."]));
    assert_eq!(source.until(&["10.0.0.3:8003"]).await, Reason::NotOffered);
}

#[tokio::test]
async fn an_answer_too_long_for_a_datagram_comes_whole() {
    let records: Vec<String> = (1..=200).map(|number| format!("api 60 A 10.0.1.{number}")).collect();
    let server = NameServer::start(&records.iter().map(String::as_str).collect::<Vec<_>>());
    let mut source = Running::start(&server, &["api.example:80"]);
    let (service, _) = source.service().await;
    assert_eq!(service.endpoints.len(), 200);
}

#[tokio::test]
async fn names_come_and_go_as_they_are_wanted() {
    let server = NameServer::start(&["api 60 A 10.0.0.1", "other 60 A 10.0.0.2"]);
    let mut source = Running::start(&server, &["api.example:80"]);
    source.until(&["10.0.0.1:80"]).await;
    source.wanted.send_replace(Arc::new(vec![wanted("other.example:80")]));
    let (mut gone, mut found) = (false, false);
    while !(gone && found) {
        match source.next().await {
            Heard::Gone(name) => gone = name == wanted("api.example:80"),
            Heard::Service { service, .. } => found = places(&service) == ["10.0.0.2:80"],
        }
    }
    drop(source.wanted);
    let ended = timeout(DEADLINE, source.tasks.join_next()).await;
    ended.expect("the source ends when nobody wants anything").expect("it ran").expect("it did not panic");
}
