//! A bounded copy of an error, for the one who reads errors.

/// Bytes that are kept of an error at most.
pub(super) const CAPTURE_MAX: usize = 4_096;

/// A copy of a part of a document, made while it is read.
#[derive(Debug, Default)]
pub(super) struct Capture {
    bytes: Vec<u8>,
    until: Until,
    /// Where in the piece at hand that begins which is still to be copied.
    from: usize,
}

/// Where a copy ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Until {
    /// Nothing is being copied.
    #[default]
    Idle,
    /// At the end of the value.
    Value,
    /// At the end of the document.
    End,
}

impl Capture {
    /// Copies the value that begins at `from`, as member `error` of a document of its own. What is copied already wins.
    pub(super) fn value(&mut self, from: usize) {
        self.begin(b"{\"error\":", Until::Value, from);
    }

    /// Copies the rest of the document, which begins with `prefix`. What is copied already wins.
    pub(super) fn rest(&mut self, prefix: &[u8], from: usize) {
        self.begin(prefix, Until::End, from);
    }

    fn begin(&mut self, prefix: &[u8], until: Until, from: usize) {
        if !self.bytes.is_empty() || self.until != Until::Idle {
            return;
        }
        self.bytes.reserve_exact(CAPTURE_MAX);
        self.bytes.extend_from_slice(prefix);
        (self.until, self.from) = (until, from);
    }

    /// The value that is being copied ends in front of `to`.
    pub(super) fn value_ended(&mut self, piece: &[u8], to: usize) {
        if self.until == Until::Value {
            self.push(&piece[self.from..to]);
            self.push(b"}");
            self.until = Until::Idle;
        }
    }

    /// The piece is at its end.
    pub(super) fn piece_ended(&mut self, piece: &[u8]) {
        if self.until != Until::Idle {
            self.push(&piece[self.from..]);
            self.from = 0;
        }
    }

    /// What was copied; nothing remains.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(self).bytes
    }

    /// Bytes of heap in use.
    pub(super) fn heap(&self) -> usize {
        self.bytes.capacity()
    }

    fn push(&mut self, more: &[u8]) {
        let room = CAPTURE_MAX - self.bytes.len();
        self.bytes.extend_from_slice(&more[..more.len().min(room)]);
    }
}
