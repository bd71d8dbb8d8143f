//! One connection while it lives: set up, asked, kept alive, and told of changes.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use mesh_proto::nacos::{Payload, bi_request_stream_client::BiRequestStreamClient, request_client::RequestClient};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::{
    Address, CALL_TIMEOUT, CONNECT_TIMEOUT, Cause, Error, Event, MESSAGE_MAX, Options,
    dial::{Connection, Protocol, dial, local_ip},
    message::{ConfigChanged, ConnectReset, ConnectionSetup, Head, HealthCheck, Listed, Request, ServerCheck},
    payload::{self, Sender},
};

/// What we call ourselves; servers read the part before the first colon, and enable by it what a client understands.
const CLIENT_VERSION: &str = concat!("Lanemesh:v", env!("CARGO_PKG_VERSION"));
/// A connection is asked for a sign of life this often …
const HEALTH_INTERVAL: Duration = Duration::from_secs(3);
/// … which must come within this time …
const HEALTH_TIMEOUT: Duration = Duration::from_secs(3);
/// … at the last of this many attempts: together 9 s, and no pause of a server's collector ends a connection.
const HEALTH_ATTEMPTS: u32 = 2;
/// How often a server that took our setup is asked whether it knows us by now.
const SETUP_INTERVAL: Duration = Duration::from_millis(20);
/// Answers to requests of the server that wait to be sent.
const ANSWER_QUEUE: usize = 64;
/// Code by which a server says that it does not know this connection (any more).
const UNREGISTERED: i64 = 301;

/// A connection that is set up. Whoever holds one may ask; when it ends, everything asked ends.
pub(super) struct Session {
    /// Name of the server with the address, for errors and events.
    pub(super) server: Arc<str>,
    /// Where HTTP is spoken with the same server.
    pub(super) address: Address,
    requests: RequestClient<Channel>,
    ip: String,
    next: AtomicU64,
    ended: CancellationToken,
    unregistered: CancellationToken,
}

/// What a server tells; the output is why it stopped.
type Pushes = Pin<Box<dyn Future<Output = Cause> + Send>>;

impl Session {
    /// Connects to a server and sets the connection up. The pushes must be polled by who owns it.
    pub(super) async fn open(
        options: &Options,
        address: &Address,
        token: Option<&str>,
        events: mpsc::Sender<Event>,
    ) -> Result<(Arc<Session>, Pushes), Error> {
        let server: Arc<str> = options.shown(address).into();
        let failed = |cause| Error { server: Arc::clone(&server), request: "connect", cause };
        let open = Self::set_up(options, address, token, events, Arc::clone(&server));
        timeout(CONNECT_TIMEOUT, open).await.unwrap_or(Err(Cause::Silent(CONNECT_TIMEOUT))).map_err(failed)
    }

    async fn set_up(
        options: &Options,
        address: &Address,
        token: Option<&str>,
        events: mpsc::Sender<Event>,
        server: Arc<str>,
    ) -> Result<(Arc<Session>, Pushes), Cause> {
        let connection = dial(&address.host, address.grpc_port, options.tls.as_ref(), Protocol::Http2).await?;
        let ip = local_ip(&connection);
        let channel = channel(connection, address, options).await?;
        let session = Arc::new(Session {
            server,
            address: address.clone(),
            requests: RequestClient::new(channel.clone()).max_decoding_message_size(MESSAGE_MAX),
            ip,
            next: AtomicU64::new(1),
            ended: CancellationToken::new(),
            unregistered: CancellationToken::new(),
        });
        session.ask(token, &ServerCheck {}, CONNECT_TIMEOUT).await?;
        let (answers, outgoing) = mpsc::channel(ANSWER_QUEUE);
        let setup = payload::request(&setup(&options.namespace), 0, &Sender { ip: &session.ip, token });
        answers.try_send(setup).expect("a new queue has room");
        let pushes = Pushed { session: Arc::clone(&session), namespace: options.namespace.clone(), answers, events };
        let client = BiRequestStreamClient::new(channel).max_decoding_message_size(MESSAGE_MAX);
        let mut pushes: Pushes = Box::pin(pushes.run(client, outgoing));
        tokio::select! {
            cause = &mut pushes => return Err(cause),
            registered = session.registered(token) => registered?,
        }
        Ok((session, pushes))
    }

    /// Waits until the server knows the connection: the setup is not answered.
    async fn registered(&self, token: Option<&str>) -> Result<(), Cause> {
        let mut tick = interval(SETUP_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            match self.ask(token, &HealthCheck {}, CONNECT_TIMEOUT).await {
                Ok(_) => return Ok(()),
                Err(Cause::Refused { code: UNREGISTERED, .. }) => (),
                Err(cause) => return Err(cause),
            }
        }
    }

    /// Asks the server.
    ///
    /// # Errors
    /// What it says, or that it says nothing in time, or that the connection ended meanwhile.
    pub(super) async fn call<R: Request>(&self, token: Option<&str>, request: &R) -> Result<R::Response, Error> {
        let answered = tokio::select! {
            answered = self.ask(token, request, CALL_TIMEOUT) => answered,
            () = self.ended.cancelled() => Err(Cause::Ended("while it was asked".to_owned())),
        };
        if let Err(Cause::Refused { code: UNREGISTERED, .. }) = &answered {
            self.unregistered.cancel();
        }
        answered.map_err(|cause| Error { server: Arc::clone(&self.server), request: R::CLASS, cause })
    }

