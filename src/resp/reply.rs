//! What a command answers, before it is known in which protocol.

use bytes::Bytes;

use crate::error::ClientError;

/// A reply. Protocol neutral: `encode` renders it for RESP2 or RESP3.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// `+OK`.
    Ok,
    /// A fixed simple string: `+PONG`, `+QUEUED`.
    Status(&'static str),
    /// Any other simple string; must not hold line ends.
    StatusText(Bytes),
    Error(ClientError),
    Int(i64),
    Bulk(Bytes),
    /// No value: `$-1` or `_`.
    Nil,
    /// No array: `*-1` or `_`.
    NilArray,
    Double(f64),
    /// `,`; in RESP2 the integer 0 or 1.
    Bool(bool),
    /// Text for people: `=txt:` in RESP3, a bulk string in RESP2.
    Verbatim(Bytes),
    /// The same of another format than `txt`.
    VerbatimAs([u8; 3], Bytes),
    /// `(`, the digits of a number of any size; in RESP2 a bulk string.
    BigNumber(Bytes),
    Array(Vec<Reply>),
    /// Pairs in order; in RESP2 a flat array.
    Map(Vec<(Reply, Reply)>),
    /// Pairs of which some may be equal: an array of arrays of two, in RESP2 a flat array.
    Pairs(Vec<(Reply, Reply)>),
    /// In RESP2 an array.
    Set(Vec<Reply>),
    /// Out-of-band data, `>`; in RESP2 an array.
    Push(Vec<Reply>),
    /// What is said about the next reply of a sequence, `|`; in RESP2 nothing.
    Attributes(Vec<(Reply, Reply)>),
    /// Several replies, one after another, to one command (SUBSCRIBE a b c). Never nested.
    Sequence(Vec<Reply>),
    /// No reply at all.
    Nothing,
    /// How many local subscribers a published message reached: filled in by the node that delivers
    /// it, since it differs between nodes. The number is the message's place among the events of its
    /// entry.
    Receivers(u32),
}

impl Reply {
    /// A bulk string of fixed text.
    #[must_use]
    pub const fn text(text: &'static str) -> Self {
        Self::Bulk(Bytes::from_static(text.as_bytes()))
    }

    /// A bulk string.
    pub fn bulk(bytes: impl Into<Bytes>) -> Self {
        Self::Bulk(bytes.into())
    }

    /// An integer that counts something in memory.
    #[must_use]
    pub fn length(length: usize) -> Self {
        Self::Int(i64::try_from(length).expect("nothing in memory is longer than i64::MAX"))
    }

    /// Whether this is an error.
    #[must_use]
    pub const fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }
}

impl From<ClientError> for Reply {
    fn from(error: ClientError) -> Self {
        Self::Error(error)
    }
}

impl From<Option<Bytes>> for Reply {
    fn from(value: Option<Bytes>) -> Self {
        value.map_or(Self::Nil, Self::Bulk)
    }
}
