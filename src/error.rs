//! The two kinds of failure, which never mix, and every error text a client can see.
//!
//! A [`ClientError`] is the client's doing. It is deterministic, part of a command's result, and the
//! same on every node. A [`StoreError`] is this node's disk: nothing can be promised after it, so the
//! node stops. [`Failure`] is either, for code that can meet both.

use std::borrow::Cow;
use std::fmt;

/// An error reply: the code, a space, the text; without the leading `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientError(Cow<'static, str>);

impl ClientError {
    /// An error whose text is fixed.
    #[must_use]
    pub const fn fixed(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }

    /// An error whose text names something of the client's. Line ends would break the protocol and
    /// become spaces.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        let mut text = text.into();
        if text.contains(['\r', '\n']) {
            text = text.replace(['\r', '\n'], " ");
        }
        Self(Cow::Owned(text))
    }

    /// The whole text, code included.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first word: `ERR`, `WRONGTYPE`, ...
    #[must_use]
    pub fn code(&self) -> &str {
        self.0.split(' ').next().unwrap_or(&self.0)
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ClientError {}

/// This node's storage failed. Carried up to where the node stops, never answered to a client.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the state's database failed: {0}")]
    Database(String),
    #[error("the state's files failed: {0}")]
    Io(#[from] std::io::Error),
    #[error("corrupt state: {0}")]
    Corrupt(String),
}

/// What a command can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The result of code that can meet both kinds.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Every fixed error text, in Redis' words where Redis has them.
pub mod text {
    use super::ClientError;

    macro_rules! texts {
        ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
            $($(#[$doc])* pub const $name: ClientError = ClientError::fixed($text);)*
        };
    }

    texts! {
        /// The arguments do not fit the command's syntax.
        SYNTAX = "ERR syntax error";
        /// The key holds another type.
        WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value";
        NOT_AN_INTEGER = "ERR value is not an integer or out of range";
        TIMEOUT_NOT_AN_INTEGER = "ERR timeout is not an integer or out of range";
        TIMEOUT_NEGATIVE = "ERR timeout is negative";
        NOT_A_FLOAT = "ERR value is not a valid float";
        /// An integer that must fit a C `int`.
        NOT_AN_INT32 = "ERR value is out of range, value must between -2147483648 and 2147483647";
        OUT_OF_RANGE = "ERR value is out of range, must be positive";
        OVERFLOW = "ERR increment or decrement would overflow";
        DECREMENT_OVERFLOW = "ERR decrement would overflow";
        NAN_OR_INFINITY = "ERR increment would produce NaN or Infinity";
        HASH_VALUE_NOT_AN_INTEGER = "ERR hash value is not an integer";
        HASH_VALUE_NOT_A_FLOAT = "ERR hash value is not a float";
        VALUE_NAN_OR_INFINITY = "ERR value is NaN or Infinity";
        BELOW_MINUS_LONG_MAX =
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807";
        VALUE_OUT_OF_RANGE = "ERR value is out of range";
        NO_SUCH_KEY = "ERR no such key";
        INDEX_OUT_OF_RANGE = "ERR index out of range";
        OFFSET_OUT_OF_RANGE = "ERR offset is out of range";
        STRING_TOO_LONG = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
        INVALID_DIGEST = "ERR must be exactly 16 hexadecimal characters";
        INVALID_CONDITION = "ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE";
        CONDITION_NEEDS_STRING = "ERR Key should be of string type if conditions are specified";
        LCS_NEEDS_STRINGS = "ERR The specified keys must contain string values";
        LCS_LENGTH_AND_INDEXES = "ERR If you want both the length and indexes, please just use IDX.";
        LCS_TOO_LARGE =
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";
        INVALID_CURSOR = "ERR invalid cursor";
        INVALID_DB_INDEX = "ERR invalid DB index";
        DB_OUT_OF_RANGE = "ERR DB index is out of range";
        INVALID_FIRST_DB = "ERR invalid first DB index";
        INVALID_SECOND_DB = "ERR invalid second DB index";
        EXPIRE_NX_CONFLICT = "ERR NX and XX, GT or LT options at the same time are not compatible";
        EXPIRE_GT_LT_CONFLICT = "ERR GT and LT options at the same time are not compatible";
        NO_LFU = "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note \
                  that when switching between policies at runtime LRU and LFU data will take some time to \
                  adjust.";
        SAME_OBJECT = "ERR source and destination objects are the same";
        NESTED_MULTI = "ERR MULTI calls can not be nested";
        NOT_IN_MULTI = "ERR Command not allowed inside a transaction";
        EXEC_WITHOUT_MULTI = "ERR EXEC without MULTI";
        DISCARD_WITHOUT_MULTI = "ERR DISCARD without MULTI";
        WATCH_INSIDE_MULTI = "ERR WATCH inside MULTI is not allowed";
        MONITOR_ONLY = "ERR Replica can't interact with the keyspace";
        UNBLOCKED = "UNBLOCKED client unblocked via CLIENT UNBLOCK";
        EXEC_ABORT = "EXECABORT Transaction discarded because of previous errors.";
        NO_AUTH = "NOAUTH Authentication required.";
        WRONG_PASSWORD = "WRONGPASS invalid username-password pair or user is disabled.";
        NO_DEBUG = "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", \
                    you can run it from a local connection, otherwise you need to set this option in the \
                    configuration file, and then restart the server.";
        NO_PROTO = "NOPROTO unsupported protocol version";
        MAX_CLIENTS = "ERR max number of clients reached";
        /// There is no leader, or it cannot be reached: certainly not applied.
        NO_LEADER = "CLUSTERDOWN The cluster has no leader; the command was not applied";
        /// Too much is waiting already: certainly not applied.
        OVERLOADED = "TRYAGAIN Too many commands are waiting for a quorum; the command was not applied";
        /// A write was proposed and its fate is not known: it may have been applied, or may yet be.
        UNKNOWN_OUTCOME = "UNKNOWN The outcome is not known; the command may have been applied";
        OUT_OF_MEMORY = "OOM command not allowed when used memory > 'maxmemory'.";
        DISK_FULL = "DISKFULL The disk is nearly full; only reads and deletions are allowed";
        SHUTTING_DOWN = "CLUSTERDOWN The node is shutting down; the command was not applied";
    }
}
