//! `mesh-ctl model try`: one real request through a sidecar. Its text goes to standard output as it comes; who served it,
//! how fast, and what it used is said beside it.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use mesh_core::{model::model_route::NamePattern, names};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use super::heard::Heard;
use crate::{
    args::{Try, TryApi},
    cluster::Controller,
    exit::{Exit, Failure},
    output::{self, Format},
};

/// Longest wait for a connection to the sidecar.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer that is read, bytes.
const ANSWER_MAX: usize = 64 << 20;
/// Longest answer that is asked for, tokens; Anthropic's API insists on a bound.
const TOKENS_MAX: u32 = 1_024;

/// What came of the request.
#[derive(Debug)]
struct Came {
    status: u16,
    target: Option<String>,
    attempts: Option<String>,
    overhead: Option<String>,
    /// Time to the head of the answer.
    head: Duration,
    /// Time to the first text.
    first: Option<Duration>,
    /// Time to the end.
    whole: Duration,
    heard: Heard,
    /// Why it is none, if so.
    problem: Option<String>,
}

/// Sends a request and shows what comes.
///
/// # Errors
/// When the sidecar cannot be reached, or no host is known.
pub(super) async fn run(controller: &Controller, request: &Try) -> Result<Exit, Failure> {
    let host = match &request.host {
        Some(host) => host.clone(),
        None => host_of(controller, &request.model).await?,
    };
    let authority = request.proxy.authority().map(ToString::to_string).unwrap_or_default();
    let unreachable = |error: anyhow::Error| {
        Failure::unreachable(format!("cannot reach the sidecar at {authority}"), error)
            .advise("--proxy takes the address at which the calls of an application reach its sidecar")
    };
    let (name, port) = (request.proxy.host().unwrap_or_default(), request.proxy.port_u16().unwrap_or(80));
    let begun = Instant::now();
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect((name, port)));
    let stream = stream.await.map_err(|_| unreachable(anyhow!("no connection within {CONNECT_TIMEOUT:?}")))?;
    let stream = stream.map_err(|error| unreachable(error.into()))?;
    if request.output == Format::Table {
        output::progress(&format!("POST http://{host}{} through {authority} …", path(request.api)));
    }
    let wait = request.wait;
    let came = timeout(wait, exchange(stream, request, &host, begun)).await;
    let came = came.map_err(|_| Failure::plain(format!("no whole answer within {} s", wait.as_secs())))?;
    let came = came.map_err(|error| Failure::not_well("the sidecar gave no answer", error))?;
    match output::structured(&described(request, &host, &came), request.output)? {
        Some(text) => output::print(&text),
        None => {
            if !came.heard.text.is_empty() {
                output::print("\n");
            }
            output::progress(&facts(&came));
        }
    }
    Ok(if came.problem.is_none() { Exit::Well } else { Exit::NotWell })
}

/// A host at which the model can be called.
async fn host_of(controller: &Controller, model: &str) -> Result<String, Failure> {
    let advice = "name the host with --host";
    let routes = controller.items("models").await.map_err(|failure| failure.advise(advice))?;
    let fits = |pattern: &Value| {
        let pattern = pattern.as_str().and_then(|text| text.parse::<NamePattern>().ok());
        pattern.is_some_and(|pattern| pattern.covers(&NamePattern::Exact(model.to_owned())))
    };
    let has = |route: &&Value| route["models"].as_array().into_iter().flatten().any(|of| fits(&of["name"]));
    let host = routes.iter().find(has).and_then(|route| route["hosts"][0].as_str());
    host.map(str::to_owned).ok_or_else(|| {
        Failure::plain(format!("no model route has a model {model}"))
            .advise("`mesh-ctl model list` shows what there is")
    })
}

fn path(api: TryApi) -> &'static str {
    match api {
        TryApi::Chat => "/v1/chat/completions",
        TryApi::Messages => "/v1/messages",
    }
}

fn body(request: &Try) -> Value {
    let messages = json!([{ "role": "user", "content": request.message }]);
    let mut body = json!({ "model": request.model, "messages": messages });
    if request.stream {
        body["stream"] = json!(true);
    }
    match request.api {
        TryApi::Chat if request.stream => body["stream_options"] = json!({ "include_usage": true }),
        TryApi::Chat => {}
        TryApi::Messages => body["max_tokens"] = json!(TOKENS_MAX),
    }
    body
}

