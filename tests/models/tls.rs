//! Targets behind TLS: roots of the route's own, HTTP/2 or HTTP/1.1 as the server chooses, certificates that do not fit, and
//! proxies that are asked by CONNECT.

use std::net::SocketAddr;

use mesh_tests::{
    models::{
        events::{Answer, Ended},
        front::{Front, Proxy, Spoken},
        sdk::{Api, Sdk},
        web_socket::WebSocket,
    },
    peer::{Authority, Credentials, Leaf},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::world::{HOST, Served, Streaming, Virtual, World};

const ADDRESS: &str = "127.0.0.1";
const BOTH: &[&str] = &["h2", "http/1.1"];

/// A leaf of a server with these names.
fn leaf(names: &[&str]) -> Leaf {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Leaf { uris: Vec::new(), names, from: (2020, 1, 1), until: (2090, 1, 1), is_ca: false }
}

/// Files with roots, and fronts.
struct Stage {
    folder: TempDir,
    authority: Authority,
}

impl Stage {
    fn new() -> Stage {
        let stage = Stage {
            folder: TempDir::with_prefix("lanemesh-roots-").expect("a temporary folder"),
            authority: Authority::new("a provider's own authority"),
        };
        stage.file("roots.pem", &stage.authority.certificate);
        stage
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("the temporary folder is writable");
        path.display().to_string()
    }

    /// A target behind a front, trusted by the roots in this file.
    fn target(&self, name: &str, host: &str, address: SocketAddr, roots: &str) -> Served {
        let roots = self.folder.path().join(roots).display().to_string();
        let endpoint = json!({"url": format!("https://{host}:{}", address.port()), "roots": roots});
        Served::outside(name, "openai").with("endpoint", endpoint)
    }
}

/// A call without SDK, so that all of the answer can be looked at.
async fn chat(world: &World, model: &str, streaming: Streaming) -> Answer {
    let stream = streaming == Streaming::Yes;
    let messages = json!([{"role": "user", "content": "one two three"}]);
    world.post("/v1/chat/completions", &json!({"model": model, "stream": stream, "messages": messages})).await
}

#[tokio::test]
async fn a_server_of_the_given_authority_is_spoken_to_in_the_protocol_that_it_chooses() {
    let stage = Stage::new();
    let own = stage.authority.sign(&leaf(&[ADDRESS]));
    let fronts = [
        ("two", Front::start(&own, BOTH).await, "h2"),
        ("one", Front::start(&own, &["http/1.1"]).await, "http/1.1"),
        ("none", Front::start(&own, &[]).await, ""),
    ];
    let models = fronts.iter().map(|(model, front, _)| {
        let first = stage.target(&format!("{model}-a"), ADDRESS, front.address(), "roots.pem");
        Virtual::new(model, vec![first, Served::outside(&format!("{model}-b"), "openai")])
    });
    let world = World::start(models.collect()).await;
    for (model, front, protocol) in &fronts {
        front.leads_to(world.stand_in.target(&format!("{model}-a")).address);
        for streaming in Streaming::BOTH {
            for _ in 0..3 {
                let told = Sdk::newest().ask(streaming.of(world.ask(Api::Chat, model))).await;
                told.assert_whole(20);
                assert_eq!(told.header("x-mesh-model-target"), format!("{model}-a"), "{streaming:?}");
            }
        }
        world.stand_in.next(&format!("{model}-a"), &[json!({"status": 503}), json!({"tokens": 50, "cut": 3})]).await;
        let told = Sdk::newest().ask(world.ask(Api::Chat, model).stream()).await;
        told.assert_whole(20);
        assert_eq!(told.header("x-mesh-model-target"), format!("{model}-b"), "fallback before the first token");
        let answer = loop {
            let answer = chat(&world, model, Streaming::Yes).await;
            if answer.header("x-mesh-model-target") == format!("{model}-a") {
                break answer;
            }
        };
        assert_eq!(answer.ended, Ended::Cut, "{model}: {}", answer.text());
        assert!(answer.text().contains("\"error\""), "{model}: {}", answer.text());
        let spoken = front.spoken();
        let expected = Spoken { name: String::new(), protocol: (*protocol).to_owned() };
        assert!(spoken.iter().all(|spoken| *spoken == expected), "{model}: {spoken:?}");
        assert!(spoken.len() <= 3, "{model}: connections are used again: {spoken:?}");
    }
}

/// A certificate that does not fit, and words that say why.
struct Misfit {
    name: &'static str,
    shown: Credentials,
    roots: String,
    says: &'static [&'static str],
}

