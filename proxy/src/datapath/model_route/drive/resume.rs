//! What the client has of a stream, and what follows where it breaks behind that: another target goes on with it, or it ends
//! with an error.

use bytes::Bytes;
use mesh_core::{
    model::model_route::{Failure, ModelTarget},
    model_route::resume::NotResumed,
};

use super::{
    super::{account, attempt::Outgoing, incoming::Incoming, upload::Sending},
    Drive, Stage,
};
use crate::datapath::relay::{Last, Part};

impl Drive<'_, '_> {
    /// The client gets these bytes, of a stream whole events.
    pub(super) fn pass(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        if let Some(transcript) = &mut self.transcript {
            transcript.read(&bytes);
            if transcript.is_unfit() {
                self.asking.release();
            }
        }
        self.out.push_back(Part::Data(bytes, Last::Unknown));
    }

    /// The stream that the client reads broke, or who was to go on with it failed and nobody else is left.
    pub(super) fn broken(&mut self, failure: Failure, sequence: u64) {
        match self.resume(&failure) {
            Ok(()) => self.next(),
            Err(why) => {
                tracing::debug!(model = self.asking.model(), %why, "a broken stream ends");
                self.end_stream(failure, sequence);
            }
        }
    }

    fn resume(&mut self, failure: &Failure) -> Result<(), NotResumed> {
        if let (Stage::Resuming, Some(spent)) = (&self.stage, self.attempts.spent()) {
            return Err(NotResumed::Spent(spent));
        }
        let Some(transcript) = &self.transcript else { return Err(NotResumed::Terminate) };
        let fit = transcript.text().and_then(|_| self.asking.resumable());
        let now = self.around.worker.now();
        let mut standings = self.around.worker.providers.standings.borrow_mut();
        self.attempts.resume(failure, fit, &mut standings, now)?;
        self.stage = Stage::Resuming;
        Ok(())
    }

    /// The request for a target, and how its answer is read: from the beginning, or behind what the client has.
    pub(super) fn outgoing(&self, target: &ModelTarget) -> Result<(Outgoing, Incoming, Option<Sending>), Failure> {
        let worker = self.around.worker;
        match (&self.stage, &self.transcript) {
            (Stage::Resuming, Some(transcript)) => {
                let before = account::given(worker, self.asking, &self.accounts);
                let (outgoing, incoming) = self.asking.onward(worker, target, (transcript, before))?;
                Ok((outgoing, incoming, None))
            }
            (Stage::Trying | Stage::Answering(_) | Stage::Resuming | Stage::Leaving(_), _) => {
                self.asking.outgoing(worker, target)
            }
        }
    }
}
