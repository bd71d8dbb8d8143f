//! What was already sent of a request's body, kept while the request may have to be sent again.

use mesh_core::retry::Body;

use super::Part;

/// Longest body that is kept, whatever a route asks for: one for each exchange under way, bytes.
const LENGTH_MAX: usize = 1024 * 1024;

/// Parts of a body, in the order sent.
#[derive(Debug)]
pub struct Replay {
    limit: usize,
    parts: Vec<Part>,
    size: usize,
    lost: bool,
    next: usize,
    consumed: bool,
}

impl Replay {
    /// Bodies up to this length can be sent again where no route says otherwise; longer ones are sent once, bytes.
    pub const LENGTH: usize = 64 * 1024;

    /// Keeps bodies up to this length, bytes.
    pub fn up_to(length: usize) -> Self {
        let limit = length.min(LENGTH_MAX);
        Replay { limit, parts: Vec::new(), size: 0, lost: false, next: 0, consumed: false }
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
            self.next = 0;
        } else {
            self.parts.push(part.clone());
            self.next = self.parts.len();
        }
    }

    /// Begins anew: everything noted is to be sent again.
    pub fn rewind(&mut self) {
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
        self.parts.drain(..self.next);
        self.next = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::relay::Last;

    fn sent_again(replay: &mut Replay) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(Part::Data(part, _)) = replay.again() {
            bytes.extend_from_slice(&part);
        }
        bytes
    }

    #[test]
    fn body_too_long_to_be_kept_is_sent_once() {
        let mut replay = Replay::up_to(Replay::LENGTH);
        replay.note(&Part::Data("a".into(), Last::Unknown));
        replay.note(&Part::Data(vec![b'b'; Replay::LENGTH].into(), Last::Unknown));
        assert_eq!(replay.body(), Body::Consumed);
        replay.forget();
        assert_eq!(sent_again(&mut replay), b"");
    }

    #[test]
    fn body_is_sent_again_whole_although_the_answer_begins_meanwhile() {
        let mut replay = Replay::up_to(Replay::LENGTH);
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
}
