//! OpenAI's realtime API: a WebSocket to a target, with the mesh's key, and bytes from then on. Targets are asked in turn
//! until one changes protocols; nothing behind that is counted, and nobody else is asked once the tunnel stands.

mod handshake;

use std::{sync::Arc, time::Duration};

use mesh_core::{
    fields::Fields,
    model::model_route::{Api, Can, Dialect, Failure, ModelRoute, ModelTarget, Reason, VirtualModel},
    model_route::{
        attempts::{After, Attempts, Replay, Saw},
        choice::{Unable, Want},
        drill::Faults,
        failure,
        request::Delivery,
        standing::{Standings, State},
    },
    outcome::Outcome,
};

use self::handshake::{Opened, Shaken};
use super::{account, answer, attempt::Around, ended, faults, refuse, request::renew};
use crate::{
    datapath::{
        exchange::{Ended, Tunnel},
        lane::Edit,
        message::RequestHead,
        model_route::drive::End,
        relay::{Downstream, Progress, ResponseHead},
        report::Exchange,
    },
    telemetry::models::{self, Attempted, FallbackKey, ModelLabels},
};

/// Dialect in which a client of this API is told of failures.
const TOLD_AS: Api = Api::ChatCompletions;
/// Operation of calls of this API in metrics.
const OPERATION: &str = "realtime";

/// One call of the API.
struct Calling<'a> {
    around: Around<'a>,
    route: Arc<ModelRoute>,
    model: Arc<VirtualModel>,
    asked: String,
}

/// Makes the tunnel.
pub(super) async fn tunnel(
    around: Around<'_>,
    mut record: Box<Exchange>,
    down: &mut Downstream<'_>,
    (route, asked): (Arc<ModelRoute>, Option<String>),
) -> Ended {
    let asked = asked.unwrap_or_default();
    let model = match (record.head.as_ref().is_some_and(is_websocket), model(&route, &asked)) {
        (true, Some(model)) => model,
        (false, _) => return refuse(record, down, (TOLD_AS, no_websocket()), Vec::new()).await,
        (true, None) => return refuse(record, down, (TOLD_AS, no_model(&asked)), Vec::new()).await,
    };
    let faults = match faults(around.worker, &record, (&route, &model)) {
        Ok(faults) => faults,
        Err(failure) => return refuse(record, down, (TOLD_AS, failure), Vec::new()).await,
    };
    let around = Around { timers: model.timers, ..around };
    let calling = Calling { around, route, model, asked };
    let mut attempts = calling.attempts(faults);
    let opened = calling.open(&record, down, &mut attempts).await;
    record.attempts = u32::try_from(attempts.made()).unwrap_or(u32::MAX);
    match opened {
        Shaken::Opened(opened) => calling.begin(record, down, *opened, attempts.made()).await,
        Shaken::Failed(failure) => {
            let told = answer::told(None, attempts.made(), record.started().elapsed());
            refuse(record, down, (TOLD_AS, failure), told).await
        }
        Shaken::Gone(gone) => ended(record, down, End::Gone(gone)).await,
    }
}

/// Whether a request wants the connection to become a WebSocket (RFC 6455 4.1).
fn is_websocket(head: &RequestHead) -> bool {
    let RequestHead::Http1(head) = head else { return false };
    let wants = |protocols: &[u8]| {
        protocols.split(|byte| *byte == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(b"websocket"))
    };
    head.upgrade().is_some_and(wants) && head.first("sec-websocket-key").is_some()
}

fn model(route: &ModelRoute, asked: &str) -> Option<Arc<VirtualModel>> {
    let fitting = route.models.iter().filter_map(|known| Some((known.fits(asked)?, known)));
    fitting.max_by_key(|(exactness, _)| *exactness).map(|(_, known)| Arc::clone(known))
}

fn no_websocket() -> Failure {
    let message = "the realtime API is a WebSocket: the request must ask for one, over HTTP/1.1".to_owned();
    Failure { status: 426, message, ..failure::without_answer(Reason::BadRequest) }
}

fn no_model(asked: &str) -> Failure {
    let message = format!("there is no model {asked} at this host");
    Failure { status: 404, message, ..failure::without_answer(Reason::NotFound) }
}

