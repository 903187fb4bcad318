//! Numbers as text: what Redis takes for an integer and for a floating point number, and how it writes
//! the latter.
//!
//! Nothing here asks the C library, whose answers differ between platforms: what is read and written here
//! becomes part of the replicated state.

pub use super::extended::{FloatError, add_float};

/// An integer in the one form in which Redis would write it (`string2ll`): no `+`, no leading zero, no
/// `-0`, no space.
#[must_use]
pub fn parse_int(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if let [] | [b'0', ..] = digits {
        return (text == b"0").then_some(0);
    }
    // Counted downwards, where there is one more.
    let mut value = 0i64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_sub(i64::from(digit - b'0'))?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}

/// A floating point number as `strtod` reads it: decimal (`1`, `.5`, `5.`, `+1e5`), hexadecimal
/// (`0x1.8p3`) or infinite (`inf`, `-Infinity`). Not: NaN, anything with spaces, a finite number beyond
/// the largest, and one that would become zero without being zero.
#[must_use]
pub fn parse_float(text: &[u8]) -> Option<f64> {
    let literal = Literal::parse(text)?;
    let magnitude = match literal.magnitude {
        Magnitude::Infinite => f64::INFINITY,
        Magnitude::Zero => 0.0,
        Magnitude::Decimal { .. } => {
            let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
            Some(value.abs()).filter(|&value| value != 0.0 && value.is_finite())?
        }
        Magnitude::Hexadecimal { mantissa, exponent } => {
            let (mantissa, exponent) = Format::DOUBLE.round(mantissa, exponent)?;
            // Both factors and the product are doubles, so nothing is rounded.
            Some(mantissa as f64 * power_of_two(exponent)).filter(|&value| value != 0.0)?
        }
    };
    Some(if literal.negative { -magnitude } else { magnitude })
}

/// The double 2^`exponent`, of an exponent from -1074 to 1023.
fn power_of_two(exponent: i32) -> f64 {
    let (exponent, subnormal) = (i64::from(exponent), -1074);
    let bits = if exponent < -1022 { 1 << (exponent - subnormal) } else { (exponent + 1023) << 52 };
    f64::from_bits(bits.unsigned_abs())
}

/// A double as a score or a RESP3 double reads: C's `%.17g`, which keeps every bit of it.
#[must_use]
pub fn format_double(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    // Below 2^53 the integers are exact, and have no more than 17 digits.
    if value.abs() < 9e15 && value.fract() == 0.0 && !(value == 0.0 && value.is_sign_negative()) {
        return itoa::Buffer::new().format(value as i64).to_owned();
    }
    let scientific = format!("{:.16e}", value.abs());
    let (mantissa, exponent) = scientific.split_once('e').expect("{:e} writes an e");
    let (first, rest) = mantissa.split_once('.').expect("sixteen digits follow a point");
    let rest = rest.trim_end_matches('0');
    let exponent: i32 = exponent.parse().expect("{:e} writes an integer after the e");

    let mut text = String::with_capacity(32);
    if value.is_sign_negative() {
        text.push('-');
    }
    let places = exponent.unsigned_abs() as usize;
    match exponent {
        0..17 => {
            let (integer, fraction) = rest.split_at(places.min(rest.len()));
            text.push_str(first);
            text.push_str(integer);
            text.extend(std::iter::repeat_n('0', places - integer.len()));
            push_fraction(fraction, &mut text);
        }
        -4..0 => {
            text.push_str("0.");
            text.extend(std::iter::repeat_n('0', places - 1));
            text.push_str(first);
            text.push_str(rest);
        }
        _ => {
            text.push_str(first);
            push_fraction(rest, &mut text);
            text.push_str(if exponent < 0 { "e-" } else { "e+" });
            text.push_str(if places < 10 { "0" } else { "" });
            text.push_str(itoa::Buffer::new().format(places));
        }
    }
    text
}

fn push_fraction(digits: &str, text: &mut String) {
    if !digits.is_empty() {
        text.push('.');
        text.push_str(digits);
    }
}

/// A floating point number as it was written, before any rounding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Literal<'a> {
    pub negative: bool,
    pub magnitude: Magnitude<'a>,
}

/// The size of a [`Literal`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Magnitude<'a> {
    Infinite,
    Zero,
    /// The digits before and after the point, times a power of ten.
    Decimal {
        integer: &'a [u8],
        fraction: &'a [u8],
        exponent: i64,
    },
    /// An integer times a power of two. The integer's lowest bit stands for all digits behind it.
    Hexadecimal {
        mantissa: u128,
        exponent: i64,
    },
}

