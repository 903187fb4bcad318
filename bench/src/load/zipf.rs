//! Keys of which a few are asked for most of the time.

use crate::workload::Chance;

/// How unequal they are: the n-th key is chosen in proportion to 1/n^THETA.
const THETA: f64 = 0.99;

/// Numbers below a bound, the lower the likelier, by the formula of Gray and others, "Quickly generating billion-record
/// synthetic databases" (SIGMOD 1994), which YCSB uses, too.
#[derive(Clone, Debug)]
pub struct Zipf {
    bound: u64,
    alpha: f64,
    eta: f64,
    zeta: f64,
}

impl Zipf {
    /// Numbers below `bound`. Takes as long as counting up to it.
    #[must_use]
    pub fn new(bound: u64) -> Self {
        let zeta_of = |bound: u64| (1..=bound).map(|rank| (rank as f64).powf(-THETA)).sum::<f64>();
        let (zeta, zeta_two) = (zeta_of(bound), zeta_of(2));
        let eta = (1.0 - (2.0 / bound as f64).powf(1.0 - THETA)) / (1.0 - zeta_two / zeta);
        Self { bound, alpha: 1.0 / (1.0 - THETA), eta, zeta }
    }

    /// One of them.
    pub fn pick(&self, chance: &mut Chance) -> u64 {
        const FINE: u64 = 1 << 53;
        let share = chance.below(FINE) as f64 / FINE as f64;
        let ranks = share * self.zeta;
        if ranks < 1.0 {
            return 0;
        }
        if ranks < 1.0 + 0.5_f64.powf(THETA) {
            return 1;
        }
        let rank = self.bound as f64 * (self.eta * share - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.bound - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_the_most_popular() {
        let (zipf, mut chance) = (Zipf::new(1_000), Chance::new(3));
        let mut counts = vec![0_u32; 1_000];
        for _ in 0..100_000 {
            counts[usize::try_from(zipf.pick(&mut chance)).expect("below a thousand")] += 1;
        }
        // 1/zeta(1000), and half of that.
        assert!((12_000..14_500).contains(&counts[0]), "{}", counts[0]);
        assert!((6_000..7_500).contains(&counts[1]), "{}", counts[1]);
        assert!(counts[..100].iter().sum::<u32>() > 60_000);
        assert!(counts[500..].iter().filter(|count| **count > 0).count() > 400);
    }
}
