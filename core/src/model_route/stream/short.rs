//! A short text that may come in pieces.

/// Up to `N` bytes. A longer text, or one that was spoiled, is not one of those that are looked for, and is not kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Short<const N: usize> {
    bytes: [u8; N],
    length: u8,
    spoiled: bool,
}

impl<const N: usize> Default for Short<N> {
    fn default() -> Self {
        const { assert!(N <= u8::MAX as usize, "the length is one byte") };
        Short { bytes: [0; N], length: 0, spoiled: false }
    }
}

impl<const N: usize> Short<N> {
    /// Forgets the text.
    pub(super) fn clear(&mut self) {
        self.length = 0;
        self.spoiled = false;
    }

    /// Adds a piece.
    pub(super) fn push(&mut self, piece: &[u8]) {
        let from = usize::from(self.length);
        match self.bytes.get_mut(from..from + piece.len()) {
            Some(place) => {
                place.copy_from_slice(piece);
                self.length += piece.len() as u8;
            }
            None => self.spoiled = true,
        }
    }

    /// Says that the text is none of those that are looked for.
    pub(super) fn spoil(&mut self) {
        self.spoiled = true;
    }

    /// The text; `None` if it was too long or spoiled.
    pub(super) fn get(&self) -> Option<&[u8]> {
        (!self.spoiled).then(|| &self.bytes[..usize::from(self.length)])
    }

    /// The text with its last piece, which is not copied where it is the only one.
    pub(super) fn with<'a>(&'a mut self, last: &'a [u8]) -> Option<&'a [u8]> {
        if self.length == 0 && !self.spoiled {
            return Some(last);
        }
        self.push(last);
        self.get()
    }
}
