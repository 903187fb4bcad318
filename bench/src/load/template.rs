//! Requests that are ready but for their keys.

use super::zipf::Zipf;
use crate::workload::{Chance, Popularity, Shape};

/// The digits of a key, all zero: what is filled in.
const DIGITS: &str = "000000000000";

/// Where a request's keys come from.
#[derive(Clone, Debug)]
pub enum Keys {
    /// Each time any of so many.
    Any(Chance, u64),
    /// Each time one that is popular, perhaps.
    Popular(Chance, Zipf),
    /// One after the other: the next, and how many there are.
    From(u64, u64),
}

impl Keys {
    /// Keys of this shape, in an order that the seed decides.
    #[must_use]
    pub fn of(shape: &Shape, seed: u64) -> Self {
        match shape.popularity {
            Popularity::Even => Self::Any(Chance::new(seed), shape.keys),
            Popularity::Zipf => Self::Popular(Chance::new(seed), Zipf::new(shape.keys)),
        }
    }

    /// The number of the next key.
    pub fn next(&mut self) -> u64 {
        match self {
            Self::Any(chance, keys) => chance.below(*keys),
            Self::Popular(chance, zipf) => zipf.pick(chance),
            Self::From(next, keys) => {
                *next += 1;
                (*next - 1) % *keys
            }
        }
    }
}

/// The encoded form of a request.
#[derive(Clone, Debug)]
pub struct Template {
    wire: Vec<u8>,
    /// Where the digits of each key begin.
    keys: Vec<usize>,
}

impl Template {
    /// A key that gets its digits when a request is made of the template; as long as redis-benchmark's.
    #[must_use]
    pub fn key(prefix: &str) -> String {
        format!("{prefix}:{DIGITS}")
    }

    /// A template of this form, which contains at least one [`Self::key`].
    #[must_use]
    pub fn new(wire: Vec<u8>) -> Self {
        let digits = DIGITS.as_bytes();
        let places = wire.windows(digits.len()).enumerate();
        let keys: Vec<_> = places.filter_map(|(i, place)| (place == digits).then_some(i)).collect();
        assert!(!keys.is_empty(), "a request without a key");
        Self { wire, keys }
    }

    /// Appends a request for the next keys.
    pub fn append(&self, wire: &mut Vec<u8>, keys: &mut Keys) {
        self.append_for(wire, || keys.next());
    }

    /// Appends a request for these keys.
    pub fn append_for(&self, wire: &mut Vec<u8>, mut key: impl FnMut() -> u64) {
        let start = wire.len();
        wire.extend_from_slice(&self.wire);
        for position in &self.keys {
            let position = start + position;
            write_digits(&mut wire[position..position + DIGITS.len()], key());
        }
    }
}

/// Writes `number` to the end of `digits`, which are zeros.
fn write_digits(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        if number == 0 {
            break;
        }
        *digit = b'0' + u8::try_from(number % 10).expect("a digit");
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_filled_in_where_they_are() {
        let template =
            Template::new(format!("a {} {}!", Template::key("k"), Template::key("l")).into_bytes());
        let mut keys = Keys::From(99_999, 100_000);
        let mut wire = b"-".to_vec();
        template.append(&mut wire, &mut keys);
        template.append(&mut wire, &mut keys);
        let expect = "-a k:000000099999 l:000000000000!a k:000000000001 l:000000000002!";
        assert_eq!(String::from_utf8_lossy(&wire), expect);
    }
}
