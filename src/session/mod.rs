//! One connection's state: login, database, protocol, MULTI queue, WATCH set, subscriptions.
//!
//! A [`Session`] is changed only by its own connection's commands, one at a time, so it needs no lock.
//! What others may see of it is copied to its [`Client`], which the node's [`Registry`] lists. It reads
//! no clock: the connection says when a command begins. An argument is a slice of a read buffer, so
//! what is kept beyond its command is copied, except a transaction's queue, which counts its bytes.
//!
//! Two commands of a connection need more than this node can say at once, the log or a read barrier:
//! EXEC and WATCH. They check what can be checked here and leave a [`Request`], which the connection takes
//! and serves.

mod begun;
mod caching;
mod outbox;
mod registry;
mod transaction;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::error::{ClientError, text};
use crate::pubsub::{Hub, Subscriber};
use crate::resp::{Protocol, Reply, number};
use crate::types::DATABASES;

use begun::Begun;
pub use caching::{Caching, Tracking};
pub use outbox::Outbox;
pub use registry::{Blocked, Client, Face, Filter, Kind, Registry, Tracks, Unblock};
pub use transaction::{Queue, Queued, Transaction, Watch};

/// One connection's state. Dropping it ends its subscriptions and takes it off the registry.
pub struct Session {
    client: Arc<Client>,
    registry: Arc<Registry>,
    hub: Arc<Hub>,
    db: u8,
    protocol: Protocol,
    authenticated: bool,
    replies: Replies,
    transaction: Option<Queue>,
    watched: Vec<Watch>,
    channels: BTreeSet<Bytes>,
    patterns: BTreeSet<Bytes>,
    shard_channels: BTreeSet<Bytes>,
    subscribed: bool,
    tracking: Option<Tracking>,
    now: Duration,
    /// The last command that began, if others do not see it yet.
    begun: Option<Begun>,
    monitoring: bool,
    executing: bool,
    read_only: bool,
    follows_redirects: bool,
    no_touch: bool,
    asks_sentinel: bool,
    /// Close the connection once what was replied is written: QUIT, or CLIENT KILL of oneself.
    pub close: bool,
    /// How many replies it was given.
    pub replied: u64,
    /// What the last command leaves to the connection to serve.
    pub request: Option<Request>,
}

/// What a command leaves to the connection: it can reach the log, a command cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Read these keys' revisions behind a barrier, [`Session::watch`] each, answer OK.
    Watch(Vec<Bytes>),
    /// Run [`Session::take_transaction`] as one, answer with the array of replies, or
    /// [`Reply::NilArray`] if a watched key has changed.
    Exec,
}

/// CLIENT REPLY's modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replies {
    #[default]
    On,
    Off,
    /// Neither to this command, which said so, ...
    SkipNext,
    /// ... nor to this, the one behind it.
    Skip,
}

impl Session {
    /// The session of a new connection. It need not log in if no password was asked for when it came,
    /// as in Redis.
    #[must_use]
    pub fn new(client: Arc<Client>, registry: Arc<Registry>, hub: Arc<Hub>, authenticated: bool) -> Self {
        Self {
            client,
            registry,
            hub,
            db: 0,
            protocol: Protocol::Resp2,
            authenticated,
            replies: Replies::On,
            transaction: None,
            watched: Vec::new(),
            channels: BTreeSet::new(),
            patterns: BTreeSet::new(),
            shard_channels: BTreeSet::new(),
            subscribed: false,
            tracking: None,
            now: Duration::ZERO,
            begun: None,
            monitoring: false,
            executing: false,
            read_only: false,
            follows_redirects: false,
            no_touch: false,
            asks_sentinel: false,
            close: false,
            replied: 0,
            request: None,
        }
    }

    /// Its client came to the address at which the node is a Sentinel.
    pub fn ask_sentinel(&mut self) {
        self.asks_sentinel = true;
    }

    /// Whether its client takes the node for a Sentinel.
    #[must_use]
    pub const fn asks_sentinel(&self) -> bool {
        self.asks_sentinel
    }

