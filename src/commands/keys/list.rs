//! Finding keys one does not know.

use bytes::Bytes;

use crate::commands::{Args, Flags, Group, Read, Spec};
use crate::error::{ClientError, Result, text};
use crate::resp::Reply;
use crate::store::View;
use crate::types::{random, scan};

/// All keys that match a pattern, in key order.
pub struct Keys {
    db: u8,
    pattern: Bytes,
}

impl Read for Keys {
    const SPEC: Spec = Spec {
        name: "KEYS",
        syntax: "pattern",
        summary: "Find all keys matching the given pattern",
        complexity: "O(N) with N being the number of keys that begin as the pattern does, up to its first \
                     special character.",
        flags: Flags::DANGEROUS,
        ..Spec::of(Group::Generic)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, pattern: args.bytes()? })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let filter = scan::Filter { pattern: Some(self.pattern), kind: None };
        let keys = scan::all(view, self.db, &filter)?;
        Ok(Reply::Array(keys.into_iter().map(Reply::Bulk).collect()))
    }
}

/// A page of the keys.
pub struct Scan {
    db: u8,
    cursor: u64,
    count: usize,
    filter: scan::Filter,
}

impl Read for Scan {
    const SPEC: Spec = Spec {
        name: "SCAN",
        syntax: "cursor [MATCH pattern] [COUNT count] [TYPE type]",
        summary: "Incrementally iterate the keys space",
        complexity: "O(M) for every call, where M is COUNT. O(N) for a complete iteration, where N is the \
                     number of keys that begin as the pattern does, up to its first special character.",
        since: "2.8.0",
        ..Spec::of(Group::Generic)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        let cursor = parse_cursor(&args.bytes()?)?;
        let mut scan = Self { db: args.db, cursor, count: 10, filter: scan::Filter::default() };
        while !args.is_empty() {
            if args.take("COUNT") {
                let count = args.int()?;
                scan.count = usize::try_from(count).ok().filter(|count| *count > 0).ok_or(text::SYNTAX)?;
            } else if args.take("MATCH") {
                scan.filter.pattern = Some(args.bytes()?);
            } else if args.take("TYPE") {
                scan.filter.kind = Some(args.bytes()?);
            } else {
                return Err(text::SYNTAX.into());
            }
        }
        Ok(scan)
    }

    fn execute(self, view: &View) -> Result<Reply> {
        let page = scan::page(view, self.db, self.cursor, &self.filter, self.count)?;
        let cursor = Reply::bulk(page.cursor.to_string());
        Ok(Reply::Array(vec![cursor, Reply::Array(page.keys.into_iter().map(Reply::Bulk).collect())]))
    }
}

/// A cursor, as `strtoul` reads it: perhaps signed, perhaps empty.
fn parse_cursor(text: &[u8]) -> Result<u64, ClientError> {
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

/// Some key.
pub struct RandomKey {
    db: u8,
}

impl Read for RandomKey {
    const SPEC: Spec = Spec {
        name: "RANDOMKEY",
        summary: "Return a random key from the keyspace",
        complexity: "O(log N) where N is the number of keys in the database.",
        ..Spec::of(Group::Generic)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db })
    }

    fn execute(self, view: &View) -> Result<Reply> {
        Ok(random::key(view, self.db, &mut view.chance())?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Option<u64>) {
        assert_eq!(parse_cursor(text.as_bytes()).ok(), expect, "{text}");
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
