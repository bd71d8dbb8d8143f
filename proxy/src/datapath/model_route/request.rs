//! What a client asked, and the request that each target gets of it.

mod resume;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use bytes::Bytes;
use http::HeaderMap;
use mesh_core::{
    lane::Carried,
    model::model_route::{
        Api, Can, Failure, ModelEndpoint, ModelRoute, ModelTarget, Reason, UsageInStreams, VirtualModel,
    },
    model_route::{
        address::{self, Crossing, Place},
        answer::AskedFor,
        choice::{Unable, Want},
        client_error, failure,
        request::{Asked, Delivery, Generate, UsageAsked, read},
        rewrite::{self, AddUsage, Changes, Piece, Prefill},
        translate::{self, UsageChunk},
    },
};

use super::{
    attempt::Outgoing,
    body::{Beginning, Held},
    incoming::{Incoming, Reading, UsageEvent},
    upload::{Sending, Upload},
};
use crate::{
    datapath::{message::RequestHead, relay::InnerBody},
    providers::credentials::Renewed,
    worker::Worker,
};

/// Tokens of an answer where the request says nothing, for the check against windows.
const UNKNOWN_OUTPUT: u64 = 0;
/// Bytes of prompt that are at least one token, for the check against windows: a target is left out only if the prompt
/// cannot fit.
const BYTES_PER_TOKEN: u64 = 8;

/// A request to a virtual model.
pub(super) struct Asking {
    /// Its route.
    pub(super) route: Arc<ModelRoute>,
    /// Its virtual model.
    pub(super) virtual_model: Arc<VirtualModel>,
    asked: Asked,
    /// Its bytes, as long as a target may have to be asked.
    body: RefCell<Held>,
    /// Where it is not held whole.
    upload: Option<Upload>,
    delivery: Cell<Delivery>,
    length: u64,
    fields: HeaderMap,
    query: Option<String>,
}

impl Asking {
    /// Reads a request; `fields` are the client's.
    ///
    /// # Errors
    /// Why nobody could serve it.
    pub(super) fn read(
        route: Arc<ModelRoute>,
        generate: &Generate,
        head: &RequestHead,
        body: Held,
    ) -> Result<Asking, Failure> {
        let asked = read(generate, &body.bytes).map_err(|refused| client_error::of_refused(&refused))?;
        let virtual_model = Arc::clone(find(&route, &asked.model)?);
        let length = body.bytes.len() as u64;
        Ok(Asking::new((route, virtual_model), asked, head, (body, length, None)))
    }

    /// As [`Asking::read`], of a request of which only the beginning is held.
    ///
    /// # Errors
    /// Why nobody could serve it.
    pub(super) fn read_beginning(
        route: Arc<ModelRoute>,
        generate: &Generate,
        head: &RequestHead,
        beginning: Beginning,
    ) -> Result<Asking, Failure> {
        let fields = head.fields();
        let length: Option<u64> =
            fields.first("content-length").and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        // Nothing is so long. Made fit for a target, its length could not be said.
        if length.is_some_and(|length| i64::try_from(length).is_err()) {
            let message = "no request is as long as content-length says".to_owned();
            return Err(Failure { status: 400, message, ..failure::without_answer(Reason::BadRequest) });
        }
        let (upload, long, model) = Upload::new(&route, generate, (&beginning, length), |model| find(&route, model))?;
        let virtual_model = Arc::clone(model);
        let asked = long.asked(generate, &virtual_model.name.to_string());
        let length = length.unwrap_or(beginning.held.bytes.len() as u64);
        Ok(Asking::new((route, virtual_model), asked, head, (beginning.held, length, Some(upload))))
    }

    fn new(
        (route, virtual_model): (Arc<ModelRoute>, Arc<VirtualModel>),
        asked: Asked,
        head: &RequestHead,
        (body, length, upload): (Held, u64, Option<Upload>),
    ) -> Asking {
        Asking {
            route,
            virtual_model,
            delivery: Cell::new(asked.delivery),
            asked,
            body: RefCell::new(body),
            upload,
            length,
            fields: fields(head),
            query: head.query().map(str::to_owned),
        }
    }

    /// The request as it is passed on, where it is not held.
    pub(super) fn upload(&self) -> Option<&Upload> {
        self.upload.as_ref()
    }

    /// Of a request that is not held it is known only now how its answer is delivered.
    pub(super) fn passed(&self, delivery: Delivery) {
        self.delivery.set(delivery);
    }

    /// Name of the model as the client wrote it.
    pub(super) fn model(&self) -> &str {
        &self.asked.model
    }

    /// What it calls.
    pub(super) fn api(&self) -> Api {
        self.asked.api
    }

    /// How the answer is delivered.
    pub(super) fn delivery(&self) -> Delivery {
        self.delivery.get()
    }

    /// Most tokens that the client lets an answer have.
    pub(super) fn max_output(&self) -> Option<u64> {
        self.asked.max_output
    }

    /// Answers that are written.
    pub(super) fn choices(&self) -> u32 {
        self.asked.choices
    }

