//! What applying a log entry causes beside the change of the state.

use bytes::Bytes;

use crate::error::{ClientError, text};

/// The effects of one log entry, in the order in which they happened; the same on every node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    pub events: Vec<Event>,
    /// Whether the command that runs has changed anything: then it gets a revision when it ends.
    pub changed: bool,
    /// Databases and keys of what came to be there, for those who block until it does.
    pub brought: Vec<(u8, Bytes)>,
    /// Anything may have come to be there.
    pub brought_any: bool,
    /// How many keys have ended by themselves.
    pub expired: u64,
    /// What may no longer be as somebody here remembers it, in order. Gathered only where a client keeps
    /// copies, so not the same on every node; nothing that is decided may depend on it.
    pub touched: Option<Vec<Touch>>,
    /// This node's commands that have read, gathered as [`Effects::touched`] is.
    pub readers: Vec<Author>,
    /// Who the running command comes from, for [`Touch`].
    pub author: Option<Author>,
    /// What the node had no room for that proposed the running command. The same on every node.
    pub shortage: Option<Shortage>,
}

/// What a node has no room for. Commands that add data are refused before they are proposed; of a script nobody
/// knows then what it will call, so its group says what was short, and every node refuses the same calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shortage {
    /// The data is larger than `maxmemory`.
    Memory,
    /// The disk is nearly full.
    Disk,
}

impl Shortage {
    /// What a command that would add data is answered.
    #[must_use]
    pub const fn error(self) -> ClientError {
        match self {
            Self::Memory => text::OUT_OF_MEMORY,
            Self::Disk => text::DISK_FULL,
        }
    }
}

/// A command of this node's clients: its group's number, and its place in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Author {
    pub sequence: u64,
    pub place: usize,
}

/// What a client that keeps copies must hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touch {
    /// A key of this name came, changed or went. Databases are not told apart, as in Redis.
    Key { key: Bytes, author: Option<Author> },
    /// So many went at once that all must be forgotten.
    All,
}

/// Something that subscribers may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something happened to a key.
    Key {
        /// What: `set`, `del`, `expired`, ...
        kind: &'static str,
        db: u8,
        key: Bytes,
        /// Whether those hear it who listen to the key, ...
        by_key: bool,
        /// ... and those who listen to the event.
        by_event: bool,
    },
    /// A message was published.
    Message { channel: Bytes, payload: Bytes },
    /// A message was published on a shard channel.
    ShardMessage { channel: Bytes, payload: Bytes },
}
