//! The body of a log entry: what clients asked for, in their own words.
//!
//! An entry holds *groups*. A group is what one node had waiting at one moment, numbered by that node,
//! so that a group sent twice is applied once (see [`super::origins`]). A command in a group is the
//! client's argument vector as it came: the log can be read with one's eyes, and no enum's variant
//! order is a file format.
//!
//! | bytes | entry |
//! | --- | --- |
//! | 1 | format version, 2 |
//! | 8 | cluster clock, ms, little endian as all numbers here |
//! | 8 | wall clock of the node that says so, ms since the Unix epoch |
//! | 8 | seed of everything random in it |
//! | | the groups, one after another, to the end |
//!
//! Version 1 has no wall clock.
//!
//! | bytes | group |
//! | --- | --- |
//! | 4 | length of what follows |
//! | 8 | the node it comes from |
//! | 8 | that node's boot |
//! | 8 | the group's number in that boot, from 1 |
//! | 8 | every group up to this number has been answered |
//! | 4 | number of commands; in the two highest bits what that node had no room for: 0 nothing, 1 memory, 2 disk |
//! | | the commands |
//!
//! | bytes | command |
//! | --- | --- |
//! | 1 | 1: plain, 2: transaction |
//! | 1 | database (plain only) |
//! | | plain: the words |
//! | | transaction: a count and that many guards (database, key, revision), a count and that many (database, words) |
//!
//! Words are a count and that many byte strings, each after its length; counts, lengths and revisions
//! are LEB128.

use bytes::{Buf, Bytes};

use crate::store::Shortage;

/// The version written, and the one before it.
const VERSION: u8 = 2;
const VERSION_1: u8 = 1;
const HEADER_BYTES: usize = 1 + 8 + 8 + 8;
const HEADER_BYTES_1: usize = 1 + 8 + 8;
const GROUP_HEADER_BYTES: usize = 4 + 8 * 4 + 4;
/// Where a group's [`Shortage`] stands above its number of commands, which is far smaller.
const SHORTAGE_SHIFT: u32 = 30;
const PLAIN: u8 = 1;
const TRANSACTION: u8 = 2;

/// One command of a group. Its words are a client's, or lie in the entry it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposed<W> {
    Plain(Call<W>),
    /// EXEC: all of `calls` if every guard holds, else none.
    Transaction {
        guards: Vec<Guard<W>>,
        calls: Vec<Call<W>>,
    },
}

impl<W> Proposed<W> {
    /// How many words it has: a measure of what it can cost.
    #[must_use]
    pub fn words(&self) -> usize {
        match self {
            Self::Plain(call) => call.argv.len(),
            Self::Transaction { calls, .. } => calls.iter().map(|call| call.argv.len()).sum(),
        }
    }
}

/// An argument vector and the database it runs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call<W> {
    pub db: u8,
    pub argv: Vec<W>,
}

/// A watched key and the revision it must still have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard<W> {
    pub db: u8,
    pub key: W,
    pub revision: u64,
}

/// A group's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    pub node: u64,
    pub boot: u64,
    pub sequence: u64,
    pub answered: u64,
    pub commands: u32,
    /// What the node had no room for.
    pub shortage: Option<Shortage>,
}