impl Calling<'_> {
    fn attempts(&self, faults: Faults) -> Attempts {
        let worker = self.around.worker;
        let named = (Arc::from(self.route.name.as_str()), Arc::clone(&self.model));
        let mut standings = worker.providers.standings.borrow_mut();
        Attempts::new(named, &self.asked, Delivery::Stream, Replay::Whole, &mut standings, worker.now()).drilled(faults)
    }

    /// Asks targets in turn until one changes protocols.
    async fn open(&self, record: &Exchange, down: &mut Downstream<'_>, attempts: &mut Attempts) -> Shaken {
        let worker = self.around.worker;
        let mut failed: Option<(Arc<ModelTarget>, Reason)> = None;
        loop {
            let (slot, target) = match self.next(attempts) {
                Ok(next) => next,
                Err(failure) => {
                    self.fall_back(failed.take(), "");
                    return Shaken::Failed(failure);
                }
            };
            self.fall_back(failed.take(), &target.name);
            let begun = worker.now();
            let forced = attempts.forced(slot);
            let shaken = match &forced {
                Some(failure) => Shaken::Failed(failure.clone()),
                None => handshake::shake_hands(&self.around, record, &target, &self.asked, down).await,
            };
            let took = worker.now().saturating_sub(begun);
            let mut standings = worker.providers.standings.borrow_mut();
            match shaken {
                Shaken::Opened(opened) => {
                    attempts.saw(slot, Saw::Token, &mut standings, worker.now());
                    attempts.finished(slot);
                    self.count(&target, models::Ended::Whole, &standings, took);
                    return Shaken::Opened(opened);
                }
                Shaken::Gone(gone) => {
                    attempts.again(slot, &mut standings);
                    return Shaken::Gone(gone);
                }
                Shaken::Failed(failure) => {
                    let reason = failure.reason;
                    let after = attempts.failed(slot, failure, &mut standings, worker.now());
                    match forced {
                        Some(_) => account::count_drill(worker, &self.route.name, &target, reason),
                        None => {
                            self.count(&target, models::Ended::Failed(reason), &standings, took);
                            failed = Some((target, reason));
                        }
                    }
                    match after {
                        After::Next | After::Wait => {}
                        After::GiveUp(failure) | After::EndStream(failure) => {
                            self.fall_back(failed.take(), "");
                            return Shaken::Failed(failure);
                        }
                    }
                }
            }
        }
    }

    /// The next target that has this API.
    fn next(&self, attempts: &mut Attempts) -> Result<(usize, Arc<ModelTarget>), Failure> {
        let worker = self.around.worker;
        renew(worker, &self.model);
        let lane = self.around.carried.as_ref();
        let want = Want { model: &self.asked, tools: Can::No, json: Can::No, vision: Can::No, tokens: 0, lane };
        let bars = |_: usize, target: &ModelTarget| {
            (target.provider.dialect() != Dialect::Openai).then_some(Unable::Api).or_else(|| {
                let credential = target.credential.as_ref()?;
                worker.providers.credentials.key(credential, worker.now()).is_err().then_some(Unable::Credential)
            })
        };
        let mut standings = worker.providers.standings.borrow_mut();
        let (slot, choice) = attempts.next(&mut standings, &want, &bars, worker.random(), worker.now())?;
        tracing::debug!(model = self.asked, slot, why = %choice.why, "asking a target for a WebSocket");
        Ok((slot, Arc::clone(&self.model.targets[choice.target])))
    }

    /// From here on the client speaks with the target.
    async fn begin(&self, mut record: Box<Exchange>, down: &mut Downstream<'_>, opened: Opened, made: usize) -> Ended {
        let Opened { head, upstream, in_flight, plan, target, endpoint, overhead } = opened;
        record.endpoint = endpoint;
        record.status = head.status();
        let told = answer::told(Some(&target.name), made, overhead);
        let mut edit = Edit::own_response();
        for (name, value) in &told {
            edit.add(name, value.as_bytes());
        }
        match down.begin(&ResponseHead::Http1(head), Progress::Whole, &edit) {
            Ok(()) => Ended::Tunnel(Box::new(Tunnel { upstream: *upstream, exchange: *record, plan, in_flight })),
            Err(gone) => ended(record, down, End::Gone(gone)).await,
        }
    }

    fn count(&self, target: &ModelTarget, ended: models::Ended, standings: &Standings, took: Duration) {
        let state = standings.state(target, target.model_name(&self.asked), self.around.worker.now());
        let rested = matches!(state, State::Resting { .. });
        let lane = self.around.carried.as_ref().map(|carried| carried.full_name(&self.around.snapshot.lanes));
        let series = self.around.worker.sink.metrics.models.of(ModelLabels {
            route: &self.route.name,
            model: &self.asked,
            target: &target.name,
            target_model: target.model_name(&self.asked),
            provider: target.provider.as_str(),
            operation: OPERATION,
            lane: lane.as_deref().unwrap_or_default(),
        });
        let served = ended == models::Ended::Whole;
        let (usage, first_chunk, first_token) = (None, None, None);
        series.count(&Attempted { usage, money: 0, ended, rested, served, first_chunk, first_token, took });
    }

    fn fall_back(&self, failed: Option<(Arc<ModelTarget>, Reason)>, to: &str) {
        let Some((from, reason)) = failed else { return };
        self.around.worker.sink.metrics.models.fall_back(FallbackKey {
            route: self.route.name.clone(),
            from: from.name.clone(),
            to: to.to_owned(),
            reason: reason.as_str(),
            committed: "false",
        });
    }
}

/// A tunnel that came to nothing, for people.
fn no_request(outcome: Outcome) -> Failure {
    Failure {
        status: 400,
        message: format!("{}: the request cannot be sent to the target", outcome.label()),
        ..failure::without_answer(Reason::BadRequest)
    }
}
