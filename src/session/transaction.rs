//! What MULTI collects, and what WATCH saw.

use bytes::Bytes;

/// What a queued command takes beside its words.
const COMMAND_BYTES: usize = 128;

/// The commands between MULTI and EXEC.
#[derive(Debug)]
pub struct Queue {
    commands: Vec<Queued>,
    aborted: bool,
    db: u8,
    bytes: usize,
}

/// A command that waits for EXEC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    pub argv: Vec<Bytes>,
    /// The database it runs in: a queued SELECT changes that of the commands behind it.
    pub db: u8,
}

/// A key as it was when it was watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    pub db: u8,
    pub key: Bytes,
    /// The key's modification revision, 0 for a key that does not exist. EXEC is refused when it has
    /// changed.
    pub revision: u64,
}

/// What EXEC runs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    pub commands: Vec<Queued>,
    pub watched: Vec<Watch>,
}

impl Queue {
    pub(super) fn new(db: u8) -> Self {
        Self { commands: Vec::new(), aborted: false, db, bytes: 0 }
    }

    /// Adds a command. If it is a SELECT it decides the database of those behind it, just as running it
    /// would: a SELECT that will fail changes nothing.
    pub(super) fn push(&mut self, argv: Vec<Bytes>) {
        let db = self.db;
        if let [name, index] = argv.as_slice()
            && name.eq_ignore_ascii_case(b"SELECT")
            && let Some(index) = super::database(index)
        {
            self.db = index;
        }
        self.bytes += argv.iter().map(Bytes::len).sum::<usize>();
        self.commands.push(Queued { argv, db });
    }

    pub(super) const fn abort(&mut self) {
        self.aborted = true;
    }

    /// Whether a command was refused since MULTI, so that EXEC must be.
    #[must_use]
    pub const fn is_aborted(&self) -> bool {
        self.aborted
    }

    /// The arguments' total length.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// What it takes in memory, about.
    #[must_use]
    pub const fn memory(&self) -> usize {
        self.bytes + self.commands.len() * COMMAND_BYTES
    }

    /// What waits.
    #[must_use]
    pub fn commands(&self) -> &[Queued] {
        &self.commands
    }

    /// How many commands wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether none waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    pub(super) fn into_commands(self) -> Vec<Queued> {
        self.commands
    }
}
