//! What SCAN and its kin have in common: cursors and options.

use bytes::Bytes;

use super::Args;
use crate::error::{ClientError, Result, text};

/// A cursor, as `strtoul` reads it: perhaps signed, perhaps empty.
pub(super) fn parse(text: &[u8]) -> Result<u64, ClientError> {
    let (negative, digits) = match text {
        [] => return Ok(0),
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let number =
        str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let number: u64 = number.and_then(|digits| digits.parse().ok()).ok_or(text::INVALID_CURSOR)?;
    Ok(if negative { number.wrapping_neg() } else { number })
}

/// How much is wanted of what there is.
pub(super) struct Options {
    /// How many elements to look at, roughly.
    pub count: usize,
    pub pattern: Option<Bytes>,
}

impl Options {
    /// Reads options to the end. `other` takes those that one of the commands has for itself, and says whether
    /// the next was one.
    pub fn parse(args: &mut Args, mut other: impl FnMut(&mut Args) -> Result<bool>) -> Result<Self> {
        let mut options = Self { count: 10, pattern: None };
        while !args.is_empty() {
            if args.take("COUNT") {
                let count = args.int()?;
                options.count = usize::try_from(count).ok().filter(|count| *count > 0).ok_or(text::SYNTAX)?;
            } else if args.take("MATCH") {
                options.pattern = Some(args.bytes()?);
            } else if !other(args)? {
                return Err(text::SYNTAX.into());
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Option<u64>) {
        assert_eq!(parse(text.as_bytes()).ok(), expect, "{text}");
    }

    #[test]
    fn cursors_are_read_as_redis_does() {
        check("", Some(0));
        check("0", Some(0));
        check("+17", Some(17));
        check("-1", Some(u64::MAX));
        check("18446744073709551615", Some(u64::MAX));
        check("18446744073709551616", None);
        check("-", None);
        check("0x10", None);
        check(" 1", None);
        check("1 ", None);
    }
}