fn misfits(stage: &Stage) -> Vec<Misfit> {
    let stranger = Authority::new("somebody else");
    let ended = Leaf { until: (2021, 1, 1), ..leaf(&[ADDRESS]) };
    let early = Leaf { from: (2080, 1, 1), ..leaf(&[ADDRESS]) };
    let authority = Leaf { is_ca: true, ..leaf(&[ADDRESS]) }.self_signed();
    let other = Leaf { is_ca: true, ..leaf(&[ADDRESS]) }.self_signed();
    let named_other = Leaf { is_ca: true, ..leaf(&["other.example"]) }.self_signed();
    stage.file("other.pem", &other.pem);
    stage.file("named-other.pem", &named_other.pem);
    let misfit = |name, shown, says| Misfit { name, shown, roots: "roots.pem".to_owned(), says };
    vec![
        misfit("stranger", stranger.sign(&leaf(&[ADDRESS])), &["UnknownIssuer"]),
        misfit("name", stage.authority.sign(&leaf(&["other.example"])), &["not valid for name", "other.example"]),
        misfit("ended", stage.authority.sign(&ended), &["expired"]),
        misfit("early", stage.authority.sign(&early), &["not valid yet"]),
        misfit("self-signed", authority.clone(), &["UnknownIssuer", "CA:TRUE"]),
        Misfit {
            roots: "other.pem".to_owned(),
            ..misfit("another-authority", authority, &["UnknownIssuer", "CA:TRUE"])
        },
        Misfit {
            roots: "named-other.pem".to_owned(),
            ..misfit("authority-name", named_other, &["not valid for name"])
        },
    ]
}

