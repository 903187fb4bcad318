//! The arithmetic of INCRBYFLOAT and HINCRBYFLOAT: C's `long double` as x86-64 has it, in integers.
//!
//! Redis adds in 80 bits, prints `%.17Lf` and strips zeros. That is why 0.1 + 0.2 is 0.3 there, which a
//! sum of doubles is not, and why 1e17 + 0.1 has the tail that it has. Clients and tests know these
//! strings, and every node must come to the same one, whatever its processor.

use std::cmp::Ordering;

use bytes::Bytes;

use super::number::{Format, Literal, Magnitude};

/// A literal as long as this is not read (`MAX_LONG_DOUBLE_CHARS`).
const LITERAL_BYTES_END: usize = 5 * 1024;
/// Digits after the point, before zeros are stripped.
const FRACTION_DIGITS: usize = 17;
const FRACTION_UNIT: u128 = 10u128.pow(FRACTION_DIGITS as u32);

/// Why there is no sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FloatError {
    /// An operand is not a number.
    #[error("value is not a valid float")]
    NotAFloat,
    /// The sum is not finite.
    #[error("increment would produce NaN or Infinity")]
    NanOrInfinity,
}

/// `current` + `increment` as INCRBYFLOAT would store and answer it.
pub fn add_float(current: &[u8], increment: &[u8]) -> Result<Bytes, FloatError> {
    let current = Extended::parse(current).ok_or(FloatError::NotAFloat)?;
    let increment = Extended::parse(increment).ok_or(FloatError::NotAFloat)?;
    let sum = current.checked_add(increment).ok_or(FloatError::NanOrInfinity)?;
    Ok(sum.to_text().into())
}

/// A number of 80 bits. There is no NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extended {
    Infinite {
        negative: bool,
    },
    /// `mantissa` * 2^`exponent`, as [`Format::round`] leaves it.
    Finite {
        negative: bool,
        mantissa: u64,
        exponent: i32,
    },
}

impl Extended {
    /// Reads what `strtold` reads, under the conditions of
    /// [`parse_float`](super::number::parse_float).
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() >= LITERAL_BYTES_END {
            return None;
        }
        let Literal { negative, magnitude } = Literal::parse(text)?;
        let (unrounded, exponent) = match magnitude {
            Magnitude::Infinite => return Some(Self::Infinite { negative }),
            Magnitude::Zero => {
                let (mantissa, exponent) = Format::EXTENDED.round(0, 0)?;
                return Some(Self::Finite { negative, mantissa, exponent });
            }
            Magnitude::Hexadecimal { mantissa, exponent } => (mantissa, exponent),
            Magnitude::Decimal { integer, fraction, exponent } => to_binary(integer, fraction, exponent)?,
        };
        let (mantissa, exponent) = Format::EXTENDED.round(unrounded, exponent)?;
        (mantissa != 0).then_some(Self::Finite { negative, mantissa, exponent })
    }

    /// The sum, rounded to the nearest; `None` if it is infinite or NaN.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        /// Room behind the last bit of the larger number: enough for the smaller one's bits to be cut off
        /// where they no longer decide but as "not zero".
        const GUARD_BITS: i32 = 62;

        let (
            Self::Finite { negative, mantissa, exponent },
            Self::Finite { negative: other_negative, mantissa: other_mantissa, exponent: other_exponent },
        ) = (self, other)
        else {
            return None;
        };
        if exponent < other_exponent {
            return other.checked_add(self);
        }
        let large = u128::from(mantissa) << GUARD_BITS;
        let small = u128::from(other_mantissa) << GUARD_BITS;
        let shift = exponent.abs_diff(other_exponent);
        let cut_off = small != 0 && small.trailing_zeros() < shift;
        let small = small.checked_shr(shift).unwrap_or(0) | u128::from(cut_off);
        let (negative, sum) = if negative == other_negative {
            (negative, large + small)
        } else if large >= small {
            (negative, large - small)
        } else {
            (other_negative, small - large)
        };
        let (mantissa, exponent) = Format::EXTENDED.round(sum, i64::from(exponent - GUARD_BITS))?;
        Some(Self::Finite { negative, mantissa, exponent })
    }

    /// C's `%.17Lf`, without the zeros it ends with.
    #[must_use]
    pub fn to_text(self) -> String {
        let (negative, magnitude) = match self {
            Self::Infinite { negative } => (negative, "inf".to_owned()),
            Self::Finite { negative, mantissa, exponent: exponent @ 0.. } => {
                (negative, Natural::from(mantissa).shifted_left(exponent.unsigned_abs()).into_text())
            }
            Self::Finite { negative, mantissa, exponent } => {
                let scaled = u128::from(mantissa) * FRACTION_UNIT;
                (negative, fraction_to_text(shift_right_rounded(scaled, exponent.unsigned_abs())))
            }
        };
        if negative && magnitude != "0" { format!("-{magnitude}") } else { magnitude }
    }
}

