//! Numbers that look random, always the same ones: for sets that are told apart by fingerprints, and for hash tables.

use std::hash::Hasher;

/// The number that stands for a call in fingerprints.
#[must_use]
pub fn mark(call: usize) -> u128 {
    let call = call as u64;
    u128::from(mix(2 * call + 1)) << 64 | u128::from(mix(2 * call + 2))
}

/// `SplitMix64`'s output function (Steele, Lea, Flood 2014): a bijection that scatters.
const fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A hasher for the table only, where the standard one takes most of the time. Equality does not rest on it.
#[derive(Default)]
pub struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = mix(self.0.rotate_left(5) ^ number);
    }

    fn write_u128(&mut self, number: u128) {
        self.write_u64(number as u64);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_i64(&mut self, number: i64) {
        self.write_u64(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }
}
