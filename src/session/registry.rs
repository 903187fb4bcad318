//! All connections of this node, as other connections see them.
//!
//! A connection's state is its own and needs no lock. What CLIENT LIST shows and CLIENT KILL reaches
//! is a copy of the few facts others may ask for, behind a small lock that is never held across
//! anything. [`Session`](super::Session) alone keeps the copy.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;

use super::Outbox;
use super::begun::Begun;
use crate::pubsub::Subscriber;
use crate::resp::Protocol;
use crate::tracking::{Keeper, Tracking};

/// The connections of this node, by id.
#[derive(Default)]
pub struct Registry {
    last_id: AtomicU64,
    clients: Mutex<BTreeMap<u64, Arc<Client>>>,
    tracking: Tracking,
    monitors: Mutex<BTreeMap<u64, Arc<Client>>>,
    /// Whether anybody does, so that a command usually takes no lock to find that nobody does.
    monitored: Arc<AtomicBool>,
}

/// A connection's shared face.
pub struct Client {
    id: u64,
    address: Arc<str>,
    local: String,
    connected: Duration,
    outbox: Arc<dyn Outbox>,
    face: Mutex<Face>,
}

/// What others may know of a connection.
#[derive(Clone, Debug)]
pub struct Face {
    /// CLIENT SETNAME's, or empty.
    pub name: Bytes,
    /// CLIENT SETINFO's, or empty.
    pub library_name: Bytes,
    /// CLIENT SETINFO's, or empty.
    pub library_version: Bytes,
    pub(super) db: u8,
    pub(super) protocol: Protocol,
    pub(super) channels: usize,
    pub(super) patterns: usize,
    pub(super) shard_channels: usize,
    /// In MULTI: how many commands are queued, and their length.
    pub(super) queued: Option<(usize, usize)>,
    /// CLIENT NO-EVICT. Kept and shown: no client is evicted here.
    pub no_evict: bool,
    /// CLIENT NO-TOUCH.
    pub(super) no_touch: bool,
    /// MONITOR.
    monitoring: bool,
    /// Waits in a command, and whether CLIENT UNBLOCK can end that.
    pub(super) blocked: Option<Blocked>,
    /// CLIENT UNBLOCK, not yet noticed by the connection.
    pub(super) unblocked: Option<Unblock>,
    /// Is about to be closed.
    pub closing: bool,
    /// CLIENT TRACKING.
    pub tracks: Option<Tracks>,
    /// When the last command began.
    pub(super) active: Duration,
    pub(super) begun: Begun,
}

/// What CLIENT LIST shows of CLIENT TRACKING.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracks {
    /// The client that is told instead, or 0.
    pub redirect: u64,
    pub broadcast: bool,
    /// That client is gone.
    pub broken: bool,
}

/// Which connections CLIENT LIST and CLIENT KILL mean: those that match all that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub ids: Option<Vec<u64>>,
    /// The client's `ip:port`.
    pub address: Option<Bytes>,
    /// Our `ip:port`.
    pub local: Option<Bytes>,
    pub kind: Option<Kind>,
    /// When it must have been connected, at the latest.
    pub connected_by: Option<Duration>,
    /// An id to leave out.
    pub except: Option<u64>,
}

/// Redis' client types. Nobody replicates through this port, so two of them have no members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Normal,
    Master,
    Replica,
    Pubsub,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// The end of CLIENT PAUSE.
    Pause,
    /// What its command asked for, such as replicas.
    Command,
}

/// What CLIENT UNBLOCK gives a waiting connection as its command's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unblock {
    /// As if the time it was ready to wait had passed.
    Timeout,
    Error,
}

impl Registry {
    /// No connections. `copies` says from now on whether any of them tracks keys, `monitored` whether any monitors.
    #[must_use]
    pub fn new(copies: Arc<AtomicBool>, monitored: Arc<AtomicBool>) -> Self {
        Self { tracking: Tracking::new(copies), monitored, ..Self::default() }
    }

    /// The copies that connections keep.
    #[must_use]
    pub const fn tracking(&self) -> &Tracking {
        &self.tracking
    }

