//! Latencies, counted in buckets that are less than one percent wide.

use std::time::Duration;

/// Buckets per power of two, as a power of two.
const PRECISION: u32 = 7;
const STEPS: u64 = 1 << PRECISION;
const BUCKETS: usize = ((64 - PRECISION as usize) + 1) << PRECISION;

/// How many requests took how long.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0 }
    }
}

impl Histogram {
    /// Counts `count` requests that took `latency` each.
    pub fn record(&mut self, latency: Duration, count: u64) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)] += count;
        self.total += count;
    }

    /// Counts what another has counted.
    pub fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.total += other.total;
    }

    /// The latency that `percent` of the requests did not exceed, in microseconds; 0 if there were none.
    #[must_use]
    pub fn percentile_us(&self, percent: f64) -> f64 {
        let rank = ((percent / 100.0 * self.total as f64).ceil() as u64).max(1);
        let mut below = 0;
        for (index, count) in self.counts.iter().enumerate() {
            below += count;
            if below >= rank {
                return middle(index) / 1_000.0;
            }
        }
        0.0
    }
}

/// Below `STEPS`, each number has a bucket of its own; from there on, each power of two has `STEPS` of them.
fn bucket(nanos: u64) -> usize {
    let shift = (63 - PRECISION).saturating_sub((nanos | 1).leading_zeros());
    let index = u64::from(shift) * STEPS + (nanos >> shift);
    usize::try_from(index).expect("there are a few thousand buckets")
}

/// The middle of a bucket, in nanoseconds.
fn middle(index: usize) -> f64 {
    let index = index as u64;
    let shift = (index / STEPS).saturating_sub(1);
    let first = (index - shift * STEPS) << shift;
    first as f64 + ((1_u64 << shift) - 1) as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_narrow_and_in_order() {
        let mut last = 0;
        for nanos in (0..10_000).chain((14..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit, 3 << (bit - 1)])) {
            let found = bucket(nanos);
            assert!(found < BUCKETS, "{nanos}");
            let off = (middle(found) - nanos as f64).abs();
            assert!(off <= nanos as f64 * 0.01, "{nanos} is counted as {}", middle(found));
            if nanos < 10_000 {
                assert!(found >= last, "{nanos}");
                last = found;
            }
        }
        assert!(bucket(u64::MAX) < BUCKETS);
    }

    #[test]
    fn percentiles_are_ranks() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile_us(50.0), 0.0);
        for micros in 1..=1000 {
            histogram.record(Duration::from_micros(micros), 1);
        }
        for (percent, expect) in [(0.0, 1.0), (50.0, 500.0), (99.0, 990.0), (99.9, 999.0), (100.0, 1000.0)] {
            let found = histogram.percentile_us(percent);
            assert!((found - expect).abs() <= expect * 0.01, "{percent} % is {found}");
        }
    }

    #[test]
    fn many_at_once_count_as_many() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::from_micros(10), 99);
        histogram.record(Duration::from_millis(10), 1);
        assert!((histogram.percentile_us(99.0) - 10.0).abs() < 0.1);
        assert!((histogram.percentile_us(99.9) - 10_000.0).abs() < 100.0);
    }
}
