//! How a node comes by its identity.
//!
//! Every node is started with the same list of peer addresses, in any order, any time apart. A node whose
//! data directory says who it is goes on as that. One with an empty directory asks the others what they are:
//!
//! - Somebody is a member of a cluster: join it. The cluster mints a number for the new node.
//! - *All* are there and all are empty: the one with the lowest address forms the cluster. It writes down the
//!   plan, gives each of the others its number, and only when all have theirs starts consensus among them.
//! - Else: wait, and say for whom.
//!
//! So no directory that was wiped can make a second cluster, and the first write is already on a quorum of
//! all nodes. Each step can be repeated: a crash anywhere in between is finished after the restart.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;

use super::identity::IdentityFile;
use super::progress::Progress;
use crate::env::{BoxFuture, Env};
use crate::raft::wire::{Request, Response};
use crate::raft::{Consensus, Member, Service, ask_stranger};

/// How long another node may take to say what it is.
const STATUS: Duration = Duration::from_millis(500);
/// Between two attempts at anything here.
const RETRY: Duration = Duration::from_millis(200);

/// A node that is not a member yet.
pub struct Outside {
    env: Env,
    dir: PathBuf,
    member: Member,
    identity: Mutex<Option<IdentityFile>>,
    /// Rung when another node gave us our identity.
    given: Notify,
}

impl Outside {
    /// The node with this data directory and these addresses.
    ///
    /// # Errors
    /// When the directory's identity cannot be read.
    pub fn new(env: Env, dir: PathBuf, member: Member) -> std::io::Result<Self> {
        let identity = IdentityFile::load(&*env.disk, &dir)?;
        Ok(Self { env, dir, member, identity: Mutex::new(identity), given: Notify::new() })
    }

    /// Waits until this node has an identity, and returns it for a new boot. `peers` are the addresses of all
    /// nodes, this one's included; with none, the node is a cluster of its own.
    ///
    /// # Errors
    /// When the identity cannot be written.
    pub async fn establish(&self, peers: &[String], progress: &Progress) -> std::io::Result<IdentityFile> {
        let others = peers.iter().filter(|peer| **peer != self.member.peer_address).collect::<Vec<_>>();
        let mut waiting_for = BTreeSet::new();
        loop {
            if let Some(identity) = self.known()? {
                return Ok(identity);
            }
            let found = self.look_around(&others).await;
            if let Some((address, cluster)) = found.cluster {
                self.join(&address, cluster).await?;
            } else if found.missing.is_empty()
                && others.iter().all(|other| **other > self.member.peer_address)
            {
                self.plan(found.empty)?;
            } else if found.missing != waiting_for {
                waiting_for = found.missing;
                let names = waiting_for.iter().cloned().collect::<Vec<_>>().join(", ");
                progress.wait_for(&names);
                if waiting_for.is_empty() {
                    tracing::info!(
                        "all nodes are here; waiting for the one with the lowest address to form the cluster"
                    );
                } else {
                    tracing::info!(nodes = names, "waiting for nodes that are not there yet");
                }
            }
            tokio::select! {
                () = self.given.notified() => {}
                () = self.env.clock.sleep(RETRY) => {}
            }
        }
    }

    /// Refuses a data directory that is not this node's: of another address, or of a cluster that the nodes at
    /// these addresses are not of. Two nodes with one number, or a number in the wrong cluster, could vote twice.
    ///
    /// # Errors
    /// In words for the operator.
    pub async fn check(&self, peers: &[String]) -> Result<(), String> {
        let Some(identity) = self.identity.lock().expect("no holder panics").clone() else { return Ok(()) };
        let (dir, ours) = (self.dir.display(), &self.member.peer_address);
        if identity.address != *ours {
            return Err(format!(
                "the data directory {dir} belongs to node {} at {}, not to a node at {ours}",
                identity.node,
                if identity.address.is_empty() { "no address" } else { &identity.address }
            ));
        }
        let others = peers.iter().filter(|peer| *peer != ours).collect::<Vec<_>>();
        match self.look_around(&others).await.cluster {
            Some((address, cluster)) if cluster != identity.cluster => Err(format!(
                "the data directory {dir} belongs to cluster {:032x}, but the node at {address} to cluster {cluster:032x}",
                identity.cluster
            )),
            _ => Ok(()),
        }
    }

    /// The identity, if there is one by now, counted up for this boot.
    fn known(&self) -> std::io::Result<Option<IdentityFile>> {
        let mut identity = self.identity.lock().expect("no holder panics");
        if let Some(identity) = identity.as_mut() {
            identity.boot += 1;
            identity.save(&*self.env.disk, &self.dir)?;
        }
        Ok(identity.clone())
    }

    fn identity_of(&self, cluster: u128, node: u64, forming: BTreeMap<u64, Member>) -> IdentityFile {
        IdentityFile {
            cluster,
            node,
            boot: 0,
            address: self.member.peer_address.clone(),
            forming,
            admitted: false,
        }
    }

