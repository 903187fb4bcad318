//! CLUSTER: what clients ask that look for a slot's owner.
//!
//! Only with the option `cluster-enabled yes`: an answer of any other kind than an error makes clients look for
//! owners of slots, and refuse commands whose keys have different ones. Then all slots are one shard's, whose
//! master is the leader and whose replicas are the other nodes. No node ever answers `MOVED`: all of them take
//! every command.

mod shard;

use bytes::Bytes;

use super::READY;
use crate::commands::host::Topology;
use crate::commands::{Answer, Args, Command, Flags, Group, Host, Node, Session, Spec, help};
use crate::error::{ClientError, Result};
use crate::resp::{Reply, number};
use crate::session::Session as Connection;
use crate::store::View;

pub(in crate::commands) const COMMANDS: &[Command] = &[
    Command::node::<OfShard<Slots>>(),
    Command::node::<OfShard<Shards>>(),
    Command::node::<OfShard<Nodes>>(),
    Command::node::<OfShard<Info>>(),
    Command::node::<OfShard<MyId>>(),
    Command::node::<OfShard<KeySlot>>(),
    Command::node::<OfShard<Replicas>>(),
    Command::node::<OfShard<Slaves>>(),
    Command::node::<OfShard<Links>>(),
    Command::node::<OfShard<CountKeysInSlot>>(),
    Command::node::<OfShard<GetKeysInSlot>>(),
    Command::node::<OfShard<CountFailureReports>>(),
    Command::node::<OfShard<Change<0>>>(),
    Command::node::<OfShard<Change<1>>>(),
    Command::node::<OfShard<Change<2>>>(),
    Command::node::<OfShard<Change<3>>>(),
    Command::node::<OfShard<Change<4>>>(),
    Command::node::<OfShard<Change<5>>>(),
    Command::node::<OfShard<Change<6>>>(),
    Command::node::<OfShard<Change<7>>>(),
    Command::node::<OfShard<Change<8>>>(),
    Command::node::<OfShard<Change<9>>>(),
    Command::node::<OfShard<Change<10>>>(),
    Command::node::<OfShard<Change<11>>>(),
    Command::node::<OfShard<Change<12>>>(),
    Command::node::<OfShard<Asking>>(),
    Command::node::<Forget>(),
    Command::session::<Help>(),
];

const ASKING: Spec = Spec { since: "3.0.0", flags: Flags::STALE, ..Spec::of(Group::Cluster) };
const ASKING_ADMIN: Spec = Spec { flags: Flags::STALE.and(Flags::ADMIN), ..ASKING };
const CHANGING: Spec = Spec { flags: Flags::STALE.and(Flags::ADMIN).and(Flags::NO_ASYNC_LOADING), ..ASKING };

const PER_NODE: &str = "O(N) where N is the total number of Cluster nodes";
const PER_SLOT: &str = "O(N) where N is the total number of hash slot arguments";
const PER_RANGE: &str =
    "O(N) where N is the total number of the slots between the start slot and end slot arguments.";
/// There is no index of slots.
const PER_KEY: &str = "O(N) where N is the number of keys in the database";

/// A question that has an answer where the nodes show themselves as a cluster.
trait Question: Sized {
    const SPEC: Spec;

    fn parse(args: &mut Args) -> Result<Self>;

    fn answer(self, topology: &Topology) -> Result<Answer>;
}

/// A question as a command.
struct OfShard<Q>(Q);

impl<Q: Question> Node for OfShard<Q> {
    const SPEC: Spec = Q::SPEC;

    fn parse(args: &mut Args) -> Result<Self> {
        Q::parse(args).map(Self)
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        const DISABLED: ClientError = ClientError::fixed("ERR This instance has cluster support disabled");
        let topology = host.topology();
        if !topology.cluster_enabled {
            return Err(DISABLED.into());
        }
        self.0.answer(&topology)
    }
}

/// Which nodes have which slots.
struct Slots;

