//! Movement of a share over time, by formula in whole numbers, so that every proxy comes to the same share.

use crate::model::lane::{Curve, Ramp, Share};

/// Doublings of an exponential ramp.
const DOUBLINGS: u128 = 10;

/// Share at `now` (Unix milliseconds), hundredths of a percent: the ramp's where there is one.
pub fn share_at(share: &Share, now: u64) -> u32 {
    share.ramp.as_ref().map_or(share.value, |ramp| ramp_at(ramp, now))
}

/// Before its start a ramp stands at `from`, after its end at `to`. In between it has moved by `g` of the way, rounded
/// down, `p` being the part of the time that has passed:
///
/// - linear: `g = p`;
/// - exponential: `g = (2^(10 p) - 1) / 1023`, with `2^x` taken as `2^k (1 + f)` for `x = k + f`: ten doublings, each of
///   which grows evenly. A tenth of the time before the end it is at half the way.
///
/// It may lead down as well as up.
fn ramp_at(ramp: &Ramp, now: u64) -> u32 {
    let over = ramp.over.as_millis().max(1);
    let elapsed = u128::from(now.saturating_sub(ramp.start));
    if elapsed >= over {
        return ramp.to;
    }
    let (moved, whole) = match ramp.curve {
        Curve::Linear => (elapsed, over),
        Curve::Exponential => {
            let (doublings, rest) = (elapsed * DOUBLINGS / over, elapsed * DOUBLINGS % over);
            ((over + rest) * (1 << doublings) - over, over * ((1 << DOUBLINGS) - 1))
        }
    };
    let distance = u128::from(ramp.to.abs_diff(ramp.from));
    // Less than the distance, which is a u32.
    let moved = (distance * moved / whole) as u32;
    if ramp.to >= ramp.from { ramp.from + moved } else { ramp.from - moved }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ramp(from: u32, to: u32, curve: Curve) -> Share {
        let ramp = Ramp { from, to, start: 1_000, over: Duration::from_secs(10), curve };
        Share { value: 7, keys: Vec::new(), ramp: Some(ramp) }
    }

    #[test]
    fn ramp_stands_at_its_ends_and_moves_by_its_formula_between() {
        let cases = [
            (Curve::Linear, 0, 10_000, [(0, 0), (1_000, 0), (3_500, 2_500), (10_999, 9_999), (11_000, 10_000)]),
            (
                Curve::Linear,
                8_000,
                2_000,
                [(0, 8_000), (1_000, 8_000), (6_000, 5_000), (10_999, 2_001), (99_000, 2_000)],
            ),
            (Curve::Exponential, 0, 10_230, [(1_000, 0), (2_000, 10), (6_000, 310), (10_000, 5_110), (11_000, 10_230)]),
            (Curve::Exponential, 1_023, 0, [(1_000, 1_023), (2_000, 1_022), (6_000, 992), (10_000, 512), (11_000, 0)]),
        ];
        for (curve, from, to, moments) in cases {
            for (now, expected) in moments {
                assert_eq!(share_at(&ramp(from, to, curve), now), expected, "{curve:?} {from} → {to} at {now}");
            }
        }
    }

    #[test]
    fn ramp_never_turns_round() {
        for curve in [Curve::Linear, Curve::Exponential] {
            let up = ramp(100, 9_000, curve);
            let shares: Vec<u32> = (0..13_000).map(|now| share_at(&up, now)).collect();
            assert!(shares.is_sorted(), "{curve:?}");
        }
    }

    #[test]
    fn share_without_ramp_is_its_value_and_a_ramp_without_start_is_over() {
        assert_eq!(share_at(&Share { ramp: None, ..ramp(0, 0, Curve::Linear) }, 5), 7);
        let mut share = ramp(100, 4_000, Curve::Linear);
        share.ramp.as_mut().expect("a ramp").start = 0;
        assert_eq!(share_at(&share, 1_700_000_000_000), 4_000);
    }
}
