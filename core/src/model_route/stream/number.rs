//! A whole number that comes in pieces.

/// Digits so far. What is no whole number in digits is no number here: counts, indices and sequence numbers are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Number {
    value: u64,
    /// Whether it began, whether it went on as something else than digits.
    begun: bool,
    other: bool,
}

impl Number {
    /// Adds a piece.
    pub(super) fn push(&mut self, piece: &[u8]) {
        for byte in piece {
            if byte.is_ascii_digit() && !self.other {
                self.value = self.value.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
            } else {
                self.other = true;
            }
        }
        self.begun |= !piece.is_empty();
    }

    /// The number, saturated.
    pub(super) fn get(self) -> Option<u64> {
        (self.begun && !self.other).then_some(self.value)
    }
}
