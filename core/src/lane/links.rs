//! Orders of entries, kept by positions inside the entries: no allocation per entry, every change in constant time.

/// No entry.
const NONE: u32 = u32::MAX;

/// Neighbours of an entry in one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    before: u32,
    after: u32,
}

impl Default for Pair {
    fn default() -> Self {
        Pair { before: NONE, after: NONE }
    }
}

/// An order of some of the entries, oldest first.
#[derive(Debug)]
pub(super) struct List {
    first: u32,
    last: u32,
    len: usize,
}

impl Default for List {
    fn default() -> Self {
        List { first: NONE, last: NONE, len: 0 }
    }
}

/// Which of an entry's pairs an order uses.
pub(super) type Which<T> = fn(&mut T) -> &mut Pair;

impl List {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The oldest.
    pub(super) fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    /// Adds an entry that is not in the order, as the newest.
    pub(super) fn push<T>(&mut self, entries: &mut [T], place: u32, which: Which<T>) {
        *which(&mut entries[place as usize]) = Pair { before: self.last, after: NONE };
        match self.last {
            NONE => self.first = place,
            last => which(&mut entries[last as usize]).after = place,
        }
        self.last = place;
        self.len += 1;
    }

    /// Takes an entry out that is in the order.
    pub(super) fn remove<T>(&mut self, entries: &mut [T], place: u32, which: Which<T>) {
        let Pair { before, after } = std::mem::take(which(&mut entries[place as usize]));
        match before {
            NONE => self.first = after,
            before => which(&mut entries[before as usize]).after = after,
        }
        match after {
            NONE => self.last = before,
            after => which(&mut entries[after as usize]).before = before,
        }
        self.len -= 1;
    }

    /// Makes an entry that is in the order the newest.
    pub(super) fn touch<T>(&mut self, entries: &mut [T], place: u32, which: Which<T>) {
        if self.last != place {
            self.remove(entries, place, which);
            self.push(entries, place, which);
        }
    }
}