impl Question for Slots {
    const SPEC: Spec = Spec {
        name: "CLUSTER|SLOTS",
        summary: "Get array of Cluster slot to node mappings",
        complexity: PER_NODE,
        ..ASKING
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn answer(self, topology: &Topology) -> Result<Answer> {
        Ok(shard::slots(topology).into())
    }
}

/// The shards and their nodes.
struct Shards;

impl Question for Shards {
    const SPEC: Spec = Spec {
        name: "CLUSTER|SHARDS",
        summary: "Get array of cluster slots to node mappings",
        complexity: PER_NODE,
        since: "7.0.0",
        ..ASKING
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn answer(self, topology: &Topology) -> Result<Answer> {
        Ok(shard::shards(topology).into())
    }
}

/// The nodes, a line each.
struct Nodes;

impl Question for Nodes {
    const SPEC: Spec = Spec {
        name: "CLUSTER|NODES",
        summary: "Get Cluster config for the node",
        complexity: PER_NODE,
        ..ASKING
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn answer(self, topology: &Topology) -> Result<Answer> {
        Ok(Reply::Verbatim(Bytes::from(shard::lines(topology, |_| true))).into())
    }
}

/// Whether the slots are served.
struct Info;

impl Question for Info {
    const SPEC: Spec =
        Spec { name: "CLUSTER|INFO", summary: "Provides info about Redis Cluster node state", ..ASKING };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn answer(self, topology: &Topology) -> Result<Answer> {
        Ok(Reply::Verbatim(Bytes::from(shard::info(topology))).into())
    }
}

/// This node's name.
struct MyId;

impl Question for MyId {
    const SPEC: Spec = Spec { name: "CLUSTER|MYID", summary: "Return the node id", ..ASKING };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn answer(self, topology: &Topology) -> Result<Answer> {
        Ok(Reply::bulk(topology.name_of(topology.node)).into())
    }
}

/// What a client says before a command that `ASK` has sent it here with. No node answers `ASK`.
struct Asking;

impl Question for Asking {
    const SPEC: Spec = Spec {
        name: "ASKING",
        summary: "Sent by cluster clients after an -ASK redirect",
        since: "3.0.0",
        flags: Flags::FAST,
        ..Spec::of(Group::Connection)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn answer(self, _: &Topology) -> Result<Answer> {
        Ok(Reply::Ok.into())
    }
}

/// A key's slot.
struct KeySlot(Bytes);

impl Question for KeySlot {
    const SPEC: Spec = Spec {
        name: "CLUSTER|KEYSLOT",
        syntax: "keyname",
        summary: "Returns the hash slot of the specified key",
        complexity: "O(N) where N is the number of bytes in the key",
        ..ASKING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(args.bytes()?))
    }

    fn answer(self, _: &Topology) -> Result<Answer> {
        Ok(Reply::Int(shard::slot(&self.0).into()).into())
    }
}

/// The replicas of a master.
struct Replicas(Bytes);

impl Question for Replicas {
    const SPEC: Spec = Spec {
        name: "CLUSTER|REPLICAS",
        syntax: "node-id",
        summary: "List replica nodes of the specified master node",
        since: "5.0.0",
        ..ASKING_ADMIN
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(args.bytes()?))
    }

    fn answer(self, topology: &Topology) -> Result<Answer> {
        Ok(shard::replicas(topology, &self.0)?.into())
    }
}

/// The same by its older name.
struct Slaves(Replicas);

impl Question for Slaves {
    const SPEC: Spec = Spec { name: "CLUSTER|SLAVES", since: "3.0.0", ..Replicas::SPEC };

    fn parse(args: &mut Args) -> Result<Self> {
        Replicas::parse(args).map(Self)
    }

    fn answer(self, topology: &Topology) -> Result<Answer> {
        self.0.answer(topology)
    }
}

/// The links of Redis' cluster bus: none, as ours are no such links.
struct Links;

impl Question for Links {
    const SPEC: Spec = Spec {
        name: "CLUSTER|LINKS",
        summary: "Returns a list of all TCP links to and from peer nodes in cluster",
        complexity: PER_NODE,
        since: "7.0.0",
        ..ASKING
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn answer(self, _: &Topology) -> Result<Answer> {
        Ok(Reply::Array(Vec::new()).into())
    }
}

/// How many keys a slot has.
struct CountKeysInSlot {
    db: u8,
    slot: i64,
}

impl Question for CountKeysInSlot {
    const SPEC: Spec = Spec {
        name: "CLUSTER|COUNTKEYSINSLOT",
        syntax: "slot",
        summary: "Return the number of local keys in the specified hash slot",
        complexity: PER_KEY,
        ..ASKING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, slot: args.int()? })
    }

