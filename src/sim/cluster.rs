//! Three nodes or five, or more with time: the real server, on simulated hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use super::campaign::Tally;
use super::invariants::Watch;
use super::ledger::Ledger;
use crate::config::Config;
use crate::env::Exit;
use crate::env::sim::{Struck, World};
use crate::node::Node;
use crate::raft::Role;
use crate::server::Server;

/// The hosts of a small cluster.
pub const HOSTS: [&str; 3] = ["n1", "n2", "n3"];
/// All hosts there can be.
const NAMES: [&str; 6] = ["n1", "n2", "n3", "n4", "n5", "n6"];
/// How long a node lets a client wait for a quorum.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// Each node's data directory.
const DATA: &str = "data";
/// How an error ends that was a sync made to fail.
const BAD_SYNC: &str = "Input/output error (os error 5)";
/// How an error ends that came of a full disk.
const NO_SPACE: &str = "No space left on device (os error 28)";

/// The cluster. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    world: World,
    watch: Watch,
    ledger: Ledger,
    /// How many there are, and how many there were in the beginning.
    size: Arc<Mutex<usize>>,
    first: usize,
    tally: Arc<Mutex<Tally>>,
    nodes: Arc<Mutex<BTreeMap<&'static str, Weak<Node>>>>,
    /// How often each host's disk had failed it when it was last switched on.
    struck: Arc<Mutex<BTreeMap<&'static str, Struck>>>,
    /// Whether nothing that is done to it makes a node stop.
    steady: Arc<AtomicBool>,
    /// Whether nobody looks at what happens inside of nodes.
    unseen: Arc<AtomicBool>,
    /// Nodes that could not start, or stopped by themselves.
    failures: Arc<Mutex<Vec<String>>>,
    /// Clients that were not answered in time.
    silences: Arc<Mutex<Vec<String>>>,
    /// What was done to it, for whoever looks into a run that failed.
    diary: Arc<Mutex<Vec<String>>>,
}

impl Cluster {
    /// A cluster of three whose hosts are off.
    pub fn new(world: &World) -> Self {
        Self::of(world, HOSTS.len(), false)
    }

    /// A cluster of so many; `drift` says whether their clocks differ in rate.
    pub fn of(world: &World, size: usize, drift: bool) -> Self {
        Self {
            size: Arc::new(Mutex::new(size)),
            first: size,
            tally: Arc::default(),
            world: world.clone(),
            watch: Watch::new(drift),
            ledger: Ledger::default(),
            nodes: Arc::default(),
            struck: Arc::default(),
            steady: Arc::default(),
            unseen: Arc::default(),
            failures: Arc::default(),
            silences: Arc::default(),
            diary: Arc::default(),
        }
    }