    async fn ask<R: Request>(&self, token: Option<&str>, request: &R, wait: Duration) -> Result<R::Response, Cause> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let payload = payload::request(request, id, &Sender { ip: &self.ip, token });
        let mut requests = self.requests.clone();
        let answered = timeout(wait, requests.request(payload)).await.map_err(|_| Cause::Silent(wait))?;
        payload::response(answered.map_err(|status| Cause::Call(Box::new(status)))?.into_inner())
    }

    /// Keeps asking for signs of life until none comes, or the server no longer knows us.
    pub(super) async fn lives(&self) -> Cause {
        let mut tick = interval(HEALTH_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.unregistered.cancelled() => {
                    return Cause::Ended("the server does not know it any more".to_owned());
                }
                _ = tick.tick() => (),
            }
            let mut attempt = 1;
            loop {
                match self.ask(None, &HealthCheck {}, HEALTH_TIMEOUT).await {
                    Ok(_) => break,
                    Err(Cause::Silent(_)) if attempt < HEALTH_ATTEMPTS => attempt += 1,
                    Err(Cause::Silent(wait)) => return Cause::Silent(wait * attempt),
                    // Asked for a login, it lives.
                    Err(Cause::Denied { .. }) => break,
                    Err(cause) => return cause,
                }
            }
        }
    }

    /// Ends everything that is asked.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }
}

/// gRPC over a connection that is made already, and never over another one.
async fn channel(connection: Connection, address: &Address, options: &Options) -> Result<Channel, Cause> {
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    // A host that is no authority has a stand-in: nothing is dialled by it.
    let origin = format!("{scheme}://{}:{}", address.host, address.grpc_port);
    let origin: Uri = origin.parse().unwrap_or_else(|_| Uri::from_static("http://nacos"));
    let made = Arc::new(Mutex::new(Some(TokioIo::new(connection))));
    let connector = service_fn(move |_: Uri| {
        let made = made.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move { made.ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the connection is over")) }
    });
    let endpoint = Endpoint::from_static("http://nacos").origin(origin);
    endpoint.connect_with_connector(connector).await.map_err(|error| {
        let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        Cause::Ended(format!("no HTTP/2: {cause}"))
    })
}

fn setup(namespace: &str) -> ConnectionSetup<'_> {
    ConnectionSetup {
        client_version: CLIENT_VERSION,
        tenant: namespace,
        labels: [("source", "sdk"), ("module", "naming"), ("AppName", "lanemesh")].into(),
        abilities: [
            ("remoteAbility", [("supportRemoteConnection", true)].into()),
            ("configAbility", [("supportRemoteMetrics", false)].into()),
            ("namingAbility", [("supportDeltaPush", false), ("supportRemoteMetric", false)].into()),
        ]
        .into(),
    }
}

/// Reads what the server tells.
struct Pushed {
    session: Arc<Session>,
    namespace: String,
    answers: mpsc::Sender<Payload>,
    events: mpsc::Sender<Event>,
}

impl Pushed {
    /// Ends with the stream. It is answered by servers at its first message only, which may be much later.
    async fn run(self, mut client: BiRequestStreamClient<Channel>, outgoing: mpsc::Receiver<Payload>) -> Cause {
        let opened = client.request_bi_stream(ReceiverStream::new(outgoing)).await;
        let mut stream = match opened {
            Ok(stream) => stream.into_inner(),
            Err(status) => return Cause::Call(Box::new(status)),
        };
        loop {
            match stream.message().await {
                Ok(Some(payload)) => {
                    if let Err(cause) = self.take(payload).await {
                        return cause;
                    }
                }
                Ok(None) => return Cause::Ended("closed by the server".to_owned()),
                Err(status) => return Cause::Call(Box::new(status)),
            }
        }
    }

    /// Answers a request of the server and passes on what it says. An error ends the connection.
    async fn take(&self, payload: Payload) -> Result<(), Cause> {
        let (class, json) = payload::opened(payload);
        let Some(answer) = class.strip_suffix("Request") else {
            tracing::debug!(server = %self.session.server, class, "a push of unknown kind");
            return Ok(());
        };
        // Answered first, also where it cannot be read: to be sent the same again would help nobody.
        let id = payload::read::<Head>(&json).unwrap_or_default().request_id.0;
        let answer = payload::acknowledged(&format!("{answer}Response"), &id, &self.session.ip);
        if self.answers.send(answer).await.is_err() {
            return Err(Cause::Ended("the stream takes no answers".to_owned()));
        }
        let event = match class.as_str() {
            "NotifySubscriberRequest" => self.listing(&json),
            "ConfigChangeNotifyRequest" => payload::read::<ConfigChanged>(&json)
                .map(|changed| Event::ConfigChanged { data_id: changed.data_id.0, group: changed.group.0 }),
            "ConnectResetRequest" => return Err(moved(&json)),
            // Asks for a sign of life, or acknowledges abilities.
            _ => return Ok(()),
        };
        let unreadable = |cause| {
            let server = Arc::clone(&self.session.server);
            Event::Unreadable(Arc::new(Error { server, request: "push", cause }))
        };
        // Fails only when nobody wants to know any more.
        drop(self.events.send(event.unwrap_or_else(unreadable)).await);
        Ok(())
    }

    fn listing(&self, json: &[u8]) -> Result<Event, Cause> {
        let listed: Listed = payload::read(json)?;
        let info = listed.service_info.ok_or_else(|| Cause::Malformed("there is no service in it".to_owned()))?;
        Ok(Event::Pushed(info.listing(&self.namespace)))
    }
}

/// Where a server sends us.
fn moved(json: &[u8]) -> Cause {
    let reset: ConnectReset = payload::read(json).unwrap_or_default();
    let port = reset.server_port.0.parse().ok();
    let to = port.filter(|_| !reset.server_ip.0.is_empty()).map(|port| (reset.server_ip.0, port));
    Cause::Moved { to }
}
