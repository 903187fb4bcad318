//! What can be done with a string value.

use bytes::{Bytes, BytesMut};
use twox_hash::XxHash3_64;

use super::keyspace::{self, Expiry, Place};
use super::record::{Form, Kind, Record};
use crate::error::{ClientError, Failure, StoreError, text};
use crate::resp::number::{self, FloatError};
use crate::store::{Txn, View};

/// The longest string, as Redis' `proto-max-bulk-len` has it.
pub const BYTES_MAX: usize = 512 << 20;

/// The longest string Redis keeps in one allocation with its key, which OBJECT ENCODING tells.
const EMBEDDED_BYTES_MAX: usize = 44;

/// The value of the string at a key; `None` if there is no such key.
///
/// # Errors
/// "wrong kind of value".
pub fn get(view: &View, db: u8, key: &[u8]) -> Result<Option<Bytes>, Failure> {
    Ok(taken(keyspace::get(view, db, key)?)?)
}

/// The same of a record that nobody needs any more.
///
/// # Errors
/// "wrong kind of value".
pub fn taken(record: Option<Record>) -> Result<Option<Bytes>, ClientError> {
    of(record.as_ref())?;
    Ok(record.map(|record| record.value))
}

/// The value of a record that must be a string.
///
/// # Errors
/// "wrong kind of value".
pub fn of(record: Option<&Record>) -> Result<Option<&Bytes>, ClientError> {
    match record {
        None => Ok(None),
        Some(record) if record.header.kind == Kind::String => Ok(Some(&record.value)),
        Some(_) => Err(text::WRONG_TYPE),
    }
}

/// Puts a whole string at a key, over any value of any type.
pub fn put(tx: &mut Txn, db: u8, key: &[u8], value: &[u8], expiry: Expiry) -> Result<(), StoreError> {
    put_at(tx, Place::find(tx, db, key)?, value, expiry);
    Ok(())
}

/// Puts a whole string at a place.
pub fn put_at(tx: &mut Txn, place: Place, value: &[u8], expiry: Expiry) {
    place.put(tx, Kind::String, Form::Whole, value, expiry);
}

/// Puts a string that was made from the one at this place; the deadline stays.
pub fn put_changed(tx: &mut Txn, place: Place, value: &[u8]) {
    place.put(tx, Kind::String, Form::Changed, value, Expiry::Keep);
}

/// The number after adding `by` to the one in `value`, none counting as zero.
///
/// # Errors
/// "not an integer", "would overflow".
pub fn incremented(value: Option<&Bytes>, by: i64) -> Result<i64, ClientError> {
    let old = match value {
        Some(value) => number::parse_int(value).ok_or(text::NOT_AN_INTEGER)?,
        None => 0,
    };
    old.checked_add(by).ok_or(text::OVERFLOW)
}

/// The number after adding `by` to the one in `value`, none counting as zero, as text: to the digit
/// what Redis answers.
///
/// # Errors
/// "not a valid float", "would produce NaN or Infinity".
pub fn incremented_by_float(value: Option<&Bytes>, by: &[u8]) -> Result<Bytes, ClientError> {
    let old = value.map_or(&b"0"[..], |value| value);
    number::add_float(old, by).map_err(|error| match error {
        FloatError::NotAFloat => text::NOT_A_FLOAT,
        FloatError::NanOrInfinity => text::NAN_OR_INFINITY,
    })
}

/// The part of `value` from `start` to `end`, both included, negative ones counting from the end.
#[must_use]
pub fn range(value: &Bytes, start: i64, end: i64) -> Bytes {
    let length = i64::try_from(value.len()).expect("a length in memory fits");
    let place = |index: i64| if index < 0 { index.saturating_add(length).max(0) } else { index };
    let backwards = start < 0 && end < 0 && start > end;
    let (start, end) = (place(start), place(end).min(length - 1));
    if backwards || start > end || length == 0 {
        return Bytes::new();
    }
    // Both are at least zero and below the length now.
    value.slice(start as usize..=end as usize)
}

/// `value` with `piece` after it.
///
/// # Errors
/// The string would be too long.
pub fn appended(value: &Bytes, piece: &Bytes) -> Result<Bytes, ClientError> {
    overwritten(value, value.len(), piece)
}

/// `value` with `piece` written over it from `offset`, and zero bytes where there was nothing.
///
/// # Errors
/// The string would be too long.
pub fn overwritten(value: &Bytes, offset: usize, piece: &Bytes) -> Result<Bytes, ClientError> {
    let end = offset.checked_add(piece.len()).filter(|end| *end <= BYTES_MAX).ok_or(text::STRING_TOO_LONG)?;
    let mut whole = BytesMut::with_capacity(end.max(value.len()));
    whole.extend_from_slice(value);
    if whole.len() < end {
        whole.resize(end, 0);
    }
    whole[offset..end].copy_from_slice(piece);
    Ok(whole.freeze())
}

/// The XXH3 hash of a value, as DIGEST tells it.
#[must_use]
pub fn digest(value: &[u8]) -> String {
    format!("{:016x}", XxHash3_64::oneshot(value))
}

/// The number a value is stored as, if Redis would store it as one.
#[must_use]
pub fn as_integer(record: &Record) -> Option<i64> {
    let whole = record.header.kind == Kind::String && record.header.form == Form::Whole;
    if whole { number::parse_int(&record.value) } else { None }
}

/// The encoding Redis would use for it.
#[must_use]
pub fn encoding(record: &Record) -> &'static str {
    if as_integer(record).is_some() {
        "int"
    } else if record.header.form != Form::Changed && record.value.len() <= EMBEDDED_BYTES_MAX {
        "embstr"
    } else {
        "raw"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_range(value: &'static str, start: i64, end: i64, expect: &str) {
        assert_eq!(range(&Bytes::from_static(value.as_bytes()), start, end), expect.as_bytes());
    }

    #[test]
    fn ranges_are_redis_ranges() {
        check_range("Hello World", 0, 3, "Hell");
        check_range("Hello World", 0, -1, "Hello World");
        check_range("Hello World", -4, -1, "orld");
        check_range("Hello World", 5, 3, "");
        check_range("Hello World", 5, 5000, " World");
        check_range("Hello World", -5000, 10000, "Hello World");
        check_range("Hello World", -1, -5, "");
        check_range("Hello World", i64::MIN, i64::MAX, "Hello World");
        check_range("Hello World", i64::MIN, i64::MIN, "H");
        check_range("", 0, -1, "");
    }

    #[test]
    fn digests_are_those_of_redis() {
        assert_eq!(digest(b"Hello world"), "b6acb9d84a38ff74");
        assert_eq!(digest(b""), "2d06800538d394c2");
    }

    #[test]
    fn strings_do_not_outgrow_the_limit() {
        let (value, piece) = (Bytes::from_static(b"abc"), Bytes::from_static(b"xy"));
        assert_eq!(overwritten(&value, 5, &piece).expect("short"), &b"abc\0\0xy"[..]);
        assert_eq!(overwritten(&value, 0, &piece).expect("short"), &b"xyc"[..]);
        assert_eq!(appended(&value, &piece).expect("short"), &b"abcxy"[..]);
        assert_eq!(overwritten(&value, BYTES_MAX - 1, &piece), Err(text::STRING_TOO_LONG));
        assert_eq!(overwritten(&value, usize::MAX, &piece), Err(text::STRING_TOO_LONG));
    }
}
