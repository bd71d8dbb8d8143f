//! An exchange with a virtual model: the request taken whole, a target found, its answer given from the first token on.
//!
//! It makes attempts, each of which goes through the steps of any exchange: enforce, lane, pick, reach, relay, report.

mod account;
mod answer;
mod attempt;
mod body;
mod drive;
mod incoming;
mod quota;
mod realtime;
mod request;
#[cfg(test)]
mod tests;
mod told;
mod upload;
pub mod warm;

use std::{future::poll_fn, mem, rc::Rc, sync::Arc};

use mesh_core::{
    model::model_route::{Api, Failure, ModelRoute, Reason, VirtualModel},
    model_route::{
        attempts::{Attempts, Replay},
        drill::Faults,
        failure,
        request::{Call, Generate, Listing, call},
    },
    outcome::Outcome,
    snapshot::Surroundings,
};

use self::{
    account::Account,
    attempt::Around,
    body::Taken,
    drive::{Drive, End},
    quota::Told,
    request::Asking,
};
use super::{
    accept::Connection,
    enforce, entry,
    exchange::Ended,
    lane,
    message::RequestHead,
    relay::{Downstream, Failed},
    report::Exchange,
    trace::Span,
};
use crate::{
    net::deadline::Deadline,
    telemetry::worker::Direction,
    worker::{Role, Worker},
};

/// Turns of the connection in which what was said last of a stream that is cut gets out before the cut.
const TURNS: usize = 8;

/// The route that a request is for.
pub struct Found {
    snapshot: Arc<Surroundings>,
    route: Arc<ModelRoute>,
}

/// Finds the route of a request that an application makes, if it is one to a model.
pub fn find(worker: &Worker, connection: &Connection, exchange: &Exchange) -> Option<Found> {
    // A gateway would lend the mesh's keys to whoever can reach it.
    if connection.direction != Direction::Outbound || worker.config.role != Role::Sidecar {
        return None;
    }
    let snapshot = worker.shared.snapshot.load();
    let route = snapshot.model_routes.of_host(exchange.head.as_ref()?.host_and_port().0).cloned()?;
    Some(Found { snapshot: snapshot.surroundings(), route })
}

/// Takes one request to a virtual model to its end.
pub async fn exchange(
    worker: &Rc<Worker>,
    connection: &Connection,
    mut record: Box<Exchange>,
    down: &mut Downstream<'_>,
    found: Found,
) -> Ended {
    let Found { snapshot, route } = found;
    record.service = route.name.as_str().into();
    let Some(head) = &record.head else { return ended(record, down, End::Answered(Outcome::Internal)).await };
    record.span = Span::of(head.fields(), worker.sink.tracing, || worker.random());
    let may_label = enforce::own_may_label(worker, &snapshot);
    let label = lane::found(worker, (&snapshot, &may_label), Direction::Outbound, head.fields());
    let called = call(head.method(), &head.to_string(), head.fields());
    record.label(label);
    if record.carried.is_none()
        && let Some(stained) = entry::stain_model(worker, &snapshot, &route, &record)
    {
        record.stain(stained);
    }
    let mut timer = Deadline::default();
    match called {
        Some(Call::Generate(generate)) => {
            let asking = match take(worker, &record, down, (route, generate), &mut timer).await {
                Ok(asking) => asking,
                Err(NotAsked::Failed(failed)) => return ended(record, down, End::Gone(failed)).await,
                Err(NotAsked::Refused(api, failure)) => {
                    told::refused(&mut record, (api, ""), &failure);
                    return refuse(record, down, (api, failure), Vec::new()).await;
                }
            };
            let around = Around {
                worker,
                connection,
                snapshot,
                carried: record.carried.clone(),
                timers: asking.virtual_model.timers,
                span: record.span,
            };
            ask(&around, record, down, &asking, &mut timer).await
        }
        Some(Call::Models(listing)) => list(record, down, &route, &listing).await,
        Some(Call::Realtime { model }) => {
            let timers = Default::default();
            let carried = record.carried.clone();
            let around = Around { worker, connection, snapshot, carried, timers, span: record.span };
            Box::pin(realtime::tunnel(around, record, down, (route, model))).await
        }
        None => {
            let failure = Failure {
                status: 404,
                message: "no API of models is called like this".to_owned(),
                ..failure::without_answer(Reason::NotFound)
            };
            refuse(record, down, (Api::ChatCompletions, failure), Vec::new()).await
        }
    }
}

enum NotAsked {
    Failed(Failed),
    Refused(Api, Failure),
}

/// Takes the request and reads what it asks.
async fn take(
    worker: &Rc<Worker>,
    record: &Exchange,
    down: &mut Downstream<'_>,
    (route, generate): (Arc<ModelRoute>, Generate),
    timer: &mut Deadline,
) -> Result<Asking, NotAsked> {
    let api = generate.api;
    let taken = body::take(worker, down, timer, route.body_limit).await.map_err(NotAsked::Failed)?;
    let Some(head) = &record.head else {
        let failure =
            Failure { message: "an exchange without head".to_owned(), ..failure::without_answer(Reason::Server) };
        return Err(NotAsked::Refused(api, failure));
    };
    let asking = match taken {
        Taken::Whole(body) => Asking::read(route, &generate, head, body),
        Taken::Longer(beginning) => {
            worker.sink.metrics.models.unheld(&route.name, beginning.why.as_str());
            Asking::read_beginning(route, &generate, head, beginning)
        }
    };
    asking.map_err(|failure| NotAsked::Refused(api, failure))
}

