//! The request of a target that goes on with a broken stream, and how its answer is read.

use bytes::Bytes;
use mesh_core::{
    model::model_route::{Failure, MidStream, ModelTarget, Reason, Usage},
    model_route::{
        failure,
        request::{Generate, Resumable, read},
        resume::NotResumed,
        rewrite::Prefill,
        translate::{Stream, Transcript},
    },
};

use super::Asking;
use crate::{
    datapath::model_route::{attempt::Outgoing, incoming::Incoming},
    worker::Worker,
};

impl Asking {
    /// What the client reads is kept in this, if another target may have to go on with it.
    pub(in super::super) fn transcript(&self) -> Option<Box<Transcript>> {
        let is_kept = self.virtual_model.mid_stream == MidStream::Continue && self.asked.is_plain().is_ok();
        // Of what is not held nobody else can be given the beginning.
        let is_kept = is_kept && self.upload.is_none();
        is_kept.then(|| Box::new(Transcript::new(self.asked.api)))
    }

    /// Whether the request can be made once more behind the text so far.
    ///
    /// # Errors
    /// Why not.
    pub(in super::super) fn resumable(&self) -> Result<(), NotResumed> {
        Resumable::of(&self.asked, &self.bytes()).map(|_| ())
    }

    /// As [`Asking::outgoing`], for a target that goes on with what the client has read; `before` was used for that.
    ///
    /// # Errors
    /// Why it cannot be sent to this target.
    pub(in super::super) fn onward(
        &self,
        worker: &Worker,
        target: &ModelTarget,
        (transcript, before): (&Transcript, Usage),
    ) -> Result<(Outgoing, Incoming), Failure> {
        let refused = |message: String| Failure { message, ..failure::without_answer(Reason::BadRequest) };
        let cannot = |why: NotResumed| refused(format!("the stream cannot be gone on with: {why}"));
        let (api, bytes) = (self.api_at(target), self.bytes());
        let resumable = Resumable::of(&self.asked, &bytes).map_err(cannot)?;
        let text = transcript.text_for(api).map_err(cannot)?;
        let body = Bytes::from(resumable.body(&bytes, text, before.output));
        let generate = Generate { api: self.asked.api, in_path: None };
        let asked = read(&generate, &body).map_err(|error| refused(error.to_string()))?;
        let outgoing = self.sent(worker, target, (&asked, &body), Prefill::of(target.provider))?;
        let reading = self.reading(worker, api);
        let stream = Stream::resumed(api, transcript, reading.usage.into(), before).map_err(cannot)?;
        Ok((outgoing, Incoming::resumed(reading, stream)))
    }
}
