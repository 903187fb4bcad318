//! What is stored under a key: where it lies, and what it is made of.

use std::ops::Deref;

use bytes::Bytes;

/// What is stored under a key: `None` when it was deleted.
pub(super) type Change<'a> = Option<Found<'a>>;

/// What is stored under a key, where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    bytes: &'a [u8],
    /// Who else may hold the bytes.
    shared: Option<&'a Bytes>,
}

/// What is to be stored under a key.
pub(super) enum Content<'a> {
    /// What these make, one after the other.
    Parts([&'a [u8]; 2]),
    Whole(Bytes),
}

impl<'a> Found<'a> {
    /// What lies here and nowhere else.
    #[must_use]
    pub const fn here(bytes: &'a [u8]) -> Self {
        Self { bytes, shared: None }
    }

    /// What others may hold.
    #[must_use]
    pub fn shared(bytes: &'a Bytes) -> Self {
        Self { bytes, shared: Some(bytes) }
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// What follows the first `skip` bytes.
    #[must_use]
    pub fn after(self, skip: usize) -> Self {
        Self { bytes: &self.bytes[skip..], ..self }
    }

    /// The bytes, to keep: shared with whoever holds them, or else a copy. What lies in the buffers is short, and a copy of
    /// that costs less than a count of who holds it, which lies elsewhere in memory.
    #[must_use]
    pub fn to_bytes(self) -> Bytes {
        match self.shared {
            Some(whole) => whole.slice_ref(self.bytes),
            None => Bytes::copy_from_slice(self.bytes),
        }
    }
}

impl Deref for Found<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl<'a> Content<'a> {
    /// How long it is.
    pub fn len(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }

    /// What it is made of.
    pub fn parts(&self) -> [&[u8]; 2] {
        match self {
            Self::Parts(parts) => *parts,
            Self::Whole(bytes) => [bytes, &[]],
        }
    }

    /// All of it.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Parts(parts) => parts.concat().into(),
            Self::Whole(bytes) => bytes,
        }
    }
}
