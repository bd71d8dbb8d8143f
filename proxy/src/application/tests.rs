//! Applications that are ready, and those that are not.

use std::net::Ipv4Addr;

use bytes::Bytes;
use tokio::{net::TcpListener, task::JoinSet};

use super::*;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[test]
fn probes_are_read_as_written_and_nothing_else_is() {
    let http = |port, path: &str| Probe::Http { port, path: path.to_owned() };
    let grpc = |port, service: &str| Probe::Grpc { port, service: service.to_owned() };
    let exec = Probe::Exec { program: "/bin/check".to_owned(), arguments: vec!["-q".to_owned()] };
    let cases = [
        ("http://:8080/healthz?full=1", Some(http(8080, "/healthz?full=1"))),
        ("http://:8080", Some(http(8080, "/"))),
        ("grpc://:9000", Some(grpc(9000, ""))),
        ("grpc://:9000/shop.Orders", Some(grpc(9000, "shop.Orders"))),
        ("tcp://:5432", Some(Probe::Tcp { port: 5432 })),
        ("exec:/bin/check -q", Some(exec)),
        ("exec: ", None),
        ("http://:0/", None),
        ("http://host:8080/", None),
        ("http://:8080/a b", None),
        ("tcp://:5432/x", None),
        ("https://:8080/", None),
        ("8080", None),
    ];
    for (text, expected) in cases {
        assert_eq!(text.parse().ok(), expected, "{text}");
    }
}

/// A server that answers every connection with these bytes.
async fn server(answer: &'static str) -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut running = JoinSet::new();
    running.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1_024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (port, running)
}

#[tokio::test]
async fn application_is_ready_by_what_it_answers() {
    for (answer, expected) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", Ok(())),
        ("HTTP/1.0 301 Moved\r\n\r\n", Ok(())),
        ("HTTP/1.1 503 Busy\r\n\r\n", Err("status 503".to_owned())),
        ("SSH-2.0\r\n", Err("an answer that is no HTTP".to_owned())),
    ] {
        let (port, _running) = server(answer).await;
        assert_eq!(Probe::Http { port, path: "/".to_owned() }.ask(HERE).await, expected, "{answer}");
        assert_eq!(Probe::Tcp { port }.ask(HERE).await, Ok(()));
        assert!(Probe::Grpc { port, service: String::new() }.ask(HERE).await.is_err());
    }
    let exec = |program: &str| Probe::Exec { program: program.to_owned(), arguments: Vec::new() };
    assert_eq!(exec("true").ask(HERE).await, Ok(()));
    assert!(exec("false").ask(HERE).await.unwrap_err().contains("exit status"));
    assert!(exec("/no/such/program").ask(HERE).await.is_err());
}

#[tokio::test]
async fn server_of_grpc_is_ready_when_it_says_serving() {
    for (state, is_ready) in [(1, true), (2, false)] {
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut running = JoinSet::new();
        running.spawn(async move {
            let mut connection = h2::server::handshake(listener.accept().await.unwrap().0).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                assert_eq!(request.uri().path(), grpc_health::PATH);
                let mut send = respond.send_response(http::Response::new(()), false).unwrap();
                send.send_data(Bytes::from(vec![0, 0, 0, 0, 2, 8, state]), true).unwrap();
            }
        });
        let answer = Probe::Grpc { port, service: "shop".to_owned() }.ask(HERE).await;
        assert_eq!(answer.is_ok(), is_ready, "{answer:?}");
    }
}

#[tokio::test]
async fn application_that_is_not_ready_is_missing_until_it_is_and_again_after_three_failures() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("ready");
    let probe =
        Probe::Exec { program: "test".to_owned(), arguments: vec!["-e".to_owned(), file.display().to_string()] };
    let missing = Arc::new(watch::Sender::new(BTreeSet::from([MISSING_APPLICATION.to_owned()])));
    let mut seen = missing.subscribe();
    let mut running = JoinSet::new();
    running.spawn(watch(probe, HERE, missing));
    for is_ready in [true, false, true] {
        match is_ready {
            true => std::fs::write(&file, "").unwrap(),
            false => std::fs::remove_file(&file).unwrap(),
        }
        seen.wait_for(|missing| missing.is_empty() == is_ready).await.unwrap();
    }
}