    fn answer(self, _: &Topology) -> Result<Answer> {
        const INVALID: ClientError = ClientError::fixed("ERR Invalid slot");
        let slot = shard::owned(self.slot).ok_or(INVALID)?;
        let look = move |view: &View| Ok(Reply::length(shard::keys_in(view, self.db, slot)?.len()));
        Ok(Answer::Look(Box::new(look)))
    }
}

/// Keys of a slot.
struct GetKeysInSlot {
    db: u8,
    slot: i64,
    count: i64,
}

impl Question for GetKeysInSlot {
    const SPEC: Spec = Spec {
        name: "CLUSTER|GETKEYSINSLOT",
        syntax: "slot count",
        summary: "Return local key names in the specified hash slot",
        complexity: PER_KEY,
        ..ASKING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self { db: args.db, slot: args.int()?, count: args.int()? })
    }

    fn answer(self, _: &Topology) -> Result<Answer> {
        const INVALID: ClientError = ClientError::fixed("ERR Invalid slot or number of keys");
        let (slot, count) = shard::owned(self.slot).zip(usize::try_from(self.count).ok()).ok_or(INVALID)?;
        let look = move |view: &View| {
            let keys = shard::keys_in(view, self.db, slot)?.into_iter().take(count);
            Ok(Reply::Array(keys.map(Reply::Bulk).collect()))
        };
        Ok(Answer::Look(Box::new(look)))
    }
}

/// How many nodes hold a node for failed: none tells others such a thing, each finds out by itself.
struct CountFailureReports(Bytes);

impl Question for CountFailureReports {
    const SPEC: Spec = Spec {
        name: "CLUSTER|COUNT-FAILURE-REPORTS",
        syntax: "node-id",
        summary: "Return the number of failure reports active for a given node",
        complexity: "O(N) where N is the number of failure reports",
        ..ASKING_ADMIN
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(args.bytes()?))
    }

    fn answer(self, topology: &Topology) -> Result<Answer> {
        shard::known(topology, &self.0)?;
        Ok(Reply::Int(0).into())
    }
}

/// Takes a member out of the cluster, for good. It has a meaning with and without `cluster-enabled`: no client looks
/// for owners of slots by it.
struct Forget(Bytes);

impl Node for Forget {
    const SPEC: Spec = Spec {
        name: "CLUSTER|FORGET",
        syntax: "node-id",
        summary: "Remove a node from the nodes table",
        ..CHANGING
    };

    fn parse(args: &mut Args) -> Result<Self> {
        Ok(Self(args.bytes()?))
    }

    fn execute(self, _: &mut Connection, host: &dyn Host) -> Result<Answer> {
        const MYSELF: ClientError = ClientError::fixed("ERR I tried hard but I can't forget myself...");
        const MASTER: ClientError = ClientError::fixed("ERR Can't forget my master!");
        const QUORUM: ClientError =
            ClientError::fixed("ERR Without this node those that are reachable are no majority");
        let topology = host.topology();
        // By its name, or by its number, which INFO and the log show.
        let number = number::parse_int(&self.0).and_then(|number| u64::try_from(number).ok());
        let numbered = topology.members.iter().map(|member| member.id).find(|id| Some(*id) == number);
        let forgotten =
            numbered.map_or_else(|| shard::known(&topology, &self.0).map(|known| known.id), Ok)?;
        if forgotten == topology.node {
            return Err(MYSELF.into());
        }
        if Some(forgotten) == topology.leader {
            return Err(MASTER.into());
        }
        let rest = topology.members.iter().filter(|member| member.id != forgotten && member.voter);
        let (reachable, gone): (Vec<_>, Vec<_>) = rest.partition(|member| member.online);
        if reachable.len() <= gone.len() {
            return Err(QUORUM.into());
        }
        Ok(Answer::Forget(forgotten))
    }
}

/// What would change the slots or the members in Redis' ways, and is refused: all slots are the one shard's, and
/// members come otherwise.
struct Change<const N: usize>;

