//! The network: TCP as a program sees it, between hosts that have names for addresses.
//!
//! Kept from TCP: bytes arrive in order or not at all; a write says nothing about arrival; a reader
//! that does not read stops its writer; a write may be taken in part; closing with unread bytes
//! resets; bytes on a cut link are sent again when it heals, and a sender whose bytes stay
//! unacknowledged for too long gives up with `TimedOut`, while the other side learns nothing until
//! it writes (half-open); a reset on a cut link is lost for good. A lost packet costs its
//! retransmission time, and everything behind it waits.
//!
//! A slow link delays what is behind on the same connection; connections do not share its bandwidth.
//!
//! Left out: acknowledgements as packets: the window opens at once when bytes are read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::agenda::Agenda;
use super::host::Member;
use super::weather::{RETRANSMIT, Weather};
use super::{Caller, between, chance};
use crate::env::real::SeededRng;
use crate::env::{Accepted, BoxFuture, BoxStream, Listener, Net, Rng};

/// Bytes one direction of a connection holds, under way and unread, before a writer must wait.
const WINDOW: usize = 256 * 1024;
/// The first try to connect again.
const CONNECT_AGAIN: Duration = Duration::from_secs(1);
/// Where ports that nobody asked for begin.
const EPHEMERAL: u16 = 40_000;

/// All links and connections.
pub(super) struct Wires {
    agenda: Arc<Agenda>,
    rng: SeededRng,
    state: Mutex<State>,
}

struct State {
    up: BTreeSet<Arc<str>>,
    /// By `host:port`.
    listeners: BTreeMap<String, Weak<Backlog>>,
    connections: BTreeMap<u64, Connection>,
    connected: u64,
    next_port: u16,
    weather: Weather,
}

/// Two ends; index 0 connected, index 1 accepted.
struct Connection {
    ends: [End; 2],
}

impl Connection {
    /// The end of `side`, and the other.
    fn ends(&mut self, side: usize) -> (&mut End, &mut End) {
        let [first, second] = &mut self.ends;
        if side == 0 { (first, second) } else { (second, first) }
    }
}

/// One end: what it has sent that is still under way, and what has arrived for it.
struct End {
    host: Arc<str>,
    under_way: VecDeque<Segment>,
    under_way_bytes: usize,
    /// Deliveries that came due while the link was cut.
    held: usize,
    /// When the last of `under_way` is due: nothing overtakes.
    last_due: Duration,
    /// Since when this end's bytes have gone without acknowledgement.
    unacknowledged: Option<Duration>,
    inbox: BytesMut,
    /// The other side has closed; the inbox is all that will come.
    inbox_ends: bool,
    closed: bool,
    /// Nobody holds this end any more: what arrives is answered with a reset.
    gone: bool,
    error: Option<io::ErrorKind>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

enum Segment {
    Bytes(Vec<u8>),
    Close,
}

impl Segment {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Close => 0,
        }
    }
}

impl End {
    fn new(host: &Arc<str>) -> Self {
        Self {
            host: Arc::clone(host),
            under_way: VecDeque::new(),
            under_way_bytes: 0,
            held: 0,
            last_due: Duration::ZERO,
            unacknowledged: None,
            inbox: BytesMut::new(),
            inbox_ends: false,
            closed: false,
            gone: false,
            error: None,
            reader: None,
            writer: None,
        }
    }

    fn fail(&mut self, error: io::ErrorKind) {
        self.error.get_or_insert(error);
        self.lose_sent(0);
        self.unacknowledged = None;
        self.wake_reader();
        self.wake_writer();
    }

    /// Loses all but the first `kept` of what is under way.
    fn lose_sent(&mut self, kept: usize) {
        self.under_way.truncate(kept);
        self.under_way_bytes = self.under_way.iter().map(Segment::len).sum();
    }

    fn wake_reader(&mut self) {
        self.reader.take().into_iter().for_each(Waker::wake);
    }

    fn wake_writer(&mut self) {
        self.writer.take().into_iter().for_each(Waker::wake);
    }

