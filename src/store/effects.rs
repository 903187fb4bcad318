//! What applying a log entry causes beside the change of the state.

use bytes::Bytes;

/// The effects of one log entry, in the order in which they happened; the same on every node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    pub events: Vec<Event>,
    /// Whether the command that runs has changed anything: then it gets a revision when it ends.
    pub changed: bool,
}

/// Something that subscribers may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something happened to a key.
    Key {
        /// What: `set`, `del`, `expired`, ...
        kind: &'static str,
        /// The class of keyspace notifications it belongs to: the code of Redis' letter for it.
        class: u32,
        db: u8,
        key: Bytes,
    },
    /// A message was published.
    Message { channel: Bytes, payload: Bytes },
}
