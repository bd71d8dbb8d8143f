//! A link of a chain that forwards exactly what a test says, and notes what reached it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use mesh_tests::{
    client::{Body, Connection, full},
    wait::{PATIENCE, pace, until},
};
use tokio::sync::mpsc;

use crate::words::{Protocol, accept};

/// What an application hands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forward {
    Header,
    Baggage,
    TraceParent,
    B3,
    Sw8,
    Nothing,
}

impl Forward {
    fn field(self) -> Option<&'static str> {
        match self {
            Forward::Header => Some("x-mesh-lane"),
            Forward::Baggage => Some("baggage"),
            Forward::TraceParent => Some("traceparent"),
            Forward::B3 => Some("b3"),
            Forward::Sw8 => Some("sw8"),
            Forward::Nothing => None,
        }
    }

    /// Fields of the call that a request with these fields leads to. A tracing application whose request belongs to no
    /// trace begins one.
    fn fields(self, incoming: &HeaderMap) -> Vec<(&'static str, String)> {
        let Some(name) = self.field() else { return Vec::new() };
        let taken = incoming.get_all(name).iter().filter_map(|value| Some((name, value.to_str().ok()?.to_owned())));
        let mut fields: Vec<_> = taken.collect();
        if fields.is_empty() {
            fields.extend(self.own_trace().map(|value| (name, value)));
        }
        fields
    }

    fn own_trace(self) -> Option<String> {
        let (trace, span) = (rand::random::<u128>() | 1, rand::random::<u64>() | 1);
        match self {
            Forward::TraceParent => Some(format!("00-{trace:032x}-{span:016x}-01")),
            Forward::B3 => Some(format!("{trace:032x}-{span:016x}-1")),
            Forward::Header | Forward::Baggage | Forward::Sw8 | Forward::Nothing => None,
        }
    }
}

/// When an application calls the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Before it answers.
    Now,
    /// Before it answers, after thinking this long.
    Slow(Duration),
    /// This long after it answered.
    Late(Duration),
    /// After it answered, through a worker that the first request started and that keeps what that request carried.
    Worker,
}

/// A request that reached an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) instance: String,
    pub(crate) path: String,
    /// Lane of the header as the application saw it, without its group; `-` where there was none.
    pub(crate) label: String,
}

/// All that reached the instances of a chain, in order.
#[derive(Clone, Default)]
pub(crate) struct Record(Arc<Mutex<Vec<Arrival>>>);

impl Record {
    /// So far.
    pub(crate) fn all(&self) -> Vec<Arrival> {
        self.0.lock().expect("no panic while held").clone()
    }

    /// Waits for the request with this path at an instance of `service`.
    pub(crate) async fn arrival(&self, service: &str, path: &str) -> Arrival {
        let fits = |arrival: &&Arrival| arrival.path == path && service_of(&arrival.instance) == service;
        until(&format!("{path} reaches {service}"), PATIENCE, || {
            std::future::ready(self.0.lock().expect("no panic while held").iter().find(fits).cloned())
        })
        .await
    }

    fn note(&self, arrival: Arrival) {
        self.0.lock().expect("no panic while held").push(arrival);
    }
}

/// The service of an instance: instances of lanes are called `<service>-<lane>`.
pub(crate) fn service_of(instance: &str) -> &str {
    instance.split('-').next().unwrap_or_default()
}

/// What a link forwards of the request with this path.
pub(crate) type Choice = Arc<dyn Fn(&str) -> Forward + Send + Sync>;

/// When a link makes the call to which the request with this path leads.
pub(crate) type Timing = Arc<dyn Fn(&str) -> Behaviour + Send + Sync>;

/// A link.
pub(crate) struct Link {
    pub(crate) name: String,
    /// Outbound port of its sidecar.
    pub(crate) outbound: SocketAddr,
    /// Service that it calls.
    pub(crate) next: Option<String>,
    pub(crate) timing: Timing,
    pub(crate) forward: Choice,
    pub(crate) record: Record,
    pub(crate) idle: Idle,
    pub(crate) worker: OnceLock<mpsc::UnboundedSender<String>>,
}

