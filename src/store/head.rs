//! The few numbers that describe the state as a whole.

use crate::error::StoreError;

/// How many databases there are.
pub const DATABASES: usize = 16;

/// How many marks there are for keys that came or went.
const MARKS: usize = 1024;

/// The numbers that belong to the state but to no key. They change with the writes of an entry, are
/// written with every checkpoint, and are the same on every node at the same log entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The number of write commands that have been applied: the last one's revision.
    pub revision: u64,
    /// The cluster's clock, as the last entry said it.
    pub clock_ms: u64,
    /// What the wall clock of the leader showed then, in ms since the Unix epoch; 0 if it did not say.
    pub wall_ms: u64,
    /// The next number for a collection or for a database's generation. None is given twice.
    pub next_id: u64,
    pub databases: [Database; DATABASES],
    /// The classes of events that are told to subscribers, as bits (`notify-keyspace-events`).
    pub notify: u64,
    /// For each of [`MARKS`] parts of all key names, the revision at which a key of such a name last came or
    /// went in any database. It is how a key's absence has a history without a record for what is not there.
    marks: Vec<u64>,
    /// Numbers of collections and generations that nothing refers to any more and whose entries are
    /// still to be removed, oldest first.
    pub garbage: Vec<u64>,
}

/// One database (`SELECT n`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Database {
    /// Which keys are this database's: emptying it gives it a new generation.
    pub generation: u64,
    /// How many keys it holds.
    pub keys: u64,
    /// How many of them have a deadline.
    pub expiring: u64,
    /// The revision of the last SWAPDB that gave it these keys, or 0.
    pub swapped: u64,
}

impl Default for Head {
    /// An empty state's: the databases have the first generations.
    fn default() -> Self {
        Self {
            revision: 0,
            clock_ms: 0,
            wall_ms: 0,
            next_id: DATABASES as u64,
            databases: std::array::from_fn(|n| Database { generation: n as u64, ..Database::default() }),
            notify: 0,
            marks: vec![0; MARKS],
            garbage: Vec::new(),
        }
    }
}

/// The first byte of an encoded head.
const VERSION: u8 = 3;
/// The versions before it had no wall clock, and no classes of events and no marks.
const VERSION_2: u8 = 2;
const VERSION_1: u8 = 1;

impl Head {
    /// The revision at which `key`, or another whose name falls into the same part, last came or went.
    #[must_use]
    pub fn mark(&self, key: &[u8]) -> u64 {
        self.marks[part(key)]
    }

    /// Notes that `key` comes or goes at `revision`.
    pub fn set_mark(&mut self, key: &[u8], revision: u64) {
        self.marks[part(key)] = revision;
    }

    /// The stored form. All numbers are little endian.
    ///
    /// | bytes | what |
    /// | --- | --- |
    /// | 1 | version, 3 |
    /// | 8, 8, 8 | revision, clock, next id |
    /// | 1 | the number of databases |
    /// | 8, 8, 8, 8 each | generation, keys, expiring keys, last swap |
    /// | 8 | wall clock |
    /// | 8 | classes of events |
    /// | 8 each | the 1024 marks |
    /// | 8 each | garbage, to the end |
    ///
    /// Version 2 has no wall clock. Version 1 has three numbers for each database, no classes and no marks either.
    pub(super) fn encode(&self) -> Vec<u8> {
        let databases = self.databases.iter().flat_map(|d| [d.generation, d.keys, d.expiring, d.swapped]);
        let lists = [self.wall_ms, self.notify]
            .into_iter()
            .chain(self.marks.iter().copied())
            .chain(self.garbage.iter().copied());
        let mut bytes = vec![VERSION];
        for number in [self.revision, self.clock_ms, self.next_id] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.push(DATABASES as u8);
        for number in databases.chain(lists) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// Reads the stored form.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let head = Self::decode_parts(bytes);
        head.ok_or_else(|| StoreError::Corrupt("the state's head is not one this version reads".into()))
    }

