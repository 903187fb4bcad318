//! Who this node is, kept in its data directory.
//!
//! The cluster gives a node its number once and never gives it to another: a wiped disk joins as a new node.
//! The file is replaced whole, so it is always one or the other.
//!
//! | bytes | |
//! | --- | --- |
//! | 4 | `QRTi` |
//! | 2 | format version, 2; little endian as all numbers here |
//! | 16 | the cluster |
//! | 8 | the node |
//! | 8 | boot: how often the node has started |
//! | 2 | length of the peer address it goes by, and the address |
//! | 2 | members to form the cluster with, 0 once it is formed or joined; each: node 8, and its two addresses, each after its length 2 |
//! | 1 | 1 if it was ever a voter, else 0 |
//! | 4 | crc32c of all before |

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::env::Disk;
use crate::raft::Member;

const MAGIC: &[u8; 4] = b"QRTi";
const VERSION: u16 = 2;
const FILE: &str = "identity";

/// The contents of the identity file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFile {
    pub cluster: u128,
    pub node: u64,
    pub boot: u64,
    /// The address that the other nodes know it by; empty for a node on its own.
    pub address: String,
    /// On the node that forms the cluster, until it is formed: all its members.
    pub forming: BTreeMap<u64, Member>,
    /// Whether it was ever a voter. If then the cluster does not know it, somebody has taken it out.
    pub admitted: bool,
}

impl IdentityFile {
    /// The file in `dir`; `None` if there is none: a node that was never part of a cluster.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub fn load(disk: &dyn Disk, dir: &Path) -> io::Result<Option<Self>> {
        let path = dir.join(FILE);
        if !disk.exists(&path) {
            return Ok(None);
        }
        let file = disk.open(&path)?;
        let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(usize::MAX)];
        file.read_at(&mut bytes, 0)?;
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged", path.display()));
        Self::decode(&bytes).ok_or_else(damaged).map(Some)
    }

    /// Makes this the file in `dir`, durably.
    ///
    /// # Errors
    /// When the disk fails; the file is then the old one or this.
    pub fn save(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        disk.replace(&dir.join(FILE), &self.encode())
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.cluster.to_le_bytes());
        bytes.extend_from_slice(&self.node.to_le_bytes());
        bytes.extend_from_slice(&self.boot.to_le_bytes());
        put_text(&mut bytes, &self.address);
        bytes.extend_from_slice(&(self.forming.len() as u16).to_le_bytes());
        for (node, member) in &self.forming {
            bytes.extend_from_slice(&node.to_le_bytes());
            for address in [&member.peer_address, &member.client_address] {
                put_text(&mut bytes, address);
            }
        }
        bytes.push(self.admitted.into());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let mut rest = body.strip_prefix(MAGIC)?;
        if take(&mut rest).map(u16::from_le_bytes)? != VERSION {
            return None;
        }
        let cluster = take(&mut rest).map(u128::from_le_bytes)?;
        let node = take(&mut rest).map(u64::from_le_bytes)?;
        let boot = take(&mut rest).map(u64::from_le_bytes)?;
        let address = text(&mut rest)?;
        let mut forming = BTreeMap::new();
        for _ in 0..take(&mut rest).map(u16::from_le_bytes)? {
            let node = take(&mut rest).map(u64::from_le_bytes)?;
            let member = Member { peer_address: text(&mut rest)?, client_address: text(&mut rest)? };
            forming.insert(node, member);
        }
        let admitted = take(&mut rest)? == [1];
        Some(Self { cluster, node, boot, address, forming, admitted })
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&(text.len() as u16).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let length = take(rest).map(u16::from_le_bytes)?;
    let (text, left) = rest.split_at_checked(length.into())?;
    *rest = left;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_damage_is_noticed() {
        let member = Member { peer_address: "a:1".into(), client_address: "a:2".into() };
        let identity = IdentityFile {
            cluster: 1 << 99,
            node: 3,
            boot: 7,
            address: "a:1".into(),
            forming: BTreeMap::from([(3, member)]),
            admitted: true,
        };
        let bytes = identity.encode();
        assert_eq!(IdentityFile::decode(&bytes), Some(identity));
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1;
            assert_eq!(IdentityFile::decode(&damaged), None);
        }
    }
}