/// The bytes are not an entry: they were damaged in a way the log's checksums did not see, or written
/// by a later version.
#[derive(Debug, thiserror::Error)]
#[error("a log entry cannot be read: {0}")]
pub struct Malformed(&'static str);

/// A group being filled with commands.
#[derive(Debug)]
pub struct GroupBuilder {
    bytes: Vec<u8>,
    commands: u32,
    shortage: Option<Shortage>,
}

impl Default for GroupBuilder {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl GroupBuilder {
    /// No commands yet, and room for so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        let mut group = Vec::with_capacity(bytes.max(GROUP_HEADER_BYTES));
        group.resize(GROUP_HEADER_BYTES, 0);
        Self { bytes: group, commands: 0, shortage: None }
    }

    /// Adds a command.
    pub fn push(&mut self, command: &Proposed<impl AsRef<[u8]>>) {
        match command {
            Proposed::Plain(call) => self.push_plain(call.db, &call.argv),
            Proposed::Transaction { guards, calls } => {
                self.commands += 1;
                self.bytes.push(TRANSACTION);
                put_number(&mut self.bytes, guards.len() as u64);
                for guard in guards {
                    self.bytes.push(guard.db);
                    put_bytes(&mut self.bytes, guard.key.as_ref());
                    put_number(&mut self.bytes, guard.revision);
                }
                put_number(&mut self.bytes, calls.len() as u64);
                for call in calls {
                    self.bytes.push(call.db);
                    put_words(&mut self.bytes, &call.argv);
                }
            }
        }
    }

    /// Adds a plain command.
    pub fn push_plain(&mut self, db: u8, argv: &[impl AsRef<[u8]>]) {
        self.commands += 1;
        self.bytes.extend_from_slice(&[PLAIN, db]);
        put_words(&mut self.bytes, argv);
    }

    /// Says what the node has no room for just now, if there is something.
    pub fn note_shortage(&mut self, shortage: Option<Shortage>) {
        self.shortage = self.shortage.max(shortage);
    }

    /// Appends all commands of `other`.
    pub fn append(&mut self, other: &Self) {
        self.note_shortage(other.shortage);
        self.commands += other.commands;
        self.bytes.extend_from_slice(&other.bytes[GROUP_HEADER_BYTES..]);
    }

    /// How many commands it holds.
    #[must_use]
    pub const fn commands(&self) -> u32 {
        self.commands
    }

    /// Its size in bytes when sealed.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it holds no command.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.commands == 0
    }

    /// The finished group.
    #[must_use]
    pub fn seal(mut self, node: u64, boot: u64, sequence: u64, answered: u64) -> Bytes {
        let length = u32::try_from(self.bytes.len() - 4).expect("a group is limited far below 4 GiB");
        let mut header = Vec::with_capacity(GROUP_HEADER_BYTES);
        header.extend_from_slice(&length.to_le_bytes());
        for number in [node, boot, sequence, answered] {
            header.extend_from_slice(&number.to_le_bytes());
        }
        let shortage = match self.shortage {
            None => 0,
            Some(Shortage::Memory) => 1,
            Some(Shortage::Disk) => 2_u32,
        };
        header.extend_from_slice(&(shortage << SHORTAGE_SHIFT | self.commands).to_le_bytes());
        self.bytes[..GROUP_HEADER_BYTES].copy_from_slice(&header);
        self.bytes.into()
    }
}

/// An entry of these sealed groups.
#[must_use]
pub fn encode(clock_ms: u64, wall_ms: u64, seed: u64, groups: &[Bytes]) -> Bytes {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + groups.iter().map(Bytes::len).sum::<usize>());
    bytes.push(VERSION);
    bytes.extend_from_slice(&clock_ms.to_le_bytes());
    bytes.extend_from_slice(&wall_ms.to_le_bytes());
    bytes.extend_from_slice(&seed.to_le_bytes());
    for group in groups {
        bytes.extend_from_slice(group);
    }
    bytes.into()
}

/// The numbers of one sealed group, as it travels between nodes.
///
/// # Errors
/// When the bytes are not exactly one group.
pub fn group_header(mut group: &[u8]) -> Result<GroupHeader, Malformed> {
    let rest = &mut group;
    let (header, _) = take_group(rest)?;
    if rest.is_empty() { Ok(header) } else { Err(Malformed("bytes after a group")) }
}

/// An entry, read from left to right.
#[derive(Debug)]
pub struct Entry<'e> {
    pub clock_ms: u64,
    /// 0 in version 1.
    pub wall_ms: u64,
    pub seed: u64,
    rest: &'e [u8],
}

