//! A server that speaks the protocol and does what no real one can be made to do: says what cannot be read, falls
//! silent, and sends clients away.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use mesh_core::resources::nacos::Address;
use mesh_proto::nacos::{
    Any, Metadata, Payload,
    bi_request_stream_server::{BiRequestStream, BiRequestStreamServer},
    request_server::{Request, RequestServer},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Response, Status, Streaming, transport::server::TcpIncoming};

/// Pushes that wait.
const QUEUE: usize = 16;

/// The server; it ends when dropped.
pub(crate) struct Fake {
    pub(crate) address: Address,
    script: Arc<Script>,
    _serving: JoinSet<()>,
}

/// What it does.
#[derive(Default)]
struct Script {
    /// JSON of the answer by class of the request; what is not here is answered well and empty.
    answers: Mutex<BTreeMap<String, String>>,
    /// Answers nothing any more.
    silent: AtomicBool,
    /// The stream of the newest connection.
    pushes: watch::Sender<Option<mpsc::Sender<Result<Payload, Status>>>>,
    /// Classes of what clients said on their streams.
    heard: watch::Sender<Vec<String>>,
}

impl Fake {
    pub(crate) async fn start() -> Fake {
        Fake::at("127.0.0.1").await
    }

    /// One at an address of its own.
    pub(crate) async fn at(host: &str) -> Fake {
        let listener = TcpListener::bind((host, 0)).await.expect("a free port");
        let at: SocketAddr = listener.local_addr().expect("a bound port");
        let script = Arc::new(Script::default());
        let serving = tonic::transport::Server::builder()
            .add_service(RequestServer::from_arc(Arc::clone(&script)))
            .add_service(BiRequestStreamServer::from_arc(Arc::clone(&script)))
            .serve_with_incoming(TcpIncoming::from(listener));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(serving.await) });
        let address = Address { host: at.ip().to_string(), port: 1, grpc_port: at.port() };
        Fake { address, script, _serving: tasks }
    }

    /// Answers requests of this class so from now on.
    pub(crate) fn answer(&self, class: &str, json: &str) {
        self.script.answers.lock().unwrap().insert(class.to_owned(), json.to_owned());
    }

    /// Answers nothing any more, like a process that was stopped.
    pub(crate) fn fall_silent(&self) {
        self.script.silent.store(true, Ordering::SeqCst);
    }

    /// Says something on the stream of the newest connection.
    pub(crate) async fn push(&self, class: &str, json: &str) {
        let mut pushes = self.script.pushes.subscribe();
        let stream = pushes.wait_for(Option::is_some).await.expect("the script lives").clone();
        let pushed = stream.expect("a stream").send(Ok(payload(class, json))).await;
        pushed.expect("the client listens");
    }

    /// Waits until a client said this on its stream.
    pub(crate) async fn hears(&self, class: &str) {
        let mut heard = self.script.heard.subscribe();
        let all = heard.wait_for(|heard| heard.iter().any(|one| one == class)).await;
        drop(all.expect("the script lives"));
    }
}

fn payload(class: &str, json: &str) -> Payload {
    let metadata = Metadata { r#type: class.to_owned(), ..Metadata::default() };
    let body = Any { type_url: String::new(), value: json.as_bytes().to_vec() };
    Payload { metadata: Some(metadata), body: Some(body) }
}

#[tonic::async_trait]
impl Request for Script {
    async fn request(&self, request: tonic::Request<Payload>) -> Result<Response<Payload>, Status> {
        if self.silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let class = request.into_inner().metadata.unwrap_or_default().r#type;
        let answer = self.answers.lock().unwrap().get(&class).cloned();
        let answer = answer.unwrap_or_else(|| r#"{"resultCode":200,"errorCode":0}"#.to_owned());
        Ok(Response::new(payload(&class.replace("Request", "Response"), &answer)))
    }
}

#[tonic::async_trait]
impl BiRequestStream for Script {
    type RequestBiStreamStream = Pin<Box<dyn Stream<Item = Result<Payload, Status>> + Send>>;

    async fn request_bi_stream(
        &self,
        request: tonic::Request<Streaming<Payload>>,
    ) -> Result<Response<Self::RequestBiStreamStream>, Status> {
        let (sender, pushes) = mpsc::channel(QUEUE);
        self.pushes.send_replace(Some(sender));
        let heard = self.heard.clone();
        // What the client says is read as long as it is told something.
        let listening = request.into_inner().filter_map(move |said| {
            let class = said.unwrap_or_default().metadata.unwrap_or_default().r#type;
            heard.send_modify(|heard| heard.push(class));
            None
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(pushes).merge(listening))))
    }
}
