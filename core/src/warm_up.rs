//! Which part of its weight an instance has that has just come, and how many exchanges it may have at the same time. Pure:
//! the time is passed in as Unix milliseconds, so that callers on several machines agree on it.
//!
//! Probes start no clock: an instance is new from when it is ready, or from when the caller sees it among those that take
//! traffic, whichever is later.

mod newcomers;
mod parts;

pub use self::{
    newcomers::{Newcomers, Seen},
    parts::{Level, Parts, Reason},
};

use crate::model::{endpoint::WEIGHT_ONE, policy::WarmUp};

/// A new instance may have so many times the exchanges that its share would make it have: below that, chance alone would
/// keep it from its share.
const HEADROOM: f64 = 2.0;

/// Part of its weight, of [`WEIGHT_ONE`], that an instance has `age` milliseconds after its start.
pub fn share(policy: &WarmUp, age: u64) -> u32 {
    let whole = u64::try_from(policy.duration.as_millis()).unwrap_or(u64::MAX);
    if age >= whole {
        return WEIGHT_ONE;
    }
    let passed = age as f64 / whole as f64;
    let floor = f64::from(policy.floor) / 100.0;
    // Never less than the smallest part: what has no part at all never begins.
    (power(passed, policy.curve).max(floor) * f64::from(WEIGHT_ONE)).round().max(1.0) as u32
}

/// Whether a level warms its new instances up at all: not where they are half of it or more, since then those that are not
/// new would have to bear what they cannot.
pub fn applies(new: usize, level: usize) -> bool {
    new > 0 && new.saturating_mul(2) < level
}

/// Most exchanges that a new instance may have under way: what its share of `per_weight` makes it have, with some headroom
/// and room for chance, which counts where there are few; one at least. `per_weight` are the exchanges under way at
/// instances that are not new, for each 1.0 of weight.
pub fn cap(weight: u32, share: u32, per_weight: f64) -> u32 {
    let part = f64::from(weight) / f64::from(WEIGHT_ONE) * f64::from(share) / f64::from(WEIGHT_ONE);
    let expected = per_weight * part;
    (expected * HEADROOM + expected.sqrt()).ceil().max(1.0) as u32
}

/// A weight of which a part counts; a positive one stays positive.
pub fn weighed(weight: u32, share: u32) -> u32 {
    let part = u64::from(weight) * u64::from(share) / u64::from(WEIGHT_ONE);
    u32::try_from(part).unwrap_or(u32::MAX).max(u32::from(weight > 0))
}

/// `base ^ (hundredths / 100)` for a base from 0 to 1. By square roots: the library's own power is all that would need
/// libm, which adds half a MiB of resident memory to a proxy. The exponent is right to 1/2,048.
fn power(base: f64, hundredths: u32) -> f64 {
    const BITS: u32 = 10;
    let whole = i32::try_from(hundredths / 100).unwrap_or(i32::MAX);
    let rest = ((hundredths % 100) << BITS).div_ceil(100);
    let (mut found, mut root) = (base.powi(whole), base);
    for bit in (0..BITS).rev() {
        root = root.sqrt();
        if rest & (1 << bit) != 0 {
            found *= root;
        }
    }
    found
}

#[cfg(test)]
mod tests;
