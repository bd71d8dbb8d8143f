//! Labels that may not be set: from outside, and from a mesh identity that the group does not trust. In whatever form they
//! are written, they neither route a request nor reach an application.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use mesh_tests::{
    client::{Body, Version, full, request},
    mesh::Mesh,
    pod::PodSpec,
    server::{self, Server},
};

use crate::chain::lane;

const GROUP: &str = "apiVersion: lanemesh.io/v1alpha1
kind: LaneGroup
metadata: {name: shop, namespace: demo}
spec:
  services: [a]
  entries: [gate]
  carrier: {aliases: [x-mse-tag, x-asm-prefer-tag]}
  trust: {gateways: [gate]}
  propagation: {tracestate: true}
";

/// Fields of one request; values are any bytes.
type Form = Vec<(&'static str, Vec<u8>)>;

/// Every form of the header and of baggage. `canary` is a lane with an instance of `a`.
fn forms() -> Vec<Form> {
    let one = |name: &'static str, value: &[u8]| vec![(name, value.to_vec())];
    let mut forms: Vec<Form> = Vec::new();
    for name in [
        "x-mesh-lane",
        "X-Mesh-Lane",
        "X-MESH-LANE",
        "mesh-lane",
        "Mesh-Lane",
        "x-mse-tag",
        "X-MSE-Tag",
        "x-asm-prefer-tag",
    ] {
        forms.push(one(name, b"canary"));
    }
    for name in ["x_mesh_lane", "X_Mesh_Lane", "x-mesh_lane", "mesh_lane", "x_mse_tag", "X_ASM_PREFER_TAG"] {
        forms.push(one(name, b"canary"));
    }
    for name in ["uberctx-mesh-lane", "ot-baggage-mesh-lane", "baggage-mesh-lane", "uberctx-x-mesh-lane"] {
        forms.push(one(name, b"canary"));
    }
    let values: [&[u8]; 13] = [
        b"shop/canary",
        b"CANARY",
        b"canary,canary",
        b"other,canary",
        b"canary;q=1",
        b"\"canary\"",
        b"",
        b"   canary\t",
        b"c%61nary",
        b"shop%2Fcanary",
        b"canary\xff",
        b"\xe2\x80\x8bcanary",
        b"canary%00",
    ];
    forms.extend(values.iter().map(|value| one("x-mesh-lane", value)));
    forms.push(one("x-mesh-lane", &[b'c'; 4_000]));
    forms.push(one("x-mesh-lane", format!("canary{}", ",canary".repeat(500)).as_bytes()));
    forms.push(vec![("x-mesh-lane", b"".to_vec()), ("x-mesh-lane", b"canary".to_vec())]);
    forms.push(vec![
        ("x-mesh-lane", b"canary".to_vec()),
        ("x-mesh-lane", b"canary".to_vec()),
        ("mesh-lane", b"canary".to_vec()),
    ]);
    let baggage: [&[u8]; 15] = [
        b"mesh-lane=canary",
        b"Mesh-Lane=canary",
        b"mesh-lane=canary;ttl=5;secret",
        b"a=1, mesh-lane = canary ,b=2",
        b"a=1,mesh-lane=c%61nary,b=2",
        b"mesh%2Dlane=canary",
        b"%6desh-lane=canary",
        b"+mesh-lane=canary",
        b"%20mesh-lane=canary",
        b"mesh-lane-group=shop,mesh-lane=canary",
        b"mesh-lane=shop/canary",
        b"mesh-lane=,mesh-lane=canary",
        b",,,mesh-lane=canary,,,",
        b"mesh-lane=canary\xff",
        b"a=\xff,mesh-lane=canary",
    ];
    forms.extend(baggage.iter().map(|value| one("baggage", value)));
    forms.push(vec![("baggage", b"a=1".to_vec()), ("Baggage", b"mesh-lane=canary".to_vec())]);
    forms.push(one("baggage", format!("{}mesh-lane=canary", "k=v,".repeat(3_000)).as_bytes()));
    forms.extend(in_fields_of_tracing());
    forms
}

/// The label as tracing libraries hand on what users give them.
fn in_fields_of_tracing() -> Vec<Form> {
    let one = |name: &'static str, value: &[u8]| vec![(name, value.to_vec())];
    let mut forms: Vec<Form> = Vec::new();
    // Base64 of `mesh-lane`, `Mesh-Lane`, `mesh-lane-group`, `canary`, `shop/canary` and `shop`.
    let sw8: [&[u8]; 8] = [
        b"bWVzaC1sYW5l:Y2FuYXJ5",
        b"TWVzaC1MYW5l:Y2FuYXJ5",
        b"bWVzaC1sYW5l:c2hvcC9jYW5hcnk=",
        b"a2V5:dmFsdWU=,bWVzaC1sYW5l : Y2FuYXJ5",
        b"bWVzaC1sYW5lLWdyb3Vw:c2hvcA==,bWVzaC1sYW5l:Y2FuYXJ5",
        // Readers are more forgiving than the standard: foreign characters, no padding where there ought to be some.
        b"bWVz!aC1sYW5l:Y2FuYXJ5",
        b"bWVzaC1sYW5l:Y2Fu YXJ5",
        b"bWVzaC1sYW5l:c2hvcC9jYW5hcnk",
    ];
    for name in ["sw8-correlation", "SW8-Correlation", "sw8_correlation"] {
        forms.extend(sw8.iter().map(|value| one(name, value)));
    }
    forms.push(vec![("sw8-correlation", b"a2V5:dmFsdWU=".to_vec()), ("sw8-correlation", sw8[0].to_vec())]);
    let trace = || ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_vec());
    let states: [&[u8]; 6] = [
        b"mesh-lane=canary",
        b"mesh-lane=shop/canary",
        b"rojo=00f067aa0ba902b7, mesh-lane = canary ,congo=t61",
        b"Mesh-Lane=canary",
        b"mesh-lane-group=shop,mesh-lane=canary",
        b"mesh-lane=,mesh-lane=canary",
    ];
    forms.extend(states.iter().map(|value| vec![trace(), ("tracestate", value.to_vec())]));
    forms.push(one("Tracestate", b"mesh-lane=canary"));
    forms.push(vec![trace(), ("tracestate", b"a=1".to_vec()), ("tracestate", b"mesh-lane=canary".to_vec())]);
    // Baggage as Jaeger takes it from outside, and as .NET wrote it before the standard; both are handed on as baggage.
    for name in ["jaeger-baggage", "Jaeger_Baggage", "correlation-context", "Correlation-Context", "UberCtx-Mesh-Lane"]
    {
        forms.push(one(name, b"k=v, mesh-lane=canary"));
    }
    forms
        .push(vec![("b3", b"0af7651916cd43dd-b7ad6b7169203331-1".to_vec()), ("baggage_mesh-lane", b"canary".to_vec())]);
    forms
}

