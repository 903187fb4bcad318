//! Replies as bytes in the replicated state.
//!
//! The machine keeps the replies of commands whose origin may ask for them again, and they travel in
//! snapshots. Each begins with the version of this form, 1:
//!
//! | tag | reply | then |
//! |----:|---|---|
//! | 0 | `Nothing` | |
//! | 1 | `Ok` | |
//! | 2 | `Status`, `StatusText` | text |
//! | 3 | `Error` | text |
//! | 4 | `Int` | varint of the value, zigzag |
//! | 5 | `Bulk` | bytes |
//! | 6 | `Nil` | |
//! | 7 | `NilArray` | |
//! | 8 | `Double` | 8 bytes of IEEE 754, little-endian |
//! | 9 | `Bool(false)` | |
//! | 10 | `Bool(true)` | |
//! | 11 | `Verbatim` | bytes |
//! | 12 | `Array` | count, replies |
//! | 13 | `Map` | count of pairs, each a key and a value |
//! | 14 | `Set` | count, replies |
//! | 15 | `Push` | count, replies |
//! | 16 | `Sequence` | count, replies |
//! | 17 | `Receivers` | varint of the place |
//! | 18 | `Pairs` | count of pairs, each two replies |
//! | 19 | `VerbatimAs` | bytes: three of the format, the text |
//! | 20 | `BigNumber` | text |
//! | 21 | `Attributes` | count of pairs, each a key and a value |
//!
//! Text and bytes are a varint of their length and themselves. A varint is LEB128: seven bits a byte, the
//! lowest first, the top bit set in all but the last. A tag never changes its meaning.

use bytes::{Buf, Bytes};

use super::reply::Reply;
use crate::error::ClientError;

const VERSION: u8 = 1;

/// What is stored of a reply nested deeper than [`Reply::NESTING_MAX`], in place of what is too deep.
const TOO_DEEP: ClientError = ClientError::fixed("ERR reply nested too deeply");

mod tag {
    pub const NOTHING: u8 = 0;
    pub const OK: u8 = 1;
    pub const STATUS: u8 = 2;
    pub const ERROR: u8 = 3;
    pub const INT: u8 = 4;
    pub const BULK: u8 = 5;
    pub const NIL: u8 = 6;
    pub const NIL_ARRAY: u8 = 7;
    pub const DOUBLE: u8 = 8;
    pub const FALSE: u8 = 9;
    pub const TRUE: u8 = 10;
    pub const VERBATIM: u8 = 11;
    pub const ARRAY: u8 = 12;
    pub const MAP: u8 = 13;
    pub const SET: u8 = 14;
    pub const PUSH: u8 = 15;
    pub const SEQUENCE: u8 = 16;
    pub const RECEIVERS: u8 = 17;
    pub const PAIRS: u8 = 18;
    pub const VERBATIM_AS: u8 = 19;
    pub const BIG_NUMBER: u8 = 20;
    pub const ATTRIBUTES: u8 = 21;
}

impl Reply {
    /// How many aggregates may contain one another. Whoever builds a reply from a client's data (a script)
    /// stays below; everything that walks a reply recurses.
    pub const NESTING_MAX: usize = 128;

    /// Appends the stored form.
    pub fn store(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        store_nested(self, 0, out);
    }

    /// Takes a reply off the front of `bytes`; `None` if they are not the stored form of one. It encodes
    /// to the same bytes as the one stored, but a [`Reply::Status`] has become a [`Reply::StatusText`].
    #[must_use]
    pub fn load(bytes: &mut &[u8]) -> Option<Self> {
        if load_byte(bytes)? != VERSION {
            return None;
        }
        load_nested(bytes, 0)
    }
}

fn store_nested(reply: &Reply, depth: usize, out: &mut Vec<u8>) {
    match reply {
        Reply::Array(_)
        | Reply::Map(_)
        | Reply::Pairs(_)
        | Reply::Attributes(_)
        | Reply::Set(_)
        | Reply::Push(_)
        | Reply::Sequence(_)
            if depth == Reply::NESTING_MAX =>
        {
            store_bytes(tag::ERROR, TOO_DEEP.as_str().as_bytes(), out);
        }
        Reply::Nothing => out.push(tag::NOTHING),
        Reply::Ok => out.push(tag::OK),
        Reply::Status(text) => store_bytes(tag::STATUS, text.as_bytes(), out),
        Reply::StatusText(text) => store_bytes(tag::STATUS, text, out),
        Reply::Error(error) => store_bytes(tag::ERROR, error.as_str().as_bytes(), out),
        Reply::Int(value) => store_number(tag::INT, (value << 1 ^ value >> 63).cast_unsigned(), out),
        Reply::Bulk(bytes) => store_bytes(tag::BULK, bytes, out),
        Reply::Nil => out.push(tag::NIL),
        Reply::NilArray => out.push(tag::NIL_ARRAY),
        Reply::Double(value) => {
            out.push(tag::DOUBLE);
            out.extend_from_slice(&value.to_le_bytes());
        }
        Reply::Bool(false) => out.push(tag::FALSE),
        Reply::Bool(true) => out.push(tag::TRUE),
        Reply::Verbatim(text) => store_bytes(tag::VERBATIM, text, out),
        Reply::VerbatimAs(format, text) => store_bytes(tag::VERBATIM_AS, &[format, &text[..]].concat(), out),
        Reply::BigNumber(digits) => store_bytes(tag::BIG_NUMBER, digits, out),
        Reply::Array(replies) => store_all(tag::ARRAY, replies, depth, out),
        Reply::Map(pairs) => store_pairs(tag::MAP, pairs, depth, out),
        Reply::Pairs(pairs) => store_pairs(tag::PAIRS, pairs, depth, out),
        Reply::Attributes(pairs) => store_pairs(tag::ATTRIBUTES, pairs, depth, out),
        Reply::Set(replies) => store_all(tag::SET, replies, depth, out),
        Reply::Push(replies) => store_all(tag::PUSH, replies, depth, out),
        Reply::Sequence(replies) => store_all(tag::SEQUENCE, replies, depth, out),
        Reply::Receivers(place) => store_number(tag::RECEIVERS, u64::from(*place), out),
    }
}

