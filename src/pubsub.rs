//! Channels and patterns, and who listens on this node.
//!
//! PUBLISH is replicated: every node sees each message when its log entry is applied, and hands it to
//! its own subscribers here. One thread applies, in log order, so every subscriber on every node sees
//! all messages in one order. Among the subscribers of one message the order is that of their ids,
//! channels before patterns.
//!
//! A message is encoded once for each protocol in use and shared; a subscriber costs a pointer. We never
//! wait for one: its outbox takes the frame or closes the connection.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use crate::glob;
use crate::resp::{Protocol, Reply, encode};

/// A connection that can be sent frames it did not ask for.
pub trait Subscriber: Send + Sync {
    /// The same for the connection's whole life, and used for no other.
    fn id(&self) -> u64;
    /// What the connection speaks now; HELLO may change it.
    fn protocol(&self) -> Protocol;
    /// Hands over an encoded frame, without blocking. Says whether it was taken. Must not call the
    /// [`Hub`], which is locked meanwhile.
    fn push(&self, frame: Bytes) -> bool;
}

/// The subscriptions of this node's connections.
#[derive(Default)]
pub struct Hub {
    topics: Mutex<Topics>,
}

/// A channel or pattern, and its subscribers by id.
type Audience = BTreeMap<Bytes, BTreeMap<u64, Arc<dyn Subscriber>>>;

#[derive(Default)]
struct Topics {
    channels: Audience,
    patterns: Audience,
    /// Channels with names of their own (SSUBSCRIBE).
    shards: Audience,
}

impl Hub {
    /// Adds a subscriber to a channel; twice is once.
    pub fn subscribe(&self, channel: Bytes, subscriber: Arc<dyn Subscriber>) {
        self.lock().channels.entry(channel).or_default().insert(subscriber.id(), subscriber);
    }

    /// Adds a subscriber to all channels that match a glob pattern; twice is once.
    pub fn subscribe_pattern(&self, pattern: Bytes, subscriber: Arc<dyn Subscriber>) {
        self.lock().patterns.entry(pattern).or_default().insert(subscriber.id(), subscriber);
    }

    /// Takes a subscriber off a channel.
    pub fn unsubscribe(&self, channel: &Bytes, id: u64) {
        leave(&mut self.lock().channels, channel, id);
    }

    /// Takes a subscriber off a pattern.
    pub fn unsubscribe_pattern(&self, pattern: &Bytes, id: u64) {
        leave(&mut self.lock().patterns, pattern, id);
    }

    /// Adds a subscriber to a shard channel; twice is once.
    pub fn subscribe_shard(&self, channel: Bytes, subscriber: Arc<dyn Subscriber>) {
        self.lock().shards.entry(channel).or_default().insert(subscriber.id(), subscriber);
    }

    /// Takes a subscriber off a shard channel.
    pub fn unsubscribe_shard(&self, channel: &Bytes, id: u64) {
        leave(&mut self.lock().shards, channel, id);
    }

    /// Delivers a message to everyone here who listens to a shard channel, and says how many took it.
    pub fn publish_shard(&self, channel: &Bytes, payload: &Bytes) -> usize {
        let topics = self.lock();
        let Some(subscribers) = topics.shards.get(channel) else { return 0 };
        let frame = [Reply::text("smessage"), Reply::bulk(channel.clone()), Reply::bulk(payload.clone())];
        deliver(subscribers, Reply::Push(frame.into()))
    }

    /// Delivers a message to everyone here who listens, and says how many frames were taken: a client
    /// counts once for the channel and once for each of its patterns that match.
    pub fn publish(&self, channel: &Bytes, payload: &Bytes) -> usize {
        let topics = self.lock();
        let mut taken = 0;
        if let Some(subscribers) = topics.channels.get(channel) {
            let frame = [Reply::text("message"), Reply::bulk(channel.clone()), Reply::bulk(payload.clone())];
            taken += deliver(subscribers, Reply::Push(frame.into()));
        }
        for (pattern, subscribers) in &topics.patterns {
            if glob::matches(pattern, channel) {
                let frame = [
                    Reply::text("pmessage"),
                    Reply::bulk(pattern.clone()),
                    Reply::bulk(channel.clone()),
                    Reply::bulk(payload.clone()),
                ];
                taken += deliver(subscribers, Reply::Push(frame.into()));
            }
        }
        taken
    }

    /// The channels somebody subscribes to by name, sorted; only those that match `pattern` if there
    /// is one.
    #[must_use]
    pub fn channels(&self, pattern: Option<&[u8]>) -> Vec<Bytes> {
        matching(&self.lock().channels, pattern)
    }

    /// The shard channels somebody subscribes to, as [`Hub::channels`].
    #[must_use]
    pub fn shard_channels(&self, pattern: Option<&[u8]>) -> Vec<Bytes> {
        matching(&self.lock().shards, pattern)
    }

    /// How many subscribe to this shard channel.
    #[must_use]
    pub fn shard_subscribers(&self, channel: &Bytes) -> usize {
        self.lock().shards.get(channel).map_or(0, BTreeMap::len)
    }

    /// How many subscribe to this channel by name.
    #[must_use]
    pub fn subscribers(&self, channel: &Bytes) -> usize {
        self.lock().channels.get(channel).map_or(0, BTreeMap::len)
    }