    /// Becomes this node, unless it has become one already: a question to join may still be on its way when
    /// the cluster gives this node its place, and of two answers only the first counts.
    fn become_node(&self, identity: IdentityFile) -> std::io::Result<()> {
        let mut known = self.identity.lock().expect("no holder panics");
        if known.is_none() {
            identity.save(&*self.env.disk, &self.dir)?;
            *known = Some(identity);
            self.given.notify_one();
        }
        Ok(())
    }

    async fn look_around(&self, others: &[&String]) -> Found {
        let ask = |other: &String| {
            let (env, other) = (self.env.clone(), other.clone());
            async move {
                let status = ask_stranger(&env, &other, &Request::Status, STATUS).await;
                (other, status)
            }
        };
        let mut found = Found { empty: vec![self.member.clone()], ..Found::default() };
        for (address, status) in join_all(others.iter().map(|other| ask(other))).await {
            match status {
                Ok(Response::Member { cluster, .. }) => found.cluster = Some((address, cluster)),
                Ok(Response::Empty { member }) => {
                    found.empty.push(Member { peer_address: address, ..member })
                }
                _ => drop(found.missing.insert(address)),
            }
        }
        found
    }

    async fn join(&self, address: &str, cluster: u128) -> std::io::Result<()> {
        tracing::info!(address, cluster = format!("{cluster:032x}"), "asking to join the cluster");
        let request = Request::Join { member: self.member.clone() };
        match ask_stranger(&self.env, address, &request, Duration::from_secs(5)).await {
            Ok(Response::Joined { cluster, node }) => {
                tracing::info!(node, "joining");
                self.become_node(self.identity_of(cluster, node, BTreeMap::new()))
            }
            Ok(Response::Refused { reason }) => {
                tracing::info!(reason, "not admitted yet");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Writes down the cluster to form: these members, numbered by address, this one among them.
    fn plan(&self, mut members: Vec<Member>) -> std::io::Result<()> {
        members.sort_by(|one, other| one.peer_address.cmp(&other.peer_address));
        let forming = (1..).zip(members).collect::<BTreeMap<u64, Member>>();
        let cluster = u128::from(self.env.rng.next_u64()) << 64 | u128::from(self.env.rng.next_u64());
        let node = forming.iter().find(|(_, member)| member.peer_address == self.member.peer_address);
        let node = *node.expect("this node is one of them").0;
        tracing::info!(cluster = format!("{cluster:032x}"), nodes = forming.len(), "forming a new cluster");
        self.become_node(self.identity_of(cluster, node, forming))
    }

    fn form(&self, cluster: u128, node: u64) -> Response {
        if let Err(error) = self.become_node(self.identity_of(cluster, node, BTreeMap::new())) {
            return Response::Refused { reason: error.to_string() };
        }
        match &*self.identity.lock().expect("no holder panics") {
            Some(known) if (known.cluster, known.node) == (cluster, node) => Response::Done,
            _ => Response::Refused { reason: "this node belongs to another cluster".into() },
        }
    }
}

#[derive(Default)]
struct Found {
    /// Somebody who is a member, and of what.
    cluster: Option<(String, u128)>,
    empty: Vec<Member>,
    missing: BTreeSet<String>,
}

impl Service for Outside {
    fn answer(&self, _from: u64, request: Request) -> BoxFuture<'static, Response> {
        let response = match request {
            Request::Status => match &*self.identity.lock().expect("no holder panics") {
                Some(identity) => Response::Member { cluster: identity.cluster, node: identity.node },
                None => Response::Empty { member: self.member.clone() },
            },
            Request::Form { cluster, node } => self.form(cluster, node),
            _ => Response::Refused { reason: "this node is not a member of a cluster yet".into() },
        };
        Box::pin(std::future::ready(response))
    }
}

/// On the node that planned the cluster: gives all others their numbers, then starts consensus among them.
/// Returns once this node has consensus' word for it; on a node that has nothing to form, at once.
pub async fn form(env: &Env, dir: &std::path::Path, identity: &mut IdentityFile, consensus: &Consensus) {
    if identity.forming.is_empty() {
        return;
    }
    for (&node, member) in identity.forming.iter().filter(|(node, _)| **node != identity.node) {
        let request = Request::Form { cluster: identity.cluster, node };
        let mut told = String::new();
        loop {
            match ask_stranger(env, &member.peer_address, &request, STATUS).await {
                Ok(Response::Done) => break,
                other => {
                    let reason = format!("{other:?}");
                    if reason != told {
                        tracing::info!(
                            node,
                            address = member.peer_address,
                            reason,
                            "waiting for a node to take its place"
                        );
                        told = reason;
                    }
                }
            }
            env.clock.sleep(RETRY).await;
        }
    }
    while let Err(error) = consensus.initialize(identity.forming.clone()).await {
        tracing::warn!(%error, "the cluster is not formed yet");
        env.clock.sleep(RETRY).await;
    }
    identity.forming.clear();
    if let Err(error) = identity.save(&*env.disk, dir) {
        // Forming again after the next start changes nothing.
        tracing::warn!(%error, "the data directory still says that the cluster is to be formed");
    }
}
