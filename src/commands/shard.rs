//! Sharded publishing. The cluster is one shard, so it is publishing with names of its own.

use bytes::Bytes;

use super::pubsub::{READY, SUBSCRIPTION, counted};
use super::{Access, Args, Command, Flags, Group, Keys, Session, Spec, Write};
use crate::error::{ClientError, Result};
use crate::resp::Reply;
use crate::session::Session as Connection;
use crate::store::{Event, Txn};

pub(super) const COMMANDS: &[Command] = &[
    Command::write::<SPublish>(),
    Command::session::<SSubscribe>(),
    Command::session::<SUnsubscribe>(),
    Command::session::<ShardChannels>(),
    Command::session::<ShardNumSub>(),
];

/// Sends a message to every subscriber of a shard channel, on every node.
pub struct SPublish {
    channel: Bytes,
    message: Bytes,
}

impl Write for SPublish {
    const SPEC: Spec = Spec {
        name: "SPUBLISH",
        syntax: "shardchannel message",
        summary: "Post a message to a shard channel",
        complexity: "O(N) where N is the number of clients subscribed to the receiving shard channel.",
        since: "7.0.0",
        keys: Keys::at(1, Access::Channel),
        flags: Flags::PUBSUB.and(READY).and(Flags::FAST).and(Flags::MAY_REPLICATE),
        ..Spec::of(Group::Pubsub)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { channel: args.bytes()?, message: args.bytes()? })
    }

    fn execute(self, tx: &mut Txn) -> Result<Reply> {
        let events = &mut tx.effects.events;
        let place = u32::try_from(events.len()).expect("an entry causes fewer events than it has bytes");
        events.push(Event::ShardMessage { channel: self.channel, payload: self.message });
        Ok(Reply::Receivers(place))
    }
}

/// Listens to shard channels.
pub struct SSubscribe {
    channels: Vec<Bytes>,
}

impl Session for SSubscribe {
    const SPEC: Spec = Spec {
        name: "SSUBSCRIBE",
        syntax: "shardchannel [shardchannel ...]",
        summary: "Listen for messages published to the given shard channels",
        complexity: "O(N) where N is the number of shard channels to subscribe to.",
        since: "7.0.0",
        keys: Keys::from(1, 1, Access::Channel),
        flags: SUBSCRIPTION,
        ..Spec::of(Group::Pubsub)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { channels: args.rest() })
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        const IN_EXEC: ClientError =
            ClientError::fixed("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client");
        if connection.is_executing() {
            return Err(IN_EXEC.into());
        }
        let confirm = |channel: Bytes| {
            connection.subscribe_shard(&channel);
            confirmation("ssubscribe", Some(channel), connection)
        };
        Ok(Reply::Sequence(self.channels.into_iter().map(confirm).collect()))
    }
}

/// Stops listening to shard channels; to all if none is named.
pub struct SUnsubscribe {
    channels: Vec<Bytes>,
}

impl Session for SUnsubscribe {
    const SPEC: Spec = Spec {
        name: "SUNSUBSCRIBE",
        syntax: "[shardchannel [shardchannel ...]]",
        summary: "Stop listening for messages posted to the given shard channels",
        complexity: "O(N) where N is the number of clients already subscribed to a shard channel.",
        since: "7.0.0",
        keys: Keys::from(1, 1, Access::Channel),
        flags: SUBSCRIPTION,
        ..Spec::of(Group::Pubsub)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { channels: args.rest() })
    }

    fn execute(mut self, connection: &mut Connection) -> Result<Reply> {
        if self.channels.is_empty() {
            self.channels = connection.shard_channels().iter().cloned().collect();
        }
        if self.channels.is_empty() {
            return Ok(Reply::Sequence(vec![confirmation("sunsubscribe", None, connection)]));
        }
        let confirm = |channel: Bytes| {
            connection.unsubscribe_shard(&channel);
            confirmation("sunsubscribe", Some(channel), connection)
        };
        Ok(Reply::Sequence(self.channels.into_iter().map(confirm).collect()))
    }
}

/// What changed, of which shard channel, and how many are left.
fn confirmation(what: &'static str, channel: Option<Bytes>, connection: &Connection) -> Reply {
    let left = Reply::length(connection.shard_channels().len());
    Reply::Push(vec![Reply::text(what), Reply::from(channel), left])
}

/// Lists the shard channels somebody listens to.
pub struct ShardChannels {
    pattern: Option<Bytes>,
}

impl Session for ShardChannels {
    const SPEC: Spec = Spec {
        name: "PUBSUB|SHARDCHANNELS",
        syntax: "[pattern]",
        summary: "List active shard channels",
        complexity: "O(N) where N is the number of active shard channels, and assuming constant time pattern \
                     matching (relatively short shard channels).",
        since: "7.0.0",
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
        let channels = connection.hub().shard_channels(self.pattern.as_deref());
        Ok(Reply::Array(channels.into_iter().map(Reply::Bulk).collect()))
    }
}

/// Counts the listeners of shard channels.
pub struct ShardNumSub {
    channels: Vec<Bytes>,
}

impl Session for ShardNumSub {
    const SPEC: Spec = Spec {
        name: "PUBSUB|SHARDNUMSUB",
        syntax: "[shardchannel [shardchannel ...]]",
        summary: "Get the count of subscribers for shard channels",
        complexity: "O(N) for the SHARDNUMSUB subcommand, where N is the number of requested shard channels",
        since: "7.0.0",
        flags: Flags::PUBSUB.and(READY),
        ..Spec::of(Group::Pubsub)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { channels: args.rest() })
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        Ok(counted(self.channels, |channel| connection.hub().shard_subscribers(channel)))
    }
}
