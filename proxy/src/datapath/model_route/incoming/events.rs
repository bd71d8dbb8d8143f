//! The events of one stream, put together from what the network brings.

use std::mem;

use bytes::{Bytes, BytesMut};
use mesh_core::{
    model::model_route::{Failure, Reason},
    model_route::{
        failure,
        stream::{Reader, Says},
        translate::{self, GoesOn},
    },
};

use super::{Came, HELD_MAX, Reading, UsageEvent, too_much};

/// What is read of a stream of events.
pub(super) struct Events {
    /// What it says.
    pub(super) reader: Reader,
    /// Into the client's dialect, where that is another.
    pub(super) translation: Option<Box<translate::Stream>>,
    /// What came of the event that has begun.
    pub(super) held: BytesMut,
}

impl Events {
    /// Reads the next bytes. What they hold of whole events is passed on as it lies there; only an event that came in
    /// several pieces is put together.
    pub(super) fn read(
        &mut self,
        bytes: &Bytes,
        reading: &Reading,
        sequence: &mut u64,
        on: &mut dyn FnMut(Came),
    ) -> Result<(), Failure> {
        let Events { reader, translation, held } = self;
        let (mut taken, mut failed) = (0, None);
        reader.feed(bytes, &mut |event| {
            if failed.is_some() {
                return;
            }
            let length = usize::try_from(event.to - event.from).unwrap_or(usize::MAX).saturating_sub(held.len());
            let end = taken + length.min(bytes.len() - taken);
            let whole = if held.is_empty() {
                bytes.slice(taken..end)
            } else {
                held.extend_from_slice(&bytes[taken..end]);
                mem::take(held).freeze()
            };
            taken = end;
            failed = pass(whole, event.says, translation.as_deref_mut(), (reading, sequence), on).err();
        });
        if let Some(failure) = failed {
            return Err(failure);
        }
        held.extend_from_slice(&bytes[taken..]);
        if held.len() > HELD_MAX { Err(too_much("an event is longer than what is held")) } else { Ok(()) }
    }
}

/// Passes one event on, in the client's dialect.
fn pass(
    bytes: Bytes,
    says: Says,
    translation: Option<&mut translate::Stream>,
    (reading, sequence): (&Reading, &mut u64),
    on: &mut dyn FnMut(Came),
) -> Result<(), Failure> {
    if let Some(failure) = says.failed {
        return Err(failure);
    }
    if let Some(number) = says.sequence {
        *sequence = number + 1;
    }
    let mut is_token = says.token;
    let bytes = match translation {
        None if says.usage_only && reading.usage == UsageEvent::Kept => return Ok(()),
        None => bytes,
        Some(translation) => {
            let mut out = Vec::new();
            translation.event(&bytes, &mut out).map_err(|error| {
                let message = format!("an event cannot be translated: {error}");
                Failure { message, ..failure::without_answer(Reason::Decode) }
            })?;
            is_token = match translation.goes_on() {
                GoesOn::No => is_token,
                GoesOn::Silent => false,
                GoesOn::Heard => true,
            };
            out.into()
        }
    };
    on(if is_token { Came::Token(bytes) } else { Came::Event(bytes) });
    Ok(())
}