    /// What was said in `other`, a session of the same connection before the node had started, holds here.
    pub fn carry_on(&mut self, mut other: Self) {
        self.replied = other.replied;
        self.authenticated |= other.authenticated;
        self.read_only = other.read_only;
        self.follows_redirects = other.follows_redirects;
        self.speak(other.protocol);
        self.select(other.db);
        self.set_no_touch(other.no_touch);
        let said = other.client.face();
        self.client.update(|face| {
            face.name = said.name;
            face.library_name = said.library_name;
            face.library_version = said.library_version;
        });
        self.transaction = other.transaction.take();
        self.count_queued();
    }

    /// A command begins: at `now`, called `command` (upper case), with these words.
    pub fn begin(&mut self, now: Duration, command: &'static str, argv: &[Bytes]) {
        self.now = now;
        self.begun = Some(Begun::of(command, argv));
    }

    /// Lets others see which command has begun last: before it may wait for anything, as a pipeline's commands begin one
    /// behind the other.
    pub fn show_begun(&mut self) {
        if let Some(begun) = self.begun.take() {
            self.client.update(|face| (face.active, face.begun) = (self.now, begun));
        }
    }

    /// When the running command began.
    #[must_use]
    pub const fn now(&self) -> Duration {
        self.now
    }

    /// The number CLIENT ID gives.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.client.id()
    }

    /// The face others see.
    #[must_use]
    pub const fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// All of this node's connections.
    #[must_use]
    pub const fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// This node's subscriptions.
    #[must_use]
    pub const fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// The selected database.
    #[must_use]
    pub const fn db(&self) -> u8 {
        self.db
    }

    /// Selects a database below [`DATABASES`].
    pub fn select(&mut self, db: u8) {
        self.db = db;
        self.client.update(|face| face.db = db);
    }

    /// The protocol replies are encoded in.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Changes the protocol, from the running command's reply on.
    pub fn speak(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        self.client.update(|face| face.protocol = protocol);
    }

    /// Whether it has logged in, or never had to.
    #[must_use]
    pub const fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    /// It has logged in.
    pub const fn authenticate(&mut self) {
        self.authenticated = true;
    }

    /// Names the connection, or takes its name away if the name is empty.
    ///
    /// # Errors
    /// If the name would break CLIENT LIST's format.
    pub fn set_name(&mut self, name: &[u8]) -> Result<(), ClientError> {
        check_name(name)?;
        let name = Bytes::copy_from_slice(name);
        self.client.update(|face| face.name = name);
        Ok(())
    }

    /// CLIENT REPLY.
    pub fn set_replies(&mut self, replies: Replies) {
        let stays_off = self.replies == Replies::Off && replies == Replies::SkipNext;
        if !stays_off {
            self.replies = replies;
        }
    }

    /// Whether the finished command's reply is sent, once for each command: CLIENT REPLY SKIP counts
    /// commands here. Confirmations of subscriptions are always sent.
    pub fn wants(&mut self, reply: &Reply) -> bool {
        let wanted = self.replies == Replies::On;
        self.replies = match self.replies {
            Replies::SkipNext => Replies::Skip,
            Replies::Skip => Replies::On,
            other => other,
        };
        wanted || matches!(reply, Reply::Push(_) | Reply::Sequence(_))
    }

    /// Whether only subscription commands are allowed: subscribed, in a protocol that cannot tell a
    /// message from a reply.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.protocol == Protocol::Resp2 && self.subscribes()
    }

    /// Subscribes to a channel.
    pub fn subscribe(&mut self, channel: &[u8]) {
        let channel = Bytes::copy_from_slice(channel);
        self.hub.subscribe(channel.clone(), Arc::clone(&self.client) as Arc<dyn Subscriber>);
        self.channels.insert(channel);
        self.count_subscriptions();
        self.subscribed = true;
    }

    /// Subscribes to the channels that match a pattern.
    pub fn subscribe_pattern(&mut self, pattern: &[u8]) {
        let pattern = Bytes::copy_from_slice(pattern);
        self.hub.subscribe_pattern(pattern.clone(), Arc::clone(&self.client) as Arc<dyn Subscriber>);
        self.patterns.insert(pattern);
        self.count_subscriptions();
        self.subscribed = true;
    }

    /// Unsubscribes from a channel.
    pub fn unsubscribe(&mut self, channel: &Bytes) {
        self.channels.remove(channel);
        self.hub.unsubscribe(channel, self.id());
        self.count_subscriptions();
    }

    /// Unsubscribes from a pattern.
    pub fn unsubscribe_pattern(&mut self, pattern: &Bytes) {
        self.patterns.remove(pattern);
        self.hub.unsubscribe_pattern(pattern, self.id());
        self.count_subscriptions();
    }

    /// The channels it subscribes to.
    #[must_use]
    pub const fn channels(&self) -> &BTreeSet<Bytes> {
        &self.channels
    }

    /// The patterns it subscribes to.
    #[must_use]
    pub const fn patterns(&self) -> &BTreeSet<Bytes> {
        &self.patterns
    }

    /// The shard channels it subscribes to.
    #[must_use]
    pub const fn shard_channels(&self) -> &BTreeSet<Bytes> {
        &self.shard_channels
    }

    /// Subscribes to a shard channel.
    pub fn subscribe_shard(&mut self, channel: &[u8]) {
        let channel = Bytes::copy_from_slice(channel);
        self.hub.subscribe_shard(channel.clone(), Arc::clone(&self.client) as Arc<dyn Subscriber>);
        self.shard_channels.insert(channel);
        self.count_subscriptions();
        self.subscribed = true;
    }

    /// Unsubscribes from a shard channel.
    pub fn unsubscribe_shard(&mut self, channel: &Bytes) {
        self.shard_channels.remove(channel);
        self.hub.unsubscribe_shard(channel, self.id());
        self.count_subscriptions();
    }

    /// Whether it subscribes to anything.
    #[must_use]
    pub fn subscribes(&self) -> bool {
        self.subscriptions() + self.shard_channels.len() > 0
    }

    /// How many channels and patterns it subscribes to.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }

    /// Whether the running command subscribed to something; asking forgets it. Such a command's reply is
    /// written before what waits in the outbox, any other's behind it (see [`Outbox`]).
    pub const fn take_subscribed(&mut self) -> bool {
        std::mem::replace(&mut self.subscribed, false)
    }

    /// MONITOR: from now on it is shown what this node's clients send.
    pub fn monitor(&mut self) {
        if !std::mem::replace(&mut self.monitoring, true) {
            self.registry.monitor(&self.client);
        }
    }

    /// QUIT: the reply to this is the last that it is sent.
    pub fn quit(&mut self) {
        self.stop_monitoring();
        self.close = true;
    }

    /// Whether it is shown what others send.
    #[must_use]
    pub const fn is_monitoring(&self) -> bool {
        self.monitoring
    }

    fn stop_monitoring(&mut self) {
        if std::mem::take(&mut self.monitoring) {
            self.registry.stop_monitoring(&self.client);
        }
    }

    /// The commands of a transaction begin, or end.
    pub const fn set_executing(&mut self, executing: bool) {
        self.executing = executing;
    }

    /// Whether the running command is one of a transaction.
    #[must_use]
    pub const fn is_executing(&self) -> bool {
        self.executing
    }

    /// READONLY, or READWRITE.
    pub const fn set_read_only(&mut self, read_only: bool) {
        self.read_only = read_only;
    }

    /// Whether it asked to read from replicas.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// CLIENT CAPA redirect.
    pub const fn follow_redirects(&mut self) {
        self.follows_redirects = true;
    }

    /// Whether it said that it understands `REDIRECT`.
    #[must_use]
    pub const fn follows_redirects(&self) -> bool {
        self.follows_redirects
    }

    /// CLIENT NO-TOUCH.
    pub fn set_no_touch(&mut self, on: bool) {
        self.no_touch = on;
        self.client.update(|face| face.no_touch = on);
    }

    /// Whether what it reads is not used by that.
    #[must_use]
    pub const fn no_touch(&self) -> bool {
        self.no_touch
    }

    /// What MULTI has collected, if a transaction is open.
    #[must_use]
    pub const fn transaction(&self) -> Option<&Queue> {
        self.transaction.as_ref()
    }

    /// MULTI.
    ///
    /// # Errors
    /// If a transaction is open.
    pub fn open_transaction(&mut self) -> Result<(), ClientError> {
        if self.transaction.is_some() {
            return Err(text::NESTED_MULTI);
        }
        self.transaction = Some(Queue::new(self.db));
        self.count_queued();
        Ok(())
    }

    /// Adds a command to the open transaction and gives the reply to it. Without one it is lost.
    pub fn queue(&mut self, argv: Vec<Bytes>) -> Reply {
        debug_assert!(self.transaction.is_some(), "only MULTI opens a queue");
        if let Some(queue) = &mut self.transaction {
            queue.push(argv);
        }
        self.count_queued();
        Reply::Status("QUEUED")
    }

    /// A command was refused before it ran: unknown, malformed, not allowed. An open transaction can
    /// no longer be executed. Gives the reply.
    pub fn reject(&mut self, error: ClientError) -> Reply {
        if let Some(queue) = &mut self.transaction {
            queue.abort();
        }
        Reply::Error(error)
    }

    /// Like [`Session::reject`], of EXEC itself, which also closes the transaction.
    pub fn reject_exec(&mut self, error: &ClientError) -> Reply {
        self.discard();
        let why = error.as_str();
        let why = why.strip_prefix("ERR ").unwrap_or(why);
        Reply::Error(ClientError::new(format!("EXECABORT Transaction discarded because of: {why}")))
    }

    /// Closes the transaction and hands over what it collected, and what was watched.
    pub fn take_transaction(&mut self) -> Transaction {
        let commands = self.transaction.take().map(Queue::into_commands).unwrap_or_default();
        let watched = std::mem::take(&mut self.watched);
        self.count_queued();
        Transaction { commands, watched }
    }

    /// Closes the transaction, if one is open, and forgets what was watched.
    pub fn discard(&mut self) {
        self.transaction = None;
        self.watched.clear();
        self.count_queued();
    }

    /// Remembers a key of the selected database. Watched twice, it must not have changed since the
    /// first time.
    pub fn watch(&mut self, key: &[u8], revision: u64) {
        let db = self.db;
        if !self.watched.iter().any(|watch| watch.db == db && watch.key == key) {
            self.watched.push(Watch { db, key: Bytes::copy_from_slice(key), revision });
        }
    }

    /// The watched keys.
    #[must_use]
    pub fn watched(&self) -> &[Watch] {
        &self.watched
    }

    /// Forgets what was watched.
    pub fn unwatch(&mut self) {
        self.watched.clear();
    }

    /// RESET: as if it had just connected; the id and what CLIENT SETINFO and NO-EVICT said stay.
    pub fn reset(&mut self, authenticated: bool) {
        self.discard();
        self.leave_all();
        self.stop_tracking();
        self.stop_monitoring();
        self.read_only = false;
        self.set_no_touch(false);
        self.select(0);
        self.speak(Protocol::Resp2);
        self.authenticated = authenticated;
        self.replies = Replies::On;
        self.client.update(|face| face.name = Bytes::new());
    }

    fn leave_all(&mut self) {
        let id = self.id();
        for channel in std::mem::take(&mut self.channels) {
            self.hub.unsubscribe(&channel, id);
        }
        for pattern in std::mem::take(&mut self.patterns) {
            self.hub.unsubscribe_pattern(&pattern, id);
        }
        for channel in std::mem::take(&mut self.shard_channels) {
            self.hub.unsubscribe_shard(&channel, id);
        }
        self.count_subscriptions();
    }

    fn count_subscriptions(&self) {
        self.client.update(|face| {
            face.channels = self.channels.len();
            face.patterns = self.patterns.len();
            face.shard_channels = self.shard_channels.len();
        });
    }

    fn count_queued(&self) {
        let queued = self.transaction.as_ref().map(|queue| (queue.len(), queue.bytes()));
        self.client.update(|face| face.queued = queued);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.leave_all();
        self.stop_tracking();
        self.stop_monitoring();
        self.registry.disconnect(self.client.id());
    }
}

