//! Instances that succeed less often than the others, that ask to be left alone, and levels of which too few can be used.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use mesh_core::{
    health::Usability,
    model::policy::{HealthCheck, HttpProbe, LoadBalancing, OutlierDetection, Probe, SuccessRate, TrafficPolicy},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{
    harness::{Peer, Proxy, authority, endpoint, route},
    health::{until, usability},
};

/// An HTTP/1 server that answers every request alike, and says its port.
async fn server(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = format!("HTTP/1.1 {answer}\r\nx-served: {}\r\ncontent-length: 0\r\n\r\n", address.port());
    tokio::spawn(async move {
        while let Ok((mut io, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut request = [0; 4_096];
                while io.read(&mut request).await.is_ok_and(|read| read > 0) {
                    let _ = io.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    address
}

/// A caller of `b.demo` that places requests by chance.
fn caller(traffic: TrafficPolicy, addresses: &[SocketAddr]) -> Proxy {
    let traffic = TrafficPolicy { load_balancing: LoadBalancing::Random, ..traffic };
    let caller = Proxy::start(None);
    caller.publish(|snapshot| {
        let endpoints = addresses.iter().map(|address| endpoint(*address, None)).collect();
        route(snapshot, authority("b.demo"), "b", endpoints);
        snapshot.traffic.insert("b.demo".to_owned(), Arc::new(traffic));
    });
    caller
}

/// Statuses of so many requests.
async fn statuses(caller: &Proxy, count: usize) -> Vec<String> {
    let mut client = Peer::connect(caller.outbound).await;
    let mut found = Vec::new();
    for _ in 0..count {
        client.send("GET / HTTP/1.1\r\nhost: b.demo\r\n\r\n").await;
        found.push(client.head().await["HTTP/1.1 ".len()..][..3].to_owned());
    }
    found
}

#[tokio::test]
async fn level_with_too_few_usable_instances_is_used_whole_and_the_log_says_so() {
    for (threshold, panics) in [(50, true), (0, false)] {
        let ill = [server("500 Ill").await, server("500 Ill").await];
        let fine = server("200 OK").await;
        let check = HealthCheck {
            interval: Duration::from_millis(100),
            unhealthy_threshold: 1,
            ..HealthCheck::new(Probe::Http(HttpProbe::default()))
        };
        let traffic =
            TrafficPolicy { health_check: Some(check), panic_threshold: threshold, ..TrafficPolicy::default() };
        let mut caller = caller(traffic, &[ill[0], ill[1], fine]);
        statuses(&caller, 1).await;
        caller.record().await;
        until("both are found ill", || ill.iter().all(|one| usability(&caller, *one) == Usability::FailingHealth))
            .await;
        let found = statuses(&caller, 60).await;
        assert_eq!(found.contains(&"500".to_owned()), panics, "{threshold}: {found:?}");
        assert!(found.contains(&"200".to_owned()), "{threshold}: {found:?}");
        assert_eq!(caller.record().await.pick, panics.then_some("panic"));
        let counted = caller.metrics.health(&"b.demo".into()).panics.get();
        assert_eq!(counted, if panics { 60 } else { 0 }, "{threshold}");
    }
}

#[tokio::test]
async fn instance_that_asks_for_rest_gets_no_further_request_unless_the_policy_says_otherwise() {
    for (honour_retry_after, expected) in [(true, Usability::Resting), (false, Usability::Usable)] {
        for refusal in ["429 Too Many Requests\r\nretry-after: 60", "503 Later\r\nretry-after: 60"] {
            let (busy, fine) = (server(refusal).await, server("200 OK").await);
            // Failures in a row must not eject.
            let outlier_detection =
                OutlierDetection { honour_retry_after, consecutive_gateway_failures: 0, ..OutlierDetection::default() };
            let caller = caller(TrafficPolicy { outlier_detection, ..TrafficPolicy::default() }, &[busy, fine]);
            let refused = statuses(&caller, 60).await.iter().filter(|status| *status != "200").count();
            assert_eq!(refused == 1, honour_retry_after, "{refusal}: {refused}");
            assert_eq!(usability(&caller, busy), expected, "{refusal}");
            assert_eq!(caller.metrics.health(&"b.demo".into()).rests.get(), u64::from(honour_retry_after));
        }
    }
}

#[tokio::test]
async fn only_instance_is_called_although_it_asks_for_rest() {
    let busy = server("429 Too Many Requests\r\nretry-after: 60").await;
    let caller = caller(TrafficPolicy::default(), &[busy]);
    assert_eq!(statuses(&caller, 5).await, ["429"; 5]);
    assert_eq!(usability(&caller, busy), Usability::Usable);
}

#[tokio::test]
async fn instance_that_succeeds_clearly_less_often_is_ejected() {
    let ill = server("500 Ill").await;
    let fine = [server("200 OK").await, server("200 OK").await, server("200 OK").await];
    let success_rate = SuccessRate { minimum_hosts: 4, request_volume: 10, standard_deviation_factor: 1_500 };
    let outlier_detection = OutlierDetection { success_rate: Some(success_rate), ..OutlierDetection::default() };
    let traffic = TrafficPolicy { outlier_detection, ..TrafficPolicy::default() };
    let caller = caller(traffic, &[ill, fine[0], fine[1], fine[2]]);
    // Enough for everybody's volume within the window; it is judged once a second.
    statuses(&caller, 200).await;
    until("ejected", || usability(&caller, ill) == Usability::Ejected).await;
    assert!(fine.iter().all(|one| usability(&caller, *one) == Usability::Usable));
    assert_eq!(statuses(&caller, 40).await, ["200"; 40]);
    let causes = caller.metrics.health(&"b.demo".into());
    assert_eq!(causes.ejections.each_ref().map(|count| count.get()), [0, 0, 0, 1]);
}