    fn decode_parts(bytes: &[u8]) -> Option<Self> {
        let (&version, bytes) = bytes.split_first()?;
        let (fixed, bytes) = bytes.split_at_checked(24)?;
        let (&databases, bytes) = bytes.split_first()?;
        if ![VERSION, VERSION_2, VERSION_1].contains(&version)
            || usize::from(databases) != DATABASES
            || !bytes.len().is_multiple_of(8)
        {
            return None;
        }
        let mut numbers =
            fixed.as_chunks().0.iter().chain(bytes.as_chunks().0).map(|n| u64::from_le_bytes(*n));
        let mut head = Self {
            revision: numbers.next()?,
            clock_ms: numbers.next()?,
            next_id: numbers.next()?,
            ..Self::default()
        };
        for database in &mut head.databases {
            *database = Database {
                generation: numbers.next()?,
                keys: numbers.next()?,
                expiring: numbers.next()?,
                swapped: if version == VERSION_1 { 0 } else { numbers.next()? },
            };
        }
        if version == VERSION {
            head.wall_ms = numbers.next()?;
        }
        if version != VERSION_1 {
            head.notify = numbers.next()?;
            for mark in &mut head.marks {
                *mark = numbers.next()?;
            }
        }
        head.garbage = numbers.collect();
        Some(head)
    }
}

/// Which part of all names `key` falls into (FNV-1a). The same in every version: marks are stored.
fn part(key: &[u8]) -> usize {
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash >> 32) as usize % MARKS
}

#[cfg(test)]
mod tests {
    use super::{Database, Head, MARKS, part};

    fn example() -> Head {
        let mut head = Head { revision: 1, clock_ms: 2, next_id: 300, ..Head::default() };
        head.databases[15] = Database { generation: 299, keys: 4, expiring: 5, swapped: 0 };
        head.garbage = vec![15, 17];
        head
    }

    #[test]
    fn every_released_version_is_read() {
        let mut version_1 = vec![1];
        version_1.extend_from_slice(&[
            1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 44, 1, 0, 0, 0, 0, 0, 0, 16,
        ]);
        for generation in 0..15 {
            version_1.extend_from_slice(&[generation, 0, 0, 0, 0, 0, 0, 0]);
            version_1.extend_from_slice(&[0; 16]);
        }
        version_1
            .extend_from_slice(&[43, 1, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
        version_1.extend_from_slice(&[15, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Head::decode(&version_1).expect("a whole head"), example());

        let mut now = example();
        now.databases[15].swapped = 6;
        now.notify = 7;
        now.set_mark(b"key", 8);
        let mut version_2 = vec![2];
        version_2.extend_from_slice(&version_1[1..26]);
        for database in version_1[26..26 + 16 * 24].chunks(24) {
            version_2.extend_from_slice(database);
            version_2.extend_from_slice(&u64::from(database[0] == 43).wrapping_mul(6).to_le_bytes());
        }
        version_2.extend_from_slice(&7_u64.to_le_bytes());
        for place in 0..MARKS {
            version_2.extend_from_slice(&(if place == 537 { 8_u64 } else { 0 }).to_le_bytes());
        }
        version_2.extend_from_slice(&version_1[26 + 16 * 24..]);
        assert_eq!(Head::decode(&version_2).expect("a whole head"), now);

        now.wall_ms = 9;
        let (numbers, rest) = version_2[1..].split_at(25 + 16 * 32);
        let version_3 = [&[3], numbers, &9_u64.to_le_bytes(), rest].concat();
        assert_eq!(Head::decode(&version_3).expect("a whole head"), now);
        assert_eq!(now.encode(), version_3);
    }

    #[test]
    fn a_names_part_never_changes() {
        assert_eq!([&b""[..], b"key", b"lock:1"].map(part), [228, 537, 735]);
    }

    #[test]
    fn anything_else_is_refused() {
        let bytes = example().encode();
        for cut in 0..bytes.len() {
            // Cut between two numbers of the garbage, it is a whole head with less of it.
            let whole = cut >= bytes.len() - 16 && (bytes.len() - cut).is_multiple_of(8);
            assert_eq!(Head::decode(&bytes[..cut]).is_ok(), whole, "cut at {cut}");
        }
        assert!(Head::decode(&[&[4], &bytes[1..]].concat()).is_err());
    }
}
