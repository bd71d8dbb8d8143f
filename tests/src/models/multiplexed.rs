//! Calls over HTTP/2 with prior knowledge, many on one connection, by a client that sees how each stream ends.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client::SendRequest};
use http::{Method, Request, Response};
use serde_json::Value;
use tokio::{net::TcpStream, task::JoinHandle};

use super::events::{Answer, Ended};
use crate::{client::LIMIT, wait::within};

/// A connection; ends when dropped.
pub struct Multiplexed {
    send: SendRequest<Bytes>,
    connection: JoinHandle<()>,
}

impl Multiplexed {
    /// Connects.
    ///
    /// # Panics
    /// When nobody speaks HTTP/2 there.
    pub async fn open(to: SocketAddr) -> Multiplexed {
        let io = TcpStream::connect(to).await.unwrap_or_else(|error| panic!("connect to {to}: {error}"));
        let (send, connection) = h2::client::handshake(io).await.expect("HTTP/2 is spoken");
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        Multiplexed { send, connection }
    }

    /// Sends a request with a JSON body and reads its answer to its end.
    ///
    /// # Panics
    /// When there is none.
    pub async fn post(&self, host: &str, path: &str, body: &Value) -> Answered {
        self.begin(host, path, &[], body).await.rest().await
    }

    /// Sends a request with a JSON body and returns when the head of its answer is there.
    ///
    /// # Panics
    /// When there is none.
    pub async fn begin(&self, host: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Begun {
        let mut request = Request::builder().method(Method::POST).uri(format!("http://{host}{path}"));
        request = request.header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a test writes valid requests");
        let mut ready =
            within("room for a stream", LIMIT, self.send.clone().ready()).await.expect("the connection lives");
        let (response, mut sending) = ready.send_request(request, false).expect("the connection lives");
        sending.send_data(body.to_string().into(), true).expect("the stream lives");
        let (head, body) = within("an answer", LIMIT, response).await.expect("an answer").into_parts();
        Begun { head: Response::from_parts(head, ()), body, sending, came: Vec::new() }
    }
}

impl Drop for Multiplexed {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// An answer that has begun.
pub struct Begun {
    head: Response<()>,
    body: RecvStream,
    sending: SendStream<Bytes>,
    came: Vec<u8>,
}

/// A whole answer, or what came of one.
#[derive(Debug)]
pub struct Answered {
    /// The answer; [`Ended::Properly`] with the end of its stream, [`Ended::Reset`] with RST_STREAM, [`Ended::Cut`] with
    /// the connection.
    pub answer: Answer,
    /// Code of the reset.
    pub reset: Option<Reason>,
}

impl Begun {
    /// Reads until this text has come.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn until(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.came).contains(text) {
            let part = within("more of the answer", LIMIT, self.body.data()).await;
            self.take(&part.expect("the answer goes on").expect("the stream lives"));
        }
    }

    fn take(&mut self, bytes: &Bytes) {
        self.came.extend_from_slice(bytes);
        let _ = self.body.flow_control().release_capacity(bytes.len());
    }

    /// The client wants no more of it.
    pub fn cancel(mut self) {
        self.sending.send_reset(Reason::CANCEL);
    }

    /// Reads to the end.
    pub async fn rest(mut self) -> Answered {
        let mut reset = None;
        let ended = loop {
            match within("the end of the answer", LIMIT, self.body.data()).await {
                Some(Ok(bytes)) => self.take(&bytes),
                None => break Ended::Properly,
                Some(Err(error)) if error.is_reset() => {
                    reset = error.reason();
                    break Ended::Reset;
                }
                Some(Err(_)) => break Ended::Cut,
            }
        };
        let fields = self.head.headers().iter();
        let headers = fields.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()));
        let status = self.head.status().as_u16();
        Answered { answer: Answer { status, headers: headers.collect(), body: self.came, ended }, reset }
    }
}