    /// Whether a segment that arrives here finds somebody.
    fn listens(&self) -> bool {
        !self.gone && self.error.is_none()
    }
}

impl Wires {
    pub(super) fn new(agenda: Arc<Agenda>, seed: u64) -> Arc<Self> {
        let state = State {
            up: BTreeSet::new(),
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            connected: 0,
            next_port: EPHEMERAL,
            weather: Weather::default(),
        };
        Arc::new(Self { agenda, rng: SeededRng::new(seed), state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    pub(super) fn set_latency(&self, min: Duration, max: Duration) {
        self.state().weather.latency = (min, max);
    }

    pub(super) fn set_link_latency(&self, from: &str, to: &str, latency: Option<(Duration, Duration)>) {
        let link = (from.to_owned(), to.to_owned());
        let links = &mut self.state().weather.link_latency;
        match latency {
            Some(latency) => links.insert(link, latency),
            None => links.remove(&link),
        };
    }

    pub(super) fn set_bandwidth(&self, from: &str, to: &str, rate: Option<u64>) {
        let link = (from.to_owned(), to.to_owned());
        let links = &mut self.state().weather.bandwidth;
        match rate {
            Some(rate) => links.insert(link, rate),
            None => links.remove(&link),
        };
    }

    pub(super) fn set_loss(&self, chance: f64) {
        self.state().weather.loss = chance;
    }

    pub(super) fn set_patience(&self, patience: Duration) {
        self.state().weather.patience = patience;
    }

    pub(super) fn cut(&self, from: &str, to: &str) {
        self.state().weather.cut.insert((from.to_owned(), to.to_owned()));
    }

    pub(super) fn isolate(&self, host: &str) {
        self.state().weather.isolated.insert(host.to_owned());
    }

    /// Mends the links `mended` says, and sends what they held again.
    pub(super) fn heal(
        self: &Arc<Self>,
        mended: impl Fn(&str, &str) -> bool,
        isolated: impl Fn(&str) -> bool,
    ) {
        let mut again = Vec::new();
        let mut state = self.state();
        let state = &mut *state;
        state.weather.cut.retain(|(from, to)| !mended(from, to));
        state.weather.isolated.retain(|host| !isolated(host));
        for (id, connection) in &mut state.connections {
            for side in [0, 1] {
                let other = Arc::clone(&connection.ends[1 - side].host);
                let end = &mut connection.ends[side];
                if !state.weather.is_open(&end.host, &other) {
                    continue;
                }
                if state.weather.is_open(&other, &end.host) {
                    end.unacknowledged = None;
                }
                let delay = state.weather.delay(&self.rng, &end.host, &other)
                    + between(&self.rng, Duration::ZERO, RETRANSMIT);
                end.last_due = end.last_due.max(self.agenda.now() + delay);
                again.extend((0..mem::take(&mut end.held)).map(|_| (*id, side, delay)));
            }
        }
        for (id, side, delay) in again {
            self.after(delay, move |wires| wires.deliver(id, side));
        }
    }

    pub(super) fn host_up(&self, host: &Arc<str>) {
        self.state().up.insert(Arc::clone(host));
    }

    /// Ends everything a crashed host had: some of what it had sent still arrives, then a reset.
    pub(super) fn host_down(self: &Arc<Self>, host: &str) {
        let mut state = self.state();
        state.up.remove(host);
        let prefix = format!("{host}:");
        state.listeners.retain(|address, _| !address.starts_with(&prefix));
        let ids: Vec<u64> = state.connections.keys().copied().collect();
        for id in ids {
            for side in [0, 1] {
                let (end, other) = state.ends(id, side);
                if end.gone || *end.host != *host {
                    continue;
                }
                end.gone = true;
                end.inbox.clear();
                other.wake_writer();
                let kept = self.rng.next_u64() % (end.under_way.len() as u64 + 1);
                end.lose_sent(usize::try_from(kept).expect("no longer than the queue"));
                self.send_reset(&state, id, side);
            }
            state.forget_if_over(id);
        }
    }

    fn after(self: &Arc<Self>, delay: Duration, action: impl FnOnce(&Arc<Self>) + Send + 'static) {
        let wires = Arc::downgrade(self);
        self.agenda.after(delay, move || {
            if let Some(wires) = wires.upgrade() {
                action(&wires);
            }
        });
    }

    fn send(self: &Arc<Self>, state: &mut State, id: u64, side: usize, segment: Segment) {
        let connection = state.connections.get_mut(&id).expect("the caller holds one end");
        let (from, to) = (&connection.ends[side].host, &connection.ends[1 - side].host);
        let now = self.agenda.now();
        let due = now + state.weather.delay(&self.rng, from, to);
        let busy = state.weather.transmission(from, to, segment.len());
        let end = &mut connection.ends[side];
        end.last_due = end.last_due.max(due) + busy;
        end.under_way_bytes += segment.len();
        end.under_way.push_back(segment);
        self.after(end.last_due - now, move |wires| wires.deliver(id, side));
    }

    /// The first segment under way from `side` arrives, if the link lets it.
    fn deliver(self: &Arc<Self>, id: u64, side: usize) {
        let mut state = self.state();
        let state = &mut *state;
        let Some(connection) = state.connections.get_mut(&id) else { return };
        let (sender, receiver) = connection.ends(side);
        let goes = state.weather.is_open(&sender.host, &receiver.host);
        let comes_back = state.weather.is_open(&receiver.host, &sender.host);
        if !(goes && comes_back) && sender.unacknowledged.is_none() && !sender.under_way.is_empty() {
            let since = self.agenda.now();
            sender.unacknowledged = Some(since);
            self.after(state.weather.patience, move |wires| wires.give_up(id, side, since));
        }
        if !goes {
            sender.held += 1;
            return;
        }
        // Nothing is left when the sender crashed or gave up.
        let Some(segment) = sender.under_way.pop_front() else { return };
        sender.under_way_bytes -= segment.len();
        match segment {
            Segment::Bytes(_) if !receiver.listens() => self.send_reset(state, id, 1 - side),
            Segment::Bytes(bytes) => {
                self.agenda.trace("deliver", &receiver.host, u64::from(crc32c::crc32c(&bytes)));
                receiver.inbox.extend_from_slice(&bytes);
                receiver.wake_reader();
            }
            Segment::Close => {
                self.agenda.trace("close", &receiver.host, id);
                receiver.inbox_ends = true;
                receiver.wake_reader();
            }
        }
        state.forget_if_over(id);
    }

    /// `side` tells the other that the connection is no more, behind what it has under way. Sent
    /// once: on a cut link it is lost.
    fn send_reset(self: &Arc<Self>, state: &State, id: u64, side: usize) {
        let ends = &state.connections[&id].ends;
        let now = self.agenda.now();
        let delay = state.weather.delay(&self.rng, &ends[side].host, &ends[1 - side].host);
        let last_due = if ends[side].under_way.is_empty() { now } else { ends[side].last_due };
        self.after((now + delay).max(last_due) - now, move |wires| wires.reset(id, 1 - side));
    }

    fn reset(&self, id: u64, side: usize) {
        let mut state = self.state();
        let state = &mut *state;
        let Some(connection) = state.connections.get_mut(&id) else { return };
        if state.weather.is_open(&connection.ends[1 - side].host, &connection.ends[side].host) {
            let end = &mut connection.ends[side];
            self.agenda.trace("reset", &end.host, id);
            end.fail(io::ErrorKind::ConnectionReset);
        }
        state.forget_if_over(id);
    }

    fn give_up(&self, id: u64, side: usize, since: Duration) {
        let mut state = self.state();
        let Some(connection) = state.connections.get_mut(&id) else { return };
        let end = &mut connection.ends[side];
        if end.unacknowledged == Some(since) {
            self.agenda.trace("give up", &end.host, id);
            end.fail(io::ErrorKind::TimedOut);
        }
        state.forget_if_over(id);
    }
}

impl State {
    fn ends(&mut self, id: u64, side: usize) -> (&mut End, &mut End) {
        self.connections.get_mut(&id).expect("the caller knows it is there").ends(side)
    }

    fn forget_if_over(&mut self, id: u64) {
        let over =
            |connection: &Connection| connection.ends.iter().all(|end| end.gone && end.under_way.is_empty());
        if self.connections.get(&id).is_some_and(over) {
            self.connections.remove(&id);
        }
    }

    fn free_port(&mut self, host: &str) -> u16 {
        loop {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(EPHEMERAL);
            if !self.listeners.contains_key(&format!("{host}:{port}")) {
                return port;
            }
        }
    }
}

/// The host an address means, seen from `own`, and the port.
fn split<'a>(own: &'a str, address: &'a str) -> io::Result<(&'a str, u16)> {
    let (host, port) = address.rsplit_once(':').ok_or(io::ErrorKind::InvalidInput)?;
    let port = port.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
    let here = matches!(host, "" | "*" | "0.0.0.0" | "127.0.0.1" | "localhost" | "[::]" | "[::1]");
    Ok((if here { own } else { host }, port))
}

/// A host's access to the network.
pub(super) struct HostNet {
    pub(super) member: Member,
    pub(super) caller: Caller,
}

impl HostNet {
    fn wires(&self) -> &Arc<Wires> {
        self.member.world.wires()
    }

    async fn hop(&self, from: &str, to: &str) {
        let delay = self.wires().state().weather.delay(&self.wires().rng, from, to);
        self.member.world.agenda().sleep(delay).await;
        self.member.alive().await;
    }

    /// Asks once. `None` when nobody answers.
    async fn try_connect(&self, host: &str, port: u16) -> Option<io::Result<BoxStream>> {
        let own = &self.member.life.host;
        self.hop(own, host).await;
        let stream = {
            let mut state = self.wires().state();
            let reachable = state.weather.is_open(own, host) && state.weather.is_open(host, own);
            let remote = state.up.get(host).cloned().filter(|_| reachable)?;
            let target = format!("{host}:{port}");
            let backlog = state.listeners.get(&target).and_then(Weak::upgrade);
            backlog.map(|backlog| {
                state.connected += 1;
                let id = state.connected;
                let peer = format!("{own}:{}", state.free_port(own));
                state.connections.insert(id, Connection { ends: [End::new(own), End::new(&remote)] });
                self.member.world.agenda().trace("connect", host, id);
                let [ours, theirs] =
                    [0, 1].map(|side| WireStream { wires: Arc::clone(self.wires()), id, side });
                let accepted = Accepted { stream: Box::new(theirs), peer, local: target };
                (ours, backlog, accepted)
            })
        };
        let connected = stream.map(|(ours, backlog, accepted)| {
            self.caller.0.lock().expect("no holder panics").clone_from(&accepted.peer);
            backlog.waiting.lock().expect("no holder panics").push_back(accepted);
            backlog.changed.notify_one();
            ours
        });
        self.hop(host, own).await;
        let answer: io::Result<BoxStream> = match connected {
            Some(stream) => Ok(Box::new(stream)),
            None => Err(io::ErrorKind::ConnectionRefused.into()),
        };
        Some(answer)
    }
}

impl Net for HostNet {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            self.member.alive().await;
            let own = &*self.member.life.host;
            let (host, port) = split(own, address)?;
            if host != own {
                return Err(io::ErrorKind::AddrNotAvailable.into());
            }
            let mut state = self.wires().state();
            let port = if port == 0 { state.free_port(own) } else { port };
            let address = format!("{own}:{port}");
            if state.listeners.get(&address).is_some_and(|backlog| backlog.strong_count() > 0) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            let backlog = Arc::new(Backlog::default());
            state.listeners.insert(address.clone(), Arc::downgrade(&backlog));
            let listener: Box<dyn Listener> = Box::new(Listening { backlog, address });
            Ok(listener)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            self.member.alive().await;
            let (host, port) = split(&self.member.life.host, address)?;
            let agenda = self.member.world.agenda();
            let give_up = agenda.now() + self.wires().state().weather.patience;
            let mut pause = CONNECT_AGAIN;
            loop {
                if let Some(answer) = self.try_connect(host, port).await {
                    return answer;
                }
                let left = give_up.saturating_sub(agenda.now());
                if left.is_zero() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                agenda.sleep(pause.min(left)).await;
                pause *= 2;
            }
        })
    }
}

