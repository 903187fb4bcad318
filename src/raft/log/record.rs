//! One record of the log: its bytes, and how bytes are told to be one.
//!
//! Integers are little endian. A record starts at a multiple of 8 and is padded with zeros to the next.
//!
//! | bytes | what |
//! | --- | --- |
//! | 4 | crc32c of everything that follows, padding included, seeded with the life and the record's offset |
//! | 4 | length of the body |
//! | 4 | tag of the segment's [`Life`] |
//! | 4 | offset of the first record of the batch this one was written in |
//! | 1 | kind |
//! | n | body |
//!
//! | kind | record | body |
//! | --- | --- | --- |
//! | 1 | checkpoint | state: purged id?, last id?, committed id?, vote?; then 8 bytes: where the segment before ends |
//! | 2 | vote | the vote |
//! | 3 | committed | id? |
//! | 4 | truncate | id? of the last entry kept |
//! | 5 | purge | id of the last entry purged |
//! | 6 | seal | nothing |
//! | 16, 17, 18 | entry: blank, normal, membership | id, then the entry's body |
//!
//! id = term (8), index (8). id? = 0, or 1 and an id. vote? = 0, or 1 and the length (4) and the vote.
//!
//! Three things make bytes a record *of this place and time*, and each has its attacker. The crc is for the
//! disk. The tag and the seed are for the file's former lives: a segment is recycled without being zeroed,
//! so it is full of records that were valid once. The batch is for the crash: a batch is written at once
//! and synced before the next one is written, so of the last batch any part may be missing, in any order,
//! but a record that says its batch begins at X proves that everything before X was synced.
//! [`super::recovery`] uses that to tell a torn tail from a corrupt log.
//!
//! A *seal* says "everything before me is synced". It is written, without a sync, when the log's owner
//! finds that it is idle, and the next batch overwrites it. With it, damage in even the last batch is seen
//! as such: at once after a process crash, and after a power cut if the system had written back the seal.
//! Sealing after every batch would say it sooner, for another write each.

use bytes::Bytes;

use super::{EntryKind, LogId, LogState};

/// The part of a record before its body.
const HEADER_BYTES: usize = 17;
/// Records start at multiples of this.
pub(super) const ALIGNMENT: usize = 8;
/// The size of a seal.
pub(super) const SEAL_BYTES: u64 = HEADER_BYTES.next_multiple_of(ALIGNMENT) as u64;

const ID_BYTES: usize = 16;

const CHECKPOINT: u8 = 1;
const VOTE: u8 = 2;
const COMMITTED: u8 = 3;
const TRUNCATE: u8 = 4;
const PURGE: u8 = 5;
const SEAL: u8 = 6;
const ENTRY: u8 = 16;

/// The length of an entry's record, padding included.
pub(super) fn entry_bytes(body: usize) -> u32 {
    narrow((HEADER_BYTES + ID_BYTES + body).next_multiple_of(ALIGNMENT) as u64)
}

/// One use of a segment file, from its header to its recycling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    /// Counts up with every segment of the log.
    pub sequence: u64,
    /// Random, and never leaves the node: a client cannot make bytes that look like a record.
    pub salt: u64,
}

impl Life {
    /// What every record of this life carries in the clear. Never zero, so zeros are never a record.
    fn tag(self) -> u32 {
        ((self.salt >> 32) as u32).max(1)
    }

    fn checksum(self, offset: u64, bytes: &[u8]) -> u32 {
        let seed = crc32c::crc32c(&self.salt.to_le_bytes());
        let seed = crc32c::crc32c_append(seed, &self.sequence.to_le_bytes());
        let seed = crc32c::crc32c_append(seed, &offset.to_le_bytes());
        crc32c::crc32c_append(seed, bytes)
    }
}

/// What a record says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// The first record of every segment, so that older segments can be dropped.
    Checkpoint {
        state: LogState,
        previous_end: u64,
    },
    Vote(&'a [u8]),
    Committed(Option<LogId>),
    Truncate(Option<LogId>),
    Purge(LogId),
    Seal,
    Entry {
        id: LogId,
        kind: EntryKind,
        body: &'a [u8],
    },
}

/// A record found in a segment.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub record: Record<'a>,
    /// Where the batch it was written in begins.
    pub batch: u64,
    /// Its length, padding included.
    pub bytes: u64,
}

/// Why there is no record here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// As a write that never reached the disk would leave it, wholly or in part.
    Missing(&'static str),
    /// The checksum fits but the content makes no sense. No crash does this.
    Malformed(&'static str),
}

impl Bad {
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Missing(reason) | Self::Malformed(reason) => reason,
        }
    }
}