/// Connections of an application to its sidecar, kept between calls.
#[derive(Default)]
pub(crate) struct Idle(Mutex<Vec<(Protocol, Connection)>>);

impl Idle {
    /// Calls over a kept connection of this protocol, or a new one.
    pub(crate) async fn call(
        &self,
        protocol: Protocol,
        to: SocketAddr,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<String> {
        let mut connection = match self.take(protocol) {
            Some(connection) => connection,
            None => Connection::open(to, protocol.version()).await?,
        };
        let answer = protocol.call(&mut connection, host, path, headers).await?;
        if protocol != Protocol::WebSocket {
            self.0.lock().expect("no panic while held").push((protocol, connection));
        }
        Ok(answer)
    }

    fn take(&self, protocol: Protocol) -> Option<Connection> {
        let mut idle = self.0.lock().expect("no panic while held");
        let at = idle.iter().rposition(|(kept, _)| *kept == protocol)?;
        Some(idle.swap_remove(at).1)
    }
}

impl Link {
    /// Answers one request.
    pub(crate) async fn answer(self: Arc<Link>, mut incoming: Request<Incoming>) -> Response<Body> {
        let protocol = Protocol::of(&incoming);
        let path = incoming.uri().path().to_owned();
        let label = incoming.headers().get("x-mesh-lane").and_then(|value| value.to_str().ok()).unwrap_or("-");
        let label = label.rsplit('/').next().unwrap_or_default().to_owned();
        let own = format!("{}[{label}]", self.name);
        self.record.note(Arrival { instance: self.name.clone(), path: path.clone(), label });
        let text = match self.follow(protocol, path, incoming.headers()).await {
            Ok(Some(rest)) => format!("{own} {rest}"),
            Ok(None) => own,
            Err(error) => return failed(&own, &error),
        };
        match protocol {
            Protocol::WebSocket => accept(&mut incoming, text),
            Protocol::Http1 | Protocol::Http2 | Protocol::Grpc => protocol.answer(text),
        }
    }

    /// Makes the call that a request leads to; the answer of the next link where it is waited for.
    async fn follow(
        self: &Arc<Link>,
        protocol: Protocol,
        path: String,
        incoming: &HeaderMap,
    ) -> anyhow::Result<Option<String>> {
        if self.next.is_none() {
            return Ok(None);
        }
        let fields = (self.forward)(&path).fields(incoming);
        match (self.timing)(&path) {
            Behaviour::Now => return self.call(protocol, &path, &fields).await.map(Some),
            Behaviour::Slow(thought) => {
                pace(thought).await;
                return self.call(protocol, &path, &fields).await.map(Some);
            }
            Behaviour::Late(after) => {
                let link = Arc::clone(self);
                tokio::spawn(async move {
                    pace(after).await;
                    link.call(protocol, &path, &fields).await
                });
            }
            Behaviour::Worker => {
                let worker = self.worker.get_or_init(|| Arc::clone(self).work(protocol, fields));
                worker.send(path)?;
            }
        }
        Ok(None)
    }

    fn work(self: Arc<Link>, protocol: Protocol, fields: Vec<(&'static str, String)>) -> mpsc::UnboundedSender<String> {
        let (paths, mut taken) = mpsc::unbounded_channel::<String>();
        tokio::spawn(async move {
            while let Some(path) = taken.recv().await {
                // A call that fails arrives nowhere, which the test sees.
                let _ = self.call(protocol, &path, &fields).await;
            }
        });
        paths
    }

    async fn call(&self, protocol: Protocol, path: &str, fields: &[(&str, String)]) -> anyhow::Result<String> {
        let next = self.next.as_deref().unwrap_or_default();
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.idle.call(protocol, self.outbound, next, path, &fields).await
    }
}

fn failed(own: &str, error: &anyhow::Error) -> Response<Body> {
    let mut answer = Response::new(full(format!("{own} !{error:#}")));
    *answer.status_mut() = StatusCode::BAD_GATEWAY;
    answer
}
