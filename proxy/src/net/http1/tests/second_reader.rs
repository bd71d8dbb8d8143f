//! What we forward, as another implementation reads it: hyper, as strict or lenient as it happens to be.

use std::{cell::RefCell, convert::Infallible, rc::Rc};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::pieces::{forward_first, stream};

/// Methods and bodies of the requests that hyper finds; `None` for a body that it refuses.
async fn read_by_hyper(text: &[u8]) -> Vec<(String, Option<Vec<u8>>)> {
    let found = Rc::new(RefCell::new(Vec::new()));
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let service = service_fn(|request: Request<Incoming>| {
        let found = found.clone();
        async move {
            let method = request.method().to_string();
            let body = request.into_body().collect().await.ok().map(|body| body.to_bytes().to_vec());
            found.borrow_mut().push((method, body));
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let serve = async {
        // A refusal is a result too: what it found before counts.
        http1::Builder::new().half_close(true).serve_connection(TokioIo::new(server), service).await.ok();
    };
    let send = async {
        client.write_all(text).await.expect("the pipe holds every test's input");
        client.shutdown().await.expect("the pipe was open");
        client.read_to_end(&mut Vec::new()).await.expect("the server ends the pipe in order");
    };
    tokio::join!(serve, send);
    found.take()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hyper_finds_the_one_request_that_was_forwarded(text in stream()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
        if let Some((method, body, upstream)) = forward_first(&text) {
            let found = runtime.block_on(read_by_hyper(&upstream));
            prop_assert_eq!(found, vec![(method, Some(body))], "{:?}", String::from_utf8_lossy(&upstream));
        }
    }
}