/// Appends `record` to `batch`, a buffer that will be written at `batch_offset`.
pub(super) fn encode(batch: &mut Vec<u8>, life: Life, batch_offset: u64, record: &Record<'_>) {
    let start = batch.len();
    batch.extend_from_slice(&[0; HEADER_BYTES]);
    let kind = encode_body(batch, record);
    let length = batch.len() - start - HEADER_BYTES;
    batch.resize(batch.len().next_multiple_of(ALIGNMENT), 0);

    let header = &mut batch[start..start + HEADER_BYTES];
    header[4..8].copy_from_slice(&narrow(length as u64).to_le_bytes());
    header[8..12].copy_from_slice(&life.tag().to_le_bytes());
    header[12..16].copy_from_slice(&narrow(batch_offset).to_le_bytes());
    header[16] = kind;
    let checksum = life.checksum(batch_offset + start as u64, &batch[start + 4..]);
    batch[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
}

fn narrow(value: u64) -> u32 {
    u32::try_from(value).expect("bodies and segments are kept below 4 GiB")
}

fn encode_body(out: &mut Vec<u8>, record: &Record<'_>) -> u8 {
    match record {
        Record::Checkpoint { state, previous_end } => {
            put_id_option(out, state.purged);
            put_id_option(out, state.last);
            put_id_option(out, state.committed);
            out.push(u8::from(state.vote.is_some()));
            if let Some(vote) = &state.vote {
                out.extend_from_slice(&narrow(vote.len() as u64).to_le_bytes());
                out.extend_from_slice(vote);
            }
            out.extend_from_slice(&previous_end.to_le_bytes());
            CHECKPOINT
        }
        Record::Vote(vote) => {
            out.extend_from_slice(vote);
            VOTE
        }
        Record::Committed(id) => {
            put_id_option(out, *id);
            COMMITTED
        }
        Record::Truncate(id) => {
            put_id_option(out, *id);
            TRUNCATE
        }
        Record::Purge(id) => {
            put_id(out, *id);
            PURGE
        }
        Record::Seal => SEAL,
        Record::Entry { id, kind, body } => {
            put_id(out, *id);
            out.extend_from_slice(body);
            ENTRY + *kind as u8
        }
    }
}

fn put_id(out: &mut Vec<u8>, id: LogId) {
    out.extend_from_slice(&id.term.to_le_bytes());
    out.extend_from_slice(&id.index.to_le_bytes());
}

fn put_id_option(out: &mut Vec<u8>, id: Option<LogId>) {
    out.push(u8::from(id.is_some()));
    if let Some(id) = id {
        put_id(out, id);
    }
}

/// Reads the record of `life` at `offset`. `bytes` starts there and may go on past the record.
pub(super) fn decode(bytes: &[u8], life: Life, offset: u64) -> Result<Found<'_>, Bad> {
    let end = claimed_bytes(bytes, life).ok_or(Bad::Missing("not a record of this segment"))?;
    let bytes = bytes.get(..end).ok_or(Bad::Missing("the file ends inside the record"))?;
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    if word(0) != life.checksum(offset, &bytes[4..]) {
        return Err(Bad::Missing("the record's checksum does not match"));
    }
    let batch = u64::from(word(12));
    if batch > offset {
        return Err(Bad::Malformed("the record is older than its batch"));
    }
    let body = &bytes[HEADER_BYTES..HEADER_BYTES + word(4) as usize];
    let record = decode_body(bytes[16], body).ok_or(Bad::Malformed("the record's content makes no sense"))?;
    Ok(Found { record, batch, bytes: end as u64 })
}

/// How long the record of `life` at the start of `bytes` says it is, padding included; `None` where none
/// begins. Cheap, and trusts the disk: the length may be wrong.
pub(super) fn claimed_bytes(bytes: &[u8], life: Life) -> Option<usize> {
    let header = bytes.first_chunk::<HEADER_BYTES>()?;
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    (word(8) == life.tag()).then(|| (HEADER_BYTES + word(4) as usize).next_multiple_of(ALIGNMENT))
}

fn decode_body(kind: u8, body: &[u8]) -> Option<Record<'_>> {
    let mut body = Cursor(body);
    let record = match kind {
        CHECKPOINT => {
            let (purged, last, committed) = (body.id_option()?, body.id_option()?, body.id_option()?);
            let vote = match body.flag()? {
                true => {
                    let length = u32::from_le_bytes(*body.take()?);
                    Some(Bytes::copy_from_slice(body.slice(length as usize)?))
                }
                false => None,
            };
            let previous_end = body.u64()?;
            Record::Checkpoint { state: LogState { vote, committed, purged, last }, previous_end }
        }
        VOTE => Record::Vote(body.rest()),
        COMMITTED => Record::Committed(body.id_option()?),
        TRUNCATE => Record::Truncate(body.id_option()?),
        PURGE => Record::Purge(body.id()?),
        SEAL => Record::Seal,
        _ => {
            let kind = EntryKind::from_byte(kind.checked_sub(ENTRY)?)?;
            Record::Entry { id: body.id()?, kind, body: body.rest() }
        }
    };
    body.0.is_empty().then_some(record)
}