async fn exchange(stream: TcpStream, asked: &Try, host: &str, begun: Instant) -> anyhow::Result<Came> {
    stream.set_nodelay(true)?;
    let mut request = Request::builder()
        .method("POST")
        .uri(path(asked.api))
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(lane) = &asked.lane {
        request = request.header(names::LANE_HEADER, lane);
    }
    let request = request.body(Full::new(Bytes::from(body(asked).to_string()))).context("host or lane")?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let response = sender.send_request(request).await?;
        Ok(listen(response, asked, begun).await)
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = answer.as_mut() => answer,
        // How it ended is also heard by who listens, behind what came before.
        _ = connection => answer.await,
    }
}

/// Takes the answer in, and shows its text as it comes.
async fn listen(response: Response<Incoming>, asked: &Try, begun: Instant) -> Came {
    let field = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let is_stream = field("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
    let mut came = Came {
        status: response.status().as_u16(),
        target: field("x-mesh-model-target"),
        attempts: field("x-mesh-model-attempts"),
        overhead: field("x-mesh-overhead-ms"),
        head: begun.elapsed(),
        first: None,
        whole: Duration::ZERO,
        heard: Heard::new(asked.api),
        problem: None,
    };
    let mut whole = Vec::new();
    let mut length = 0;
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let data = match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) => data,
            Ok(Err(_)) => continue,
            Err(error) => {
                came.problem = Some(format!("the answer was cut: {error}"));
                break;
            }
        };
        length += data.len();
        if length > ANSWER_MAX {
            came.problem = Some(format!("the answer is longer than {ANSWER_MAX} bytes"));
            break;
        }
        let text = if is_stream { came.heard.events(&data) } else { String::new() };
        if !is_stream {
            whole.extend_from_slice(&data);
        }
        show(&mut came, &text, asked, begun);
    }
    if !is_stream && came.problem.is_none() {
        came.heard.whole(&whole);
        let text = came.heard.text.clone();
        show(&mut came, &text, asked, begun);
    }
    came.whole = begun.elapsed();
    // What the stream itself says of its failure is said before how it was cut.
    let told = came.heard.error.clone().or(came.problem.take()).or(came.heard.problem());
    came.problem = told.map(|problem| if came.status == 200 { problem } else { format!("{}: {problem}", came.status) });
    came
}

fn show(came: &mut Came, text: &str, asked: &Try, begun: Instant) {
    if text.is_empty() {
        return;
    }
    came.first.get_or_insert_with(|| begun.elapsed());
    if asked.output == Format::Table {
        output::print(text);
    }
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

/// For programs.
fn described(request: &Try, host: &str, came: &Came) -> Value {
    let number = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<f64>().ok());
    json!({
        "model": request.model,
        "host": host,
        "stream": request.stream,
        "status": came.status,
        "well": came.problem.is_none(),
        "problem": came.problem,
        "target": came.target,
        "attempts": came.attempts.as_ref().and_then(|text| text.parse::<u64>().ok()),
        "overheadMs": number(&came.overhead),
        "headMs": milliseconds(came.head),
        "firstTextMs": came.first.map(milliseconds),
        "wholeMs": milliseconds(came.whole),
        "finish": came.heard.finish,
        "usage": { "input": came.heard.input, "output": came.heard.output, "cached": came.heard.cached },
        "text": came.heard.text,
    })
}

/// For people.
fn facts(came: &Came) -> String {
    let known = |count: Option<u64>| count.map_or("?".to_owned(), |count| count.to_string());
    let served = match (&came.problem, &came.target) {
        (None, Some(target)) => format!("served by {target}"),
        (None, None) => "served by no target of a model route: is the host that of one?".to_owned(),
        (Some(problem), _) => format!("failed: {problem}"),
    };
    let attempts = came.attempts.as_deref().unwrap_or("?");
    let first = came.first.map_or("no text".to_owned(), |first| format!("first text after {} ms", milliseconds(first)));
    let Heard { input, output, cached, .. } = &came.heard;
    format!(
        "{served}; {attempts} attempts, {} ms before the one that served was asked\n\
         head after {} ms, {first}, whole after {} ms\n\
         tokens: {} in ({} cached), {} out; finish: {}",
        came.overhead.as_deref().unwrap_or("?"),
        milliseconds(came.head),
        milliseconds(came.whole),
        known(*input),
        known(*cached),
        known(*output),
        came.heard.finish.as_deref().unwrap_or("none"),
    )
}