impl<'a> Literal<'a> {
    /// Reads the whole of `text`; `None` if it is no number, or NaN.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let (negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        let magnitude = match text {
            [b'0', b'x' | b'X', rest @ ..] => Self::parse_hexadecimal(rest)?,
            [b'0'..=b'9' | b'.', ..] => Self::parse_decimal(text)?,
            _ if text.eq_ignore_ascii_case(b"inf") || text.eq_ignore_ascii_case(b"infinity") => {
                Magnitude::Infinite
            }
            _ => return None,
        };
        Some(Self { negative, magnitude })
    }

    fn parse_decimal(text: &'a [u8]) -> Option<Magnitude<'a>> {
        let (integer, fraction, exponent) = Self::parse_parts(text, u8::is_ascii_digit, b'e')?;
        let zero = integer.iter().chain(fraction).all(|&digit| digit == b'0');
        Some(if zero { Magnitude::Zero } else { Magnitude::Decimal { integer, fraction, exponent } })
    }

    fn parse_hexadecimal(text: &'a [u8]) -> Option<Magnitude<'a>> {
        let (integer, fraction, mut exponent) = Self::parse_parts(text, u8::is_ascii_hexdigit, b'p')?;
        let mut mantissa = 0u128;
        let mut tail = false;
        for (position, &digit) in integer.iter().chain(fraction).enumerate() {
            let digit = char::from(digit).to_digit(16)?;
            let room = mantissa >> 120 == 0;
            if room {
                mantissa = mantissa << 4 | u128::from(digit);
            } else {
                tail |= digit != 0;
            }
            match (room, position >= integer.len()) {
                (true, true) => exponent -= 4,
                (false, false) => exponent += 4,
                _ => {}
            }
        }
        mantissa |= u128::from(tail);
        Some(if mantissa == 0 { Magnitude::Zero } else { Magnitude::Hexadecimal { mantissa, exponent } })
    }

    /// Digits, perhaps a point and more digits, perhaps a letter and an exponent.
    fn parse_parts(
        text: &'a [u8],
        is_digit: fn(&u8) -> bool,
        letter: u8,
    ) -> Option<(&'a [u8], &'a [u8], i64)> {
        let digits = |text: &'a [u8]| {
            text.split_at(text.iter().position(|byte| !is_digit(byte)).unwrap_or(text.len()))
        };
        let (integer, rest) = digits(text);
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => digits(rest),
            rest => (&rest[..0], rest),
        };
        if integer.is_empty() && fraction.is_empty() {
            return None;
        }
        let exponent = match rest {
            [] => 0,
            [first, rest @ ..] if first.eq_ignore_ascii_case(&letter) => Self::parse_exponent(rest)?,
            _ => return None,
        };
        Some((integer, fraction, exponent))
    }

    /// An exponent, held within what is far too large or too small for any format.
    fn parse_exponent(text: &[u8]) -> Option<i64> {
        const FAR: i64 = 1 << 40;
        let (sign, digits) = match text {
            [b'-', digits @ ..] => (-1, digits),
            [b'+', digits @ ..] => (1, digits),
            digits => (1, digits),
        };
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        Some(sign * digits.iter().fold(0, |value, digit| FAR.min(value * 10 + i64::from(digit - b'0'))))
    }
}

/// A binary floating point format.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format {
    /// Bits of a mantissa.
    pub precision: u32,
    /// The exponent of the smallest number above zero.
    exponent_min: i64,
    /// The exponent of the power of two that all numbers are below.
    exponent_end: i64,
}

impl Format {
    /// `f64`.
    pub const DOUBLE: Self = Self { precision: 53, exponent_min: -1074, exponent_end: 1024 };
    /// The 80 bits of the x87, C's `long double` on x86-64.
    pub const EXTENDED: Self = Self { precision: 64, exponent_min: -16445, exponent_end: 16384 };