    /// The world it is in.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The hosts of those who are members, or are to become such.
    pub fn hosts(&self) -> &'static [&'static str] {
        &NAMES[..*self.size.lock().expect("no holder panics")]
    }

    /// Starts a node that nobody knows yet, if there is a host for it.
    pub fn grow(&self) -> bool {
        let grown = {
            let mut size = self.size.lock().expect("no holder panics");
            let grown = *size < NAMES.len();
            *size += usize::from(grown);
            grown
        };
        if grown {
            self.start_all();
        }
        grown
    }

    /// Who writes down what clients were told, and from where.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What was counted so far.
    pub fn tally<T>(&self, count: impl FnOnce(&mut Tally) -> T) -> T {
        count(&mut self.tally.lock().expect("no holder panics"))
    }

    /// From now on nothing is done to it that makes a node stop.
    pub fn stays_up(&self) {
        self.steady.store(true, Ordering::Relaxed);
    }

    /// From now on all that counts is what clients are told.
    pub fn look_away(&self) {
        self.unseen.store(true, Ordering::Relaxed);
    }

    /// Whether the disk of a host has refused anything since the host was last switched on.
    fn has_bad_disk(&self, host: &str) -> bool {
        let struck = self.world.disk_struck(host);
        let before = self.struck.lock().expect("no holder panics").get(host).copied().unwrap_or_default();
        (struck.syncs, struck.refusals) != (before.syncs, before.refusals)
    }

    /// Switches a host on, and starts its node.
    pub fn start(&self, host: &'static str) {
        let mut env = self.world.node(host);
        self.struck.lock().expect("no holder panics").insert(host, self.world.disk_struck(host));
        env.observer = Some(self.watch.observer(&self.world, host, &self.ledger));
        // Of one that crashed, parts may not be gone yet.
        self.nodes.lock().expect("no holder panics").remove(host);
        let serving = {
            let (cluster, env) = (self.clone(), env.clone());
            let config = config(host, self.first);
            async move {
                match Server::start(env, &config).await {
                    Ok(server) => {
                        cluster
                            .nodes
                            .lock()
                            .expect("no holder panics")
                            .insert(host, Arc::downgrade(server.node()));
                        std::future::pending::<()>().await;
                    }
                    // The process ends, and is started again with whatever else is off.
                    Err(error) => {
                        let error = error.to_string();
                        let is_of_disk = error.ends_with(BAD_SYNC) || error.ends_with(NO_SPACE);
                        if !is_of_disk || !cluster.has_bad_disk(host) {
                            cluster.failed(&format!("{host} cannot start: {error}"));
                        }
                        cluster.world.crash(host);
                    }
                }
            }
        };
        env.spawner.spawn(Box::pin(serving)).detach();
    }

    /// Notes something that happened to the cluster.
    pub fn note(&self, what: &str) {
        let at = self.world.elapsed();
        self.diary.lock().expect("no holder panics").push(format!("{at:>12.3?} {what}"));
    }

    /// Notes that a client was not answered in time.
    pub fn fell_silent(&self, what: &str) {
        self.note(what);
        self.silences.lock().expect("no holder panics").push(what.to_owned());
    }

    /// The clients that were not answered in time.
    pub fn silences(&self) -> Vec<String> {
        self.silences.lock().expect("no holder panics").clone()
    }

    /// All that was noted.
    pub fn diary(&self) -> String {
        self.diary.lock().expect("no holder panics").join("\n")
    }

    /// Starts what is off.
    pub fn start_all(&self) {
        for host in self.hosts() {
            if !self.world.is_up(host) {
                let exited = self.world.exited(host);
                self.note(&format!("{host} starts, after {exited:?}"));
                if self.steady.load(Ordering::Relaxed) {
                    self.failed(&format!("{host} stopped, though nothing made it: {exited:?}"));
                }
                match exited {
                    Some(Exit::RaftFailed) => self.failed(&format!("consensus stopped on {host}")),
                    Some(exit @ (Exit::LogFailed | Exit::StoreFailed)) if !self.has_bad_disk(host) => {
                        self.failed(&format!("{exit:?} on {host}, whose disk is sound"));
                    }
                    // What its operator is told to do.
                    Some(Exit::Forgotten) => self.world.replace_disk(host),
                    _ => {}
                }
                self.start(host);
            }
        }
    }

    /// Starts whatever falls, for ever.
    pub async fn keep_running(&self) {
        let clock = self.world.client_env().clock;
        loop {
            self.start_all();
            clock.sleep(Duration::from_millis(200)).await;
        }
    }

    /// The node on `host`, if it is part of the cluster by now.
    pub fn node(&self, host: &str) -> Option<Arc<Node>> {
        let nodes = self.nodes.lock().expect("no holder panics");
        nodes.get(host).and_then(Weak::upgrade).filter(|_| self.world.is_up(host))
    }

    /// The number of the node on `host`, which is a member.
    pub fn number(&self, host: &str) -> u64 {
        let node = self.hosts().iter().find_map(|host| self.node(host)).expect("some node runs");
        let address = format!("{host}:7000");
        let view = node.view().borrow().clone();
        let found = view.members.into_iter().find(|(_, member)| member.peer_address == address);
        found.expect("it is a member").0
    }

    /// The host whose node leads, as far as it knows itself.
    pub fn leader(&self) -> Option<&'static str> {
        let leads =
            |host: &&str| self.node(host).is_some_and(|node| node.view().borrow().role == Role::Leader);
        self.hosts().iter().copied().find(leads)
    }

    /// Waits until a node leads, for at most `limit`.
    pub async fn led(&self, limit: Duration) -> Option<&'static str> {
        let clock = self.world.client_env().clock;
        let give_up = self.world.elapsed() + limit;
        while self.world.elapsed() < give_up {
            if let Some(host) = self.leader() {
                return Some(host);
            }
            clock.sleep(Duration::from_millis(10)).await;
        }
        None
    }

    /// Where each node stands: how far it has applied the log, and a hash of its state.
    pub fn digests(&self) -> Vec<(u64, u64)> {
        let nodes = self.hosts().iter().filter_map(|host| self.node(host));
        nodes.map(|node| node.state_hash().expect("the state can be read")).collect()
    }

    /// Waits until all nodes have applied the same, and are the members; checks that it made them the same.
    pub async fn settle(&self, limit: Duration) -> Result<(), String> {
        let clock = self.world.client_env().clock;
        let give_up = self.world.elapsed() + limit;
        loop {
            let digests = self.digests();
            let all = digests.len() == self.hosts().len();
            let together = all && digests.iter().all(|(applied, _)| *applied == digests[0].0);
            let differ = digests.iter().any(|digest| *digest != digests[0]);
            if together && differ && !self.unseen.load(Ordering::Relaxed) {
                return Err(format!("the nodes differ: {digests:x?}"));
            }
            let members = self.check_members();
            if together && members.is_ok() {
                return Ok(());
            }
            if self.world.elapsed() > give_up {
                return Err(format!("the nodes do not get together: {digests:x?} {members:?}"));
            }
            clock.sleep(Duration::from_millis(100)).await;
        }
    }

    /// Whether the voters are the nodes, no matter how often one came and went.
    pub fn check_members(&self) -> Result<(), String> {
        let hosts = self.hosts();
        let wanted = hosts.iter().map(|host| format!("{host}:7000")).collect::<BTreeSet<_>>();
        for host in hosts {
            let view = self.node(host).map(|node| node.view().borrow().clone()).unwrap_or_default();
            let found = view.members.values().map(|member| member.peer_address.clone()).collect();
            if view.joint
                || view.voters.len() != hosts.len()
                || view.members.len() != hosts.len()
                || wanted != found
            {
                return Err(format!("{host} knows other members: {view:?}"));
            }
        }
        Ok(())
    }

    /// Gives a host that is off an empty disk, and starts a node on it.
    pub fn start_wiped(&self, host: &'static str) {
        self.world.replace_disk(host);
        self.start(host);
    }

    /// How often that happened in the nodes which a run must have had.
    pub fn outcomes(&self) -> [(&'static str, u64); 3] {
        self.watch.outcomes()
    }

    /// When the cluster's time went ahead by a wall clock, by the world's time.
    pub fn jumps(&self) -> Vec<(Duration, Duration)> {
        self.watch.jumps()
    }

    fn failed(&self, what: &str) {
        self.failures.lock().expect("no holder panics").push(what.to_owned());
    }

    /// An error if a node did what none may ever do, or if something went wrong with one that nobody made fail.
    pub fn sound(&self) -> Result<(), String> {
        if self.unseen.load(Ordering::Relaxed) {
            return Ok(());
        }
        let failures = self.failures.lock().expect("no holder panics");
        self.watch.violation().or_else(|| failures.first().cloned()).map_or(Ok(()), Err)
    }
}

fn config(host: &str, first: usize) -> Config {
    let timeout = REQUEST_TIMEOUT.as_millis().to_string();
    let mut peers = NAMES[..first].to_vec();
    if !peers.contains(&host) {
        peers.push(host);
    }
    let peers = peers.iter().map(|peer| format!("{peer}:7000")).collect::<Vec<_>>().join(",");
    let mut config = Config::of(&[
        ("data", DATA),
        ("listen", &format!("{host}:6379")),
        ("peer-listen", &format!("{host}:7000")),
        ("peers", &peers),
        ("request-timeout-ms", &timeout),
        ("checkpoint-seconds", "2"),
    ])
    .expect("these fit");
    // Smaller than an operator may: so that the log is recycled, the buffer runs over, and a node that was
    // away is sent a snapshot, within seconds.
    config.wal_segment_bytes = 64 << 10;
    config.wal_keep_bytes = 8 << 10;
    config.buffer_bytes = 32 << 10;
    config
}