    /// Value of a field of the client.
    pub(super) fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.get(name).map(http::HeaderValue::as_bytes)
    }

    /// Bytes of the prompt, with all that is around it.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// No other target is asked: its bytes are not needed any more.
    pub(super) fn release(&self) {
        self.body.borrow_mut().release();
        self.upload.iter().for_each(Upload::release);
    }

    fn bytes(&self) -> Bytes {
        self.body.borrow().bytes.clone()
    }

    /// What is needed of a target.
    pub(super) fn want<'a>(&'a self, lane: Option<&'a Carried>) -> Want<'a> {
        let can = |needed: bool| if needed { Can::Yes } else { Can::No };
        let prompt = if self.asked.needs.vision { 0 } else { self.length() / BYTES_PER_TOKEN };
        Want {
            model: &self.asked.model,
            tools: can(self.asked.needs.tools),
            json: can(self.asked.needs.json),
            vision: can(self.asked.needs.vision),
            tokens: prompt.saturating_add(self.asked.max_output.unwrap_or(UNKNOWN_OUTPUT)),
            lane,
        }
    }

    /// Why a target cannot be asked, besides what the route says of it.
    pub(super) fn bar(&self, worker: &Worker, target: &ModelTarget) -> Option<Unable> {
        let api = translate::toward(self.asked.api, target.provider.dialect());
        // What is not held cannot be translated.
        if api.is_none() || (self.upload.is_some() && api != Some(self.asked.api)) {
            return Some(Unable::Api);
        }
        let credential = target.credential.as_ref()?;
        worker.providers.credentials.key(credential, worker.now()).is_err().then_some(Unable::Credential)
    }

    /// Looks at the keys of all targets: who was refused with an old one may be asked at once.
    pub(super) fn renew(&self, worker: &Worker) {
        renew(worker, &self.virtual_model);
    }

    /// The request for a target, how its answer is read, and what feeds it where it is not held.
    ///
    /// # Errors
    /// Why it cannot be sent to this target.
    pub(super) fn outgoing(
        &self,
        worker: &Worker,
        target: &ModelTarget,
    ) -> Result<(Outgoing, Incoming, Option<Sending>), Failure> {
        let incoming = Incoming::new(self.reading(worker, self.api_at(target)));
        let Some(upload) = &self.upload else {
            let outgoing = self.sent(worker, target, (&self.asked, &self.bytes()), Prefill::Place)?;
            return Ok((outgoing, incoming, None));
        };
        let (sending, length) = upload.begin(target.model.as_deref(), worker.now())?;
        let body = InnerBody::Passing(sending.feed(), length);
        Ok((self.addressed(worker, target, (body, self.length))?, incoming, Some(sending)))
    }

    /// API in which a target is spoken to.
    fn api_at(&self, target: &ModelTarget) -> Api {
        translate::toward(self.asked.api, target.provider.dialect()).unwrap_or(self.asked.api)
    }

    /// A request in the client's dialect as a target is sent it.
    fn sent(
        &self,
        worker: &Worker,
        target: &ModelTarget,
        (asked, bytes): (&Asked, &Bytes),
        prefill: Prefill,
    ) -> Result<Outgoing, Failure> {
        let api = self.api_at(target);
        let model = target.model_name(&self.asked.model);
        let usage = worker.providers.usage_of(&self.route.name, target);
        let body = if api == asked.api {
            let add_usage = add_usage(asked.usage_asked, usage);
            let changes = Changes { model: target.model.as_deref(), add_usage, prefill };
            pieces(bytes, rewrite::body(asked, bytes, &changes))
        } else {
            let changes = Changes { model: None, add_usage: add_usage(UsageAsked::No, usage), prefill };
            translated((asked.api, api), bytes, model, &changes)?
        };
        self.addressed(worker, target, (InnerBody::Whole(body), bytes.len() as u64))
    }

    /// A body that a target is sent, with path and fields; `prompt` are the bytes of its prompt.
    fn addressed(
        &self,
        worker: &Worker,
        target: &ModelTarget,
        (body, prompt): (InnerBody, u64),
    ) -> Result<Outgoing, Failure> {
        let (api, model) = (self.api_at(target), target.model_name(&self.asked.model));
        let prefix = match &target.endpoint {
            ModelEndpoint::External { prefix, .. } | ModelEndpoint::Service { prefix, .. } => prefix,
        };
        let mut path = address::path(target.provider, api, prefix, model, self.asked.delivery);
        if api == self.asked.api {
            path = address::with_query(path, self.query.as_deref());
        }
        Ok(Outgoing { path, fields: self.fields_for(worker, target, api)?, body, prompt })
    }

    fn reading(&self, worker: &Worker, target: Api) -> Reading {
        Reading {
            client: self.asked.api,
            target,
            model: self.asked.model.clone(),
            id: format!("mesh-{:016x}", worker.random()),
            created: worker.unix_now().as_secs(),
            delivery: self.delivery.get(),
            choices: self.asked.choices,
            usage: match self.asked.usage_asked {
                UsageAsked::Yes => UsageEvent::Passed,
                UsageAsked::No => UsageEvent::Kept,
            },
            escalate: self.virtual_model.escalate.clone(),
            asked_for: if self.asked.needs.json { AskedFor::Json } else { AskedFor::Text },
        }
    }

    /// The client's fields that go on, and the credential.
    fn fields_for(&self, worker: &Worker, target: &ModelTarget, api: Api) -> Result<Vec<(String, Vec<u8>)>, Failure> {
        let crossing = if api == self.asked.api { Crossing::SameDialect } else { Crossing::OtherDialect };
        let place = match target.endpoint {
            ModelEndpoint::External { .. } => Place::Outside,
            ModelEndpoint::Service { .. } => Place::Mesh,
        };
        let passes = |name: &&http::HeaderName| address::passes(name.as_str(), crossing, place);
        let passed = self.fields.iter().filter(|(name, _)| passes(name));
        let mut fields: Vec<(String, Vec<u8>)> =
            passed.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
        for (name, value) in address::defaults(target.provider) {
            if !fields.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                fields.push(((*name).to_owned(), value.as_bytes().to_vec()));
            }
        }
        if let Some(credential) = &target.credential {
            let (key, _) = worker
                .providers
                .credentials
                .key(credential, worker.now())
                .map_err(|error| Failure { message: error.to_string(), ..failure::without_answer(Reason::Auth) })?;
            let (name, value) = address::credential(target.provider, key.secret());
            fields.push((name.to_owned(), value.into_bytes()));
        }
        Ok(fields)
    }
}

