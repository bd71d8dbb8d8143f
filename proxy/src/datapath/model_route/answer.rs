//! Answers of our own: why there is none, and which models there are.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use mesh_core::{
    model::model_route::{Api, Dialect, Failure, ModelRoute, NamePattern, Reason},
    model_route::{
        client_error::{self, Repeating},
        models,
        request::Listing,
    },
    names,
    outcome::Outcome,
};

use super::body::Why;
use crate::datapath::{
    lane::Edit,
    message::Headers,
    relay::{Downstream, Failed, Http2ResponseHead, Last, Part, ResponseHead},
};

/// Field that names the target which served.
const TARGET: &str = "x-mesh-model-target";
/// Field that tells how many targets were asked.
const ATTEMPTS: &str = "x-mesh-model-attempts";
/// Field that tells the milliseconds before the target that served was asked.
const OVERHEAD: &str = "x-mesh-overhead-ms";

/// Field that tells why a request could not have gone to another target.
const UNHELD: &str = "x-mesh-model-unheld";
/// Field that tells which failures were forced.
const DRILL: &str = "x-mesh-model-drill";

/// What the client is told of a request that was not held.
pub(super) fn of_unheld(why: Why) -> (&'static str, String) {
    (UNHELD, why.as_str().to_owned())
}

/// What the client is told of failures that it forced.
pub(super) fn of_drill(drills: String) -> (&'static str, String) {
    (DRILL, drills)
}

/// What the client is told of the way to its answer; no target where none served.
pub(super) fn told(target: Option<&str>, attempts: usize, overhead: Duration) -> Vec<(&'static str, String)> {
    let overhead = format!("{:.1}", overhead.as_secs_f64() * 1_000.0);
    let mut told = vec![(ATTEMPTS, attempts.to_string()), (OVERHEAD, overhead)];
    told.extend(target.map(|name| (TARGET, name.to_owned())));
    told
}

/// How an exchange ends whose client is told of this failure.
pub(super) fn outcome(failure: &Failure) -> Outcome {
    match failure.reason {
        Reason::BadRequest | Reason::Context | Reason::ContentFilter | Reason::NotFound => Outcome::BadRequest,
        Reason::Rate | Reason::Quota | Reason::Overloaded => Outcome::Overloaded,
        Reason::Connect => Outcome::ConnectFailed,
        Reason::TimeoutHeaders | Reason::TimeoutFirstToken | Reason::Stall => Outcome::Timeout,
        Reason::Reset | Reason::Server | Reason::Auth => Outcome::UpstreamReset,
        Reason::Empty | Reason::Decode => Outcome::UpstreamProtocol,
    }
}

/// Fields and body by which a client learns of a failure in its own dialect.
pub(super) fn of_failure(api: Api, failure: &Failure) -> (Vec<(&'static str, String)>, Vec<u8>) {
    let mut fields = client_error::fields(failure, Repeating::after(failure.reason));
    fields.push((names::ERROR_HEADER, format!("model_{}", failure.reason.as_str())));
    fields.push(("content-type", client_error::CONTENT_TYPE.to_owned()));
    (fields, client_error::body(api.dialect(), failure))
}

/// Gives an answer whose body is JSON, whole.
pub(super) fn give(
    down: &mut Downstream<'_>,
    status: u16,
    fields: &[(&'static str, String)],
    body: Vec<u8>,
) -> Result<(), Failed> {
    let mut headers = Headers::default();
    headers.0.insert(http::header::CONTENT_LENGTH, body.len().into());
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.0.insert(*name, value);
        }
    }
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY).as_u16();
    begin(down, Http2ResponseHead { status, headers, is_end: body.is_empty() })?;
    down.part(Part::Data(Bytes::from(body), Last::Yes))
}

/// Begins an answer. What a target said of the mesh does not pass; what we say does.
pub(super) fn begin(down: &mut Downstream<'_>, mut head: Http2ResponseHead) -> Result<(), Failed> {
    let mut edit = Edit::own_response();
    let own: Vec<(http::HeaderName, HeaderValue)> = [TARGET, ATTEMPTS, OVERHEAD, UNHELD, DRILL, names::ERROR_HEADER]
        .into_iter()
        .filter_map(|name| head.headers.0.remove(name).map(|value| (http::HeaderName::from_static(name), value)))
        .collect();
    for (name, value) in &own {
        edit.add(name.as_str(), value.as_bytes());
    }
    let request = down.progress();
    down.begin(&ResponseHead::Http2(head), request, &edit)
}

/// The models of a route that can be called by name, or the one that is asked for; `None` where there is none of it.
pub(super) fn models(route: &ModelRoute, listing: &Listing) -> Option<Vec<u8>> {
    match &listing.model {
        Some(name) => {
            let is_there = route.models.iter().any(|model| model.fits(name).is_some());
            is_there.then(|| models::one(name, listing.dialect))
        }
        None => {
            let names: Vec<&str> = route
                .models
                .iter()
                .filter_map(|model| match &model.name {
                    NamePattern::Exact(name) => Some(name.as_str()),
                    NamePattern::Prefix(_) | NamePattern::Any => None,
                })
                .collect();
            Some(models::list(&names, listing.dialect))
        }
    }
}

/// The API in whose shape a question for models is refused.
pub(super) fn api_of(dialect: Dialect) -> Api {
    match dialect {
        Dialect::Openai => Api::ChatCompletions,
        Dialect::Anthropic => Api::Messages,
        Dialect::Gemini => Api::GenerateContent,
    }
}