/// Connections nobody has accepted yet.
#[derive(Default)]
struct Backlog {
    waiting: Mutex<VecDeque<Accepted>>,
    changed: Notify,
}

/// Closes its address, and resets the connections it did not accept, when dropped.
struct Listening {
    backlog: Arc<Backlog>,
    address: String,
}

impl Listener for Listening {
    fn accept(&self) -> BoxFuture<'_, io::Result<Accepted>> {
        Box::pin(async move {
            loop {
                let accepted = self.backlog.waiting.lock().expect("no holder panics").pop_front();
                match accepted {
                    Some(accepted) => return Ok(accepted),
                    None => self.backlog.changed.notified().await,
                }
            }
        })
    }

    fn local_address(&self) -> String {
        self.address.clone()
    }
}

/// One end of a connection, as its owner holds it.
struct WireStream {
    wires: Arc<Wires>,
    id: u64,
    side: usize,
}

impl WireStream {
    /// Runs `action` on this end and the other, unless the host of this one is gone: a ghost waits
    /// for ever.
    fn with<T>(&self, action: impl FnOnce(&mut State) -> Poll<T>) -> Poll<T> {
        let mut state = self.wires.state();
        match state.connections.get(&self.id) {
            Some(connection) if !connection.ends[self.side].gone => action(&mut state),
            _ => Poll::Pending,
        }
    }
}