/// A body in the dialect of a target, with changes that it needs there.
fn translated(
    (from, to): (Api, Api),
    bytes: &Bytes,
    model: &str,
    changes: &Changes<'_>,
) -> Result<Rc<[Bytes]>, Failure> {
    let body = translate::request(from, to, bytes, model).map_err(|error| Failure {
        status: 400,
        message: error.to_string(),
        ..failure::without_answer(Reason::BadRequest)
    })?;
    let body = Bytes::from(body);
    let is_in_body = to != Api::GenerateContent;
    let Some(asked) = is_in_body.then(|| read(&Generate { api: to, in_path: None }, &body).ok()).flatten() else {
        return Ok([body].into());
    };
    let rewritten = rewrite::body(&asked, &body, changes);
    Ok(pieces(&body, rewritten))
}

/// The virtual model of a name.
fn find<'r>(route: &'r ModelRoute, model: &str) -> Result<&'r Arc<VirtualModel>, Failure> {
    let fitting = route.models.iter().filter_map(|known| Some((known.fits(model)?, known)));
    fitting.max_by_key(|(exactness, _)| *exactness).map(|(_, found)| found).ok_or_else(|| {
        let message = format!("there is no model {model} at this host; GET /v1/models lists them");
        Failure { status: 404, message, ..failure::without_answer(Reason::NotFound) }
    })
}

fn add_usage(asked: UsageAsked, usage: UsageInStreams) -> AddUsage {
    match (usage, asked) {
        (UsageInStreams::Continuous, _) => AddUsage::Continuous,
        (UsageInStreams::Never, _) | (UsageInStreams::Auto, UsageAsked::Yes) => AddUsage::No,
        (UsageInStreams::Auto, UsageAsked::No) => AddUsage::AtEnd,
    }
}

/// Pieces of a body that share its memory.
fn pieces(body: &Bytes, pieces: Vec<Piece>) -> Rc<[Bytes]> {
    let piece = |piece| match piece {
        Piece::Kept(range) => body.slice(range),
        Piece::New(bytes) => Bytes::from(bytes),
    };
    pieces.into_iter().map(piece).collect()
}

/// Looks at the keys of all targets of a model: who was refused with an old one may be asked at once.
pub(super) fn renew(worker: &Worker, model: &VirtualModel) {
    for credential in model.targets.iter().filter_map(|target| target.credential.as_ref()) {
        if let Ok((_, Renewed::Yes)) = worker.providers.credentials.key(credential, worker.now()) {
            worker.providers.standings.borrow_mut().renewed(credential);
        }
    }
}

/// The client's fields without those of its connection.
pub(super) fn fields(head: &RequestHead) -> HeaderMap {
    match head {
        RequestHead::Http2(head) => head.headers.0.clone(),
        RequestHead::Http1(head) => {
            let mut map = HeaderMap::new();
            for (name, value) in head.iter() {
                let name = http::HeaderName::from_bytes(name);
                if let (Ok(name), Ok(value)) = (name, http::HeaderValue::from_bytes(value))
                    && !is_connections(&name)
                {
                    map.append(name, value);
                }
            }
            map
        }
    }
}

fn is_connections(name: &http::HeaderName) -> bool {
    ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"]
        .contains(&name.as_str())
}

/// As translations of streams have it.
impl From<UsageEvent> for UsageChunk {
    fn from(usage: UsageEvent) -> Self {
        match usage {
            UsageEvent::Passed => UsageChunk::Wanted,
            UsageEvent::Kept => UsageChunk::Unwanted,
        }
    }
}