/// `scaled` / 10^17, without the zeros it ends with.
fn fraction_to_text(scaled: u128) -> String {
    let (integer, fraction) = (scaled / FRACTION_UNIT, scaled % FRACTION_UNIT);
    let text = format!("{integer}.{fraction:0FRACTION_DIGITS$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `value` / 2^`shift` to the nearest integer, of two the even one. `value` is below 2^127, `shift` not 0.
fn shift_right_rounded(value: u128, shift: u32) -> u128 {
    if shift >= u128::BITS {
        return 0;
    }
    let quotient = value >> shift;
    let rest = value - (quotient << shift);
    let half = 1 << (shift - 1);
    quotient + u128::from(rest > half || (rest == half && quotient & 1 == 1))
}

/// The decimal number `integer`.`fraction` * 10^`exponent`, which is not zero, as a mantissa of about 70
/// bits times a power of two; the mantissa's lowest bit stands for all behind it. `None` if it is too
/// large or too small for any [`Extended`].
fn to_binary(integer: &[u8], fraction: &[u8], exponent: i64) -> Option<(u128, i64)> {
    /// Decimal exponents beyond which every number is infinite or zero.
    const EXPONENT_MAX: i64 = 4_933;
    const EXPONENT_MIN: i64 = -4_952;
    /// Bits of the quotient: those of a mantissa, one to round by, and one since the first may be zero.
    const QUOTIENT_BITS: u32 = Format::EXTENDED.precision + 3;

    let leading_zeros = integer.iter().chain(fraction).take_while(|&&digit| digit == b'0').count();
    let first_digit = exponent + (integer.len() as i64 - 1 - leading_zeros as i64);
    if !(EXPONENT_MIN..=EXPONENT_MAX).contains(&first_digit) {
        return None;
    }
    let mut dividend = Natural::from_digits(integer.iter().chain(fraction));
    let exponent = exponent - fraction.len() as i64;
    let mut divisor = Natural::from(1);
    let scaled = if exponent < 0 { &mut divisor } else { &mut dividend };
    scaled.multiply_by_power_of_ten(exponent.unsigned_abs());

    // Bit by bit, from the quotient's highest: both numbers are short unless somebody tries us.
    let shift = i64::from(divisor.bits()) + i64::from(QUOTIENT_BITS) - 1 - i64::from(dividend.bits());
    let (dividend_shift, divisor_shift) = (shift.max(0) as u32, (-shift).max(0) as u32);
    let mut dividend = dividend.shifted_left(dividend_shift);
    let divisor = divisor.shifted_left(divisor_shift + QUOTIENT_BITS - 1);
    let mut quotient = 0u128;
    for _ in 0..QUOTIENT_BITS {
        quotient <<= 1;
        if dividend.cmp(&divisor) != Ordering::Less {
            dividend.subtract(&divisor);
            quotient |= 1;
        }
        dividend.multiply_and_add(2, 0);
    }
    Some((quotient << 1 | u128::from(!dividend.is_zero()), -shift - 1))
}

/// An integer of any size, in words of 64 bits, the lowest first, the highest not zero.
#[derive(Clone, Debug)]
struct Natural(Vec<u64>);

impl From<u64> for Natural {
    fn from(value: u64) -> Self {
        let mut natural = Self(vec![value]);
        natural.trim();
        natural
    }
}

impl Natural {
    /// The largest power of ten in a word, and its exponent.
    const WORD_OF_TENS: (u64, usize) = (10u64.pow(19), 19);

    fn from_digits<'a>(digits: impl Iterator<Item = &'a u8>) -> Self {
        let mut natural = Self(Vec::new());
        let (mut word, mut scale) = (0u64, 1u64);
        for digit in digits {
            word = word * 10 + u64::from(digit - b'0');
            scale *= 10;
            if scale == Self::WORD_OF_TENS.0 {
                natural.multiply_and_add(scale, word);
                (word, scale) = (0, 1);
            }
        }
        natural.multiply_and_add(scale, word);
        natural
    }

    fn into_text(mut self) -> String {
        let mut groups = Vec::new();
        while !self.is_zero() {
            groups.push(self.divide(Self::WORD_OF_TENS.0));
        }
        let mut text = groups.pop().unwrap_or(0).to_string();
        for group in groups.iter().rev() {
            text.push_str(&format!("{group:0width$}", width = Self::WORD_OF_TENS.1));
        }
        text
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    fn bits(&self) -> u32 {
        self.0.last().map_or(0, |high| self.0.len() as u32 * u64::BITS - high.leading_zeros())
    }

    fn cmp(&self, other: &Self) -> Ordering {
        let by_words = || self.0.iter().rev().cmp(other.0.iter().rev());
        self.0.len().cmp(&other.0.len()).then_with(by_words)
    }

    fn multiply_and_add(&mut self, factor: u64, summand: u64) {
        let mut carry = summand;
        for word in &mut self.0 {
            let product = u128::from(*word) * u128::from(factor) + u128::from(carry);
            *word = product as u64;
            carry = (product >> u64::BITS) as u64;
        }
        if carry != 0 {
            self.0.push(carry);
        }
    }

    fn multiply_by_power_of_ten(&mut self, exponent: u64) {
        let (word, digits) = (Self::WORD_OF_TENS.0, Self::WORD_OF_TENS.1 as u64);
        for _ in 0..exponent / digits {
            self.multiply_and_add(word, 0);
        }
        self.multiply_and_add(10u64.pow((exponent % digits) as u32), 0);
    }

    fn shifted_left(mut self, bits: u32) -> Self {
        let (words, bits) = ((bits / u64::BITS) as usize, bits % u64::BITS);
        self.multiply_and_add(1 << bits, 0);
        if !self.is_zero() {
            self.0.splice(0..0, std::iter::repeat_n(0, words));
        }
        self
    }

    /// Subtracts a number that is not larger.
    fn subtract(&mut self, other: &Self) {
        let mut borrow = false;
        for (place, word) in self.0.iter_mut().enumerate() {
            let subtrahend = other.0.get(place).copied().unwrap_or(0);
            (*word, borrow) = word.borrowing_sub(subtrahend, borrow);
        }
        self.trim();
    }

    /// Divides, and returns the remainder.
    fn divide(&mut self, divisor: u64) -> u64 {
        let mut remainder = 0u64;
        for word in self.0.iter_mut().rev() {
            let dividend = u128::from(remainder) << u64::BITS | u128::from(*word);
            *word = (dividend / u128::from(divisor)) as u64;
            remainder = (dividend % u128::from(divisor)) as u64;
        }
        self.trim();
        remainder
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(current: &str, increment: &str, expected: &str) {
        let sum = match add_float(current.as_bytes(), increment.as_bytes()) {
            Ok(sum) => String::from_utf8(sum.to_vec()).expect("digits are text"),
            Err(error) => format!("{error:?}"),
        };
        assert_eq!(sum, expected, "{current} + {increment}");
    }

    #[test]
    fn sums_are_those_of_redis() {
        let cases = include_str!("incrbyfloat.txt").lines().filter(|line| !line.starts_with('#'));
        let mut count = 0;
        for case in cases {
            let [current, increment, expected] = case.split('|').collect::<Vec<_>>()[..] else {
                panic!("not current|increment|answer: {case}");
            };
            check(current, increment, expected);
            count += 1;
        }
        assert!(count > 200, "{count} cases");
    }

    #[test]
    fn long_literals_are_read_to_their_last_digit() {
        let half = format!("18446744073709551616.{}", "9".repeat(4_000));
        check(&half, "0", "18446744073709551616");
        // Half way between two numbers, and a trifle above.
        check("18446744073709551617.0", "0", "18446744073709551616");
        check(&format!("18446744073709551617.{}1", "0".repeat(4_000)), "0", "18446744073709551618");
        check(&format!("{}e-4999", "1".to_owned() + &"0".repeat(5_000)), "0", "10");
        check(&format!("0.{}1e4001", "0".repeat(4_000)), "0", "1");
        check(&format!("1{}", "0".repeat(5_119)), "0", "NotAFloat");
        check(&"0".repeat(5_119), "1", "1");
        check(&"0".repeat(5_120), "1", "NotAFloat");
    }

    #[test]
    fn the_largest_and_the_smallest() {
        let largest = Extended::parse(b"0x1.fffffffffffffffep16383").expect("the largest number");
        assert_eq!(largest, Extended::Finite { negative: false, mantissa: u64::MAX, exponent: 16_320 });
        assert_eq!(largest.checked_add(largest), None);
        assert_eq!(largest.to_text().len(), 4_933);
        assert!(
            largest.to_text().starts_with("118973149535723176502126385303097020516906332229462420044032")
        );
        assert_eq!(Extended::parse(b"0x1.ffffffffffffffffp16383"), None);

        let smallest = Extended::parse(b"-0x1p-16445").expect("the smallest number");
        assert_eq!(smallest, Extended::Finite { negative: true, mantissa: 1, exponent: -16_445 });
        assert_eq!(Extended::parse(b"-4e-4951"), Some(smallest));
        assert_eq!(Extended::parse(b"0x1p-16446"), None);
        assert_eq!(Extended::parse(b"0x1.1p-16446"), Extended::parse(b"4e-4951"));
        assert_eq!(smallest.to_text(), "0");
    }

    #[test]
    fn infinity_is_read_but_never_a_sum() {
        let infinity = Extended::parse(b"-Infinity").expect("an operand");
        assert_eq!(infinity, Extended::Infinite { negative: true });
        assert_eq!(infinity.to_text(), "-inf");
        check("-inf", "-inf", "NanOrInfinity");
    }

    proptest::proptest! {
        /// Numbers with room in 64 bits have exact sums, which need no emulation to check.
        #[test]
        fn integers_are_added_exactly(left in -(1i64 << 62)..1 << 62, right in -(1i64 << 62)..1 << 62) {
            check(&left.to_string(), &right.to_string(), &(left + right).to_string());
        }

        #[test]
        fn no_text_is_too_strange(current in "[-+0-9.eExXpPa-fn]{0,40}", increment in "\\PC{0,10}") {
            let _ = add_float(current.as_bytes(), increment.as_bytes());
        }
    }
}