impl<'e> Entry<'e> {
    /// Reads the header.
    ///
    /// # Errors
    /// When it is none, or of another version.
    pub fn decode(mut bytes: &'e [u8]) -> Result<Self, Malformed> {
        let header_bytes = match bytes.first() {
            None | Some(&VERSION) => HEADER_BYTES,
            Some(&VERSION_1) => HEADER_BYTES_1,
            Some(_) => return Err(Malformed("an unknown format version")),
        };
        if bytes.len() < header_bytes {
            return Err(Malformed("too short"));
        }
        let version = bytes.get_u8();
        let clock_ms = bytes.get_u64_le();
        let wall_ms = if version == VERSION_1 { 0 } else { bytes.get_u64_le() };
        Ok(Self { clock_ms, wall_ms, seed: bytes.get_u64_le(), rest: bytes })
    }

    /// The next group, or `None` after the last.
    ///
    /// # Errors
    /// When what follows is not a group.
    pub fn next_group(&mut self) -> Result<Option<(GroupHeader, Commands<'e>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        take_group(&mut self.rest).map(Some)
    }
}

fn take_group<'e>(rest: &mut &'e [u8]) -> Result<(GroupHeader, Commands<'e>), Malformed> {
    if rest.len() < GROUP_HEADER_BYTES {
        return Err(Malformed("a group is cut"));
    }
    let length = rest.get_u32_le() as usize;
    let (mut group, behind) = rest
        .split_at_checked(length)
        .filter(|_| length >= GROUP_HEADER_BYTES - 4)
        .ok_or(Malformed("a group's length is wrong"))?;
    *rest = behind;
    let [node, boot, sequence, answered] = std::array::from_fn(|_| group.get_u64_le());
    let commands = group.get_u32_le();
    let shortage = match commands >> SHORTAGE_SHIFT {
        0 => None,
        1 => Some(Shortage::Memory),
        2 => Some(Shortage::Disk),
        _ => return Err(Malformed("an unknown shortage")),
    };
    let commands = commands & ((1 << SHORTAGE_SHIFT) - 1);
    let header = GroupHeader { node, boot, sequence, answered, commands, shortage };
    Ok((header, Commands { left: header.commands, rest: group }))
}

/// The commands of a group, from left to right.
#[derive(Debug)]
pub struct Commands<'e> {
    left: u32,
    rest: &'e [u8],
}

impl<'e> Commands<'e> {
    /// The next command, or `None` after the last.
    ///
    /// # Errors
    /// When what follows is not a command.
    pub fn next_command(&mut self) -> Result<Option<Proposed<&'e [u8]>>, Malformed> {
        if self.left == 0 {
            return if self.rest.is_empty() {
                Ok(None)
            } else {
                Err(Malformed("bytes after a group's commands"))
            };
        }
        self.left -= 1;
        match self.byte()? {
            PLAIN => Ok(Some(Proposed::Plain(self.call()?))),
            TRANSACTION => {
                let guards = (0..self.count()?).map(|_| self.guard()).collect::<Result<_, _>>()?;
                let calls = (0..self.count()?).map(|_| self.call()).collect::<Result<_, _>>()?;
                Ok(Some(Proposed::Transaction { guards, calls }))
            }
            _ => Err(Malformed("an unknown kind of command")),
        }
    }

    fn guard(&mut self) -> Result<Guard<&'e [u8]>, Malformed> {
        Ok(Guard { db: self.byte()?, key: self.bytes()?, revision: self.number()? })
    }

    fn call(&mut self) -> Result<Call<&'e [u8]>, Malformed> {
        let db = self.byte()?;
        let words = self.count()?;
        if words == 0 {
            return Err(Malformed("a command without a name"));
        }
        let mut argv = Vec::with_capacity(words);
        for _ in 0..words {
            argv.push(self.bytes()?);
        }
        Ok(Call { db, argv })
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        let (&byte, rest) = self.rest.split_first().ok_or(Malformed("a command is cut"))?;
        self.rest = rest;
        Ok(byte)
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(first.into());
        }
        let mut value = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed("a number is too long"))
    }

    /// A count of things of at least one byte each, so that no damaged count makes us reserve memory.
    fn count(&mut self) -> Result<usize, Malformed> {
        let count = self.number()?;
        match usize::try_from(count) {
            Ok(count) if count <= self.rest.len() => Ok(count),
            _ => Err(Malformed("a count is larger than what follows")),
        }
    }

    fn bytes(&mut self) -> Result<&'e [u8], Malformed> {
        let length = self.count()?;
        let (bytes, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(bytes)
    }
}