    /// How many channels somebody subscribes to by name.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.lock().channels.len()
    }

    /// How many different patterns somebody subscribes to.
    #[must_use]
    pub fn pattern_count(&self) -> usize {
        self.lock().patterns.len()
    }

    fn lock(&self) -> MutexGuard<'_, Topics> {
        self.topics.lock().expect("nothing panics while it holds the subscriptions")
    }
}

fn matching(audience: &Audience, pattern: Option<&[u8]>) -> Vec<Bytes> {
    let wanted = |channel: &&Bytes| pattern.is_none_or(|pattern| glob::matches(pattern, channel));
    audience.keys().filter(wanted).cloned().collect()
}

fn leave(audience: &mut Audience, topic: &Bytes, id: u64) {
    if let Some(subscribers) = audience.get_mut(topic) {
        subscribers.remove(&id);
        if subscribers.is_empty() {
            audience.remove(topic);
        }
    }
}

fn deliver(subscribers: &BTreeMap<u64, Arc<dyn Subscriber>>, message: Reply) -> usize {
    let mut encoded: [Option<Bytes>; 2] = [None, None];
    let mut taken = 0;
    for subscriber in subscribers.values() {
        let protocol = subscriber.protocol();
        let frame = match protocol {
            Protocol::Resp2 => &mut encoded[0],
            Protocol::Resp3 => &mut encoded[1],
        };
        let frame = frame.get_or_insert_with(|| {
            let mut bytes = bytes::BytesMut::new();
            encode(&message, protocol, &mut bytes);
            bytes.freeze()
        });
        taken += usize::from(subscriber.push(frame.clone()));
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Listener {
        id: u64,
        protocol: Protocol,
        heard: Arc<Mutex<Vec<String>>>,
    }

    impl Subscriber for Listener {
        fn id(&self) -> u64 {
            self.id
        }
        fn protocol(&self) -> Protocol {
            self.protocol
        }
        fn push(&self, frame: Bytes) -> bool {
            let text = String::from_utf8_lossy(&frame).replace("\r\n", " ");
            self.heard.lock().expect("no test panics here").push(format!("{} {}", self.id, text.trim_end()));
            true
        }
    }

    /// Runs a script of `+ID CHANNEL`, `-ID CHANNEL` (a `*` in the name makes it a pattern) and
    /// `CHANNEL=PAYLOAD`, and compares what was heard. Odd ids speak RESP2, even ones RESP3.
    fn check(script: &str, expect: &[&str]) {
        let hub = Hub::default();
        let heard = Arc::default();
        let mut counted = 0;
        for step in script.split(", ") {
            if let Some((channel, payload)) = step.split_once('=') {
                counted += hub.publish(&Bytes::from(channel.to_owned()), &Bytes::from(payload.to_owned()));
                continue;
            }
            let (who, topic) = step.split_once(' ').expect("an id and a topic");
            let (id, topic) = (who[1..].parse().expect("an id"), Bytes::from(topic.to_owned()));
            let protocol = if id % 2 == 1 { Protocol::Resp2 } else { Protocol::Resp3 };
            let listener = Arc::new(Listener { id, protocol, heard: Arc::clone(&heard) });
            match (who.starts_with('+'), topic.contains(&b'*')) {
                (true, false) => hub.subscribe(topic, listener),
                (true, true) => hub.subscribe_pattern(topic, listener),
                (false, false) => hub.unsubscribe(&topic, id),
                (false, true) => hub.unsubscribe_pattern(&topic, id),
            }
        }
        let heard = heard.lock().expect("no test panics here").clone();
        assert_eq!(heard, expect, "{script}");
        assert_eq!(counted, expect.len(), "{script}");
    }

    #[test]
    fn delivers_by_channel_then_pattern_in_order_of_ids() {
        check("a=x", &[]);
        check("+2 a, +1 a, a=x", &["1 *3 $7 message $1 a $1 x", "2 >3 $7 message $1 a $1 x"]);
        check("+1 a, +1 a, a=x", &["1 *3 $7 message $1 a $1 x"]);
        check("+1 a, -1 a, a=x", &[]);
        check("+1 a, +1 a*, +2 b*, a=x", &["1 *3 $7 message $1 a $1 x", "1 *4 $8 pmessage $2 a* $1 a $1 x"]);
        check("+2 b*, -2 b*, bc=", &[]);
    }

    #[test]
    fn counts_only_what_somebody_listens_to() {
        let hub = Hub::default();
        let listener: Arc<dyn Subscriber> =
            Arc::new(Listener { id: 7, protocol: Protocol::Resp2, heard: Arc::default() });
        for channel in ["news", "nuts"] {
            hub.subscribe(Bytes::from(channel), Arc::clone(&listener));
        }
        hub.subscribe_pattern(Bytes::from("n*"), listener);
        assert_eq!(hub.channels(None), ["news", "nuts"]);
        assert_eq!(hub.channels(Some(b"ne*")), ["news"]);
        assert_eq!((hub.channel_count(), hub.pattern_count()), (2, 1));
        assert_eq!((hub.subscribers(&Bytes::from("news")), hub.subscribers(&Bytes::from("n*"))), (1, 0));
        hub.unsubscribe(&Bytes::from("news"), 7);
        hub.unsubscribe_pattern(&Bytes::from("n*"), 7);
        assert_eq!((hub.channel_count(), hub.pattern_count()), (1, 0));
    }
}