/// What an application has received: every field, a line each, and its own name in front.
async fn mirror(pod: &'static str, incoming: Request<Incoming>) -> Response<Body> {
    let mut text = format!("{pod}\n");
    for (name, value) in incoming.headers() {
        text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    }
    server::text(text)
}

/// Whether any trace of a label came through.
fn is_labelled(received: &str) -> bool {
    let plain = received.to_ascii_lowercase().replace('_', "-").replace("%2d", "-").replace("%6d", "m");
    plain.lines().skip(1).any(|line| {
        let in_base64 = line.contains("y2fuyxj5") || line.contains("c2hvcc9jyw5hcnk");
        in_base64
            || line.contains("canary")
            || line.contains("c%61nary")
            || line.contains("mesh-lane")
            || line.starts_with("x-m")
    })
}

async fn start() -> (Mesh, Vec<Server>) {
    let mesh = Mesh::builder()
        .pod(PodSpec::new("gate").of("gate").gateway())
        .pod(PodSpec::new("mallory"))
        .pod(PodSpec::new("a").of("a"))
        .pod(PodSpec::new("a-canary").of("a").account("a").label("lane", "canary"))
        .resource(&format!("{GROUP}---\n{}", lane("canary", "")))
        .start()
        .await;
    let mut applications = Vec::new();
    for pod in ["a", "a-canary"] {
        applications.push(Server::start(mesh.application(pod), move |request| mirror(pod, request)).await);
    }
    (mesh, applications)
}

fn http1(form: &Form) -> Vec<u8> {
    let mut bytes = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n".to_vec();
    for (name, value) in form {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

fn http2(form: &Form) -> Request<Body> {
    let mut get = request(Method::GET, "a", "/", &[], full(Bytes::new()));
    for (name, value) in form {
        let name: HeaderName = name.parse().expect("names are tokens");
        get.headers_mut().append(name, HeaderValue::from_bytes(value).expect("values hold no control characters"));
    }
    get
}

#[tokio::test]
async fn no_form_of_a_label_counts_or_arrives_that_its_sender_may_not_set() {
    let (mesh, applications) = start().await;
    let (forms, mut sent) = (forms(), 0);
    assert!(forms.len() >= 30, "{}", forms.len());
    for from in ["gate", "mallory"] {
        mesh.reachable(from, "a").await;
        let mut connection = mesh.connection(from, Version::Http2).await.unwrap();
        for form in &forms {
            let shown: Vec<_> = form
                .iter()
                .map(|(name, value)| (name, String::from_utf8_lossy(&value[..value.len().min(60)])))
                .collect();
            let answer = mesh.raw(from, &http1(form), |_| false).await;
            let text = answer.text();
            let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            assert_eq!(answer.status(), 200, "{from} {shown:?}: {text}");
            assert!(
                body.contains("a\n") && !body.contains("a-canary\n") && !is_labelled(body),
                "{from} {shown:?}: {body}"
            );
            let answer = connection.send(http2(form)).await.unwrap();
            let body = answer.text();
            assert_eq!(answer.status, 200, "{from} {shown:?} over HTTP/2: {body}");
            assert!(body.starts_with("a\n") && !is_labelled(&body), "{from} {shown:?} over HTTP/2: {body}");
            sent += 2;
        }
    }
    assert_eq!(applications[1].seen.requests(), 0, "the lane's instance has seen a request");
    println!("{sent} requests in {} forms, none routed, none labelled at the application", forms.len());
}

#[tokio::test]
async fn label_of_a_trusted_identity_counts_in_every_form_that_is_one() {
    let (mesh, _applications) = start().await;
    mesh.reachable("a", "a").await;
    for form in [
        ("x-mesh-lane", "canary"),
        ("mesh-lane", "canary"),
        ("x-mse-tag", "canary"),
        ("baggage", "k=1,mesh-lane=canary"),
    ] {
        let answer = mesh.get("a", "a", "/", &[form]).await.unwrap().text();
        assert!(answer.starts_with("a-canary\n") && is_labelled(&answer), "{form:?}: {answer}");
    }
}