const CHANGES: [Spec; 13] = [
    Spec {
        name: "CLUSTER|ADDSLOTS",
        syntax: "slot [slot ...]",
        summary: "Assign new hash slots to receiving node",
        complexity: PER_SLOT,
        ..CHANGING
    },
    Spec {
        name: "CLUSTER|ADDSLOTSRANGE",
        syntax: "start-slot end-slot [start-slot end-slot ...]",
        summary: "Assign new hash slots to receiving node",
        complexity: PER_RANGE,
        since: "7.0.0",
        ..CHANGING
    },
    Spec { name: "CLUSTER|BUMPEPOCH", summary: "Advance the cluster config epoch", ..CHANGING },
    Spec {
        name: "CLUSTER|DELSLOTS",
        syntax: "slot [slot ...]",
        summary: "Set hash slots as unbound in receiving node",
        complexity: PER_SLOT,
        ..CHANGING
    },
    Spec {
        name: "CLUSTER|DELSLOTSRANGE",
        syntax: "start-slot end-slot [start-slot end-slot ...]",
        summary: "Set hash slots as unbound in receiving node",
        complexity: PER_RANGE,
        since: "7.0.0",
        ..CHANGING
    },
    Spec {
        name: "CLUSTER|FAILOVER",
        syntax: "[FORCE | TAKEOVER]",
        summary: "Forces a replica to perform a manual failover of its master.",
        ..CHANGING
    },
    Spec { name: "CLUSTER|FLUSHSLOTS", summary: "Delete a node's own slots information", ..CHANGING },
    Spec {
        name: "CLUSTER|MEET",
        syntax: "ip port [cluster_bus_port]",
        summary: "Force a node cluster to handshake with another node",
        ..CHANGING
    },
    Spec {
        name: "CLUSTER|REPLICATE",
        syntax: "node-id",
        summary: "Reconfigure a node as a replica of the specified master node",
        ..CHANGING
    },
    Spec {
        name: "CLUSTER|RESET",
        syntax: "[HARD | SOFT]",
        summary: "Reset a Redis Cluster node",
        flags: Flags::STALE.and(Flags::ADMIN).and(Flags::NOSCRIPT),
        ..CHANGING
    },
    Spec { name: "CLUSTER|SAVECONFIG", summary: "Forces the node to save cluster state on disk", ..CHANGING },
    Spec {
        name: "CLUSTER|SET-CONFIG-EPOCH",
        syntax: "config-epoch",
        summary: "Set the configuration epoch in a new node",
        ..CHANGING
    },
    Spec {
        name: "CLUSTER|SETSLOT",
        syntax: "slot <IMPORTING node-id | MIGRATING node-id | NODE node-id | STABLE>",
        summary: "Bind a hash slot to a specific node",
        ..CHANGING
    },
];

impl<const N: usize> Question for Change<N> {
    const SPEC: Spec = CHANGES[N];

    fn parse(args: &mut Args) -> Result<Self> {
        args.rest();
        Ok(Self)
    }

    fn answer(self, _: &Topology) -> Result<Answer> {
        const FIXED: ClientError =
            ClientError::fixed("ERR The slots are one shard's, whose members the cluster decides");
        Err(FIXED.into())
    }
}

/// The subcommands that tell something.
struct Help;

impl Session for Help {
    const SPEC: Spec = Spec {
        name: "CLUSTER|HELP",
        summary: "Show helpful text about the different subcommands",
        since: "5.0.0",
        flags: READY,
        ..ASKING
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, _: &mut Connection) -> Result<Reply> {
        Ok(help::reply(
            "CLUSTER",
            &[
                "COUNT-FAILURE-REPORTS <node-id>",
                "    Return 0: each node finds out by itself which others have failed.",
                "COUNTKEYSINSLOT <slot>",
                "    Return the number of keys in <slot>.",
                "FORGET <node-id>",
                "    Take a node out of the cluster, for good.",
                "GETKEYSINSLOT <slot> <count>",
                "    Return key names stored by current node in a slot.",
                "INFO",
                "    Return information about the cluster.",
                "KEYSLOT <key>",
                "    Return the hash slot for <key>.",
                "LINKS",
                "    Return nothing: there is no cluster bus.",
                "MYID",
                "    Return the name of this node.",
                "NODES",
                "    Return the nodes, a line each.",
                "REPLICAS <node-id>",
                "    Return the replicas of the master.",
                "SHARDS",
                "    Return the one shard and its nodes.",
                "SLOTS",
                "    Return the one range of slots and its nodes.",
            ],
        ))
    }
}