/// Refuses a client's name that would break CLIENT LIST's format.
pub fn check_name(name: &[u8]) -> Result<(), ClientError> {
    const NOT_PLAIN: ClientError =
        ClientError::fixed("ERR Client names cannot contain spaces, newlines or special characters.");
    if is_plain(name) { Ok(()) } else { Err(NOT_PLAIN) }
}

/// Whether a name fits into a line of CLIENT LIST.
#[must_use]
pub fn is_plain(name: &[u8]) -> bool {
    name.iter().all(u8::is_ascii_graphic)
}

/// The database an argument names, if there is such a one.
#[must_use]
pub fn database(argument: &[u8]) -> Option<u8> {
    number::parse_int(argument).and_then(|index| u8::try_from(index).ok()).filter(|&index| index < DATABASES)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nowhere;

    impl Outbox for Nowhere {
        fn push(&self, _: Bytes) -> bool {
            true
        }
        fn push_behind(&self, _: Bytes) -> bool {
            true
        }
        fn close(&self) {}
        fn wake(&self) {}
        fn queued(&self) -> (usize, usize) {
            (0, 0)
        }
    }

    fn session(registry: &Arc<Registry>, hub: &Arc<Hub>) -> Session {
        let addresses = ["127.0.0.1:5", "127.0.0.1:6379"].map(str::to_owned);
        let [from, to] = addresses;
        let client = registry.connect(from, to, Arc::new(Nowhere), Duration::ZERO);
        Session::new(client, Arc::clone(registry), Arc::clone(hub), true)
    }

    /// Queues these commands in database 1 and compares the databases they are to run in.
    fn check_databases(commands: &[&str], expect: &[u8]) {
        let mut session = session(&Arc::default(), &Arc::default());
        session.select(1);
        session.open_transaction().expect("none is open");
        for command in commands {
            session.queue(command.split(' ').map(|word| Bytes::from(word.to_owned())).collect());
        }
        let databases: Vec<u8> = session.take_transaction().commands.iter().map(|queued| queued.db).collect();
        assert_eq!(databases, expect, "{commands:?}");
        assert_eq!(session.db(), 1, "only running SELECT selects");
    }

    #[test]
    fn a_queued_select_moves_what_follows() {
        check_databases(&["GET a", "GET b"], &[1, 1]);
        check_databases(&["GET a", "select 3", "GET b", "SELECT 0", "GET c"], &[1, 1, 3, 3, 0]);
        check_databases(&["SELECT 16", "GET a", "SELECT x", "GET b", "SELECT 2 2", "GET c"], &[1; 6]);
    }

    #[test]
    fn the_first_sight_of_a_watched_key_counts() {
        let mut session = session(&Arc::default(), &Arc::default());
        session.watch(b"k", 1);
        session.watch(b"k", 2);
        session.select(1);
        session.watch(b"k", 3);
        let seen: Vec<_> = session.watched().iter().map(|watch| (watch.db, watch.revision)).collect();
        assert_eq!(seen, [(0, 1), (1, 3)]);
        session.discard();
        assert!(session.watched().is_empty());
    }

    #[test]
    fn a_dropped_session_leaves_nothing_behind() {
        let (registry, hub) = (Arc::default(), Arc::default());
        let mut first = session(&registry, &hub);
        let second = session(&registry, &hub);
        first.subscribe(b"a");
        first.subscribe_pattern(b"a*");
        assert_eq!((registry.len(), hub.channel_count(), hub.pattern_count()), (2, 1, 1));
        drop(first);
        assert_eq!((registry.len(), hub.channel_count(), hub.pattern_count()), (1, 0, 0));
        assert_eq!(second.id(), 2);
        assert_eq!(session(&registry, &hub).id(), 3, "a number is given once");
    }
}
