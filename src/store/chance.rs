//! Chance that is the same on every node.

/// A generator of numbers from a log entry's seed: xoshiro256**, filled by splitmix64.
///
/// Every node draws the same numbers for the same entry, today's version and the next one too: the
/// sequence is a format.
#[derive(Clone, Debug)]
pub struct Chance {
    state: [u64; 4],
}

impl Chance {
    /// The sequence that belongs to `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut next = seed;
        let state = std::array::from_fn(|_| {
            next = next.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = next;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^ (word >> 31)
        });
        Self { state }
    }

    /// A uniformly distributed number.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let (c, d) = (c ^ a, d ^ b);
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        result
    }

    /// A uniformly distributed number below `n`, which is not zero.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "there is no number below zero");
        // The largest multiple of n is where the numbers that would favour the small ones begin.
        let unfair_from = u64::MAX - u64::MAX % n;
        loop {
            let number = self.next_u64();
            if number < unfair_from {
                return number % n;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Chance;

    #[test]
    fn the_sequence_never_changes() {
        let mut chance = Chance::new(0);
        let numbers: [u64; 3] = std::array::from_fn(|_| chance.next_u64());
        assert_eq!(numbers, [0x99ec_5f36_cb75_f2b4, 0xbf6e_1f78_4956_452a, 0x1a5f_849d_4933_e6e0]);
    }

    #[test]
    fn below_is_below_and_reaches_everything() {
        let mut chance = Chance::new(7);
        let mut seen = [false; 10];
        for _ in 0..1000 {
            seen[usize::try_from(chance.below(10)).expect("below ten")] = true;
        }
        assert_eq!(seen, [true; 10]);
        assert_eq!(chance.below(1), 0);
        assert!(chance.below(u64::MAX) < u64::MAX);
    }
}
