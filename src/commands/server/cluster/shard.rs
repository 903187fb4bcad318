//! The shard that all slots belong to, as CLUSTER describes it.

use bytes::Bytes;

use crate::commands::host::{Member, Topology};
use crate::error::{ClientError, Result};
use crate::resp::Reply;
use crate::store::View;
use crate::types::scan;

/// How many slots there are, all in one shard.
const SLOTS: u16 = 16_384;

/// A slot's number, if there is such a slot.
pub(super) fn owned(slot: i64) -> Option<u16> {
    u16::try_from(slot).ok().filter(|slot| *slot < SLOTS)
}

/// The keys of a slot, in order. There is no index of slots, as no node is ever asked to give one away: all keys are
/// looked at.
pub(super) fn keys_in(view: &View, db: u8, slot: u16) -> Result<Vec<Bytes>> {
    let mut keys = scan::all(view, db, &scan::Filter { pattern: None, kind: None })?;
    keys.retain(|key| self::slot(key) == slot);
    Ok(keys)
}

/// The members, the shard's master first: the leader, or, while there is none, this node.
fn in_order(topology: &Topology) -> Vec<&Member> {
    let first = topology.leader.unwrap_or(topology.node);
    let (mut members, others): (Vec<_>, Vec<_>) =
        topology.members.iter().partition(|member| member.id == first);
    members.extend(others);
    members
}

/// The reply to CLUSTER SLOTS.
pub(super) fn slots(topology: &Topology) -> Reply {
    // As in Redis: a client that reads from replicas is not sent to one that is down.
    let usable = |(place, member): &(usize, &Member)| *place == 0 || member.online;
    let nodes = in_order(topology).into_iter().enumerate().filter(usable).map(|(_, member)| {
        Reply::Array(vec![
            Reply::bulk(member.host.clone()),
            Reply::Int(member.port.into()),
            Reply::bulk(topology.name_of(member.id)),
            Reply::Array(Vec::new()),
        ])
    });
    let range = [Reply::Int(0), Reply::Int(i64::from(SLOTS) - 1)];
    Reply::Array(vec![Reply::Array(range.into_iter().chain(nodes).collect())])
}

/// The reply to CLUSTER SHARDS.
pub(super) fn shards(topology: &Topology) -> Reply {
    let nodes = in_order(topology).into_iter().enumerate().map(|(place, member)| {
        let (role, health) =
            (if place == 0 { "master" } else { "replica" }, if member.online { "online" } else { "fail" });
        Reply::Map(vec![
            (Reply::text("id"), Reply::bulk(topology.name_of(member.id))),
            (Reply::text("port"), Reply::Int(member.port.into())),
            (Reply::text("ip"), Reply::bulk(member.host.clone())),
            (Reply::text("endpoint"), Reply::bulk(member.host.clone())),
            (Reply::text("role"), Reply::text(role)),
            (Reply::text("replication-offset"), Reply::Int(member.offset as i64)),
            (Reply::text("health"), Reply::text(health)),
        ])
    });
    let range = vec![Reply::Int(0), Reply::Int(i64::from(SLOTS) - 1)];
    Reply::Array(vec![Reply::Map(vec![
        (Reply::text("slots"), Reply::Array(range)),
        (Reply::text("nodes"), Reply::Array(nodes.collect())),
    ])])
}

/// A line of CLUSTER NODES for each member that is wanted.
pub(super) fn lines(topology: &Topology, wanted: impl Fn(&Member) -> bool) -> String {
    let mut text = String::new();
    let members = in_order(topology);
    let master = members.first().map_or_else(String::new, |member| topology.name_of(member.id));
    for (place, member) in members.iter().enumerate().filter(|(_, member)| wanted(member)) {
        let own = if member.id == topology.node { "myself," } else { "" };
        let (role, of) = if place == 0 { ("master", "-") } else { ("slave", &*master) };
        let failed = if member.online { "" } else { ",fail?" };
        let link = if member.online { "connected" } else { "disconnected" };
        let slots = if place == 0 { format!(" 0-{}", SLOTS - 1) } else { String::new() };
        text.push_str(&format!(
            "{} {}:{}@{} {own}{role}{failed} {of} 0 0 {} {link}{slots}\n",
            topology.name_of(member.id),
            member.host,
            member.port,
            member.peer_port,
            topology.term,
        ));
    }
    text
}

/// The member of this name.
pub(super) fn known<'t>(topology: &'t Topology, name: &[u8]) -> Result<&'t Member, ClientError> {
    let known = topology.members.iter().find(|member| topology.name_of(member.id).as_bytes() == name);
    known.ok_or_else(|| ClientError::new(format!("ERR Unknown node {}", String::from_utf8_lossy(name))))
}

/// The lines of CLUSTER NODES for the replicas of a node.
pub(super) fn replicas(topology: &Topology, of: &[u8]) -> Result<Reply, ClientError> {
    const NO_MASTER: ClientError = ClientError::fixed("ERR The specified node is not a master");
    let known = known(topology, of)?;
    if in_order(topology).first().is_none_or(|master| master.id != known.id) {
        return Err(NO_MASTER);
    }
    let text = lines(topology, |member| member.id != known.id);
    Ok(Reply::Array(text.lines().map(|line| Reply::bulk(line.to_owned())).collect()))
}

/// The text of CLUSTER INFO.
pub(super) fn info(topology: &Topology) -> String {
    let state = if topology.leader.is_some() { "ok" } else { "fail" };
    let fields = [
        ("cluster_state", state.to_owned()),
        ("cluster_slots_assigned", SLOTS.to_string()),
        ("cluster_slots_ok", SLOTS.to_string()),
        ("cluster_slots_pfail", "0".to_owned()),
        ("cluster_slots_fail", "0".to_owned()),
        ("cluster_known_nodes", topology.members.len().to_string()),
        ("cluster_size", "1".to_owned()),
        ("cluster_current_epoch", topology.term.to_string()),
        ("cluster_my_epoch", topology.term.to_string()),
        ("total_cluster_links_buffer_limit_exceeded", "0".to_owned()),
    ];
    fields.into_iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect()
}

/// The slot of a key: of the part in its first braces, if there is something in them.
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}')?;
        Some(&rest[..close]).filter(|tag| !tag.is_empty())
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The right-hand sides are redis-server 7.0.15's.
    #[test]
    fn keys_have_slots() {
        for (key, expect) in [
            ("", 0),
            ("foo", 12182),
            ("123456789", 12739),
            ("{foo}bar", 12182),
            ("a{foo}{bar}", 12182),
            ("foo{}bar", 14292),
        ] {
            assert_eq!(slot(key.as_bytes()), expect, "{key}");
        }
    }
}
