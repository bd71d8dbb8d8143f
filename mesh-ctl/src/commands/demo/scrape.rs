//! Reads what sidecars count: Prometheus text, reduced to the requests and their times that the live table shows.

use std::collections::BTreeMap;

/// Histogram of the time of exchanges, seconds; its `_count` is their number.
const DURATION: &str = "mesh_request_duration_seconds";

/// Exchanges and their times, summed over the series of one proxy that were asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Times {
    /// Exchanges.
    pub(crate) count: f64,
    /// Exchanges that took at most the key (microseconds), by upper bound; the unbounded bucket is `u64::MAX`.
    buckets: BTreeMap<u64, f64>,
}

impl Times {
    /// Sums the series with this direction out of a scrape.
    pub(crate) fn read(text: &str, direction: &str) -> Times {
        let wanted = format!("direction=\"{direction}\"");
        let mut times = Times::default();
        for line in text.lines().filter(|line| line.starts_with(DURATION) && line.contains(&wanted)) {
            let Some(value) = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()) else { continue };
            let rest = &line[DURATION.len()..];
            if rest.starts_with("_count") {
                times.count += value;
            } else if let Some(bound) = rest.starts_with("_bucket").then(|| bound_of(rest)).flatten() {
                *times.buckets.entry(bound).or_default() += value;
            }
        }
        times
    }

    /// What was added since `earlier`. A proxy that began anew counts from 0.
    pub(crate) fn since(&self, earlier: &Times) -> Times {
        if self.count < earlier.count {
            return self.clone();
        }
        let before = |bound| earlier.buckets.get(bound).copied().unwrap_or(0.0);
        Times {
            count: self.count - earlier.count,
            buckets: self.buckets.iter().map(|(bound, value)| (*bound, value - before(bound))).collect(),
        }
    }

    /// The time in milliseconds that this share of exchanges did not exceed, interpolated within its bucket.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let total = *self.buckets.last_key_value()?.1;
        if total <= 0.0 {
            return None;
        }
        let rank = share * total;
        let (mut lower, mut below) = (0, 0.0);
        for (bound, value) in &self.buckets {
            if *value >= rank {
                let upper = if *bound == u64::MAX { lower } else { *bound };
                let inside = if *value > below { (rank - below) / (value - below) } else { 1.0 };
                return Some((lower as f64 + (upper - lower) as f64 * inside) / 1_000.0);
            }
            (lower, below) = (*bound, *value);
        }
        None
    }
}

/// Sum of the series of a metric that have this label.
pub(crate) fn sum(text: &str, metric: &str, label: &str) -> f64 {
    let series = text.lines().filter(|line| line.strip_prefix(metric).is_some_and(|rest| rest.starts_with('{')));
    series.filter(|line| line.contains(label)).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Upper bound of a bucket, microseconds.
fn bound_of(labels: &str) -> Option<u64> {
    let text = labels.split("le=\"").nth(1)?.split('"').next()?;
    let seconds: f64 = text.parse().ok()?;
    Some(if seconds.is_finite() { (seconds * 1e6).round() as u64 } else { u64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# HELP mesh_request_duration_seconds Time.
mesh_request_duration_seconds_bucket{direction="inbound",lane="",le="0.001"} 5
mesh_request_duration_seconds_bucket{direction="inbound",lane="",le="0.01"} 9
mesh_request_duration_seconds_bucket{direction="inbound",lane="",le="+Inf"} 10
mesh_request_duration_seconds_count{direction="inbound",lane=""} 10
mesh_request_duration_seconds_bucket{direction="inbound",lane="canary",le="0.001"} 5
mesh_request_duration_seconds_bucket{direction="inbound",lane="canary",le="0.01"} 10
mesh_request_duration_seconds_bucket{direction="inbound",lane="canary",le="+Inf"} 10
mesh_request_duration_seconds_count{direction="inbound",lane="canary"} 10
mesh_request_duration_seconds_count{direction="outbound",lane=""} 7
"#;

    #[test]
    fn series_of_a_direction_are_summed_and_quantiles_interpolated() {
        let times = Times::read(TEXT, "inbound");
        assert_eq!(times.count, 20.0);
        assert_eq!(times.quantile(0.5), Some(1.0));
        assert_eq!(times.quantile(0.25), Some(0.5));
        assert_eq!(times.quantile(0.99), Some(10.0));
        assert_eq!(Times::read(TEXT, "outbound").count, 7.0);
    }

    #[test]
    fn counters_are_summed_by_label_and_whole_name() {
        let text = "refused_total{reason=\"a\",x=\"1\"} 2\nrefused_total{reason=\"a\"} 1.0\nrefused_total{reason=\"b\"} 9\n\
                    refused_total_created{reason=\"a\"} 5\n";
        assert_eq!(sum(text, "refused_total", "reason=\"a\""), 3.0);
    }

    #[test]
    fn proxy_that_began_anew_counts_from_zero() {
        let times = Times::read(TEXT, "inbound");
        assert_eq!(times.since(&times).count, 0.0);
        assert_eq!(times.since(&times).quantile(0.5), None);
        let more = Times { count: 50.0, buckets: BTreeMap::new() };
        assert_eq!(times.since(&more), times);
    }
}
