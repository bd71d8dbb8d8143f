//! What is sent, and what of an answer is a success.

use mesh_core::model::lane::LaneRef;
use tokio::io::duplex;

use super::*;

fn endpoint(lanes: Vec<LaneRef>) -> Endpoint {
    Endpoint {
        address: ([127, 0, 0, 1], 80).into(),
        weight: 10_000,
        identity: None,
        server_name: None,
        inbound_port: None,
        hint: mesh_core::model::endpoint::ProtocolHint::Unknown,
        lanes,
        zone: None,
        ready_since: None,
        draining: false,
        healthy: true,
        labels: Default::default(),
    }
}

fn lines(lanes: Vec<LaneRef>, asked: &HttpProbe) -> Vec<String> {
    let service = ServiceKey("b.demo.svc.cluster.local:80".into());
    let request = http_request(&endpoint(lanes), &service, asked);
    let head = request.strip_suffix("\r\n\r\n").expect("the head ends");
    head.split("\r\n").map(str::to_owned).collect()
}

#[test]
fn request_has_what_the_policy_says() {
    let plain = lines(Vec::new(), &HttpProbe::default());
    assert_eq!(plain, ["GET / HTTP/1.1", "host: b.demo", "user-agent: lanemesh-health-check", "connection: close"]);
    let asked = HttpProbe {
        path: "/healthz?deep=1".to_owned(),
        host: Some("b.example:8080".to_owned()),
        method: "POST".to_owned(),
        headers: vec![("x-check".to_owned(), "deep one".to_owned()), ("accept".to_owned(), "*/*".to_owned())],
        ..HttpProbe::default()
    };
    let full = lines(Vec::new(), &asked);
    assert_eq!(full[..2], ["POST /healthz?deep=1 HTTP/1.1", "host: b.example:8080"]);
    assert_eq!(full[3..], ["x-check: deep one", "accept: */*", "content-length: 0", "connection: close"]);
}

#[test]
fn request_to_an_instance_of_a_lane_is_of_that_lane_whatever_the_policy_says() {
    let lane = LaneRef { group: "g".parse().unwrap(), lane: "l".parse().unwrap() };
    let asked =
        HttpProbe { headers: vec![(names::LANE_HEADER.to_owned(), "g/other".to_owned())], ..HttpProbe::default() };
    let label = |lines: &[String]| -> Vec<String> {
        lines.iter().filter(|line| line.starts_with(names::LANE_HEADER)).cloned().collect()
    };
    assert_eq!(label(&lines(vec![lane], &asked)), [format!("{}: g/l", names::LANE_HEADER)]);
    assert_eq!(label(&lines(Vec::new(), &asked)), [format!("{}: g/other", names::LANE_HEADER)]);
}

#[tokio::test]
async fn expected_bytes_may_stand_anywhere_and_come_in_pieces() {
    let (mut near, mut far) = duplex(64);
    let sending = async {
        for piece in ["banner\r\n+PO", "NG", "\r\n"] {
            far.write_all(piece.as_bytes()).await.unwrap();
        }
    };
    let (received, ()) = tokio::join!(receive(&mut near, b"+PONG"), sending);
    assert_eq!(received, Ok(()));
}

#[tokio::test]
async fn other_bytes_are_a_failure_at_their_end_or_when_they_are_too_many() {
    let (mut near, mut far) = duplex(64);
    far.write_all(b"-ERR").await.unwrap();
    drop(far);
    assert_eq!(receive(&mut near, b"+PONG").await, Err("closed before it said what is expected".to_owned()));
    let (mut near, mut far) = duplex(64);
    let sending = async move { while far.write_all(&[b'x'; 64]).await.is_ok() {} };
    let receiving = async move { receive(&mut near, b"+PONG").await };
    let (received, ()) = tokio::join!(receiving, sending);
    assert!(received.is_err_and(|error| error.contains("16384")));
}