fn put_words(out: &mut Vec<u8>, argv: &[impl AsRef<[u8]>]) {
    put_number(out, argv.len() as u64);
    for word in argv {
        put_bytes(out, word.as_ref());
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn argv(words: &[&'static str]) -> Vec<&'static [u8]> {
        words.iter().map(|word| word.as_bytes()).collect()
    }

    fn sample() -> Vec<Proposed<&'static [u8]>> {
        vec![
            Proposed::Plain(Call { db: 0, argv: argv(&["SET", "k", "v"]) }),
            Proposed::Transaction {
                guards: vec![Guard { db: 3, key: b"w", revision: 300 }],
                calls: vec![
                    Call { db: 3, argv: argv(&["GET", "w"]) },
                    Call { db: 4, argv: argv(&["DEL", "w", ""]) },
                ],
            },
        ]
    }

    fn encoded() -> Bytes {
        let mut group = GroupBuilder::default();
        group.note_shortage(Some(Shortage::Disk));
        for command in sample() {
            group.push(&command);
        }
        encode(1_000, 2_000, 7, &[group.seal(2, 5, 9, 8), GroupBuilder::default().seal(3, 1, 1, 0)])
    }

    type Group<'e> = (GroupHeader, Vec<Proposed<&'e [u8]>>);

    fn decode_all(bytes: &[u8]) -> Result<Vec<Group<'_>>, Malformed> {
        let mut entry = Entry::decode(bytes)?;
        let mut groups = Vec::new();
        while let Some((header, mut commands)) = entry.next_group()? {
            let mut all = Vec::new();
            while let Some(command) = commands.next_command()? {
                all.push(command);
            }
            groups.push((header, all));
        }
        Ok(groups)
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let bytes = encoded();
        let groups = decode_all(&bytes).unwrap();
        let shortage = Some(Shortage::Disk);
        let header = GroupHeader { node: 2, boot: 5, sequence: 9, answered: 8, commands: 2, shortage };
        assert_eq!(groups[0].0, header);
        assert_eq!(groups[0].1, sample());
        assert_eq!(groups[1].0.shortage, None);
        assert_eq!(groups[1].1, []);
    }

    /// The bytes of each version as they were released.
    #[test]
    fn every_version_is_read() {
        let group: &[u8] = &[
            47, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0,
            0, 0, 0, 0, 1, 0, 0, 0, // group header
            1, 0, 3, 3, b'S', b'E', b'T', 1, b'k', 1, b'v',
        ];
        let version_1 = [1, 232, 3, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0];
        let version_2 = [2, 232, 3, 0, 0, 0, 0, 0, 0, 208, 7, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0];
        for (header, wall_ms) in [(&version_1[..], 0), (&version_2[..], 2_000)] {
            let bytes = [header, group].concat();
            let entry = Entry::decode(&bytes).unwrap();
            assert_eq!((entry.clock_ms, entry.wall_ms, entry.seed), (1_000, wall_ms, 7));
            assert_eq!(decode_all(&bytes).unwrap()[0].1, sample()[..1]);
        }
        assert_eq!(encoded()[..version_2.len()], version_2);
    }

    #[test]
    fn a_cut_or_changed_entry_never_panics() {
        let whole = encoded();
        for end in 0..whole.len() {
            drop(decode_all(&whole[..end]));
        }
        for place in 0..whole.len() {
            for flip in [1, 0x80, 0xff] {
                let mut bytes = whole.to_vec();
                bytes[place] ^= flip;
                drop(decode_all(&bytes));
            }
        }
    }
}