    /// The number of this format that is nearest to `mantissa` * 2^`exponent`, of two the even one, as
    /// such a pair with a mantissa of all the format's bits (or the smallest exponent). `None` if that is
    /// infinite. `mantissa` is below 2^127. Its lowest bit may stand for any that were cut off, if it has
    /// two bits more than the format.
    pub fn round(&self, mantissa: u128, exponent: i64) -> Option<(u64, i32)> {
        if mantissa == 0 {
            return Some((0, self.exponent_min as i32));
        }
        let bits = i64::from(u128::BITS - mantissa.leading_zeros());
        let cut = (bits - i64::from(self.precision)).max(self.exponent_min - exponent);
        let (mut rounded, mut exponent) = (0, exponent + cut);
        if cut <= 0 {
            rounded = mantissa << cut.unsigned_abs();
        } else if cut < i64::from(u128::BITS) {
            rounded = mantissa >> cut;
            let rest = mantissa - (rounded << cut);
            let half = 1 << (cut - 1);
            if rest > half || (rest == half && rounded & 1 == 1) {
                rounded += 1;
            }
            if rounded >> self.precision != 0 {
                rounded >>= 1;
                exponent += 1;
            }
        }
        let bits = i64::from(u128::BITS - rounded.leading_zeros());
        let finite = bits + exponent <= self.exponent_end;
        finite.then_some((rounded as u64, exponent as i32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        fn check(text: &str, expected: Option<i64>) {
            assert_eq!(parse_int(text.as_bytes()), expected, "{text:?}");
        }
        for value in [0, 1, -1, 10, 300, -300, i64::MAX, i64::MIN] {
            check(&value.to_string(), Some(value));
        }
        for text in ["", "-", "+1", "01", "00", "-0", "-01", " 1", "1 ", "1.0", "0x1", "1\0", "１"] {
            check(text, None);
        }
        check("9223372036854775808", None);
        check("-9223372036854775809", None);
        check("18446744073709551617", None);
        check("99999999999999999999999999", None);
    }

    /// What redis-server 7.0.15 answers to ZINCRBY by 0 after `ZADD key <text> member`; `None` for an error.
    #[test]
    fn floats() {
        fn check(text: &str, expected: Option<&str>) {
            assert_eq!(parse_float(text.as_bytes()).map(format_double).as_deref(), expected, "{text:?}");
        }
        check("1", Some("1"));
        check("+1", Some("1"));
        check("01", Some("1"));
        check("-0", Some("-0"));
        check(".5", Some("0.5"));
        check("5.", Some("5"));
        check("1E+5", Some("100000"));
        check("inf", Some("inf"));
        check("-INF", Some("-inf"));
        check("+Infinity", Some("inf"));
        check("1e308", Some("1e+308"));
        check("1e-320", Some("9.9998886718268301e-321"));
        check("3e-324", Some("4.9406564584124654e-324"));
        check("0e999", Some("0"));
        check("0e-99999999999999999999", Some("0"));
        check("0x10", Some("16"));
        check("0X1P+3", Some("8"));
        check("0x.8", Some("0.5"));
        check("-0x1.8p-1", Some("-0.75"));
        check("0x1.fffffffffffff8p0", Some("2"));
        check("0x1.fffffffffffff7p0", Some("1.9999999999999998"));
        check("0x1.00000000000008p0", Some("1"));
        check("0x1.000000000000080000000000000000000000000000001p0", Some("1.0000000000000002"));
        check("0x1p-1074", Some("4.9406564584124654e-324"));
        check("0x1.8p-1075", Some("4.9406564584124654e-324"));
        check("0x0p99999999999999999", Some("0"));
        check("0x1.fffffffffffffp1023", Some("1.7976931348623157e+308"));
        for text in [
            "",
            " 1",
            "1 ",
            ".",
            "-",
            "+-1",
            "1e",
            "1e+",
            "e5",
            "1d",
            "1_0",
            "1\0",
            "١",
            "infinit",
            "nan",
            "-nan",
            "nan(1)",
            "1e400",
            "1e-400",
            "2e-324",
            "1.7976931348623159e308",
            "0x",
            "0x.",
            "0x1p",
            "0xg",
            "0x1p1024",
            "0x1.fffffffffffff8p1023",
            "0x1p-1075",
            "1e99999999999999999999",
            "0x1p-99999999999999999999",
        ] {
            check(text, None);
        }
    }

    /// What C's `%.17g` writes.
    #[test]
    fn doubles_are_written_with_seventeen_digits() {
        fn check(value: f64, expected: &str) {
            assert_eq!(format_double(value), expected);
        }
        check(0.0, "0");
        check(-0.0, "-0");
        check(-3.0, "-3");
        check(0.1, "0.10000000000000001");
        check(3.3, "3.2999999999999998");
        check(-12.5, "-12.5");
        check(0.0001, "0.0001");
        check(0.00012, "0.00012");
        check(1e-5, "1.0000000000000001e-05");
        check(9_007_199_254_740_993.0, "9007199254740992");
        check(1e16, "10000000000000000");
        check(99_999_999_999_999_999.0, "1e+17");
        check(123_456_789_012_345_678.0, "1.2345678901234568e+17");
        check(1234567890.0625, "1234567890.0625");
        check(1e100, "1e+100");
        check(f64::from_bits(1), "4.9406564584124654e-324");
        check(f64::MAX, "1.7976931348623157e+308");
        // Eighteen digits, the last a 5: to the even neighbour.
        check(1.0 + 1.0 / 131_072.0, "1.0000076293945312");
        check(1.0 + 3.0 / 131_072.0, "1.0000228881835938");
        check(f64::INFINITY, "inf");
        check(f64::NEG_INFINITY, "-inf");
        check(f64::NAN, "nan");
    }

    proptest::proptest! {
        #[test]
        fn doubles_survive_their_text(bits in proptest::num::u64::ANY) {
            let value = f64::from_bits(bits);
            if !value.is_nan() {
                let read = parse_float(format_double(value).as_bytes());
                assert_eq!(read.map(f64::to_bits), Some(bits));
            }
        }

        #[test]
        fn hexadecimal_is_exact(mantissa in 1u64..1 << 53, exponent in -1074i32..970) {
            let text = format!("0x{mantissa:x}p{exponent}");
            let expected = mantissa as f64 * power_of_two(exponent);
            assert_eq!(parse_float(text.as_bytes()), Some(expected));
        }

        #[test]
        fn no_text_is_too_strange(text in "[-+0-9.eExXpPa-fn]{0,40}|\\PC{0,20}") {
            let _ = (parse_int(text.as_bytes()), parse_float(text.as_bytes()));
        }
    }
}
