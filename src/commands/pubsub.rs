//! Publishing, subscribing, and who does.
//!
//! PUBLISH goes through the log, so that every node delivers it; everything else concerns this node's
//! connections only. PUBSUB therefore counts this node's subscribers, as a Redis replica's would.

use bytes::Bytes;

use super::{Args, Command, Flags, Group, Session, Spec, Write, help};
use crate::error::Result;
use crate::resp::Reply;
use crate::session::Session as Connection;
use crate::store::{Event, Txn};

pub(super) const COMMANDS: &[Command] = &[
    Command::write::<Publish>(),
    Command::session::<Subscribe>(),
    Command::session::<Unsubscribe>(),
    Command::session::<PSubscribe>(),
    Command::session::<PUnsubscribe>(),
    Command::session::<PubsubChannels>(),
    Command::session::<PubsubNumSub>(),
    Command::session::<PubsubNumPat>(),
    Command::session::<PubsubHelp>(),
];

pub(super) const READY: Flags = Flags::LOADING.and(Flags::STALE);
pub(super) const SUBSCRIPTION: Flags = Flags::PUBSUB.and(Flags::NOSCRIPT).and(READY);

/// Sends a message to every subscriber on every node.
pub struct Publish {
    channel: Bytes,
    message: Bytes,
}

impl Write for Publish {
    const SPEC: Spec = Spec {
        name: "PUBLISH",
        syntax: "channel message",
        summary: "Post a message to a channel",
        complexity: "O(N+M) where N is the number of clients subscribed to the receiving channel and M is the \
                     total number of subscribed patterns (by any client).",
        since: "2.0.0",
        flags: Flags::PUBSUB.and(READY).and(Flags::FAST).and(Flags::MAY_REPLICATE),
        ..Spec::of(Group::Pubsub)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { channel: args.bytes()?, message: args.bytes()? })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let events = &mut tx.effects.events;
        let place = u32::try_from(events.len()).expect("an entry causes fewer events than it has bytes");
        events.push(Event::Message { channel: self.channel, payload: self.message });
        Ok(Reply::Receivers(place))
    }
}

/// Listens to channels.
pub struct Subscribe {
    channels: Vec<Bytes>,
}

impl Session for Subscribe {
    const SPEC: Spec = Spec {
        name: "SUBSCRIBE",
        syntax: "channel [channel ...]",
        summary: "Listen for messages published to the given channels",
        complexity: "O(N) where N is the number of channels to subscribe to.",
        since: "2.0.0",
        flags: SUBSCRIPTION,
        ..Spec::of(Group::Pubsub)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { channels: args.rest() })
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        let confirm = |channel: Bytes| {
            connection.subscribe(&channel);
            confirmation("subscribe", Some(channel), connection)
        };
        Ok(Reply::Sequence(self.channels.into_iter().map(confirm).collect()))
    }
}

/// Listens to the channels that match patterns.
pub struct PSubscribe {
    patterns: Vec<Bytes>,
}

impl Session for PSubscribe {
    const SPEC: Spec = Spec {
        name: "PSUBSCRIBE",
        syntax: "pattern [pattern ...]",
        summary: "Listen for messages published to channels matching the given patterns",
        complexity: "O(N) where N is the number of patterns the client is already subscribed to.",
        since: "2.0.0",
        flags: SUBSCRIPTION,
        ..Spec::of(Group::Pubsub)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { patterns: args.rest() })
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        let confirm = |pattern: Bytes| {
            connection.subscribe_pattern(&pattern);
            confirmation("psubscribe", Some(pattern), connection)
        };
        Ok(Reply::Sequence(self.patterns.into_iter().map(confirm).collect()))
    }
}

/// Stops listening to channels; to all if none is named.
pub struct Unsubscribe {
    channels: Vec<Bytes>,
}

impl Session for Unsubscribe {
    const SPEC: Spec = Spec {
        name: "UNSUBSCRIBE",
        syntax: "[channel [channel ...]]",
        summary: "Stop listening for messages posted to the given channels",
        complexity: "O(N) where N is the number of clients already subscribed to a channel.",
        since: "2.0.0",
        flags: SUBSCRIPTION,
        ..Spec::of(Group::Pubsub)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { channels: args.rest() })
    }

    fn execute(mut self, connection: &mut Connection) -> Result<Reply> {
        if self.channels.is_empty() {
            self.channels = connection.channels().iter().cloned().collect();
        }
        if self.channels.is_empty() {
            return Ok(Reply::Sequence(vec![confirmation("unsubscribe", None, connection)]));
        }
        let confirm = |channel: Bytes| {
            connection.unsubscribe(&channel);
            confirmation("unsubscribe", Some(channel), connection)
        };
        Ok(Reply::Sequence(self.channels.into_iter().map(confirm).collect()))
    }
}

/// Stops listening to patterns; to all if none is named.
pub struct PUnsubscribe {
    patterns: Vec<Bytes>,
}

