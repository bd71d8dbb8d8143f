//! Maglev's table (Eisenbud and others, "Maglev: A Fast and Reliable Software Network Load Balancer", 3.4): every slot
//! belongs to an instance, by weight as evenly as can be; a key belongs to its slot. Where the instance of a slot may not be
//! used, the key goes on to other slots of its own.

use std::sync::Arc;

use super::{Offer, Reason, key::of_address, rendezvous};
use crate::{
    model::endpoint::Endpoint,
    pick::{Weights, mix},
};

/// Sizes of tables, primes: the first one with [`SLOTS_EACH`] slots for each instance is taken, or the last; two bytes for
/// each slot. Few sizes, since the size that a further instance makes greater moves nearly all keys.
const SIZES: [usize; 2] = [16_381, 65_521];
/// Slots for each instance that make shares even to about a hundredth.
const SLOTS_EACH: usize = 100;
/// Slots that a key looks at before it is placed without the table.
const LOOKS_MAX: u64 = 256;
/// A slot that nobody has: no instance has weight.
const NOBODY: u16 = u16::MAX;

/// The table of one set of instances. Of more than 65,535 the last ones have no slot.
#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<u16>,
}

struct Row {
    position: u16,
    next: usize,
    skip: usize,
    weight: u64,
    credit: u64,
}

impl Table {
    pub(super) fn new(members: &[Arc<Endpoint>]) -> Self {
        let wanted = members.len().saturating_mul(SLOTS_EACH);
        let size = SIZES.into_iter().find(|size| *size >= wanted).unwrap_or(SIZES[SIZES.len() - 1]);
        let most = members.iter().map(|member| u64::from(member.weight)).max().unwrap_or(0);
        let row = |(position, member): (u16, &Arc<Endpoint>)| {
            let hash = of_address(member.address);
            Row {
                position,
                next: (hash % size as u64) as usize,
                skip: (mix(hash) % (size as u64 - 1)) as usize + 1,
                weight: u64::from(member.weight),
                credit: 0,
            }
        };
        let mut rows: Vec<Row> = (0..NOBODY).zip(members).map(row).filter(|row| row.weight > 0).collect();
        // Addresses say whose turn is first, so that every caller makes the same table.
        rows.sort_by_key(|row| of_address(members[usize::from(row.position)].address));
        let mut slots = vec![NOBODY; size];
        let mut free = if rows.is_empty() { 0 } else { size };
        while free > 0 {
            for row in &mut rows {
                row.credit += row.weight;
                if row.credit < most || free == 0 {
                    continue;
                }
                row.credit -= most;
                while slots[row.next] != NOBODY {
                    row.next = (row.next + row.skip) % size;
                }
                slots[row.next] = row.position;
                free -= 1;
            }
        }
        Table { slots }
    }

    pub(super) fn pick(&self, members: &[Arc<Endpoint>], key: u64, offer: &Offer<'_>) -> Option<(usize, Reason)> {
        let size = self.slots.len() as u64;
        let step = mix(key) % (size - 1) + 1;
        for look in 0..LOOKS_MAX {
            let slot = (key % size + look * step) % size;
            let position = usize::from(self.slots[slot as usize]);
            if offer.candidates.binary_search(&position).is_ok() && has(members, position, slot, offer) {
                return Some((position, if look == 0 { Reason::Key } else { Reason::KeyPassedOn }));
            }
        }
        rendezvous(members, key, offer).map(|found| (found, Reason::KeyPassedOn))
    }
}

/// Whether an instance that may have part of its weight has this slot: as large a part of its slots, always the same.
fn has(members: &[Arc<Endpoint>], position: usize, slot: u64, offer: &Offer<'_>) -> bool {
    let (now, whole) = (offer.weights.of(position), members[position].weight);
    match offer.weights {
        Weights::Equal => true,
        Weights::Each(_) | Weights::Warming { .. } if now >= whole => now > 0,
        Weights::Each(_) | Weights::Warming { .. } => {
            let drawn = mix(slot ^ of_address(members[position].address)) >> 32;
            now > 0 && drawn * u64::from(whole) < u64::from(now) << 32
        }
    }
}
