//! What is said about a command, once, and what follows from it.

use bytes::Bytes;

use super::syntax;
use crate::resp::number;

/// A command's declaration. Everything else that is known about it is computed from this.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Upper case; a subcommand's is `PARENT|NAME`.
    pub name: &'static str,
    /// The arguments in Redis' notation: `key value [NX | XX] [EX seconds | PX milliseconds]`,
    /// `key [key ...]`. Arity is computed from it.
    pub syntax: &'static str,
    pub summary: &'static str,
    pub complexity: &'static str,
    /// The Redis version that introduced it.
    pub since: &'static str,
    pub group: Group,
    pub keys: Keys,
    /// Those that the lane does not imply (`write`, `readonly` are implied).
    pub flags: Flags,
}

impl Spec {
    /// A declaration of this group with nothing else said yet.
    #[must_use]
    pub const fn of(group: Group) -> Self {
        Self {
            name: "",
            syntax: "",
            summary: "",
            complexity: "O(1)",
            since: "1.0.0",
            group,
            keys: Keys::NONE,
            flags: Flags::NONE,
        }
    }

    /// How many words the command takes, its name included; negative: that many or more. A
    /// subcommand's name is two words.
    ///
    /// # Panics
    /// If the syntax is malformed; a test reads that of every command.
    #[must_use]
    pub fn arity(&self) -> i32 {
        let (fewest, more) = syntax::count(&syntax::parse(self.syntax));
        let words = self.name.split('|').count() + fewest;
        let words = i32::try_from(words).expect("a syntax is a line or two");
        if more { -words } else { words }
    }

    /// What a subcommand's name begins with: `CLIENT` of `CLIENT|ID`.
    #[must_use]
    pub fn parent(&self) -> Option<&'static str> {
        self.name.split_once('|').map(|(parent, _)| parent)
    }

    /// The name as replies and errors have it: `get`, `client|id`.
    #[must_use]
    pub fn lower_name(&self) -> String {
        self.name.to_ascii_lowercase()
    }
}

/// The command groups of Redis' documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Cluster,
    Connection,
    Generic,
    Hash,
    List,
    Pubsub,
    Scripting,
    Sentinel,
    Server,
    String,
    Transactions,
}

impl Group {
    /// The name COMMAND DOCS has for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Connection => "connection",
            Self::Generic => "generic",
            Self::Hash => "hash",
            Self::List => "list",
            Self::Pubsub => "pubsub",
            Self::Scripting => "scripting",
            Self::Sentinel => "sentinel",
            Self::Server => "server",
            Self::String => "string",
            Self::Transactions => "transactions",
        }
    }
}

/// Where the keys are among the words of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The place of the first key (the name is at 0), or 0: no keys.
    pub first: usize,
    /// The place of the last, negative counting from the end.
    pub last: i32,
    /// From one key to the next.
    pub step: usize,
    /// The place of the word that says how many keys follow it, or 0: no word does.
    pub counted_at: usize,
    pub access: Access,
    /// What the command does with the second of two keys, if that is something else.
    pub access_of_second: Option<Access>,
}

impl Keys {
    /// No keys.
    pub const NONE: Self =
        Self { first: 0, last: 0, step: 0, counted_at: 0, access: Access::Read, access_of_second: None };

    /// One key.
    #[must_use]
    pub const fn at(first: usize, access: Access) -> Self {
        Self { first, last: first as i32, step: 1, access, ..Self::NONE }
    }

    /// Keys from `first` to the end, every `step` words.
    #[must_use]
    pub const fn from(first: usize, step: usize, access: Access) -> Self {
        Self { first, last: -1, step, access, ..Self::NONE }
    }

    /// Keys at `first` and the one after it.
    #[must_use]
    pub const fn pair(first: usize, access: Access) -> Self {
        Self { first, last: first as i32 + 1, step: 1, access, ..Self::NONE }
    }

    /// Keys at `first` and the one after it, with which the command does something else.
    #[must_use]
    pub const fn two(first: usize, access: Access, of_second: Access) -> Self {
        Self { access_of_second: Some(of_second), ..Self::pair(first, access) }
    }

    /// As many keys as the word at `place` says, behind it.
    #[must_use]
    pub const fn counted(place: usize, access: Access) -> Self {
        Self { counted_at: place, access, ..Self::NONE }
    }

    /// Whether there are never any.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.first == 0 && self.counted_at == 0
    }

    /// The places of the first and the last key and the step between, as COMMAND INFO tells them.
    #[must_use]
    pub fn first_last_step(self) -> (i64, i64, i64) {
        (self.first as i64, i64::from(self.last), self.step as i64)
    }

    /// The keys of a command; none if the word that counts them does not.
    #[must_use]
    pub fn of(self, argv: &[Bytes]) -> Vec<Bytes> {
        if self.counted_at == 0 {
            return self.places(argv.len()).map(|place| argv[place].clone()).collect();
        }
        let counted = || {
            let count = usize::try_from(number::parse_int(argv.get(self.counted_at)?)?).ok()?;
            argv[self.counted_at + 1..].get(..count)
        };
        counted().unwrap_or_default().to_vec()
    }

    /// What the command does with each key of [`Keys::of`], in order.
    pub fn accesses(self, argv: &[Bytes]) -> impl Iterator<Item = Access> {
        let access = self.access.of_call(argv);
        let others = self.access_of_second.unwrap_or(access);
        std::iter::once(access).chain(std::iter::repeat(others))
    }

    /// The places of the keys in a command of `argc` words, if they do not depend on what a word says.
    pub fn places(self, argc: usize) -> impl Iterator<Item = usize> {
        let last = if self.last < 0 { argc as i64 + i64::from(self.last) } else { i64::from(self.last) };
        let end = if self.first == 0 { 0 } else { (last + 1).clamp(0, argc as i64) as usize };
        (self.first..end).step_by(self.step.max(1))
    }
}

