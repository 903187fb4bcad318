//! The few numbers that describe the state as a whole.

use crate::error::StoreError;

/// How many databases there are.
pub const DATABASES: usize = 16;

/// The numbers that belong to the state but to no key. They change with the writes of an entry, are
/// written with every checkpoint, and are the same on every node at the same log entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The number of write commands that have been applied: the last one's revision.
    pub revision: u64,
    /// The cluster's clock, as the last entry said it.
    pub clock_ms: u64,
    /// The next number for a collection or for a database's generation. None is given twice.
    pub next_id: u64,
    pub databases: [Database; DATABASES],
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
}

impl Default for Head {
    /// An empty state's: the databases have the first generations.
    fn default() -> Self {
        Self {
            revision: 0,
            clock_ms: 0,
            next_id: DATABASES as u64,
            databases: std::array::from_fn(|n| Database { generation: n as u64, keys: 0, expiring: 0 }),
            garbage: Vec::new(),
        }
    }
}

/// The first byte of an encoded head.
const VERSION: u8 = 1;

impl Head {
    /// The stored form. All numbers are little endian.
    ///
    /// | bytes | what |
    /// | --- | --- |
    /// | 1 | version, 1 |
    /// | 8, 8, 8 | revision, clock, next id |
    /// | 1 | the number of databases |
    /// | 8, 8, 8 each | generation, keys, expiring keys |
    /// | 8 each | garbage, to the end |
    pub(super) fn encode(&self) -> Vec<u8> {
        let databases = self.databases.iter().flat_map(|d| [d.generation, d.keys, d.expiring]);
        let mut bytes = vec![VERSION];
        for number in [self.revision, self.clock_ms, self.next_id] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.push(DATABASES as u8);
        for number in databases.chain(self.garbage.iter().copied()) {
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
        if version != VERSION || usize::from(databases) != DATABASES || !bytes.len().is_multiple_of(8) {
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
            *database =
                Database { generation: numbers.next()?, keys: numbers.next()?, expiring: numbers.next()? };
        }
        head.garbage = numbers.collect();
        Some(head)
    }
}

#[cfg(test)]
mod tests {
    use super::{Database, Head};

    fn example() -> Head {
        let mut head = Head { revision: 1, clock_ms: 2, next_id: 300, ..Head::default() };
        head.databases[15] = Database { generation: 299, keys: 4, expiring: 5 };
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
        assert_eq!(example().encode(), version_1);
    }

    #[test]
    fn anything_else_is_refused() {
        let bytes = example().encode();
        for cut in 0..bytes.len() {
            // Cut between two numbers of the garbage, it is a whole head with less of it.
            let whole = cut >= bytes.len() - 16 && (bytes.len() - cut).is_multiple_of(8);
            assert_eq!(Head::decode(&bytes[..cut]).is_ok(), whole, "cut at {cut}");
        }
        assert!(Head::decode(&[&[2], &bytes[1..]].concat()).is_err());
    }
}
