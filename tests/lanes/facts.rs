//! What each stack forwards of a request by itself, without a mesh: the table in `docs/lanes.md`.

use std::net::SocketAddr;

use http::Request;
use hyper::body::Incoming;
use mesh_tests::{
    addresses::Block,
    client::{self, Version},
    server::{self, Server},
    wait::{PATIENCE, until},
};
use tokio::net::TcpStream;

use crate::{
    link::Behaviour,
    stacks::{NONE, Stack, W3C, word},
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
/// A request with everything that could be forwarded; each value contains [`TRACE`].
const FIELDS: &[(&str, &str)] = &[
    ("x-mesh-lane", TRACE),
    ("x-request-id", TRACE),
    ("baggage", "mesh-lane=0af7651916cd43dd8448eb211c80319c"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("tracestate", "mesh=0af7651916cd43dd8448eb211c80319c"),
    ("b3", "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1"),
];
/// The trace id in base64, with the other fields of the format.
const SW8: &str =
    "1-MGFmNzY1MTkxNmNkNDNkZDg0NDhlYjIxMWM4MDMxOWM=-c2VnbWVudA==-0-c2VydmljZQ==-aW5zdGFuY2U=-L2E=-MTI3LjAuMC4xOjgw";
const SW8_TRACE: &str = "MGFmNzY1MTkxNmNkNDNkZDg0NDhlYjIxMWM4MDMxOWM=";

const FACTS: &[(Stack, &str, &[&str])] = &[
    (Stack::FastApi, W3C, &["baggage", "traceparent", "tracestate"]),
    (Stack::FastApi, "b3", &["b3"]),
    (Stack::FastApi, NONE, &[]),
    (Stack::Flask, W3C, &["baggage", "traceparent", "tracestate"]),
    (Stack::Flask, NONE, &[]),
    (Stack::Express, W3C, &["baggage", "traceparent", "tracestate"]),
    (Stack::Express, "b3", &["b3"]),
    (Stack::Express, NONE, &[]),
    (Stack::Go, W3C, &["baggage", "traceparent", "tracestate"]),
    (Stack::Go, "b3", &["b3"]),
    (Stack::Go, NONE, &[]),
    (Stack::SkyWalking, NONE, &["sw8"]),
];

/// Answers with the names of the fields that kept the id of the trace.
async fn kept(request: Request<Incoming>) -> http::Response<client::Body> {
    let headers = request.headers();
    let has = |name: &str, id: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains(id))
    };
    let mut names: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).filter(|name| has(name, TRACE)).collect();
    if has("sw8", SW8_TRACE) {
        names.push("sw8");
    }
    server::text(names.join(","))
}

async fn forwarded(stack: Stack, propagators: &str, headers: &[(&str, &str)]) -> Vec<String> {
    let block = Block::reserve();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let end = Server::start(SocketAddr::from((block.address(1), 8080)), kept).await;
    let listen = SocketAddr::from((block.address(2), 8080));
    let link = format!("{listen},link,{},end,{}", end.address, word(Behaviour::Now));
    let process = stack.program(propagators).arg(link).start(folder.path());
    until(&format!("{stack:?} listens"), PATIENCE, || async {
        assert!(!process.has_ended(), "{stack:?} ended: {}", process.log());
        TcpStream::connect(listen).await.ok()
    })
    .await;
    let answer = client::get(listen, Version::Http1, "link", "/", headers).await.unwrap();
    let text = answer.text();
    let (_, names) = text.split_once("] ").unwrap_or_else(|| panic!("{stack:?} {propagators}: {text}"));
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[tokio::test]
async fn stacks_forward_what_the_documentation_says() {
    let headers: Vec<_> = FIELDS.iter().copied().chain([("sw8", SW8)]).collect();
    for (stack, propagators, expected) in FACTS {
        let came = forwarded(*stack, propagators, &headers).await;
        assert_eq!(&came, expected, "{stack:?} with {propagators}");
    }
}

/// Why the mesh gives a request of a lane an id in every format: these begin a trace of their own.
#[tokio::test]
async fn stacks_of_another_format_do_not_take_the_id_of_traceparent() {
    let only = FIELDS.iter().filter(|(name, _)| *name == "traceparent").copied().collect::<Vec<_>>();
    for (stack, propagators) in [(Stack::Go, "b3"), (Stack::Express, "b3"), (Stack::SkyWalking, NONE)] {
        assert!(forwarded(stack, propagators, &only).await.is_empty(), "{stack:?} with {propagators}");
    }
}
