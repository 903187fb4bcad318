//! Numbers as C reads and writes them, the same on every machine.

/// The number with at most `precision` digits, as `%.14g` would print it for 14.
#[must_use]
pub fn format_general(value: f64, precision: usize) -> String {
    if !value.is_finite() {
        let sign = if value.is_sign_negative() { "-" } else { "" };
        return format!("{sign}{}", if value.is_nan() { "nan" } else { "inf" });
    }
    let digits_max = precision.max(1);
    let scientific = format!("{value:.*e}", digits_max - 1);
    let (mantissa, exponent) = scientific.split_once('e').expect("that is what it was asked for");
    let exponent: i32 = exponent.parse().expect("an exponent is a small number");
    if exponent < -4 || exponent >= digits_max as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", without_zeros(mantissa), exponent.abs());
    }
    let decimals = (digits_max as i32 - 1 - exponent) as usize;
    without_zeros(&format!("{value:.decimals$}")).to_owned()
}

/// Without zeros at the end of a fraction, and without its point if nothing is left.
fn without_zeros(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

/// The number that `text` begins with, and its length; whatever C's `strtod` reads: decimal, hexadecimal,
/// infinity and not a number.
#[must_use]
pub fn parse_prefix(text: &[u8]) -> Option<(f64, usize)> {
    let sign = usize::from(matches!(text.first(), Some(b'+' | b'-')));
    let unsigned = &text[sign..];
    let (value, length) = parse_special(unsigned)
        .or_else(|| parse_hexadecimal(unsigned))
        .or_else(|| parse_decimal(unsigned))?;
    Some((if text[0] == b'-' { -value } else { value }, sign + length))
}

fn starts_with(text: &[u8], word: &str) -> bool {
    text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
}

fn parse_special(text: &[u8]) -> Option<(f64, usize)> {
    if starts_with(text, "infinity") {
        return Some((f64::INFINITY, 8));
    }
    if starts_with(text, "inf") {
        return Some((f64::INFINITY, 3));
    }
    if !starts_with(text, "nan") {
        return None;
    }
    // A word in parentheses belongs to it.
    let after = &text[3..];
    let word = after.iter().skip(1).take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    let closed = after.first() == Some(&b'(') && after.get(1 + word) == Some(&b')');
    Some((f64::NAN, if closed { 3 + word + 2 } else { 3 }))
}

fn count_digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// The exponent after one of `marks`, and its length; nothing and 0 if there is none.
fn parse_exponent(text: &[u8], marks: [u8; 2]) -> (i64, usize) {
    if !text.first().is_some_and(|mark| marks.contains(mark)) {
        return (0, 0);
    }
    let sign = usize::from(matches!(text.get(1), Some(b'+' | b'-')));
    let digits = &text[1 + sign..];
    let digits = &digits[..count_digits(digits)];
    if digits.is_empty() {
        return (0, 0);
    }
    // No double is near what this ends at.
    let value = digits.iter().fold(0_i64, |value, digit| (value * 10 + i64::from(digit - b'0')).min(1 << 40));
    (if text[1] == b'-' { -value } else { value }, 1 + sign + digits.len())
}

fn parse_decimal(text: &[u8]) -> Option<(f64, usize)> {
    let whole = count_digits(text);
    let mut length = whole;
    let mut fraction = 0;
    if text.get(whole) == Some(&b'.') {
        fraction = count_digits(&text[whole + 1..]);
        length += 1 + fraction;
    }
    if whole + fraction == 0 {
        return None;
    }
    length += parse_exponent(&text[length..], *b"eE").1;
    let number = std::str::from_utf8(&text[..length]).expect("digits, a point, an exponent");
    Some((number.parse().expect("the form of a number was checked"), length))
}

fn parse_hexadecimal(text: &[u8]) -> Option<(f64, usize)> {
    if !starts_with(text, "0x") {
        return None;
    }
    // 60 bits are more than a double holds; of the rest, it matters only whether all are 0.
    let (mut mantissa, mut rest, mut exponent) = (0_u64, false, 0_i64);
    let (mut digits, mut point) = (0, None);
    let mut length = 2;
    for byte in &text[2..] {
        if *byte == b'.' && point.is_none() {
            point = Some(length);
        } else if let Some(digit) = char::from(*byte).to_digit(16) {
            digits += 1;
            if mantissa >> 56 == 0 {
                mantissa = mantissa << 4 | u64::from(digit);
                exponent -= if point.is_some() { 4 } else { 0 };
            } else {
                rest |= digit != 0;
                exponent += if point.is_some() { 0 } else { 4 };
            }
        } else {
            break;
        }
        length += 1;
    }
    if digits == 0 {
        return Some((0.0, 1)); // The 0 before the x.
    }
    let (power, power_length) = parse_exponent(&text[length..], *b"pP");
    let mantissa = mantissa << 1 | u64::from(rest);
    Some((scale(mantissa as f64, exponent - 1 + power), length + power_length))
}

/// `value * 2^exponent`.
fn scale(mut value: f64, exponent: i64) -> f64 {
    let mut exponent = exponent.clamp(-5000, 5000) as i32;
    while exponent != 0 && value != 0.0 && value.is_finite() {
        let step = exponent.clamp(-1000, 1000);
        value *= 2_f64.powi(step);
        exponent -= step;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_in_c() {
        let cases = [
            (0.0, 14, "0"),
            (-0.0, 14, "-0"),
            (1.0, 14, "1"),
            (0.1, 14, "0.1"),
            (1.0 / 3.0, 14, "0.33333333333333"),
            (1.0 / 3.0, 3, "0.333"),
            (1e14, 14, "1e+14"),
            (99_999_999_999_999.0, 14, "99999999999999"),
            (999_999_999_999_999.0, 14, "1e+15"),
            (123_456_789.123, 4, "1.235e+08"),
            (0.0001, 14, "0.0001"),
            (0.00001, 14, "1e-05"),
            (0.000_099_999, 3, "0.0001"),
            (1e100, 14, "1e+100"),
            (-2.5, 1, "-2"),
            (5e-324, 14, "4.9406564584125e-324"),
            (f64::INFINITY, 14, "inf"),
            (f64::NEG_INFINITY, 14, "-inf"),
            (f64::NAN, 14, "nan"),
        ];
        for (value, precision, expected) in cases {
            assert_eq!(format_general(value, precision), expected, "{value:?}");
        }
    }

    #[track_caller]
    fn check(text: &str, value: f64, length: usize) {
        let (found, found_length) = parse_prefix(text.as_bytes()).expect(text);
        assert!(found.to_bits() == value.to_bits(), "{text}: {found}");
        assert_eq!(found_length, length, "{text}");
    }

    #[test]
    fn numbers_are_read_as_in_c() {
        check("1", 1.0, 1);
        check("-1.5e3x", -1500.0, 6);
        check("1e", 1.0, 1);
        check("1e+", 1.0, 1);
        check(".5", 0.5, 2);
        check("5.", 5.0, 2);
        check("007", 7.0, 3);
        check("1e999", f64::INFINITY, 5);
        check("1e99999999999999999999", f64::INFINITY, 22);
        check("-0", -0.0, 2);
        check("INFinitY", f64::INFINITY, 8);
        check("-infi", f64::NEG_INFINITY, 4);
        check("nan", f64::NAN, 3);
        check("nan(x_1)", f64::NAN, 8);
        check("nan(x-1)", f64::NAN, 3);
        check("0x10", 16.0, 4);
        check("0x1.8p1", 3.0, 7);
        check("0x.8", 0.5, 4);
        check("0xg", 0.0, 1);
        check("0x1p-1074", 5e-324, 9);
        check("0xffffffffffffffffffff", 1_208_925_819_614_629_174_706_175.0, 22);
        check("0x20000000000001000000000001", 2.535_301_200_456_459_4e30, 28);
        for nothing in ["", "-", ".", "+.", "e5", "in", "-x"] {
            assert_eq!(parse_prefix(nothing.as_bytes()), None, "{nothing}");
        }
    }
}