    /// The connection with this number.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<Arc<Client>> {
        self.lock().get(&id).cloned()
    }

    /// A number that no connection has had.
    pub fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The numbers go on behind those of `other`, whose connections come here.
    pub fn number_after(&self, other: &Self) {
        self.last_id.fetch_max(other.last_id.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// A new connection from `address` to `local` (both `ip:port`), at `now`.
    pub fn connect(
        &self,
        address: String,
        local: String,
        outbox: Arc<dyn Outbox>,
        now: Duration,
    ) -> Arc<Client> {
        self.connect_as(self.next_id(), address, local, outbox, now)
    }

    /// The same with a number of its own.
    pub fn connect_as(
        &self,
        id: u64,
        address: String,
        local: String,
        outbox: Arc<dyn Outbox>,
        now: Duration,
    ) -> Arc<Client> {
        let face = Face {
            name: Bytes::new(),
            library_name: Bytes::new(),
            library_version: Bytes::new(),
            db: 0,
            protocol: Protocol::Resp2,
            channels: 0,
            patterns: 0,
            shard_channels: 0,
            queued: None,
            no_evict: false,
            no_touch: false,
            monitoring: false,
            blocked: None,
            unblocked: None,
            closing: false,
            tracks: None,
            active: now,
            begun: Begun::default(),
        };
        let (address, face) = (address.into(), Mutex::new(face));
        let client = Arc::new(Client { id, address, local, connected: now, outbox, face });
        self.lock().insert(id, Arc::clone(&client));
        client
    }

    /// Forgets a connection that has ended.
    pub(super) fn disconnect(&self, id: u64) {
        self.lock().remove(&id);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// This client is shown what the others send.
    pub(super) fn monitor(&self, client: &Arc<Client>) {
        client.update(|face| face.monitoring = true);
        let mut monitors = self.monitors();
        monitors.insert(client.id, Arc::clone(client));
        self.monitored.store(true, Ordering::Relaxed);
    }

    /// This client is not any more.
    pub(super) fn stop_monitoring(&self, client: &Client) {
        client.update(|face| face.monitoring = false);
        let mut monitors = self.monitors();
        monitors.remove(&client.id);
        self.monitored.store(!monitors.is_empty(), Ordering::Relaxed);
    }

    /// Whether anybody is shown what clients send.
    #[must_use]
    pub fn is_monitored(&self) -> bool {
        self.monitored.load(Ordering::Relaxed)
    }

    /// Shows a line to those who monitor.
    pub fn show(&self, line: &Bytes) {
        for client in self.monitors().values() {
            client.outbox.push(line.clone());
        }
    }

    fn monitors(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Client>>> {
        self.monitors.lock().expect("nothing panics while it holds the table of monitors")
    }

    /// How many wait in a command.
    #[must_use]
    pub fn blocked(&self) -> usize {
        self.lock().values().filter(|client| client.lock().blocked.is_some()).count()
    }

    /// Those that match, by id.
    #[must_use]
    pub fn find(&self, filter: &Filter) -> Vec<Arc<Client>> {
        let clients = self.lock();
        match &filter.ids {
            Some(ids) => ids
                .iter()
                .filter_map(|id| clients.get(id))
                .filter(|client| filter.fits(client))
                .cloned()
                .collect(),
            None => clients.values().filter(|client| filter.fits(client)).cloned().collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Client>>> {
        self.clients.lock().expect("nothing panics while it holds the table of clients")
    }
}

impl Filter {
    fn fits(&self, client: &Client) -> bool {
        self.address.as_ref().is_none_or(|address| address == client.address.as_bytes())
            && self.local.as_ref().is_none_or(|local| local == client.local.as_bytes())
            && self.kind.is_none_or(|kind| kind == client.kind())
            && self.connected_by.is_none_or(|latest| client.connected <= latest)
            && self.except != Some(client.id)
    }
}

impl Client {
    /// The address it came from, `ip:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The same, for those who keep it.
    #[must_use]
    pub fn shared_address(&self) -> Arc<str> {
        Arc::clone(&self.address)
    }

    /// CLIENT SETNAME's, or empty.
    #[must_use]
    pub fn name(&self) -> Bytes {
        self.lock().name.clone()
    }

    /// Whether it is on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.address.starts_with("127.0.0.1:") || self.address.starts_with("[::1]:")
    }

    /// The address it came to, `ip:port`.
    #[must_use]
    pub fn local_address(&self) -> &str {
        &self.local
    }

    /// Its sending end.
    #[must_use]
    pub fn outbox(&self) -> &dyn Outbox {
        &*self.outbox
    }

    /// Ends the connection from outside.
    pub fn kill(&self) {
        self.update(|face| face.closing = true);
        self.outbox.close();
    }

    /// It begins to wait.
    pub fn block(&self, blocked: Blocked) {
        self.update(|face| face.blocked = Some(blocked));
    }

    /// It waits no more.
    pub fn resume(&self) {
        self.update(|face| {
            face.blocked = None;
            face.unblocked = None;
        });
    }

    /// Whether CLIENT UNBLOCK ended its wait, and how.
    #[must_use]
    pub fn unblocked(&self) -> Option<Unblock> {
        self.lock().unblocked
    }

    /// CLIENT UNBLOCK. Says whether it was waiting in a command.
    pub fn unblock(&self, how: Unblock) -> bool {
        let mut face = self.lock();
        let waits = face.blocked == Some(Blocked::Command) && face.unblocked.is_none();
        if waits {
            face.unblocked = Some(how);
        }
        drop(face);
        self.outbox.wake();
        waits
    }

    /// A copy of what others may know.
    #[must_use]
    pub fn face(&self) -> Face {
        self.lock().clone()
    }

    /// Changes what others may know.
    pub fn update(&self, change: impl FnOnce(&mut Face)) {
        change(&mut self.lock());
    }

    /// Its line of CLIENT LIST at `now`, without the line end.
    ///
    /// Redis 7.0's fields in their order, and 7.2's `lib-name` and `lib-ver` behind them. There is no
    /// file descriptor to show (`fd=-1`), and the buffers (`qbuf-free`, `rbs`, `rbp`) are not preallocated
    /// here.
    #[must_use]
    pub fn line(&self, now: Duration) -> String {
        let face = self.face();
        let (frames, frame_bytes) = self.outbox.queued();
        let (queued, queued_bytes) = face.queued.map_or((-1, 0), |(count, bytes)| (count as i64, bytes));
        let total = size_of::<Self>() + face.begun.query_bytes + queued_bytes + frame_bytes;
        let mut line = String::with_capacity(320);
        let written = write!(
            line,
            "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={} db={} sub={} psub={} ssub={} \
             multi={queued} qbuf={} qbuf-free=0 argv-mem={} multi-mem={queued_bytes} rbs=0 rbp=0 obl=0 \
             oll={frames} omem={frame_bytes} tot-mem={total} events=r cmd={} user=default redir={} \
             resp={} lib-name={} lib-ver={}",
            self.id,
            self.address,
            self.local,
            String::from_utf8_lossy(&face.name),
            now.saturating_sub(self.connected).as_secs(),
            now.saturating_sub(face.active).as_secs(),
            face.flags(),
            face.db,
            face.channels,
            face.patterns,
            face.shard_channels,
            face.begun.query_bytes,
            face.begun.argument_bytes,
            if face.begun.command.is_empty() {
                "NULL".to_owned()
            } else {
                face.begun.command.to_ascii_lowercase()
            },
            face.tracks.map_or(-1, |tracks| tracks.redirect.cast_signed()),
            match face.protocol {
                Protocol::Resp2 => 2,
                Protocol::Resp3 => 3,
            },
            String::from_utf8_lossy(&face.library_name),
            String::from_utf8_lossy(&face.library_version),
        );
        written.expect("writing to a String does not fail");
        line
    }

    fn kind(&self) -> Kind {
        if self.lock().subscribes() { Kind::Pubsub } else { Kind::Normal }
    }

    fn lock(&self) -> MutexGuard<'_, Face> {
        self.face.lock().expect("nothing panics while it holds a client's face")
    }
}

impl Subscriber for Client {
    fn id(&self) -> u64 {
        self.id
    }

    fn protocol(&self) -> Protocol {
        self.lock().protocol
    }

    fn push(&self, frame: Bytes) -> bool {
        self.outbox.push(frame)
    }
}

impl Keeper for Client {
    fn id(&self) -> u64 {
        self.id
    }

    fn protocol(&self) -> Protocol {
        self.lock().protocol
    }

    fn listens(&self) -> bool {
        self.kind() == Kind::Pubsub
    }

    fn push_behind(&self, frame: Bytes) {
        // A connection whose outbox is full is closed; its cache ends with it.
        self.outbox.push_behind(frame);
    }

    fn redirect_broke(&self) {
        self.update(|face| {
            if let Some(tracks) = &mut face.tracks {
                tracks.broken = true;
            }
        });
    }
}

impl Face {
    const fn subscribes(&self) -> bool {
        self.channels + self.patterns + self.shard_channels > 0
    }

    /// CLIENT LIST's flags.
    fn flags(&self) -> String {
        let flags: String = [
            (self.monitoring, 'O'),
            (self.subscribes(), 'P'),
            (self.queued.is_some(), 'x'),
            (self.blocked.is_some(), 'b'),
            (self.tracks.is_some(), 't'),
            (self.tracks.is_some_and(|tracks| tracks.broken), 'R'),
            (self.tracks.is_some_and(|tracks| tracks.broadcast), 'B'),
            (self.closing, 'A'),
            (self.no_evict, 'e'),
            (self.no_touch, 'T'),
        ]
        .into_iter()
        .filter_map(|(set, flag)| set.then_some(flag))
        .collect();
        if flags.is_empty() { "N".to_owned() } else { flags }
    }
}
