//! What the client of an exchange is given: an answer as it comes, or why there is none.

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, response::Parts};
use mesh_core::{
    model::model_route::Failure,
    model_route::{attempts::AT_ONCE, client_error, request::Delivery},
    outcome::Outcome,
};

use super::{Drive, End, Stage};
use crate::datapath::{
    message::Headers,
    model_route::{account, answer},
    relay::{Failed, Http2ResponseHead, Last, Part},
};

impl Drive<'_, '_> {
    /// Gives the client what waits. Ready once nothing does.
    pub(super) fn give(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Failed> {
        while let Some(part) = self.out.pop_front() {
            if self.down.poll_room(cx)?.is_pending() {
                self.out.push_front(part);
                return Ok(Poll::Pending);
            }
            if let Part::Data(bytes, _) = &part {
                self.bytes_out += bytes.len() as u64;
            }
            self.down.part(part)?;
        }
        match self.down.poll_flush(cx) {
            Poll::Ready(flushed) => flushed.map(Poll::Ready),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    /// From here on the client gets the answer of this attempt.
    pub(super) fn commit(&mut self, slot: usize, token: Bytes) {
        let is_resumed = matches!(self.stage, Stage::Resuming);
        self.stage = Stage::Answering(slot);
        for other in (0..AT_ONCE).filter(|other| *other != slot) {
            self.close(other, None);
        }
        let Some(running) = &mut self.running[slot] else { return };
        let given = [mem::take(&mut running.held).freeze(), token];
        if !is_resumed {
            self.head(slot, &given);
        }
        given.into_iter().for_each(|bytes| self.pass(bytes));
    }

    /// Begins the client's answer with the head of this attempt's.
    fn head(&mut self, slot: usize, given: &[Bytes]) {
        let Some(running) = &mut self.running[slot] else { return };
        let Some(head) = running.incoming.take_head() else { return };
        let length = match self.asking.delivery() {
            Delivery::Stream => None,
            Delivery::Whole => Some(given.iter().map(Bytes::len).sum()),
        };
        if self.transcript.is_none() {
            self.asking.release();
        }
        self.down.rest();
        let overhead = running.begun.saturating_sub(self.begun);
        self.overhead = Some(overhead);
        let target = Arc::clone(&running.target);
        let mut told = answer::told(Some(&target.name), self.attempts.made(), overhead);
        told.append(&mut self.limits);
        told.extend(self.asking.upload().map(|upload| answer::of_unheld(upload.why)));
        told.extend(account::drills(&self.accounts).map(answer::of_drill));
        self.begin(head, length, &told);
    }

    /// Begins the client's answer.
    fn begin(&mut self, mut head: Parts, length: Option<usize>, told: &[(&'static str, String)]) {
        head.headers.remove(http::header::CONTENT_LENGTH);
        if let Some(length) = length {
            head.headers.insert(http::header::CONTENT_LENGTH, length.into());
        }
        self.status = head.status.as_u16();
        for (name, value) in told {
            if let Ok(value) = HeaderValue::try_from(value) {
                head.headers.insert(*name, value);
            }
        }
        let head = Http2ResponseHead { status: self.status, headers: Headers(head.headers), is_end: length == Some(0) };
        if let Err(gone) = answer::begin(self.down, head) {
            self.stage = Stage::Leaving(End::Gone(gone));
        }
    }

    /// The client is told why there is no answer.
    pub(super) fn give_up(&mut self, failure: Failure) {
        if matches!(self.stage, Stage::Resuming) {
            return self.end_stream(failure, 0);
        }
        self.error = Some(failure.reason);
        let (fields, body) = answer::of_failure(self.asking.api(), &failure);
        let mut told = answer::told(None, self.attempts.made(), self.now().saturating_sub(self.begun));
        told.extend(fields);
        told.extend(self.asking.upload().map(|upload| answer::of_unheld(upload.why)));
        told.extend(account::drills(&self.accounts).map(answer::of_drill));
        let mut head = http::Response::new(()).into_parts().0;
        head.status = http::StatusCode::from_u16(failure.status).unwrap_or(http::StatusCode::BAD_GATEWAY);
        // What a caller forces is nobody's failure.
        let outcome = if self.attempts.is_forced() { Outcome::Filtered } else { answer::outcome(&failure) };
        self.stage = Stage::Leaving(End::Answered(outcome));
        self.begin(head, Some(body.len()), &told);
        self.out.push_back(Part::Data(body.into(), Last::Yes));
    }

    /// The stream that the client reads ends with an error behind a whole event, and without its end.
    pub(super) fn end_stream(&mut self, failure: Failure, sequence: u64) {
        self.error = Some(failure.reason);
        if self.asking.delivery() == Delivery::Stream {
            let event = client_error::terminal_event(self.asking.api(), &failure, sequence);
            self.out.push_back(Part::Data(event.into(), Last::Unknown));
        }
        self.stage = Stage::Leaving(End::Cut(failure));
    }
}
