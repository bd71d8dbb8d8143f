//! Distributions of times and tokens, with the bounds that OpenTelemetry's conventions for generative AI name where they
//! name some, so that figures of several sources can be added up.

use std::time::Duration;

use crate::telemetry::worker::Count;

/// Microseconds of a second.
const MICROSECONDS: f64 = 1e6;

/// Classes of a distribution.
#[derive(Debug)]
pub struct Bounds {
    /// Upper bounds, rising; what is more counts in one more class.
    pub upper: &'static [u64],
    /// How many of the unit of values make one of what is shown.
    pub unit: f64,
}

/// Times of client operations, microseconds, shown as seconds (`gen_ai.client.operation.*`).
pub static OPERATION: Bounds = Bounds {
    upper: &[
        10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 640_000, 1_280_000, 2_560_000, 5_120_000, 10_240_000,
        20_480_000, 40_960_000, 81_920_000,
    ],
    unit: MICROSECONDS,
};

/// Times to the first token, microseconds, shown as seconds (`gen_ai.server.time_to_first_token`).
pub static FIRST_TOKEN: Bounds = Bounds {
    upper: &[
        1_000, 5_000, 10_000, 20_000, 40_000, 60_000, 80_000, 100_000, 250_000, 500_000, 750_000, 1_000_000, 2_500_000,
        5_000_000, 7_500_000, 10_000_000,
    ],
    unit: MICROSECONDS,
};

/// Times per further token, microseconds, shown as seconds (`gen_ai.server.time_per_output_token`).
pub static PER_TOKEN: Bounds = Bounds {
    upper: &[
        10_000, 25_000, 50_000, 75_000, 100_000, 150_000, 200_000, 300_000, 400_000, 500_000, 750_000, 1_000_000,
        2_500_000,
    ],
    unit: MICROSECONDS,
};

/// Tokens (`gen_ai.client.token.usage`).
pub static TOKENS: Bounds = Bounds {
    upper: &[1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864],
    unit: 1.0,
};

/// What a call waited before its target was asked, microseconds, shown as seconds: from what the mesh itself takes to what
/// targets that fail take.
pub static OVERHEAD: Bounds = Bounds {
    upper: &[
        50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
        30_000_000,
    ],
    unit: MICROSECONDS,
};

/// A distribution that one worker counts.
#[derive(Debug)]
pub struct Distribution {
    /// Its classes.
    pub bounds: &'static Bounds,
    /// Counts by class.
    pub classes: Box<[Count]>,
    /// Sum of all values, in their unit.
    pub sum: Count,
}

impl Distribution {
    /// Nothing is counted yet.
    pub fn new(bounds: &'static Bounds) -> Self {
        let classes = (0..=bounds.upper.len()).map(|_| Count::default()).collect();
        Distribution { bounds, classes, sum: Count::default() }
    }

    /// Counts a value. Only the owning worker may call it.
    pub fn add(&self, value: u64) {
        self.classes[self.bounds.upper.partition_point(|bound| *bound < value)].add(1);
        self.sum.add(value);
    }

    /// Counts a time, of a distribution of microseconds. Only the owning worker may call it.
    pub fn add_time(&self, time: Duration) {
        self.add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_rise_and_are_those_of_the_conventions() {
        let shown = |bounds: &Bounds| bounds.upper.iter().map(|bound| *bound as f64 / bounds.unit).collect::<Vec<_>>();
        let doubling: Vec<f64> = (0..14).map(|power| f64::from(1 << power) / 100.0).collect();
        assert_eq!(shown(&OPERATION), doubling);
        assert_eq!(shown(&TOKENS), (0..14).map(|power| 4_f64.powi(power)).collect::<Vec<_>>());
        let first = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
        assert_eq!(shown(&FIRST_TOKEN), first);
        let further = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];
        assert_eq!(shown(&PER_TOKEN), further);
        for bounds in [&OPERATION, &FIRST_TOKEN, &PER_TOKEN, &TOKENS, &OVERHEAD] {
            assert!(bounds.upper.is_sorted_by(|before, after| before < after));
        }
    }

    #[test]
    fn value_of_exactly_a_bound_counts_below_it_and_what_is_more_than_all_counts_last() {
        let times = Distribution::new(&OPERATION);
        for micros in [0, 10_000, 10_001, 81_920_000, 81_920_001] {
            times.add_time(Duration::from_micros(micros));
        }
        let counted: Vec<u64> = times.classes.iter().map(Count::get).collect();
        assert_eq!((counted[0], counted[1], counted[13], counted[14]), (2, 1, 1, 1));
        assert_eq!(times.sum.get(), 163_860_002);
    }
}
