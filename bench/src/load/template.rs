//! Requests that are ready but for their keys.

use crate::workload::{Chance, KEYS};

/// The digits of a key, all zero: what is filled in.
const DIGITS: &str = "000000000000";

/// Where a request's keys come from.
#[derive(Clone, Debug)]
pub enum Keys {
    /// Each time any of them.
    Any(Chance),
    /// One after the other, from this one on.
    From(u64),
}

impl Keys {
    fn next(&mut self) -> u64 {
        match self {
            Self::Any(chance) => chance.below(KEYS),
            Self::From(next) => {
                *next += 1;
                (*next - 1) % KEYS
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
        let start = wire.len();
        wire.extend_from_slice(&self.wire);
        for position in &self.keys {
            let position = start + position;
            write_digits(&mut wire[position..position + DIGITS.len()], keys.next());
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
        let mut keys = Keys::From(KEYS - 1);
        let mut wire = b"-".to_vec();
        template.append(&mut wire, &mut keys);
        template.append(&mut wire, &mut keys);
        let expect = "-a k:000000099999 l:000000000000!a k:000000000001 l:000000000002!";
        assert_eq!(String::from_utf8_lossy(&wire), expect);
    }
}
