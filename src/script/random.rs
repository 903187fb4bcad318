//! `math.random`, from the log entry's seed.
//!
//! The generator is that of `lrand48`: 48 bits, of which each step shows the upper 31. Scripts that call
//! `math.randomseed` see the numbers they see in Redis.

use std::cell::Cell;

const MULTIPLIER: u64 = 0x5_DEEC_E66D;
const INCREMENT: u64 = 0xB;
const MASK: u64 = (1 << 48) - 1;
/// What a seed's lower bits are.
const SEED_LOW: u64 = 0x330E;
/// One more than the largest number drawn; a power of two less one, as in Redis.
const RANGE: u64 = 0x7FFF_FFFF;

/// A script's generator.
#[derive(Debug, Default)]
pub(super) struct Random(Cell<u64>);

impl Random {
    /// Begins the sequence of `seed`, of which 32 bits count.
    pub fn seed(&self, seed: u32) {
        self.0.set(u64::from(seed) << 16 | SEED_LOW);
    }

    /// A number from 0 up to, but not including, 1.
    pub fn next(&self) -> f64 {
        let state = self.0.get().wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT) & MASK;
        self.0.set(state);
        ((state >> 17) % RANGE) as f64 / RANGE as f64
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn the_sequence_is_that_of_lrand48() {
        let random = Random::default();
        random.seed(0);
        let drawn: [u64; 3] =
            std::array::from_fn(|_| (random.next() * f64::from(0x7FFF_FFFF)).round() as u64);
        assert_eq!(drawn, [366_850_414, 1_610_402_240, 206_956_554]);
    }
}
