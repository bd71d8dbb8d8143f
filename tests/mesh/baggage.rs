//! Baggage at its limits: many members, 8,192 bytes and beyond, several lines. What arrives has one line with our member
//! first; foreign members are dropped from the end only.

use http::{HeaderMap, Request, Response, Version as HttpVersion};
use hyper::body::Incoming;
use mesh_tests::{
    client::{Body, Connection, Version, full, request},
    mesh::Mesh,
    pod::PodSpec,
    server::{self, Server},
};

const LANES: &str = "apiVersion: lanemesh.io/v1alpha1
kind: LaneGroup
metadata: {name: shop, namespace: demo}
spec: {services: [\"*\"], entries: [a]}
---
apiVersion: lanemesh.io/v1alpha1
kind: Lane
metadata: {name: canary, namespace: demo}
spec: {group: shop}
";
/// Most bytes of a baggage line (W3C Baggage 3.3.2).
const LINE_MAX: usize = 8_192;
const OURS: &str = "mesh-lane=canary";

/// client → a → b, both applications handing on baggage alone; b has an instance in the lane and answers what it got.
async fn chain() -> (Mesh, Vec<Server>) {
    let canary = PodSpec::new("b-canary").of("b").account("b").label("lane", "canary");
    let builder = Mesh::builder().resource(LANES).pod(PodSpec::new("client")).pod(PodSpec::new("a").of("a"));
    let mesh = builder.pod(PodSpec::new("b").of("b")).pod(canary).start().await;
    let mut applications = Vec::new();
    let outbound = mesh.pod("a").outbound();
    let middle = move |incoming: Request<Incoming>| hand_on(outbound, incoming);
    applications.push(Server::start(mesh.application("a"), middle).await);
    for pod in ["b", "b-canary"] {
        let last = move |incoming: Request<Incoming>| async move {
            server::text(std::iter::once(pod).chain(lines(incoming.headers())).collect::<Vec<_>>().join("\n"))
        };
        applications.push(Server::start(mesh.application(pod), last).await);
    }
    mesh.reachable("client", "a").await;
    (mesh, applications)
}

fn lines(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all("baggage").iter().map(|line| line.to_str().unwrap())
}

/// Calls b in the version in which a was called.
async fn hand_on(outbound: std::net::SocketAddr, incoming: Request<Incoming>) -> Response<Body> {
    let version = if incoming.version() == HttpVersion::HTTP_2 { Version::Http2 } else { Version::Http1 };
    let baggage: Vec<(&str, &str)> = lines(incoming.headers()).map(|line| ("baggage", line)).collect();
    let mut connection = Connection::open(outbound, version).await.unwrap();
    let answer = connection.send(request(http::Method::GET, "b", "/", &baggage, full(""))).await.unwrap();
    let mut response = server::text(answer.text());
    *response.status_mut() = answer.status.try_into().unwrap();
    response
}

/// `count` members of `size` bytes each, commas apart.
fn members(count: usize, size: usize) -> Vec<String> {
    let member = |number: usize| {
        let key = format!("k{number:04}=");
        let value = "v".repeat(size - key.len());
        key + &value
    };
    (0..count).map(member).collect()
}

/// What must arrive: ours, then foreign members in order for as long as they fit.
fn arriving(ours: Option<&str>, foreign: &[String]) -> String {
    let mut line = ours.unwrap_or_default().to_owned();
    for member in foreign {
        let comma = if line.is_empty() { "" } else { "," };
        if line.len() + comma.len() + member.len() > LINE_MAX {
            break;
        }
        line.push_str(comma);
        line.push_str(member);
    }
    line
}

struct Case {
    name: String,
    /// Baggage lines that the client sends.
    sent: Vec<String>,
    served: &'static str,
    arriving: String,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case = |name: String, sent: Vec<String>, ours: Option<&str>, foreign: &[String]| {
        let served = if ours.is_some() { "b-canary" } else { "b" };
        cases.push(Case { name, sent, served, arriving: arriving(ours, foreign) });
    };
    for count in [63, 64, 65, 100, 128, 179, 180] {
        let foreign = members(count, 40);
        for (place, at) in [("first", 0), ("in the middle", count / 2), ("last", count)] {
            let mut all = foreign.clone();
            all.insert(at, OURS.to_owned());
            case(format!("{count} members, ours {place}"), vec![all.join(",")], Some(OURS), &foreign);
        }
        case(format!("{count} members without ours"), vec![foreign.join(",")], None, &foreign);
    }
    // Ours, a comma, and one member that fills the line up to its last byte, or is one byte longer.
    for (name, size) in [("exactly 8,192 bytes", LINE_MAX - OURS.len() - 1), ("one byte beyond", LINE_MAX - OURS.len())]
    {
        let foreign = members(1, size);
        case(format!("{name}, ours last"), vec![format!("{},{OURS}", foreign[0])], Some(OURS), &foreign);
    }
    for (count, size) in [(180, 45), (180, 46), (180, 80), (64, 128), (64, 256), (3, 4_000), (1_000, 12)] {
        let foreign = members(count, size);
        let whole = [foreign.join(","), OURS.to_owned()].join(",");
        case(format!("{count} members of {size} bytes, ours last"), vec![whole], Some(OURS), &foreign);
        case(format!("{count} members of {size} bytes without ours"), vec![foreign.join(",")], None, &foreign);
        let (one, other) = foreign.split_at(count / 2);
        let lines = vec![one.join(","), format!("{},{OURS}", other.join(","))];
        case(format!("{count} members of {size} bytes in two lines, ours last"), lines, Some(OURS), &foreign);
    }
    cases
}

async fn arrives_as_it_must(version: Version) {
    let (mesh, _applications) = chain().await;
    let mut connection = mesh.connection("client", version).await.unwrap();
    for Case { name, sent, served, arriving } in cases() {
        let headers: Vec<(&str, &str)> = sent.iter().map(|line| ("baggage", line.as_str())).collect();
        let answer = connection.send(request(http::Method::GET, "a", "/", &headers, full(""))).await.unwrap();
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let text = answer.text();
        let got: Vec<&str> = text.split('\n').collect();
        let shown: Vec<String> = got.iter().map(|line| format!("{} bytes {:.60}", line.len(), line)).collect();
        assert_eq!(got, [served, &arriving], "{name}: {shown:?}");
        assert!(got[1].len() <= LINE_MAX, "{name}");
    }
}

#[tokio::test]
async fn baggage_at_its_limits_keeps_our_member_first_and_loses_foreign_ones_from_the_end_over_http1() {
    arrives_as_it_must(Version::Http1).await;
}

#[tokio::test]
async fn baggage_at_its_limits_keeps_our_member_first_and_loses_foreign_ones_from_the_end_over_http2() {
    arrives_as_it_must(Version::Http2).await;
}

#[tokio::test]
async fn label_in_the_header_puts_our_member_before_full_baggage() {
    let (mesh, _applications) = chain().await;
    for version in [Version::Http1, Version::Http2] {
        let mut connection = mesh.connection("client", version).await.unwrap();
        let foreign = members(180, 45);
        let whole = foreign.join(",");
        let headers = [("x-mesh-lane", "canary"), ("baggage", whole.as_str())];
        let answer = connection.send(request(http::Method::GET, "a", "/", &headers, full(""))).await.unwrap();
        assert_eq!(answer.text(), format!("b-canary\n{}", arriving(Some(OURS), &foreign)), "{version:?}");
    }
}
