//! How a key is stored.

use bytes::Bytes;

use crate::error::StoreError;
use crate::store::Found;

/// What type of value a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    String,
    Hash,
    List,
}

impl Kind {
    /// The word TYPE answers with.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Hash => "hash",
            Self::List => "list",
        }
    }
}

/// How a value came about, as far as OBJECT ENCODING tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Stored whole: the encoding follows from the bytes.
    Whole,
    /// Changed in place (APPEND, SETRANGE): Redis keeps such a string `raw` however short it is.
    Changed,
    /// The sum of floating point numbers (INCRBYFLOAT): never kept as an integer, even if it is one.
    Computed,
    /// A collection that was once too large for Redis' compact encoding, to which it never goes back.
    Grown,
}

/// What is known about a key besides its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    pub form: Form,
    /// When the key ends, in cluster milliseconds.
    pub deadline: Option<u64>,
    /// The revision that created the key.
    pub created: u64,
    /// The revision that changed it last, its deadline included.
    pub modified: u64,
    /// How many revisions and commands changed it since it was created; 1 for a new key.
    pub version: u64,
}

/// A key's record.
///
/// On disk, numbers big-endian:
///
/// | at | bytes | what |
/// | --- | --- | --- |
/// | 0 | 1 | format: 1 |
/// | 1 | 1 | kind: 1 string, 2 hash, 3 list |
/// | 2 | 1 | form: 0 whole, 1 changed, 2 computed, 3 grown |
/// | 3 | 8 | deadline in milliseconds; 0: none |
/// | 11 | 8 | revision that created the key |
/// | 19 | 8 | revision that changed it last |
/// | 27 | 8 | version |
/// | 35 | | the value, to the end |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub header: Header,
    pub value: Bytes,
}

const FORMAT: u8 = 1;
pub(super) const HEADER_BYTES: usize = 35;

impl Header {
    /// Reads the first bytes of a stored record.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] on bytes that no version of Quorate wrote.
    pub fn decode(stored: &[u8]) -> Result<Self, StoreError> {
        let header = stored.first_chunk::<HEADER_BYTES>().ok_or_else(|| corrupt("it is too short"))?;
        if header[0] != FORMAT {
            return Err(corrupt(&format!("its format is {}", header[0])));
        }
        let kind = match header[1] {
            1 => Kind::String,
            2 => Kind::Hash,
            3 => Kind::List,
            other => return Err(corrupt(&format!("its kind is {other}"))),
        };
        let form = match header[2] {
            0 => Form::Whole,
            1 => Form::Changed,
            2 => Form::Computed,
            3 => Form::Grown,
            other => return Err(corrupt(&format!("its form is {other}"))),
        };
        let deadline = number(header, 3);
        Ok(Self {
            kind,
            form,
            deadline: (deadline != 0).then_some(deadline),
            created: number(header, 11),
            modified: number(header, 19),
            version: number(header, 27),
        })
    }

    /// The first bytes of a stored record; the value follows.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut stored = [0; HEADER_BYTES];
        stored[0] = FORMAT;
        stored[1] = match self.kind {
            Kind::String => 1,
            Kind::Hash => 2,
            Kind::List => 3,
        };
        stored[2] = match self.form {
            Form::Whole => 0,
            Form::Changed => 1,
            Form::Computed => 2,
            Form::Grown => 3,
        };
        let numbers = [self.deadline.unwrap_or(0), self.created, self.modified, self.version];
        for (place, number) in stored[3..].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        stored
    }
}

impl Record {
    /// Reads a stored record.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] on bytes that no version of Quorate wrote.
    pub fn decode(stored: Found<'_>) -> Result<Self, StoreError> {
        Ok(Self { header: Header::decode(&stored)?, value: stored.after(HEADER_BYTES).to_bytes() })
    }

    /// The same without the value, unless that is a collection's: what there is besides depends on it.
    ///
    /// # Errors
    /// As [`Record::decode`].
    pub fn decode_unread(stored: Found<'_>) -> Result<Self, StoreError> {
        let header = Header::decode(&stored)?;
        match header.kind {
            Kind::String => Ok(Self { header, value: Bytes::new() }),
            Kind::Hash | Kind::List => Self::decode(stored),
        }
    }
}

/// The header and the value in the bytes of a stored record.
///
/// # Errors
/// [`StoreError::Corrupt`] on bytes that no version of Quorate wrote.
pub(super) fn split(stored: &[u8]) -> Result<(Header, &[u8]), StoreError> {
    Ok((Header::decode(stored)?, &stored[HEADER_BYTES..]))
}

fn number(header: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from_be_bytes(header[at..at + 8].try_into().expect("eight bytes, inside the header"))
}

fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt(format!("a key's record: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As format 1 was released.
    const RECORDED: [u8; 38] = [
        1, 1, 1, //
        0, 0, 1, 0x9a, 0, 0, 0, 7, //
        0, 0, 0, 0, 0, 0, 0, 2, //
        0, 0, 0, 0, 0, 0, 1, 4, //
        0, 0, 0, 0, 0, 0, 0, 9, //
        b'a', 0, b'c',
    ];

    fn recorded() -> Record {
        let header = Header {
            kind: Kind::String,
            form: Form::Changed,
            deadline: Some(0x19a_0000_0007),
            created: 2,
            modified: 0x104,
            version: 9,
        };
        Record { header, value: Bytes::from_static(b"a\0c") }
    }

    fn stored(record: &Record) -> Vec<u8> {
        [&record.header.encode()[..], &record.value].concat()
    }

    #[test]
    fn recorded_bytes_decode() {
        assert_eq!(Record::decode(Found::here(&RECORDED)).expect("format 1"), recorded());
        assert_eq!(stored(&recorded()), RECORDED);
    }

    #[test]
    fn every_kind_and_form_comes_back() {
        for kind in [Kind::String, Kind::Hash, Kind::List] {
            for form in [Form::Whole, Form::Changed, Form::Computed, Form::Grown] {
                let header = Header { kind, form, ..recorded().header };
                let record = Record { header, ..recorded() };
                assert_eq!(Record::decode(Found::here(&stored(&record))).expect("format 1"), record);
            }
        }
    }

    #[test]
    fn only_a_strings_value_is_left_unread() {
        for kind in [Kind::String, Kind::Hash, Kind::List] {
            let record = Record { header: Header { kind, ..recorded().header }, ..recorded() };
            let read = Record::decode_unread(Found::here(&stored(&record))).expect("format 1");
            assert_eq!(read.header, record.header);
            assert_eq!(read.value.is_empty(), kind == Kind::String);
        }
    }

    #[test]
    fn foreign_bytes_are_corrupt() {
        for (at, byte) in [(0, 2), (1, 0), (2, 9)] {
            let mut bytes = RECORDED;
            bytes[at] = byte;
            Header::decode(&bytes).expect_err("no version wrote this");
        }
        Header::decode(&RECORDED[..HEADER_BYTES - 1]).expect_err("too short");
    }
}