impl Session for PUnsubscribe {
    const SPEC: Spec = Spec {
        name: "PUNSUBSCRIBE",
        syntax: "[pattern [pattern ...]]",
        summary: "Stop listening for messages posted to channels matching the given patterns",
        complexity: "O(N+M) where N is the number of patterns the client is already subscribed and M is the \
                     number of total patterns subscribed in the system (by any client).",
        since: "2.0.0",
        flags: SUBSCRIPTION,
        ..Spec::of(Group::Pubsub)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { patterns: args.rest() })
    }

    fn execute(mut self, connection: &mut Connection) -> Result<Reply> {
        if self.patterns.is_empty() {
            self.patterns = connection.patterns().iter().cloned().collect();
        }
        if self.patterns.is_empty() {
            return Ok(Reply::Sequence(vec![confirmation("punsubscribe", None, connection)]));
        }
        let confirm = |pattern: Bytes| {
            connection.unsubscribe_pattern(&pattern);
            confirmation("punsubscribe", Some(pattern), connection)
        };
        Ok(Reply::Sequence(self.patterns.into_iter().map(confirm).collect()))
    }
}

/// What changed, of which channel or pattern, and how many are left.
fn confirmation(what: &'static str, topic: Option<Bytes>, connection: &Connection) -> Reply {
    let left = Reply::Int(connection.subscriptions() as i64);
    Reply::Push(vec![Reply::text(what), Reply::from(topic), left])
}

/// Lists the channels somebody listens to.
pub struct PubsubChannels {
    pattern: Option<Bytes>,
}

impl Session for PubsubChannels {
    const SPEC: Spec = Spec {
        name: "PUBSUB|CHANNELS",
        syntax: "[pattern]",
        summary: "List active channels",
        complexity: "O(N) where N is the number of active channels, and assuming constant time pattern matching \
                     (relatively short channels and patterns)",
        since: "2.8.0",
        flags: Flags::PUBSUB.and(READY),
        ..Spec::of(Group::Pubsub)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        if args.len() > 1 {
            return Err(args.wrong_subcommand().into());
        }
        Ok(Self { pattern: args.rest().pop() })
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        let channels = connection.hub().channels(self.pattern.as_deref());
        Ok(Reply::Array(channels.into_iter().map(Reply::Bulk).collect()))
    }
}

/// Counts the listeners of channels.
pub struct PubsubNumSub {
    channels: Vec<Bytes>,
}

impl Session for PubsubNumSub {
    const SPEC: Spec = Spec {
        name: "PUBSUB|NUMSUB",
        syntax: "[channel [channel ...]]",
        summary: "Get the count of subscribers for channels",
        complexity: "O(N) for the NUMSUB subcommand, where N is the number of requested channels",
        since: "2.8.0",
        flags: Flags::PUBSUB.and(READY),
        ..Spec::of(Group::Pubsub)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { channels: args.rest() })
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        Ok(counted(self.channels, |channel| connection.hub().subscribers(channel)))
    }
}

/// Each channel and what was counted of it.
pub(super) fn counted(channels: Vec<Bytes>, count: impl Fn(&Bytes) -> usize) -> Reply {
    let counts = channels.into_iter().flat_map(|channel| {
        let count = Reply::length(count(&channel));
        [Reply::Bulk(channel), count]
    });
    Reply::Array(counts.collect())
}

/// Counts the patterns somebody listens to.
pub struct PubsubNumPat;

impl Session for PubsubNumPat {
    const SPEC: Spec = Spec {
        name: "PUBSUB|NUMPAT",
        summary: "Get the count of unique patterns pattern subscriptions",
        since: "2.8.0",
        flags: Flags::PUBSUB.and(READY),
        ..Spec::of(Group::Pubsub)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        Ok(Reply::Int(connection.hub().pattern_count() as i64))
    }
}

/// Explains PUBSUB.
pub struct PubsubHelp;

impl Session for PubsubHelp {
    const SPEC: Spec = Spec {
        name: "PUBSUB|HELP",
        summary: "Show helpful text about the different subcommands",
        since: "6.2.0",
        flags: READY,
        ..Spec::of(Group::Pubsub)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        Ok(help::reply(
            "PUBSUB",
            &[
                "CHANNELS [<pattern>]",
                "    Return the currently active channels matching a <pattern> (default: '*').",
                "NUMPAT",
                "    Return number of subscriptions to patterns.",
                "NUMSUB [<channel> ...]",
                "    Return the number of subscribers for the specified channels, excluding",
                "    pattern subscriptions(default: no channels).",
                "SHARDCHANNELS [<pattern>]",
                "    Return the currently active shard level channels matching a <pattern> (default: '*').",
                "SHARDNUMSUB [<shardchannel> ...]",
                "    Return the number of subscribers for the specified shard level channel(s)",
            ],
        ))
    }
}