#[tokio::test]
async fn a_certificate_that_does_not_fit_is_passed_over_and_the_reason_is_said_where_nobody_is_left() {
    let stage = Stage::new();
    let misfits = misfits(&stage);
    let mut fronts = Vec::new();
    for misfit in &misfits {
        fronts.push(Front::start(&misfit.shown, BOTH).await);
    }
    let target = |misfit: &Misfit, front: &Front, letter: &str| {
        stage.target(&format!("{}-{letter}", misfit.name), ADDRESS, front.address(), &misfit.roots)
    };
    let left = misfits.iter().zip(&fronts).map(|(misfit, front)| {
        let served = Served::outside(&format!("{}-b", misfit.name), "openai");
        Virtual::new(&format!("{}-left", misfit.name), vec![target(misfit, front, "a"), served])
    });
    let none = misfits.iter().zip(&fronts).map(|(misfit, front)| {
        let alone = json!({"attempts": 1});
        Virtual::new(&format!("{}-none", misfit.name), vec![target(misfit, front, "c")]).with("retry", alone)
    });
    let world = World::start(left.chain(none).collect()).await;
    let mut wrong = Vec::new();
    for (misfit, front) in misfits.iter().zip(&fronts) {
        front.leads_to(world.stand_in.target(&format!("{}-a", misfit.name)).address);
        for streaming in Streaming::BOTH {
            let answer = chat(&world, &format!("{}-left", misfit.name), streaming).await;
            assert_eq!(answer.header("x-mesh-model-target"), format!("{}-b", misfit.name), "{}", answer.text());
            let answer = chat(&world, &format!("{}-none", misfit.name), streaming).await;
            let said = answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
            let is_said = misfit.says.iter().any(|words| said.contains(words));
            if answer.status != 503 || answer.header("x-mesh-error") != "model_connect" || !is_said {
                wrong.push(format!("{} {streaming:?}: {} {:?}", misfit.name, answer.status, answer.text()));
            }
        }
        assert!(front.spoken().is_empty(), "{}: no request went over it", misfit.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(world.stand_in.seen().await.iter().all(|seen| seen.target.ends_with("-b")));
}

#[tokio::test]
async fn a_certificate_of_an_authority_that_is_given_as_root_is_taken_as_that_of_the_server_itself() {
    let stage = Stage::new();
    let shown = [
        ("authority", Leaf { is_ca: true, ..leaf(&[ADDRESS]) }.self_signed()),
        ("plain", leaf(&[ADDRESS]).self_signed()),
    ];
    let mut models = Vec::new();
    let mut fronts = Vec::new();
    for (name, credentials) in &shown {
        stage.file(&format!("{name}.pem"), &credentials.pem);
        let front = Front::start(credentials, BOTH).await;
        let target = stage.target(&format!("{name}-a"), ADDRESS, front.address(), &format!("{name}.pem"));
        models.push(Virtual::new(name, vec![target]).with("retry", json!({"attempts": 1})));
        fronts.push(front);
    }
    let world = World::start(models).await;
    for ((name, _), front) in shown.iter().zip(&fronts) {
        front.leads_to(world.stand_in.target(&format!("{name}-a")).address);
        for streaming in Streaming::BOTH {
            Sdk::newest().ask(streaming.of(world.ask(Api::Chat, name))).await.assert_whole(20);
        }
    }
}

#[tokio::test]
async fn a_proxy_is_asked_for_the_way_by_name_and_one_that_refuses_is_passed_over() {
    let stage = Stage::new();
    let front = Front::start(&stage.authority.sign(&leaf(&["model.example"])), BOTH).await;
    let (open, closed) = (Proxy::start(Some(front.address())).await, Proxy::start(None).await);
    let roots = stage.folder.path().join("roots.pem").display().to_string();
    let through = |name: &str, proxy: &Proxy| {
        let endpoint = json!({"url": "https://model.example", "roots": roots, "proxy": proxy.address().to_string()});
        Served::outside(name, "openai").with("endpoint", endpoint)
    };
    let alone = json!({"attempts": 1});
    let world = World::start(vec![
        Virtual::new("open", vec![through("open-a", &open), Served::outside("open-b", "openai")]),
        Virtual::new("closed", vec![through("closed-a", &closed), Served::outside("closed-b", "openai")]),
        Virtual::new("alone", vec![through("alone-a", &closed)]).with("retry", alone),
    ])
    .await;
    front.leads_to(world.stand_in.target("open-a").address);
    for streaming in Streaming::BOTH {
        let told = Sdk::newest().ask(streaming.of(world.ask(Api::Chat, "open"))).await;
        told.assert_whole(20);
        assert_eq!(told.header("x-mesh-model-target"), "open-a");
        let told = Sdk::newest().ask(streaming.of(world.ask(Api::Chat, "closed"))).await;
        told.assert_whole(20);
        assert_eq!(told.header("x-mesh-model-target"), "closed-b");
        let answer = chat(&world, "alone", streaming).await;
        let message: Value = answer.json()["error"]["message"].clone();
        assert!(message.as_str().is_some_and(|said| said.contains("403") && said.contains("CONNECT")), "{message}");
    }
    assert!(open.asked().iter().all(|line| line == "CONNECT model.example:443 HTTP/1.1"), "{:?}", open.asked());
    let named = Spoken { name: "model.example".to_owned(), protocol: "h2".to_owned() };
    assert!(front.spoken().iter().all(|spoken| *spoken == named), "{:?}", front.spoken());
    let seen = world.last_seen("open-a").await;
    assert_eq!(seen.header("host"), "model.example");
}

#[tokio::test]
async fn a_web_socket_is_made_over_http_1_although_the_server_prefers_http_2() {
    let stage = Stage::new();
    let front = Front::start(&stage.authority.sign(&leaf(&[ADDRESS])), BOTH).await;
    let target = stage.target("m-a", ADDRESS, front.address(), "roots.pem");
    let world = World::start(vec![Virtual::new("m", vec![target, Served::outside("m-b", "openai")])]).await;
    front.leads_to(world.stand_in.target("m-a").address);
    Sdk::newest().ask(world.ask(Api::Chat, "m")).await.assert_whole(20);
    let mut socket = WebSocket::open(world.outbound(), HOST, "/v1/realtime?model=m", &[]).await.expect("a WebSocket");
    assert!(socket.head.contains("x-mesh-model-target: m-a"), "{}", socket.head);
    assert!(socket.hear().await.is_some_and(|first| first.contains("session.created")));
    socket.say("one").await;
    assert_eq!(socket.hear().await.as_deref(), Some("one"));
    let mut protocols: Vec<String> = front.spoken().into_iter().map(|spoken| spoken.protocol).collect();
    // A connection may have been made ready besides.
    protocols.dedup();
    assert_eq!(protocols, ["h2", "http/1.1"]);
}