/// What a command does with a key: whether it replaces all of it, and what becomes of the data in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Tells what is in it.
    Read,
    /// Tells something about it.
    Look,
    /// Tells what is in it, and changes that.
    Update,
    /// Changes what is in it.
    Change,
    /// Adds to it.
    Insert,
    /// Takes something out of it, and tells what.
    Take,
    /// Takes something out of it.
    Trim,
    /// Writes it, over what is there.
    Overwrite,
    /// Writes it if it is not there.
    Create,
    /// Removes it.
    Remove,
    /// SET's, which reads if it is told to.
    Set,
    /// They are no keys: clients of a cluster find the node for a shard channel as they do for a key.
    Channel,
}

impl Access {
    /// Redis' words for it, in its order.
    #[must_use]
    pub const fn words(self) -> &'static [&'static str] {
        match self {
            Self::Read => &["RO", "access"],
            Self::Look => &["RO"],
            Self::Update => &["RW", "access", "update"],
            Self::Change => &["RW", "update"],
            Self::Insert => &["RW", "insert"],
            Self::Take => &["RW", "access", "delete"],
            Self::Trim => &["RW", "delete"],
            Self::Overwrite => &["OW", "update"],
            Self::Create => &["OW", "insert"],
            Self::Remove => &["RM", "delete"],
            Self::Set => &["RW", "access", "update", "variable_flags"],
            Self::Channel => &["not_key"],
        }
    }

    /// What it is in a call, where the call decides.
    fn of_call(self, argv: &[Bytes]) -> Self {
        const READING: [&str; 5] = ["GET", "IFEQ", "IFNE", "IFDEQ", "IFDNE"];
        let reads = |word: &Bytes| READING.iter().any(|option| word.eq_ignore_ascii_case(option.as_bytes()));
        match self {
            Self::Set if argv.iter().skip(3).any(reads) => Self::Update,
            Self::Set => Self::Overwrite,
            other => other,
        }
    }
}

/// Redis' command flags, as a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    /// Those that COMMAND INFO names, in its order.
    const NAMES: [(Self, &str); 18] = [
        (Self::WRITE, "write"),
        (Self::READONLY, "readonly"),
        (Self::DENYOOM, "denyoom"),
        (Self::ADMIN, "admin"),
        (Self::PUBSUB, "pubsub"),
        (Self::NOSCRIPT, "noscript"),
        (Self::BLOCKING, "blocking"),
        (Self::LOADING, "loading"),
        (Self::STALE, "stale"),
        (Self::SKIP_MONITOR, "skip_monitor"),
        (Self::SKIP_SLOWLOG, "skip_slowlog"),
        (Self::FAST, "fast"),
        (Self::NO_AUTH, "no_auth"),
        (Self::NO_ASYNC_LOADING, "no_async_loading"),
        (Self::REFUSED_IN_MULTI, "no_multi"),
        (Self::ALLOW_BUSY, "allow_busy"),
        (Self::NO_MANDATORY_KEYS, "no_mandatory_keys"),
        (Self::MOVABLE_KEYS, "movablekeys"),
    ];

    pub const NONE: Self = Self(0);
    /// Refused when memory or disk is short.
    pub const DENYOOM: Self = Self(1);
    pub const FAST: Self = Self(1 << 1);
    /// Not allowed in a script.
    pub const NOSCRIPT: Self = Self(1 << 2);
    pub const ADMIN: Self = Self(1 << 3);
    pub const LOADING: Self = Self(1 << 4);
    pub const STALE: Self = Self(1 << 5);
    pub const PUBSUB: Self = Self(1 << 6);
    pub const BLOCKING: Self = Self(1 << 7);
    /// Allowed before AUTH.
    pub const NO_AUTH: Self = Self(1 << 8);
    /// Not queued in MULTI: runs at once.
    pub const NO_MULTI: Self = Self(1 << 9);
    pub const SKIP_MONITOR: Self = Self(1 << 10);
    pub const SKIP_SLOWLOG: Self = Self(1 << 11);
    pub const ALLOW_BUSY: Self = Self(1 << 12);
    /// Goes through the log without changing a key.
    pub const MAY_REPLICATE: Self = Self(1 << 13);
    pub const MOVABLE_KEYS: Self = Self(1 << 14);
    pub const NO_MANDATORY_KEYS: Self = Self(1 << 21);
    /// Looks at the state, but at no key.
    pub const READS_NO_KEY: Self = Self(1 << 22);
    /// Adds the ACL category `dangerous`.
    pub const DANGEROUS: Self = Self(1 << 15);
    /// Adds the ACL category `admin`, which [`Flags::ADMIN`] implies.
    pub const ADMIN_CATEGORY: Self = Self(1 << 19);
    /// Adds the ACL category `connection`, which [`Group::Connection`] implies, and takes `keyspace` away.
    pub const CONNECTION_CATEGORY: Self = Self(1 << 20);
    /// Takes the ACL category `keyspace` away from a command about keys.
    pub const NO_KEYSPACE_CATEGORY: Self = Self(1 << 24);
    pub const NO_ASYNC_LOADING: Self = Self(1 << 16);
    /// Not allowed in MULTI.
    pub const REFUSED_IN_MULTI: Self = Self(1 << 23);
    /// Changes the state. Follows from the lane.
    pub const WRITE: Self = Self(1 << 17);
    /// Only looks at the state. Follows from the lane.
    pub const READONLY: Self = Self(1 << 18);

    /// The names COMMAND INFO has for them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, name)| name)
    }

    /// The union.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are in it.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}
