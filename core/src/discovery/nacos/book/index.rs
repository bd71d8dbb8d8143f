//! Which services an address belongs to, by the services' numbers. Addresses of one service are a sorted list; a look-up
//! of an address takes one step. Mostly an address has one service, and then it costs one number.

use std::hash::Hash;

use hashbrown::{HashMap, hash_map::Entry};

use super::Hasher;

/// In place of a service's number: the rest is a position in [`Index::more`].
const MORE: u32 = 1 << 31;

/// Services by address of one family.
#[derive(Debug)]
pub(super) struct Index<A> {
    /// Number of the only service, or [`MORE`] with a position.
    owners: HashMap<A, u32, Hasher>,
    /// Services of addresses that have several.
    more: Vec<Vec<u32>>,
    free: Vec<u32>,
}

impl<A> Default for Index<A> {
    fn default() -> Self {
        Index { owners: HashMap::default(), more: Vec::new(), free: Vec::new() }
    }
}

impl<A: Copy + Ord + Hash> Index<A> {
    /// The addresses of a service become others. Both lists are sorted and hold nothing twice.
    pub(super) fn replace(&mut self, number: u32, old: &[A], new: &[A]) {
        for address in old.iter().filter(|address| new.binary_search(address).is_err()) {
            self.leave(*address, number);
        }
        for address in new.iter().filter(|address| old.binary_search(address).is_err()) {
            self.join(*address, number);
        }
    }

    /// Services at an address.
    pub(super) fn at(&self, address: A) -> Vec<u32> {
        match self.owners.get(&address) {
            None => Vec::new(),
            Some(owner) if *owner < MORE => vec![*owner],
            Some(owner) => self.more[(owner - MORE) as usize].clone(),
        }
    }

    fn join(&mut self, address: A, number: u32) {
        match self.owners.entry(address) {
            Entry::Vacant(free) => {
                free.insert(number);
            }
            Entry::Occupied(owner) if *owner.get() >= MORE => {
                self.more[(owner.get() - MORE) as usize].push(number);
            }
            Entry::Occupied(mut owner) => {
                let both = vec![*owner.get(), number];
                let position = self.free.pop().unwrap_or(self.more.len() as u32);
                match self.more.get_mut(position as usize) {
                    Some(free) => *free = both,
                    None => self.more.push(both),
                }
                owner.insert(MORE + position);
            }
        }
    }

    fn leave(&mut self, address: A, number: u32) {
        let Entry::Occupied(mut owner) = self.owners.entry(address) else { return };
        let Some(position) = owner.get().checked_sub(MORE) else {
            owner.remove();
            return;
        };
        let numbers = &mut self.more[position as usize];
        numbers.retain(|other| *other != number);
        if let [only] = numbers[..] {
            *numbers = Vec::new();
            self.free.push(position);
            owner.insert(only);
        }
    }
}
