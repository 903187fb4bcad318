//! What happens on this node when an entry has been applied: messages reach its subscribers, answers its
//! clients, and those who wait for the state to get somewhere are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::applied::AppliedWatch;
use super::clock::{ClusterClock, Moment};
use super::propose::Proposals;
use super::waiting::Waiting;
use crate::machine::{Applied, Machine, Position};
use crate::metrics::Metrics;
use crate::mutants::{Mutant, planted};
use crate::pubsub::Hub;
use crate::raft::Listener;
use crate::session::{Filter, Kind, Registry};
use crate::store::Event;

/// Hears what the machine did.
pub struct Applying {
    pub proposals: Arc<Proposals>,
    pub applied: Arc<AppliedWatch>,
    pub clock: Arc<ClusterClock>,
    pub hub: Arc<Hub>,
    pub waiting: Arc<Waiting>,
    pub registry: Arc<Registry>,
    pub metrics: Arc<Metrics>,
    /// When the next key expires, in cluster ms.
    pub deadline: watch::Sender<Option<u64>>,
    /// The term in which another node leads, as far as is known; 0 if none does. What has that term was
    /// stamped by the living leader; what has another was not, and says nothing about how late it is.
    pub followed_term: Arc<AtomicU64>,
}

impl Applying {
    /// Hands messages to subscribers; how many each reached, by its place among the events.
    fn deliver(&self, events: &[Event]) -> Arc<Vec<i64>> {
        let mut receivers = Vec::new();
        let again = if planted(Mutant::MessagesDoubled) { events } else { &[] };
        let mut left = events.iter().chain(again);
        let is_reordered = planted(Mutant::MessagesReordered);
        let in_order = std::iter::from_fn(|| if is_reordered { left.next_back() } else { left.next() });
        for (place, event) in in_order.enumerate() {
            match event {
                Event::Message { channel, payload } => {
                    receivers.resize(place, 0);
                    receivers.push(self.hub.publish(channel, payload) as i64);
                    self.metrics.recorded.pubsub_messages.increment(1);
                }
                Event::ShardMessage { channel, payload } => {
                    receivers.resize(place, 0);
                    receivers.push(self.hub.publish_shard(channel, payload) as i64);
                    self.metrics.recorded.pubsub_messages.increment(1);
                }
                Event::Key { kind, db, key, by_key, by_event } => {
                    announce(&self.hub, kind, *db, key, *by_key, *by_event);
                }
            }
        }
        Arc::new(receivers)
    }
}

/// Publishes an event to this node's subscribers, on the channel of its key and on its own.
pub fn announce(hub: &Hub, kind: &'static str, db: u8, key: &Bytes, by_key: bool, by_event: bool) {
    if by_key {
        // A key is any bytes.
        let channel = [format!("__keyspace@{db}__:").as_bytes(), key].concat();
        hub.publish(&channel.into(), &Bytes::from_static(kind.as_bytes()));
    }
    if by_event {
        hub.publish(&format!("__keyevent@{db}__:{kind}").into(), key);
    }
}

impl Listener for Applying {
    fn applied(&self, position: Position, came: Duration, applied: Applied) {
        self.metrics.hot.expired_keys.fetch_add(applied.expired, Ordering::Relaxed);
        let receivers = self.deliver(&applied.events);
        if applied.brought_any {
            self.waiting.ring_all();
        }
        for (db, key) in &applied.brought {
            self.waiting.ring(*db, key);
        }
        let author = |author| self.proposals.client(author);
        self.registry.tracking().touched(&applied.touched, applied.revision, author);
        self.registry.tracking().have_read(applied.readers.iter().filter_map(|reader| author(*reader)));
        if applied.clock_ms > 0 {
            let living = position.term == self.followed_term.load(Ordering::Relaxed);
            let moment = Moment { clock_ms: applied.clock_ms, wall_ms: applied.wall_ms };
            self.clock.applied(moment, came, living);
            self.deadline.send_if_modified(|deadline| {
                std::mem::replace(deadline, applied.next_deadline) != applied.next_deadline
            });
        }
        // Before the answers: who has one must find his write here.
        self.applied.advance(position.index, applied.clock_ms);
        for outcome in &applied.outcomes {
            self.proposals.finished(outcome, &receivers);
        }
    }

    fn replaced(&self, machine: &Machine, came: Duration) {
        let (moment, next_deadline) = {
            let view = machine.store().view(0);
            // A state that cannot be read is noticed by the next entry.
            (Moment::of(view.head()), crate::types::expiry::next_deadline(&view).unwrap_or(None))
        };
        self.clock.applied(moment, came, false);
        self.waiting.ring_all();
        self.deadline.send_replace(next_deadline);
        if let Some(position) = machine.position() {
            self.applied.advance(position.index, moment.clock_ms);
        }
        self.registry.tracking().flush();
        // What was published meanwhile is in no snapshot. Who listens must know that something is missing.
        let listeners = Filter { kind: Some(Kind::Pubsub), ..Filter::default() };
        self.registry.find(&listeners).iter().for_each(|client| client.kill());
        let nobody = Arc::new(Vec::new());
        for outcome in machine.kept_outcomes() {
            self.proposals.finished(&outcome, &nobody);
        }
    }
}