/// Makes attempts until the client has an answer.
async fn ask(
    around: &Around<'_>,
    mut record: Box<Exchange>,
    down: &mut Downstream<'_>,
    asking: &Asking,
    timer: &mut Deadline,
) -> Ended {
    record.bytes_in = asking.length();
    // An answer may last: nothing but the body, which goes when it begins, keeps the buffer in which the request came.
    if let Some(RequestHead::Http1(head)) = &mut record.head {
        head.detach();
    }
    let faults = match faults(around.worker, &record, (&asking.route, &asking.virtual_model)) {
        Ok(faults) => faults,
        Err(failure) => {
            told::refused(&mut record, (asking.api(), asking.model()), &failure);
            return Box::pin(refuse(record, down, (asking.api(), failure), Vec::new())).await;
        }
    };
    let lane = around.carried.as_ref().map(|carried| carried.full_name(&around.snapshot.lanes));
    let mut caller = match quota::of_caller(around.worker, asking, lane.as_deref()) {
        Ok(caller) => caller,
        Err((failure, told)) => {
            told::refused(&mut record, (asking.api(), asking.model()), &failure);
            return Box::pin(refuse(record, down, (asking.api(), failure), told)).await;
        }
    };
    let (worker, begun) = (around.worker, around.worker.now());
    worker.providers.warm.used(&asking.virtual_model, begun);
    let attempts = {
        let mut standings = worker.providers.standings.borrow_mut();
        let model = (Arc::from(asking.route.name.as_str()), Arc::clone(&asking.virtual_model));
        let replay = if asking.upload().is_some() { Replay::Once } else { Replay::Whole };
        Attempts::new(model, asking.model(), asking.delivery(), replay, &mut standings, begun).drilled(faults)
    };
    let limits = mem::take(&mut caller.told);
    let (end, mut accounts, came) =
        drive(&mut record, Drive::new(around, asking, down, attempts, (begun, limits)), timer).await;
    let unheld = asking.upload().map(|upload| format!("passed on without being held: {}", upload.why.as_str()));
    record.detail = account::drills(&accounts).map(|drills| format!("drill: {drills}")).or(unheld);
    if let Some(overhead) = came.overhead {
        worker.sink.metrics.models.waited(overhead);
    }
    account::settle(worker, asking, lane.as_deref().unwrap_or_default(), &mut accounts, caller);
    told::call(&mut record, asking, &accounts, came);
    told::attempts(worker, asking, accounts);
    ended(record, down, end).await
}

/// Moves an exchange to its end. A function of its own, so that nothing of it is kept while the rest is told.
async fn drive(
    record: &mut Exchange,
    mut drive: Drive<'_, '_>,
    timer: &mut Deadline,
) -> (End, Vec<Account>, told::Came) {
    let end = poll_fn(|cx| drive.poll(timer, cx)).await;
    record.status = drive.status;
    record.bytes_out = drive.bytes_out;
    record.attempts = u32::try_from(drive.made()).unwrap_or(u32::MAX);
    let came = told::Came { overhead: drive.overhead, error: drive.error };
    (end, mem::take(&mut drive.accounts), came)
}

/// Failures that the application of this pod forces by a field of its request.
///
/// # Errors
/// What it is told, where it may not or is not understood.
fn faults(worker: &Worker, record: &Exchange, (route, model): (&ModelRoute, &VirtualModel)) -> Result<Faults, Failure> {
    let Some(head) = &record.head else { return Ok(Faults::default()) };
    let own = worker.shared.tls.load();
    let caller = own.as_ref().map(|material| &material.identity);
    Faults::read(head.fields(), &route.drill, model, caller).map_err(|refused| refused.failure())
}

/// Answers with why nobody is asked.
async fn refuse(
    mut record: Box<Exchange>,
    down: &mut Downstream<'_>,
    (api, failure): (Api, Failure),
    told: Told,
) -> Ended {
    record.status = failure.status;
    record.detail = Some(failure.message.clone());
    let outcome = answer::outcome(&failure);
    let (mut fields, body) = answer::of_failure(api, &failure);
    fields.extend(told);
    match answer::give(down, failure.status, &fields, body) {
        Ok(()) => ended(record, down, End::Answered(outcome)).await,
        Err(failed) => ended(record, down, End::Gone(failed)).await,
    }
}

/// Answers with the models of a route.
async fn list(mut record: Box<Exchange>, down: &mut Downstream<'_>, route: &ModelRoute, listing: &Listing) -> Ended {
    let Some(body) = answer::models(route, listing) else {
        let message = format!("there is no model {} at this host", listing.model.as_deref().unwrap_or_default());
        let failure = Failure { status: 404, message, ..failure::without_answer(Reason::NotFound) };
        return refuse(record, down, (answer::api_of(listing.dialect), failure), Vec::new()).await;
    };
    record.status = 200;
    let fields = [("content-type", "application/json".to_owned())];
    match answer::give(down, 200, &fields, body) {
        Ok(()) => ended(record, down, End::Answered(Outcome::Success)).await,
        Err(failed) => ended(record, down, End::Gone(failed)).await,
    }
}

/// The end of an exchange, for the connection and for the record.
async fn ended(mut record: Box<Exchange>, down: &mut Downstream<'_>, end: End) -> Ended {
    match end {
        End::Answered(outcome) => {
            record.finish(outcome);
            Ended::Answered
        }
        End::Cut(failure) => {
            // Not in the words of the target, which may quote the prompt.
            record.detail = Some(failure.reason.as_str().to_owned());
            // A reset would take with it what its connection has not sent yet.
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
            down.abort();
            record.finish(Outcome::UpstreamIncomplete);
            Ended::Broken
        }
        End::Gone(failed) => {
            record.detail = Some(failed.detail);
            down.abort();
            record.finish(failed.outcome);
            Ended::Broken
        }
    }
}
