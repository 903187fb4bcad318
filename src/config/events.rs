//! The classes of keyspace events, as `notify-keyspace-events` names them.

use std::fmt::{self, Display, Formatter};

/// A set of classes, of events and of the two kinds of channels they are told on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events(u64);

/// Redis' letters, in the order in which it prints them. A letter's place is its bit, which is stored: add at
/// the end only.
const LETTERS: &[u8] = b"g$lshzxetdnKEm";
/// What `A` stands for.
const ALL: &[u8] = b"g$lshzxetd";

impl Events {
    /// The set these letters name.
    ///
    /// # Errors
    /// Redis' complaint about any other letter.
    pub fn parse(letters: &[u8]) -> Result<Self, &'static str> {
        let mut bits = 0;
        for letter in letters {
            bits |= match letter {
                b'A' => ALL.iter().fold(0, |all, letter| all | Self::of(*letter).0),
                letter if LETTERS.contains(letter) => Self::of(*letter).0,
                _ => return Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'."),
            };
        }
        Ok(Self(bits))
    }

    /// The set whose bits these are.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Its bits, for storing.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The set with this one letter's class in it; none of an unknown letter.
    #[must_use]
    pub const fn of(letter: u8) -> Self {
        let mut place = 0;
        while place < LETTERS.len() {
            if LETTERS[place] == letter {
                return Self(1 << place);
            }
            place += 1;
        }
        Self(0)
    }

    /// Whether any class is in both.
    #[must_use]
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// As Redis prints it, which forgets `n` beside `A`.
impl Display for Events {
    fn fmt(&self, formatter: &mut Formatter) -> fmt::Result {
        let all = ALL.iter().all(|letter| self.meets(Self::of(*letter)));
        if all {
            formatter.write_str("A")?;
        }
        for letter in LETTERS.iter().filter(|letter| self.meets(Self::of(**letter))) {
            if !(all && (ALL.contains(letter) || *letter == b'n')) {
                write!(formatter, "{}", char::from(*letter))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Events;

    #[test]
    fn prints_what_redis_prints() {
        let check = |letters: &str, expect: &str| {
            let shown = Events::parse(letters.as_bytes()).map_or_else(str::to_owned, |set| set.to_string());
            assert_eq!(shown, expect, "{letters}");
        };
        check("", "");
        check("KEA", "AKE");
        check("KEAn", "AKE");
        check("g$lshzxetdnm", "Am");
        check("Kg$", "g$K");
        check("mEnKx", "xnKEm");
        check("AA", "A");
        check("Q", "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.");
    }

    #[test]
    fn a_class_keeps_its_bit() {
        let bits = |letters: &[u8]| Events::parse(letters).expect("letters of Redis").bits();
        assert_eq!(bits(b"g"), 1);
        assert_eq!(bits(b"A"), 0b11_1111_1111);
        assert_eq!(bits(b"nKEm"), 0b11_1100_0000_0000);
        assert_eq!(Events::from_bits(bits(b"xE")), Events::parse(b"Ex").expect("letters of Redis"));
        assert!(Events::of(b'K').meets(Events::from_bits(bits(b"KEA"))));
        assert!(!Events::of(b'?').meets(Events::from_bits(u64::MAX)));
    }
}
