//! OpenAI's realtime API: a WebSocket to the first target that can be asked, with the mesh's key, and bytes from then on.
//! Nothing in it is counted, and nobody else is asked once it stands.

use std::sync::Arc;

use bytes::BytesMut;
use mesh_core::{
    model::model_route::{Api, Can, Dialect, Failure, ModelEndpoint, ModelRoute, ModelTarget, Reason},
    model_route::{
        address::{self, Crossing, Place},
        choice::{Before, Unable, Want, choose},
        drill::{self, Turn},
        failure,
    },
    outcome::Outcome,
};

use super::{
    account,
    attempt::{self, Around},
    faults, refuse,
    request::fields,
};
use crate::{
    datapath::{
        enforce::Plan,
        exchange::{self, Ended},
        message::RequestHead,
        relay::Downstream,
        report::Exchange,
    },
    net::{
        deadline::Deadline,
        http1::{HeadReader, end_head, write_field, write_request_line},
    },
};

/// Makes the tunnel.
pub(super) async fn tunnel(
    around: &Around<'_>,
    mut record: Exchange,
    down: &mut Downstream<'_>,
    (route, model): (&Arc<ModelRoute>, Option<String>),
    timer: &mut Deadline,
) -> Ended {
    let chosen = target(around, &record, route, model.as_deref().unwrap_or_default());
    let ready = match chosen {
        Ok(target) => way(around, &record, &target, model.as_deref().unwrap_or_default()).await,
        Err(failure) => Err(failure),
    };
    match ready {
        Ok((head, plan)) => {
            record.head = Some(head);
            record.service = Arc::clone(&plan.service);
            exchange::carry(around.worker, around.connection, (record, plan), down, timer).await
        }
        Err(failure) => refuse(record, down, (Api::ChatCompletions, failure), Vec::new()).await,
    }
}

/// The target that is asked.
fn target(
    around: &Around<'_>,
    record: &Exchange,
    route: &ModelRoute,
    model: &str,
) -> Result<Arc<ModelTarget>, Failure> {
    let worker = around.worker;
    let fitting = route.models.iter().filter_map(|known| Some((known.fits(model)?, known)));
    let Some((_, known)) = fitting.max_by_key(|(exactness, _)| *exactness) else {
        let message = format!("there is no model {model} at this host");
        return Err(Failure { status: 404, message, ..failure::without_answer(Reason::NotFound) });
    };
    let faults = faults(worker, record, (route, known))?;
    let want = Want { model, tools: Can::No, json: Can::No, vision: Can::No, tokens: 0, lane: around.carried.as_ref() };
    let bars = |_: usize, target: &ModelTarget| {
        (target.provider.dialect() != Dialect::Openai).then_some(Unable::Api).or_else(|| {
            let credential = target.credential.as_ref()?;
            worker.providers.credentials.key(credential, worker.now()).is_err().then_some(Unable::Credential)
        })
    };
    let before = Before { tried: &[], last: None, window: None, bars: &bars };
    let standings = worker.providers.standings.borrow();
    let choice = choose((&route.name, known), &standings, &want, before, worker.random(), worker.now());
    let target = choice.and_then(|choice| known.targets.get(choice.target).cloned()).ok_or_else(|| Failure {
        status: 503,
        message: format!("no target of model {model} has a realtime API"),
        ..failure::without_answer(Reason::Overloaded)
    })?;
    match faults.strikes(&target, Turn::First) {
        None => Ok(target),
        Some(reason) => {
            account::count_drill(worker, &route.name, &target, reason);
            Err(drill::forced(target.provider.dialect(), reason))
        }
    }
}

/// The request as the target wants it, and the way there.
async fn way(
    around: &Around<'_>,
    record: &Exchange,
    target: &ModelTarget,
    model: &str,
) -> Result<(RequestHead, Box<Plan>), Failure> {
    let failed = |status, message: String| Failure { status, message, ..failure::without_answer(Reason::Connect) };
    let Some(head) = &record.head else { return Err(failed(500, "an exchange without head".to_owned())) };
    let head = rewritten(around, head, target, model)?;
    let mut plan = attempt::plan(around, target, &head).await.map_err(|refused| failed(503, refused.detail))?;
    plan.limits.idle = around.timers.total;
    Ok((head, plan))
}

fn rewritten(
    around: &Around<'_>,
    head: &RequestHead,
    target: &ModelTarget,
    model: &str,
) -> Result<RequestHead, Failure> {
    let worker = around.worker;
    let (place, prefix) = match &target.endpoint {
        ModelEndpoint::External { prefix, .. } => (Place::Outside, prefix),
        ModelEndpoint::Service { prefix, .. } => (Place::Mesh, prefix),
    };
    let mut bytes = BytesMut::new();
    write_request_line(&mut bytes, "GET", &address::realtime(target.provider, prefix, target.model_name(model)));
    write_field(&mut bytes, "host", attempt::authority(&target.endpoint).as_bytes());
    for (name, value) in &fields(head) {
        if address::passes(name.as_str(), Crossing::SameDialect, place) {
            write_field(&mut bytes, name.as_str(), value.as_bytes());
        } else if name.as_str() == "sec-websocket-protocol"
            && let Some(kept) = value.to_str().ok().and_then(address::protocols)
        {
            write_field(&mut bytes, name.as_str(), kept.as_bytes());
        }
    }
    if let Some(credential) = &target.credential {
        let key = worker.providers.credentials.key(credential, worker.now());
        let (key, _) =
            key.map_err(|error| Failure { message: error.to_string(), ..failure::without_answer(Reason::Auth) })?;
        let (name, value) = address::credential(target.provider, key.secret());
        write_field(&mut bytes, name, value.as_bytes());
    }
    write_field(&mut bytes, "connection", b"upgrade");
    write_field(&mut bytes, "upgrade", b"websocket");
    end_head(&mut bytes);
    match HeadReader::new(worker.config.head_limits).request(&mut bytes) {
        Ok(Some(head)) => Ok(RequestHead::Http1(head)),
        Ok(None) | Err(_) => Err(Failure {
            status: 400,
            message: format!("{}: the request cannot be sent to the target", Outcome::BadRequest.label()),
            ..failure::without_answer(Reason::BadRequest)
        }),
    }
}
