//! Answers that are not passed on, but count as the failure of their attempt: the request is sent again.

use mesh_core::{
    drain::{Told, told},
    names,
    outcome::Outcome,
    relay::Side,
    retry::{self, Attempt, Body, Decision, Failure},
};

use super::{Downstream, Failed, Replay, ResponseHead};
use crate::{
    datapath::{enforce::Plan, report::Exchange},
    retries::Repeats,
};

/// An answer whose head came.
pub(super) struct Answered<'a> {
    /// Its head.
    pub(super) head: &'a ResponseHead,
    /// What the exchange may do.
    pub(super) plan: &'a Plan,
    /// What is told of it.
    pub(super) exchange: &'a Exchange,
    /// What was sent of the request.
    pub(super) replay: &'a Replay,
    /// Who answered.
    pub(super) to: Side,
}

/// Why an answer is not passed on; `None` = it is.
pub(super) fn unwanted(
    answered: &Answered<'_>,
    repeats: Option<&Repeats<'_>>,
    down: &Downstream<'_>,
) -> Option<Failed> {
    if down.has_begun() {
        return None;
    }
    match (repeats, down) {
        (None, _) | (Some(_), Downstream::Inner(_)) => answered.at_model(),
        (Some(repeats), Downstream::Http1(_) | Downstream::Http2(_)) => answered.repeated(repeats),
    }
}

impl Answered<'_> {
    /// Of an attempt at a target of a model route. It goes to another target where the instance does not just drain.
    fn at_model(&self) -> Option<Failed> {
        if !self.reached_nobody() {
            return None;
        }
        let decision = retry::decide_unsent(self.exchange.attempts, self.plan.attempts, Failure::NotProcessed);
        let is_repeated = matches!(decision, Decision::Repeat(_)) && self.replay.body() == Body::Replayable;
        if is_repeated && told(self.head.fields()) == Told::NotTaken {
            return Some(untaken());
        }
        let status = self.head.status();
        let detail = format!("the sidecar at the endpoint answered {status}: its application takes no connection");
        Some(Failed { outcome: Outcome::ConnectFailed, ..Failed::upstream(Failure::Connect, detail) })
    }

    fn repeated(&self, repeats: &Repeats<'_>) -> Option<Failed> {
        if self.is_ordinary() {
            return None;
        }
        let failure = self.failures().into_iter().flatten().find(|failure| repeats.names(*failure))?;
        let (made, method) = (self.exchange.attempts, self.exchange.head.as_ref()?.method());
        let attempt = Attempt { made, failure, method, body: self.replay.body() };
        match repeats.ask(&attempt) {
            Decision::GiveUp(_) => None,
            Decision::Repeat(_) if failure == Failure::NotProcessed => Some(untaken()),
            Decision::Repeat(_) => Some(Failed::upstream(failure, self.told(failure))),
        }
    }

    /// Whether it says at first sight that all is well: most do.
    fn is_ordinary(&self) -> bool {
        let may_fail = matches!(self.head, ResponseHead::Http2(head) if head.is_end);
        self.head.status() < 400 && !may_fail
    }

    /// What failures the answer tells of, the more exact ones first.
    fn failures(&self) -> [Option<Failure>; 3] {
        let status = self.head.status();
        let by_sidecar = match self.to {
            Side::Mesh if self.reached_nobody() => Some(Failure::NotProcessed),
            Side::Mesh if self.says(Outcome::UpstreamReset) => Some(Failure::ApplicationReset),
            Side::Mesh | Side::Application | Side::Outside => None,
        };
        [by_sidecar, self.grpc(), (status >= 400).then_some(Failure::Status(status))]
    }

    /// A call of gRPC that failed without a message says so in its head.
    fn grpc(&self) -> Option<Failure> {
        let ResponseHead::Http2(head) = self.head else { return None };
        let code = head.is_end.then(|| head.headers.0.get("grpc-status")).flatten()?;
        let code: u8 = code.to_str().ok()?.parse().ok()?;
        (code != 0).then_some(Failure::Grpc(code))
    }

    /// Whether a sidecar answers in the place of its application because it found nobody there: the request was not sent.
    fn reached_nobody(&self) -> bool {
        self.to == Side::Mesh && self.says(Outcome::ConnectFailed)
    }

    /// Whether a mesh peer made the answer itself, for this reason.
    fn says(&self, outcome: Outcome) -> bool {
        let said = self.head.fields().first(names::ERROR_HEADER);
        said.is_some_and(|said| said == outcome.label().as_bytes())
    }

    fn told(&self, failure: Failure) -> String {
        match failure {
            Failure::Grpc(code) => format!("the endpoint answered with code {code} of gRPC"),
            Failure::ApplicationReset => "the connection of the application at the endpoint broke".to_owned(),
            Failure::Connect
            | Failure::ReusedClosed
            | Failure::ReusedEnded
            | Failure::NotProcessed
            | Failure::Reset
            | Failure::Lost
            | Failure::Status(_)
            | Failure::TryTimeout => format!("the endpoint answered {}", self.head.status()),
        }
    }
}

fn untaken() -> Failed {
    Failed::upstream(Failure::NotProcessed, "the application at the endpoint takes no requests")
}