impl AsyncRead for WireStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|state| {
            let (own, other) = state.ends(self.id, self.side);
            if !own.inbox.is_empty() {
                let taken = own.inbox.len().min(buffer.remaining());
                buffer.put_slice(&own.inbox[..taken]);
                own.inbox.advance(taken);
                other.wake_writer();
                return Poll::Ready(Ok(()));
            }
            match own.error {
                Some(error) => Poll::Ready(Err(error.into())),
                None if own.inbox_ends => Poll::Ready(Ok(())),
                None => {
                    own.reader = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
    }
}

impl AsyncWrite for WireStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|state| {
            let (own, other) = state.ends(self.id, self.side);
            if let Some(error) = own.error {
                return Poll::Ready(Err(error.into()));
            }
            if own.closed {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let used = other.inbox.len() + own.under_way_bytes;
            let mut taken = bytes.len().min(WINDOW.saturating_sub(used));
            if taken == 0 && !bytes.is_empty() {
                own.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
            if taken > 1 && chance(&self.wires.rng, 1.0 / 16.0) {
                let part = 1 + self.wires.rng.next_u64() % (taken as u64 - 1);
                taken = usize::try_from(part).expect("less than a usize");
            }
            if taken > 0 {
                self.wires.send(state, self.id, self.side, Segment::Bytes(bytes[..taken].to_vec()));
            }
            Poll::Ready(Ok(taken))
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|state| {
            let (own, _) = state.ends(self.id, self.side);
            if own.error.is_none() && !mem::replace(&mut own.closed, true) {
                self.wires.send(state, self.id, self.side, Segment::Close);
            }
            Poll::Ready(Ok(()))
        })
    }
}

impl Drop for WireStream {
    fn drop(&mut self) {
        let mut state = self.wires.state();
        let (id, side) = (self.id, self.side);
        if !state.connections.contains_key(&id) {
            return;
        }
        let (end, other) = state.ends(id, side);
        if mem::replace(&mut end.gone, true) {
            return;
        }
        if end.error.is_none() {
            if !end.inbox.is_empty() {
                end.inbox.clear();
                other.wake_writer();
                end.lose_sent(0);
                self.wires.send_reset(&state, id, side);
            } else if !end.closed {
                end.closed = true;
                self.wires.send(&mut state, id, side, Segment::Close);
            }
        }
        state.forget_if_over(id);
    }
}
