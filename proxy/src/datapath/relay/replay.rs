//! What was already sent of a request's body, kept while the request may have to be sent again: byte for byte, in the
//! buffers in which it came.

use std::mem;

use bytes::{Bytes, BytesMut};
use mesh_core::retry::Body;

use super::{Last, Part};

/// Parts that are kept as they came …
const PARTS_AS_THEY_CAME: usize = 16;
/// … before those that are smaller than this, bytes, are gathered: each would hold a buffer and a place for a few bytes.
const SMALL: usize = 1024;

/// Parts of a body, in the order sent.
#[derive(Debug)]
pub struct Replay {
    limit: usize,
    parts: Vec<Part>,
    /// Small parts behind those, sent all of them, and whether the last one ended the body.
    gathered: BytesMut,
    gathered_last: Last,
    size: usize,
    lost: bool,
    next: usize,
    consumed: bool,
}

impl Replay {
    /// Keeps bodies up to this length, bytes.
    pub fn up_to(limit: usize) -> Self {
        Replay {
            limit,
            parts: Vec::new(),
            gathered: BytesMut::new(),
            gathered_last: Last::Unknown,
            size: 0,
            lost: false,
            next: 0,
            consumed: false,
        }
    }

    /// Keeps nothing: the request is sent once.
    pub fn disabled() -> Self {
        Replay { lost: true, ..Replay::up_to(0) }
    }

    /// Notes a part that is about to be sent for the first time.
    pub fn note(&mut self, part: &Part) {
        self.consumed = true;
        if self.lost {
            return;
        }
        if let Part::Data(bytes, _) = part {
            self.size += bytes.len();
        }
        if self.size > self.limit {
            self.lost = true;
            self.parts = Vec::new();
            self.gathered = BytesMut::new();
            self.next = 0;
            return;
        }
        match part {
            Part::Data(bytes, last) if self.is_gathered(bytes) => {
                self.gathered.extend_from_slice(bytes);
                self.gathered_last = *last;
            }
            Part::Data(..) | Part::Trailers(_) | Part::End => {
                self.settle();
                self.parts.push(part.clone());
                self.next = self.parts.len();
            }
        }
    }

    fn is_gathered(&self, bytes: &Bytes) -> bool {
        self.parts.len() >= PARTS_AS_THEY_CAME && bytes.len() < SMALL
    }

    /// What was gathered becomes a part.
    fn settle(&mut self) {
        if !self.gathered.is_empty() || self.gathered_last == Last::Yes {
            let last = mem::replace(&mut self.gathered_last, Last::Unknown);
            self.parts.push(Part::Data(self.gathered.split().freeze(), last));
            self.next = self.parts.len();
        }
    }

    /// Begins anew: everything noted is to be sent again.
    pub fn rewind(&mut self) {
        self.settle();
        self.next = 0;
    }

    /// The next part to be sent again.
    pub fn again(&mut self) -> Option<Part> {
        let part = self.parts.get(self.next)?.clone();
        self.next += 1;
        Some(part)
    }

    /// Whether the body can be sent again.
    pub fn body(&self) -> Body {
        if self.lost && self.consumed { Body::Consumed } else { Body::Replayable }
    }

    /// Nothing more is kept: the answer has begun. What is still to be sent again goes out all the same.
    pub fn forget(&mut self) {
        self.lost = true;
        self.gathered = BytesMut::new();
        self.gathered_last = Last::Unknown;
        self.parts.drain(..self.next);
        self.next = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that such bodies may have.
    const LENGTH: usize = 64 * 1024;

    fn sent_again(replay: &mut Replay) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(Part::Data(part, _)) = replay.again() {
            bytes.extend_from_slice(&part);
        }
        bytes
    }

    #[test]
    fn body_too_long_to_be_kept_is_sent_once() {
        let mut replay = Replay::up_to(LENGTH);
        replay.note(&Part::Data("a".into(), Last::Unknown));
        replay.note(&Part::Data(vec![b'b'; LENGTH].into(), Last::Unknown));
        assert_eq!(replay.body(), Body::Consumed);
        replay.forget();
        assert_eq!(sent_again(&mut replay), b"");
    }

    #[test]
    fn body_is_sent_again_whole_although_the_answer_begins_meanwhile() {
        let mut replay = Replay::up_to(LENGTH);
        for text in ["a", "b", "c"] {
            replay.note(&Part::Data(text.into(), Last::Unknown));
        }
        assert_eq!(sent_again(&mut replay), b"");
        replay.rewind();
        assert!(matches!(replay.again(), Some(Part::Data(bytes, _)) if bytes == "a"));
        replay.forget();
        assert_eq!(sent_again(&mut replay), b"bc");
        replay.note(&Part::Data("d".into(), Last::Yes));
        assert_eq!(sent_again(&mut replay), b"");
        assert_eq!(replay.body(), Body::Consumed);
    }

    #[test]
    fn body_in_tiny_pieces_is_sent_again_byte_for_byte_and_takes_little_room() {
        let body: Vec<u8> = (0..LENGTH).map(|position| (position % 251) as u8).collect();
        let mut replay = Replay::up_to(LENGTH);
        // A longer part now and then, so that order matters.
        let mut rest = &body[..];
        let mut pieces = 0;
        while !rest.is_empty() {
            let length = if pieces % 1_000 == 999 { SMALL } else { 1 };
            let (piece, behind) = rest.split_at(length.min(rest.len()));
            let last = if behind.is_empty() { Last::Yes } else { Last::Unknown };
            replay.note(&Part::Data(Bytes::copy_from_slice(piece), last));
            // What was not broken off is not sent again.
            assert!(replay.again().is_none());
            (rest, pieces) = (behind, pieces + 1);
        }
        for _ in 0..2 {
            replay.rewind();
            assert!(sent_again(&mut replay) == body);
        }
        assert!(replay.parts.len() < 2 * (PARTS_AS_THEY_CAME + pieces / 1_000), "{}", replay.parts.len());
        assert!(replay.parts.last().is_some_and(Part::is_last));
    }

    #[test]
    fn body_that_broke_off_in_the_middle_goes_on_behind_what_is_sent_again() {
        let mut replay = Replay::up_to(LENGTH);
        let pieces: Vec<String> = (0..100).map(|number| format!("{number},")).collect();
        for piece in &pieces[..50] {
            replay.note(&Part::Data(piece.clone().into(), Last::Unknown));
        }
        replay.rewind();
        assert_eq!(sent_again(&mut replay), pieces[..50].concat().as_bytes());
        for piece in &pieces[50..] {
            replay.note(&Part::Data(piece.clone().into(), Last::Unknown));
        }
        replay.note(&Part::End);
        replay.rewind();
        let mut again = Vec::new();
        while let Some(part) = replay.again() {
            match part {
                Part::Data(bytes, _) => again.extend_from_slice(&bytes),
                Part::End => return assert_eq!(again, pieces.concat().as_bytes()),
                Part::Trailers(_) => panic!("there were none"),
            }
        }
        panic!("no end");
    }
}