fn store_all(tag: u8, replies: &[Reply], depth: usize, out: &mut Vec<u8>) {
    store_number(tag, replies.len() as u64, out);
    for reply in replies {
        store_nested(reply, depth + 1, out);
    }
}

fn store_pairs(tag: u8, pairs: &[(Reply, Reply)], depth: usize, out: &mut Vec<u8>) {
    store_number(tag, pairs.len() as u64, out);
    for (first, second) in pairs {
        store_nested(first, depth + 1, out);
        store_nested(second, depth + 1, out);
    }
}

fn store_bytes(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    store_number(tag, bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn store_number(tag: u8, mut number: u64, out: &mut Vec<u8>) {
    out.push(tag);
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn load_nested(bytes: &mut &[u8], depth: usize) -> Option<Reply> {
    if depth > Reply::NESTING_MAX {
        return None;
    }
    Some(match load_byte(bytes)? {
        tag::NOTHING => Reply::Nothing,
        tag::OK => Reply::Ok,
        tag::STATUS => Reply::StatusText(load_bytes(bytes)?),
        tag::ERROR => Reply::Error(ClientError::new(std::str::from_utf8(&load_bytes(bytes)?).ok()?)),
        tag::INT => {
            let zigzag = load_number(bytes)?;
            Reply::Int((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
        }
        tag::BULK => Reply::Bulk(load_bytes(bytes)?),
        tag::NIL => Reply::Nil,
        tag::NIL_ARRAY => Reply::NilArray,
        tag::DOUBLE => {
            let (value, rest) = bytes.split_first_chunk()?;
            *bytes = rest;
            Reply::Double(f64::from_le_bytes(*value))
        }
        tag::FALSE => Reply::Bool(false),
        tag::TRUE => Reply::Bool(true),
        tag::VERBATIM => Reply::Verbatim(load_bytes(bytes)?),
        tag::VERBATIM_AS => {
            let mut text = load_bytes(bytes)?;
            let format = *text.first_chunk()?;
            text.advance(format.len());
            Reply::VerbatimAs(format, text)
        }
        tag::BIG_NUMBER => Reply::BigNumber(load_bytes(bytes)?),
        tag::ARRAY => Reply::Array(load_all(bytes, depth)?),
        tag::MAP => Reply::Map(load_pairs(bytes, depth)?),
        tag::PAIRS => Reply::Pairs(load_pairs(bytes, depth)?),
        tag::ATTRIBUTES => Reply::Attributes(load_pairs(bytes, depth)?),
        tag::SET => Reply::Set(load_all(bytes, depth)?),
        tag::PUSH => Reply::Push(load_all(bytes, depth)?),
        tag::SEQUENCE => Reply::Sequence(load_all(bytes, depth)?),
        tag::RECEIVERS => Reply::Receivers(load_number(bytes)?.try_into().ok()?),
        _ => return None,
    })
}

fn load_all(bytes: &mut &[u8], depth: usize) -> Option<Vec<Reply>> {
    load_many(bytes, |bytes| load_nested(bytes, depth + 1))
}

fn load_pairs(bytes: &mut &[u8], depth: usize) -> Option<Vec<(Reply, Reply)>> {
    load_many(bytes, |bytes| Some((load_nested(bytes, depth + 1)?, load_nested(bytes, depth + 1)?)))
}

fn load_many<T>(bytes: &mut &[u8], load: impl Fn(&mut &[u8]) -> Option<T>) -> Option<Vec<T>> {
    let count = usize::try_from(load_number(bytes)?).ok()?;
    // Each takes a byte or more: a count beyond that is damage, and must not reserve memory.
    if count > bytes.len() {
        return None;
    }
    (0..count).map(|_| load(bytes)).collect()
}

fn load_bytes(bytes: &mut &[u8]) -> Option<Bytes> {
    let length = usize::try_from(load_number(bytes)?).ok()?;
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(Bytes::copy_from_slice(taken))
}

fn load_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = load_byte(bytes)?;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn load_byte(bytes: &mut &[u8]) -> Option<u8> {
    let (&first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `reply` is stored as `expected` after the version, and `expected` loads as a reply that stores the
    /// same.
    fn check(reply: &Reply, expected: &[u8]) {
        let mut stored = Vec::new();
        reply.store(&mut stored);
        assert_eq!(stored, [&[1], expected].concat(), "{reply:?}");

        stored.push(0xff);
        let mut rest = stored.as_slice();
        let loaded = Reply::load(&mut rest).expect("what was stored loads");
        assert_eq!(rest, [0xff], "{reply:?}");
        match reply {
            Reply::Status(text) => assert_eq!(loaded, Reply::StatusText(Bytes::from_static(text.as_bytes()))),
            Reply::Double(value) if value.is_nan() => {}
            reply => assert_eq!(loaded, *reply),
        }
        let mut again = Vec::new();
        loaded.store(&mut again);
        assert_eq!(again, stored[..stored.len() - 1]);

        for length in 0..stored.len() - 1 {
            assert_eq!(Reply::load(&mut &stored[..length]), None, "{reply:?} cut at {length}");
        }
    }

    /// These bytes are in snapshots out there: a change that fails this test needs a new version.
    #[test]
    fn version_1() {
        check(&Reply::Nothing, &[0]);
        check(&Reply::Ok, &[1]);
        check(&Reply::Status("PONG"), b"\x02\x04PONG");
        check(&Reply::StatusText(Bytes::from_static(b"none")), b"\x02\x04none");
        check(&ClientError::fixed("ERR no").into(), b"\x03\x06ERR no");
        check(&Reply::Int(0), &[4, 0]);
        check(&Reply::Int(-1), &[4, 1]);
        check(&Reply::Int(1), &[4, 2]);
        check(&Reply::Int(300), &[4, 0xd8, 0x04]);
        check(&Reply::Int(i64::MAX), &[4, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        check(&Reply::Int(i64::MIN), &[4, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        check(&Reply::text("a\r\n\0"), b"\x05\x04a\r\n\0");
        check(&Reply::Nil, &[6]);
        check(&Reply::NilArray, &[7]);
        check(&Reply::Double(1.5), &[8, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f]);
        check(&Reply::Double(f64::NAN), &[8, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f]);
        check(&Reply::Bool(false), &[9]);
        check(&Reply::Bool(true), &[10]);
        check(&Reply::Verbatim(Bytes::from_static(b"hi")), b"\x0b\x02hi");
        check(&Reply::VerbatimAs(*b"mkd", Bytes::from_static(b"hi")), b"\x13\x05mkdhi");
        check(&Reply::BigNumber(Bytes::from_static(b"12")), b"\x14\x0212");
        check(&Reply::Array(vec![Reply::Ok, Reply::Array(vec![])]), &[12, 2, 1, 12, 0]);
        check(&Reply::Map(vec![(Reply::text("k"), Reply::Nil)]), b"\x0d\x01\x05\x01k\x06");
        check(&Reply::Pairs(vec![(Reply::text("k"), Reply::Nil)]), b"\x12\x01\x05\x01k\x06");
        check(&Reply::Set(vec![Reply::Int(1)]), &[14, 1, 4, 2]);
        check(&Reply::Push(vec![Reply::Ok]), &[15, 1, 1]);
        check(&Reply::Sequence(vec![Reply::Nothing, Reply::Ok]), &[16, 2, 0, 1]);
        check(&Reply::Receivers(7), &[17, 7]);
    }

    #[test]
    fn damage_is_refused() {
        for damaged in [
            &[][..],
            &[0, 1],                                                             // another version
            &[1, 18],                                                            // no such tag
            b"\x01\x03\x01\xff",                                                 // an error that is not text
            &[1, 12, 0xff, 0xff, 0xff, 0xff, 0x0f],                              // more replies than bytes
            &[1, 5, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], // more bytes than there are
            &[1, 4, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], // more than 64 bits
            &[1, 4, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00], // without end
            &[1, 17, 0xff, 0xff, 0xff, 0xff, 0x7f],                              // more than 32 bits
        ] {
            assert_eq!(Reply::load(&mut &*damaged), None, "{damaged:?}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nest = |depth| (0..depth).fold(Reply::Ok, |reply, _| Reply::Array(vec![reply]));
        let stored = |reply: &Reply| {
            let mut stored = Vec::new();
            reply.store(&mut stored);
            stored
        };
        let deepest = nest(Reply::NESTING_MAX);
        assert_eq!(Reply::load(&mut stored(&deepest).as_slice()), Some(deepest));

        let too_deep = Reply::load(&mut stored(&nest(Reply::NESTING_MAX + 1)).as_slice()).expect("loads");
        let mut innermost = &too_deep;
        while let Reply::Array(replies) = innermost {
            innermost = &replies[0];
        }
        assert_eq!(*innermost, Reply::Error(TOO_DEEP));

        let hostile = [&[1][..], &[12, 1].repeat(100_000), &[1]].concat();
        assert_eq!(Reply::load(&mut hostile.as_slice()), None);
    }
}
