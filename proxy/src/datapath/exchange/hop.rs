//! The way of one attempt: to which instance, who that is, and what carries the request there.

use std::rc::Rc;

use mesh_core::{
    health::Waited,
    model::endpoint::ProtocolHint,
    names,
    outcome::Outcome,
    reach::{Carriage, Spoken, carriage},
    relay::Side,
    retry::Failure,
    shedding::{AtHand, refuses_place},
};

use crate::{
    datapath::{
        enforce::{Plan, Refused, To},
        message::RequestHead,
        pick::Picked,
        reach::{self, InFlight},
        relay::Failed,
    },
    net::http1::TargetForm,
    worker::Worker,
};

/// A place among the exchanges under way at an instance.
///
/// # Errors
/// It has none left, or few, and the request is still to come.
pub(super) fn place(
    worker: &Worker,
    plan: &Plan,
    upstream: &Rc<reach::Upstream>,
    at_hand: AtHand,
) -> Result<InFlight, Refused> {
    let limits = &plan.traffic.limits;
    if let Some(why) = refuses_place(upstream.pressure(limits), at_hand) {
        worker.shed(why);
        let detail = format!("{} has few places left, and the request is still to come", upstream.address);
        return Err(Refused::new(Outcome::Overloaded, detail));
    }
    let none = || Refused::new(Outcome::Overloaded, format!("too many exchanges at {}", upstream.address));
    upstream.begin(limits.requests).ok_or_else(none)
}

/// Takes in how an attempt failed.
pub(super) fn observe(worker: &Worker, upstream: &reach::Upstream, failed: &Failed) {
    if let Some(Failure::Lost | Failure::Reset) = failed.failure {
        upstream.observe_failure(worker.now());
    }
    if failed.failure == Some(Failure::Lost) {
        // Its other connections are as dead: who comes next finds out at once.
        worker.upstreams.let_go(upstream.address);
    }
}

/// The way to one instance.
pub(super) struct Hop {
    /// The instance.
    pub(super) picked: Picked,
    /// Who the instance is, for the rules about fields.
    pub(super) to: Side,
    /// What the caller speaks.
    pub(super) spoken: Spoken,
    /// What carries the request.
    pub(super) carriage: Carriage,
}

impl Hop {
    /// The way of a request to the picked instance.
    pub(super) fn new(plan: &Plan, head: &RequestHead, picked: Picked) -> Hop {
        let (to, spoken) = (side(plan, &picked), spoken(head, plan));
        let hint = picked.endpoint.as_ref().map_or(ProtocolHint::Unknown, |endpoint| endpoint.hint);
        Hop { picked, to, spoken, carriage: carriage(spoken, to, hint, || head.form()) }
    }

    /// What an attempt waited for that found no connection: where others wait too it is not the instance who was slow.
    pub(super) fn waited(&self) -> Waited {
        if self.picked.upstream.queue.is_empty() { Waited::ForTheAnswer } else { Waited::ForSomethingElse }
    }
}

/// What the caller speaks: its connection's protocol, unless that only carries another.
fn spoken(head: &RequestHead, plan: &Plan) -> Spoken {
    match head {
        RequestHead::Http1(_) => Spoken::Http1,
        RequestHead::Http2(head) => {
            let carried = plan.from == Side::Mesh && head.headers.0.contains_key(names::ORIG_PROTO_HEADER);
            if carried { Spoken::Http1OverHttp2 } else { Spoken::Http2 }
        }
    }
}

/// What is said of a request that is carried over HTTP/2. As on an HTTP/1 hop it is ours, of version 1.1, whatever the
/// client's version was.
pub(super) fn original_protocol(head: &RequestHead) -> &'static [u8] {
    match head {
        RequestHead::Http1(head) if head.target_form() == TargetForm::Absolute => b"HTTP/1.1; absolute-form",
        RequestHead::Http1(_) | RequestHead::Http2(_) => b"HTTP/1.1",
    }
}

fn side(plan: &Plan, picked: &Picked) -> Side {
    match (&plan.to, &picked.endpoint) {
        (To::Application(_), _) => Side::Application,
        (To::Outside(_) | To::Provider(..), _) => Side::Outside,
        (_, Some(endpoint)) if endpoint.identity.is_some() => Side::Mesh,
        (To::Service(_) | To::Endpoint(_), _) => Side::Outside,
    }
}