/// Reads a kind and a body as a record behind its checksum, which must be what writing it says.
#[cfg(any(test, feature = "fuzz"))]
pub fn fuzz(bytes: &[u8]) {
    let life = Life { sequence: 1, salt: 2 };
    drop(decode(bytes, life, 0));
    if let Some((&kind, body)) = bytes.split_first()
        && let Some(record) = decode_body(kind, body)
    {
        let mut again = Vec::new();
        encode(&mut again, life, 0, &record);
        assert_eq!(decode(&again, life, 0).expect("it was just written").record, record);
    }
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(taken)
    }

    fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(*self.take()?))
    }

    fn flag(&mut self) -> Option<bool> {
        match self.take::<1>()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    fn id(&mut self) -> Option<LogId> {
        Some(LogId { term: self.u64()?, index: self.u64()? })
    }

    fn id_option(&mut self) -> Option<Option<LogId>> {
        if self.flag()? { self.id().map(Some) } else { Some(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Life = Life { sequence: 7, salt: 0x1122_3344_5566_7788 };

    fn id(term: u64, index: u64) -> LogId {
        LogId { term, index }
    }

    fn every_kind() -> Vec<Record<'static>> {
        let state = LogState {
            vote: Some(Bytes::from_static(b"vote")),
            committed: Some(id(3, 9)),
            purged: None,
            last: Some(id(3, 12)),
        };
        vec![
            Record::Checkpoint { state: LogState::default(), previous_end: 0 },
            Record::Checkpoint { state, previous_end: 1 << 33 },
            Record::Vote(b""),
            Record::Vote(b"a vote"),
            Record::Committed(None),
            Record::Committed(Some(id(1, 2))),
            Record::Truncate(None),
            Record::Truncate(Some(id(u64::MAX, u64::MAX))),
            Record::Purge(id(4, 5)),
            Record::Seal,
            Record::Entry { id: id(1, 0), kind: EntryKind::Blank, body: b"" },
            Record::Entry { id: id(1, 1), kind: EntryKind::Normal, body: b"SET k v" },
            Record::Entry { id: id(1, 2), kind: EntryKind::Membership, body: &[0; 100] },
        ]
    }

    #[test]
    fn every_kind_is_read_as_it_was_written() {
        let mut batch = Vec::new();
        for record in every_kind() {
            encode(&mut batch, LIFE, 4096, &record);
            assert_eq!(batch.len() % ALIGNMENT, 0);
        }
        let mut at = 0;
        for record in every_kind() {
            let found = decode(&batch[at..], LIFE, 4096 + at as u64).expect("just written");
            assert_eq!(found.record, record);
            assert_eq!(found.batch, 4096);
            at += found.bytes as usize;
        }
        assert_eq!(at, batch.len());
    }

    #[test]
    fn a_record_is_bound_to_its_segment_and_place() {
        let mut batch = Vec::new();
        encode(&mut batch, LIFE, 4096, &Record::Vote(b"vote"));
        assert!(decode(&batch, LIFE, 4096).is_ok());
        assert!(decode(&batch, LIFE, 4104).is_err());
        assert!(decode(&batch, Life { sequence: 8, ..LIFE }, 4096).is_err());
        assert!(decode(&batch, Life { salt: LIFE.salt ^ 1, ..LIFE }, 4096).is_err());
        assert!(decode(&batch, Life { salt: LIFE.salt ^ (1 << 40), ..LIFE }, 4096).is_err());
    }

    #[test]
    fn a_flip_or_a_cut_anywhere_is_seen() {
        for record in every_kind() {
            let mut batch = Vec::new();
            encode(&mut batch, LIFE, 4096, &record);
            for at in 0..batch.len() {
                assert!(decode(&batch[..at], LIFE, 4096).is_err());
                for bit in 0..8 {
                    batch[at] ^= 1 << bit;
                    assert!(decode(&batch, LIFE, 4096).is_err(), "{record:?}, byte {at}, bit {bit}");
                    batch[at] ^= 1 << bit;
                }
            }
        }
    }

    #[test]
    fn zeros_are_never_a_record() {
        assert!(decode(&[0; 64], Life { sequence: 0, salt: 0 }, 0).is_err());
    }

    #[test]
    fn sense_is_not_made_of_what_has_none() {
        for (kind, body) in
            [(200, &b""[..]), (ENTRY + 3, &[0; 16]), (PURGE, &[0; 15]), (SEAL, b"x"), (TRUNCATE, b"\x02")]
        {
            let mut batch = Vec::new();
            encode(&mut batch, LIFE, 4096, &Record::Vote(body));
            batch[16] = kind;
            let checksum = LIFE.checksum(4096, &batch[4..]);
            batch[..4].copy_from_slice(&checksum.to_le_bytes());
            let bad = decode(&batch, LIFE, 4096).expect_err("no such record");
            assert_eq!(bad, Bad::Malformed("the record's content makes no sense"));
        }
    }

    /// Changing these bytes changes the format: raise the segment's version and read both.
    #[test]
    fn version_1_bytes() {
        let mut batch = Vec::new();
        let entry = Record::Entry { id: id(2, 3), kind: EntryKind::Normal, body: b"GET" };
        encode(&mut batch, LIFE, 4096, &entry);
        let expected: &[u8] = &[
            177, 203, 49, 217, 19, 0, 0, 0, 0x44, 0x33, 0x22, 0x11, 0, 16, 0, 0, 17, // header
            2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, b'G', b'E', b'T', // body
            0, 0, 0, 0, // padding
        ];
        assert_eq!(batch, expected);
    }
}
